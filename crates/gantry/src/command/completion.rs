use std::{io::Write as _, process::ExitCode};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, error::CliError};

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// Shell to write the script for
    shell: Shell,
}

pub(crate) fn run(args: &CompletionArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gantry", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
