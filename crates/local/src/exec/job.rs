//! One job: journal and log, the executor's work, and its removal.

use std::{sync::Arc, time::Duration};

use gantry_executor::{
    Accepted, ExecutorError, Job, JobObserver, Progress, Record, Verdict, Wish, WorkingTree,
    unix_ms,
};
use gantry_job::Cause;
use gantry_journal::{JobFolder, JournalError};
use gantry_plan::LogPlan;
use gantry_trace::{Clock, JobTrace, Level, Phrase, TraceError, TraceOptions};
use tokio::{sync::watch, task::JoinError, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{PlannedJob, Shared, follow::follow};
use crate::{JobEnd, Submodules, artifacts::JobStore, output::JobLines, sending::Sending};

/// A job about to run.
pub(super) struct JobRun {
    pub(super) shared: Arc<Shared>,
    pub(super) planned: PlannedJob,
    pub(super) wishes: watch::Receiver<Wish>,
    pub(super) lines: JobLines,
    pub(super) artifacts: JobStore,
}

/// A job that ran.
pub(super) struct Ended {
    pub(super) end: JobEnd,
    pub(super) why: Option<String>,
    pub(super) took: Duration,
    /// What it made; none if it got nowhere.
    pub(super) made: Option<Made>,
}

/// What a job made, on the engine and on the disk.
pub(super) struct Made {
    job: Job,
    folder: JobFolder,
}

/// Why a job's folder cannot be used.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Trace(#[from] TraceError),
}

impl JobRun {
    /// Runs the job; its containers are stopped and its log is printed when this returns.
    pub(super) async fn run(self) -> Ended {
        let began = Instant::now();
        let Self {
            shared,
            planned,
            wishes,
            lines,
            artifacts,
        } = self;
        let made = match open(&shared, &planned, artifacts).await {
            Ok(made) => made,
            Err(error) => {
                return Ended {
                    end: JobEnd::Failed { exit_code: None },
                    why: Some(error.to_string()),
                    took: began.elapsed(),
                    made: None,
                };
            }
        };
        let over = CancellationToken::new();
        let run = async {
            let verdict = made.job.run(wishes).await;
            over.cancel();
            verdict
        };
        let printed = follow(&made.job.trace, &over, lines, &shared.printer);
        let (verdict, ()) = tokio::join!(run, printed);
        let (end, why) = judge(verdict);
        Ended {
            end,
            why,
            took: began.elapsed(),
            made: Some(made),
        }
    }
}

async fn open(
    shared: &Shared,
    planned: &PlannedJob,
    artifacts: JobStore,
) -> Result<Made, OpenError> {
    let PlannedJob { plan, log, .. } = planned;
    let folder = shared.state.folder.create_job(&plan.job_id.to_string())?;
    let (journal, _) = folder.journal::<Record>()?;
    let now = unix_ms();
    let limit = u64::try_from(plan.limits.job.as_millis()).unwrap_or(u64::MAX);
    let accepted = Record::Accepted(Box::new(Accepted {
        // Nobody takes a local job up again.
        origin: serde_json::Value::Null,
        log: log.clone(),
        accepted_ms: now,
        deadline_ms: now.saturating_add(limit),
    }));
    journal.append(&accepted).await?;
    journal
        .append(&Record::Planned(Box::new(plan.as_ref().clone())))
        .await?;
    let trace = JobTrace::create(folder.path(), trace_options(log))?;
    let job = Job {
        plan: Arc::clone(plan),
        journal,
        progress: Progress::of([accepted]),
        access: shared.access.clone(),
        environment: shared.environment.clone(),
        working_tree: planned
            .with_tree
            .then(|| working_tree(shared, planned.submodules, &trace)),
        artifacts: Some(Arc::new(artifacts)),
        observer: JobObserver::default(),
        terminal: None,
        caches: None,
        trace,
    };
    Ok(Made { job, folder })
}

