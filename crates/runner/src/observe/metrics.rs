//! Counts what is told, under the peer's names and labels (cli §7); what the peer does not have is called `gantry_…`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use gantry_config::{Config, RunnerConfig};
use gantry_executor::{JobEvent, Step};
use gantry_gitlab::{CallRecord, Endpoint, FinalOutcome, Product};
use gantry_job::{Cause, FailureReason, Stage};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use tokio::time::Instant;

use super::{
    Doing, Event, Happened, JobFacts, LogCounts, Removed, RunnerLabels, Why, gauges::Gauges,
};

/// Seconds; the peer's buckets of job durations.
const JOB_BUCKETS: &[f64] = &[
    30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10800.0, 18000.0, 36000.0,
];
/// Seconds; the peer's buckets of queue and stage durations.
const QUEUE_BUCKETS: &[f64] = &[
    1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0,
];
/// Seconds; the peer's buckets of API calls.
const CALL_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds from taking a job to its first script: a trivial job starts in tenths.
const START_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The labels most of the peer's metrics have.
pub(crate) const RUNNER: [&str; 3] = ["runner", "runner_name", "system_id"];

/// Counters and histograms, and the registry that also holds the gauges.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) gauges: Gauges,
    system_id: String,
    jobs: IntCounterVec,
    modes: IntCounterVec,
    durations: HistogramVec,
    queue_durations: HistogramVec,
    queue_size: IntGaugeVec,
    queue_depth: IntGaugeVec,
    waited_too_long: IntCounterVec,
    inputs: IntCounter,
    input_failures: IntCounterVec,
    stage_durations: HistogramVec,
    failed: IntCounterVec,
    concurrency_exceeded: IntCounterVec,
    feeds: IntCounterVec,
    feed_failures: IntCounterVec,
    slot_operations: IntCounterVec,
    processing_failures: IntCounterVec,
    health_failures: IntCounterVec,
    statuses: IntCounterVec,
    call_durations: HistogramVec,
    retries: IntCounterVec,
    loaded: IntCounter,
    not_loaded: IntCounter,
    saved: IntCounter,
    not_saved: IntCounter,
    recovered: IntCounterVec,
    set_aside: IntCounter,
    sweeps: IntCounterVec,
    swept: IntCounterVec,
    not_swept: IntCounterVec,
    outbox: IntCounterVec,
    slot_waits: Histogram,
    queue_delays: HistogramVec,
    start_delays: HistogramVec,
    sweep_durations: Histogram,
    slots: AtomicUsize,
    clocks: Mutex<BTreeMap<u64, Clock>>,
}

/// What is running in a job.
struct Clock {
    stage: Option<(Stage, Instant)>,
    started: bool,
}

/// What this program is, besides the release that it stands for.
pub(crate) struct OwnVersion<'a> {
    pub(crate) version: &'a str,
    /// RFC 3339, or `unknown`.
    pub(crate) built_at: &'a str,
}

/// Makes metrics and puts them into the registry.
pub(crate) struct Making<'a>(pub(crate) &'a Registry);

