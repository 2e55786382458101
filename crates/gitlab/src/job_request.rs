//! `POST jobs/request`: asking for a job (coordinator-api §4).

use std::sync::Arc;

use bytes::Bytes;
use gantry_job::{JobPayload, Secret};
use serde::Serialize;

use crate::{CallFailure, RunnerInfo};

/// What a runner says about itself when it asks for a job. The runner token comes from the
/// [`Connection`](crate::Connection).
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// Kept with the job afterwards: updates carry it, too.
    pub info: Arc<RunnerInfo>,
    /// Content of `.runner_system_id`, or `unknown`.
    pub system_id: String,
    /// Echo the server's last `X-GitLab-Last-Update`, which lets the server hold the request for about 50 s until something
    /// changes. Leave out with more entries than free slots: a held request keeps a slot.
    pub echo_last_update: bool,
    /// Address of the session server, if one runs.
    pub session: Option<SessionInfo>,
}

/// Where GitLab reaches the session server for this job.
#[derive(Debug, Clone, Serialize)]
pub struct SessionInfo {
    /// `https://host:port/session/<64 hex>`
    pub url: String,
    /// PEM.
    pub certificate: String,
    /// Token that GitLab must present.
    pub authorization: Secret,
}

/// Answer to a job request, with what the scheduler wants to know besides.
#[derive(Debug)]
pub struct JobRequestReply {
    /// The outcome.
    pub answer: JobRequestAnswer,
    /// Some attempt met a retryable status (429, 5xx): adaptive concurrency halves (coordinator-api §14).
    pub throttled: bool,
}

/// Outcome of a job request.
#[derive(Debug)]
pub enum JobRequestAnswer {
    /// 201: a job. It is ours only after `PUT state=running` (two-phase commit).
    Job(Box<ReceivedJob>),
    /// 201, but the payload cannot be read. Reported to the server if the credentials could be, else left to the server's
    /// own reclaim.
    Unreadable(Box<UnreadableJob>),
    /// 204.
    NoJob,
    /// 403: the runner token is refused. Counts against the runner's health.
    Forbidden {
        /// The server's words, possibly empty.
        message: String,
    },
    /// 503 after all attempts: `GitLab instance currently unavailable`.
    Unavailable,
    /// Everything else.
    Failed(CallFailure),
}

impl JobRequestAnswer {
    /// Whether the runner counts as healthy: only a refused token and an unbuildable client do not.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        !matches!(
            self,
            Self::Forbidden { .. } | Self::Failed(CallFailure::Client(_))
        )
    }
}

/// A job as it came.
#[derive(Debug)]
pub struct ReceivedJob {
    /// The job.
    pub job: JobPayload,
    /// The body, byte for byte; what the journal keeps. Contains secrets.
    pub payload: Payload,
    /// `X-Request-Id` of the server, else the one sent.
    pub correlation_id: String,
    /// For `CI_SERVER_TLS_*`.
    pub tls: TlsData,
}

/// A 201 whose body is not a job.
#[derive(Debug)]
pub struct UnreadableJob {
    /// Id and token, if at least those could be read.
    pub credentials: Option<(i64, Secret)>,
    /// What is wrong, with the place in the payload.
    pub error: String,
    /// `X-Request-Id`.
    pub correlation_id: String,
}

/// Bytes of a payload; `Debug` shows their number only.
#[derive(Clone)]
pub struct Payload(pub Bytes);

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// TLS material handed to jobs (coordinator-api §12). All `None` over plain HTTP.
#[derive(Debug, Clone, Default)]
pub struct TlsData {
    /// `CI_SERVER_TLS_CA_FILE`: the configured CA file verbatim, else the chain the server presented up to its root, PEM.
    pub ca_chain: Option<Arc<str>>,
    /// `CI_SERVER_TLS_CERT_FILE`: content of the client certificate.
    pub client_certificate: Option<Arc<str>>,
    /// `CI_SERVER_TLS_KEY_FILE`: content of its key.
    pub client_key: Option<Secret>,
}
