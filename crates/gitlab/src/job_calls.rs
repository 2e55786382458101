//! The seam between the delivery of a job and the network: the two calls made with a job token.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_job::{FailureReason, JobPayload, JobState, Outcome, Secret};
use gantry_trace::TraceProgress;
use serde::{Deserialize, Serialize};

use crate::{CallFailure, RunnerInfo};

/// What names a job to GitLab and proves that it is ours.
#[derive(Debug, Clone)]
pub struct JobCredentials {
    /// Job id.
    pub id: i64,
    /// Job token (`job.token` of the payload).
    pub token: Secret,
    /// The runner's `info` block; goes with every update.
    pub info: Arc<RunnerInfo>,
}

impl JobCredentials {
    /// Those of a received (or journaled) job.
    #[must_use]
    pub fn of(job: &JobPayload, info: Arc<RunnerInfo>) -> Self {
        Self {
            id: job.id,
            token: job.token.clone(),
            info,
        }
    }
}

/// `PUT` and `PATCH` of a running job. Implemented by [`Coordinator`](crate::Coordinator) and by scripted fakes in tests.
///
/// Dropping a returned future aborts the call and its waits.
pub trait JobCalls: Send + Sync + 'static {
    /// `PUT jobs/:id` (coordinator-api §7).
    fn update_job(
        &self,
        job: &JobCredentials,
        update: &JobUpdate,
    ) -> impl Future<Output = JobReply<UpdateAnswer>> + Send;

    /// `PATCH jobs/:id/trace` (coordinator-api §6).
    fn patch_trace(
        &self,
        job: &JobCredentials,
        patch: TracePatch,
    ) -> impl Future<Output = JobReply<PatchAnswer>> + Send;
}

impl<C: JobCalls> JobCalls for Arc<C> {
    fn update_job(
        &self,
        job: &JobCredentials,
        update: &JobUpdate,
    ) -> impl Future<Output = JobReply<UpdateAnswer>> + Send {
        C::update_job(self, job, update)
    }

    fn patch_trace(
        &self,
        job: &JobCredentials,
        patch: TracePatch,
    ) -> impl Future<Output = JobReply<PatchAnswer>> + Send {
        C::patch_trace(self, job, patch)
    }
}

/// An answer with what every answer of a job may carry besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobReply<A> {
    /// The verdict on the call itself.
    pub answer: A,
    /// `Job-Status: canceling`: stop the script gracefully. Set for any answer but an abort.
    pub canceling: bool,
    /// `X-GitLab-Trace-Update-Interval`, valid values only, capped at 15 minutes.
    pub update_interval: Option<Duration>,
}

impl<A> JobReply<A> {
    /// An answer that carries nothing besides.
    pub const fn plain(answer: A) -> Self {
        Self {
            answer,
            canceling: false,
            update_interval: None,
        }
    }
}

/// Size and checksum of a trace at one moment. Both speak of the same bytes: `[0, len)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceExtent {
    /// Bytes.
    pub len: u64,
    /// CRC32-IEEE of those bytes.
    pub crc32: u32,
}

impl From<TraceProgress> for TraceExtent {
    fn from(progress: TraceProgress) -> Self {
        Self {
            len: progress.len,
            crc32: progress.checksum,
        }
    }
}

impl TraceExtent {
    /// Of a whole trace that is at hand.
    #[must_use]
    pub fn of(trace: &[u8]) -> Self {
        Self {
            len: trace.len() as u64,
            crc32: crc32fast::hash(trace),
        }
    }

    /// `crc32:` and eight lowercase hex digits.
    #[must_use]
    pub fn checksum(&self) -> String {
        format!("crc32:{:08x}", self.crc32)
    }
}

/// How a job ended, in the server's words. Small and serialisable: what the journal keeps for the final update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `Success` or `Failed`.
    pub state: JobState,
    /// Already mapped to what the server lists (coordinator-api §9); `None` for success.
    pub failure_reason: Option<FailureReason>,
    /// The script's; 0 is not sent.
    pub exit_code: i32,
}

impl Verdict {
    /// The job succeeded.
    #[must_use]
    pub const fn success() -> Self {
        Self {
            state: JobState::Success,
            failure_reason: None,
            exit_code: 0,
        }
    }

    /// The job failed for `reason`, sent as it is; `exit_code` 0 means that there is none.
    #[must_use]
    pub const fn failed(reason: FailureReason, exit_code: i32) -> Self {
        Self {
            state: JobState::Failed,
            failure_reason: Some(reason),
            exit_code,
        }
    }

