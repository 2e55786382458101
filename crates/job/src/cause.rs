//! The closed list of what a job can fail of.
//!
//! Each cause knows the reason the server is told, the exit code and the sentence of the trace:
//! the peer's words where the peer has any (job-lifecycle §1.4, docker-executor §9.2), and what
//! to do where the peer is mute. A new cause must answer every match here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;
use crate::outcome::{FailureReason, JobStatus};
use crate::stage::Stage;

mod pull;

#[cfg(test)]
mod tests;

pub use pull::PullFailure;

/// Why a job failed. Journaled, so variants and fields may be added and never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A user script ended with this code.
    ScriptExit {
        /// Exit code of the container, never 0.
        code: i32,
    },
    /// A stage of the helper ended with this code, e.g. 128 of `git fetch`.
    HelperStageExit {
        /// The stage.
        stage: Stage,
        /// Exit code, never 0.
        code: i32,
    },
    /// The whole job took too long.
    JobTimeout {
        /// The timeout.
        limit: Duration,
    },
    /// `RUNNER_SCRIPT_TIMEOUT` passed.
    ScriptTimeout,
    /// `prepare_timeout` passed.
    PrepareTimeout {
        /// The timeout.
        limit: Duration,
    },
    /// `get_sources_timeout` passed.
    GetSourcesTimeout {
        /// The timeout.
        limit: Duration,
    },
    /// Canceled by a user, gracefully (`canceling`).
    Canceled,
    /// Taken away by the server: `canceled`, or the job token is no longer accepted.
    Aborted,
    /// The runner was told to stop.
    Interrupted {
        /// Name of the signal as the peer prints it: `terminated`, `interrupt`, `quit`.
        signal: String,
    },
    /// The build container was killed for want of memory.
    OutOfMemory {
        /// Memory limit of the container in bytes; `None` if it has none, so the host ran out.
        limit: Option<u64>,
        /// Exit code of the container.
        exit_code: i32,
    },
    /// The image's program is not for this machine.
    ExecFormat {
        /// The image.
        image: String,
        /// Exit code, if the container started at all.
        exit_code: Option<i32>,
    },
    /// The image has no shell.
    ShellNotFound {
        /// The image.
        image: String,
    },
    /// The image's entrypoint did not run the command it was given, so no script ran.
    EntrypointSwallowedScript {
        /// The image.
        image: String,
        /// Exit code of the container.
        exit_code: i32,
    },
    /// The build container's shell ended well without having read the script.
    ScriptNotRead {
        /// The image.
        image: String,
    },
    /// Someone removed a container the job needed.
    ContainerVanished {
        /// Name of the container.
        name: String,
        /// Stage that ran in it.
        stage: Stage,
    },
    /// The engine stopped or restarted and took the container with it.
    EngineStopped {
        /// Stage that ran.
        stage: Stage,
    },
    /// The engine does not answer any more.
    EngineUnreachable {
        /// Where it was expected, without credentials.
        endpoint: String,
        /// What the last try said.
        message: String,
    },
    /// An image could not be had.
    ImagePull {
        /// The class of the failure.
        failure: PullFailure,
        /// The whole sentence, starting `failed to pull image "…"`.
        message: String,
    },
    /// The image does not exist for the platform that is asked for.
    ImagePlatform {
        /// The image.
        image: String,
        /// What the engine said.
        message: String,
    },
    /// The job or the configuration of the runner is wrong.
    Configuration {
        /// What is wrong.
        message: String,
    },
    /// An external secret could not be had (job-lifecycle §7).
    Secret {
        /// Whose fault it is.
        fault: SecretFault,
        /// The whole sentence, starting `resolving secrets: …`. Without any secret.
        message: String,
    },
    /// The job uses keywords that this version does not do.
    Unsupported {
        /// Keywords with their places, e.g. `cache (cache[0])`.
        keywords: Vec<String>,
    },
    /// `executor_opts` holds unknown keys.
    UnsupportedOptions {
        /// The peer's sentence.
        message: String,
    },
    /// The engine refused or failed something.
    Engine {
        /// What was tried, e.g. `creating container`.
        what: String,
        /// What the engine said.
        message: String,
    },
    /// The helper went away and cannot be brought back.
    HelperLost {
        /// Stage it was needed for.
        stage: Stage,
        /// What is known.
        message: String,
    },
    /// The helper container runs, and its program does not answer.
    HelperNoHello {
        /// How long it was waited for.
        waited: Duration,
        /// The helper image.
        image: String,
    },
    /// There is no helper program for the engine's architecture.
    HelperBinaryMissing {
        /// Architecture of the engine, e.g. `arm64`.
        architecture: String,
        /// The setting that names a program to use.
        setting: String,
    },
    /// After a restart of the runner it cannot be known whether the stage has run.
    UnsafeRerun {
        /// The stage.
        stage: Stage,
    },
    /// The runner died three times while it worked on this job.
    CrashedThreeTimes,
    /// A fault of the runner itself.
    Internal {
        /// What happened.
        message: String,
    },
}

