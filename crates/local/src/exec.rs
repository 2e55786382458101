//! One run: all jobs of a pipeline, from the first to the last removed container.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use gantry_engine::{EngineError, ListFilter, SharedEngine, events::EventHub};
use gantry_executor::{EngineAccess, Environment};
use gantry_job::Variable;
use gantry_pipeline::{JobFacts, LocalRun, Pipeline, Problem};
use gantry_plan::{HostFacts, PullPolicy, STATE_LABEL};
use rand::Rng as _;
use tokio::{io::AsyncWrite, sync::watch, time::timeout};

use crate::{
    ArtifactsError, Checkout, Report, StateError, Stop, Style, Tree, TreeError,
    artifacts::{self, Artifacts},
    caches, leftovers,
    output::Printer,
    state::{DeadRun, RunState},
};

mod course;
mod follow;
mod job;
mod prepare;

use course::Course;
use prepare::{PlannedJob, Preparation};

/// What takes longer is told.
const QUIET: Duration = Duration::from_secs(2);

/// Everything a run needs.
pub struct Setup {
    /// The jobs.
    pub pipeline: Pipeline,
    /// The working copy.
    pub checkout: Checkout,
    /// What the person wants.
    pub options: RunOptions,
    /// The engine.
    pub engine: SharedEngine,
    /// What jobs share besides it.
    pub environment: Environment,
    /// Facts of the process; `state_id` is not used.
    pub host: HostFacts,
    /// Folder below which runs keep their state; made if need be.
    pub state: PathBuf,
    /// Folder below which artifacts are kept per project; made if need be.
    pub store: PathBuf,
    /// Now, ISO 8601 in UTC.
    pub started_at: String,
    /// Where people read. Written to by a task of its own.
    pub output: Box<dyn AsyncWrite + Send + Unpin>,
    /// Form of the output.
    pub style: Style,
    /// How the run is stopped.
    pub stop: watch::Receiver<Stop>,
}

/// What the person wants.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Most jobs side by side.
    pub at_once: NonZeroUsize,
    /// For all images, whatever the file says; none: as the file says, else if not present.
    pub pull_policy: Option<PullPolicy>,
    /// Image of jobs that name none.
    pub image: Option<String>,
    /// Variables that win over all others.
    pub variables: Vec<Variable>,
    /// Longest time of a job.
    pub timeout: Option<Duration>,
    /// Containers get extended privileges.
    pub privileged: bool,
    /// Folder that gets the artifacts, one folder per job; none: one below [`Setup::store`].
    pub artifacts: Option<PathBuf>,
    /// Jobs of later stages run although an earlier one failed, but for those that need it.
    pub keep_going: bool,
}

/// Why no job was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The engine does not answer, or not as it should.
    #[error(
        "no container engine answers at {endpoint}: {}",
        without_endpoint(error)
    )]
    Engine {
        /// Where it was expected.
        endpoint: String,
        /// Why.
        error: EngineError,
    },
    /// The working tree cannot be listed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no place for artifacts.
    #[error(transparent)]
    Artifacts(#[from] ArtifactsError),
    /// Jobs that can be read and not run.
    #[error("{}", describe(.0))]
    Jobs(Vec<JobProblem>),
    /// Stopped before anything was made.
    #[error("stopped before anything was started")]
    Stopped,
}

/// Why a job cannot be run.
#[derive(Debug, Clone)]
pub struct JobProblem {
    /// Name of the job.
    pub job: String,
    /// Place of the job: `file:line`.
    pub place: String,
    /// What is wrong; a lower-case fragment.
    pub message: String,
    /// The same with the line of the file.
    pub problem: Problem,
}

