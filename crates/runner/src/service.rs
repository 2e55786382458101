//! The service: brings all parts together and leads them through the life of the process.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use gantry_config::{Config, ConfigError, FileStamp, Loaded, OnStop, RunnerConfig};
use gantry_executor::Environment;
use gantry_gitlab::{CallObserver, Coordinators, Product, UploadBudget};
use gantry_journal::StateFolder;
use gantry_plan::HostFacts;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::{
    ConnectEngine, KeepToken, Limits, Phase, SessionServer, Signal,
    engines::Engines,
    job_task,
    observe::{self, Event, Listeners, LogCounts, Metrics, Observer, OwnVersion, Pages},
    poll::{self, PolledRunner},
    rotation,
    session::{self, Sessions},
    shared::{JobTable, LeftBehind, RunnerCounts, Shared},
    slots::{NumberTable, Slots},
    sweep,
};

/// How often the config file's time is looked at (config-toml §1).
const RELOAD_CHECK: Duration = Duration::from_secs(3);
/// How long letting go of running jobs may take.
const DETACH_LIMIT: Duration = Duration::from_secs(5);
/// The same where the process must be gone at once.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// Reads the configuration file; the process' environment is the reader's business.
pub trait ReadConfig: Send + Sync + 'static {
    /// The file as it is now.
    ///
    /// # Errors
    /// What is wrong with it.
    fn load(&self) -> Result<Loaded, ConfigError>;
    /// State of the file now; another one than that of the last load means that it is read again.
    ///
    /// # Errors
    /// There is no file, or it cannot be looked at.
    fn stamp(&self) -> io::Result<FileStamp>;
}

/// What the service is made of.
pub struct Options {
    /// The configuration, loaded already.
    pub loaded: Loaded,
    /// How to load it again.
    pub reader: Arc<dyn ReadConfig>,
    /// The state folder, locked.
    pub state: StateFolder,
    /// How to reach engines.
    pub engines: Arc<dyn ConnectEngine>,
    /// Helper binaries, images, credentials.
    pub environment: Environment,
    /// What the server is told about this program.
    pub product: Product,
    /// Facts of the host.
    pub host: HostFacts,
    /// Folders of certificates by host name; the first that has one counts.
    pub certs: Vec<PathBuf>,
    /// `--on-stop`; wins over the config.
    pub on_stop: Option<OnStop>,
    /// Signals, as they come.
    pub signals: mpsc::Receiver<Signal>,
    /// Who may ask how things stand, and where.
    pub listeners: Listeners,
    /// Where GitLab connects to for terminals of jobs; `None`: they have none.
    pub sessions: Option<SessionServer>,
    /// What those are told of the program.
    pub about: About,
    /// Lines of the process log, counted as they are written.
    pub log: Arc<LogCounts>,
    /// Where tokens that are renewed before they end are written; `None`: none is renewed.
    pub tokens: Option<Arc<dyn KeepToken>>,
    /// What ends the service besides signals.
    pub limits: Limits,
    /// Called with each configuration that becomes active, for log level and format.
    pub on_reload: Box<dyn Fn(&Config) + Send + Sync>,
}

/// What the program says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Its version.
    pub version: String,
    /// When it was built (RFC 3339), or `unknown`.
    pub built_at: String,
    /// Configuration file.
    pub config: PathBuf,
    /// Where metrics are served, as configured.
    pub listen_address: Option<String>,
    /// When it started.
    pub started: std::time::Instant,
}

/// How the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is done. Exit code 0.
    Clean,
    /// Jobs were left running for the next start. Exit code 0.
    Detached,
    /// `shutdown_timeout` was not enough. Exit code 1.
    TimedOut,
    /// A second signal. Exit code 1.
    Forced {
        /// The signal.
        signal: Signal,
    },
    /// The configuration became one that cannot be run (`concurrent < 1`). Exit code 1.
    BadConfig,
}

/// Runs until told to stop.
pub fn run(options: Options) -> BoxFuture<'static, Exit> {
    // Boxed, so that the service is compiled here and not again in every program that runs it.
    Box::pin(serve(options))
}

