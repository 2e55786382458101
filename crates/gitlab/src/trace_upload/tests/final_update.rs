//! The end: last flush and final state.

use gantry_job::FailureReason;
use rstest::rstest;

use super::*;

/// A finished log of ten bytes, all sent.
async fn finished() -> (Arc<ScriptedServer>, Upload) {
    let run = Running::start();
    run.log.write("0123456789");
    run.finish().await
}

async fn deliver(upload: &mut Upload, policy: FinalPolicy) -> (FinalOutcome, Duration) {
    let start = Instant::now();
    let verdict = Verdict::failed(FailureReason::ScriptFailure, 3);
    let outcome = upload
        .final_update(&verdict, &policy, &CancellationToken::new())
        .await;
    (outcome, start.elapsed())
}

fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap()
}

/// Scenario 16.
#[tokio::test(start_paused = true)]
async fn a_final_update_that_is_only_accepted_is_repeated_without_the_log() {
    let (server, mut upload) = finished().await;
    let accepted = JobReply {
        update_interval: Some(SECOND),
        ..JobReply::plain(UpdateAnswer::Accepted)
    };
    server.answer_updates([accepted.clone(), accepted.clone(), accepted]);
    let (outcome, _) = deliver(&mut upload, FinalPolicy::slot(2)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(server.finals(), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(server.patches().len(), 1);
}

/// Scenario 7, last part.
#[tokio::test(start_paused = true)]
async fn the_pace_of_the_running_job_does_not_slow_its_end_down() {
    let run = Running::start();
    run.server.answer_patches([JobReply {
        update_interval: Some(600 * SECOND),
        ..JobReply::plain(Accepted { next: 1 })
    }]);
    run.server.store(b"x");
    run.log.write("x");
    run.pass(SECOND).await;
    let (server, mut upload) = run.finish().await;
    server.answer_updates([JobReply::plain(UpdateAnswer::Accepted)]);
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(seconds(time), 3);
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_not_taken_back_by_a_later_answer() {
    let run = Running::start();
    run.server.answer_updates([
        JobReply::plain(UpdateAnswer::Aborted(AbortReason::Forbidden)),
        JobReply {
            canceling: true,
            ..JobReply::plain(UpdateAnswer::Ok)
        },
    ]);
    let (end, mut upload) = run.end().await;
    assert_eq!(end, RunEnd::Aborted(AbortReason::Forbidden));
    let wishes = upload.wishes();
    let (outcome, _) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(*wishes.borrow(), ServerWish::Abort(AbortReason::Forbidden));
}

/// Scenario 17.
#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_validate_is_sent_again_from_its_first_byte() {
    let (server, mut upload) = finished().await;
    server.answer_updates([JobReply::plain(UpdateAnswer::Rewind)]);
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(1)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(time, Duration::ZERO, "the first time at once");
    let ranges: Vec<_> = server
        .patches()
        .iter()
        .map(|patch| (patch.0, patch.1))
        .collect();
    assert_eq!(ranges, [(0, 10), (0, 10)]);
    assert_eq!(server.stored(), b"0123456789");
    assert_eq!(server.finals().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_never_validates_is_given_up_like_a_failure() {
    let (server, mut upload) = finished().await;
    server.script_updates(|_| Some(JobReply::plain(UpdateAnswer::Rewind)));
    let (outcome, _) = deliver(&mut upload, FinalPolicy::slot(2)).await;
    assert_eq!(
        outcome,
        FinalOutcome::GaveUp {
            why: "the server's copy of the trace did not validate 10 times".into()
        }
    );
    assert_eq!(server.finals().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_log_and_refuses_it_is_not_asked_again() {
    let run = Running::start();
    run.server.script_patches(|_| {
        Some(JobReply::plain(PatchAnswer::Aborted(
            AbortReason::Forbidden,
        )))
    });
    run.server
        .script_updates(|_| Some(JobReply::plain(UpdateAnswer::Rewind)));
    run.log.write("0123456789");
    let (end, mut upload) = run.end().await;
    assert_eq!(end, RunEnd::Aborted(AbortReason::Forbidden));
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!(outcome, FinalOutcome::Closed(AbortReason::Forbidden));
    assert_eq!(time, Duration::ZERO);
}

/// Scenario 18.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_for_ever_is_tried_as_often_as_configured() {
    for (limit, tries, time) in [(0, 10, 511), (3, 3, 3), (1, 1, 0)] {
        let (server, mut upload) = finished().await;
        server.script_updates(|_| Some(JobReply::plain(UpdateAnswer::Failed(status(500)))));
        let (outcome, taken) = deliver(&mut upload, FinalPolicy::slot(limit)).await;
        assert!(
            matches!(outcome, FinalOutcome::GaveUp { .. }),
            "{outcome:?}"
        );
        assert!(!outcome.is_settled());
        assert_eq!(server.finals().len(), tries);
        assert_eq!(seconds(taken), time, "pauses of 1 s, 2 s, 4 s, …");
    }
}

/// The outbox takes over after [`a_server_that_fails_for_ever_is_tried_as_often_as_configured`].
#[tokio::test(start_paused = true)]
async fn the_outbox_goes_on_with_pauses_of_at_most_a_minute() {
    let (server, mut upload) = finished().await;
    let mut left = 100;
    server.script_updates(move |_| {
        left -= 1;
        (left > 0).then(|| JobReply::plain(UpdateAnswer::Failed(refused())))
    });
    let (outcome, time) = deliver(&mut upload, FinalPolicy::outbox()).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(seconds(time), 63 + 93 * 60);
    assert_eq!(server.finals().len(), 100);
}

/// Scenario 19.
#[rstest]
#[case(
    UpdateAnswer::Aborted(AbortReason::Forbidden),
    FinalOutcome::Closed(AbortReason::Forbidden)
)]
#[case(
    UpdateAnswer::Aborted(AbortReason::NotFound),
    FinalOutcome::Closed(AbortReason::NotFound)
)]
#[case(
    UpdateAnswer::Aborted(AbortReason::JobStatus { job_status: "canceled".into(), http_status: 403 }),
    FinalOutcome::Closed(AbortReason::JobStatus { job_status: "canceled".into(), http_status: 403 })
)]
#[case(
    UpdateAnswer::Aborted(AbortReason::JobStatus { job_status: "failed".into(), http_status: 200 }),
    FinalOutcome::Delivered
)]
#[tokio::test(start_paused = true)]
async fn a_refused_final_update_is_not_repeated(
    #[case] answer: UpdateAnswer,
    #[case] expected: FinalOutcome,
) {
    let (server, mut upload) = finished().await;
    server.answer_updates([JobReply::plain(answer)]);
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!(outcome, expected);
    assert!(outcome.is_settled());
    assert_eq!(time, Duration::ZERO);
    assert_eq!(server.finals().len(), 1);
}

