//! While the job runs.

use super::*;
use crate::CallFailure;

fn canceling<A>(answer: A) -> JobReply<A> {
    JobReply {
        canceling: true,
        ..JobReply::plain(answer)
    }
}

fn with_interval<A>(answer: A, seconds: u64) -> JobReply<A> {
    JobReply {
        update_interval: Some(Duration::from_secs(seconds)),
        ..JobReply::plain(answer)
    }
}

fn canceled() -> AbortReason {
    AbortReason::JobStatus {
        job_status: "canceled".into(),
        http_status: 200,
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_leave_at_once_and_later_ones_at_the_ticks() {
    let run = Running::start();
    run.pass(SECOND).await;
    run.log.write("a");
    run.pass(SECOND).await;
    run.log.write("b");
    run.log.write("c");
    run.pass(SECOND).await;
    run.log.write("d");
    run.pass(10 * SECOND).await;
    run.log.write("e");
    run.pass(SECOND).await;
    assert_eq!(
        run.server.patches(),
        [(0, 1, 1.0), (1, 4, 4.0), (4, 5, 13.0)],
        "after a silence the next bytes leave at once, too"
    );
}

/// Scenario 6.
#[tokio::test(start_paused = true)]
async fn much_output_leaves_in_contiguous_patches_of_at_most_one_mebibyte() {
    let run = Running::start();
    run.log.write(vec![b'x'; 2 * TracePatch::MAX + 10]);
    run.pass(SECOND / 2).await;
    let mebibyte = TracePatch::MAX as u64;
    let ranges: Vec<_> = run
        .server
        .patches()
        .iter()
        .map(|patch| (patch.0, patch.1))
        .collect();
    assert_eq!(
        ranges,
        [
            (0, mebibyte),
            (mebibyte, 2 * mebibyte),
            (2 * mebibyte, 2 * mebibyte + 10)
        ]
    );
    let (server, upload) = run.finish().await;
    assert_eq!(*upload.sent().borrow(), 2 * mebibyte + 10);
    assert_eq!(server.stored().len(), 2 * TracePatch::MAX + 10);
}

#[tokio::test(start_paused = true)]
async fn full_pieces_do_not_wait_for_a_tick_unless_the_server_asks_for_patience() {
    let mebibyte = TracePatch::MAX as u64;
    let run = Running::start();
    run.log.write("first");
    run.pass(SECOND).await;
    run.log.write(vec![b'x'; TracePatch::MAX + 100]);
    run.pass(SECOND).await;
    assert_eq!(
        run.server.patches(),
        [(0, 5, 0.0), (5, 5 + mebibyte, 1.0)],
        "the rest is not a full piece"
    );

    let run = Running::start();
    run.server
        .answer_updates([with_interval(UpdateAnswer::Ok, 10)]);
    run.pass(6 * SECOND).await;
    run.log.write("first");
    run.pass(SECOND).await;
    run.log.write(vec![b'x'; TracePatch::MAX + 100]);
    run.pass(2 * SECOND).await;
    assert_eq!(run.server.patches(), [(0, 5, 6.0)]);
}

/// Scenario 1.
#[tokio::test(start_paused = true)]
async fn the_upload_goes_on_from_the_range_the_server_reports() {
    let run = Running::start();
    run.server.store(b"01234");
    run.log.write("0123456789");
    run.pass(4 * SECOND).await;
    assert_eq!(run.server.patches(), [(0, 10, 0.0), (5, 10, 3.0)]);
    assert_eq!(run.server.stored(), b"0123456789");
}

/// Scenario 2, first half.
#[tokio::test(start_paused = true)]
async fn a_range_mismatch_without_a_range_starts_anew() {
    let run = Running::start();
    run.log.write("01234");
    run.pass(SECOND).await;
    run.log.write("56789");
    run.server
        .answer_patches([JobReply::plain(RangeMismatch { next: 0 })]);
    run.pass(6 * SECOND).await;
    let ranges: Vec<_> = run
        .server
        .patches()
        .iter()
        .map(|patch| (patch.0, patch.1))
        .collect();
    assert_eq!(ranges, [(0, 5), (5, 10), (0, 10)]);
}

/// Scenario 2, second half.
#[tokio::test(start_paused = true)]
async fn a_range_beyond_what_was_written_neither_panics_nor_runs_hot() {
    let run = Running::start();
    run.log.write("0123456789");
    run.server
        .script_patches(|_| Some(JobReply::plain(RangeMismatch { next: 999_999 })));
    run.pass(30 * SECOND).await;
    assert_eq!(
        run.server.patches(),
        [(0, 10, 0.0)],
        "nothing is left to send"
    );
    run.log.write("more");
    run.pass(30 * SECOND).await;
    assert_eq!(run.server.patches().len(), 2);
    let (server, mut upload) = run.finish().await;
    server.heal();
    let outcome = upload
        .final_update(
            &Verdict::success(),
            &FinalPolicy::slot(0),
            &CancellationToken::new(),
        )
        .await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(
        server.stored(),
        b"0123456789more",
        "after the server asked for it"
    );
}

/// Scenario 3.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_neither_a_hole_nor_a_duplicate() {
    let run = Running::start();
    let server = Arc::clone(&run.server);
    run.log.write("0123456789");
    let mut lost = false;
    run.server.script_patches(move |patch| {
        if std::mem::replace(&mut lost, true) {
            return None;
        }
        // Cannot lock the server inside its own script: store from another task.
        let (server, bytes) = (Arc::clone(&server), patch.bytes.clone());
        tokio::spawn(async move { server.store(&bytes) });
        Some(JobReply::plain(PatchAnswer::Failed(refused())))
    });
    run.pass(SECOND).await;
    run.log.write("abc");
    run.pass(10 * SECOND).await;
    let ranges: Vec<_> = run
        .server
        .patches()
        .iter()
        .map(|patch| (patch.0, patch.1))
        .collect();
    assert_eq!(ranges, [(0, 10), (0, 13), (10, 13)]);
    assert_eq!(run.server.stored(), b"0123456789abc");
}

/// Scenario 4, second half.
#[tokio::test(start_paused = true)]
async fn a_server_that_fails_for_ever_does_not_end_the_job_and_loses_nothing() {
    let run = Running::start();
    run.server
        .script_patches(|_| Some(JobReply::plain(PatchAnswer::Failed(status(500)))));
    for _ in 0..100 {
        run.log.write("line\n");
        run.pass(SECOND).await;
    }
    assert_eq!(*run.wishes.borrow(), ServerWish::Run);
    let patches = run.server.patches();
    assert!(patches.len() <= 35, "a try per tick: {}", patches.len());
    assert!(patches.iter().all(|patch| patch.0 == 0));
    run.server.heal();
    let (server, _) = run.finish().await;
    assert_eq!(server.stored(), b"line\n".repeat(100));
}

/// Scenario 5.
#[tokio::test(start_paused = true)]
async fn a_patch_not_found_does_not_end_the_job_but_an_update_not_found_does() {
    let run = Running::start();
    run.server
        .script_patches(|_| Some(JobReply::plain(NotFound)));
    run.server.answer_updates([
        JobReply::plain(UpdateAnswer::Ok),
        JobReply::plain(UpdateAnswer::Aborted(AbortReason::NotFound)),
    ]);
    for _ in 0..9 {
        run.log.write("x");
        run.pass(SECOND).await;
    }
    assert_eq!(*run.wishes.borrow(), ServerWish::Run);
    assert_eq!(run.server.questions().len(), 1, "404s are no sign of life");
    let server = Arc::clone(&run.server);
    let (end, upload) = run.end().await;
    assert_eq!(end, RunEnd::Aborted(AbortReason::NotFound));
    assert_eq!(
        *upload.wishes().borrow(),
        ServerWish::Abort(AbortReason::NotFound)
    );
    assert_eq!(server.questions().len(), 2);
}

/// Scenario 7.
#[tokio::test(start_paused = true)]
async fn the_server_sets_the_interval_on_any_answer_and_the_final_flush_is_fast_again() {
    let run = Running::start();
    run.server
        .answer_patches([with_interval(PatchAnswer::Failed(status(500)), 10)]);
    run.log.write("a");
    run.pass(SECOND).await;
    run.log.write("b");
    run.pass(10 * SECOND).await;
    run.log.write("c");
    run.pass(12 * SECOND).await;
    run.log.write("d");
    assert_eq!(
        run.server.patches(),
        [(0, 1, 0.0), (0, 2, 10.0), (2, 3, 20.0)]
    );
    let (server, _) = run.finish().await;
    assert_eq!(server.patches().last(), Some(&(3, 4, 23.0)));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_interval_heard_from_an_update_counts_at_once() {
    let run = Running::start();
    run.server
        .answer_patches([with_interval(PatchAnswer::Failed(status(500)), 600)]);
    run.server
        .answer_updates([with_interval(UpdateAnswer::Ok, 1)]);
    run.log.write("a");
    run.pass(20 * SECOND).await;
    assert_eq!(run.server.patches(), [(0, 1, 0.0), (0, 1, 5.0)]);
}

/// Scenario 8, with the cancel clock.
#[tokio::test(start_paused = true)]
async fn a_silent_job_is_asked_about_every_five_seconds_with_checksum_and_size() {
    let run = Running::start();
    run.log.write("hello");
    run.pass(21 * SECOND).await;
    let extent = TraceExtent {
        len: 5,
        crc32: crc32fast::hash(b"hello"),
    };
    assert_eq!(
        run.server.questions(),
        [
            (5.0, extent),
            (10.0, extent),
            (15.0, extent),
            (20.0, extent)
        ]
    );
}

/// Scenario 8 as the peer has it.
#[tokio::test(start_paused = true)]
async fn without_the_cancel_clock_a_silent_job_is_kept_alive_every_thirty_seconds() {
    for (dynamic_keepalive, times) in [(false, [30.0, 60.0]), (true, [40.0, 80.0])] {
        let settings = UploadSettings {
            cancel_poll: None,
            dynamic_keepalive,
            ..UploadSettings::default()
        };
        let run = Running::with(settings, ScriptedServer::default(), 0);
        run.server
            .answer_patches([with_interval(Accepted { next: 1 }, 10)]);
        run.log.write("x");
        run.pass(85 * SECOND).await;
        let asked: Vec<f64> = run.server.questions().iter().map(|asked| asked.0).collect();
        assert_eq!(asked, times, "dynamic: {dynamic_keepalive}");
    }
}

/// Scenario 8, second half.
#[tokio::test(start_paused = true)]
async fn a_chatty_job_is_not_asked_about() {
    let run = Running::start();
    for _ in 0..60 {
        run.log.write("line\n");
        run.pass(SECOND).await;
    }
    assert_eq!(run.server.questions(), []);
    assert!(run.server.patches().len() >= 20);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_too_busy_is_asked_less_often_until_it_answers() {
    let busy = || CallFailure::Status {
        method: "PUT",
        url: "http://h/".into(),
        status: 429,
        message: String::new(),
        wait: Some(45 * SECOND),
    };
    let run = Running::start();
    run.server.answer_updates([
        JobReply::plain(UpdateAnswer::Failed(status(429))),
        JobReply::plain(UpdateAnswer::Failed(refused())),
        JobReply::plain(UpdateAnswer::Failed(status(429))),
        JobReply::plain(UpdateAnswer::Failed(status(429))),
        JobReply::plain(UpdateAnswer::Failed(busy())),
    ]);
    run.pass(166 * SECOND).await;
    let asked: Vec<f64> = run.server.questions().iter().map(|asked| asked.0).collect();
    assert_eq!(
        asked,
        [
            5.0, 15.0, 35.0, 65.0, 95.0, 140.0, 145.0, 150.0, 155.0, 160.0, 165.0
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_reaches_a_silent_job_in_five_seconds() {
    let run = Running::start();
    run.pass(7 * SECOND).await;
    run.server.answer_updates([canceling(UpdateAnswer::Ok)]);
    let mut wishes = run.wishes.clone();
    wishes.changed().await.unwrap();
    assert_eq!(*wishes.borrow(), ServerWish::Cancel);
    assert_eq!(run.server.questions().len(), 2);
}

/// Scenario 29.
#[tokio::test(start_paused = true)]
async fn canceling_is_told_once_and_escalates_to_an_abort() {
    let run = Running::start();
    let changes = tokio::spawn({
        let mut wishes = run.wishes.clone();
        async move {
            let mut seen = Vec::new();
            while wishes.changed().await.is_ok() {
                seen.push(wishes.borrow_and_update().clone());
                if matches!(seen.last(), Some(ServerWish::Abort(_))) {
                    break;
                }
            }
            seen
        }
    });
    run.server.answer_patches([
        canceling(Accepted { next: 1 }),
        canceling(RangeMismatch { next: 1 }),
        canceling(PatchAnswer::Failed(status(500))),
        canceling(Accepted { next: 4 }),
        JobReply::plain(PatchAnswer::Aborted(canceled())),
    ]);
    for _ in 0..12 {
        run.log.write("x");
        run.pass(SECOND).await;
    }
    assert_eq!(
        changes.await.unwrap(),
        [ServerWish::Cancel, ServerWish::Abort(canceled())]
    );
    let (end, _) = run.end().await;
    assert_eq!(end, RunEnd::Aborted(canceled()));
}

#[tokio::test(start_paused = true)]
async fn an_abort_stops_the_upload_even_while_a_patch_hangs() {
    struct Hanging;
    impl JobCalls for Hanging {
        async fn update_job(
            &self,
            _: &JobCredentials,
            _: &crate::JobUpdate,
        ) -> JobReply<UpdateAnswer> {
            JobReply::plain(UpdateAnswer::Aborted(AbortReason::Forbidden))
        }
        async fn patch_trace(&self, _: &JobCredentials, _: TracePatch) -> JobReply<PatchAnswer> {
            std::future::pending().await
        }
    }
    let log = Arc::new(TestLog::default());
    log.write("x");
    let mut upload = TraceUpload::new(Hanging, credentials(), log, UploadSettings::default(), 0);
    let end = upload.run(&CancellationToken::new()).await;
    assert_eq!(end, RunEnd::Aborted(AbortReason::Forbidden));
}

/// Scenario 15.
#[tokio::test(start_paused = true)]
async fn a_job_that_ends_before_the_first_tick_has_its_log_sent_at_once() {
    let run = Running::start();
    let start = Instant::now();
    run.log.write("Running with\n");
    tokio::task::yield_now().await;
    run.log.write("Job succeeded\n");
    let (server, mut upload) = run.finish().await;
    let outcome = upload
        .final_update(
            &Verdict::success(),
            &FinalPolicy::slot(0),
            &CancellationToken::new(),
        )
        .await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(server.stored(), b"Running with\nJob succeeded\n");
    assert!(matches!(server.calls().last(), Some(Call::Final(..))));
}

/// Scenario 15 without any output.
#[tokio::test(start_paused = true)]
async fn an_empty_log_is_never_patched() {
    let (server, mut upload) = Running::start().finish().await;
    let outcome = upload
        .final_update(
            &Verdict::success(),
            &FinalPolicy::slot(0),
            &CancellationToken::new(),
        )
        .await;
    assert_eq!(outcome, FinalOutcome::Delivered);
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_upload_can_be_taken_up_from_its_offset_or_from_any_other() {
    for persisted in [None, Some(0), Some(4), Some(999)] {
        let run = Running::start();
        run.log.write("0123456789");
        run.pass(SECOND).await;
        run.log.write("abc");
        run.stop.cancel();
        let (log, server) = (Arc::clone(&run.log), Arc::clone(&run.server));
        let (end, upload) = run.end().await;
        assert_eq!(end, RunEnd::Stopped);
        let confirmed = *upload.sent().borrow();
        assert_eq!(confirmed, 10);
        drop(upload);

        let from = persisted.unwrap_or(confirmed);
        let run = Running::go_on(log, UploadSettings::default(), server, from);
        run.pass(SECOND).await;
        let (server, mut upload) = run.finish().await;
        let outcome = upload
            .final_update(
                &Verdict::success(),
                &FinalPolicy::slot(0),
                &CancellationToken::new(),
            )
            .await;
        assert_eq!(outcome, FinalOutcome::Delivered, "{persisted:?}");
        assert_eq!(server.stored(), b"0123456789abc", "{persisted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_whose_writer_is_gone_is_sent_as_far_as_it_goes() {
    struct Orphan;
    impl TraceSource for Orphan {
        fn progress(&self) -> watch::Receiver<TraceProgress> {
            watch::channel(TraceProgress {
                len: 2,
                checksum: crc32fast::hash(b"ab"),
                finished: false,
            })
            .1
        }
        fn read_at(&self, offset: u64, _: usize) -> io::Result<Bytes> {
            Ok(Bytes::from_static(
                &b"ab"[usize::try_from(offset).unwrap()..],
            ))
        }
    }
    let server = Arc::new(ScriptedServer::default());
    let mut upload = TraceUpload::new(
        Arc::clone(&server),
        credentials(),
        Arc::new(Orphan),
        UploadSettings::default(),
        0,
    );
    let end = upload.run(&CancellationToken::new()).await;
    assert_eq!(end, RunEnd::Finished);
    assert_eq!(server.stored(), b"ab");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_tried_again_at_the_next_tick() {
    struct Flaky(TestLog, std::sync::atomic::AtomicU32);
    impl TraceSource for Flaky {
        fn progress(&self) -> watch::Receiver<TraceProgress> {
            self.0.progress()
        }
        fn read_at(&self, offset: u64, max: usize) -> io::Result<Bytes> {
            match self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Err(io::Error::other("disk")),
                1 => Ok(Bytes::new()),
                _ => self.0.read_at(offset, max),
            }
        }
    }
    let log = Arc::new(Flaky(TestLog::default(), 0.into()));
    log.0.write("abc");
    let server = Arc::new(ScriptedServer::default());
    let mut upload = TraceUpload::new(
        Arc::clone(&server),
        credentials(),
        Arc::clone(&log) as Arc<dyn TraceSource>,
        UploadSettings::default(),
        0,
    );
    let token = CancellationToken::new();
    let stop = token.clone();
    let task = tokio::spawn(async move { upload.run(&stop).await });
    sleep(7 * SECOND).await;
    assert_eq!(server.patches(), [(0, 3, 6.0)]);
    token.cancel();
    assert_eq!(task.await.unwrap(), RunEnd::Stopped);
}
