//! Runs CI jobs in containers: the command line.
//!
//! Argument structs live beside the code of their command, in `command`; this file only brings them together. The process
//! environment is read here and in `host`, nowhere else. Exit codes: 0 success; 1 any failure (the peer's only code, cli §4; for
//! `exec` also a failed job).

mod cli;
mod command;
mod error;
mod host;
mod logging;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // One crypto provider for everything that speaks TLS.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures; for the rest the peer knows one code.
            let failed = error.use_stderr();
            error.print().ok();
            return if failed {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            error.print();
            ExitCode::FAILURE
        }
    }
}
