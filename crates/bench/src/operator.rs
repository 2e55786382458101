//! What an operator waits for and pays for: the program's start, a reload, many runners that do nothing.

use std::{
    fmt::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use gantry_testkit::{Endpoint, FakeGitLab};
use tokio::process::Command;

use crate::{
    Arguments, Result,
    runner::RunnerProcess,
    table::{Row, percentile, seconds},
};

/// How long the CPU time of an idle runner is watched.
const WATCHED: Duration = Duration::from_secs(20);

pub(crate) async fn all(arguments: &Arguments, command: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if arguments.wants("version") {
        rows.push(version(arguments, command).await?);
    }
    if arguments.wants("reload") {
        rows.push(reload(arguments, command).await?);
    }
    if arguments.wants("idle") {
        rows.push(idle(command).await?);
    }
    Ok(rows)
}

fn row(name: &'static str, p50: String, p95: String, aim: &str) -> Row {
    Row {
        name,
        p50,
        p95,
        yardstick: String::new(),
        ratio: None,
        aim: aim.to_owned(),
    }
}

/// From the start of the process to its end.
async fn version(arguments: &Arguments, command: &str) -> Result<Row> {
    let program = command.split_whitespace().next().unwrap_or_default();
    let mut spans = Vec::new();
    for _ in 0..arguments.rounds {
        let start = Instant::now();
        let mut version = Command::new(program);
        version.arg("--version").stdout(Stdio::null());
        if !version.status().await?.success() {
            return Err(format!("{program} --version failed").into());
        }
        spans.push(start.elapsed().as_secs_f64());
    }
    let (p50, p95) = (percentile(&spans, 0.5), percentile(&spans, 0.95));
    Ok(row("--version", seconds(p50), seconds(p95), "≤ 10 ms"))
}

/// From `SIGHUP` to the line in the log, with 1,000 runners of which one changes each time.
async fn reload(arguments: &Arguments, command: &str) -> Result<Row> {
    let gitlab = server_of(1000).await;
    let text = entries(&gitlab, 1000);
    let runner = RunnerProcess::with_config(command, &text)?;
    let loaded = |log: &Path| {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        log.matches("Configuration loaded").count()
    };
    gitlab.wait_for_requests(Endpoint::RequestJob, 2000).await;
    let mut spans = Vec::new();
    for round in 0..arguments.rounds {
        let before = loaded(&runner.log());
        let changed = text.replacen("output_limit = 1000", &format!("output_limit = {round}"), 1);
        runner.write_config(&changed)?;
        let start = Instant::now();
        runner.hang_up()?;
        while loaded(&runner.log()) == before {
            if start.elapsed() > Duration::from_secs(30) {
                return Err("no reload within 30 s".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        spans.push(start.elapsed().as_secs_f64());
    }
    let (p50, p95) = (percentile(&spans, 0.5), percentile(&spans, 0.95));
    let name = "reload with 1,000 runners";
    Ok(row(name, seconds(p50), seconds(p95), "≤ 100 ms"))
}

/// CPU time of 100 runners whose requests the server holds.
async fn idle(command: &str) -> Result<Row> {
    let gitlab = server_of(100).await;
    let runner = RunnerProcess::with_config(command, &entries(&gitlab, 100))?;
    gitlab.wait_for_requests(Endpoint::RequestJob, 200).await;
    let before = runner.cpu_seconds();
    tokio::time::sleep(WATCHED).await;
    let used = (runner.cpu_seconds() - before) / WATCHED.as_secs_f64();
    let name = "100 idle runners, of a core";
    Ok(row(
        name,
        format!("{:.2} %", used * 100.0),
        String::new(),
        "≤ 1 %",
    ))
}

/// A server that holds requests for longer than anything here takes.
async fn server_of(runners: usize) -> FakeGitLab {
    let gitlab = FakeGitLab::builder()
        .long_poll(Duration::from_secs(50))
        .start()
        .await;
    gitlab.keep_bodies(false);
    for number in 0..runners {
        gitlab.add_runner_token(&token(number));
    }
    gitlab
}

fn token(number: usize) -> String {
    format!("glrt-{number:09}benchbench")
}

fn entries(gitlab: &FakeGitLab, runners: usize) -> String {
    // More slots than entries: only then may the server hold a request.
    let mut text = format!("concurrent = {}\ncheck_interval = 1\n", runners + 1);
    for number in 0..runners {
        let (url, token) = (gitlab.url(), token(number));
        write!(
            text,
            "[[runners]]\n  name = \"runner {number}\"\n  url = \"{url}\"\n  token = \"{token}\"\n  executor = \"docker\"\n  output_limit = 1000\n  [runners.docker]\n    image = \"busybox\"\n    volumes = [\"/cache\"]\n"
        )
        .ok();
    }
    text
}
