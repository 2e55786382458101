//! `run-single`: one runner from flags or by name, with an end of its own.

use gantry_testkit::{Endpoint, FakeGitLab, JobBuilder, ServerJobState};
use rstest::rstest;

use crate::harness::Operator;

#[rstest]
#[case(&["run-single"], "FATAL: Missing URL")]
#[case(&["run-single", "-u", "http://h"], "FATAL: Missing Token")]
#[case(&["run-single", "-u", "http://h", "-t", "glrt-x"], "FATAL: Missing Executor")]
#[case(&["run-single", "-u", "http://h", "-t", "glrt-x", "--executor", "shell"], "FATAL: Unknown executor: shell")]
#[case(&["run-single", "-u", "ftp://h", "-t", "glrt-x", "--executor", "docker"], "neither http nor https")]
#[case(&["run-single", "--runner", "none"], "could not find a runner with the name 'none'")]
#[tokio::test]
async fn what_is_missing_is_named(#[case] arguments: &[&str], #[case] message: &str) {
    Operator::new().run(arguments).await.failed().says(message);
}

#[tokio::test]
async fn without_a_job_it_ends_after_the_time_given() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let done = operator
        .run(&[
            "run-single",
            "--url",
            gitlab.url(),
            "--token",
            gitlab.runner_token(),
            "--executor",
            "docker",
            "--docker-image",
            "busybox",
            "--docker-host",
            "unix:///nowhere.sock",
            "--wait-timeout",
            "1",
        ])
        .await;
    done.succeeded()
        .says("Starting runner for ")
        .says("This runner has not received a job in 1 seconds, so now exiting")
        .is_silent_about(gitlab.runner_token());
    assert!(!gitlab.requests_to(Endpoint::RequestJob).is_empty());
    assert!(!operator.config().exists());
}

#[tokio::test]
async fn a_runner_of_the_configuration_is_taken_by_name() {
    let gitlab = FakeGitLab::start().await;
    gitlab.add_runner_token("glrt-two");
    let operator = Operator::with_runners(
        &gitlab,
        &[("one", gitlab.runner_token()), ("two", "glrt-two")],
    );
    let before = operator.text();
    operator
        .run(&["run-single", "-r", "two", "--wait-timeout=1"])
        .await
        .succeeded();
    for request in gitlab.requests_to(Endpoint::RequestJob) {
        assert_eq!(request.json()["token"], "glrt-two");
    }
    assert_eq!(operator.text(), before);
}

/// Needs an engine: `GANTRY_TEST_ENGINE`.
#[tokio::test]
async fn after_the_jobs_it_was_asked_for_it_ends() {
    let Ok(mut engine) = std::env::var("GANTRY_TEST_ENGINE") else {
        eprintln!("skipped: no GANTRY_TEST_ENGINE");
        return;
    };
    if engine == "1" {
        "unix:///var/run/docker.sock".clone_into(&mut engine);
    }
    let gitlab = FakeGitLab::start().await;
    let script = "echo from run-single";
    let job = || JobBuilder::new("unit").script([script]);
    let (first, second) = (gitlab.enqueue(&job()), gitlab.enqueue(&job()));
    let operator = Operator::new();
    let arguments = [
        "run-single",
        "--url",
        gitlab.url(),
        "--token",
        gitlab.runner_token(),
        "--executor",
        "docker",
        "--docker-image",
        "gantry.test/busybox:1",
        "--docker-pull-policy",
        "if-not-present",
        "--docker-disable-cache",
        "--docker-host",
        &engine,
        "--max-builds",
        "1",
    ];
    let done = operator.run(&arguments).await;
    done.succeeded()
        .says("This runner has processed its build limit, so now exiting");
    let job = gitlab.job(first);
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    assert!(job.log().contains("from run-single\n"), "{}", job.log());
    assert_eq!(gitlab.job(second).state, ServerJobState::Pending);
}