fn working_tree(shared: &Shared, submodules: Submodules, trace: &JobTrace) -> WorkingTree {
    let (tree, trace) = (shared.tree.clone(), trace.clone());
    let tree = tree.with_submodules(submodules);
    Arc::new(move || {
        for path in tree.missing_submodules() {
            let text = format!(
                "Submodule {} is not in the working copy, so its folder is empty: `git submodule update --init --recursive` gets it",
                path.display()
            );
            trace.line(Level::Warning, &text);
        }
        Box::pin(Sending::new(tree.archive(), trace.clone()))
    })
}

impl Ended {
    /// A job that could not be planned with what earlier ones handed on to it.
    pub(super) fn not_planned(why: String) -> Self {
        Self {
            end: JobEnd::Failed { exit_code: None },
            why: Some(why),
            took: Duration::ZERO,
            made: None,
        }
    }

    /// A job whose task ended before its time.
    pub(super) fn crashed(error: &JoinError) -> Self {
        Self {
            end: JobEnd::Failed { exit_code: None },
            why: Some(format!("internal error: {error}")),
            took: Duration::ZERO,
            made: None,
        }
    }
}

impl Made {
    /// Removes it; says whether all is gone.
    pub(super) async fn remove(self) -> bool {
        let gone = self.job.remove().await;
        if gone && let Err(error) = self.folder.remove() {
            tracing::warn!(%error, "the job's folder cannot be removed");
        }
        gone
    }
}

/// How the job ended, and why it failed.
fn judge(verdict: Result<Verdict, ExecutorError>) -> (JobEnd, Option<String>) {
    let cause = match verdict {
        Ok(Verdict { cause: None, .. }) => return (JobEnd::Success, None),
        Ok(Verdict {
            cause: Some(cause), ..
        }) => cause,
        Err(error) => error.into_cause(),
    };
    match &cause {
        Cause::Canceled | Cause::Aborted => (JobEnd::Canceled, None),
        Cause::Interrupted { .. } => (JobEnd::Canceled, None),
        other => {
            let exit_code = other.exit_code().map(i64::from);
            (JobEnd::Failed { exit_code }, Some(other.message()))
        }
    }
}

fn trace_options(log: &LogPlan) -> TraceOptions {
    TraceOptions {
        phrases: log
            .masks
            .phrases
            .iter()
            .map(|phrase| Phrase::secret(phrase.as_bytes()))
            .collect(),
        token_prefixes: log.masks.token_prefixes.clone(),
        timestamps: log.timestamps,
        sections: log.sections,
        limit_bytes: log.limit_bytes,
        clock: Clock::system(),
    }
}

#[cfg(test)]
mod tests {
    use gantry_job::JobState;
    use rstest::rstest;

    use super::*;

    fn verdict(cause: Option<Cause>) -> Result<Verdict, ExecutorError> {
        Ok(Verdict {
            state: JobState::Failed,
            cause,
            checksum: 0,
            size: 0,
            ended_ms: None,
            stopped: true,
        })
    }

    #[rstest]
    #[case::fine(None, JobEnd::Success, None)]
    #[case::script(
        Some(Cause::ScriptExit { code: 3 }),
        JobEnd::Failed { exit_code: Some(3) },
        Some("exit code 3")
    )]
    #[case::timeout_has_no_exit_code(
        Some(Cause::ScriptTimeout),
        JobEnd::Failed { exit_code: None },
        Some("script timeout: context deadline exceeded")
    )]
    #[case::canceled(Some(Cause::Canceled), JobEnd::Canceled, None)]
    #[case::interrupted(Some(Cause::Interrupted { signal: "terminated".into() }), JobEnd::Canceled, None)]
    fn the_end_of_a_job_follows_from_its_cause(
        #[case] cause: Option<Cause>,
        #[case] end: JobEnd,
        #[case] why: Option<&str>,
    ) {
        assert_eq!(judge(verdict(cause)), (end, why.map(str::to_owned)));
    }
}
