use std::{io::Write as _, process::ExitCode};

use tracing::warn;

use super::registered::{ConfigArg, ConfigFile};
use crate::{cli::LoggingArgs, error::CliError};

/// Arguments of `lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    config: ConfigArg,
}

pub(crate) fn run(logging: &LoggingArgs, args: &LintArgs) -> Result<ExitCode, CliError> {
    let file = ConfigFile::open(logging, &args.config)?;
    let path = file.path.display();
    if !file.path.exists() {
        return Err(CliError::fatal(format!("{path} does not exist")));
    }
    for warning in &file.loaded.warnings {
        warn!("{path}: {warning}");
    }
    let unknown = &file.loaded.unknown_keys;
    if unknown.is_empty() {
        writeln!(std::io::stdout(), "Configuration file is valid.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines = unknown.iter().map(|key| {
        let meant = key
            .did_you_mean
            .map(|name| format!(", did you mean {name}?"))
            .unwrap_or_default();
        format!("\n  unknown key: {} (line {}{meant})", key.key, key.line)
    });
    Err(CliError::fatal(format!(
        "{} unknown key(s) found in {path}:{}",
        unknown.len(),
        lines.collect::<String>()
    )))
}
