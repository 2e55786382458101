//! Whole jobs: log and final state over the wire, with the server failing in between.

use std::sync::Arc;
use std::time::Duration;

use gantry_gitlab::{
    AbortReason, Coordinator, FinalOutcome, FinalPolicy, JobCredentials, RunEnd, ServerWish,
    TraceSource, TraceUpload, UploadSettings, Verdict,
};
use gantry_job::FailureReason;
use gantry_testkit::{Endpoint, FakeGitLab, Fault, ServerJobState};
use gantry_trace::{JobTrace, Stream, TraceOptions};
use tokio_util::sync::CancellationToken;

use super::fixture::{MemoryLog, coordinator, running_job};

/// A confirmed job and its upload.
struct Job {
    gitlab: FakeGitLab,
    id: i64,
    log: Arc<MemoryLog>,
    upload: TraceUpload<Coordinator>,
}

impl Job {
    async fn start() -> Self {
        Self::with(UploadSettings::default()).await
    }

    async fn with(settings: UploadSettings) -> Self {
        let gitlab = FakeGitLab::start().await;
        gitlab.set_update_interval(Some("1"));
        let client = coordinator(&gitlab);
        let (id, credentials) = running_job(&gitlab, &client).await;
        let log = Arc::new(MemoryLog::default());
        let upload = upload(client, credentials, &log, settings);
        Self {
            gitlab,
            id,
            log,
            upload,
        }
    }

    /// Finishes the log and delivers all, with tries enough.
    async fn deliver(&mut self, verdict: &Verdict) -> FinalOutcome {
        self.log.finish();
        let stop = CancellationToken::new();
        assert_eq!(self.upload.run(&stop).await, RunEnd::Finished);
        self.upload
            .final_update(verdict, &FinalPolicy::slot(0), &stop)
            .await
    }
}

fn upload(
    client: Coordinator,
    credentials: JobCredentials,
    log: &Arc<MemoryLog>,
    settings: UploadSettings,
) -> TraceUpload<Coordinator> {
    let source = Arc::clone(log) as Arc<dyn TraceSource>;
    TraceUpload::new(client, credentials, source, settings, 0)
}

fn no_polls() -> UploadSettings {
    UploadSettings {
        cancel_poll: None,
        ..UploadSettings::default()
    }
}

/// Scenarios 1, 3, 4, 6, 16 and 17 in one job.
#[tokio::test]
async fn a_log_of_several_megabytes_survives_lost_answers_errors_and_a_rewind() {
    let mut job = Job::start().await;
    let bytes: Vec<u8> = (0..3_500_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    job.log.write(&bytes);
    for fault in [
        Fault::on(Endpoint::PatchTrace).nth(2).lose_answer(),
        Fault::on(Endpoint::PatchTrace).calls(4..=5).status(502),
        Fault::on(Endpoint::UpdateJob)
            .state("final")
            .nth(1)
            .status(412),
        Fault::on(Endpoint::UpdateJob)
            .state("final")
            .nth(2)
            .status(202),
    ] {
        job.gitlab.fault(fault);
    }
    let verdict = Verdict::failed(FailureReason::ScriptFailure, 3);
    assert_eq!(job.deliver(&verdict).await, FinalOutcome::Delivered);
    job.gitlab.assert_trace(job.id, &bytes);
    let record = job.gitlab.job(job.id);
    assert_eq!(record.state, ServerJobState::Failed);
    assert_eq!(
        (record.exit_code, record.failure_reason.as_deref()),
        (Some(3), Some("script_failure"))
    );
    assert_eq!(record.resets, 1);
}

/// Scenario 3, turned around: the request is lost, not the answer.
#[tokio::test]
async fn a_log_survives_connections_that_end_before_the_server_acts() {
    let mut job = Job::start().await;
    job.log.write(vec![b'x'; 2_000_000]);
    for fault in [
        Fault::on(Endpoint::PatchTrace).nth(1).drop_before_body(),
        Fault::on(Endpoint::PatchTrace).nth(3).drop_unhandled(),
    ] {
        job.gitlab.fault(fault);
    }
    let outcome = job.deliver(&Verdict::success()).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    job.gitlab.assert_trace(job.id, &vec![b'x'; 2_000_000]);
    assert_eq!(job.gitlab.requests_to(Endpoint::PatchTrace).len(), 4);
}

#[tokio::test]
async fn a_real_job_trace_is_delivered_as_it_stands_on_the_disk() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    let (id, credentials) = running_job(&gitlab, &client).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = JobTrace::create(folder.path(), TraceOptions::default()).unwrap();
    let source = Arc::new(trace.clone()) as Arc<dyn TraceSource>;
    let mut upload = TraceUpload::new(client, credentials, source, UploadSettings::default(), 0);
    let stop = CancellationToken::new();
    let task = tokio::spawn(async move { (upload.run(&stop).await, upload) });

    trace.infoln("Running with gitlab-runner");
    gitlab
        .wait_for(id, "patched", |job| job.log().contains("Running with"))
        .await;
    for _ in 0..100 {
        trace
            .write(
                "container",
                Stream::Stdout,
                "0123456789\n".repeat(1000).as_bytes(),
            )
            .unwrap();
    }
    trace.finish().unwrap();
    let (end, mut upload) = task.await.unwrap();
    assert_eq!(end, RunEnd::Finished);
    let outcome = upload
        .final_update(
            &Verdict::success(),
            &FinalPolicy::slot(0),
            &CancellationToken::new(),
        )
        .await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    let mut expected = Vec::new();
    while expected.len() < usize::try_from(trace.len()).unwrap() {
        let piece = trace.read_at(expected.len() as u64, 1 << 20).unwrap();
        expected.extend_from_slice(&piece);
    }
    assert!(expected.len() > 1_100_000);
    gitlab.assert_trace(id, &expected);
    assert_eq!(gitlab.job(id).final_updates().len(), 1);
}

