//! `gantry status`.

use std::path::Path;
use std::process::{Output, Stdio};

use gantry_testkit::{Endpoint, Fault, ServerJobState};
use rstest::rstest;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::*;
use crate::harness::{Host, Signal, gate, job};

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command
        .arg("status")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn status(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().await.unwrap()
}

pub(crate) async fn report(folder: &Path) -> Value {
    // The runner may only be starting.
    until("a report", async || {
        let output = status(folder, &["--config", "config.toml", "--format", "json"]).await;
        let answered = output.status.code() == Some(0);
        answered.then(|| serde_json::from_slice(&output.stdout).unwrap())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_is_shown_with_stage_container_and_backlog() {
    let Some(host) = Host::new(&Config::new().runner("limit = 3")).await else {
        return;
    };
    let wait = gate("end");
    let id = host
        .gitlab
        .enqueue(&job(["echo x >> /witness/begun", wait.as_str()]));
    let runner = host.start();
    host.wait_witness("begun", 1).await;
    // Until the request for the next job is on its way.
    let found = until("a polling runner", async || {
        let found = report(host.folder()).await;
        (found["runners"][0]["requests"] == 1).then_some(found)
    })
    .await;
    assert_eq!(found["state"], "running");
    assert_eq!(found["pid"], runner.pid());
    assert_eq!(found["compatible_version"], "19.4.0");
    assert_eq!(
        (&found["slots"], &found["slots_used"]),
        (&4.into(), &2.into())
    );
    assert_eq!(found["listen_address"], Value::Null);
    let folder = host.folder().canonicalize().unwrap();
    assert_eq!(
        found["state_folder"],
        folder.join(".gantry").to_str().unwrap()
    );
    let entry = &found["runners"][0];
    assert_eq!(entry["runner"], host.short_token());
    assert_eq!(entry["state"], "polling");
    assert_eq!((&entry["jobs"], &entry["limit"]), (&1.into(), &3.into()));
    let shown = &found["jobs"][0];
    assert_eq!(shown["id"], id);
    assert_eq!(shown["course"], "running");
    assert_eq!(shown["state"], "running");
    assert_eq!(shown["stage"], "step_script");
    assert_eq!(shown["recovered"], false);
    assert!(shown["journal_bytes"].as_u64() > Some(1000), "{shown}");
    assert!(shown["log_bytes"].as_u64() > Some(100), "{shown}");
    let containers = host.containers("").await;
    let container = shown["container"].as_str().unwrap().to_owned();
    assert!(
        containers.contains(&container),
        "{container} of {containers:?}"
    );

    let text = status(host.folder(), &["-c", "config.toml"]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    for words in ["2 of 4 slots in use", "polling", "step_script", &container] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    host.assert_no_secret("the status", &text);
    host.assert_no_secret("the report", &found.to_string());
    host.open_gate("end");
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unhealthy_runner_says_until_when_and_the_outbox_is_counted() {
    let config = Config::new()
        .runner("unhealthy_requests_limit = 1")
        .runner("unhealthy_interval = \"1h\"")
        .runner("job_status_final_update_retry_limit = 1");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let final_update = Fault::on(Endpoint::UpdateJob).state("final");
    host.gitlab.fault(final_update.status(500));
    host.gitlab
        .fault(Fault::on(Endpoint::RequestJob).calls(2..).status(403));
    let id = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    let found = until("the outbox", async || {
        let found = report(host.folder()).await;
        (found["outbox"] == 1 && found["runners"][0]["state"] == "unhealthy").then_some(found)
    })
    .await;
    let rest = found["runners"][0]["until_seconds"].as_u64().unwrap();
    assert!((3000..=3600).contains(&rest), "{rest}");
    let shown = &found["jobs"][0];
    assert_eq!(
        (&shown["course"], &shown["state"]),
        (&"outbox".into(), &"success".into())
    );
    host.gitlab.heal();
    host.end_of(id).await;
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_slots_in_use_a_runner_waits_for_one() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let wait = gate("end");
    let id = host
        .gitlab
        .enqueue(&job(["echo x >> /witness/begun", wait.as_str()]));
    let runner = host.start();
    host.wait_witness("begun", 1).await;
    until("the wait", async || {
        let found = report(host.folder()).await;
        (found["runners"][0]["state"] == "waiting-for-slot").then_some(())
    })
    .await;
    host.open_gate("end");
    host.end_of(id).await;
    host.finish(runner).await;
}

#[rstest]
#[case::beside_the_configuration("", &["--config", "config.toml"], &[], ".gantry", "default")]
#[case::of_the_configuration("[gantry]\nstate_dir = \"elsewhere\"", &["--config", "config.toml"], &[], "elsewhere", "[gantry] state_dir")]
#[case::of_the_environment("", &["--config", "config.toml"], &[("STATE_DIRECTORY", "/nowhere/state")], "/nowhere/state", "$STATE_DIRECTORY")]
#[case::of_the_command_line("", &["--state-dir", "mine"], &[], "mine", "--state-dir")]
#[case::of_a_broken_configuration("concurrent = [", &["--config", "config.toml"], &[], ".gantry", "config.toml")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_runner_the_folder_that_was_looked_at_is_named(
    #[case] lines: &str,
    #[case] arguments: &[&str],
    #[case] variables: &[(&str, &str)],
    #[case] path: &str,
    #[case] chosen_by: &str,
) {
    let folder = idle_host(lines);
    let output = command(folder.path(), arguments)
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    let path = folder.path().canonicalize().unwrap().join(path);
    let begin = format!(
        "error: no runner is running on the state folder {}",
        path.display()
    );
    assert!(text.starts_with(&begin), "{text}");
    assert!(text.contains(chosen_by), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_goes_with_the_runner_and_is_made_anew_after_a_death() {
    let folder = idle_host("");
    let socket = folder.path().join(".gantry/status.sock");
    let runner = Runner::start(folder.path(), &[], &[]);
    until("the socket", async || socket.exists().then_some(())).await;
    report(folder.path()).await;
    runner.kill().await;
    assert!(socket.exists(), "nobody could remove it");
    let dead = status(folder.path(), &["-c", "config.toml"]).await;
    assert_eq!(dead.status.code(), Some(1));
    let mut runner = Runner::start(folder.path(), &[], &[]);
    runner.says("Configuration loaded").await;
    until("an answer", async || {
        let output = status(folder.path(), &["-c", "config.toml"]).await;
        output.status.success().then_some(())
    })
    .await;
    runner.signal(Signal::QUIT);
    assert_eq!(runner.exit_code().await, 0);
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_goes_on_over_a_restart_of_the_runner() {
    let folder = idle_host("");
    let runner = Runner::start(folder.path(), &[], &[]);
    runner.says("Configuration loaded").await;
    let arguments = ["-c", "config.toml", "--watch=1", "--format", "json"];
    let mut watch = command(folder.path(), &arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        let line = lines.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    while next().await["state"] != "running" {}
    runner.kill().await;
    loop {
        let line = next().await;
        if let Some(error) = line["error"].as_str() {
            assert!(error.contains("no runner is running"), "{error}");
            break;
        }
    }
    let _runner = Runner::start(folder.path(), &[], &[]);
    while next().await["state"] != "running" {}
}
