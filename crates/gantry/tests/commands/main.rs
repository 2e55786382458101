//! An operator's commands against a GitLab stand-in: what they print, how they end, and what they do to the configuration.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod arguments;
mod harness;
mod mounted;
mod open_files;
mod register;
mod registered;
mod rotation;
mod run_single;
