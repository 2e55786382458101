use gantry_job::{Cause, SecretFault};

/// Why a secret could not be had. Shows no secret and nothing that logs in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The job describes the secret in a way that cannot be asked for.
    #[error("{0}")]
    Mistake(String),
    /// The job logs in with nothing. Vault would refuse it with 400.
    #[error("{0}")]
    NoToken(String),
    /// The server of secrets refuses.
    #[error("{what}: api error: status code {status}: {message}")]
    Api {
        /// What was tried, on what.
        what: String,
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server cannot be reached, or the answer did not come through.
    #[error("{what}: {reason}")]
    Transport {
        /// What was tried, on what.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The answer is none of a server of secrets.
    #[error("{what}: {reason}")]
    Answer {
        /// What was tried, on what.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server does not have the secret, or not this field.
    #[error("secret not found: {name} ({detail})")]
    NotFound {
        /// Name of the variable.
        name: String,
        /// What is missing, where.
        detail: String,
        /// The server said 404.
        refused: bool,
    },
}

impl SecretError {
    /// job-lifecycle §7, "Classification".
    pub(crate) fn fault(&self) -> SecretFault {
        match self {
            Self::Api {
                status: 400 | 401 | 403 | 404,
                ..
            }
            | Self::NoToken(_)
            | Self::NotFound { refused: true, .. } => SecretFault::Refused,
            Self::Api { status: 500.., .. } => SecretFault::Server,
            Self::Api { .. }
            | Self::Mistake(_)
            | Self::Transport { .. }
            | Self::Answer { .. }
            | Self::NotFound { refused: false, .. } => SecretFault::Other,
        }
    }

    pub(crate) fn cause(&self) -> Cause {
        Cause::Secret {
            fault: self.fault(),
            message: format!("resolving secrets: {self}"),
        }
    }

    /// Whether it may be otherwise after a pause.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Api { status, .. } => matches!(status, 412 | 429 | 500 | 502..),
            Self::Mistake(_) | Self::NoToken(_) | Self::Answer { .. } | Self::NotFound { .. } => {
                false
            }
        }
    }
}
