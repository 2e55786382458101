//! Classes of failed image pulls (docker-executor §3.5).

use serde::{Deserialize, Serialize};

use crate::outcome::FailureReason;

/// What kind of failure a pull met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullFailure {
    /// The registry cannot be reached. The only class worth another try.
    RegistryUnreachable,
    /// There is no such image.
    NotFound,
    /// The registry does not let us.
    AccessDenied,
    /// It must not be pulled (policy `never`), and the engine does not have it. As with the peer a system failure, so that
    /// `retry:when` sends the job to a runner whose engine may have it (docker-executor §3.3).
    NotOnEngine,
    /// Anything else.
    Other,
}

/// Substrings in the peer's order: the first row that matches wins.
const PATTERNS: [(PullFailure, &[&str]); 3] = [
    (
        PullFailure::RegistryUnreachable,
        &[
            "dial tcp",
            "connection refused",
            "no such host",
            "i/o timeout",
            "tls handshake",
            "client.timeout exceeded",
            "request canceled",
            "connection reset",
        ],
    ),
    (PullFailure::NotFound, &["not found", "manifest unknown"]),
    (
        PullFailure::AccessDenied,
        &[
            "pull access denied",
            "access to the resource is denied",
            "no basic auth credentials",
            "repository does not exist or may require",
            "unauthorized",
            "authentication required",
        ],
    ),
];

impl PullFailure {
    /// The class of what the engine said.
    pub fn classify(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        PATTERNS
            .iter()
            .find(|(_, parts)| parts.iter().any(|part| message.contains(part)))
            .map_or(Self::Other, |(failure, _)| *failure)
    }

    /// Whether another try may succeed.
    pub fn is_transient(self) -> bool {
        match self {
            Self::RegistryUnreachable => true,
            Self::NotFound | Self::AccessDenied | Self::NotOnEngine | Self::Other => false,
        }
    }

    /// The reason of a job that fails of it.
    pub fn reason(self) -> FailureReason {
        match self {
            Self::RegistryUnreachable => FailureReason::RunnerExternalDependencyFailure,
            Self::NotFound | Self::AccessDenied => FailureReason::RunnerConfigurationError,
            Self::NotOnEngine => FailureReason::RunnerSystemFailure,
            Self::Other => FailureReason::ImagePullFailure,
        }
    }
}
