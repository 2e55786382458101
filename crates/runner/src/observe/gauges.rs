//! Metrics that say how things stand: read from the board when somebody asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use gantry_gitlab::Product;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{
    LogCounts,
    board::{Board, Course, JobRow, State},
    metrics::{Making, OwnVersion, RUNNER},
};

/// What the service knows besides the board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    /// Job slots of the process.
    pub(crate) slots: usize,
    /// Those in use.
    pub(crate) used: usize,
    /// Free bytes on the disk of the state folder.
    pub(crate) free_bytes: Option<u64>,
}

/// The gauges. One asker at a time: they are cleared and set anew.
pub(crate) struct Gauges {
    set: Mutex<Set>,
    system_id: String,
    log: Arc<LogCounts>,
}

struct Set {
    jobs: IntGaugeVec,
    concurrent: IntGauge,
    limit: IntGaugeVec,
    requests: IntGaugeVec,
    hard: IntGaugeVec,
    adaptive: IntGaugeVec,
    used: IntGaugeVec,
    slots: IntGauge,
    process_state: IntGaugeVec,
    errors: IntCounterVec,
    slots_used: IntGauge,
    outbox: IntGauge,
    outbox_oldest: IntGauge,
    journals: IntGauge,
    backlog: IntGauge,
    free: IntGauge,
}

impl Gauges {
    pub(crate) fn new(
        make: &Making<'_>,
        system_id: &str,
        product: &Product,
        own: &OwnVersion<'_>,
        log: Arc<LogCounts>,
    ) -> prometheus::Result<Self> {
        let version = make.gauges(
            "gitlab_runner_version_info",
            "A metric with a constant '1' value labeled by different build stats fields",
            &[
                "name",
                "version",
                "revision",
                "branch",
                "go_version",
                "built_at",
                "os",
                "architecture",
            ],
        )?;
        let labels = [
            &*product.name,
            &product.version,
            &product.revision,
            &product.branch,
            &product.compiler,
            own.built_at,
            &product.platform,
            &product.architecture,
        ];
        version.with_label_values(&labels).set(1);
        let own_version = make.gauges(
            "gantry_version_info",
            "Version of this program, and the release of GitLab Runner that it stands for",
            &["version", "compatible_version"],
        )?;
        own_version
            .with_label_values(&[own.version, &*product.version])
            .set(1);
        let errors = IntCounterVec::new(
            Opts::new("gitlab_runner_errors_total", "The number of caught errors"),
            &["level"],
        )?;
        make.0.register(Box::new(errors.clone()))?;
        let gauge = |name: &str, help: &str| make.gauge(name, help);
        let set = Set {
            jobs: make.gauges(
                "gitlab_runner_jobs",
                "The current number of running builds",
                &[&RUNNER[..], &["state", "stage", "executor_stage"]].concat(),
            )?,
            concurrent: gauge(
                "gitlab_runner_concurrent",
                "The current value of concurrent setting",
            )?,
            limit: make.gauges(
                "gitlab_runner_limit",
                "The current value of limit setting",
                &RUNNER,
            )?,
            requests: make.gauges(
                "gitlab_runner_request_concurrency",
                "The current number of concurrent requests for a new job",
                &["runner", "system_id"],
            )?,
            hard: make.gauges(
                "gitlab_runner_request_concurrency_hard_limit",
                "Configured request_concurrency limit",
                &["runner", "system_id"],
            )?,
            adaptive: make.gauges(
                "gitlab_runner_request_concurrency_adaptive_limit",
                "Computed adaptive request concurrency limit",
                &["runner", "system_id"],
            )?,
            used: make.gauges(
                "gitlab_runner_request_concurrency_used_limit",
                "Used request concurrency limit",
                &["runner", "system_id"],
            )?,
            slots: gauge(
                "gitlab_runner_worker_slots_number",
                "Current number of runner worker slots",
            )?,
            process_state: make.gauges(
                "gitlab_runner_process_state_info",
                "State of the process; 1 for the current one",
                &["state"],
            )?,
            errors,
            slots_used: gauge("gantry_slots_used", "Job slots in use")?,
            outbox: gauge(
                "gantry_outbox_jobs",
                "Jobs that ended and whose verdict the server does not take",
            )?,
            outbox_oldest: gauge(
                "gantry_outbox_oldest_seconds",
                "Age of the oldest job in the outbox, 0 without one",
            )?,
            journals: gauge("gantry_journal_bytes", "Size of the journals of all jobs")?,
            backlog: gauge(
                "gantry_log_backlog_bytes",
                "Bytes of job logs that the server has not taken yet",
            )?,
            free: gauge(
                "gantry_state_free_bytes",
                "Free bytes on the disk of the state folder",
            )?,
        };
        Ok(Self {
            set: Mutex::new(set),
            system_id: system_id.to_owned(),
            log,
        })
    }

