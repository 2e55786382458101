//! The end of a job whose payload cannot be read. Left alone, the server would hand it out again and again.

use std::sync::Arc;

use gantry_gitlab::{
    Coordinator, JobCalls as _, JobCredentials, JobUpdate, RunnerInfo, TraceExtent, TracePatch,
    UnreadableJob, UpdateAnswer, Verdict,
};
use gantry_job::FailureReason;
use tracing::warn;

/// Fails the job at the server, with the reason as its log, if at least its id and token could be read.
pub(crate) async fn refuse(
    coordinator: &Coordinator,
    unreadable: UnreadableJob,
    info: Arc<RunnerInfo>,
) {
    let Some((id, token)) = unreadable.credentials else {
        warn!("a job without readable id and token is left to the server");
        return;
    };
    let job = JobCredentials { id, token, info };
    // A server takes no log and no end of a job that was not accepted (two-phase commit).
    let accepted = coordinator.update_job(&job, &JobUpdate::accept()).await;
    if matches!(accepted.answer, UpdateAnswer::Aborted(_)) {
        return;
    }
    let log = log(&unreadable.error);
    let patch = TracePatch {
        offset: 0,
        bytes: log.clone().into(),
        debug_trace: false,
    };
    coordinator.patch_trace(&job, patch).await;
    let verdict = Verdict::failed(FailureReason::RunnerSystemFailure, 0);
    let output = TraceExtent::of(log.as_bytes());
    coordinator
        .update_job(&job, &JobUpdate::finished(&verdict, Some(output)))
        .await;
}

/// The whole log, coloured as the last line of a job's log is.
fn log(error: &str) -> String {
    format!("\x1b[31;1mERROR: Job failed (system failure): {error}\x1b[0;m\n")
}