/// Whose fault it is that a secret could not be had (job-lifecycle §7, "Classification").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretFault {
    /// The server of secrets refuses what the job asks: 400, 401, 403, 404.
    Refused,
    /// The server of secrets fails: 500 and above.
    Server,
    /// Anything else.
    Other,
}

impl SecretFault {
    fn reason(self) -> FailureReason {
        match self {
            Self::Refused => FailureReason::RunnerConfigurationError,
            Self::Server => FailureReason::RunnerExternalDependencyFailure,
            Self::Other => FailureReason::RunnerSystemFailure,
        }
    }
}

/// Text that follows an error of `prepare_script`; the peer's.
const PREPARE_ENVIRONMENT_HELP: &str =
    "Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information";

impl Cause {
    /// The reason, before [`FailureReason::for_server`].
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::ScriptExit { .. }
            | Self::HelperStageExit { .. }
            | Self::OutOfMemory { .. }
            | Self::ShellNotFound { .. }
            | Self::ExecFormat {
                exit_code: Some(_), ..
            } => FailureReason::ScriptFailure,
            Self::JobTimeout { .. }
            | Self::ScriptTimeout
            | Self::PrepareTimeout { .. }
            | Self::GetSourcesTimeout { .. } => FailureReason::JobExecutionTimeout,
            Self::Canceled | Self::Aborted => FailureReason::JobCanceled,
            Self::Interrupted { .. } => FailureReason::RunnerInterrupted,
            Self::ImagePull { failure, .. } => failure.reason(),
            Self::ExecFormat {
                exit_code: None, ..
            }
            | Self::EntrypointSwallowedScript { .. }
            | Self::ImagePlatform { .. }
            | Self::Configuration { .. } => FailureReason::RunnerConfigurationError,
            Self::Secret { fault, .. } => fault.reason(),
            Self::Unsupported { .. } => FailureReason::RunnerUnsupported,
            Self::ScriptNotRead { .. }
            | Self::ContainerVanished { .. }
            | Self::EngineStopped { .. }
            | Self::EngineUnreachable { .. }
            | Self::UnsupportedOptions { .. }
            | Self::Engine { .. }
            | Self::HelperLost { .. }
            | Self::HelperNoHello { .. }
            | Self::HelperBinaryMissing { .. }
            | Self::UnsafeRerun { .. }
            | Self::CrashedThreeTimes
            | Self::Internal { .. } => FailureReason::RunnerSystemFailure,
        }
    }

    /// Whether the last line of the trace says `(system failure)`.
    pub fn is_system_failure(&self) -> bool {
        self.reason() == FailureReason::RunnerSystemFailure
    }

    /// The exit code to report, if a program of the job ended.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::ScriptExit { code } | Self::HelperStageExit { code, .. } => Some(*code),
            Self::OutOfMemory { exit_code, .. }
            | Self::EntrypointSwallowedScript { exit_code, .. } => {
                (*exit_code != 0).then_some(*exit_code)
            }
            Self::ExecFormat { exit_code, .. } => *exit_code,
            Self::ShellNotFound { .. } => Some(1),
            // The peer's code for a job it refuses up front (coordinator-api §5).
            Self::UnsupportedOptions { .. } => Some(3),
            Self::JobTimeout { .. }
            | Self::ScriptTimeout
            | Self::PrepareTimeout { .. }
            | Self::GetSourcesTimeout { .. }
            | Self::Canceled
            | Self::Aborted
            | Self::Interrupted { .. }
            | Self::ScriptNotRead { .. }
            | Self::ContainerVanished { .. }
            | Self::EngineStopped { .. }
            | Self::EngineUnreachable { .. }
            | Self::ImagePull { .. }
            | Self::ImagePlatform { .. }
            | Self::Configuration { .. }
            | Self::Secret { .. }
            | Self::Unsupported { .. }
            | Self::Engine { .. }
            | Self::HelperLost { .. }
            | Self::HelperNoHello { .. }
            | Self::HelperBinaryMissing { .. }
            | Self::UnsafeRerun { .. }
            | Self::CrashedThreeTimes
            | Self::Internal { .. } => None,
        }
    }

    /// `CI_JOB_STATUS` that `after_script` sees after this failure (job-lifecycle §1.4).
    pub fn status(&self) -> JobStatus {
        match self {
            Self::Canceled | Self::Aborted => JobStatus::Canceled,
            Self::ScriptTimeout => JobStatus::TimedOut,
            _ => JobStatus::Failed,
        }
    }

    /// The sentence after `ERROR: Job failed: ` or `ERROR: Job failed (system failure): `.
    pub fn message(&self) -> String {
        match self {
            Self::ScriptExit { code } => format!("exit code {code}"),
            Self::HelperStageExit {
                stage: Stage::PrepareScript,
                code,
            } => {
                format!("prepare environment: exit code {code}. {PREPARE_ENVIRONMENT_HELP}")
            }
            Self::HelperStageExit { code, .. } => format!("exit code {code}"),
            Self::JobTimeout { limit } => {
                // "1h0m0s seconds" is the peer's wording, and log scrapers look for it.
                format!(
                    "execution took longer than {} seconds",
                    duration::format(*limit)
                )
            }
            Self::ScriptTimeout => "script timeout: context deadline exceeded".to_owned(),
            Self::PrepareTimeout { limit } => {
                format!(
                    "prepare timeout: exceeded timeout of {}",
                    duration::format(*limit)
                )
            }
            Self::GetSourcesTimeout { limit } => {
                format!(
                    "get sources timeout: exceeded timeout of {}",
                    duration::format(*limit)
                )
            }
            Self::Canceled | Self::Aborted => "canceled".to_owned(),
            Self::Interrupted { signal } => format!("aborted: {signal}"),
            Self::OutOfMemory {
                limit: Some(limit),
                exit_code,
            } => format!(
                "exit code {exit_code} (killed: out of memory, limit {}; use less memory, for example fewer parallel processes, or raise `memory` in [runners.docker])",
                bytes(*limit)
            ),
            Self::OutOfMemory {
                limit: None,
                exit_code,
            } => format!(
                "exit code {exit_code} (killed: out of memory, the host ran out; use less memory, run fewer jobs at once, or set `memory` in [runners.docker] so that one job cannot take it all)"
            ),
            Self::ExecFormat { image, exit_code } => {
                let what = format!(
                    "exec format error: image \"{image}\" is built for another architecture, or its entrypoint is a script without `#!` line; use an image for this machine, or name the platform in `image:docker:platform`"
                );
                match exit_code {
                    Some(code) => format!("exit code {code} ({what})"),
                    None => what,
                }
            }
            Self::ShellNotFound { image } => format!(
                "exit code 1 (shell not found: image \"{image}\" has neither bash nor sh where they are looked for; use an image with a shell, or its -debug or -shell variant)"
            ),
            Self::EntrypointSwallowedScript { image, exit_code } => format!(
                "exit code {exit_code} (the entrypoint of image \"{image}\" ended without running the shell it was given, so no line of the script ran; set `image:entrypoint: [\"\"]` in the job)"
            ),
            Self::ScriptNotRead { image } => format!(
                "the shell of image \"{image}\" ended without having read the script, so no line of it ran; retry the job, and look for something on the host that attaches to containers"
            ),
            Self::ContainerVanished { name, stage } => format!(
                "container \"{name}\" was removed from outside while {stage} ran; look for a cleanup job on the host that removes running containers"
            ),
            Self::EngineStopped { stage } => format!(
                "the container engine stopped while {stage} ran and ended the container; retry the job, and set \"live-restore\": true in the engine's daemon.json so that containers outlive the engine"
            ),
            Self::EngineUnreachable { endpoint, message } => {
                format!("the container engine at {endpoint} cannot be reached: {message}")
            }
            Self::ImagePull { message, .. } | Self::Configuration { message } => message.clone(),
            Self::ImagePlatform { image, message } => format!(
                "image \"{image}\" does not exist for the platform asked for: {message}; choose another image or correct `image:docker:platform`"
            ),
            Self::Unsupported { keywords } => format!(
                "this version of Gantry does not do {}; remove what needs it, send the job to another runner, or set `ignore_unsupported` in [gantry] to run without",
                keywords.join(", ")
            ),
            Self::Secret { message, .. }
            | Self::UnsupportedOptions { message }
            | Self::Internal { message } => message.clone(),
            Self::Engine { what, message } => format!("{what}: {message}"),
            Self::HelperLost { stage, message } => {
                format!("the helper container was lost during {stage}: {message}")
            }
            Self::HelperNoHello { waited, image } => format!(
                "the helper did not answer within {}: its program cannot run in image \"{image}\", or the image's entrypoint does not run the command it is given",
                duration::format(*waited)
            ),
            Self::HelperBinaryMissing {
                architecture,
                setting,
            } => format!(
                "no helper program for the engine's architecture {architecture}; name one with {setting}"
            ),
            Self::UnsafeRerun { stage } => format!(
                "the runner was restarted at a moment where it cannot be known whether {stage} had run; it is not run twice, retry the job"
            ),
            Self::CrashedThreeTimes => {
                "the runner died three times while it worked on this job; see the runner's log"
                    .to_owned()
            }
        }
    }
}

/// A size for people: whole KiB, MiB or GiB where it is one.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (size, unit) in UNITS {
        if count >= size {
            let tenths = (u128::from(count) * 10 + u128::from(size / 2)) / u128::from(size);
            return match tenths % 10 {
                0 => format!("{} {unit}", tenths / 10),
                tenth => format!("{}.{tenth} {unit}", tenths / 10),
            };
        }
    }
    format!("{count} bytes")
}
