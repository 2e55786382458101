//! How things stand now: runners with what their polling loops do, jobs with where they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gantry_config::Config;
use gantry_executor::{Activity, Progress, Step};
use gantry_job::{Cause, FailureReason, Stage};
use gantry_plan::{Plan, StageWork};
use gantry_trace::TraceProgress;
use tokio::{sync::watch, time::Instant};

use super::{Doing, Event, Happened, JobFacts, RunnerLabels, Why};
use crate::Phase;

/// The board.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
}

/// What is written on it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) ready: bool,
    pub(crate) phase: Phase,
    pub(crate) runners: BTreeMap<RunnerLabels, RunnerRow>,
    /// By the number of the sight, which is their order.
    pub(crate) jobs: BTreeMap<u64, JobRow>,
}

/// A runner of the configuration.
pub(crate) struct RunnerRow {
    /// Its place in the file.
    pub(crate) place: usize,
    pub(crate) url: String,
    pub(crate) limit: Option<usize>,
    /// `request_concurrency`.
    pub(crate) hard: usize,
    /// The same as answers made it.
    pub(crate) adaptive: usize,
    /// What its polling loops do, by number.
    pub(crate) loops: BTreeMap<usize, Doing>,
}

/// A job of this process.
pub(crate) struct JobRow {
    pub(crate) facts: Arc<JobFacts>,
    pub(crate) recovered: bool,
    pub(crate) state: &'static str,
    pub(crate) stage: Stage,
    pub(crate) executor_stage: &'static str,
    pub(crate) course: Course,
    /// Name of the build container.
    pub(crate) container: Option<String>,
    /// Somebody is connected to its terminal.
    pub(crate) terminal: bool,
    log: Option<Log>,
}

struct Log {
    written: watch::Receiver<TraceProgress>,
    sent: watch::Receiver<u64>,
}

/// Where a job is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// It is prepared, or runs.
    Running,
    /// It has a verdict, which goes out while the slot is held.
    Delivering,
    /// The verdict goes out in the background.
    Outbox,
    /// The verdict is out; what the job made is removed.
    Removing,
}

impl Course {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Delivering => "delivering",
            Self::Outbox => "outbox",
            Self::Removing => "removing",
        }
    }
}

impl Board {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, event: &Event<'_>) {
        let mut state = self.lock();
        match event {
            Event::Ready => state.ready = true,
            Event::Phase(phase) => state.phase = *phase,
            Event::ConfigLoaded(config) => state.set_runners(config),
            Event::Polling {
                runner,
                number,
                doing,
            } => {
                if let Some(row) = state.runners.get_mut(&RunnerLabels::of(runner)) {
                    row.loops.insert(*number, *doing);
                }
            }
            Event::PollingEnded { runner, number } => {
                if let Some(row) = state.runners.get_mut(&RunnerLabels::of(runner)) {
                    row.loops.remove(number);
                }
            }
            Event::Answered {
                runner, adaptive, ..
            } => {
                if let Some(row) = state.runners.get_mut(&RunnerLabels::of(runner)) {
                    row.adaptive = *adaptive;
                }
            }
            Event::Job {
                job,
                number,
                happened,
            } => state.job(job, *number, happened),
            Event::ConfigRefused
            | Event::ConfigSaved { .. }
            | Event::SlotWaited(_)
            | Event::Unhealthy { .. }
            | Event::Swept { .. }
            | Event::SweepFailed
            | Event::SetAside => {}
        }
    }
}

impl State {
    /// `starting`, `running`, `graceful-shutdown` …: the peer's words (cli §6), and `detaching`.
    pub(crate) fn process_state(&self) -> &'static str {
        match self.phase {
            Phase::Running if !self.ready => "starting",
            Phase::Running => "running",
            Phase::Graceful => "graceful-shutdown",
            Phase::Forceful { .. } | Phase::Forced { .. } => "forceful-shutdown",
            Phase::Detached => "detaching",
        }
    }

    /// Jobs of a runner.
    pub(crate) fn jobs_of<'a>(
        &'a self,
        runner: &'a RunnerLabels,
    ) -> impl Iterator<Item = &'a JobRow> {
        self.jobs
            .values()
            .filter(move |job| job.facts.runner == *runner)
    }

    fn set_runners(&mut self, config: &Config) {
        let mut old = std::mem::take(&mut self.runners);
        for (place, runner) in config.usable_runners().enumerate() {
            let labels = RunnerLabels::of(runner);
            let loops = old.remove(&labels).map(|row| row.loops).unwrap_or_default();
            self.runners.entry(labels).or_insert(RunnerRow {
                place,
                url: runner.url.clone(),
                limit: runner.limit,
                hard: runner.request_concurrency,
                adaptive: 1,
                loops,
            });
        }
    }

    fn job(&mut self, facts: &Arc<JobFacts>, number: u64, happened: &Happened<'_>) {
        match happened {
            Happened::Taken => {
                self.jobs.insert(number, JobRow::new(facts));
            }
            Happened::TakenUp { progress, plan } => {
                let row = JobRow::taken_up(facts, progress, *plan);
                self.jobs.insert(number, row);
            }
            Happened::Left => {
                self.jobs.remove(&number);
            }
            other => {
                if let Some(row) = self.jobs.get_mut(&number) {
                    row.take(other);
                }
            }
        }
    }
}

