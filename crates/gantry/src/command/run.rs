use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use clap::ValueEnum;
use gantry_config::{
    Config, ConfigError, FileStamp, Loaded, OnStop, Placeholders, state_dir, system_id,
};
use gantry_journal::StateFolder;
use gantry_runner::{
    About, Exit, Limits, ListenAddress, Listeners, Options, ReadConfig, SessionServer, Signal,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing::{debug, error, info, warn};

use super::registered::{TokenKeeper, greet as greet_as_the_peer, tell_mode};
use crate::{
    cli::{LoggingArgs, help_of},
    error::CliError,
    host::{self, RealEngines},
    logging,
};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Configuration file; GitLab Runner's own is fine
    #[arg(short, long, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder to work in
    #[arg(short = 'd', long, value_name = "DIR")]
    working_directory: Option<PathBuf>,
    #[arg(long, value_name = "WHAT", help = help_of("gantry.on_stop"))]
    on_stop: Option<OnStopArg>,
    /// Accepted for GitLab Runner's scripts; service management has no use for it here
    #[arg(short = 'n', long, value_name = "NAME", hide = true)]
    service: Option<String>,
    /// Accepted for GitLab Runner's scripts; the Docker executor has no use for it
    #[arg(short = 'u', long, value_name = "USER", hide = true)]
    user: Option<String>,
    #[arg(
        long,
        env = "LISTEN_ADDRESS",
        value_name = "ADDRESS",
        help = help_of("listen_address")
    )]
    listen_address: Option<String>,
    /// Accepted for GitLab Runner's scripts; the log goes to stderr
    #[arg(long, hide = true)]
    syslog: bool,
}

/// What a stop does with running jobs.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnStopArg {
    /// End them within shutdown_timeout and report them
    Stop,
    /// Leave them running; the next start takes them over
    Detach,
}

pub(crate) fn run(logging_args: &LoggingArgs, args: &RunArgs) -> Result<ExitCode, CliError> {
    let fixed = logging::start(logging_args, false);
    if let Some(dir) = &args.working_directory {
        std::env::set_current_dir(dir)
            .map_err(|error| CliError::new(format!("change to {}: {error}", dir.display())))?;
    }
    let path = args.config.clone().unwrap_or_else(host::default_config);
    let reader = File {
        path: path.clone(),
        placeholders: host::placeholders(),
    };
    let loaded = reader
        .load()
        .map_err(|error| CliError::new(error.to_string()))?;
    logging::configure(fixed, &loaded.config);
    let runtime = service_runtime()?;
    let exit = runtime.block_on(serve(path, loaded, reader, args, fixed))?;
    // Jobs that are left running must not be waited for.
    runtime.shutdown_background();
    Ok(exit_code(exit))
}

/// One thread is plenty: the work is waiting. Each more costs memory for its heap, and the scheduler for many threads is the
/// only thing here that needs the C library of mathematics, 0.6 MB.
pub(super) fn service_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    host::allow_many_open_files();
    Ok(tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(4)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .enable_all()
        .build()?)
}

pub(super) fn exit_code(exit: Exit) -> ExitCode {
    match exit {
        Exit::Clean | Exit::Detached => ExitCode::SUCCESS,
        Exit::TimedOut | Exit::Forced { .. } | Exit::BadConfig => ExitCode::FAILURE,
    }
}

async fn serve(
    path: PathBuf,
    loaded: Loaded,
    reader: File,
    args: &RunArgs,
    fixed: logging::Fixed,
) -> Result<Exit, CliError> {
    // Before the first line of log: who sees that may send signals.
    let signals = signals()?;
    greet(&path, &loaded, args);
    let config = &loaded.config;
    let known = system_id::read_or_make(&path, &system_id::MACHINE_ID_FILES.map(Path::new))
        .map_err(|error| CliError::new(error.to_string()))?;
    if let Some(error) = &known.not_kept {
        warn!(%error, "the system id cannot be kept");
    }
    let variable = std::env::var_os("STATE_DIRECTORY");
    let place = state_dir::resolve(
        config.gantry.state_dir.as_deref(),
        variable.as_deref(),
        &path,
    );
    let state = StateFolder::open(&place.path, host::random_id).map_err(|error| {
        CliError::new(format!("state folder ({}): {error}", place.chosen_by))
            .hint("[gantry] state_dir in the configuration names another folder")
    })?;
    let listeners = listeners(args, config, state.path()).await?;
    let about = About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        built_at: host::built_at(),
        config: std::path::absolute(&path)?,
        listen_address: listeners
            .metrics_address()
            .map(|address| address.to_string()),
        started: Instant::now(),
    };
    let sessions = session_server(config).await?;
    let options = Options {
        listeners,
        sessions,
        about,
        log: logging::counts(),
        reader: Arc::new(reader),
        engines: Arc::new(RealEngines),
        environment: host::environment(config),
        product: host::product(&config.gantry),
        host: host::facts(
            &config.gantry,
            known.id.as_str().to_owned(),
            state.id().to_owned(),
        ),
        certs: host::certificate_folders(&path),
        on_stop: args.on_stop.map(|what| match what {
            OnStopArg::Stop => OnStop::Stop,
            OnStopArg::Detach => OnStop::Detach,
        }),
        signals,
        tokens: Some(Arc::new(TokenKeeper {
            path,
            placeholders: host::placeholders(),
            state_folder: place.path,
        })),
        limits: Limits::default(),
        on_reload: Box::new(on_reload(args, config, fixed)),
        state,
        loaded,
    };
    Ok(gantry_runner::run(options).await)
}