    /// The end of a job that was started, for a server that lists `known_reasons` (`features.failure_reasons`).
    #[must_use]
    pub fn of(outcome: &Outcome, known_reasons: &[String]) -> Self {
        match outcome.cause() {
            None => Self::success(),
            Some(cause) => Self::failed(
                cause.reason().for_server(known_reasons),
                cause.exit_code().unwrap_or(0),
            ),
        }
    }
}

/// Body of `PUT jobs/:id`, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUpdate {
    /// State to report.
    pub state: JobState,
    /// `None` is not sent.
    pub failure_reason: Option<FailureReason>,
    /// 0 is not sent.
    pub exit_code: i32,
    /// Trace written so far (not: sent); `None` in the acceptance.
    pub output: Option<TraceExtent>,
    /// Whether the transport repeats the call by itself.
    pub retry: Retry,
}

impl JobUpdate {
    /// Confirms that the job was received (coordinator-api §7.1).
    #[must_use]
    pub const fn accept() -> Self {
        Self {
            state: JobState::Running,
            failure_reason: None,
            exit_code: 0,
            output: None,
            retry: Retry::Transport,
        }
    }

    /// Keepalive and question for a cancel in one; a single attempt, since the next one comes anyway.
    #[must_use]
    pub const fn running(output: TraceExtent) -> Self {
        Self {
            state: JobState::Running,
            failure_reason: None,
            exit_code: 0,
            output: Some(output),
            retry: Retry::Never,
        }
    }

    /// The final state. `output` is `None` when the job never had a trace.
    #[must_use]
    pub const fn finished(verdict: &Verdict, output: Option<TraceExtent>) -> Self {
        Self {
            state: verdict.state,
            failure_reason: verdict.failure_reason,
            exit_code: verdict.exit_code,
            output,
            retry: Retry::Transport,
        }
    }
}

/// Whether a retryable status is repeated inside the call (coordinator-api §13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Up to 5 attempts.
    Transport,
    /// One attempt.
    Never,
}

/// Outcome of `PUT jobs/:id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateAnswer {
    /// 200: acknowledged.
    Ok,
    /// 202: taken, but the server still puts the trace together; ask again later.
    Accepted,
    /// 412: the server's trace does not validate; send all of it again, then the update.
    Rewind,
    /// The job is over for the server; nothing more to say about it.
    Aborted(AbortReason),
    /// Anything else; may be tried again.
    Failed(CallFailure),
}

/// Outcome of `PATCH jobs/:id/trace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchAnswer {
    /// 202: stored; the next byte to send.
    Accepted {
        /// Offset behind the bytes of this patch.
        next: u64,
    },
    /// 416: the server has another length. Not checked against what was written.
    RangeMismatch {
        /// Where to go on; 0 when the header is missing or unreadable.
        next: u64,
    },
    /// 404: not an abort; the next update decides (coordinator-api §6).
    NotFound,
    /// The job is over for the server.
    Aborted(AbortReason),
    /// Anything else; the same range may be sent again.
    Failed(CallFailure),
}

/// How the server said that a job is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AbortReason {
    /// `Job-Status: canceled` or `failed`; with the HTTP status it came with.
    JobStatus {
        /// `canceled` or `failed`.
        job_status: String,
        /// HTTP status; 200 to a final update means that it was taken.
        http_status: u16,
    },
    /// 403: the job token is no longer valid.
    Forbidden,
    /// 404 to an update: the job is gone.
    NotFound,
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JobStatus { job_status, .. } => {
                write!(f, "the server's job status is {job_status}")
            }
            Self::Forbidden => f.write_str("the server refuses the job token (403)"),
            Self::NotFound => f.write_str("the server does not know the job (404)"),
        }
    }
}

/// A piece of trace. Never empty, at most [`TracePatch::MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracePatch {
    /// Offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// `CI_DEBUG_TRACE` or `CI_DEBUG_SERVICES` is on: GitLab restricts who may read the log.
    pub debug_trace: bool,
}

impl TracePatch {
    /// Most bytes of one patch, 1 MiB.
    pub const MAX: usize = 1024 * 1024;

    /// Offset behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// `Content-Range`: inclusive end, no unit, no total.
    #[must_use]
    pub fn content_range(&self) -> String {
        format!("{}-{}", self.offset, self.end().saturating_sub(1))
    }
}
