//! Against `gitlab-runner-mock`, the stand-in of another runner project: somebody else's idea of the protocol.

use std::sync::Arc;
use std::time::Duration;

use gantry_gitlab::{
    AbortReason, Connection, Coordinator, FinalOutcome, FinalPolicy, JobCalls, JobCredentials,
    JobRequestAnswer, JobUpdate, RunEnd, TraceSource, TraceUpload, UpdateAnswer, UploadSettings,
    Verdict,
};
use gantry_job::FailureReason;
use gitlab_runner_mock::{
    GitlabRunnerMock, MockJob, MockJobState, MockJobStepName, MockJobStepWhen,
};
use tokio_util::sync::CancellationToken;

use super::fixture::{MemoryLog, coordinators, info, receive, request};

fn client(mock: &GitlabRunnerMock) -> Coordinator {
    let connection = Connection::new(mock.uri(), mock.runner_token().into());
    coordinators().get(&connection).unwrap()
}

fn enqueue(mock: &GitlabRunnerMock) -> MockJob {
    let mut job = mock.job_builder("foreign".into());
    job.add_step(
        MockJobStepName::Script,
        vec!["echo hello".into()],
        3600,
        MockJobStepWhen::OnSuccess,
        false,
    );
    let job = job.build();
    mock.enqueue_job(job.clone());
    job
}

#[tokio::test]
async fn a_job_of_a_foreign_server_is_taken_and_carried_to_its_end() {
    let mock = GitlabRunnerMock::start().await;
    let coordinator = client(&mock);
    let answer = coordinator.request_job(&request()).await.answer;
    assert!(matches!(answer, JobRequestAnswer::NoJob), "{answer:?}");
    let theirs = enqueue(&mock);
    let received = receive(&coordinator).await;
    assert_eq!(u64::try_from(received.job.id).unwrap(), theirs.id());
    assert_eq!(received.job.token.expose(), theirs.token());
    let job = JobCredentials::of(&received.job, info());
    let reply = coordinator.update_job(&job, &JobUpdate::accept()).await;
    assert_eq!(reply.answer, UpdateAnswer::Ok);

    let log = Arc::new(MemoryLog::default());
    log.write("hello");
    let source = Arc::clone(&log) as Arc<dyn TraceSource>;
    // A wrong offset: this mock answers 416 without a range.
    let mut upload = TraceUpload::new(coordinator, job, source, UploadSettings::default(), 3);
    log.write(" world");
    log.finish();
    let stop = CancellationToken::new();
    assert_eq!(upload.run(&stop).await, RunEnd::Finished);
    let verdict = Verdict::failed(FailureReason::ScriptFailure, 1);
    let outcome = upload
        .final_update(&verdict, &FinalPolicy::slot(0), &stop)
        .await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(theirs.state(), MockJobState::Failed);
    assert_eq!(theirs.log(), b"hello world");
}

#[tokio::test]
async fn a_cancel_on_a_foreign_server_aborts_the_job() {
    let mock = GitlabRunnerMock::start().await;
    let coordinator = client(&mock);
    let theirs = enqueue(&mock);
    let job = JobCredentials::of(&receive(&coordinator).await.job, info());
    coordinator.update_job(&job, &JobUpdate::accept()).await;
    theirs.cancel();
    let settings = UploadSettings {
        cancel_poll: Some(Duration::from_millis(10)),
        ..UploadSettings::default()
    };
    let source = Arc::new(MemoryLog::default());
    let mut upload = TraceUpload::new(coordinator, job, source, settings, 0);
    let end = upload.run(&CancellationToken::new()).await;
    let over = AbortReason::JobStatus {
        job_status: "canceled".into(),
        http_status: 403,
    };
    assert_eq!(end, RunEnd::Aborted(over));
}

#[tokio::test]
async fn a_wrong_token_is_refused_by_a_foreign_server() {
    let mock = GitlabRunnerMock::start().await;
    let connection = Connection::new(mock.uri(), "glrt-wrong".into());
    let coordinator = coordinators().get(&connection).unwrap();
    let answer = coordinator.request_job(&request()).await.answer;
    assert!(
        matches!(answer, JobRequestAnswer::Forbidden { .. }),
        "{answer:?}"
    );
}
