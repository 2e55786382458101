//! A job's log: from the raw bytes of containers to the bytes that GitLab must have.
//!
//! [`JobTrace`] is the door. Everything that a job says goes through it: the runner's own lines
//! ([`JobTrace::line`], [`JobTrace::section_start`]) and the raw output of containers
//! ([`JobTrace::write`]). Bytes are masked, timestamped, repaired and limited before they reach
//! the [`Spool`], so nothing after this crate ever holds a secret, and the spool is byte for byte
//! what the server must store: its length and checksum are the ones to report.
//!
//! The spool is also the cursor: each of its records says which raw bytes of which stream of which
//! container are in the output up to there. A restarted process opens the spool, calls
//! [`JobTrace::begin_replay`] and writes the container's whole log again from its first byte; what
//! was consumed before is skipped, so that every byte is in the log exactly once.
//!
//! Layers, outermost first, each usable alone:
//!
//! | Module | Owns |
//! |---|---|
//! | [`job_trace`] | one job's handle: lock, clock, growth notice, the runner's own lines |
//! | [`spool`] | the files, the limit, the cursor records |
//! | [`replay`] | what to skip of an engine's log after a restart |
//! | [`processor`] | raw bytes of one stream → log bytes, and how many raw bytes that used up |
//! | [`mask`], [`lines`], `utf8` | the steps of the processor |
//!
//! Peer behaviour: coordinator-api §6 (buffer) and §11 (format); job-lifecycle §8 (lines).
//! Deviations: any number of token prefixes (the peer keeps 15), a character cut by an 8 KiB
//! flush is kept whole, and a phrase may be added while the job runs.

mod clock;
mod error;
pub mod job_trace;
mod limit;
pub mod lines;
pub mod mask;
mod options;
pub mod processor;
pub mod replay;
pub mod spool;
mod stream;
#[cfg(test)]
mod testing;
mod utf8;

pub use clock::Clock;
pub use error::TraceError;
pub use job_trace::{JobTrace, Level, Opened, Position, TraceProgress, Written};
pub use options::{Phrase, TraceOptions, default_token_prefixes};
pub use spool::Spool;
pub use stream::{RUNNER_SOURCE, Stream};
