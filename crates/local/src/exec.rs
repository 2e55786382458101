//! One run: all jobs of a pipeline, from the first to the last removed container.

use std::{collections::HashMap, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use gantry_engine::{EngineError, ListFilter, SharedEngine, events::EventHub};
use gantry_executor::{EngineAccess, Environment, Wish};
use gantry_job::Variable;
use gantry_pipeline::{JobFacts, LocalRun, Pipeline};
use gantry_plan::{HostFacts, PullPolicy, STATE_LABEL};
use rand::Rng as _;
use tokio::{
    io::AsyncWrite,
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::{
    Checkout, JobReport, JobState, Report, Schedule, StateError, Stop, Style, Tree, TreeError,
    leftovers,
    output::{JobLines, Label, Paint, Printer},
    state::{DeadRun, RunState},
    stop::SIGPIPE,
};

mod follow;
mod job;
mod prepare;

use job::{Ended, JobRun};
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
    /// Jobs that can be read and not run.
    #[error("{}", describe(.0))]
    Jobs(Vec<JobProblem>),
    /// Stopped before anything was made.
    #[error("stopped before anything was started")]
    Stopped,
}

/// Why a job cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProblem {
    /// Name of the job.
    pub job: String,
    /// Place of the job: `file:line`.
    pub place: String,
    /// What is wrong; a lower-case fragment.
    pub message: String,
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
        started_at: setup.started_at,
        printer: printer.clone(),
    });
    let stopped = async { stop.wait_for(|stop| *stop != Stop::Run).await.is_ok() };
    let started = tokio::select! {
        biased;
        true = stopped => Err(RunError::Stopped),
        started = starting => started,
    };
    let (shared, jobs) = match started {
        Ok(started) => started,
        Err(error) => {
            drop(printer);
            writing.end().await;
            return Err(error);
        }
    };
    let shared = Arc::new(shared);
    let names = setup.pipeline.jobs.iter().map(|job| job.name.as_str());
    let course = Course {
        schedule: Schedule::new(&setup.pipeline, setup.options.at_once),
        waiting: jobs.into_iter().map(Some).collect(),
        labels: Label::of_jobs(names, style),
        reports: setup
            .pipeline
            .jobs
            .iter()
            .map(|job| JobReport {
                name: job.name.clone(),
                stage: job.stage.clone(),
                state: JobState::Created,
                why: None,
                took: None,
            })
            .collect(),
        running: JoinSet::new(),
        by_task: HashMap::new(),
        removals: JoinSet::new(),
        all_gone: true,
        wishes: watch::Sender::new(Wish::Run),
        stop,
        shared,
        style,
    };
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
    started_at: String,
    printer: Printer,
}

/// Finds out everything that can be wrong before anything is made.
async fn start(point: StartingPoint<'_>) -> Result<(Shared, Vec<PlannedJob>), RunError> {
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
    let run = LocalRun {
        git: point.checkout.git.clone(),
        project: point.checkout.project.clone(),
        variables: point.options.variables.clone(),
        timeout: point.options.timeout,
    };
    let job_facts = JobFacts {
        job_id: state.numbers.first_job,
        pipeline_id: state.numbers.pipeline,
        pipeline_iid: state.numbers.pipeline,
        started_at: point.started_at,
    };
    let preparation = Preparation {
        run: &run,
        facts: job_facts,
        options: point.options,
        host: HostFacts {
            state_id: state.folder.id().to_owned(),
            ..point.host
        },
        engine: &facts,
    };
    let jobs = match preparation.jobs(point.pipeline, || rand::rng().random()) {
        Ok(jobs) => jobs,
        Err(problems) => {
            state.remove();
            return Err(RunError::Jobs(problems));
        }
    };
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
    };
    Ok((shared, jobs))
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

/// A run on its way.
struct Course {
    schedule: Schedule,
    /// By job: what was planned, until it starts.
    waiting: Vec<Option<PlannedJob>>,
    labels: Vec<Label>,
    reports: Vec<JobReport>,
    running: JoinSet<Ended>,
    by_task: HashMap<Id, usize>,
    removals: JoinSet<bool>,
    /// So far, of what was to be removed.
    all_gone: bool,
    wishes: watch::Sender<Wish>,
    stop: watch::Receiver<Stop>,
    shared: Arc<Shared>,
    style: Style,
}

impl Course {
    async fn run(mut self) -> Report {
        let began = Instant::now();
        let mut done = self.jobs().await;
        let took = began.elapsed();
        done = done && self.remove_rest().await;
        let stop = *self.stop.borrow();
        if done {
            self.leave().await;
        }
        self.explain();
        Report {
            status: if done {
                self.schedule.status()
            } else {
                crate::PipelineStatus::Running
            },
            jobs: self.reports,
            took,
            stop,
            left_behind: !self.all_gone || !done,
        }
    }

