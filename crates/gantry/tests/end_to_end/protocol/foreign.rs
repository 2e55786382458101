//! Against `gitlab-runner-mock`, the stand-in of another runner project: somebody else's idea of the protocol.

use gitlab_runner_mock::{GitlabRunnerMock, MockJobState, MockJobStepName, MockJobStepWhen};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_foreign_server_runs_to_its_end() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let mock = GitlabRunnerMock::start().await;
    let text = host
        .render(&Config::new())
        .replace(host.gitlab.url(), mock.uri().as_str())
        .replace(host.token(), mock.runner_token());
    host.write_config(&text);
    host.secret(mock.runner_token());
    let mut theirs = mock.job_builder("foreign".into());
    theirs.add_variable("GIT_STRATEGY".into(), "none".into(), true, false);
    theirs.add_variable("PASSWORD".into(), "masked-by-the-mock".into(), false, true);
    for (name, line) in [
        (
            MockJobStepName::Script,
            "echo hello from $CI_JOB_ID $PASSWORD; exit 4",
        ),
        (MockJobStepName::AfterScript, "echo after $CI_JOB_STATUS"),
    ] {
        theirs.add_step(
            name,
            vec![line.into()],
            3600,
            MockJobStepWhen::Always,
            false,
        );
    }
    let theirs = theirs.build();
    mock.enqueue_job(theirs.clone());
    let runner = host.start();
    until("the foreign job to end", async || {
        theirs.finished().then_some(())
    })
    .await;
    host.finish(runner).await;
    assert_eq!(theirs.state(), MockJobState::Failed);
    let log = crate::harness::plain(&String::from_utf8_lossy(&theirs.log()));
    assert!(log.contains("[MASKED]"), "{log}");
    assert!(!log.contains("masked-by-the-mock"), "{log}");
    assert!(log.contains("after failed"), "{log}");
    assert!(log.contains("ERROR: Job failed: exit code 4"), "{log}");
}
