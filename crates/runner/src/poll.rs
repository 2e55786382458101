//! Asks for jobs: one loop per runner entry and permitted request, a slot before each request, fair among all entries.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gantry_config::RunnerConfig;
use gantry_gitlab::{
    CallFailure, Coordinator, HealthSettings, JobRequest, JobRequestAnswer, JobRequestReply, Poll,
    RunnerHealth,
};
use gantry_job::{FeatureFlag, FeatureFlags};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tracing::{error, info, warn};

use crate::{
    adaptive::{AdaptiveConcurrency, Brought},
    job_task,
    observe::{Doing, Event, Why},
    refuse,
    shared::{Counted, Shared},
    slots::Slot,
};

/// What a job may need in the state folder: its log up to the usual limit, and its journal.
const SPACE_FOR_A_JOB: u64 = 16 * 1024 * 1024;
/// How long polling rests when the disk is full.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(5);

/// A runner entry that is polled. Its loops share this.
pub(crate) struct PolledRunner {
    /// The entry as of now; `None` once it is gone from the config.
    entry: watch::Receiver<Option<Arc<RunnerConfig>>>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    health: RunnerHealth,
    adaptive: AdaptiveConcurrency,
    /// No space for another job, which was said.
    disk_full: bool,
}

impl PolledRunner {
    pub(crate) fn new(entry: watch::Receiver<Option<Arc<RunnerConfig>>>) -> Self {
        let settings = entry
            .borrow()
            .as_deref()
            .map(health_settings)
            .unwrap_or_default();
        let state = State {
            health: RunnerHealth::new(settings, Instant::now()),
            adaptive: AdaptiveConcurrency::default(),
            disk_full: false,
        };
        Self {
            entry,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// A reload clears health (config-toml §1 "Hot reload").
    pub(crate) fn reloaded(&self) {
        let settings = self
            .entry
            .borrow()
            .as_deref()
            .map(health_settings)
            .unwrap_or_default();
        self.lock().health = RunnerHealth::new(settings, Instant::now());
        self.changed.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn health_settings(entry: &RunnerConfig) -> HealthSettings {
    HealthSettings {
        limit: entry.unhealthy_requests_limit,
        interval: entry.unhealthy_interval,
    }
}

/// Polls for jobs until the entry is gone or the process stops polling. `number` counts the loops of one entry from 0.
pub(crate) async fn poll(shared: Arc<Shared>, runner: Arc<PolledRunner>, number: usize) {
    let stopped = shared.phase_is(|phase| !phase.polls());
    tokio::pin!(stopped);
    let mut asking = Asking {
        entry: runner.entry.clone(),
        client: None,
        number,
    };
    // However the loop ends.
    let mut ended = Ended {
        shared: &shared,
        number,
        config: None,
    };
    loop {
        let Some(config) = asking.entry.borrow_and_update().clone() else {
            return;
        };
        ended.config = Some(Arc::clone(&config));
        let again = tokio::select! {
            biased;
            _ = &mut stopped => return,
            again = once(&shared, &runner, &config, &mut asking) => again,
        };
        match again {
            Again::Now => {}
            Again::After(pause, why) => {
                let until = Instant::now() + pause;
                tell(&shared, &config, number, Doing::Resting { until, why });
                tokio::select! {
                    _ = &mut stopped => return,
                    () = sleep(pause) => {}
                    () = runner.changed.notified() => {}
                    () = changed(&mut asking.entry) => {}
                }
            }
        }
    }
}

/// Tells that a loop is over when it is dropped.
struct Ended<'a> {
    shared: &'a Shared,
    number: usize,
    config: Option<Arc<RunnerConfig>>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let Some(runner) = &self.config {
            let number = self.number;
            let event = Event::PollingEnded { runner, number };
            self.shared.observer.tell(&event);
        }
    }
}

fn tell(shared: &Shared, runner: &RunnerConfig, number: usize, doing: Doing) {
    shared.observer.tell(&Event::Polling {
        runner,
        number,
        doing,
    });
}

/// What one loop keeps between its requests.
struct Asking {
    entry: watch::Receiver<Option<Arc<RunnerConfig>>>,
    /// Held, so that the next request goes over the same connection and echoes the server's last word.
    client: Option<Coordinator>,
    /// Of the loops of one entry, from 0.
    number: usize,
}

/// Resolves when the entry is another one, or gone.
async fn changed(entry: &mut watch::Receiver<Option<Arc<RunnerConfig>>>) {
    if entry.changed().await.is_err() {
        // The service is at its end.
        std::future::pending::<()>().await;
    }
}

enum Again {
    Now,
    After(Duration, Why),
}

/// One request, if the runner may ask at all.
async fn once(
    shared: &Arc<Shared>,
    runner: &PolledRunner,
    config: &Arc<RunnerConfig>,
    asking: &mut Asking,
) -> Again {
    let interval = shared.config.borrow().check_interval;
    let number = asking.number;
    if number >= allowed_requests(runner, config) {
        return Again::After(interval, Why::HeldBack);
    }
    if disk_is_full(shared, runner) {
        return Again::After(FULL_DISK_PAUSE, Why::DiskFull);
    }
    match runner.lock().health.poll(Instant::now()) {
        Poll::Yes => {}
        Poll::Forced => {
            warn!(
                runner = config.short_token(),
                "Runner {:?} is not healthy, but check for a new job will be forced!",
                config.unique_id()
            );
        }
        Poll::NotFor(rest) => return Again::After(rest, Why::Unhealthy),
    }
    // A wait of any length: what is asked for in the end is asked for by the entry as it is then.
    let (counted, slot) = tokio::select! {
        biased;
        () = changed(&mut asking.entry) => return Again::Now,
        permits = permits(shared, config, number) => permits,
    };
    shared.observer.tell(&Event::SlotWaited(slot.waited()));
    let coordinator = match shared.coordinator(config, asking.client.as_ref()) {
        Ok(coordinator) => asking.client.insert(coordinator).clone(),
        Err(error) => {
            error!(runner = config.short_token(), %error, "Checking for jobs... client error");
            unhealthy(shared, runner, config);
            return Again::After(interval, Why::Interval);
        }
    };
    let entries = shared.config.borrow().usable_runners().count();
    // A fresh one for each request: what a server was told once, it may not be told to forget.
    let sessions = shared.sessions.as_ref();
    let offer = sessions.and_then(|sessions| sessions.offer());
    let request = JobRequest {
        info: shared.info(config),
        system_id: shared.host.system_id.clone(),
        // A held request keeps a slot: with more entries than slots, others would wait for it.
        echo_last_update: entries <= shared.slots.limit(),
        session: sessions
            .zip(offer.as_ref())
            .map(|(sessions, offer)| sessions.info(offer)),
    };
    tell(shared, config, number, Doing::Requesting);
    let (reply, slot) = ask(shared, &coordinator, &request, slot, &mut asking.entry).await;
    // A job is run by the settings of now, not by those of when it was asked for.
    let newest = asking.entry.borrow_and_update().clone();
    let config = newest.as_ref().unwrap_or(config);
    let brought = match (&reply.answer, reply.throttled) {
        (_, true) => Brought::Throttled,
        (JobRequestAnswer::Job(_) | JobRequestAnswer::Unreadable(_), false) => Brought::Job,
        _ => Brought::Nothing,
    };
    runner
        .lock()
        .adaptive
        .record(brought, config.request_concurrency);
    shared.observer.tell(&Event::Answered {
        runner: config,
        adaptive: allowed_requests(runner, config),
    });
    if reply.answer.is_healthy() {
        runner.lock().health.healthy(Instant::now());
    } else {
        unhealthy(shared, runner, config);
    }
    match reply.answer {
        JobRequestAnswer::Job(received) => {
            let task = job_task::accept(
                Arc::clone(shared),
                Arc::clone(config),
                coordinator,
                *received,
                slot,
                counted,
                offer,
            );
            shared.tasks.spawn(task);
            if config.strict_check_interval {
                Again::After(interval, Why::Interval)
            } else {
                Again::Now
            }
        }
        JobRequestAnswer::Unreadable(unreadable) => {
            refuse::refuse(&coordinator, *unreadable, request.info).await;
            Again::After(interval, Why::Interval)
        }
        JobRequestAnswer::NoJob
        | JobRequestAnswer::Forbidden { .. }
        | JobRequestAnswer::Unavailable
        | JobRequestAnswer::Failed(CallFailure::Client(_) | _) => {
            Again::After(interval, Why::Interval)
        }
    }
}

/// Asks. The server may hold the request for a while, and then give a job, which is run. Of an entry that is gone meanwhile, that
/// does not keep others from asking: its slot is free until a job comes.
async fn ask(
    shared: &Shared,
    coordinator: &Coordinator,
    request: &JobRequest,
    slot: Slot,
    entry: &mut watch::Receiver<Option<Arc<RunnerConfig>>>,
) -> (JobRequestReply, Slot) {
    let mut slot = Some(slot);
    let requesting = coordinator.request_job(request);
    tokio::pin!(requesting);
    loop {
        tokio::select! {
            biased;
            reply = &mut requesting => {
                return (reply, slot.unwrap_or_else(|| shared.slots.take_over()));
            }
            () = changed(entry) => {
                if entry.borrow().is_none() {
                    slot = None;
                }
            }
        }
    }
}

/// The right to ask: below `limit` of the runner, and a slot of the process.
async fn permits(shared: &Shared, config: &RunnerConfig, number: usize) -> (Counted, Slot) {
    let unique_id = config.unique_id();
    let counted = loop {
        // Registered before the look, so that no change is missed.
        let changed = shared.counts.changed();
        match shared.counts.try_add(&unique_id, config.limit) {
            Some(counted) => break counted,
            None => {
                tell(shared, config, number, Doing::WaitingForLimit);
                changed.await;
            }
        }
    };
    tell(shared, config, number, Doing::WaitingForSlot);
    (counted, shared.slots.take().await)
}

/// Says so once, and once that it is over.
fn disk_is_full(shared: &Shared, runner: &PolledRunner) -> bool {
    let free = shared.state.free_bytes();
    let full = free.is_some_and(|free| free < SPACE_FOR_A_JOB);
    let before = std::mem::replace(&mut runner.lock().disk_full, full);
    if full != before {
        let folder = shared.state.path().display();
        let free_bytes = free.unwrap_or_default();
        if full {
            error!(
                free_bytes,
                %folder,
                "no new jobs: the disk of the state folder is full; running jobs go on"
            );
        } else {
            info!(free_bytes, %folder, "the disk of the state folder has space for jobs again");
        }
    }
    full
}

fn allowed_requests(runner: &PolledRunner, config: &RunnerConfig) -> usize {
    let hard = config.request_concurrency;
    let flags = FeatureFlags::of_runner(&config.feature_flags);
    if flags.is_on(FeatureFlag::UseAdaptiveRequestConcurrency) {
        runner.lock().adaptive.limit(hard)
    } else {
        hard
    }
}

fn unhealthy(shared: &Shared, runner: &PolledRunner, config: &RunnerConfig) {
    shared.observer.tell(&Event::Unhealthy { runner: config });
    if let Some(pause) = runner.lock().health.unhealthy() {
        error!(
            runner = config.short_token(),
            "Runner {:?} is unhealthy and will be disabled for {} seconds!",
            config.unique_id(),
            pause.as_secs()
        );
    }
}