/// Scenario 19.
#[tokio::test(start_paused = true)]
async fn a_conflict_is_retried_like_a_failure() {
    let (server, mut upload) = finished().await;
    server.answer_updates([
        JobReply::plain(UpdateAnswer::Failed(status(409))),
        JobReply::plain(UpdateAnswer::Failed(status(409))),
    ]);
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!((outcome, seconds(time)), (FinalOutcome::Delivered, 3));
}

/// Scenario 20.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_for_two_minutes_gets_log_and_state_afterwards() {
    let run = Running::start();
    let down_until = Instant::now() + 120 * SECOND;
    let down = move || Instant::now() < down_until;
    run.server
        .script_patches(move |_| down().then(|| JobReply::plain(PatchAnswer::Failed(refused()))));
    run.server
        .script_updates(move |_| down().then(|| JobReply::plain(UpdateAnswer::Failed(refused()))));
    run.log.write("0123456789");
    let (server, mut upload) = run.finish().await;
    assert_eq!(server.stored(), b"");
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(10)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(seconds(time), 127);
    assert_eq!(server.stored(), b"0123456789");
}

/// Scenario 21.
#[tokio::test(start_paused = true)]
async fn a_pause_between_tries_ends_at_once_when_told_to_stop() {
    let (server, mut upload) = finished().await;
    server.script_updates(|_| Some(JobReply::plain(UpdateAnswer::Failed(status(500)))));
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            let policy = FinalPolicy::slot(0);
            let outcome = upload
                .final_update(&Verdict::success(), &policy, &stop)
                .await;
            (outcome, upload)
        }
    });
    sleep(100 * SECOND).await;
    let start = Instant::now();
    stop.cancel();
    let (outcome, mut upload) = task.await.unwrap();
    assert_eq!(outcome, FinalOutcome::Interrupted);
    assert_eq!(start.elapsed(), Duration::ZERO);
    server.heal();
    let (outcome, _) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!(outcome, FinalOutcome::Delivered, "and can be tried again");
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_meets_an_unknown_job_goes_on_to_the_update() {
    let run = Running::start();
    run.server
        .script_patches(|_| Some(JobReply::plain(NotFound)));
    run.server
        .script_updates(|_| Some(JobReply::plain(UpdateAnswer::Ok)));
    run.log.write("x");
    let (server, mut upload) = run.finish().await;
    let (outcome, _) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(
        server.patches().len(),
        2,
        "one in the rest of the run, one in the flush"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_correcting_the_offset_uses_up_tries() {
    let run = Running::start();
    run.server
        .script_patches(|_| Some(JobReply::plain(RangeMismatch { next: 0 })));
    run.log.write("0123456789");
    let (server, mut upload) = run.finish().await;
    let before = server.patches().len();
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(2)).await;
    assert_eq!(
        outcome,
        FinalOutcome::GaveUp {
            why: "the server asked 10 times in a row for another trace offset, last for 0".into()
        }
    );
    assert_eq!(server.patches().len() - before, 20);
    assert_eq!(seconds(time), 2 * 8 * 3 + 1, "not hot");
}

#[tokio::test(start_paused = true)]
async fn corrections_with_progress_in_between_use_up_nothing() {
    let settings = UploadSettings {
        budget: UploadBudget::new(0),
        ..UploadSettings::default()
    };
    let run = Running::with(settings, ScriptedServer::default(), 0);
    let mut good = false;
    run.server.script_patches(move |patch| {
        good = !good;
        let next = patch.offset;
        Some(JobReply::plain(if good {
            RangeMismatch { next }
        } else {
            Accepted { next: patch.end() }
        }))
    });
    run.server
        .script_updates(|_| Some(JobReply::plain(UpdateAnswer::Ok)));
    run.log.write(vec![b'x'; 20 * 64 * 1024]);
    let (server, mut upload) = run.finish().await;
    let (outcome, time) = deliver(&mut upload, FinalPolicy::slot(1)).await;
    assert_eq!((outcome, time), (FinalOutcome::Delivered, Duration::ZERO));
    let patches = server.patches();
    assert_eq!(patches.len(), 40);
    assert!(
        patches.iter().all(|(from, to, _)| to - from == 64 * 1024),
        "no budget, small pieces"
    );
}

#[tokio::test(start_paused = true)]
async fn the_pause_is_never_shorter_than_the_server_asks() {
    let (server, mut upload) = finished().await;
    let busy = crate::CallFailure::Status {
        method: "PUT",
        url: "http://h/".into(),
        status: 429,
        message: String::new(),
        wait: Some(30 * SECOND),
    };
    server.answer_updates([JobReply::plain(UpdateAnswer::Failed(busy))]);
    let (_, time) = deliver(&mut upload, FinalPolicy::slot(0)).await;
    assert_eq!(seconds(time), 30);
}

#[rstest]
#[case(1, 1)]
#[case(2, 2)]
#[case(5, 16)]
#[case(12, 2048)]
#[case(13, 3600)]
#[case(200, 3600)]
fn pauses_double_up_to_an_hour(#[case] failed: u32, #[case] seconds: u64) {
    assert_eq!(
        FinalPolicy::slot(0).pause(failed),
        Duration::from_secs(seconds)
    );
}

/// The answer to a piece of the log is lost while the job ends: the state waits half a minute, not the ten of the client.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_piece_of_the_log_delays_the_final_state_by_half_a_minute() {
    let run = Running::start();
    run.server.hang_patches(1);
    run.log.write("0123456789");
    run.pass(100 * SECOND).await;
    let (server, mut upload) = run.finish().await;
    let (outcome, _) = deliver(&mut upload, FinalPolicy::slot(2)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(server.finals(), [130.0]);
    assert_eq!(server.stored(), b"0123456789");
}

/// While the job runs nothing is hurried: a slow answer counts.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_to_a_piece_of_the_log_is_waited_for_while_the_job_runs() {
    let run = Running::start();
    run.server.hang_patches(1);
    run.log.write("0123456789");
    run.pass(500 * SECOND).await;
    assert_eq!(run.server.patches().len(), 1);
}

/// Patience grows with each try, so that a server that needs its time for a piece gets it.
#[tokio::test(start_paused = true)]
async fn a_server_that_answers_no_piece_is_given_more_time_with_each_try() {
    let run = Running::start();
    run.server.hang_patches(4);
    run.log.write("0123456789");
    let (server, mut upload) = run.finish().await;
    let (outcome, took) = deliver(&mut upload, FinalPolicy::slot(10)).await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    // After the one of the running phase: 30 + 1, 60 + 2, 120 + 4.
    assert_eq!(seconds(took), 217);
    assert_eq!(server.patches().len(), 5);
}
