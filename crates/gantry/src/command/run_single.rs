use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use gantry_config::{
    Config, ConfigError, FileStamp, Loaded, RunnerConfig, Skip, state_dir, system_id,
};
use gantry_journal::{JournalError, StateFolder};
use gantry_runner::{About, Exit, Limits, Listeners, Options, ReadConfig};
use tracing::{info, warn};

use super::{
    registered::{greet, tell_mode},
    run::{exit_code, service_runtime, signals},
};
use crate::{
    cli::LoggingArgs,
    error::CliError,
    host::{self, RealEngines},
    logging,
    runner_flags::{IdentityArgs, RunnerFlags},
};

/// Processes of the same runner that may run side by side, each with a state folder of its own.
const SIDE_BY_SIDE: usize = 64;

/// Arguments of `run-single`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunSingleArgs {
    /// Configuration file that --runner is looked for in
    #[arg(short, long, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of a runner in the configuration file; its settings count, and no flags
    #[arg(short, long, value_name = "NAME")]
    runner: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// End after so many seconds without a job; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait_timeout: u64,
    /// End after so many jobs; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_builds: u64,
    /// Seconds a forceful shutdown may take; 30 if not given
    #[arg(long, value_name = "SECONDS")]
    shutdown_timeout: Option<u64>,
    #[command(flatten)]
    flags: RunnerFlags,
}

pub(crate) fn run(logging: &LoggingArgs, args: &RunSingleArgs) -> Result<ExitCode, CliError> {
    logging::start(logging, false);
    greet();
    tell_mode();
    let config = config(args)?;
    let runtime = service_runtime()?;
    let exit = runtime.block_on(serve(args, config))?;
    runtime.shutdown_background();
    Ok(exit_code(exit))
}

/// A configuration of the one runner.
fn config(args: &RunSingleArgs) -> Result<Config, CliError> {
    let fatal = |error: &dyn std::fmt::Display| CliError::fatal(error.to_string());
    let placeholders = host::placeholders();
    let mut config = Config::default();
    let runner = if let Some(name) = args.runner.as_deref().filter(|name| !name.is_empty()) {
        let path = args.config.clone().unwrap_or_else(host::default_config);
        config = gantry_config::load(&path, &placeholders)
            .map_err(|error| CliError::fatal(format!("Error loading config: {error}")))?
            .config;
        let mut runners = config.runners.iter();
        let found = runners.find(|runner| runner.name == name).cloned();
        found.ok_or_else(|| {
            CliError::fatal(format!(
                "Error loading runner by name: could not find a runner with the name '{name}'"
            ))
        })?
    } else {
        let mut entry = args.flags.entry().map_err(|error| fatal(&error))?;
        entry.check().map_err(|error| fatal(&error))?;
        let name = args.identity.name.clone().unwrap_or_else(host::host_name);
        entry.set_text(&["name"], &name);
        if let Some(url) = &args.identity.url {
            entry.set_text(&["url"], url.trim());
        }
        if let Some(token) = &args.identity.token {
            entry.set_token(token);
        }
        for (key, what) in [("url", "URL"), ("token", "Token"), ("executor", "Executor")] {
            if entry.text(&[key]).is_none() {
                return Err(CliError::fatal(format!("Missing {what}")).hint(format!(
                    "--{key} gives it, or --runner names a runner of the configuration"
                )));
            }
        }
        entry
            .resolve(&placeholders)
            .map_err(|error| fatal(&error))?
    };
    match runner.skip {
        None => {}
        Some(Skip::OtherExecutor) => {
            return Err(
                CliError::fatal(format!("Unknown executor: {}", runner.executor))
                    .hint("Gantry runs the docker executor alone"),
            );
        }
        Some(Skip::BlankToken) => return Err(CliError::fatal("Missing Token")),
        Some(Skip::UnusableUrl) => {
            return Err(CliError::fatal(format!(
                "URL {:?} is neither http nor https",
                runner.url
            )));
        }
    }
    config.concurrent = 1;
    config.runners = vec![one_at_a_time(&runner)];
    if let Some(seconds) = args.shutdown_timeout.filter(|seconds| *seconds > 0) {
        config.shutdown_timeout = Duration::from_secs(seconds);
    }
    Ok(config)
}

