//! Against a real engine: run when `GANTRY_TEST_ENGINE` is set (to `1` for the local socket, or to an endpoint such as
//! `unix:///run/docker.sock`), else each test says on stderr that it was skipped. Every test removes what it made and fails if
//! something is left.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "all of this is test code"
)]

mod archives;
mod containers;
mod events;
mod execs;
mod faults;
mod logs;
mod objects;
mod podman;
mod proxy;
mod registry;
mod streams;
mod support;
mod tls;