/// Scenario 15.
#[tokio::test]
async fn all_of_a_short_log_is_there_before_the_final_state() {
    let mut job = Job::start().await;
    job.log.write("Running\nJob succeeded\n");
    let outcome = job.deliver(&Verdict::success()).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    let endpoints: Vec<Endpoint> = job
        .gitlab
        .requests()
        .iter()
        .map(|request| request.endpoint)
        .collect();
    assert_eq!(
        endpoints,
        [
            Endpoint::RequestJob,
            Endpoint::UpdateJob,
            Endpoint::PatchTrace,
            Endpoint::UpdateJob
        ]
    );
    job.gitlab.assert_trace(job.id, b"Running\nJob succeeded\n");
}

/// The design's "final PUT, answer lost".
#[tokio::test]
async fn a_lost_answer_to_the_final_update_is_settled_by_asking_again() {
    let mut job = Job::start().await;
    job.gitlab.fault(
        Fault::on(Endpoint::UpdateJob)
            .state("final")
            .nth(1)
            .lose_answer(),
    );
    job.log.write("hello");
    let outcome = job.deliver(&Verdict::success()).await;
    assert_eq!(outcome, FinalOutcome::Closed(AbortReason::Forbidden));
    assert!(outcome.is_settled());
    let record = job.gitlab.job(job.id);
    assert_eq!(record.state, ServerJobState::Success);
    assert_eq!(record.states(), ["running", "success", "success"]);
}

/// Scenario 18.
#[tokio::test]
async fn a_server_that_fails_for_ever_is_given_up_after_the_limit_of_five_attempts_each() {
    let mut job = Job::start().await;
    job.gitlab
        .fault(Fault::on(Endpoint::UpdateJob).state("final").status(500));
    job.log.finish();
    let stop = CancellationToken::new();
    let verdict = Verdict::success();
    let outcome = job
        .upload
        .final_update(&verdict, &FinalPolicy::slot(2), &stop)
        .await;
    let FinalOutcome::GaveUp { why } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("500 Internal Server Error"), "{why}");
    assert_eq!(job.gitlab.requests_to(Endpoint::UpdateJob).len(), 1 + 2 * 5);

    job.gitlab.heal();
    let outcome = job
        .upload
        .final_update(&verdict, &FinalPolicy::outbox(), &stop)
        .await;
    assert_eq!(outcome, FinalOutcome::Delivered, "the outbox takes over");
}

