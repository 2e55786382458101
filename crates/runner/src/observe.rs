//! The one seam of observation: parts of the service tell what happens ([`Event`]), and two listeners take it down. The [`Board`]
//! knows how things stand now and is always there; [`Metrics`] count, and exist only while somebody can read them.
//!
//! Nothing in the service depends on what is told. To count something new: a variant here, told once where it happens, and a line
//! in `metrics`.

mod address;
mod board;
mod gauges;
mod metrics;
mod pages;
mod serve;
mod status;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use gantry_config::{Config, RunnerConfig};
use gantry_executor::{JobObserver, Progress};
use gantry_gitlab::{CallObserver, CallRecord, FinalOutcome};
use gantry_job::{Cause, FeatureFlag, FeatureFlags, JobPayload, inputs::InterpolationError};
use gantry_plan::Plan;
use gantry_trace::TraceProgress;
use tokio::{sync::watch, time::Instant};

use crate::{Phase, limits::Tally};

pub(crate) use address::bind;
pub use address::{AddressError, ListenAddress};
pub use serve::{Listeners, StatusListener, bind_status};
pub use status::{
    JobStatusLine, RunnerStatusLine, STATUS_SOCKET, StatusError, StatusReport, fetch_status,
};

pub(crate) use board::Board;
pub(crate) use metrics::{Metrics, OwnVersion};
pub(crate) use pages::Pages;
pub(crate) use serve::serve;

/// Lines of the process log by level, for the errors metric. Counted by whoever writes the log.
#[derive(Debug, Default)]
pub struct LogCounts {
    warnings: AtomicU64,
    errors: AtomicU64,
}

impl LogCounts {
    /// No lines yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            warnings: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// A line at level warning.
    pub fn warning(&self) {
        self.warnings.fetch_add(1, Ordering::Relaxed);
    }

    /// A line at level error.
    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Lines so far: warnings, errors.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.warnings), of(&self.errors))
    }
}

/// Something happened in the service.
pub(crate) enum Event<'a> {
    /// What an earlier process left is taken up, and polling begins.
    Ready,
    /// A signal changed the phase.
    Phase(Phase),
    /// A configuration became active.
    ConfigLoaded(&'a Config),
    /// A changed configuration could not be used.
    ConfigRefused,
    /// A renewed token was written into the configuration file, or could not be.
    ConfigSaved {
        /// Whether it stands in the file now.
        saved: bool,
    },
    /// A polling loop of a runner entry does this from now on.
    Polling {
        runner: &'a RunnerConfig,
        /// Number of the loop among those of the entry.
        number: usize,
        doing: Doing,
    },
    /// A polling loop ended.
    PollingEnded {
        runner: &'a RunnerConfig,
        number: usize,
    },
    /// A polling loop waited so long for a free slot.
    SlotWaited(Duration),
    /// A job request was answered, or failed.
    Answered {
        runner: &'a RunnerConfig,
        /// Greatest number of requests at once as the answers so far make it.
        adaptive: usize,
    },
    /// The answer, or the want of a client, counts against the runner's health.
    Unhealthy { runner: &'a RunnerConfig },
    /// A round of the sweep on one engine ended.
    Swept {
        removed: Removed,
        failed: Removed,
        took: Duration,
    },
    /// Leftovers of one engine could not be looked for.
    SweepFailed,
    /// The folder of a damaged job was set aside.
    SetAside,
    /// Something happened to a job.
    Job {
        job: &'a Arc<JobFacts>,
        /// Tells this sight of the job from every other of the process.
        number: u64,
        happened: Happened<'a>,
    },
}

/// What a polling loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// A request is on its way, or held by the server.
    Requesting,
    /// All slots of the process are in use.
    WaitingForSlot,
    /// The runner's own `limit` is reached.
    WaitingForLimit,
    /// Nothing until then.
    Resting { until: Instant, why: Why },
}

/// Why a polling loop rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// `check_interval`.
    Interval,
    /// The runner was refused too often.
    Unhealthy,
    /// The disk of the state folder is full.
    DiskFull,
    /// The adaptive limit on requests at once leaves this loop out.
    HeldBack,
}

/// Objects of an engine by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) containers: u64,
    pub(crate) networks: u64,
    pub(crate) volumes: u64,
}

impl Removed {
    pub(crate) fn sum(self) -> u64 {
        self.containers + self.networks + self.volumes
    }
}

/// Something happened to a job.
pub(crate) enum Happened<'a> {
    /// It was taken from the server and written down.
    Taken,
    /// An earlier process left it.
    TakenUp {
        progress: &'a Progress,
        plan: Option<&'a Plan>,
    },
    /// What will be made is known.
    Planned(&'a Plan),
    /// The executor says.
    Executor(&'a gantry_executor::JobEvent<'a>),
    /// Its log goes out from now on.
    Uploading {
        written: watch::Receiver<TraceProgress>,
        sent: watch::Receiver<u64>,
    },
    /// Somebody connected to its terminal, or left it.
    Terminal { connected: bool },
    /// There is a verdict; `None` is success.
    Ended { cause: Option<&'a Cause> },
    /// The verdict could not be delivered while the slot was held, and goes out in the background.
    Outbox,
    /// The verdict is delivered or given up; without an outcome: given up after a day.
    Settled {
        outcome: Option<&'a FinalOutcome>,
        by_outbox: bool,
    },
    /// Nobody looks any more: its folder is gone, or the process lets go of it.
    Left,
}

/// What labels tell runners apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunnerLabels {
    /// Short token.
    pub(crate) runner: String,
    /// `name`.
    pub(crate) name: String,
}

