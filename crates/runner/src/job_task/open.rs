//! The beginning of a job: a received one is written down and confirmed, one of an earlier process is opened again.

use std::{sync::Arc, time::Duration};

use gantry_config::RunnerConfig;
use gantry_executor::{Accepted, Progress, Record, unix_ms};
use gantry_gitlab::{
    Coordinator, JobCalls as _, JobCredentials, JobUpdate, ReceivedJob, UpdateAnswer,
    Verdict as FinalState,
};
use gantry_job::{FailureReason, Masks};
use gantry_journal::{JobFolder, Journal, JournalError};
use gantry_plan::LogPlan;
use gantry_trace::{Clock, JobTrace, Phrase, TraceError, TraceOptions};
use tracing::{error, info, warn};

use super::{
    Claim, OpenJob,
    end::{REMOVE_PAUSE, drop_job},
    terminal, work,
};
use crate::{
    engines::EngineSettings,
    neighbours,
    observe::{Event, Happened, JobFacts},
    origin::{Origin, OriginError},
    outbox,
    session::Offer,
    shared::{Counted, Listed, Shared, key},
    slots::Slot,
};

/// Why a job's folder cannot be used.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Client(#[from] gantry_gitlab::ClientError),
    #[error("the journal begins without an acceptance")]
    NotAccepted,
}

impl OpenError {
    fn is_no_space(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_no_space(),
            Self::Trace(error) => matches!(error, TraceError::DiskFull { .. }),
            Self::Origin(_) | Self::Client(_) | Self::NotAccepted => false,
        }
    }
}

/// Takes a received job: journal first, then the server's confirmation, then the work.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    runner: Arc<RunnerConfig>,
    coordinator: Coordinator,
    received: ReceivedJob,
    slot: Slot,
    counted: Counted,
    offer: Option<Offer>,
) {
    let job_id = received.job.id;
    let key = key(runner.short_token(), job_id);
    let Some(listed) = shared.jobs.add_new(&key) else {
        // The server gave it up and out again, while its last containers are still being removed or its calls come through again.
        // What is not confirmed goes back to the queue.
        warn!(
            job = job_id,
            "the job was handed out again while it is still here, and is not taken a second time"
        );
        return;
    };
    let project = received.job.job_info.project_id;
    let neighbours = {
        let settings = EngineSettings::of(&runner.docker);
        neighbours::look(&shared, &settings, runner.short_token(), project).await
    };
    let numbers = shared
        .numbers
        .take(&runner.unique_id(), project, &neighbours);
    let credentials = JobCredentials::of(&received.job, shared.info(&runner));
    let has_session = offer.is_some();
    let created = async {
        let origin = Origin::of(received, &runner, numbers.get(), has_session)?;
        create(
            &shared,
            &runner,
            &coordinator,
            origin,
            slot.waited(),
            listed,
        )
        .await
    };
    let mut open = match created.await {
        Ok(open) => open,
        Err(error) if error.is_no_space() => {
            // What is not confirmed goes back to the queue, as for a runner that died here.
            error!(job = job_id, %error, "the disk of the state folder is full: the job is left to other runners");
            return;
        }
        Err(error) => {
            error!(job = job_id, %error, "the job cannot be written down and is refused");
            let verdict = FinalState::failed(FailureReason::RunnerSystemFailure, 0);
            coordinator
                .update_job(&credentials, &JobUpdate::finished(&verdict, None))
                .await;
            return;
        }
    };
    let reply = coordinator
        .update_job(&open.credentials, &JobUpdate::accept())
        .await;
    if let UpdateAnswer::Aborted(reason) = &reply.answer {
        info!(
            job = job_id,
            ?reason,
            "the server took the job back before it began"
        );
        forget(&open);
        return;
    }
    if reply.canceling {
        // Nothing was begun; the reason is sent as it is (coordinator-api §7.1).
        let verdict = FinalState::failed(FailureReason::JobCanceled, 0);
        coordinator
            .update_job(&open.credentials, &JobUpdate::finished(&verdict, None))
            .await;
        forget(&open);
        return;
    }
    open.session = terminal::open(&shared, &open, offer);
    let claim = Claim {
        slot: Some(slot),
        counted: Some(counted),
        numbers: Some(numbers),
    };
    work(shared, open, claim).await;
}

/// A job that an earlier process left, with all that it owns: listed, its slot and its numbers taken.
pub(crate) struct Found {
    open: Box<OpenJob>,
    claim: Claim,
}

