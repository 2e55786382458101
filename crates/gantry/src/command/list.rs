use std::{io::Write as _, process::ExitCode};

use secrecy::ExposeSecret as _;
use serde::Serialize;
use tracing::info;

use super::registered::{ConfigArg, ConfigFile};
use crate::{
    cli::{LoggingArgs, OutputFormat},
    error::CliError,
};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Show tokens whole, instead of the part that tells runners apart
    #[arg(long)]
    show_tokens: bool,
    /// Form of the list: lines of the log as GitLab Runner writes them, or JSON on stdout
    #[arg(long, value_name = "FORMAT", default_value_t, value_enum)]
    format: OutputFormat,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    executor: String,
    token: &'a str,
    url: &'a str,
    id: i64,
    usable: bool,
}

pub(crate) fn run(logging: &LoggingArgs, args: &ListArgs) -> Result<ExitCode, CliError> {
    let file = ConfigFile::open(logging, &args.config)?;
    let runners = &file.config().runners;
    let token = |runner: &'_ gantry_config::RunnerConfig| {
        if args.show_tokens {
            runner.token.expose_secret().to_owned()
        } else {
            runner.short_token().to_owned()
        }
    };
    if args.format == OutputFormat::Json {
        let tokens: Vec<String> = runners.iter().map(|runner| token(runner)).collect();
        let list: Vec<Listed<'_>> = runners
            .iter()
            .zip(&tokens)
            .map(|(runner, token)| Listed {
                name: &runner.name,
                executor: runner.executor.to_string(),
                token,
                url: &runner.url,
                id: runner.id,
                usable: runner.skip.is_none(),
            })
            .collect();
        let text = serde_json::to_string_pretty(&list).map_err(std::io::Error::other)?;
        writeln!(std::io::stdout(), "{text}")?;
        return Ok(ExitCode::SUCCESS);
    }
    info!("ConfigFile" = %file.path.display(), "Listing configured runners");
    for runner in runners {
        info!(
            "Executor" = %runner.executor,
            "Token" = token(runner),
            "URL" = runner.url,
            "{}",
            runner.name
        );
    }
    Ok(ExitCode::SUCCESS)
}
