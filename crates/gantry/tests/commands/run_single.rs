//! `run-single`: one runner from flags or by name, with an end of its own.

use gantry_testkit::{Endpoint, FakeGitLab};
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