/// The endpoint is named already.
fn without_endpoint(error: &EngineError) -> String {
    match error {
        EngineError::Unreachable { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

fn describe(problems: &[JobProblem]) -> String {
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| {
            format!(
                "{}: job `{}`: {}",
                problem.place, problem.job, problem.message
            )
        })
        .collect();
    lines.join("\n")
}

/// What all jobs of the run share.
pub(crate) struct Shared {
    state: RunState,
    access: EngineAccess,
    environment: Environment,
    tree: Tree,
    printer: Printer,
    artifacts: Arc<Artifacts>,
}

/// Runs the pipeline to its end, its log going to the output, and removes everything it made.
/// [`Stop::Now`] ends it in the middle.
///
/// # Errors
/// When no job could be started.
pub async fn run(setup: Setup) -> Result<Report, RunError> {
    let mut stop = setup.stop.clone();
    let (printer, writing) = Printer::start(setup.output);
    let style = setup.style;
    let starting = start(StartingPoint {
        pipeline: &setup.pipeline,
        checkout: &setup.checkout,
        options: &setup.options,
        engine: setup.engine,
        environment: setup.environment,
        host: setup.host,
        state: setup.state,
        store: setup.store,
        started_at: setup.started_at,
        printer: printer.clone(),
    });
    let stopped = async { stop.wait_for(|stop| *stop != Stop::Run).await.is_ok() };
    let started = tokio::select! {
        biased;
        true = stopped => Err(RunError::Stopped),
        started = starting => started,
    };
    let (shared, preparation, jobs) = match started {
        Ok(started) => started,
        Err(error) => {
            drop(printer);
            writing.end().await;
            return Err(error);
        }
    };
    let course = Course::new(setup.pipeline, style, shared, preparation, jobs, stop);
    let report = course.run().await;
    if report.stop != Stop::Now {
        printer.print(report.summary(style).into_bytes()).await;
        drop(printer);
        writing.end().await;
    }
    Ok(report)
}

struct StartingPoint<'a> {
    pipeline: &'a Pipeline,
    checkout: &'a Checkout,
    options: &'a RunOptions,
    engine: SharedEngine,
    environment: Environment,
    host: HostFacts,
    state: PathBuf,
    store: PathBuf,
    started_at: String,
    printer: Printer,
}

/// Finds out everything that can be wrong before anything is made.
async fn start(
    point: StartingPoint<'_>,
) -> Result<(Shared, Preparation, Vec<Option<PlannedJob>>), RunError> {
    let printer = point.printer;
    let endpoint = point.engine.host().to_owned();
    let unreachable = |error| RunError::Engine {
        endpoint: endpoint.clone(),
        error,
    };
    let waiting = format!("Waiting for the engine at {endpoint} ...");
    let facts = patiently(&printer, &waiting, point.engine.facts()).await;
    let facts = facts.map_err(unreachable)?;
    let listing = Tree::list(point.checkout);
    let tree = patiently(
        &printer,
        "Listing the files of the working tree ...",
        listing,
    )
    .await?;

    let jobs = point.pipeline.jobs.len();
    let (state, dead) = RunState::open(&point.state, &endpoint, jobs, random_id)?;
    if !dead.is_empty() {
        let removal = remove_dead(&point.engine, dead, &printer);
        patiently(&printer, "Removing what an earlier run left ...", removal).await;
    }
    let project = artifacts::project_name(&point.checkout.root);
    let home = point.store.join(&project);
    let artifacts = Artifacts::open(
        state.folder.path(),
        state.folder.id(),
        home,
        point.options.artifacts.clone(),
    );
    let artifacts = match artifacts {
        Ok(artifacts) => {
            artifacts.sweep(|run| point.state.join(run).exists());
            Arc::new(artifacts)
        }
        Err(error) => {
            state.remove();
            return Err(error.into());
        }
    };
    let run = LocalRun {
        git: point.checkout.git.clone(),
        project: point.checkout.project.clone(),
        variables: point.options.variables.clone(),
        timeout: point.options.timeout,
        key_hashes: caches::key_hashes(point.pipeline, point.checkout).await,
    };
    let job_facts = JobFacts {
        job_id: state.numbers.first_job,
        pipeline_id: state.numbers.pipeline,
        pipeline_iid: state.numbers.pipeline,
        started_at: point.started_at,
        ..JobFacts::default()
    };
    let cache = caches::volume(&project);
    let preparation = Preparation {
        run,
        facts: job_facts,
        options: point.options.clone(),
        cache_volume: cache.name.clone(),
        host: HostFacts {
            state_id: state.folder.id().to_owned(),
            ..point.host
        },
        engine: facts.clone(),
    };
    let jobs = match preparation.jobs(point.pipeline, || rand::rng().random()) {
        Ok(jobs) => jobs,
        Err(problems) => {
            state.remove();
            return Err(RunError::Jobs(problems));
        }
    };
    if point.pipeline.jobs.iter().any(|job| !job.cache.is_empty()) {
        // With its label, by which it is found when it is to be cleared.
        let made = point.engine.volume_create(&cache).await;
        if let Err(error) = made.map_err(unreachable) {
            state.remove();
            return Err(error);
        }
    }
    let filter = ListFilter {
        labels: [(STATE_LABEL.to_owned(), state.folder.id().to_owned())].into(),
        name: None,
    };
    let access = EngineAccess {
        events: EventHub::new(Arc::clone(&point.engine), filter),
        engine: point.engine,
        facts,
    };
    let shared = Shared {
        state,
        access,
        environment: point.environment,
        tree,
        printer,
        artifacts,
    };
    Ok((shared, preparation, jobs))
}

/// A state id: 16 hexadecimal digits.
fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Tells what is being waited for if it takes long.
async fn patiently<T>(printer: &Printer, what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    match timeout(QUIET, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            printer.line(what).await;
            work.await
        }
    }
}

async fn remove_dead(engine: &SharedEngine, dead: Vec<DeadRun>, printer: &Printer) {
    for run in dead {
        match leftovers::remove(engine, run.id()).await {
            Ok(0) => run.remove(),
            Ok(count) => {
                run.remove();
                let text = format!(
                    "Removed {count} containers, networks and volumes that an earlier run left"
                );
                printer.line(&text).await;
            }
            Err(error) => {
                let text = format!("What an earlier run left cannot be removed yet: {error}");
                printer.line(&text).await;
            }
        }
    }
}
