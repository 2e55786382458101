/// Why an engine call failed. Decide by variant, never by message text.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// 404: the object does not exist.
    #[error("{what}: {message}")]
    NotFound {
        /// The call, e.g. `inspect container runner-x-build`.
        what: String,
        /// The engine's own words.
        message: String,
    },
    /// 409: name in use, object busy, container not running.
    #[error("{what}: {message}")]
    Conflict {
        /// The call.
        what: String,
        /// The engine's own words.
        message: String,
    },
    /// 400: the engine refuses the request's content; a mistake of config or job.
    #[error("{what}: {message}")]
    BadRequest {
        /// The call.
        what: String,
        /// The engine's own words.
        message: String,
    },
    /// Any other answer of the engine (403, 500 …).
    #[error("{what}: {message} (status {status})")]
    Failed {
        /// The call.
        what: String,
        /// HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The engine could not be reached, or went away in the middle of an answer. Worth a retry once it answers again.
    #[error("{what}: the engine at {host} cannot be reached: {message}")]
    Unreachable {
        /// The call.
        what: String,
        /// Endpoint, e.g. `unix:///var/run/docker.sock`.
        host: String,
        /// Cause.
        message: String,
    },
    /// The engine did not answer in time.
    #[error("{what}: no answer of the engine within {seconds} s")]
    TimedOut {
        /// The call.
        what: String,
        /// Limit in seconds.
        seconds: u64,
    },
    /// The answer cannot be understood.
    #[error("{what}: unexpected answer of the engine: {message}")]
    Garbled {
        /// The call.
        what: String,
        /// What was wrong with it.
        message: String,
    },
    /// An image pull failed; the text is the registry's or the engine's.
    #[error("{message}")]
    Pull {
        /// Image as asked for.
        image: String,
        /// Error text of the pull stream or answer.
        message: String,
    },
    /// The endpoint or its TLS files cannot be used (wrong scheme, missing or invalid file, unsupported API version).
    #[error("{0}")]
    Setup(String),
}

impl EngineError {
    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The engine may answer again later; nothing is known about whether the call had its effect.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }
}
