//! What the commands about registered runners share: the configuration file, the servers its runners belong to, and what is said at
//! the start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use gantry_config::{
    Config, Loaded, Placeholders, RunnerConfig,
    edit::{self, Edit, EditError, NewToken},
    state_dir, system_id,
};
use gantry_gitlab::{Coordinator, Coordinators, Product, RegisteredRunner, RunnerInfo};
use gantry_runner::{KeepToken, connection, runner_info};
use secrecy::SecretString;
use tracing::{info, warn};

use crate::{cli::LoggingArgs, error::CliError, host, logging};

/// The file all these commands work on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigArg {
    /// Configuration file; GitLab Runner's own is fine
    #[arg(short, long, env = "CONFIG_FILE", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// A configuration file and what it said when the command began.
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) placeholders: Placeholders,
    pub(crate) loaded: Loaded,
}

impl ConfigFile {
    /// Starts logging and reads the file; one that does not exist is empty.
    pub(crate) fn open(logging_args: &LoggingArgs, config: &ConfigArg) -> Result<Self, CliError> {
        let fixed = logging::start(logging_args, false);
        greet();
        let path = config.config.clone().unwrap_or_else(host::default_config);
        let placeholders = host::placeholders();
        let loaded = gantry_config::load(&path, &placeholders)
            .map_err(|error| CliError::fatal(error.to_string()))?;
        logging::configure(fixed, &loaded.config);
        Ok(Self {
            path,
            placeholders,
            loaded,
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Changes the file as it is now, under its lock.
    pub(crate) fn edit<T>(
        &self,
        change: impl FnOnce(&mut Edit<'_>) -> Result<T, EditError>,
    ) -> Result<T, CliError> {
        edit::edit(&self.path, &self.placeholders, change)
            .map_err(|error| CliError::fatal(format!("Failed to update configuration: {error}")))
    }

    /// To be asked before a server is told something that cannot be taken back.
    pub(crate) fn prove_writable(&self) -> Result<(), CliError> {
        edit::prove_writable(&self.path, &self.placeholders).map_err(|error| {
            CliError::fatal(format!("the configuration cannot be saved: {error}"))
                .hint("nothing was changed in GitLab")
        })
    }

    /// Puts the token of a runner that could not be added where its owner finds it.
    pub(crate) fn keep_token(
        &self,
        runner: &RunnerConfig,
        token: &NewToken,
        why: &CliError,
    ) -> CliError {
        let error = CliError::fatal(why.to_string());
        match edit::keep_unsaved_token(&self.state_folder(), runner, token) {
            Ok(path) => error.hint(format!(
                "the runner is registered; its token is kept in {}",
                path.display()
            )),
            Err(lost) => error.hint(format!(
                "the runner is registered, but its token could not be kept anywhere ({lost}): delete the runner in GitLab"
            )),
        }
    }

    /// Removes the runners with these credentials.
    pub(crate) fn remove(&self, gone: &[Arc<RunnerConfig>]) -> Result<(), CliError> {
        self.edit(|edit| {
            edit.remove_runners(|runner| gone.iter().any(|other| runner.same_credentials(other)))
        })?;
        info!("Updated {}", self.path.display());
        Ok(())
    }

    /// Where a running service of this configuration keeps its state.
    fn state_folder(&self) -> PathBuf {
        let variable = std::env::var_os("STATE_DIRECTORY");
        let setting = self.config().gantry.state_dir.as_deref();
        state_dir::resolve(setting, variable.as_deref(), &self.path).path
    }

    /// Writes new tokens into this file.
    pub(crate) fn token_keeper(&self) -> TokenKeeper {
        TokenKeeper {
            path: self.path.clone(),
            placeholders: self.placeholders.clone(),
            state_folder: self.state_folder(),
        }
    }

    /// The servers, spoken to as the manager this file belongs to.
    pub(crate) fn servers(&self) -> Result<Servers, CliError> {
        let known =
            system_id::read_or_make(&self.path, &system_id::MACHINE_ID_FILES.map(Path::new))
                .map_err(|error| CliError::fatal(error.to_string()))?;
        if let Some(error) = &known.not_kept {
            warn!(%error, "the system id cannot be kept");
        }
        let product = host::product(&self.config().gantry);
        Ok(Servers {
            coordinators: Coordinators::new(product.clone(), None),
            product,
            system_id: known.id.as_str().to_owned(),
            certs: host::certificate_folders(&self.path),
            max_age: self.config().connection_max_age,
        })
    }
}

/// Writes tokens that the running service renews.
pub(crate) struct TokenKeeper {
    pub(crate) path: PathBuf,
    pub(crate) placeholders: Placeholders,
    pub(crate) state_folder: PathBuf,
}

impl KeepToken for TokenKeeper {
    fn prove(&self) -> Result<(), String> {
        edit::prove_writable(&self.path, &self.placeholders)
            .map_err(|error| format!("the configuration cannot be saved: {error}"))
    }

    fn save(&self, old: &RunnerConfig, new: &NewToken) -> Result<(), String> {
        let saved = edit::edit(&self.path, &self.placeholders, |edit| {
            edit.replace_token(old, new)
        });
        let error = match saved {
            Ok(false) => return Ok(()),
            Ok(true) => {
                warn!(
                    name = old.name,
                    "the token came from the environment; the configuration now holds the new one itself"
                );
                return Ok(());
            }
            Err(error) => error,
        };
        Err(
            match edit::keep_unsaved_token(&self.state_folder, old, new) {
                Ok(path) => format!(
                    "{error}; GitLab has changed the token, and the new one is kept in {}",
                    path.display()
                ),
                Err(lost) => format!(
                    "{error}; GitLab has changed the token, and the new one could not be kept anywhere ({lost}): reset it once more with an access token (`gantry reset-token --pat`)"
                ),
            },
        )
    }
}

/// GitLab servers, by runner.
pub(crate) struct Servers {
    coordinators: Coordinators,
    product: gantry_gitlab::Product,
    pub(crate) system_id: String,
    certs: Vec<PathBuf>,
    max_age: Option<Duration>,
}

impl Servers {
    /// The client of a runner.
    pub(crate) fn of(&self, runner: &RunnerConfig) -> Result<Coordinator, CliError> {
        let connection = connection(runner, &self.certs, self.max_age);
        self.coordinators
            .get(&connection)
            .map_err(|error| CliError::fatal(error.to_string()))
    }

    /// What the server is told of this manager.
    pub(crate) fn info(&self, runner: &RunnerConfig) -> RunnerInfo {
        runner_info(&self.product, runner)
    }
}

/// What is written of a token that a server gave just now.
pub(crate) fn new_token(token: SecretString, given: &RegisteredRunner) -> NewToken {
    NewToken {
        token,
        obtained_at: SystemTime::now(),
        expires_at: given.token_expires_at,
    }
}

/// Calls are few and one after the other: one thread will do.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// The first line of each of the peer's commands (cli §1).
pub(crate) fn greet() {
    let product = Product::default();
    info!(
        arch = product.architecture,
        os = product.platform,
        pid = std::process::id(),
        revision = host::own_revision(),
        version = env!("CARGO_PKG_VERSION"),
        "Runtime platform"
    );
}

/// Says whose configuration it is (cli §1).
pub(crate) fn tell_mode() {
    if rustix::process::geteuid().is_root() {
        info!("Running in system-mode.");
    } else {
        warn!("Running in user-mode.");
        warn!("Use sudo for system-mode:");
        warn!("$ sudo gitlab-runner...");
    }
}
