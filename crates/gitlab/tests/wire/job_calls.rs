//! The two calls of a running job.

use bytes::Bytes;
use gantry_gitlab::{
    AbortReason, CallFailure, JobCalls, JobCredentials, JobReply, JobUpdate, PatchAnswer,
    TraceExtent, TracePatch, UpdateAnswer, Verdict,
};
use gantry_job::FailureReason;
use gantry_testkit::{Answer, Endpoint, FakeGitLab, Fault, JobBuilder, ServerJobState};
use serde_json::{Value, json};

use super::fixture::{coordinator, info, receive, running_job};

fn patch(offset: u64, bytes: &'static [u8]) -> TracePatch {
    TracePatch {
        offset,
        bytes: Bytes::from_static(bytes),
        debug_trace: false,
    }
}

fn extent(bytes: &[u8]) -> TraceExtent {
    TraceExtent {
        len: bytes.len() as u64,
        crc32: crc32fast::hash(bytes),
    }
}

/// The last update without the parts that are always there.
fn last_update(gitlab: &FakeGitLab, id: i64) -> Value {
    let job = gitlab.job(id);
    let mut body = job.updates.last().unwrap().body.clone();
    let fields = body.as_object_mut().unwrap();
    assert_eq!(fields.remove("token"), Some(job.token.into()));
    let info = fields.remove("info").unwrap();
    assert_eq!(info["features"]["two_phase_job_commit"], true);
    body
}

#[tokio::test]
async fn the_acceptance_says_running_and_nothing_about_a_log() {
    let gitlab = FakeGitLab::start().await;
    let (id, _) = running_job(&gitlab, &coordinator(&gitlab)).await;
    assert_eq!(
        last_update(&gitlab, id),
        json!({"state": "running", "output": {}})
    );
    let sent = &gitlab.requests_to(Endpoint::UpdateJob)[0];
    assert_eq!(
        sent.header("job-token"),
        Some(gitlab.job(id).token.as_str())
    );
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(sent.header("accept"), Some("*/*"));
    assert_eq!(sent.header("runner-token"), None);
}

/// Scenario 22.
#[tokio::test]
async fn a_failed_script_is_reported_with_its_exit_code_and_a_success_without_any() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (id, job) = running_job(&gitlab, &client).await;
    client.patch_trace(&job, patch(0, b"hello")).await;
    let verdict = Verdict::failed(FailureReason::ScriptFailure, 3);
    let update = JobUpdate::finished(&verdict, Some(extent(b"hello")));
    let reply = client.update_job(&job, &update).await;
    assert_eq!(
        last_update(&gitlab, id),
        json!({
            "state": "failed", "failure_reason": "script_failure", "exit_code": 3,
            "checksum": "crc32:3610a686", "output": {"checksum": "crc32:3610a686", "bytesize": 5},
        })
    );
    assert_eq!(
        reply.answer,
        UpdateAnswer::Aborted(AbortReason::JobStatus {
            job_status: "failed".into(),
            http_status: 200
        }),
        "the server says that the job has failed, as it was told"
    );
    assert_eq!(gitlab.job(id).state, ServerJobState::Failed);

    let (id, job) = running_job(&gitlab, &client).await;
    let update = JobUpdate::finished(&Verdict::success(), Some(extent(b"")));
    let reply = client.update_job(&job, &update).await;
    assert_eq!(reply.answer, UpdateAnswer::Ok);
    assert_eq!(
        last_update(&gitlab, id),
        json!({
            "state": "success", "checksum": "crc32:00000000", "output": {"checksum": "crc32:00000000"},
        })
    );
}