/// Where the service can be asked how it is. An address that is none switches metrics off, as in the peer; one that cannot be had
/// is an error.
async fn listeners(
    args: &RunArgs,
    config: &Config,
    state_folder: &Path,
) -> Result<Listeners, CliError> {
    let mut listeners = Listeners::default();
    match gantry_runner::bind_status(state_folder) {
        Ok(socket) => listeners = listeners.with_status(socket),
        Err(error) => {
            warn!(%error, folder = %state_folder.display(), "`gantry status` will get no answer: no socket in the state folder");
        }
    }
    match listen_address(args, config).map(|text| (text, text.parse::<ListenAddress>())) {
        None => info!("listen_address not defined, metrics & debug endpoints disabled"),
        Some((_, Err(error))) => error!(%error, "metrics & debug endpoints disabled"),
        Some((text, Ok(address))) => {
            listeners = listeners.with_metrics(&address).await.map_err(|error| {
                CliError::new(format!("listen on {address}: {error}")).hint(format!(
                    "listen_address is {text:?}; another program may use the port"
                ))
            })?;
            if let Some(address) = listeners.metrics_address() {
                info!(%address, "Metrics server listening");
            }
        }
    }
    Ok(listeners)
}

/// Where GitLab connects to for terminals of jobs. An address that cannot be had is an error.
async fn session_server(config: &Config) -> Result<Option<SessionServer>, CliError> {
    let server = SessionServer::bind(&config.session_server)
        .await
        .map_err(|error| {
            CliError::new(error.to_string())
                .hint("[session_server] in the configuration says where; without listen_address jobs have no terminal")
        })?;
    match &server {
        None => info!("[session_server].listen_address not defined, session endpoints disabled"),
        Some(server) => {
            let url = server.url();
            if let Some(address) = server.address() {
                info!(%address, url, "Session server listening");
            }
            if server.advertises_no_host() {
                warn!(
                    url,
                    "GitLab cannot connect to an address that stands for all of a machine: set advertise_address in [session_server]"
                );
            }
        }
    }
    Ok(server)
}

/// The command line wins; an empty text is none.
fn listen_address<'a>(args: &'a RunArgs, config: &'a Config) -> Option<&'a str> {
    let given = args
        .listen_address
        .as_deref()
        .filter(|text| !text.is_empty());
    given.or(config.listen_address.as_deref())
}

/// What a new configuration changes outside of the service.
fn on_reload(
    args: &RunArgs,
    config: &Config,
    fixed: logging::Fixed,
) -> impl Fn(&Config) + Send + Sync + 'static {
    let bound = config.listen_address.clone();
    let given = args.listen_address.is_some();
    move |config| {
        logging::configure(fixed, config);
        if !given && config.listen_address != bound {
            warn!("a changed listen_address takes effect at the next start");
        }
    }
}

fn greet(path: &Path, loaded: &Loaded, args: &RunArgs) {
    greet_as_the_peer();
    tell_mode();
    info!("Starting multi-runner from {}...", path.display());
    for warning in &loaded.warnings {
        warn!("{}: {warning}", path.display());
    }
    for key in &loaded.unknown_keys {
        debug!(
            key = key.key,
            line = key.line,
            "unknown key in the configuration"
        );
    }
    if loaded.stamp.is_none() {
        warn!("{} does not exist; waiting for it", path.display());
    }
    if args.syslog {
        warn!("--syslog is not supported; the log goes to stderr");
    }
    info!(
        builds = 0,
        max_builds = loaded.config.concurrent,
        "Configuration loaded"
    );
}

pub(super) fn signals() -> Result<mpsc::Receiver<Signal>, CliError> {
    let (sender, receiver) = mpsc::channel(8);
    let kinds = [
        (SignalKind::quit(), Signal::Quit),
        (SignalKind::terminate(), Signal::Terminate),
        (SignalKind::interrupt(), Signal::Interrupt),
        (SignalKind::hangup(), Signal::Hangup),
    ];
    for (kind, what) in kinds {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(what).await.is_ok() {}
        });
    }
    Ok(receiver)
}

/// The configuration file and the environment it is read with.
struct File {
    path: PathBuf,
    placeholders: Placeholders,
}

impl ReadConfig for File {
    fn load(&self) -> Result<Loaded, ConfigError> {
        gantry_config::load(&self.path, &self.placeholders)
    }

    fn stamp(&self) -> std::io::Result<FileStamp> {
        FileStamp::of(&self.path)
    }
}
