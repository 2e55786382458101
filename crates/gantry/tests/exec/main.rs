//! `gantry exec`, the real program, on a real engine.
//!
//! `GANTRY_TEST_ENGINE` names the engine (`./dev test` sets it: an endpoint, or `1` for the usual socket); without it every test
//! that needs one says so and returns. Images come from `./dev images`. Each test has its own repository and state folder, and
//! ends with a look for leftovers.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod archives;
mod command_line;
mod harness;
mod jobs;
mod secrets;
mod stopping;
mod working_tree;