impl RunnerLabels {
    pub(crate) fn of(runner: &RunnerConfig) -> Self {
        Self {
            runner: runner.short_token().to_owned(),
            name: runner.name.clone(),
        }
    }
}

/// What does not change about a job.
#[derive(Debug, Clone)]
pub(crate) struct JobFacts {
    pub(crate) id: i64,
    pub(crate) runner: RunnerLabels,
    /// Its page.
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) pipeline: i64,
    /// When the runner took it.
    pub(crate) accepted: SystemTime,
    /// How long the runner had waited for the slot that the job got.
    pub(crate) slot_wait: Duration,
    /// How long it had waited on the server then.
    pub(crate) queued: Duration,
    /// `project_jobs_running_on_instance_runners_count`, a text.
    pub(crate) project_jobs_running: String,
    /// Longer than `[runners.monitoring]` accepts.
    pub(crate) waited_too_long: bool,
    /// Into how many texts its inputs went.
    pub(crate) inputs: Result<usize, InterpolationError>,
    pub(crate) queue_size: i64,
    pub(crate) queue_depth: i64,
    /// Native steps instead of scripts.
    pub(crate) steps: bool,
    /// `FF_EXPORT_HIGH_CARDINALITY_METRICS`.
    pub(crate) stage_durations: bool,
    pub(crate) folder: PathBuf,
}

impl JobFacts {
    pub(crate) fn of(
        payload: &JobPayload,
        runner: &RunnerConfig,
        accepted_ms: u64,
        slot_wait: Duration,
        folder: PathBuf,
    ) -> Self {
        let info = &payload.job_info;
        let queued = Duration::try_from_secs_f64(info.time_in_queue_seconds).unwrap_or_default();
        let flags = FeatureFlags::of_runner(&runner.feature_flags);
        let jobs_running = &info.project_jobs_running_on_instance_runners_count;
        Self {
            id: payload.id,
            runner: RunnerLabels::of(runner),
            url: gantry_plan::job_url(payload),
            name: info.name.clone(),
            project: info.project_full_path.clone(),
            pipeline: info.pipeline_id,
            accepted: SystemTime::UNIX_EPOCH + Duration::from_millis(accepted_ms),
            slot_wait,
            queued,
            project_jobs_running: jobs_running.clone(),
            waited_too_long: gantry_config::waited_too_long(
                &runner.job_queuing_durations,
                SystemTime::now(),
                queued,
                jobs_running,
            ),
            inputs: interpolated(payload, runner),
            queue_size: info.queue_size,
            queue_depth: info.queue_depth,
            steps: payload.run.is_some(),
            stage_durations: flags.is_on(FeatureFlag::ExportHighCardinalityMetrics),
            folder,
        }
    }

    /// Label `mode`.
    pub(crate) fn mode(&self) -> &'static str {
        if self.steps { "steps" } else { "traditional" }
    }

    /// How long the runner has had it.
    pub(crate) fn age(&self) -> Duration {
        self.accepted.elapsed().unwrap_or_default()
    }
}

/// Tries what planning the job does as well: a plan is not the place for figures.
fn interpolated(payload: &JobPayload, runner: &RunnerConfig) -> Result<usize, InterpolationError> {
    if payload.inputs.is_empty() {
        return Ok(0);
    }
    let variables = payload.variables.iter().cloned().collect();
    let (flags, _) = FeatureFlags::resolve(&runner.feature_flags, &variables);
    gantry_job::inputs::interpolate(&mut payload.clone(), &flags)
}

/// Takes events down.
pub(crate) struct Observer {
    pub(crate) board: Board,
    pub(crate) metrics: Option<Metrics>,
    jobs_seen: AtomicU64,
    pub(crate) tally: watch::Sender<Tally>,
}

impl Observer {
    /// Nothing has happened yet. Without `metrics` nothing is counted.
    pub(crate) fn new(metrics: Option<Metrics>) -> Self {
        Self {
            board: Board::default(),
            metrics,
            jobs_seen: AtomicU64::new(0),
            tally: watch::Sender::default(),
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        self.board.take(event);
        if let Some(metrics) = &self.metrics {
            metrics.take(event);
        }
    }

    /// A job as what it tells is taken down.
    pub(crate) fn job(self: &Arc<Self>, facts: JobFacts) -> ObservedJob {
        self.tally.send_modify(|tally| {
            tally.taken += 1;
            tally.present += 1;
        });
        ObservedJob(Arc::new(Told {
            observer: Arc::clone(self),
            facts: Arc::new(facts),
            number: self.jobs_seen.fetch_add(1, Ordering::Relaxed),
        }))
    }
}

impl CallObserver for Observer {
    fn call_ended(&self, record: &CallRecord) {
        if let Some(metrics) = &self.metrics {
            metrics.call_ended(record);
        }
    }
}

/// A job that somebody looks at. It is forgotten when the last clone is dropped, however the job's task ended.
#[derive(Clone)]
pub(crate) struct ObservedJob(Arc<Told>);

struct Told {
    observer: Arc<Observer>,
    facts: Arc<JobFacts>,
    number: u64,
}

impl ObservedJob {
    pub(crate) fn tell(&self, happened: Happened<'_>) {
        self.0.tell(happened);
    }

    /// What the executor is given.
    pub(crate) fn executor(&self) -> JobObserver {
        let job = self.clone();
        JobObserver::new(move |event| job.tell(Happened::Executor(event)))
    }
}

impl Told {
    fn tell(&self, happened: Happened<'_>) {
        self.observer.tell(&Event::Job {
            job: &self.facts,
            number: self.number,
            happened,
        });
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Happened::Left);
        let tally = &self.observer.tally;
        tally.send_modify(|tally| tally.present = tally.present.saturating_sub(1));
    }
}