    /// Sets all of them, and lets `read` see them so.
    pub(crate) fn refreshed<T>(&self, board: &Board, host: Host, read: impl FnOnce() -> T) -> T {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let state = board.lock();
        self.runners(&set, &state);
        jobs(&set, &state);
        set.concurrent.set(host.slots as i64);
        set.slots.set(host.slots as i64);
        set.slots_used.set(host.used as i64);
        set.free.set(host.free_bytes.unwrap_or_default() as i64);
        set.process_state.reset();
        let now = set
            .process_state
            .with_label_values(&[state.process_state()]);
        now.set(1);
        let (warnings, errors) = self.log.so_far();
        for (level, lines) in [
            ("panic", 0),
            ("fatal", 0),
            ("error", errors),
            ("warning", warnings),
        ] {
            let counted = set.errors.with_label_values(&[level]);
            counted.reset();
            counted.inc_by(lines);
        }
        drop(state);
        read()
    }

    fn runners(&self, set: &Set, state: &State) {
        let id = &*self.system_id;
        for gauges in [
            &set.jobs,
            &set.limit,
            &set.requests,
            &set.hard,
            &set.adaptive,
            &set.used,
        ] {
            gauges.reset();
        }
        for (runner, row) in &state.runners {
            let (short, name) = (&*runner.runner, &*runner.name);
            // Always there, so that a runner without jobs is seen.
            let idle = [short, name, id, "idle", "idle", "idle"];
            set.jobs.with_label_values(&idle).set(0);
            let limit = row.limit.unwrap_or_default() as i64;
            set.limit.with_label_values(&[short, name, id]).set(limit);
            for (gauges, value) in [
                (&set.requests, row.requests()),
                (&set.hard, row.hard),
                (&set.adaptive, row.adaptive),
                (&set.used, row.adaptive.min(row.hard)),
            ] {
                gauges.with_label_values(&[short, id]).set(value as i64);
            }
        }
        let mut counts: BTreeMap<_, i64> = BTreeMap::new();
        for job in state.jobs.values() {
            let stage = job.stage.section_name();
            let of = (&job.facts.runner, job.state, stage, job.executor_stage);
            *counts.entry(of).or_default() += 1;
        }
        for ((runner, state, stage, executor_stage), count) in counts {
            let of = [
                &*runner.runner,
                &*runner.name,
                id,
                state,
                &*stage,
                executor_stage,
            ];
            set.jobs.with_label_values(&of).set(count);
        }
    }
}

fn jobs(set: &Set, state: &State) {
    let jobs = state.jobs.values();
    let outbox = || jobs.clone().filter(|job| job.course == Course::Outbox);
    let oldest = outbox().map(|job| job.facts.age().as_secs()).max();
    set.outbox.set(outbox().count() as i64);
    set.outbox_oldest.set(oldest.unwrap_or_default() as i64);
    let journals: u64 = jobs.clone().map(JobRow::journal_bytes).sum();
    set.journals.set(journals as i64);
    let backlog: u64 = jobs.map(|job| job.log_bytes().1).sum();
    set.backlog.set(backlog as i64);
}
