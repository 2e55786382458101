//! One module a command.

pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod exec;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod plan;
pub(crate) mod register;
pub(crate) mod registered;
pub(crate) mod reset_token;
pub(crate) mod run;
pub(crate) mod run_single;
pub(crate) mod status;
pub(crate) mod unregister;
pub(crate) mod verify;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    error::CliError,
};

pub(crate) fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Run(args) => run::run(&cli.logging, &args).map_err(CliError::in_the_log),
        Command::RunSingle(args) => run_single::run(&cli.logging, &args),
        Command::Register(args) => register::run(&cli.logging, &args),
        Command::Unregister(args) => unregister::run(&cli.logging, &args),
        Command::Verify(args) => verify::run(&cli.logging, &args),
        Command::List(args) => list::run(&cli.logging, &args),
        Command::ResetToken(args) => reset_token::run(&cli.logging, &args),
        Command::Lint(args) => lint::run(&cli.logging, &args),
        Command::Exec(args) => exec::run(&cli.logging, args),
        Command::Status(args) => status::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
