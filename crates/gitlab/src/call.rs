//! One HTTP exchange with GitLab: its endpoint, why it may fail, and the event it leaves behind.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The calls of this crate, as metrics and logs name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST jobs/request`
    RequestJob,
    /// `PUT jobs/:id`
    UpdateJob,
    /// `PATCH jobs/:id/trace`
    PatchTrace,
    /// `POST runners`
    RegisterRunner,
    /// `POST runners/verify`
    VerifyRunner,
    /// `DELETE runners`
    UnregisterRunner,
    /// `DELETE runners/managers`
    UnregisterManager,
    /// `POST runners/reset_authentication_token`
    ResetToken,
    /// `POST runners/:id/reset_authentication_token`
    ResetTokenOf,
}

impl Endpoint {
    /// HTTP method.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::RequestJob
            | Self::RegisterRunner
            | Self::VerifyRunner
            | Self::ResetToken
            | Self::ResetTokenOf => "POST",
            Self::UnregisterRunner | Self::UnregisterManager => "DELETE",
            Self::UpdateJob => "PUT",
            Self::PatchTrace => "PATCH",
        }
    }

    /// Path with numbers normalised, as the label `path` of the peer's metrics.
    #[must_use]
    pub const fn path_template(self) -> &'static str {
        match self {
            Self::RequestJob => "/api/v4/jobs/request",
            Self::UpdateJob => "/api/v4/jobs/{id}",
            Self::PatchTrace => "/api/v4/jobs/{id}/trace",
            Self::RegisterRunner | Self::UnregisterRunner => "/api/v4/runners",
            Self::VerifyRunner => "/api/v4/runners/verify",
            Self::UnregisterManager => "/api/v4/runners/managers",
            Self::ResetToken => "/api/v4/runners/reset_authentication_token",
            Self::ResetTokenOf => "/api/v4/runners/{id}/reset_authentication_token",
        }
    }

    /// Label `endpoint` of the peer's metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::RequestJob => "request_job",
            Self::UpdateJob => "update_job",
            Self::PatchTrace => "patch_trace",
            Self::RegisterRunner => "register_runner",
            Self::VerifyRunner => "verify_runner",
            Self::UnregisterRunner | Self::UnregisterManager => "unregister_runner",
            Self::ResetToken | Self::ResetTokenOf => "reset_token",
        }
    }
}

/// What happened in one call, all attempts together; for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// Who called: [`Connection::runner`](crate::Connection::runner).
    pub runner: Arc<str>,
    /// Which call.
    pub endpoint: Endpoint,
    /// Last HTTP status; `None` when no answer came.
    pub status: Option<u16>,
    /// HTTP requests made, at least 1 unless the client could not be built (0).
    pub attempts: u32,
    /// From the first byte sent to the last answer read, waits included.
    pub duration: Duration,
    /// Id that GitLab logs, too.
    pub correlation_id: String,
}

/// Receives an event per call. Called from async code: count and return.
pub trait CallObserver: Send + Sync + 'static {
    /// A call came to its end.
    fn call_ended(&self, record: &CallRecord);
}

/// Why a call gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// GitLab answered with a status that ends nothing; retried by the caller's own rules.
    #[error("{method} {url}: {status} {text}{message}", text = reason(*.status), message = Parenthesized(message))]
    Status {
        /// HTTP method.
        method: &'static str,
        /// URL without credentials and query.
        url: String,
        /// HTTP status of the last attempt.
        status: u16,
        /// The server's `message`, possibly empty.
        message: String,
        /// How long the server asks to wait, capped.
        wait: Option<Duration>,
    },
    /// No answer: refused, reset, DNS, TLS, timeout, cut short.
    #[error("{method} {url}: {reason}")]
    Transport {
        /// HTTP method.
        method: &'static str,
        /// URL without credentials and query.
        url: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// The expected status, but not the expected media type.
    #[error(
        "{method} {url}: {status} with content type {found:?} instead of \"application/json\"; is the URL that of a GitLab server?"
    )]
    ContentType {
        /// HTTP method.
        method: &'static str,
        /// URL without credentials and query.
        url: String,
        /// HTTP status.
        status: u16,
        /// The header's value, empty when missing.
        found: String,
    },
    /// The expected status and JSON, but not of the form it must have.
    #[error("{method} {url}: the answer ({status}) cannot be read: {reason}")]
    Unreadable {
        /// HTTP method.
        method: &'static str,
        /// URL without credentials and query.
        url: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The client could not be built: the runner counts as unhealthy.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl CallFailure {
    /// HTTP status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. }
            | Self::ContentType { status, .. }
            | Self::Unreadable { status, .. } => Some(*status),
            Self::Transport { .. } | Self::Client(_) => None,
        }
    }

    /// The pause the server asked for, already capped.
    #[must_use]
    pub fn server_wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            Self::Transport { .. }
            | Self::ContentType { .. }
            | Self::Unreadable { .. }
            | Self::Client(_) => None,
        }
    }
}

/// Why a client for a `[[runners]]` entry could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// `url` is not a URL.
    #[error("url {url:?} of the runner cannot be read: {reason}")]
    Url {
        /// As configured, credentials removed.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `url` has another scheme than http or https.
    #[error("only http or https scheme supported, not {scheme:?}")]
    Scheme {
        /// The scheme found.
        scheme: String,
    },
    /// TLS or the HTTP stack refused its settings.
    #[error("http client for {url}: {reason}")]
    Build {
        /// Base URL.
        url: String,
        /// What the stack said.
        reason: String,
    },
}

fn reason(status: u16) -> &'static str {
    reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("unknown status")
}

struct Parenthesized<'a>(&'a str);

impl fmt::Display for Parenthesized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.0)
        }
    }
}
