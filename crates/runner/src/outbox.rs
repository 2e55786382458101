//! Delivery of a verdict whose job has given its slot back already: on and on, until the server has it, refuses it, or a day is over.

use std::time::Duration;

use gantry_gitlab::{FinalOutcome, FinalPolicy, JobCalls, TraceUpload, Verdict};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a verdict may stay undelivered, from the end of its job on, over all processes.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What is left of the day of a verdict. One without a time, of an earlier version, has all of it.
pub(crate) fn time_left(ended_ms: Option<u64>, now_ms: u64) -> Duration {
    let gone = ended_ms.map_or(0, |ended| now_ms.saturating_sub(ended));
    LIMIT.saturating_sub(Duration::from_millis(gone))
}

/// Delivers, with pauses of at most a minute; `None` when the time is over. One try is made in any case.
pub(crate) async fn deliver<C: JobCalls>(
    upload: &mut TraceUpload<C>,
    state: &Verdict,
    left: Duration,
) -> Option<FinalOutcome> {
    let stop = CancellationToken::new();
    let once = FinalPolicy {
        tries: Some(1),
        ..FinalPolicy::outbox()
    };
    if left.is_zero() {
        let outcome = upload.final_update(state, &once, &stop).await;
        return outcome.is_settled().then_some(outcome);
    }
    let policy = FinalPolicy::outbox();
    let outcome = timeout(left, upload.final_update(state, &policy, &stop)).await;
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use bytes::Bytes;
    use gantry_gitlab::{
        AbortReason, CallFailure, JobCredentials, JobReply, JobUpdate, PatchAnswer, Product,
        RunnerInfo, TracePatch, TraceSource, UpdateAnswer, UploadSettings,
    };
    use gantry_trace::TraceProgress;
    use rstest::rstest;
    use tokio::{sync::watch, time::Instant};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Cannot be reached for some time, then answers for good.
    struct Server {
        away_until: Instant,
        then: UpdateAnswer,
        asked: Mutex<Vec<Instant>>,
    }

    impl JobCalls for Server {
        async fn update_job(&self, _: &JobCredentials, _: &JobUpdate) -> JobReply<UpdateAnswer> {
            let now = Instant::now();
            self.asked.lock().unwrap().push(now);
            JobReply::plain(if now < self.away_until {
                UpdateAnswer::Failed(CallFailure::Transport {
                    method: "PUT",
                    url: "http://h/".into(),
                    reason: "connection refused".into(),
                })
            } else {
                self.then.clone()
            })
        }

        async fn patch_trace(&self, _: &JobCredentials, _: TracePatch) -> JobReply<PatchAnswer> {
            panic!("there is no log")
        }
    }

    /// A log without a byte.
    struct NoLog(watch::Sender<TraceProgress>);

    impl TraceSource for NoLog {
        fn progress(&self) -> watch::Receiver<TraceProgress> {
            self.0.subscribe()
        }

        fn read_at(&self, _: u64, _: usize) -> io::Result<Bytes> {
            panic!("there is no log")
        }
    }

    /// The outcome, when it came, and the longest pause between two calls.
    async fn delivered(
        away: Duration,
        then: UpdateAnswer,
        left: Duration,
    ) -> (Option<FinalOutcome>, Duration, Duration) {
        let begin = Instant::now();
        let server = Arc::new(Server {
            away_until: begin + away,
            then,
            asked: Mutex::default(),
        });
        let credentials = JobCredentials {
            id: 7,
            token: "glcbt-7".into(),
            info: Arc::new(RunnerInfo::docker(&Product::default())),
        };
        let log = Arc::new(NoLog(watch::Sender::default()));
        let settings = UploadSettings::default();
        let mut upload = TraceUpload::new(Arc::clone(&server), credentials, log, settings, 0);
        let state = Verdict::failed(gantry_job::FailureReason::ScriptFailure, 3);
        let outcome = deliver(&mut upload, &state, left).await;
        let asked = server.asked.lock().unwrap();
        let pauses = asked.windows(2).map(|calls| calls[1] - calls[0]);
        (outcome, begin.elapsed(), pauses.max().unwrap_or_default())
    }

    #[rstest]
    #[case::has_it(UpdateAnswer::Ok, FinalOutcome::Delivered)]
    #[case::refuses(
        UpdateAnswer::Aborted(AbortReason::NotFound),
        FinalOutcome::Closed(AbortReason::NotFound)
    )]
    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_for_hours_is_told_within_a_minute_of_its_return(
        #[case] answer: UpdateAnswer,
        #[case] expected: FinalOutcome,
    ) {
        let (outcome, took, pause) = delivered(20 * HOUR, answer, 24 * HOUR).await;
        assert_eq!(outcome, Some(expected));
        assert_eq!(pause, Duration::from_secs(60));
        assert!(took - 20 * HOUR <= Duration::from_secs(60), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_later_it_is_given_up() {
        let (outcome, took, _) = delivered(48 * HOUR, UpdateAnswer::Ok, 24 * HOUR).await;
        assert_eq!(outcome, None);
        assert_eq!(took, 24 * HOUR);
    }

    #[rstest]
    #[case::away(HOUR, None)]
    #[case::there(Duration::ZERO, Some(FinalOutcome::Delivered))]
    #[tokio::test(start_paused = true)]
    async fn a_verdict_whose_day_is_over_is_still_sent_once(
        #[case] away: Duration,
        #[case] expected: Option<FinalOutcome>,
    ) {
        let (outcome, _, _) = delivered(away, UpdateAnswer::Ok, Duration::ZERO).await;
        assert_eq!(outcome, expected);
    }

    #[rstest]
    #[case::just_ended(Some(1_000), 1_000, 24 * HOUR)]
    #[case::a_restart_does_not_begin_anew(Some(0), 3_600_000, 23 * HOUR)]
    #[case::over(Some(0), 25 * 3_600_000, Duration::ZERO)]
    #[case::the_clock_went_back(Some(5_000), 1_000, 24 * HOUR)]
    #[case::of_an_earlier_version(None, 3_600_000, 24 * HOUR)]
    fn the_day_begins_with_the_end_of_the_job(
        #[case] ended_ms: Option<u64>,
        #[case] now_ms: u64,
        #[case] left: Duration,
    ) {
        assert_eq!(time_left(ended_ms, now_ms), left);
    }
}