impl RunnerRow {
    /// Requests on their way.
    pub(crate) fn requests(&self) -> usize {
        let requesting = |doing: &&Doing| matches!(doing, Doing::Requesting);
        self.loops.values().filter(requesting).count()
    }

    /// What the runner does as a whole, and until when if that is known.
    pub(crate) fn doing(&self, now: Instant) -> (&'static str, Option<Duration>) {
        let rank = |doing: &Doing| match doing {
            Doing::Requesting => 0,
            Doing::WaitingForSlot => 1,
            Doing::WaitingForLimit => 2,
            Doing::Resting { why, .. } => match why {
                Why::Unhealthy => 3,
                Why::DiskFull => 4,
                Why::Interval => 5,
                Why::HeldBack => 6,
            },
        };
        let rest = |until: Instant| Some(until.saturating_duration_since(now));
        match self.loops.values().min_by_key(|doing| rank(doing)) {
            None => ("stopped", None),
            Some(Doing::Requesting) => ("polling", None),
            Some(Doing::WaitingForSlot) => ("waiting-for-slot", None),
            Some(Doing::WaitingForLimit) => ("limit-reached", None),
            Some(Doing::Resting { until, why }) => match why {
                Why::Unhealthy => ("unhealthy", rest(*until)),
                Why::DiskFull => ("disk-full", rest(*until)),
                Why::Interval | Why::HeldBack => ("polling", rest(*until)),
            },
        }
    }
}

impl JobRow {
    fn new(facts: &Arc<JobFacts>) -> Self {
        Self {
            facts: Arc::clone(facts),
            recovered: false,
            state: "pending",
            stage: Stage::PrepareExecutor,
            executor_stage: "created",
            course: Course::Running,
            container: None,
            terminal: false,
            log: None,
        }
    }

    /// A job whose journal says how far it is.
    fn taken_up(facts: &Arc<JobFacts>, progress: &Progress, plan: Option<&Plan>) -> Self {
        let mut row = Self::new(facts);
        row.recovered = true;
        if let Some(plan) = plan {
            row.planned(plan);
            if progress.prepared.is_some() {
                row.prepared();
            }
            let last = progress.stages.keys().next_back();
            if let Some(planned) = last.and_then(|index| plan.stages.get(*index)) {
                row.stage = planned.stage.clone();
            }
        }
        if let Some(verdict) = &progress.verdict {
            row.ended(verdict.cause.as_ref());
            row.course = if progress.delivered {
                Course::Removing
            } else {
                Course::Outbox
            };
        }
        row
    }

    fn take(&mut self, happened: &Happened<'_>) {
        use gantry_executor::JobEvent;
        match happened {
            Happened::Planned(plan) => self.planned(plan),
            Happened::Executor(JobEvent::Doing(activity)) => {
                self.executor_stage = match activity {
                    Activity::CreatingVolumes => "docker_creating_user_volumes",
                    Activity::CreatingServices => "docker_creating_services",
                    Activity::PullingImage => "docker_pulling_image",
                };
            }
            Happened::Executor(JobEvent::Prepared) => self.prepared(),
            Happened::Executor(JobEvent::Stage {
                stage,
                attempt,
                step,
            }) => {
                if *attempt > 0 && !matches!(step, Step::Ended(_)) && self.stage != **stage {
                    self.stage = (*stage).clone();
                }
            }
            Happened::Uploading { written, sent } => {
                self.log = Some(Log {
                    written: written.clone(),
                    sent: sent.clone(),
                });
            }
            Happened::Terminal { connected } => self.terminal = *connected,
            Happened::Ended { cause } => self.ended(*cause),
            Happened::Outbox => self.course = Course::Outbox,
            Happened::Settled { .. } => {
                self.course = Course::Removing;
                self.executor_stage = "docker_cleanup";
            }
            Happened::Taken | Happened::TakenUp { .. } | Happened::Left => {}
        }
    }

    fn planned(&mut self, plan: &Plan) {
        self.executor_stage = "docker_prepare";
        let scripts = |work: &StageWork| matches!(work, StageWork::Script(_));
        if plan.stages.iter().any(|planned| scripts(&planned.work)) {
            self.container = Some(plan.build.name.clone());
        }
    }

    fn prepared(&mut self) {
        self.state = "running";
        self.executor_stage = "docker_run";
    }

    fn ended(&mut self, cause: Option<&Cause>) {
        self.state = match cause.map(Cause::reason) {
            None => "success",
            Some(FailureReason::JobCanceled) => "canceled",
            Some(FailureReason::RunnerInterrupted) => "terminated",
            Some(FailureReason::JobExecutionTimeout) => "timedout",
            Some(_) => "failed",
        };
        self.executor_stage = "finish";
        self.course = Course::Delivering;
    }

    /// Bytes of the log: written, and of those not yet taken by the server.
    pub(crate) fn log_bytes(&self) -> (u64, u64) {
        match &self.log {
            None => (0, 0),
            Some(log) => {
                let written = log.written.borrow().len;
                (written, written.saturating_sub(*log.sent.borrow()))
            }
        }
    }

    /// Bytes of the journal; 0 when it is gone.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let path = self.facts.folder.join("journal");
        std::fs::metadata(path).map_or(0, |meta| meta.len())
    }
}
