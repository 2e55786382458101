//! Whole jobs on the scripted engine: what their logs say, how they end, and what is left, whatever happens to runner and engine.
//!
//! One binary, so that it is linked once. [`harness`] has the job, its containers and a runner process that can die at any
//! point; everything runs under a paused clock, so that nothing waits for real time (but for `uploads`, which talk to a storage).

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod agent;
mod archives;
mod artifact_store;
mod deaths;
mod directories;
mod engine_faults;
mod explanations;
mod flow;
mod harness;
mod images;
mod prepare;
mod refusals;
mod services;
mod sources;
mod streams;
mod terminal;
mod timeouts;
mod uploads;
