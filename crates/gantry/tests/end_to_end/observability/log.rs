//! The process log in its forms and levels (cli §5).

use std::path::Path;
use std::process::Stdio;

use gantry_testkit::{JobBuilder, ServerJobState, ServiceBuilder};
use rstest::rstest;
use serde_json::Value;
use tokio::process::Command;

use super::*;
use crate::harness::{BUSYBOX, Host, Signal, job};

/// Output of a start that ends by itself, because its port is taken.
async fn failed_start(folder: &Path, global: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(global)
        .args(["run", "--config", "config.toml"])
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "the log belongs to stderr");
    String::from_utf8(output.stderr).unwrap()
}

/// A host whose start fails after a few lines; `lines` are of its configuration.
fn failing_host(lines: &str) -> (tempfile::TempDir, std::net::TcpListener) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = idle_host(&format!("listen_address = \"{address}\"\n{lines}"));
    (folder, taken)
}

/// Lines of the log, without the error that ends the program.
fn log_lines(text: &str) -> Vec<&str> {
    let marks = ["FATAL: ", "level=fatal", r#""level":"fatal""#, "hint: "];
    let ours = |line: &&str| !marks.iter().any(|mark| line.contains(mark));
    text.lines().filter(ours).collect()
}

#[rstest]
#[case::flag(&["--log-format", "json"], &[], "")]
#[case::flag_wins(&["--log-format=json"], &[("LOG_FORMAT", "text")], "log_format = \"runner\"")]
#[case::variable(&[], &[("LOG_FORMAT", "json")], "log_format = \"text\"")]
#[case::file(&[], &[], "log_format = \"json\"")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_an_object_a_line(
    #[case] global: &[&str],
    #[case] variables: &[(&str, &str)],
    #[case] lines: &str,
) {
    let (folder, _taken) = failing_host(lines);
    let text = failed_start(folder.path(), global, variables).await;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let platform = &lines[0];
    assert_eq!(platform["msg"], "Runtime platform");
    assert_eq!(platform["level"], "info");
    assert!(platform["pid"].is_number(), "{platform}");
    let time: jiff::Timestamp = platform["time"].as_str().unwrap().parse().unwrap();
    assert!(time > jiff::Timestamp::UNIX_EPOCH);
    let loaded = lines
        .iter()
        .find(|line| line["msg"] == "Configuration loaded");
    assert_eq!(loaded.unwrap()["max_builds"], 1);
    let last = lines.last().unwrap();
    assert_eq!(last["level"], "fatal");
    assert!(
        last["msg"].as_str().unwrap().starts_with("listen on "),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_into_a_pipe_is_key_and_value_without_colours() {
    let (folder, _taken) = failing_host("log_format = \"text\"");
    let text = failed_start(folder.path(), &[], &[]).await;
    assert!(!text.contains('\x1b'), "{text:?}");
    for line in log_lines(&text) {
        assert!(line.starts_with("time=\"2"), "{line}");
        assert!(line.contains("\" level=info msg="), "{line}");
    }
    let loaded = "level=info msg=\"Configuration loaded\" builds=0 max_builds=1\n";
    assert!(text.contains(loaded), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runner_form_is_the_default_and_has_colours_into_a_pipe() {
    let (folder, _taken) = failing_host("");
    let text = failed_start(folder.path(), &[], &[]).await;
    let loaded = format!(
        "{:<50}\x1b[0;m  builds\x1b[0;m=0 max_builds\x1b[0;m=1\n",
        "Configuration loaded"
    );
    assert!(text.contains(&loaded), "{text:?}");
}

#[rstest]
#[case::level(&["--log-level", "error"], &[], "")]
#[case::short(&["-l", "fatal"], &[], "")]
#[case::variable(&[], &[("LOG_LEVEL", "panic")], "log_level = \"debug\"")]
#[case::file(&[], &[], "log_level = \"error\"")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_high_level_leaves_the_last_error_alone(
    #[case] global: &[&str],
    #[case] variables: &[(&str, &str)],
    #[case] lines: &str,
) {
    let (folder, _taken) = failing_host(lines);
    let text = failed_start(folder.path(), global, variables).await;
    let begun = |line: &&str| !line.contains("Runtime platform") && !line.contains("Starting");
    let rest: Vec<_> = log_lines(&text).into_iter().filter(begun).collect();
    assert!(rest.is_empty(), "{text}");
    assert!(text.contains("FATAL: listen on 127.0.0.1:"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn level_and_form_change_with_the_configuration() {
    let folder = idle_host("log_level = \"warn\"\n");
    let mut runner = Command::new(env!("CARGO_BIN_EXE_gantry"));
    runner
        .args(["run", "--config", "config.toml"])
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path());
    let runner = Runner::spawn(runner);
    let loads = |lines: &str| {
        std::fs::write(folder.path().join("config.toml"), lines).unwrap();
        runner.signal(Signal::HUP);
    };
    until("the handler of signals", async || {
        folder
            .path()
            .join(".gantry/status.sock")
            .exists()
            .then_some(())
    })
    .await;
    loads("log_level = \"info\"\nlog_format = \"json\"\n");
    runner.says("\"msg\":\"Configuration loaded\"").await;
    loads("log_level = \"info\"\nlog_format = \"text\"\nconcurrent = 7\n");
    runner
        .says("msg=\"Configuration loaded\" concurrent=7")
        .await;
    loads("log_level = \"warn\"\nconcurrent = 8\n");
    until("the quiet configuration", async || {
        let report = super::status::report(folder.path()).await;
        (report["slots"] == 8).then_some(())
    })
    .await;
    assert_eq!(runner.count("concurrent=8"), 0);
}

/// `FF_LOG_IMAGES_CONFIGURED_FOR_JOB` (docker-executor §3.8): what the job names, not what the configuration does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_a_job_are_logged_where_a_flag_says_so() {
    let config = Config::new().more(&format!(
        "[[runners.docker.services]]\nname = \"{BUSYBOX}\"\nalias = \"of-runner\"\ncommand = [\"sleep\", \"1000\"]\n"
    ));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let service = ServiceBuilder::new("gantry.test/bash:1")
        .alias("of-job")
        .command(["sleep", "1000"]);
    let work = job(["true"])
        .image("$REGISTRY/busybox:1")
        .service(service)
        .masked("REGISTRY", "gantry.test")
        .variable("FF_NETWORK_PER_BUILD", "true");
    let flag = |work: JobBuilder| work.variable("FF_LOG_IMAGES_CONFIGURED_FOR_JOB", "true");
    let runner = host.start();
    for (work, images, services) in [
        (work.clone(), 0, 0),
        // The image of the configuration is none of the job's.
        (flag(job(["true"])), 0, 0),
        (flag(work), 1, 1),
    ] {
        let id = host.gitlab.enqueue(&work);
        let done = host.end_of(id).await;
        assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
        assert_eq!(runner.count("Image configured for job"), images);
        assert_eq!(runner.count("Service image configured for job"), services);
    }
    let log = runner.log().clone();
    host.finish(runner).await;
    let text = log.text();
    let line = |words: &str| {
        text.lines()
            .find(|line| line.contains(words))
            .unwrap()
            .to_owned()
    };
    let image = line("Image configured for job");
    // Masked values of the job stay out of the log of the runner.
    assert!(image.contains("image_name=[MASKED]/busybox:1"), "{image}");
    let service = line("Service image configured for job");
    assert!(service.contains("image_name=[MASKED]/bash:1"), "{service}");
}
