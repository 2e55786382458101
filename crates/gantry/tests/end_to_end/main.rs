//! The real program against a GitLab stand-in and a real engine.
//!
//! `GANTRY_TEST_ENGINE` names the engine (`./dev test` sets it); without it every test says so and returns. Images come from
//! `./dev images`; no registry is asked. Each test has its own server, configuration, state folder and runner token, so they run side
//! by side; each ends with [`harness::Host::finish`], which looks for leftovers and for secrets in the runner's log.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod archives;
mod containers;
mod durability;
mod engine;
mod harness;
mod helper_commands;
mod hooks;
mod lfs;
mod native_clone;
mod observability;
mod protocol;
mod remote_caches;
mod scripts;
mod secrets;
mod signals;
mod source_addresses;
mod sources;
mod stopping;
mod submodules;
mod terminal;
mod transport;
