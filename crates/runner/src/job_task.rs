//! One job from the server's answer to its last removed object, and the same from its journal after a restart.

use std::{sync::Arc, time::Duration};

use gantry_config::RunnerConfig;
use gantry_executor::{
    Accepted, ExecutorError, Job, Progress, Record, Verdict, Wish, conclude, unix_ms,
};
use gantry_gitlab::{
    Coordinator, JobCalls, JobCredentials, JobUpdate, ReceivedJob, ServerWish, TraceUpload,
    UpdateAnswer, UploadSettings, Verdict as FinalState,
};
use gantry_job::{Cause, FailureReason, FeatureFlag, FeatureFlags, Masks, Variable};
use gantry_journal::{JobFolder, Journal, JournalError};
use gantry_plan::{ArtifactsAt, Inputs, LogPlan, Plan, Sources};
use gantry_trace::{Clock, JobTrace, Level, Phrase, TraceError, TraceOptions};
use rand::Rng as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Phase,
    engines::EngineSettings,
    neighbours,
    observe::{Event, Happened, JobFacts, ObservedJob},
    origin::{Origin, OriginError},
    outbox,
    session::{Offer, OpenSession},
    shared::{Counted, Listed, Shared, key},
    slots::{Slot, TakenNumbers},
};

mod end;
mod secrets;
mod terminal;

use end::{
    REMOVE_PAUSE, deliver_in_slot, drop_job, final_state, log_end, note_delivered, remove_folder,
    remove_objects,
};

/// A job's resources in this process; freed one after the other as the job ends.
pub(crate) struct Claim {
    pub(crate) slot: Option<Slot>,
    pub(crate) counted: Option<Counted>,
    pub(crate) numbers: TakenNumbers,
}

