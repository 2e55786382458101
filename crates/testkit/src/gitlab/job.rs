//! A job as the server keeps it.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde_json::Value;

use super::StoredArtifact;

/// Where a job stands on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerJobState {
    /// Waits for a runner.
    Pending,
    /// Given to a runner that has not confirmed it.
    HandedOut,
    /// Confirmed.
    Running,
    /// Canceled by a user; the runner may still finish `after_script`.
    Canceling,
    /// Final.
    Canceled,
    /// Final.
    Success,
    /// Final.
    Failed,
}

impl ServerJobState {
    /// Nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Canceled | Self::Success | Self::Failed)
    }

    /// As in `Job-Status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending | Self::HandedOut => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }
}

/// One `PUT jobs/:id` that reached the server's logic.
#[derive(Debug, Clone)]
pub struct RecordedUpdate {
    /// `state` of the body.
    pub state: String,
    /// The body.
    pub body: Value,
    /// Status the server decided on.
    pub status: u16,
    /// When.
    pub instant: Instant,
}

/// A job with all that happened to it.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// Id.
    pub id: i64,
    /// Name of the job.
    pub name: String,
    /// Job token.
    pub token: String,
    /// The payload as sent.
    pub payload: Bytes,
    /// Where it stands.
    pub state: ServerJobState,
    /// Bytes of log stored.
    pub trace: Vec<u8>,
    /// Patches that were stored.
    pub patches: usize,
    /// Times the trace was forgotten for a 412.
    pub resets: usize,
    /// All updates, in order.
    pub updates: Vec<RecordedUpdate>,
    /// `failure_reason` of the final update.
    pub failure_reason: Option<String>,
    /// `exit_code` of the final update.
    pub exit_code: Option<i64>,
    /// Uploaded files.
    pub artifacts: Vec<StoredArtifact>,
    /// When a runner got it (last).
    pub handed_out_at: Option<SystemTime>,
    /// When the runner confirmed it.
    pub running_at: Option<SystemTime>,
    /// When it reached its final state.
    pub final_at: Option<SystemTime>,
    /// Final updates still answered with 202.
    pub(super) accepts_left: u32,
}

impl JobRecord {
    pub(super) fn new(id: i64, name: String, token: String, payload: Bytes) -> Self {
        Self {
            id,
            name,
            token,
            payload,
            state: ServerJobState::Pending,
            trace: Vec::new(),
            patches: 0,
            resets: 0,
            updates: Vec::new(),
            failure_reason: None,
            exit_code: None,
            artifacts: Vec::new(),
            handed_out_at: None,
            running_at: None,
            final_at: None,
            accepts_left: 0,
        }
    }

    /// The log as text, broken characters replaced.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.trace).into_owned()
    }

    /// `state` of all updates in order.
    #[must_use]
    pub fn states(&self) -> Vec<&str> {
        self.updates
            .iter()
            .map(|update| update.state.as_str())
            .collect()
    }

    /// Updates with a final state.
    #[must_use]
    pub fn final_updates(&self) -> Vec<&RecordedUpdate> {
        self.updates
            .iter()
            .filter(|update| update.state != "running")
            .collect()
    }

    pub(super) fn finish(&mut self, state: ServerJobState) {
        self.state = state;
        self.final_at = Some(SystemTime::now());
    }
}
