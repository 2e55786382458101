use std::{process::ExitCode, sync::Arc};

use gantry_config::RunnerConfig;
use gantry_gitlab::Verified;
use secrecy::{ExposeSecret, SecretString};

use super::registered::{ConfigArg, ConfigFile, runtime, tell_mode};
use crate::{cli::LoggingArgs, error::CliError};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only runners of this name
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Only the runner with this URL (and token)
    #[arg(short, long, value_name = "URL")]
    url: Option<String>,
    /// Only the runner with this token (and URL, if given)
    #[arg(short, long, value_name = "TOKEN")]
    token: Option<SecretString>,
    /// Remove runners from the configuration that the server does not know any more
    #[arg(long, value_parser = crate::cli::go_bool, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true)]
    delete: bool,
}

impl VerifyArgs {
    /// Name equal, or token and URL equal; nothing given selects all (cli §2 "verify").
    fn selects(&self, runner: &RunnerConfig) -> bool {
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        let token = self
            .token
            .as_ref()
            .map(ExposeSecret::expose_secret)
            .filter(|token| !token.is_empty());
        let url = self.url.as_deref().filter(|url| !url.is_empty());
        if name.is_none() && token.is_none() && url.is_none() {
            return true;
        }
        let same_url = url.is_none_or(|url| {
            url == "*" || url.trim_end_matches('/') == runner.url.trim_end_matches('/')
        });
        let same_token = match token {
            Some(token) => token == runner.token.expose_secret() && same_url,
            None => url.is_some() && same_url,
        };
        name.is_some_and(|name| name == runner.name) || same_token
    }
}

pub(crate) fn run(logging: &LoggingArgs, args: &VerifyArgs) -> Result<ExitCode, CliError> {
    let file = ConfigFile::open(logging, &args.config)?;
    tell_mode();
    let all = &file.config().runners;
    let selected: Vec<&Arc<RunnerConfig>> =
        all.iter().filter(|runner| args.selects(runner)).collect();
    if selected.is_empty() && !all.is_empty() {
        return Err(CliError::fatal(
            "no runner matches the filtering parameters",
        ));
    }
    let servers = file.servers()?;
    let gone = runtime()?.block_on(async {
        let mut gone = Vec::new();
        for runner in selected {
            let verified = servers
                .of(runner)?
                .verify_runner(&servers.info(runner), &servers.system_id)
                .await;
            // An outage proves nothing: such a runner stays.
            if matches!(verified, Verified::Invalid) {
                gone.push(Arc::clone(runner));
            }
        }
        Ok::<_, CliError>(gone)
    })?;
    if gone.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.delete {
        return Err(CliError::fatal("Failed to verify runners")
            .hint("`verify --delete` removes runners that the server does not know any more"));
    }
    file.remove(&gone)?;
    Ok(ExitCode::SUCCESS)
}