impl Making<'_> {
    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let made = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let made = IntCounter::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let made = IntGauge::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    pub(crate) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let made = HistogramVec::new(options, labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

impl Metrics {
    /// All metrics, at zero.
    pub(crate) fn new(
        system_id: &str,
        product: &Product,
        own: &OwnVersion<'_>,
        log: Arc<LogCounts>,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Making(&registry);
        let counters = |name: &str, help: &str, labels: &[&str]| make.counters(name, help, labels);
        let metrics = Self {
            gauges: Gauges::new(&make, system_id, product, own, log)?,
            system_id: system_id.to_owned(),
            jobs: counters("gitlab_runner_jobs_total", "Total number of handled jobs", &RUNNER)?,
            modes: counters(
                "gitlab_runner_job_execution_mode_total",
                "Total number of handled jobs by the way they are run",
                &["mode", "executor"],
            )?,
            durations: make.histograms(
                "gitlab_runner_job_duration_seconds",
                "Histogram of job durations",
                &with(&RUNNER, &["mode"]),
                JOB_BUCKETS,
            )?,
            queue_durations: make.histograms(
                "gitlab_runner_job_queue_duration_seconds",
                "A histogram representing job queue duration",
                &with(&RUNNER, &["project_jobs_running"]),
                QUEUE_BUCKETS,
            )?,
            queue_size: make.gauges(
                "gitlab_runner_job_queue_size",
                "Length of the queue that the last job came from",
                &RUNNER,
            )?,
            queue_depth: make.gauges(
                "gitlab_runner_job_queue_depth",
                "Depth of the last job in its queue",
                &RUNNER,
            )?,
            waited_too_long: counters(
                "gitlab_runner_acceptable_job_queuing_duration_exceeded_total",
                "Counts how often jobs waited longer than the acceptable queuing duration of the runner",
                &RUNNER,
            )?,
            inputs: make.counter(
                "gitlab_runner_job_inputs_interpolations_total",
                "Total number of texts that job inputs were put into",
            )?,
            input_failures: counters(
                "gitlab_runner_job_inputs_interpolation_failures_total",
                "Total number of jobs whose inputs could not be put in, by the kind of error",
                &["error_type"],
            )?,
            stage_durations: make.histograms(
                "gitlab_runner_job_stage_duration_seconds",
                "Histogram of the duration of job stages",
                &with(&RUNNER, &["stage"]),
                QUEUE_BUCKETS,
            )?,
            failed: counters(
                "gitlab_runner_failed_jobs_total",
                "Total number of failed jobs",
                &["runner", "runner_name", "failure_reason", "mode"],
            )?,
            concurrency_exceeded: counters(
                "gitlab_runner_request_concurrency_exceeded_total",
                "Count of excess requests above the configured request_concurrency limit",
                &["runner", "system_id"],
            )?,
            feeds: counters(
                "gitlab_runner_worker_feeds_total",
                "Total number of times that a runner was given a turn to ask for a job",
                &RUNNER,
            )?,
            feed_failures: counters(
                "gitlab_runner_worker_feed_failures_total",
                "Total number of turns that a runner could not use because it is unhealthy",
                &RUNNER,
            )?,
            slot_operations: counters(
                "gitlab_runner_worker_slot_operations_total",
                "Total number of job slots added and taken away",
                &["operation"],
            )?,
            processing_failures: counters(
                "gitlab_runner_worker_processing_failures_total",
                "Total number of jobs that failed, by the kind of failure",
                &with(&["failure_type"], &RUNNER),
            )?,
            health_failures: counters(
                "gitlab_runner_worker_health_check_failures_total",
                "Total number of job requests that count against the health of a runner",
                &RUNNER,
            )?,
            statuses: counters(
                "gitlab_runner_api_request_statuses_total",
                "The total number of api requests, partitioned by runner, endpoint and status",
                &["runner", "system_id", "endpoint", "status", "method"],
            )?,
            call_durations: make.histograms(
                "gitlab_runner_api_request_duration_seconds",
                "Latency histogram of api requests, partitioned by runner, endpoint and class of status",
                &["runner", "system_id", "endpoint", "status_class", "method"],
                CALL_BUCKETS,
            )?,
            retries: counters(
                "gitlab_runner_api_request_retries_total",
                "The total number of attempts of api requests",
                &["path", "method"],
            )?,
            loaded: make.counter(
                "gitlab_runner_configuration_loaded_total",
                "Total number of times the configuration file was loaded",
            )?,
            not_loaded: make.counter(
                "gitlab_runner_configuration_loading_error_total",
                "Total number of times the configuration file could not be loaded",
            )?,
            saved: make.counter(
                "gitlab_runner_configuration_saved_total",
                "Total number of times the configuration file was saved",
            )?,
            not_saved: make.counter(
                "gitlab_runner_configuration_saving_error_total",
                "Total number of times the configuration file could not be saved",
            )?,
            recovered: counters(
                "gantry_jobs_recovered_total",
                "Jobs of an earlier process that this one took up",
                &RUNNER,
            )?,
            set_aside: make.counter(
                "gantry_jobs_set_aside_total",
                "Damaged jobs whose folder was set aside at the start",
            )?,
            sweeps: counters(
                "gantry_sweeps_total",
                "Rounds of looking for leftovers on an engine",
                &["result"],
            )?,
            swept: counters(
                "gantry_sweep_removed_total",
                "Leftovers of earlier jobs that were removed",
                &["kind"],
            )?,
            not_swept: counters(
                "gantry_sweep_failures_total",
                "Leftovers of earlier jobs that could not be removed",
                &["kind"],
            )?,
            outbox: counters(
                "gantry_outbox_verdicts_total",
                "Verdicts that left the outbox: delivered, no longer wanted by the server (closed), or given up after a day",
                &["result"],
            )?,
            slot_waits: make.histogram(
                "gantry_slot_wait_seconds",
                "How long runners waited for a free slot of the process before they could ask for a job",
                QUEUE_BUCKETS,
            )?,
            queue_delays: make.histograms(
                "gantry_job_queue_delay_seconds",
                "The part of a job's time in the server's queue during which its runner waited for a free slot of this process",
                &RUNNER,
                QUEUE_BUCKETS,
            )?,
            start_delays: make.histograms(
                "gantry_job_start_delay_seconds",
                "From taking a job to its first script, image pulls and sources included",
                &RUNNER,
                START_BUCKETS,
            )?,
            sweep_durations: make.histogram(
                "gantry_sweep_duration_seconds",
                "How long a round of looking for leftovers took on one engine",
                CALL_BUCKETS,
            )?,
            slots: AtomicUsize::new(0),
            clocks: Mutex::default(),
            registry: registry.clone(),
        };
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process))?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Series exist before the first event, so that rates see it.
    fn start_at_zero(&self) {
        for operation in ["started", "stopped"] {
            self.slot_operations.with_label_values(&[operation]);
        }
        for result in ["ok", "error"] {
            self.sweeps.with_label_values(&[result]);
        }
        for kind in ["container", "network", "volume"] {
            self.swept.with_label_values(&[kind]);
            self.not_swept.with_label_values(&[kind]);
        }
        for result in ["delivered", "closed", "given_up"] {
            self.outbox.with_label_values(&[result]);
        }
        self.modes.with_label_values(&["traditional", "docker"]);
        for error in ["expression", "sensitive"] {
            self.input_failures.with_label_values(&[error]);
        }
    }

    fn labels<'a>(&'a self, runner: &'a RunnerLabels) -> [&'a str; 3] {
        [&runner.runner, &runner.name, &self.system_id]
    }

    pub(crate) fn take(&self, event: &Event<'_>) {
        match event {
            Event::ConfigLoaded(config) => self.config(config),
            Event::ConfigRefused => self.not_loaded.inc(),
            Event::ConfigSaved { saved: true } => self.saved.inc(),
            Event::ConfigSaved { saved: false } => self.not_saved.inc(),
            Event::Polling { runner, doing, .. } => self.polling(runner, *doing),
            Event::SlotWaited(waited) => self.slot_waits.observe(waited.as_secs_f64()),
            Event::Unhealthy { runner } => {
                let runner = RunnerLabels::of(runner);
                let failures = &self.health_failures;
                failures.with_label_values(&self.labels(&runner)).inc();
            }
            Event::Swept {
                removed,
                failed,
                took,
            } => {
                self.sweeps.with_label_values(&["ok"]).inc();
                self.sweep_durations.observe(took.as_secs_f64());
                add(&self.swept, removed);
                add(&self.not_swept, failed);
            }
            Event::SweepFailed => self.sweeps.with_label_values(&["error"]).inc(),
            Event::SetAside => self.set_aside.inc(),
            Event::Job {
                job,
                number,
                happened,
            } => self.job(job, *number, happened),
            Event::Ready
            | Event::Phase(_)
            | Event::PollingEnded { .. }
            | Event::Answered { .. } => {}
        }
    }

    fn config(&self, config: &Config) {
        self.loaded.inc();
        let old = self.slots.swap(config.concurrent, Ordering::Relaxed);
        let (operation, slots) = if config.concurrent >= old {
            ("started", config.concurrent - old)
        } else {
            ("stopped", old - config.concurrent)
        };
        let operations = self.slot_operations.with_label_values(&[operation]);
        operations.inc_by(slots as u64);
        for runner in config.usable_runners() {
            let runner = RunnerLabels::of(runner);
            let labels = self.labels(&runner);
            for counters in [
                &self.jobs,
                &self.feeds,
                &self.feed_failures,
                &self.health_failures,
                &self.recovered,
                &self.waited_too_long,
            ] {
                counters.with_label_values(&labels);
            }
            let traditional = with(&labels, &["traditional"]);
            self.durations.with_label_values(&traditional);
            for kind in ["other", "no_free_executor", "job_failure"] {
                let failures = &self.processing_failures;
                failures.with_label_values(&with(&[kind], &labels));
            }
            let exceeded = &self.concurrency_exceeded;
            exceeded.with_label_values(&[&*runner.runner, &*self.system_id]);
            for reason in [
                FailureReason::ScriptFailure,
                FailureReason::RunnerSystemFailure,
            ] {
                let of = [
                    &*runner.runner,
                    &*runner.name,
                    reason.as_str(),
                    "traditional",
                ];
                self.failed.with_label_values(&of);
            }
        }
    }

    fn polling(&self, runner: &RunnerConfig, doing: Doing) {
        let runner = RunnerLabels::of(runner);
        match doing {
            Doing::Requesting => {
                let feeds = self.feeds.with_label_values(&self.labels(&runner));
                feeds.inc();
            }
            Doing::Resting {
                why: Why::Unhealthy,
                ..
            } => {
                let failures = self.feed_failures.with_label_values(&self.labels(&runner));
                failures.inc();
            }
            Doing::Resting {
                why: Why::HeldBack, ..
            } => {
                let exceeded = &self.concurrency_exceeded;
                let labels = [&*runner.runner, &*self.system_id];
                exceeded.with_label_values(&labels).inc();
            }
            Doing::WaitingForSlot | Doing::WaitingForLimit | Doing::Resting { .. } => {}
        }
    }

    fn job(&self, job: &JobFacts, number: u64, happened: &Happened<'_>) {
        let labels = self.labels(&job.runner);
        match happened {
            Happened::Taken => {
                self.taken(job);
                self.set_clock(number, false);
            }
            Happened::TakenUp { .. } => {
                self.recovered.with_label_values(&labels).inc();
                self.set_clock(number, true);
            }
            Happened::Executor(event) => self.executor(job, number, event),
            Happened::Ended { cause } => {
                let durations = &self.durations;
                let of_mode = durations.with_label_values(&with(&labels, &[job.mode()]));
                of_mode.observe(job.age().as_secs_f64());
                if let Some(cause) = cause {
                    self.failed(job, cause);
                }
            }
            Happened::Settled {
                outcome,
                by_outbox: true,
            } => {
                let result = match outcome {
                    Some(FinalOutcome::Delivered) => "delivered",
                    Some(FinalOutcome::Closed(_)) => "closed",
                    Some(FinalOutcome::GaveUp { .. } | FinalOutcome::Interrupted) | None => {
                        "given_up"
                    }
                };
                self.outbox.with_label_values(&[result]).inc();
            }
            Happened::Left => {
                self.clocks().remove(&number);
            }
            Happened::Planned(_)
            | Happened::Uploading { .. }
            | Happened::Terminal { .. }
            | Happened::Outbox
            | Happened::Settled { .. } => {}
        }
    }

    fn taken(&self, job: &JobFacts) {
        let labels = self.labels(&job.runner);
        self.jobs.with_label_values(&labels).inc();
        self.modes.with_label_values(&[job.mode(), "docker"]).inc();
        let queued = job.queued.as_secs_f64();
        let running = with(&labels, &[&job.project_jobs_running]);
        let queue = self.queue_durations.with_label_values(&running);
        queue.observe(queued);
        self.queue_size
            .with_label_values(&labels)
            .set(job.queue_size);
        self.queue_depth
            .with_label_values(&labels)
            .set(job.queue_depth);
        if job.waited_too_long {
            self.waited_too_long.with_label_values(&labels).inc();
        }
        match &job.inputs {
            Ok(texts) => self.inputs.inc_by(*texts as u64),
            Err(error) => {
                let failures = &self.input_failures;
                failures.with_label_values(&[error.kind()]).inc();
            }
        }
        let delay = self.queue_delays.with_label_values(&labels);
        delay.observe(job.slot_wait.as_secs_f64().min(queued));
    }

    fn failed(&self, job: &JobFacts, cause: &Cause) {
        let runner = &job.runner;
        let reason = cause.reason().as_str();
        let of = [&*runner.runner, &*runner.name, reason, job.mode()];
        self.failed.with_label_values(&of).inc();
        let kind = if cause.is_system_failure() {
            "other"
        } else {
            "job_failure"
        };
        let failures = &self.processing_failures;
        let of = with(&[kind], &self.labels(runner));
        failures.with_label_values(&of).inc();
    }

    fn executor(&self, job: &JobFacts, number: u64, event: &JobEvent<'_>) {
        let mut clocks = self.clocks();
        let Some(clock) = clocks.get_mut(&number) else {
            return;
        };
        let labels = self.labels(&job.runner);
        let now = Instant::now();
        let over = match event {
            JobEvent::Doing(_) => None,
            JobEvent::Prepared => clock.stage.take(),
            JobEvent::Stage { stage, step, .. } => match step {
                Step::Began if clock.stage.is_none() => {
                    clock.stage = Some(((*stage).clone(), now));
                    None
                }
                Step::Ended(_) => clock.stage.take(),
                Step::Sent { .. } if !std::mem::replace(&mut clock.started, true) => {
                    let delay = self.start_delays.with_label_values(&labels);
                    delay.observe(job.age().as_secs_f64());
                    None
                }
                _ => None,
            },
        };
        if let Some((stage, since)) = over
            && job.stage_durations
        {
            let name = stage.section_name();
            let durations = self
                .stage_durations
                .with_label_values(&with(&labels, &[&name]));
            durations.observe(now.duration_since(since).as_secs_f64());
        }
    }

    fn set_clock(&self, number: u64, started: bool) {
        let stage = (!started).then(|| (Stage::PrepareExecutor, Instant::now()));
        self.clocks().insert(number, Clock { stage, started });
    }

    fn clocks(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Clock>> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of the coordinator protocol with all its attempts. A patch without an answer is not counted, as the peer.
    pub(crate) fn call_ended(&self, record: &CallRecord) {
        let method = record.endpoint.method();
        let path = record.endpoint.path_template();
        let retries = self.retries.with_label_values(&[path, method]);
        retries.inc_by(u64::from(record.attempts));
        let counts = record.status.is_some() || record.endpoint != Endpoint::PatchTrace;
        if record.attempts == 0 || !counts {
            return;
        }
        let method = method.to_ascii_lowercase();
        let (status, class) = match record.status {
            Some(status) => (status.to_string(), format!("{}xx", status / 100)),
            None => ("-1".to_owned(), "unknown".to_owned()),
        };
        let of = |last: &str| {
            let endpoint = record.endpoint.label();
            [&*record.runner, &*self.system_id, endpoint, last, &*method].map(str::to_owned)
        };
        self.statuses.with_label_values(&of(&status)).inc();
        let durations = self.call_durations.with_label_values(&of(&class));
        durations.observe(record.duration.as_secs_f64());
    }
}

fn add(counters: &IntCounterVec, objects: &Removed) {
    for (kind, number) in [
        ("container", objects.containers),
        ("network", objects.networks),
        ("volume", objects.volumes),
    ] {
        counters.with_label_values(&[kind]).inc_by(number);
    }
}