/// Scenario 24, the wire's part.
#[tokio::test]
async fn a_job_canceled_before_its_acceptance_says_so_in_the_answer() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    let job = JobCredentials::of(&receive(&client).await.job, info());
    gitlab.cancel(id);
    let reply = client.update_job(&job, &JobUpdate::accept()).await;
    assert_eq!((reply.answer, reply.canceling), (UpdateAnswer::Ok, true));
    // What the runner answers: the reason unmapped, nothing run.
    let verdict = Verdict::failed(FailureReason::JobCanceled, 0);
    let reply = client
        .update_job(&job, &JobUpdate::finished(&verdict, None))
        .await;
    assert!(matches!(
        reply.answer,
        UpdateAnswer::Aborted(AbortReason::JobStatus {
            http_status: 200,
            ..
        })
    ));
    assert_eq!(
        last_update(&gitlab, id),
        json!({"state": "failed", "failure_reason": "job_canceled", "output": {}})
    );
    let record = gitlab.job(id);
    assert_eq!(
        (record.state, record.states()),
        (ServerJobState::Canceled, vec!["running", "failed"])
    );
}

/// Scenario 25, the wire's part.
#[tokio::test]
async fn a_job_taken_back_before_its_acceptance_is_refused() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    let job = JobCredentials::of(&receive(&client).await.job, info());
    gitlab.reclaim(id);
    let reply = client.update_job(&job, &JobUpdate::accept()).await;
    assert_eq!(reply.answer, UpdateAnswer::Aborted(AbortReason::Forbidden));
    assert_eq!(gitlab.job(id).updates.len(), 1);
    gitlab.delete(id);
    let reply = client.update_job(&job, &JobUpdate::accept()).await;
    assert_eq!(reply.answer, UpdateAnswer::Aborted(AbortReason::NotFound));
}

#[tokio::test]
async fn a_patch_carries_range_type_and_debug_flag() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (id, job) = running_job(&gitlab, &client).await;
    let reply = client.patch_trace(&job, patch(0, b"hello")).await;
    assert_eq!(reply, JobReply::plain(PatchAnswer::Accepted { next: 5 }));
    let debug = TracePatch {
        debug_trace: true,
        ..patch(5, b" world")
    };
    let reply = client.patch_trace(&job, debug).await;
    assert_eq!(reply.answer, PatchAnswer::Accepted { next: 11 });
    let nothing = client.patch_trace(&job, patch(11, b"")).await;
    assert_eq!(nothing.answer, PatchAnswer::Accepted { next: 11 });

    let sent = gitlab.requests_to(Endpoint::PatchTrace);
    assert_eq!(sent.len(), 2, "nothing is not sent");
    assert_eq!(
        sent[0].path,
        format!("/api/v4/jobs/{id}/trace?debug_trace=false")
    );
    assert_eq!(
        sent[1].path,
        format!("/api/v4/jobs/{id}/trace?debug_trace=true")
    );
    assert_eq!(sent[0].header("content-range"), Some("0-4"));
    assert_eq!(sent[1].header("content-range"), Some("5-10"));
    assert_eq!(sent[1].header("content-length"), Some("6"));
    assert_eq!(sent[0].header("content-type"), Some("text/plain"));
    assert_eq!(
        sent[0].header("job-token"),
        Some(gitlab.job(id).token.as_str())
    );
    gitlab.assert_trace(id, b"hello world");
}

/// Scenario 4, first half.
#[tokio::test]
async fn a_failing_patch_is_sent_five_times_in_one_call() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (id, job) = running_job(&gitlab, &client).await;
    gitlab.fault(Fault::on(Endpoint::PatchTrace).calls(..=4).status(500));
    let reply = client.patch_trace(&job, patch(0, b"hello")).await;
    assert_eq!(reply.answer, PatchAnswer::Accepted { next: 5 });
    let ranges: Vec<_> = gitlab
        .requests_to(Endpoint::PatchTrace)
        .iter()
        .map(|request| {
            (
                request.header("content-range").unwrap().to_owned(),
                request.status,
            )
        })
        .collect();
    let range = |status| ("0-4".to_owned(), Some(status));
    assert_eq!(
        ranges,
        [range(500), range(500), range(500), range(500), range(202)]
    );
    gitlab.assert_trace(id, b"hello");
}

