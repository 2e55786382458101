//! How a job stands and how it ended: the words on the wire, in variables and in the trace
//! (coordinator-api §7, §9; job-lifecycle §1.4).

use serde::{Deserialize, Serialize};

use crate::cause::Cause;

/// State of a job as the runner reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job is being worked on.
    Running,
    /// Final: all went well.
    Success,
    /// Final: it did not.
    Failed,
}

impl JobState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        match self {
            Self::Running => false,
            Self::Success | Self::Failed => true,
        }
    }
}

/// `CI_JOB_STATUS` as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Until the scripts are over.
    Running,
    /// The scripts succeeded.
    Success,
    /// A script failed.
    Failed,
    /// The job was canceled.
    Canceled,
    /// `RUNNER_SCRIPT_TIMEOUT` passed. The peer's word, though no document names it.
    TimedOut,
}

impl JobStatus {
    /// Name of the variable.
    pub const VARIABLE: &'static str = "CI_JOB_STATUS";

    /// Value of the variable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedout",
        }
    }
}

/// Reason of a failed job as the server is told (coordinator-api §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// A script said no.
    ScriptFailure,
    /// The runner or the engine failed.
    RunnerSystemFailure,
    /// A timeout passed.
    JobExecutionTimeout,
    /// An image could not be pulled.
    ImagePullFailure,
    /// The job or the runner's configuration asks for what cannot be.
    RunnerConfigurationError,
    /// A registry or another service beyond the runner failed.
    RunnerExternalDependencyFailure,
    /// The runner was told to stop.
    RunnerInterrupted,
    /// The job asks for what this runner does not do.
    RunnerUnsupported,
    /// The job was canceled.
    JobCanceled,
    /// None of those the server knows.
    UnknownFailure,
}

impl FailureReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScriptFailure => "script_failure",
            Self::RunnerSystemFailure => "runner_system_failure",
            Self::JobExecutionTimeout => "job_execution_timeout",
            Self::ImagePullFailure => "image_pull_failure",
            Self::RunnerConfigurationError => "runner_configuration_error",
            Self::RunnerExternalDependencyFailure => "runner_external_dependency_failure",
            Self::RunnerInterrupted => "runner_interrupted",
            Self::RunnerUnsupported => "runner_unsupported",
            Self::JobCanceled => "job_canceled",
            Self::UnknownFailure => "unknown_failure",
        }
    }

    /// The reason to send to a server that lists `known` reasons (`features.failure_reasons`):
    /// this one if the server knows it, else the nearest it knows, else `unknown_failure`.
    ///
    /// Not to be used for failures before the job starts, which are sent as they are
    /// (coordinator-api §9).
    pub fn for_server(self, known: &[String]) -> Self {
        let mut reason = self;
        loop {
            if reason.is_known_to_all_servers() || known.iter().any(|name| name == reason.as_str())
            {
                return reason;
            }
            match reason.fallback() {
                Some(next) => reason = next,
                None => return Self::UnknownFailure,
            }
        }
    }

    fn is_known_to_all_servers(self) -> bool {
        matches!(
            self,
            Self::ScriptFailure | Self::RunnerSystemFailure | Self::JobExecutionTimeout
        )
    }

    /// The next more general reason; the chain ends after two steps at most.
    fn fallback(self) -> Option<Self> {
        match self {
            Self::ImagePullFailure | Self::RunnerExternalDependencyFailure => {
                Some(Self::RunnerSystemFailure)
            }
            // The peer never sends this reason; system failure is the nearest class that does
            // not blame the script.
            Self::RunnerUnsupported => Some(Self::RunnerSystemFailure),
            Self::RunnerConfigurationError => Some(Self::ScriptFailure),
            Self::RunnerInterrupted | Self::JobCanceled => Some(Self::UnknownFailure),
            Self::ScriptFailure
            | Self::RunnerSystemFailure
            | Self::JobExecutionTimeout
            | Self::UnknownFailure => None,
        }
    }
}

/// The end of a job. Journaled as the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All went well.
    Success,
    /// It did not, and why.
    Failed(Cause),
}

impl Outcome {
    /// The state to report.
    pub fn state(&self) -> JobState {
        match self {
            Self::Success => JobState::Success,
            Self::Failed(_) => JobState::Failed,
        }
    }

    /// Why it failed.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Success => None,
            Self::Failed(cause) => Some(cause),
        }
    }

    /// `CI_JOB_STATUS` for what runs afterwards.
    pub fn status(&self) -> JobStatus {
        match self {
            Self::Success => JobStatus::Success,
            Self::Failed(cause) => cause.status(),
        }
    }

    /// The last line of the trace without colour: `Job succeeded`, or `ERROR: Job failed…` with
    /// the cause.
    pub fn last_line(&self) -> String {
        match self {
            Self::Success => "Job succeeded".to_owned(),
            Self::Failed(cause) if cause.is_system_failure() => {
                format!("ERROR: Job failed (system failure): {}", cause.message())
            }
            Self::Failed(cause) => format!("ERROR: Job failed: {}", cause.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(FailureReason::ImagePullFailure, &[], "runner_system_failure")]
    #[case(FailureReason::ImagePullFailure, &["image_pull_failure"], "image_pull_failure")]
    #[case(FailureReason::RunnerConfigurationError, &[], "script_failure")]
    #[case(FailureReason::RunnerExternalDependencyFailure, &[], "runner_system_failure")]
    #[case(FailureReason::RunnerInterrupted, &[], "unknown_failure")]
    #[case(FailureReason::RunnerInterrupted, &["runner_interrupted"], "runner_interrupted")]
    #[case(FailureReason::JobCanceled, &["unknown_failure"], "unknown_failure")]
    #[case(FailureReason::RunnerUnsupported, &["runner_unsupported"], "runner_unsupported")]
    #[case(FailureReason::RunnerUnsupported, &[], "runner_system_failure")]
    #[case(FailureReason::ScriptFailure, &[], "script_failure")]
    #[case(FailureReason::JobExecutionTimeout, &["x"], "job_execution_timeout")]
    #[case(FailureReason::UnknownFailure, &[], "unknown_failure")]
    fn reason_falls_back_to_one_the_server_lists(
        #[case] reason: FailureReason,
        #[case] known: &[&str],
        #[case] sent: &str,
    ) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        assert_eq!(reason.for_server(&known).as_str(), sent);
    }

    #[test]
    fn wire_words_and_serde_agree() {
        let reasons = [
            FailureReason::ScriptFailure,
            FailureReason::RunnerSystemFailure,
            FailureReason::JobExecutionTimeout,
            FailureReason::ImagePullFailure,
            FailureReason::RunnerConfigurationError,
            FailureReason::RunnerExternalDependencyFailure,
            FailureReason::RunnerInterrupted,
            FailureReason::RunnerUnsupported,
            FailureReason::JobCanceled,
            FailureReason::UnknownFailure,
        ];
        for reason in reasons {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for state in [JobState::Running, JobState::Success, JobState::Failed] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for status in [
            JobStatus::Running,
            JobStatus::Success,
            JobStatus::Failed,
            JobStatus::Canceled,
            JobStatus::TimedOut,
        ] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
