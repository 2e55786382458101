//! From how a container's run ended to one cause of the closed list, with a sentence that helps.

use std::time::Duration;

use gantry_job::Cause;
use gantry_plan::Limits;

use crate::{StopReason, follow::RunEnd};

/// The cause of a stage that did not end with 0, and a note for the log in any case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// Why the stage failed; `None` when it did not.
    pub(crate) cause: Option<Cause>,
    /// One line for the log.
    pub(crate) note: Option<String>,
}

/// Facts about the container that ended.
pub(crate) struct Ended<'a> {
    pub(crate) end: &'a RunEnd,
    /// Memory limit in bytes, 0 = none.
    pub(crate) memory: i64,
    /// The script's first command ran.
    pub(crate) script_began: bool,
    /// The container has an entrypoint, of the image or the job.
    pub(crate) entrypoint: bool,
    /// The image as the job names it.
    pub(crate) image: &'a str,
    /// The end of its raw output.
    pub(crate) tail: &'a str,
}

/// Explains a run (docker-executor §7.5, engine-mechanics §i).
pub(crate) fn run(ended: &Ended<'_>) -> Explanation {
    let code = ended.end.exit_code;
    // The server keeps 32 bits, as the peer sends them.
    let exit_code = code as i32;
    if ended.end.out_of_memory {
        if code == 0 {
            return Explanation {
                cause: None,
                note: Some(format!(
                    "a process of the job was killed: out of memory{}; the script went on and ended with 0",
                    limit(ended.memory)
                )),
            };
        }
        let limit = u64::try_from(ended.memory).ok().filter(|&limit| limit > 0);
        return failed(Cause::OutOfMemory { limit, exit_code });
    }
    let image = ended.image.to_owned();
    if code == 0 && !ended.script_began && !ended.entrypoint {
        // The shell found no script on its stdin, whoever took it: that is not a success.
        return failed(Cause::ScriptNotRead { image });
    }
    if code == 0 {
        return Explanation {
            cause: None,
            note: (!ended.script_began).then(|| {
                "the image's entrypoint ended with 0 without starting a shell, so the script did not run; let the entrypoint exec its arguments, or set `image: entrypoint: [\"\"]` to run the script".to_owned()
            }),
        };
    }
    if !ended.script_began && ended.tail.contains("shell not found") {
        return failed(Cause::ShellNotFound { image });
    }
    if !ended.script_began && ended.tail.contains("exec format error") {
        return failed(Cause::ExecFormat {
            image,
            exit_code: Some(exit_code),
        });
    }
    if !ended.script_began && ended.tail.contains(TOO_LONG) {
        return failed(variables_too_long());
    }
    if !ended.script_began && ended.entrypoint {
        return failed(Cause::EntrypointSwallowedScript { image, exit_code });
    }
    let mut explanation = failed(Cause::ScriptExit { code: exit_code });
    if exit_code == 137 && ended.memory > 0 {
        // Some engines forget about one such kill in thirty.
        explanation.note = Some(format!(
            "exit code 137 is that of a killed process: possibly out of memory{}, though the engine does not say so",
            limit(ended.memory)
        ));
    }
    explanation
}

/// What Linux says of an environment that is too long.
const TOO_LONG: &str = "argument list too long";

/// Each of them would do, which the plan has seen to.
fn variables_too_long() -> Cause {
    Cause::Configuration {
        message: format!(
            "the variables of the job are too long together for the environment of a program ({TOO_LONG}); make the longest of them file variables"
        ),
    }
}

fn failed(cause: Cause) -> Explanation {
    Explanation {
        cause: Some(cause),
        note: None,
    }
}

/// The cause of a container that could not be started, read from the engine's words. `path`: a variable of the job is the container's
/// `PATH`.
pub(crate) fn start_failure(cause: Cause, image: &str, entrypoint: bool, path: bool) -> Cause {
    let message = cause.message();
    let text = message.to_lowercase();
    if text.contains(TOO_LONG) {
        return variables_too_long();
    }
    if text.contains("exec format error") {
        return Cause::ExecFormat {
            image: image.to_owned(),
            exit_code: None,
        };
    }
    let missing =
        text.contains("executable file not found") || text.contains("no such file or directory");
    if path && text.contains("executable file not found") {
        return Cause::Configuration {
            message: format!(
                "{message}: the job's variable `PATH` stands in for that of image \"{image}\"; remove it, and extend the path in the script (`export PATH=\"$PATH:/more\"`)"
            ),
        };
    }
    if entrypoint && (missing || text.contains("permission denied")) {
        // The shell is only its argument.
        return Cause::Configuration {
            message: format!(
                "the entrypoint of image \"{image}\" cannot be run: {message}; correct `image:entrypoint` of the job, or set it to `[\"\"]`"
            ),
        };
    }
    if missing {
        return Cause::ShellNotFound {
            image: image.to_owned(),
        };
    }
    cause
}

/// The cause of a job that was stopped before it was planned; `job` is its time limit.
pub fn stopped_unplanned(reason: StopReason, job: Duration) -> Cause {
    let limits = Limits {
        job,
        prepare: None,
        get_sources: None,
        script: None,
        after_script: job,
        retry_waits: Vec::new(),
    };
    stopped(reason, &limits)
}

/// The cause of a job that was stopped.
pub(crate) fn stopped(reason: StopReason, limits: &Limits) -> Cause {
    match reason {
        StopReason::Canceled => Cause::Canceled,
        StopReason::Aborted => Cause::Aborted,
        StopReason::Interrupted { signal } => Cause::Interrupted {
            signal: match signal {
                2 => "interrupt".to_owned(),
                3 => "quit".to_owned(),
                15 => "terminated".to_owned(),
                other => format!("signal {other}"),
            },
        },
        StopReason::JobTimeout => Cause::JobTimeout { limit: limits.job },
        StopReason::PrepareTimeout => Cause::PrepareTimeout {
            limit: limits.prepare.unwrap_or(limits.job),
        },
        StopReason::GetSourcesTimeout => Cause::GetSourcesTimeout {
            limit: limits.get_sources.unwrap_or(limits.job),
        },
        StopReason::ScriptTimeout | StopReason::AfterScriptTimeout => Cause::ScriptTimeout,
    }
}

fn limit(memory: i64) -> String {
    if memory > 0 {
        format!(", limit {} MiB", memory / (1024 * 1024))
    } else {
        String::new()
    }
}