    /// All jobs to their ends; false if it is to be left at once.
    async fn jobs(&mut self) -> bool {
        loop {
            for job in self.schedule.start() {
                self.start(job);
            }
            if self.running.is_empty() {
                return true;
            }
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    let (task, ended) = match ended {
                        Ok((task, ended)) => (task, ended),
                        Err(error) => (error.id(), Ended::crashed(&error)),
                    };
                    self.ended(task, ended);
                }
                Some(gone) = self.removals.join_next() => self.all_gone &= gone.unwrap_or(false),
                stop = next_stop(&mut self.stop) => if !self.stopping(stop).await { return false },
                () = self.shared.printer.closed(), if *self.wishes.borrow() == Wish::Run => {
                    self.stop_jobs(Wish::Interrupt { signal: SIGPIPE });
                }
            }
        }
    }

    fn start(&mut self, job: usize) {
        // Each is started once.
        let (Some(planned), Some(label)) = (self.waiting[job].take(), self.labels.get(job)) else {
            return;
        };
        let run = JobRun {
            shared: Arc::clone(&self.shared),
            planned,
            wishes: self.wishes.subscribe(),
            lines: JobLines::new(label.clone()),
        };
        let task = self.running.spawn(run.run());
        self.by_task.insert(task.id(), job);
    }

    fn ended(&mut self, task: Id, ended: Ended) {
        let Some(job) = self.by_task.remove(&task) else {
            return;
        };
        let report = &mut self.reports[job];
        report.took = Some(ended.took);
        report.why = ended.why;
        self.schedule.finish(job, ended.end);
        match ended.made {
            // The next job need not wait for this.
            Some(made) => {
                self.removals.spawn(made.remove());
            }
            None => self.all_gone = false,
        }
    }

    /// Obeys; false if it is to be left at once.
    async fn stopping(&mut self, stop: Stop) -> bool {
        let text = match stop {
            Stop::Run => return true,
            Stop::Now => return false,
            Stop::Cancel => {
                "Canceling: scripts are stopped, after_script runs, then everything is removed. Ctrl-C again leaves at once"
            }
            Stop::Interrupt { .. } => {
                "Stopping: scripts are stopped, then everything is removed. One more signal leaves at once"
            }
        };
        let text = self.style.paint(Paint::Odd, text);
        self.stop_jobs(stop.wish());
        self.shared.printer.line(&text).await;
        true
    }

    fn stop_jobs(&mut self, wish: Wish) {
        self.schedule.cancel();
        self.wishes.send_replace(wish);
    }

    /// Waits for the removals; false if it is to be left at once.
    async fn remove_rest(&mut self) -> bool {
        let quiet = sleep(QUIET);
        tokio::pin!(quiet);
        let mut told = false;
        loop {
            tokio::select! {
                gone = self.removals.join_next() => match gone {
                    Some(gone) => self.all_gone &= gone.unwrap_or(false),
                    None => return true,
                },
                stop = next_stop(&mut self.stop) => if stop == Stop::Now { return false },
                () = &mut quiet, if !told => {
                    told = true;
                    let text = self.style.paint(Paint::Dim, "Removing containers, networks and volumes ...");
                    self.shared.printer.line(&text).await;
                }
            }
        }
    }

    /// Deletes the state folder, unless something is left that it must remember.
    async fn leave(&mut self) {
        let state = &self.shared.state;
        if !self.all_gone {
            // A job that could not say what it made.
            match leftovers::remove(&self.shared.access.engine, state.folder.id()).await {
                Ok(_) => self.all_gone = true,
                Err(error) => tracing::warn!(%error, "objects of this run are left"),
            }
        }
        if self.all_gone {
            state.remove();
        }
    }

    /// Fills in states, and why jobs did not run.
    fn explain(&mut self) {
        for (job, report) in self.reports.iter_mut().enumerate() {
            report.state = self.schedule.state(job);
        }
        let failed: Vec<_> = self
            .reports
            .iter()
            .filter(|job| matches!(job.state, JobState::Failed | JobState::Canceled))
            .filter(|job| job.took.is_some())
            .map(|job| format!("`{}`", job.name))
            .collect();
        let why = match failed.as_slice() {
            [one] => format!("{one} failed"),
            [one, two] => format!("{one} and {two} failed"),
            [one, rest @ ..] => format!("{one} and {} others failed", rest.len()),
            [] => "an earlier stage failed".to_owned(),
        };
        for report in &mut self.reports {
            match report.state {
                JobState::Skipped => report.why = Some(why.clone()),
                JobState::Canceled if report.took.is_none() => {
                    report.why = Some("not started".to_owned());
                }
                _ => {}
            }
        }
    }
}

/// The next change; never if there is nobody who could stop the run.
async fn next_stop(stop: &mut watch::Receiver<Stop>) -> Stop {
    match stop.changed().await {
        Ok(()) => *stop.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}