/// A job with its folder open. It is boxed: the futures that pass it on hold a pointer each instead of five kilobytes.
struct OpenJob {
    origin: Origin,
    runner: Arc<RunnerConfig>,
    credentials: JobCredentials,
    coordinator: Coordinator,
    folder: JobFolder,
    journal: Journal<Record>,
    trace: JobTrace,
    /// Without plan, secrets and origin, which are beside it: copies of it go to the executor and must be small.
    progress: Progress,
    /// As variables; `None` until they are resolved.
    secrets: Option<Vec<Variable>>,
    plan: Option<Arc<Plan>>,
    log: LogPlan,
    listed: Listed,
    observed: ObservedJob,
    /// Where its terminal is connected to, until it has a verdict.
    session: Option<OpenSession>,
    started: std::time::Instant,
}

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
    let claim = Claim {
        slot: Some(slot),
        counted: Some(counted),
        numbers,
    };
    let has_session = offer.is_some();
    let created = create(
        &shared,
        &runner,
        &coordinator,
        received,
        &claim,
        listed,
        has_session,
    );
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
    received: ReceivedJob,
    claim: &Claim,
    listed: Listed,
    has_session: bool,
) -> Result<Box<OpenJob>, OpenError> {
    let numbers = claim.numbers.get();
    let mut origin = Origin::of(received, runner, numbers, has_session)?;
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
    let waited = claim.slot.as_ref().map(Slot::waited).unwrap_or_default();
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
    let claim = Claim {
        slot: running.then(|| shared.slots.take_over()),
        counted: if running {
            shared.counts.try_add(&unique_id, None)
        } else {
            None
        },
        numbers: shared
            .numbers
            .take_back(&unique_id, project, origin.numbers()),
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

/// Brings the job to its end, unless the process detaches from it.
async fn work(shared: Arc<Shared>, open: Box<OpenJob>, claim: Claim) {
    let journal = open.journal.clone();
    let job_id = open.origin.payload.id;
    tokio::select! {
        () = bring_to_its_end(Arc::clone(&shared), open, claim) => {}
        _ = shared.phase_is(Phase::leaves_jobs) => {
            // The next process shall not take this for a crash.
            if let Err(error) = journal.append(&Record::Detached).await {
                warn!(job = job_id, %error, "that the job is left running cannot be written down");
            }
        }
    }
}

/// Runs the job to its verdict while its log goes out, delivers the verdict, removes everything.
async fn bring_to_its_end(shared: Arc<Shared>, mut open: Box<OpenJob>, claim: Claim) {
    let payload = &open.origin.payload;
    let job_id = payload.id;
    info!(
        job = job_id,
        project = payload.job_info.project_id,
        pipeline_id = payload.job_info.pipeline_id,
        runner = open.runner.short_token(),
        runner_name = open.runner.name,
        repo_url = job_web_url(&open),
        "Added job to processing list"
    );
    let (wishes, wish) = watch::channel(Wish::Run);
    let settings = UploadSettings {
        debug_trace: open.log.debug_trace,
        dynamic_keepalive: dynamic_keepalive(&open),
        budget: shared.budget.clone(),
        ..UploadSettings::default()
    };
    let mut upload = TraceUpload::new(
        open.coordinator.clone(),
        open.credentials.clone(),
        Arc::new(open.trace.clone()),
        settings,
        // Part of the log may not have survived a loss of power.
        open.folder.sent().min(open.trace.len()),
    );
    let note_sent = note_sent(open.folder.clone(), upload.sent());
    let server = upload.wishes();
    open.observed.tell(Happened::Uploading {
        written: open.trace.subscribe(),
        sent: upload.sent(),
    });
    let stop_upload = CancellationToken::new();
    let known = open.progress.verdict.is_some();
    let verdict = if let (Some(verdict), true) = (&open.progress.verdict, open.progress.delivered) {
        verdict.clone()
    } else {
        let run = run(&shared, &mut open, wish);
        let escalate = escalate(&shared, &wishes, server);
        let result = tokio::select! {
            (verdict, _) = async {
                // The log ends with the verdict, and what is left of it goes out at once; failures are left to the final update.
                tokio::join!(run, upload.run(&stop_upload))
            } => verdict,
            () = escalate => unreachable!("escalation goes on to the end of the job"),
            () = note_sent => unreachable!("it goes on to the end of the job"),
        };
        match result {
            Ok(verdict) => verdict,
            Err(error) => {
                // The disk says no. The folder stays, and the next start takes the job up; its objects stay its own until then.
                error!(job = job_id, %error, "the job cannot go on in this process; the next start takes it up");
                shared.left_behind.keep(open.listed, claim.numbers);
                return;
            }
        }
    };
    drop(open.session.take());
    log_end(&open, &verdict);
    if !known {
        let cause = verdict.cause.as_ref();
        open.observed.tell(Happened::Ended { cause });
    }
    let Claim {
        slot,
        counted,
        numbers,
    } = claim;
    let mut undelivered = None;
    if !open.progress.delivered {
        let state = final_state(&open, &verdict);
        let outcome = match &slot {
            Some(_) => deliver_in_slot(&open, &mut upload, &state).await,
            None => None,
        };
        match outcome {
            Some(_) => note_delivered(&mut open, outcome, false).await,
            None => {
                open.observed.tell(Happened::Outbox);
                undelivered = Some(state);
            }
        }
    }
    drop((slot, counted));
    let remove = async {
        remove_objects(&shared, &open).await;
        drop(numbers);
    };
    match undelivered {
        None => remove.await,
        Some(state) => {
            // What the job made need not wait for a server that is away.
            let left = outbox::time_left(verdict.ended_ms, unix_ms());
            let deliver = outbox::deliver(&mut upload, &state, left);
            let (outcome, ()) = tokio::join!(deliver, remove);
            note_delivered(&mut open, outcome, true).await;
        }
    }
    remove_folder(&shared, open);
}

/// Plans if need be, and walks the plan.
async fn run(
    shared: &Shared,
    open: &mut OpenJob,
    wish: watch::Receiver<Wish>,
) -> Result<Verdict, ExecutorError> {
    if let Some(verdict) = &open.progress.verdict {
        return Ok(verdict.clone());
    }
    for (number, line) in open.log.header.iter().enumerate() {
        open.trace
            .line_once(&format!("header{number}"), Level::Print, line);
    }
    if open.plan.is_none()
        && let Some(cause) = refusal(shared, open)
    {
        return conclude(&open.journal, &open.trace, Some(cause)).await;
    }
    if let Err(cause) = secrets::resolve(shared, open, &wish).await? {
        return conclude(&open.journal, &open.trace, Some(cause)).await;
    }
    match prepare_job(shared, open).await? {
        Ok(job) => job.run(wish).await,
        Err(cause) => conclude(&open.journal, &open.trace, Some(cause)).await,
    }
}

/// What the job asks for in vain.
fn refusal(shared: &Shared, open: &OpenJob) -> Option<Cause> {
    let ignore = shared.config.borrow().gantry.ignore_unsupported.clone();
    gantry_plan::refusal(&open.origin.payload, |keyword| ignore.allows(keyword))
}

/// The job as the executor takes it, or why it cannot be started.
async fn prepare_job(
    shared: &Shared,
    open: &mut OpenJob,
) -> Result<Result<Job, Cause>, ExecutorError> {
    let settings = EngineSettings::of(&open.runner.docker);
    let access = match shared.engines.get(&settings).await {
        Ok(access) => access,
        Err(error) if open.plan.is_some() && error.is_unreachable() => {
            // A job that runs is not lost because the engine comes up later than the runner.
            match wait_for_engine(shared, open, &settings).await {
                Ok(access) => access,
                Err(cause) => return Ok(Err(cause)),
            }
        }
        Err(error) => return Ok(Err(engine_cause(&settings, &error))),
    };
    let plan = match &open.plan {
        Some(plan) => Arc::clone(plan),
        None => {
            let tls = open.origin.tls();
            let inputs = Inputs {
                payload: &open.origin.payload,
                runner: &open.runner,
                host: &shared.host,
                engine: &access.facts,
                numbers: open.origin.numbers(),
                seed: rand::rng().random(),
                tls: &tls,
                correlation_id: Some(&open.origin.correlation_id),
                sources: Sources::Git,
                secrets: open.secrets.as_deref().unwrap_or(&[]),
                artifacts: ArtifactsAt::Server,
            };
            match gantry_plan::plan(&inputs) {
                Ok(plan) => {
                    let record = Record::Planned(Box::new(plan));
                    open.journal.append(&record).await?;
                    let Record::Planned(plan) = record else {
                        unreachable!("it was just made")
                    };
                    let plan = Arc::new(*plan);
                    log_images(open, &plan);
                    open.observed.tell(Happened::Planned(&plan));
                    open.plan = Some(Arc::clone(&plan));
                    plan
                }
                Err(cause) => return Ok(Err(cause)),
            }
        }
    };
    Ok(Ok(executor_job(shared, open, plan, access)))
}

/// `FF_LOG_IMAGES_CONFIGURED_FOR_JOB`: the images that the job itself names, in the process log (docker-executor §3.8).
fn log_images(open: &OpenJob, plan: &Plan) {
    if !plan
        .script
        .flags
        .is_on(FeatureFlag::LogImagesConfiguredForJob)
    {
        return;
    }
    let payload = &open.origin.payload;
    let job = payload.id;
    let tell = |message: &str, image: &gantry_plan::PlannedImage| {
        let image_name = open.log.masks.hide(&image.reference);
        match &image.platform {
            Some(image_platform) => info!(job, image_name, image_platform, "{message}"),
            None => info!(job, image_name, "{message}"),
        }
    };
    if payload
        .image
        .as_ref()
        .is_some_and(|image| !image.name.is_empty())
    {
        tell("Image configured for job", &plan.build.image);
    }
    // Services of the configuration come after those of the job.
    for service in plan.services.iter().take(payload.services.len()) {
        tell("Service image configured for job", &service.container.image);
    }
}

fn executor_job(
    shared: &Shared,
    open: &OpenJob,
    plan: Arc<Plan>,
    access: gantry_executor::EngineAccess,
) -> Job {
    Job {
        plan,
        journal: open.journal.clone(),
        trace: open.trace.clone(),
        progress: open.progress.clone(),
        access,
        environment: shared.environment.clone(),
        working_tree: None,
        artifacts: None,
        caches: shared.caches.get(&open.runner),
        observer: open.observed.executor(),
        terminal: open.session.as_ref().map(OpenSession::port),
    }
}

async fn wait_for_engine(
    shared: &Shared,
    open: &OpenJob,
    settings: &EngineSettings,
) -> Result<gantry_executor::EngineAccess, Cause> {
    let deadline = open
        .progress
        .accepted
        .as_ref()
        .map_or(0, |accepted| accepted.deadline_ms);
    let mut pause = Duration::from_millis(100);
    loop {
        match shared.engines.get(settings).await {
            Ok(access) => return Ok(access),
            Err(error) if error.is_unreachable() && unix_ms() < deadline => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            Err(error) => return Err(engine_cause(settings, &error)),
        }
    }
}

fn engine_cause(settings: &EngineSettings, error: &gantry_engine::EngineError) -> Cause {
    match error {
        gantry_engine::EngineError::Setup(message) => Cause::Configuration {
            message: message.clone(),
        },
        _ => Cause::EngineUnreachable {
            endpoint: settings
                .host
                .clone()
                .unwrap_or_else(|| "the default endpoint".to_owned()),
            message: error.to_string(),
        },
    }
}

/// Writes down how far the log was sent, for the next process. Never returns.
async fn note_sent(folder: JobFolder, mut sent: watch::Receiver<u64>) {
    while sent.changed().await.is_ok() {
        folder.note_sent(*sent.borrow_and_update());
    }
    std::future::pending::<()>().await;
}

/// Turns what the server wants and what the process does into wishes of the job. Never returns.
async fn escalate(
    shared: &Shared,
    wishes: &watch::Sender<Wish>,
    mut server: watch::Receiver<ServerWish>,
) {
    let mut phase = shared.phase.clone();
    loop {
        let wish = match (*phase.borrow_and_update(), &*server.borrow_and_update()) {
            (_, ServerWish::Abort(_)) => Wish::Abort,
            (Phase::Forceful { signal }, _) => Wish::Interrupt { signal },
            (_, ServerWish::Cancel) => Wish::Cancel,
            (_, ServerWish::Run) => Wish::Run,
        };
        wishes.send_if_modified(|old| std::mem::replace(old, wish) != wish);
        tokio::select! {
            Ok(()) = phase.changed() => {}
            Ok(()) = server.changed() => {}
            else => std::future::pending().await,
        }
    }
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

fn phrases(masks: &Masks) -> impl Iterator<Item = Phrase> {
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

fn dynamic_keepalive(open: &OpenJob) -> bool {
    let variables = open.origin.payload.variables.iter().cloned().collect();
    FeatureFlags::resolve(&open.runner.feature_flags, &variables)
        .0
        .is_on(FeatureFlag::UseDynamicTraceForceSendInterval)
}

fn job_web_url(open: &OpenJob) -> String {
    gantry_plan::job_url(&open.origin.payload)
}
