//! The helper program as the runner meets it: over its socket, with real git.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod agent;
mod artifacts;
mod cache;
mod cleanup;
mod commands;
mod connect;
mod damage;
mod environment;
mod hostile;
mod http;
mod lfs;
mod proxy;
mod sources;
mod submodules;
mod support;