fn one_at_a_time(runner: &RunnerConfig) -> Arc<RunnerConfig> {
    Arc::new(RunnerConfig {
        request_concurrency: 1,
        ..runner.clone()
    })
}

async fn serve(args: &RunSingleArgs, config: Config) -> Result<Exit, CliError> {
    let signals = signals()?;
    let path = args.config.clone().unwrap_or_else(host::default_config);
    let runner = Arc::clone(&config.runners[0]);
    let system_id = if args.config.is_some() {
        let known = system_id::read_or_make(&path, &system_id::MACHINE_ID_FILES.map(Path::new))
            .map_err(|error| CliError::fatal(error.to_string()))?;
        known.id
    } else {
        system_id::generate(&system_id::MACHINE_ID_FILES.map(Path::new))
    };
    info!(
        "Starting runner for {} with token {} ...",
        runner.url,
        runner.short_token()
    );
    let state = state(&config, &path, &runner)?;
    let options = Options {
        listeners: Listeners::default(),
        // As the peer (cli §2).
        sessions: None,
        about: About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            built_at: host::built_at(),
            config: std::path::absolute(&path)?,
            listen_address: None,
            started: Instant::now(),
        },
        log: logging::counts(),
        reader: Arc::new(Fixed(config.clone())),
        engines: Arc::new(RealEngines),
        environment: host::environment(&config),
        product: host::product(&config.gantry),
        host: host::facts(
            &config.gantry,
            system_id.as_str().to_owned(),
            state.id().to_owned(),
        ),
        certs: host::certificate_folders(&path),
        on_stop: None,
        signals,
        tokens: None,
        limits: Limits {
            max_builds: (args.max_builds > 0).then_some(args.max_builds),
            wait_timeout: (args.wait_timeout > 0).then(|| Duration::from_secs(args.wait_timeout)),
        },
        on_reload: Box::new(|_| ()),
        state,
        loaded: Loaded {
            config,
            ..Loaded::default()
        },
    };
    Ok(gantry_runner::run(options).await)
}

/// A folder of the runner's own in that of the service, so that both may run, and several of these. Where that cannot be written,
/// jobs do not outlive the process' host folder for temporary files.
fn state(config: &Config, path: &Path, runner: &RunnerConfig) -> Result<StateFolder, CliError> {
    let variable = std::env::var_os("STATE_DIRECTORY");
    let place = state_dir::resolve(
        config.gantry.state_dir.as_deref(),
        variable.as_deref(),
        path,
    );
    let folders = [
        place.path,
        std::env::temp_dir().join(format!("gantry-{}", rustix::process::geteuid().as_raw())),
    ];
    let mut last = None;
    for folder in &folders {
        for number in 1..=SIDE_BY_SIDE {
            let own = folder.join(format!("single-{}-{number}", runner.short_token()));
            match StateFolder::open(&own, host::random_id) {
                Ok(state) => return Ok(state),
                Err(JournalError::InUse { .. }) => {}
                Err(error) => {
                    warn!(%error, folder = %folder.display(), "no state can be kept here");
                    last = Some(error);
                    break;
                }
            }
        }
    }
    let why = last.map_or_else(
        || format!("{SIDE_BY_SIDE} processes of this runner run already"),
        |error| error.to_string(),
    );
    Err(CliError::fatal(format!("state folder: {why}"))
        .hint("$STATE_DIRECTORY names another folder"))
}

/// A configuration that never changes.
struct Fixed(Config);

impl ReadConfig for Fixed {
    fn load(&self) -> Result<Loaded, ConfigError> {
        Ok(Loaded {
            config: self.0.clone(),
            ..Loaded::default()
        })
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        Err(io::ErrorKind::NotFound.into())
    }
}
