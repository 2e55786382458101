//! `gantry config`: what the configuration file means, and what is wrong with it.

mod check;
mod explain;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{cli::OutputFormat, error::CliError, host};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Show each value in effect, and the line, variable or default it comes from
    Explain(explain::ExplainArgs),
    /// Look for mistakes in a configuration file
    Check(check::CheckArgs),
}

pub(crate) fn run(args: &ConfigArgs) -> Result<ExitCode, CliError> {
    match &args.command {
        ConfigCommand::Explain(args) => explain::run(args),
        ConfigCommand::Check(args) => check::run(args),
    }
}

/// What both share.
#[derive(Debug, clap::Args)]
struct FileArgs {
    /// Configuration file
    #[arg(short, long, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value_t, value_enum)]
    format: OutputFormat,
}

impl FileArgs {
    fn path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(host::default_config)
    }
}

/// Bytes of the file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::new(format!("read {}: {error}", path.display()))),
    }
}

/// Output for scripts.
fn print_json(value: &serde_json::Value) -> Result<(), CliError> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| CliError::new(error.to_string()))?;
    text.push('\n');
    print(&text)
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), CliError> {
    use io::Write as _;
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
