use std::process::ExitCode;

use crate::{cli::LoggingArgs, error::CliError, logging};

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// Jobs to run, by name; all of them, stage by stage, if none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) fn run(logging_args: &LoggingArgs, args: ExecArgs) -> Result<ExitCode, CliError> {
    logging::start(logging_args, true);
    Err(CliError::new(format!("not wired yet: {:?}", args.jobs)))
}