async fn serve(options: Options) -> Exit {
    let Options {
        loaded,
        reader,
        state,
        engines,
        environment,
        product,
        host,
        certs,
        on_stop,
        mut signals,
        listeners,
        sessions,
        about,
        log,
        tokens,
        limits,
        on_reload,
    } = options;
    let config = Arc::new(loaded.config);
    let stamp = loaded.stamp;
    let (config_sender, config_receiver) = watch::channel(Arc::clone(&config));
    let (phase_sender, phase) = watch::channel(Phase::Running);
    let state_id = state.id().to_owned();
    let counts = listeners.metrics_address().is_some();
    let own = OwnVersion {
        version: &about.version,
        built_at: &about.built_at,
    };
    let metrics = counts.then(|| Metrics::new(&host.system_id, &product, &own, log));
    let metrics = metrics.transpose().unwrap_or_else(|error| {
        error!(%error, "metrics cannot be counted");
        None
    });
    let observer = Arc::new(Observer::new(metrics));
    let calls = counts.then(|| Arc::clone(&observer) as Arc<dyn CallObserver>);
    let shared = Arc::new(Shared {
        config: config_receiver,
        phase,
        engines: Engines::new(engines, state_id),
        caches: crate::caches::Caches::default(),
        secret_clients: crate::secret_clients::SecretClients::default(),
        sessions: sessions.as_ref().map(Sessions::of),
        state,
        environment,
        coordinators: Coordinators::new(product.clone(), calls),
        product,
        host,
        certs,
        slots: Slots::new(config.concurrent),
        numbers: NumberTable::default(),
        counts: RunnerCounts::default(),
        jobs: JobTable::default(),
        left_behind: LeftBehind::default(),
        tasks: TaskTracker::new(),
        budget: UploadBudget::default(),
        observer: Arc::clone(&observer),
    });
    observer.tell(&Event::ConfigLoaded(&config));
    let pages = Pages::new(Arc::clone(&shared), about);
    let answer = Arc::new(move |request: &_, visitor| pages.answer(request, visitor));
    let serving = tokio::spawn(observe::serve(listeners, answer));
    // Boxed: without terminals it is nothing.
    let terminals = sessions.zip(shared.sessions.clone());
    let terminals = terminals
        .map(|(server, sessions)| tokio::spawn(Box::pin(session::serve(server, sessions))));
    take_up_jobs(&shared).await;
    observer.tell(&Event::Ready);
    let sweep = tokio::spawn(sweep::run(Arc::clone(&shared)));
    let mut pollers = Pollers::default();
    pollers.set(&shared, &config);
    let mut reload = Reload {
        observer: Arc::clone(&observer),
        reader,
        stamp,
        lost: stamp.is_none(),
        active: Arc::clone(&config),
        sender: config_sender,
        on_reload,
    };
    let renewed = Arc::new(Notify::new());
    let rotation = tokens.map(|keeper| {
        let rotation = rotation::run(Arc::clone(&shared), keeper, Arc::clone(&renewed));
        tokio::spawn(rotation)
    });
    let limit = limits.reached(observer.tally.subscribe());
    tokio::pin!(limit);
    let mut checks = interval(RELOAD_CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let exit = loop {
        tokio::select! {
            signal = signals.recv() => {
                let Some(signal) = signal else { std::future::pending().await };
                if signal == Signal::Hangup {
                    match reload.load() {
                        Reloaded::Changed(config) => pollers.set(&shared, &config),
                        Reloaded::Kept => {}
                        Reloaded::Fatal => break Exit::BadConfig,
                    }
                    continue;
                }
                let on_stop = on_stop.unwrap_or(shared.config.borrow().gantry.on_stop);
                let next = shared.phase().after(signal, on_stop);
                if next == shared.phase() {
                    continue;
                }
                announce(next, signal);
                observer.tell(&Event::Phase(next));
                phase_sender.send_replace(next);
                break drain(&shared, &phase_sender, &mut signals, on_stop).await;
            }
            () = &mut limit => {
                phase_sender.send_replace(Phase::Graceful);
                observer.tell(&Event::Phase(Phase::Graceful));
                let on_stop = on_stop.unwrap_or(shared.config.borrow().gantry.on_stop);
                break drain(&shared, &phase_sender, &mut signals, on_stop).await;
            }
            () = renewed.notified() => match reload.load() {
                Reloaded::Changed(config) => pollers.set(&shared, &config),
                Reloaded::Kept => {}
                Reloaded::Fatal => break Exit::BadConfig,
            },
            _ = checks.tick() => {
                if reload.is_due() {
                    match reload.load() {
                        Reloaded::Changed(config) => pollers.set(&shared, &config),
                        Reloaded::Kept => {}
                        Reloaded::Fatal => break Exit::BadConfig,
                    }
                }
            }
        }
    };
    sweep.abort();
    if let Some(rotation) = rotation {
        rotation.abort();
    }
    if let Exit::TimedOut | Exit::Forced { .. } | Exit::BadConfig = exit {
        // Jobs that are not at their end are taken up by the next start, which shall not take this end for a crash.
        phase_sender.send_replace(Phase::Detached);
        shared.tasks.close();
        timeout(LEAVE_LIMIT, shared.tasks.wait()).await.ok();
    }
    if let Some(terminals) = terminals {
        terminals.abort();
    }
    serving.abort();
    // Gone when this returns, and with it the socket in the state folder.
    serving.await.ok();
    match exit {
        Exit::Clean => info!("All workers stopped. Can exit now!"),
        Exit::Detached => info!(
            jobs = shared.jobs.len(),
            "jobs are left running for the next start"
        ),
        Exit::TimedOut => error!("shutdown timed out"),
        Exit::Forced { signal } => error!("forced exit with stop signal: {}", signal.name()),
        Exit::BadConfig => {}
    }
    exit
}

/// Takes up what an earlier process left. When this returns all of it is listed, with its slots and numbers: neither the sweep nor
/// a new job may take them.
async fn take_up_jobs(shared: &Arc<Shared>) {
    let folders = match shared.state.jobs() {
        Ok(folders) => folders,
        Err(error) => {
            error!(%error, "jobs of an earlier process cannot be looked for");
            return;
        }
    };
    for folder in folders {
        if let Some(found) = job_task::find(shared, folder).await {
            let task = job_task::take_up(Arc::clone(shared), found);
            shared.tasks.spawn(task);
        }
    }
}

/// Waits for the end after the first stop signal, obeying further ones.
async fn drain(
    shared: &Arc<Shared>,
    phase: &watch::Sender<Phase>,
    signals: &mut mpsc::Receiver<Signal>,
    on_stop: OnStop,
) -> Exit {
    shared.tasks.close();
    loop {
        let now = shared.phase();
        let budget = shared.config.borrow().shutdown_timeout;
        let ended = async {
            match now {
                Phase::Detached => {
                    // Each job writes down that it was left on purpose; none may hold the process up.
                    timeout(DETACH_LIMIT, shared.tasks.wait()).await.ok();
                    Exit::Detached
                }
                Phase::Forceful { .. } => match timeout(budget, shared.tasks.wait()).await {
                    Ok(()) => Exit::Clean,
                    Err(_) => Exit::TimedOut,
                },
                Phase::Running | Phase::Graceful | Phase::Forced { .. } => {
                    shared.tasks.wait().await;
                    Exit::Clean
                }
            }
        };
        tokio::select! {
            exit = ended => return exit,
            Some(signal) = signals.recv() => {
                let next = now.after(signal, on_stop);
                if next == now {
                    continue;
                }
                announce(next, signal);
                shared.observer.tell(&Event::Phase(next));
                phase.send_replace(next);
                if let Phase::Forced { .. } = next {
                    return Exit::Forced { signal };
                }
            }
        }
    }
}

fn announce(phase: Phase, signal: Signal) {
    match phase {
        Phase::Graceful => info!(
            signal = signal.name(),
            "Starting graceful shutdown, waiting for builds to finish"
        ),
        Phase::Forceful { .. } => {
            warn!(
                "[shutdown] To stop gracefully send SIGQUIT instead of {}",
                signal.name()
            );
            warn!(signal = signal.name(), "Starting forceful shutdown");
        }
        Phase::Detached => info!(signal = signal.name(), "Detaching from running jobs"),
        Phase::Running | Phase::Forced { .. } => {}
    }
}

struct Reload {
    observer: Arc<Observer>,
    reader: Arc<dyn ReadConfig>,
    /// Of the file when it was read last, well or not.
    stamp: Option<FileStamp>,
    /// That the file cannot be looked at has been said.
    lost: bool,
    active: Arc<Config>,
    sender: watch::Sender<Arc<Config>>,
    on_reload: Box<dyn Fn(&Config) + Send + Sync>,
}

enum Reloaded {
    Changed(Arc<Config>),
    Kept,
    Fatal,
}

impl Reload {
    /// Whether the file is another than the one read last. That it cannot be looked at is said once.
    fn is_due(&mut self) -> bool {
        match self.reader.stamp() {
            Ok(stamp) => {
                self.lost = false;
                self.stamp != Some(stamp)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.lost, true) {
                    error!(%error, "Failed to load config stat; the last configuration stays active");
                }
                false
            }
        }
    }

    /// Loads; a broken file leaves the old configuration active and is not read again until it changes.
    fn load(&mut self) -> Reloaded {
        let stamp = self.reader.stamp().ok();
        let loaded = match self.reader.load() {
            // At start a missing file is an empty one; here it would take all runners away by a slip.
            Ok(loaded) if loaded.stamp.is_none() && self.stamp.is_some() => {
                error!("the configuration file is gone; the old configuration stays active");
                return Reloaded::Kept;
            }
            Ok(loaded) => loaded,
            Err(error) => {
                self.observer.tell(&Event::ConfigRefused);
                self.stamp = stamp.or(self.stamp);
                if error.ends_the_process() {
                    error!(%error, "the configuration cannot be run");
                    return Reloaded::Fatal;
                }
                error!(%error, "the changed configuration is not used; the old one stays active");
                return Reloaded::Kept;
            }
        };
        self.stamp = loaded.stamp;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let config = Arc::new(loaded.config);
        for key in self.active.waits_for_restart(&config) {
            warn!(key, "changed, but takes effect at the next start");
        }
        (self.on_reload)(&config);
        self.active = Arc::clone(&config);
        self.sender.send_replace(Arc::clone(&config));
        self.observer.tell(&Event::ConfigLoaded(&config));
        info!(
            runners = config.runners.len(),
            concurrent = config.concurrent,
            "Configuration loaded"
        );
        Reloaded::Changed(config)
    }
}

