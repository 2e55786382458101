use gantry_job::Cause;
use gantry_journal::JournalError;
use gantry_trace::TraceError;

/// Why walking a plan stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The job fails, for this cause.
    #[error("{}", .0.message())]
    Job(Cause),
    /// The journal cannot be written: nothing more may be done to the world.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

impl From<Cause> for ExecutorError {
    fn from(cause: Cause) -> Self {
        Self::Job(cause)
    }
}

impl ExecutorError {
    /// The cause told to the server.
    pub fn into_cause(self) -> Cause {
        match self {
            Self::Job(cause) => cause,
            Self::Journal(error) => Cause::Internal {
                message: error.to_string(),
            },
            Self::Trace(error) => Cause::Internal {
                message: error.to_string(),
            },
        }
    }
}
