//! One module a command.

pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod exec;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod status;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    error::CliError,
};

pub(crate) fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Run(args) => run::run(&cli.logging, &args),
        Command::Exec(args) => exec::run(&cli.logging, args),
        Command::Status(args) => status::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completion(args) => completion::run(&args),
    }
}