/// Opens the folder of a job that an earlier process left; `None` if there is no job to go on with.
pub(crate) async fn find(shared: &Shared, folder: JobFolder) -> Option<Found> {
    let key = folder.key();
    match reopen(shared, folder.clone()).await {
        Ok(Some((open, claim))) => return Some(Found { open, claim }),
        Ok(None) => folder
            .remove()
            .unwrap_or_else(|error| warn!(%error, "an empty job folder stays")),
        Err(error) => {
            let first = folder.first_record::<Record>();
            match shared.state.set_aside(&folder) {
                Ok(place) => {
                    shared.observer.tell(&Event::SetAside);
                    error!(job = key, %error, place = %place.display(), "a damaged job was set aside");
                }
                Err(aside) => error!(job = key, %error, %aside, "a damaged job stays where it is"),
            }
            if let Some(Record::Accepted(accepted)) = first {
                report_damaged(shared, &accepted);
            }
        }
    }
    None
}

/// Tells the server, in the background, that a job cannot be brought to its end: it would wait for the job's time to run out.
fn report_damaged(shared: &Shared, accepted: &Accepted) {
    let giver = Origin::from_journal(&accepted.origin)
        .and_then(|origin| Ok((origin.runner()?, origin)))
        .map_err(OpenError::from)
        .and_then(|(runner, origin)| {
            let credentials = JobCredentials::of(&origin.payload, shared.info(&runner));
            Ok((shared.coordinator(&runner, None)?, credentials))
        });
    let (coordinator, credentials) = match giver {
        Ok(giver) => giver,
        Err(error) => {
            warn!(%error, "the server cannot be told of the damaged job");
            return;
        }
    };
    let left = outbox::time_left(None, unix_ms());
    shared.tasks.spawn(tokio::time::timeout(left, async move {
        let verdict = FinalState::failed(FailureReason::RunnerSystemFailure, 0);
        let update = JobUpdate::finished(&verdict, None);
        while let UpdateAnswer::Failed(why) =
            coordinator.update_job(&credentials, &update).await.answer
        {
            warn!(job = credentials.id, %why, "the server cannot be told of the damaged job yet");
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
    }));
}

/// Goes on with a job that an earlier process left.
pub(crate) async fn take_up(shared: Arc<Shared>, found: Found) {
    let Found { open, claim } = found;
    info!(
        job = open.origin.payload.id,
        "taking up a job of an earlier process"
    );
    if open.progress.verdict.is_none() {
        if open.origin.has_session {
            terminal::tell_gone(&open);
        }
        let reply = open
            .coordinator
            .update_job(&open.credentials, &JobUpdate::accept())
            .await;
        if let UpdateAnswer::Aborted(reason) = &reply.answer {
            info!(
                job = open.origin.payload.id,
                ?reason,
                "the server no longer wants the job"
            );
            drop_job(&shared, open, claim).await;
            return;
        }
    }
    work(shared, open, claim).await;
}

async fn create(
    shared: &Shared,
    runner: &Arc<RunnerConfig>,
    coordinator: &Coordinator,
    mut origin: Origin,
    waited: Duration,
    listed: Listed,
) -> Result<Box<OpenJob>, OpenError> {
    let numbers = origin.numbers();
    let log = gantry_plan::log_plan(&origin.payload, runner, &shared.host, numbers, &[]);
    let folder = shared.state.create_job(listed.key())?;
    let (journal, record, trace) =
        match write_down(&folder, &origin, &log, origin.payload.timeout()).await {
            Ok(written) => written,
            Err(error) => {
                // Half a folder must not be taken for a job of this process by the next one.
                if let Err(error) = folder.remove() {
                    warn!(job = origin.payload.id, %error, "the job's folder cannot be removed");
                }
                return Err(error);
            }
        };
    origin.forget_runner();
    let place = folder.path().to_owned();
    let facts = JobFacts::of(&origin.payload, runner, unix_ms(), waited, place);
    let observed = shared.observer.job(facts);
    observed.tell(Happened::Taken);
    let mut progress = Progress::of([record]);
    forget_origin(&mut progress);
    Ok(Box::new(OpenJob {
        credentials: JobCredentials::of(&origin.payload, shared.info(runner)),
        coordinator: coordinator.clone(),
        runner: Arc::clone(runner),
        origin,
        folder,
        journal,
        trace,
        progress,
        secrets: None,
        plan: None,
        log,
        listed,
        observed,
        session: None,
        started: std::time::Instant::now(),
    }))
}

/// The job's first record, on the disk, and its log.
async fn write_down(
    folder: &JobFolder,
    origin: &Origin,
    log: &LogPlan,
    timeout: Duration,
) -> Result<(Journal<Record>, Record, JobTrace), OpenError> {
    let (journal, _) = folder.journal::<Record>()?;
    let now = unix_ms();
    let accepted = Accepted {
        origin: origin.to_journal()?,
        log: log.clone(),
        accepted_ms: now,
        deadline_ms: now.saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    let record = Record::Accepted(Box::new(accepted));
    journal.append_synced(&record).await?;
    let trace = JobTrace::create(folder.path(), trace_options(log))?;
    Ok((journal, record, trace))
}

async fn reopen(
    shared: &Shared,
    folder: JobFolder,
) -> Result<Option<(Box<OpenJob>, Claim)>, OpenError> {
    let (journal, records) = folder.journal::<Record>()?;
    if records.is_empty() {
        // The process died before the acceptance was written; the server has taken the job back.
        return Ok(None);
    }
    let mut progress = Progress::of(records);
    let Some(accepted) = &progress.accepted else {
        return Err(OpenError::NotAccepted);
    };
    let mut log = accepted.log.clone();
    let accepted_ms = accepted.accepted_ms;
    let mut origin = Origin::from_journal(&accepted.origin)?;
    forget_origin(&mut progress);
    let plan = progress.plan.take().map(Arc::new);
    let secrets = progress.secrets.take();
    let runner = Arc::new(origin.take_runner()?);
    let listed = shared.jobs.add(&folder.key());
    if let Some(secrets) = &secrets {
        log.masks.clone_from(&secrets.masks);
    }
    let (trace, opened) = JobTrace::open(folder.path(), trace_options(&log))?;
    if opened.records_lost > 0 {
        warn!(
            job = origin.payload.id,
            records = opened.records_lost,
            "part of the job log was not on the disk: the machine lost power"
        );
    }
    if !progress.delivered && progress.verdict.is_none() {
        journal.append(&Record::Resumed).await?;
        progress.add(Record::Resumed);
    }
    let coordinator = shared.coordinator(&runner, None)?;
    let unique_id = runner.unique_id();
    let project = origin.payload.job_info.project_id;
    let running = progress.verdict.is_none();
    let stopped = progress
        .verdict
        .as_ref()
        .is_some_and(|verdict| verdict.stopped);
    let claim = Claim {
        slot: running.then(|| shared.slots.take_over()),
        counted: if running {
            shared.counts.try_add(&unique_id, None)
        } else {
            None
        },
        numbers: (!stopped).then(|| {
            let numbers = origin.numbers();
            shared.numbers.take_back(&unique_id, project, numbers)
        }),
    };
    let place = folder.path().to_owned();
    let facts = JobFacts::of(&origin.payload, &runner, accepted_ms, Duration::ZERO, place);
    let observed = shared.observer.job(facts);
    observed.tell(Happened::TakenUp {
        progress: &progress,
        plan: plan.as_deref(),
    });
    let open = Box::new(OpenJob {
        credentials: JobCredentials::of(&origin.payload, shared.info(&runner)),
        coordinator,
        runner,
        origin,
        folder,
        journal,
        trace,
        progress,
        secrets: secrets.map(|secrets| secrets.variables),
        plan,
        log,
        listed,
        observed,
        session: None,
        started: std::time::Instant::now(),
    });
    Ok(Some((open, claim)))
}

/// The origin has been read; its JSON form need not stay in memory for the life of the job.
fn forget_origin(progress: &mut Progress) {
    if let Some(accepted) = &mut progress.accepted {
        accepted.origin = serde_json::Value::Null;
    }
}

fn forget(open: &OpenJob) {
    if let Err(error) = open.folder.remove() {
        warn!(job = open.origin.payload.id, %error, "the job's folder cannot be removed");
    }
}

pub(super) fn phrases(masks: &Masks) -> impl Iterator<Item = Phrase> {
    masks
        .phrases
        .iter()
        .map(|phrase| Phrase::secret(phrase.as_bytes()))
}

fn trace_options(log: &LogPlan) -> TraceOptions {
    TraceOptions {
        phrases: phrases(&log.masks).collect(),
        token_prefixes: log.masks.token_prefixes.clone(),
        timestamps: log.timestamps,
        sections: log.sections,
        limit_bytes: log.limit_bytes,
        clock: Clock::system(),
    }
}
