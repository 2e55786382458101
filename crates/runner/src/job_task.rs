//! One job from the server's answer to its last removed object, and the same from its journal after a restart.

use std::{sync::Arc, time::Duration};

use gantry_config::RunnerConfig;
use gantry_executor::{ExecutorError, Job, Progress, Record, Verdict, Wish, conclude, unix_ms};
use gantry_gitlab::{Coordinator, JobCredentials, ServerWish, TraceUpload, UploadSettings};
use gantry_job::{Cause, FeatureFlag, FeatureFlags, Variable};
use gantry_journal::{JobFolder, Journal};
use gantry_plan::{ArtifactsAt, Inputs, LogPlan, Plan, Sources};
use gantry_trace::{JobTrace, Level};
use rand::Rng as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Phase,
    engines::EngineSettings,
    observe::{Happened, ObservedJob},
    origin::Origin,
    outbox,
    session::OpenSession,
    shared::{Counted, Listed, Shared},
    slots::{Slot, TakenNumbers},
};

mod end;
mod open;
mod secrets;
mod terminal;

use end::{deliver_in_slot, final_state, log_end, note_delivered, remove_folder, remove_objects};

pub(crate) use open::{accept, find, take_up};

/// A job's resources in this process; freed one after the other as the job ends.
pub(crate) struct Claim {
    pub(crate) slot: Option<Slot>,
    pub(crate) counted: Option<Counted>,
    /// `None` once no container of the job runs any more: see [`Verdict::stopped`].
    pub(crate) numbers: Option<TakenNumbers>,
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
        mut numbers,
    } = claim;
    if verdict.stopped {
        // What is left is in nobody's way. The job that the server hands out on this one's report shall find the volumes that are kept
        // for this number, with the cache in them.
        numbers = None;
    }
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
        return give_up(open, cause).await;
    }
    if let Err(cause) = secrets::resolve(shared, open, &wish).await? {
        return give_up(open, cause).await;
    }
    match prepare_job(shared, open).await? {
        Ok(job) => job.run(wish).await,
        Err(cause) => give_up(open, cause).await,
    }
}

/// The end of a job that does not get to the executor.
async fn give_up(open: &OpenJob, cause: Cause) -> Result<Verdict, ExecutorError> {
    // Without a plan nothing was made.
    let stopped = open.plan.is_none();
    conclude(&open.journal, &open.trace, Some(cause), stopped).await
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
    // Services of the configuration come before those of the job.
    let of_configuration = plan.services.len().saturating_sub(payload.services.len());
    for service in &plan.services[of_configuration..] {
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

fn dynamic_keepalive(open: &OpenJob) -> bool {
    let variables = open.origin.payload.variables.iter().cloned().collect();
    FeatureFlags::resolve(&open.runner.feature_flags, &variables)
        .0
        .is_on(FeatureFlag::UseDynamicTraceForceSendInterval)
}

fn job_web_url(open: &OpenJob) -> String {
    gantry_plan::job_url(&open.origin.payload)
}