/// Scenario 3, the wire's part.
#[tokio::test]
async fn a_lost_answer_is_a_failure_and_the_next_patch_learns_the_length() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (id, job) = running_job(&gitlab, &client).await;
    gitlab.fault(Fault::on(Endpoint::PatchTrace).nth(1).lose_answer());
    let reply = client.patch_trace(&job, patch(0, b"hello")).await;
    assert!(
        matches!(
            reply.answer,
            PatchAnswer::Failed(CallFailure::Transport { .. })
        ),
        "{reply:?}"
    );
    let reply = client.patch_trace(&job, patch(0, b"hello")).await;
    assert_eq!(reply.answer, PatchAnswer::RangeMismatch { next: 5 });
    gitlab.assert_trace(id, b"hello");
}

#[tokio::test]
async fn a_keepalive_is_one_attempt_only() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (_, job) = running_job(&gitlab, &client).await;
    gitlab.fault(
        Fault::on(Endpoint::UpdateJob).answer(Answer::status(429).header("retry-after", "7")),
    );
    let reply = client
        .update_job(&job, &JobUpdate::running(extent(b"")))
        .await;
    let UpdateAnswer::Failed(failure) = reply.answer else {
        panic!("{reply:?}")
    };
    assert_eq!(failure.status(), Some(429));
    assert_eq!(
        failure.server_wait(),
        Some(std::time::Duration::from_secs(7))
    );
    assert_eq!(gitlab.requests_to(Endpoint::UpdateJob).len(), 2);
}

#[tokio::test]
async fn cancel_and_abort_are_heard_with_any_answer() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (id, job) = running_job(&gitlab, &client).await;
    gitlab.cancel(id);
    let reply = client.patch_trace(&job, patch(0, b"x")).await;
    assert_eq!(
        (reply.answer, reply.canceling),
        (PatchAnswer::Accepted { next: 1 }, true)
    );
    let reply = client.patch_trace(&job, patch(0, b"x")).await;
    assert_eq!(
        (reply.answer, reply.canceling),
        (PatchAnswer::RangeMismatch { next: 1 }, true)
    );
    let reply = client
        .update_job(&job, &JobUpdate::running(extent(b"x")))
        .await;
    assert_eq!((reply.answer, reply.canceling), (UpdateAnswer::Ok, true));
    gitlab.abort(id);
    let over = AbortReason::JobStatus {
        job_status: "canceled".into(),
        http_status: 403,
    };
    let reply = client.patch_trace(&job, patch(1, b"y")).await;
    assert_eq!(
        (reply.answer, reply.canceling),
        (PatchAnswer::Aborted(over), false)
    );
}

/// Scenario 7, the wire's part.
#[tokio::test]
async fn the_update_interval_is_read_from_patches_and_updates_of_any_outcome() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (_, job) = running_job(&gitlab, &client).await;
    gitlab.set_update_interval(Some("10"));
    let ten = Some(std::time::Duration::from_secs(10));
    let reply = client.patch_trace(&job, patch(0, b"x")).await;
    assert_eq!(reply.update_interval, ten);
    let reply = client.patch_trace(&job, patch(9, b"x")).await;
    assert_eq!(reply.update_interval, ten);
    let reply = client
        .update_job(&job, &JobUpdate::running(extent(b"x")))
        .await;
    assert_eq!(reply.update_interval, ten);
}

#[tokio::test]
async fn a_failure_says_what_failed_where_and_why() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (id, job) = running_job(&gitlab, &client).await;
    gitlab.fault(Fault::on(Endpoint::UpdateJob).answer(
        Answer::status(400).body("application/json", r#"{"message":{"state":["is odd"]}}"#),
    ));
    let reply = client.update_job(&job, &JobUpdate::accept()).await;
    let UpdateAnswer::Failed(failure) = reply.answer else {
        panic!("{reply:?}")
    };
    assert_eq!(
        failure.to_string(),
        format!(
            "PUT {}/api/v4/jobs/{id}: 400 Bad Request (state: is odd)",
            gitlab.url()
        )
    );
    assert!(!format!("{job:?}").contains(&gitlab.job(id).token));
}
