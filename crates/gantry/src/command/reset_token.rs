use std::{process::ExitCode, sync::Arc};

use gantry_config::RunnerConfig;
use gantry_gitlab::RegisteredRunner;
use gantry_runner::KeepToken as _;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::{error, info, warn};

use super::registered::{ConfigArg, ConfigFile, Servers, new_token, runtime, tell_mode};
use crate::{cli::LoggingArgs, error::CliError};

/// Arguments of `reset-token`.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetTokenArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name of the runner, as in the configuration
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// URL of the runner, as in the configuration; together with --id
    #[arg(short, long, value_name = "URL")]
    url: Option<String>,
    /// Number of the runner, as in the configuration; together with --url
    #[arg(short, long, value_name = "ID")]
    id: Option<i64>,
    /// All runners of the configuration
    #[arg(long, value_parser = crate::cli::go_bool, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true)]
    all_runners: bool,
    /// Access token of a user, in place of the runner's old token
    #[arg(long, value_name = "TOKEN")]
    pat: Option<SecretString>,
}

pub(crate) fn run(logging: &LoggingArgs, args: &ResetTokenArgs) -> Result<ExitCode, CliError> {
    let file = ConfigFile::open(logging, &args.config)?;
    tell_mode();
    let runners = if args.all_runners {
        warn!("Resetting all runner tokens");
        file.config().runners.clone()
    } else {
        vec![find(&file, args)?]
    };
    file.prove_writable()?;
    let servers = file.servers()?;
    let pat = args
        .pat
        .as_ref()
        .filter(|pat| !pat.expose_secret().is_empty());
    let runtime = runtime()?;
    for runner in runners {
        match runtime.block_on(reset(&servers, &runner, pat)) {
            // Saved one by one: what comes next may fail, and a token that is not saved is lost.
            Ok(given) => save(&file, &runner, &given)?,
            Err(cause) if args.all_runners => {
                error!(
                    name = runner.name,
                    error = cause,
                    "Failed to reset runner token"
                );
            }
            Err(cause) => {
                return Err(CliError::fatal("Failed to reset runner token")
                    .hint(cause)
                    .hint("the configuration was not changed"));
            }
        }
    }
    info!("Updated");
    Ok(ExitCode::SUCCESS)
}

fn find(file: &ConfigFile, args: &ResetTokenArgs) -> Result<Arc<RunnerConfig>, CliError> {
    let mut runners = file.config().runners.iter();
    let name = args.name.as_deref().filter(|name| !name.is_empty());
    let (found, what) = match (name, args.url.as_deref(), args.id) {
        (Some(name), _, _) => (
            runners.find(|runner| runner.name == name),
            format!("could not find a runner with the name '{name}'"),
        ),
        (None, Some(url), Some(id)) => (
            runners.find(|runner| {
                runner.id == id && runner.url.trim_end_matches('/') == url.trim_end_matches('/')
            }),
            format!("could not find a runner with the URL '{url}' and ID '{id}'"),
        ),
        _ => {
            return Err(CliError::fatal("No runner provided")
                .hint("name it by --name, by --url and --id, or take --all-runners"));
        }
    };
    found.cloned().ok_or_else(|| {
        CliError::fatal(format!("Couldn't get runner credentials: {what}"))
            .hint("`gantry list` shows the runners of the configuration")
    })
}

async fn reset(
    servers: &Servers,
    runner: &RunnerConfig,
    pat: Option<&SecretString>,
) -> Result<RegisteredRunner, String> {
    let coordinator = servers.of(runner).map_err(|error| error.to_string())?;
    let given = match pat {
        Some(_) if runner.id == 0 => {
            return Err(
                "its id is not in the configuration, and an access token needs it".to_owned(),
            );
        }
        Some(pat) => coordinator.reset_token_of(runner.id, pat).await,
        None => coordinator.reset_token().await,
    };
    given.map_err(|error| error.to_string())
}

fn save(
    file: &ConfigFile,
    runner: &RunnerConfig,
    given: &RegisteredRunner,
) -> Result<(), CliError> {
    let new = new_token(given.token.clone(), given);
    file.token_keeper()
        .save(runner, &new)
        .map_err(|why| CliError::fatal(format!("Failed to update configuration: {why}")))
}
