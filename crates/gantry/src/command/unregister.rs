use std::{process::ExitCode, sync::Arc};

use gantry_config::RunnerConfig;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::{error, warn};

use super::registered::{ConfigArg, ConfigFile, runtime, tell_mode};
use crate::{cli::LoggingArgs, error::CliError};

/// Arguments of `unregister`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnregisterArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name of the runner, as in the configuration
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// URL of its GitLab
    #[arg(short, long, env = "CI_SERVER_URL", value_name = "URL")]
    url: Option<String>,
    /// Its token
    #[arg(
        short,
        long,
        env = "CI_SERVER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<SecretString>,
    /// All runners of the configuration
    #[arg(long, value_parser = crate::cli::go_bool, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true)]
    all_runners: bool,
}

pub(crate) fn run(logging: &LoggingArgs, args: &UnregisterArgs) -> Result<ExitCode, CliError> {
    let file = ConfigFile::open(logging, &args.config)?;
    tell_mode();
    if args.all_runners {
        all(&file)
    } else {
        single(&file, args)
    }
}

fn all(file: &ConfigFile) -> Result<ExitCode, CliError> {
    warn!("Unregistering all runners");
    if file.config().runners.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    file.prove_writable()?;
    let servers = file.servers()?;
    let gone = runtime()?.block_on(async {
        let mut gone = Vec::new();
        for runner in &file.config().runners {
            let done = match servers.of(runner) {
                Ok(coordinator) => coordinator
                    .unregister_runner(&servers.system_id)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match done {
                Ok(()) => gone.push(Arc::clone(runner)),
                Err(cause) => {
                    error!(
                        name = runner.name,
                        error = cause,
                        "Failed to unregister runner"
                    );
                }
            }
        }
        gone
    });
    if !gone.is_empty() {
        file.remove(&gone)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn single(file: &ConfigFile, args: &UnregisterArgs) -> Result<ExitCode, CliError> {
    let runner = find(file, args)?;
    file.prove_writable()?;
    let servers = file.servers()?;
    let coordinator = servers.of(&runner)?;
    runtime()?
        .block_on(coordinator.unregister_runner(&servers.system_id))
        .map_err(|error| {
            CliError::fatal(format!(
                "Failed to unregister runner {}",
                args.name.as_deref().unwrap_or(runner.short_token())
            ))
            .hint(error.to_string())
            .hint("the configuration was not changed")
        })?;
    let configured = &file.config().runners;
    if configured
        .iter()
        .any(|other| other.same_credentials(&runner))
    {
        file.remove(&[runner])?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The runner that is meant: by name, by token (and URL), or by both. One that only its credentials name need not be in the file.
fn find(file: &ConfigFile, args: &UnregisterArgs) -> Result<Arc<RunnerConfig>, CliError> {
    let name = args.name.as_deref().filter(|name| !name.is_empty());
    let token = args
        .token
        .as_ref()
        .filter(|token| !token.expose_secret().is_empty());
    let url = args.url.as_deref().filter(|url| !url.is_empty());
    let mut runners = file.config().runners.iter();
    let same_token = |runner: &RunnerConfig| {
        token.is_none_or(|token| token.expose_secret() == runner.token.expose_secret())
    };
    match (name, token) {
        (None, None) => Err(CliError::fatal(
            "at least one of --name or --token must be specified",
        )),
        (Some(name), _) => runners
            .find(|runner| runner.name == name && same_token(runner))
            .cloned()
            .ok_or_else(|| {
                CliError::fatal(format!("could not find a runner with the name '{name}'"))
                    .hint("`gantry list` shows the runners of the configuration")
            }),
        (None, Some(token)) => {
            let same_url = |runner: &RunnerConfig| {
                url.is_none_or(|url| url.trim_end_matches('/') == runner.url.trim_end_matches('/'))
            };
            if let Some(runner) = runners.find(|runner| same_token(runner) && same_url(runner)) {
                return Ok(Arc::clone(runner));
            }
            let Some(url) = url else {
                let short = gantry_config::short_token(token.expose_secret());
                return Err(CliError::fatal(format!(
                    "could not find a runner with the token '{short}'"
                ))
                .hint("--url names the GitLab of a runner that is not in the configuration"));
            };
            Ok(Arc::new(RunnerConfig {
                url: url.to_owned(),
                token: token.clone(),
                ..RunnerConfig::default()
            }))
        }
    }
}
