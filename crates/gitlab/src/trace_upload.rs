//! Delivers a job's log to GitLab by offset, and hears from it whether the job shall go on.
//!
//! The log is written elsewhere ([`TraceSource`]); one [`TraceUpload`] per job owns the offset that the server has confirmed and
//! is the only caller of `PATCH trace`. A range answer from the server wins over our own count, within what was written.
//! What to do next is decided by the pure [`Delivery`]; the loops here only carry it out.
//!
//! Peer behaviour: coordinator-api §6 to §8. Differences, none of which a pipeline can see: the first bytes leave at once
//! instead of at the first tick; a tick sends everything written so far instead of one patch; a silent job is asked about every
//! 5 s, so that a cancel arrives in seconds instead of half a minute; a server that answers 412 or 416 for ever is given up
//! like one that fails for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_trace::{JobTrace, TraceProgress};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{AbortReason, JobCalls, JobCredentials, Verdict};

mod budget;
mod delivery;
mod final_update;
mod running;
#[cfg(test)]
mod tests;

pub use budget::UploadBudget;
pub use delivery::{Delivery, NextPatch};

/// A log being written. Append-only: bytes below the reported length never change.
pub trait TraceSource: Send + Sync + 'static {
    /// Current and future progress. Never goes back.
    fn progress(&self) -> watch::Receiver<TraceProgress>;

    /// At most `max` bytes from `offset`, at least one if `offset` lies below the reported length. Blocking; called on a
    /// blocking thread for large pieces.
    ///
    /// # Errors
    /// The spool cannot be read. The upload tries again later.
    fn read_at(&self, offset: u64, max: usize) -> io::Result<Bytes>;
}

impl TraceSource for JobTrace {
    fn progress(&self) -> watch::Receiver<TraceProgress> {
        self.subscribe()
    }

    fn read_at(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        Self::read_at(self, offset, max)
            .map(Bytes::from)
            .map_err(io::Error::other)
    }
}

/// What the server wants of a job. Only ever escalates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ServerWish {
    /// Go on.
    #[default]
    Run,
    /// `canceling`: stop the script, run `after_script`, report.
    Cancel,
    /// Stop everything now, upload nothing.
    Abort(AbortReason),
}

/// Times and switches of one upload.
#[derive(Debug, Clone)]
pub struct UploadSettings {
    /// `CI_DEBUG_TRACE` or `CI_DEBUG_SERVICES` is in effect.
    pub debug_trace: bool,
    /// How long the server may stay unasked about a running job; `None` leaves it to the keepalive. Default 5 s.
    pub cancel_poll: Option<Duration>,
    /// `FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL`: keepalive after four update intervals instead of 30 s.
    pub dynamic_keepalive: bool,
    /// Memory for pieces in flight; share one between all jobs.
    pub budget: UploadBudget,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            debug_trace: false,
            cancel_poll: Some(Duration::from_secs(5)),
            dynamic_keepalive: false,
            budget: UploadBudget::default(),
        }
    }
}

/// Why [`TraceUpload::run`] came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// The trace is finished and, unless the server failed, sent to its end.
    Finished,
    /// The server ended the job.
    Aborted(AbortReason),
    /// The token given to `run` was cancelled.
    Stopped,
}

/// How often and how long the final update is tried.
#[derive(Debug, Clone)]
pub struct FinalPolicy {
    /// Tries that may fail before giving up (each up to 5 HTTP attempts); `None`: no limit.
    pub tries: Option<u32>,
    /// Longest pause between two tries; pauses are 1 s, 2 s, 4 s, …
    pub longest_pause: Duration,
}

impl FinalPolicy {
    /// While the job still holds its slot: `job_status_final_update_retry_limit` tries (0 counts as 10), pauses up to 60 min.
    #[must_use]
    pub const fn slot(retry_limit: u32) -> Self {
        Self {
            tries: Some(if retry_limit == 0 { 10 } else { retry_limit }),
            longest_pause: Duration::from_secs(3600),
        }
    }

    /// After that, from the outbox: no limit, pauses up to 60 s. The caller bounds it (24 h) by dropping the future.
    #[must_use]
    pub const fn outbox() -> Self {
        Self {
            tries: None,
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// What became of the final update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalOutcome {
    /// GitLab has the final state.
    Delivered,
    /// GitLab wants nothing more of this job: canceled, refused or unknown. After a lost answer this means delivered.
    Closed(AbortReason),
    /// The tries are used up; the state is still to be delivered.
    GaveUp {
        /// The last failure.
        why: String,
    },
    /// The token was cancelled; the state is still to be delivered.
    Interrupted,
}

impl FinalOutcome {
    /// Nothing is left to deliver.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Delivered | Self::Closed(_))
    }
}

/// Delivery of one job's trace and state.
///
/// Order of use: [`run`](Self::run) while the job runs, then [`final_update`](Self::final_update). After a restart of the
/// runner a new one starts from any offset that was confirmed earlier; 0 is right, too: the server corrects it.
pub struct TraceUpload<C> {
    calls: C,
    job: JobCredentials,
    source: Arc<dyn TraceSource>,
    settings: UploadSettings,
    delivery: std::sync::Mutex<Delivery>,
    wish: watch::Sender<ServerWish>,
    sent: watch::Sender<u64>,
    /// Wakes the sending loop when an answer to the asking loop changed the interval.
    interval_changed: Notify,
}

impl<C: JobCalls> TraceUpload<C> {
    /// An upload that has nothing in flight. `sent` is the offset confirmed so far, 0 for a new job.
    ///
    /// The acceptance (or, after a restart, the renewed `PUT state=running`) has just been answered: the server is first
    /// asked again one poll interval from now.
    #[must_use]
    pub fn new(
        calls: C,
        job: JobCredentials,
        source: Arc<dyn TraceSource>,
        settings: UploadSettings,
        sent: u64,
    ) -> Self {
        let delivery = Delivery::new(&settings, sent, Instant::now());
        Self {
            calls,
            job,
            source,
            settings,
            delivery: std::sync::Mutex::new(delivery),
            wish: watch::Sender::default(),
            sent: watch::Sender::new(sent),
            interval_changed: Notify::new(),
        }
    }

    /// What the server wants; changes at most twice.
    #[must_use]
    pub fn wishes(&self) -> watch::Receiver<ServerWish> {
        self.wish.subscribe()
    }

    /// The confirmed offset, for the journal. May go back when the server asks for it.
    #[must_use]
    pub fn sent(&self) -> watch::Receiver<u64> {
        self.sent.subscribe()
    }

    /// Sends the trace as it grows and keeps asking the server, until the trace is finished and sent, the server ends the
    /// job, or `stop` is cancelled. Failures of the server or network never end it while the trace grows.
    pub async fn run(&mut self, stop: &CancellationToken) -> RunEnd {
        self.run_until_end(stop).await
    }

    /// Sends what is missing of the trace and the final state, and repeats both as the server asks (coordinator-api §7.3).
    pub async fn final_update(
        &mut self,
        verdict: &Verdict,
        policy: &FinalPolicy,
        stop: &CancellationToken,
    ) -> FinalOutcome {
        self.deliver_verdict(verdict, policy, stop).await
    }
}