/// Scenario 20.
#[tokio::test]
async fn a_server_that_is_down_when_the_job_ends_gets_everything_when_it_is_back() {
    let mut job = Job::start().await;
    job.log.write("hello");
    job.gitlab.go_down().await;
    let gitlab = job.gitlab.clone();
    let delivered = tokio::spawn(async move { (job.deliver(&Verdict::success()).await, job) });
    tokio::task::yield_now().await;
    gitlab.come_back().await;
    let (outcome, job) = delivered.await.unwrap();
    assert_eq!(outcome, FinalOutcome::Delivered);
    gitlab.assert_trace(job.id, b"hello");
}

#[tokio::test]
async fn a_silent_job_learns_of_its_cancel_by_asking() {
    let mut job = Job::with(UploadSettings {
        cancel_poll: Some(Duration::from_millis(20)),
        ..UploadSettings::default()
    })
    .await;
    job.log.write("hello");
    let mut wishes = job.upload.wishes();
    let stop = CancellationToken::new();
    let token = stop.clone();
    let (gitlab, id) = (job.gitlab.clone(), job.id);
    let task = tokio::spawn(async move { (job.upload.run(&token).await, job) });
    gitlab.wait_for(id, "patched", |job| job.patches == 1).await;
    gitlab.cancel(id);
    wishes.changed().await.unwrap();
    assert_eq!(*wishes.borrow_and_update(), ServerWish::Cancel);
    let kept_alive = gitlab.job(id).updates.last().unwrap().body.clone();
    assert_eq!(kept_alive["state"], "running");
    assert_eq!(kept_alive["output"]["bytesize"], 5);
    assert_eq!(kept_alive["output"]["checksum"], "crc32:3610a686");

    gitlab.abort(id);
    wishes.changed().await.unwrap();
    let over = AbortReason::JobStatus {
        job_status: "canceled".into(),
        http_status: 403,
    };
    assert_eq!(*wishes.borrow(), ServerWish::Abort(over.clone()));
    let (end, mut job) = task.await.unwrap();
    assert_eq!(end, RunEnd::Aborted(over.clone()));
    let verdict = Verdict::failed(FailureReason::JobCanceled, 0);
    let outcome = job
        .upload
        .final_update(&verdict, &FinalPolicy::slot(0), &stop)
        .await;
    assert_eq!(outcome, FinalOutcome::Closed(over));
}

/// Scenario 5.
#[tokio::test]
async fn a_deleted_job_is_aborted_by_the_next_question() {
    let mut job = Job::with(UploadSettings {
        cancel_poll: Some(Duration::from_millis(20)),
        ..UploadSettings::default()
    })
    .await;
    job.gitlab.delete(job.id);
    job.log.write("hello");
    let end = job.upload.run(&CancellationToken::new()).await;
    assert_eq!(end, RunEnd::Aborted(AbortReason::NotFound));
    assert_eq!(
        job.gitlab.requests_to(Endpoint::PatchTrace)[0].status,
        Some(404)
    );
}

#[tokio::test]
async fn a_restarted_upload_goes_on_where_the_server_stands() {
    for known in [0, 3, 5] {
        let mut job = Job::with(no_polls()).await;
        job.log.write("hello");
        let stop = CancellationToken::new();
        let mut sent = job.upload.sent();
        tokio::select! {
            end = job.upload.run(&stop) => panic!("{end:?}"),
            sent = sent.wait_for(|sent| *sent == 5) => drop(sent),
        }
        drop(job.upload);

        let client = coordinator(&job.gitlab);
        let record = job.gitlab.job(job.id);
        let payload = gantry_job::JobPayload::from_slice(&record.payload).unwrap();
        let credentials = JobCredentials::of(&payload, super::fixture::info());
        let source = Arc::clone(&job.log) as Arc<dyn TraceSource>;
        let mut upload = TraceUpload::new(client, credentials, source, no_polls(), known);
        job.log.write(" world");
        job.log.finish();
        assert_eq!(upload.run(&stop).await, RunEnd::Finished);
        let outcome = upload
            .final_update(&Verdict::success(), &FinalPolicy::slot(0), &stop)
            .await;
        assert_eq!(outcome, FinalOutcome::Delivered, "known: {known}");
        job.gitlab.assert_trace(job.id, b"hello world");
    }
}
