//! Runs CI jobs in containers: the command line.
//!
//! Argument structs live beside the code of their command, in `command`; this file only brings them together. The process
//! environment is read here and in `host`, nowhere else. Exit codes: 0 success; 1 any failure (the peer's only code, cli §4; for
//! `exec` also a failed job).

mod arguments;
mod cli;
mod command;
mod error;
mod host;
mod logging;
mod runner_flags;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::{
    FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::error::CliError;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let called = arguments.first().cloned();
    // Asked for by scripts all the time, and needs no command line.
    if let [_, only] = &arguments[..]
        && ["--version", "-v", "-version"]
            .iter()
            .any(|flag| only == flag)
    {
        return print_version(called.as_deref());
    }
    // One crypto provider for everything that speaks TLS.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let program = cli::program(called.as_deref());
    let normalised = arguments::normalise(&program, arguments);
    for flag in &normalised.boolean_apart {
        let warning = format!(
            "warning: --{flag}: boolean parameters must be passed in the command line with --{flag}=true"
        );
        // Nobody is left to tell that stderr is closed.
        writeln!(std::io::stderr(), "{warning}").ok();
    }
    let parsed = program
        .try_get_matches_from(normalised.arguments)
        .and_then(|matches| cli::Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            return print_version(called.as_deref());
        }
        Err(error) => return refuse(&error),
    };
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            error.print();
            ExitCode::FAILURE
        }
    }
}

fn print_version(called: Option<&std::ffi::OsStr>) -> ExitCode {
    match std::io::stdout().write_all(host::version(called).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Help is no failure; for the rest the peer knows one code.
fn refuse(error: &clap::Error) -> ExitCode {
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
    {
        let mut refused = CliError::new(format!("Command {name} not found."));
        if let Some(ContextValue::Strings(meant)) = error.get(ContextKind::SuggestedSubcommand) {
            // The likeliest is last.
            let meant: Vec<&str> = meant.iter().rev().map(String::as_str).collect();
            refused = refused.hint(format!("did you mean {}?", meant.join(" or ")));
        }
        refused.hint("--help lists the commands").print();
        return ExitCode::FAILURE;
    }
    error.print().ok();
    if error.use_stderr() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