/// Most requests of one entry side by side, whatever the config says: a loop costs memory, and no server hands out jobs
/// faster to more of them.
const MOST_REQUESTS: usize = 256;

/// The polling loops, by runner entry.
#[derive(Default)]
struct Pollers {
    by_entry: BTreeMap<(String, usize), Polled>,
}

struct Polled {
    entry: watch::Sender<Option<Arc<RunnerConfig>>>,
    runner: Arc<PolledRunner>,
    loops: usize,
}

impl Pollers {
    /// Brings the loops in line with a configuration: new entries get some, changed ones are told, gone ones end.
    fn set(&mut self, shared: &Arc<Shared>, config: &Config) {
        shared.slots.resize(config.concurrent);
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut kept = BTreeMap::new();
        for entry in config.usable_runners() {
            let occurrence = seen.entry(entry.unique_id()).or_default();
            let key = (entry.unique_id(), *occurrence);
            *occurrence += 1;
            let mut polled = self.by_entry.remove(&key).unwrap_or_else(|| {
                let (sender, receiver) = watch::channel(Some(Arc::clone(entry)));
                let runner = Arc::new(PolledRunner::new(receiver));
                Polled {
                    entry: sender,
                    runner,
                    loops: 0,
                }
            });
            polled.entry.send_replace(Some(Arc::clone(entry)));
            polled.runner.reloaded();
            // Each request holds a slot, so that more loops than slots would never ask.
            let useful = entry
                .request_concurrency
                .min(config.concurrent)
                .min(MOST_REQUESTS);
            while polled.loops < useful {
                let poll = poll::poll(Arc::clone(shared), Arc::clone(&polled.runner), polled.loops);
                tokio::spawn(poll);
                polled.loops += 1;
            }
            kept.insert(key, polled);
        }
        for (_, gone) in std::mem::replace(&mut self.by_entry, kept) {
            gone.entry.send_replace(None);
            gone.runner.reloaded();
        }
    }
}
