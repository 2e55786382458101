//! The end of a job: the verdict is delivered, what the job made is removed, its folder goes last.

use std::{sync::Arc, time::Duration};

use gantry_executor::{Record, Verdict};
use gantry_gitlab::{Coordinator, FinalOutcome, FinalPolicy, TraceUpload, Verdict as FinalState};
use gantry_job::{JobState, Outcome};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Claim, OpenJob, executor_job};
use crate::{engines::EngineSettings, observe::Happened, shared::Shared};

/// Pause between two rounds of removing what the engine will not let go.
pub(super) const REMOVE_PAUSE: Duration = Duration::from_secs(60);

/// The verdict in the words of the server that gave the job.
pub(super) fn final_state(open: &OpenJob, verdict: &Verdict) -> FinalState {
    let known = &open.origin.payload.features.failure_reasons;
    let outcome = match &verdict.cause {
        None => Outcome::Success,
        Some(cause) => Outcome::Failed(cause.clone()),
    };
    FinalState::of(&outcome, known)
}

/// Delivers the verdict within the retry limit, while the slot is held; `None` if that was not enough.
pub(super) async fn deliver_in_slot(
    open: &OpenJob,
    upload: &mut TraceUpload<Coordinator>,
    state: &FinalState,
) -> Option<FinalOutcome> {
    let policy = FinalPolicy::slot(open.runner.job_status_final_update_retry_limit);
    let stop = CancellationToken::new();
    let outcome = upload.final_update(state, &policy, &stop).await;
    if let FinalOutcome::GaveUp { why } = &outcome {
        let kind = if state.state == JobState::Success {
            "Success"
        } else {
            "Fail"
        };
        error!(
            job = open.origin.payload.id,
            why, "Job trace termination {kind:?} failed; delivery goes on in the background"
        );
    }
    outcome.is_settled().then_some(outcome)
}

/// Writes down that nothing is left to deliver. Without an outcome the verdict was given up.
pub(super) async fn note_delivered(
    open: &mut OpenJob,
    outcome: Option<FinalOutcome>,
    by_outbox: bool,
) {
    let job_id = open.origin.payload.id;
    open.observed.tell(Happened::Settled {
        outcome: outcome.as_ref(),
        by_outbox,
    });
    match outcome {
        None => error!(
            job = job_id,
            "the verdict could not be delivered within 24 h and is given up"
        ),
        Some(FinalOutcome::Closed(reason)) => info!(
            job = job_id,
            ?reason,
            "the server wants nothing more of the job"
        ),
        Some(_) => {}
    }
    if let Err(error) = open.journal.append(&Record::Delivered).await {
        warn!(job = job_id, %error, "that the verdict was delivered cannot be written down; it may be sent again");
    }
    open.progress.delivered = true;
}

/// Removes what the job made, however long the engine takes.
pub(super) async fn remove_objects(shared: &Shared, open: &OpenJob) {
    let Some(plan) = &open.plan else {
        return;
    };
    let settings = EngineSettings::of(&open.runner.docker);
    loop {
        if let Ok(access) = shared.engines.get(&settings).await
            && executor_job(shared, open, Arc::clone(plan), access)
                .remove()
                .await
        {
            return;
        }
        warn!(
            job = open.origin.payload.id,
            "objects of the job are still there; trying again in a minute"
        );
        tokio::time::sleep(REMOVE_PAUSE).await;
    }
}

/// Removes the folder: from now on nothing is known of the job.
pub(super) fn remove_folder(shared: &Shared, open: Box<OpenJob>) {
    let job_id = open.origin.payload.id;
    if let Err(error) = open.folder.remove() {
        warn!(job = job_id, %error, "the job's folder cannot be removed");
    }
    info!(
        job = job_id,
        builds = shared.slots.used(),
        max_builds = shared.slots.limit(),
        "Removed job from processing list"
    );
    drop(open.listed);
}

/// The server took the job away while no process looked: stop and remove, report nothing.
pub(super) async fn drop_job(shared: &Shared, open: Box<OpenJob>, claim: Claim) {
    if let Some(plan) = open.plan.clone() {
        let settings = EngineSettings::of(&open.runner.docker);
        if let Ok(access) = shared.engines.get(&settings).await {
            executor_job(shared, &open, plan, access).stop().await;
        }
    }
    drop((claim.slot, claim.counted));
    remove_objects(shared, &open).await;
    remove_folder(shared, open);
    drop(claim.numbers);
}

/// The end of the job in the process log.
pub(super) fn log_end(open: &OpenJob, verdict: &Verdict) {
    let job = open.origin.payload.id;
    let duration_s = open.started.elapsed().as_secs_f64();
    match &verdict.cause {
        None => info!(job, duration_s, "Job succeeded"),
        Some(cause) => {
            let exit_code = cause.exit_code().unwrap_or(0);
            let failure_reason = cause.reason().as_str();
            warn!(
                job,
                duration_s,
                failure_reason,
                exit_code,
                "Job failed: {}",
                open.log.masks.hide(&cause.message())
            );
        }
    }
}
