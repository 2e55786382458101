//! Times runners against `docker run` on the same machine, in one run: what counts is the ratio.
//!
//! Plays the GitLab server, starts the runner under test as a process with a config of its own, and measures from the moment a job
//! is handed out to its final state at the server. Rounds of `docker run` are interleaved with jobs, so that both meet the same
//! machine. A benchmark is no test: nothing here asserts.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod archives;
mod helper_process;
mod measure;
mod operator;
mod runner;
mod table;

use std::process::ExitCode;

use clap::Parser;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Time the runner (and another one) against docker run.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Command of the runner under test; {config} is its configuration file
    #[arg(long, default_value = "target/release/gantry run -c {config}")]
    runner: String,
    /// Command of another runner to compare with, e.g. 'gitlab-runner run -c {config}'
    #[arg(long, value_name = "COMMAND")]
    vs: Option<String>,
    /// Image of the jobs, with sh
    #[arg(long, default_value = "gantry.test/busybox:1")]
    image: String,
    /// Rounds of each single-job measurement
    #[arg(long, default_value_t = 14)]
    rounds: usize,
    /// Only measurements whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Address under which containers reach this machine
    #[arg(long, default_value = "172.17.0.1")]
    host: String,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut commands = vec![arguments.runner.clone()];
    commands.extend(arguments.vs.clone());
    for command in commands {
        println!("\n{command}");
        let rows = match measure::all(&arguments, &command).await {
            Ok(rows) => rows,
            Err(error) => {
                println!("failed: {error}");
                return ExitCode::FAILURE;
            }
        };
        table::print(&rows);
    }
    ExitCode::SUCCESS
}
