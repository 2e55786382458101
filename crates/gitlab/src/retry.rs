//! Retries inside one call: which statuses, how often, how long between (coordinator-api §13).

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use tokio::time::sleep;

use crate::CallFailure;

/// Attempts of one call, the first included.
pub(crate) const ATTEMPTS: u32 = 5;
/// First pause when the server names none.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause, also when the server names one. The peer obeys a server without limit, which parks a job's log or a poll
/// for hours; the next try is refused at no cost, so a minute is patience enough.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An answer as far as retries look at it.
pub(crate) trait Answered {
    fn status(&self) -> u16;
    fn headers(&self) -> &HeaderMap;
}

/// The last answer, with what led to it.
pub(crate) struct Retried<T> {
    pub(crate) result: Result<T, CallFailure>,
    /// HTTP requests made.
    pub(crate) attempts: u32,
    /// Some attempt met a retryable status.
    pub(crate) throttled: bool,
}

/// Repeats `attempt` while it meets a retryable status, at most `attempts` times in all. Transport errors are not repeated.
pub(crate) async fn repeat<T, F>(attempts: u32, mut attempt: impl FnMut() -> F) -> Retried<T>
where
    T: Answered,
    F: Future<Output = Result<T, CallFailure>>,
{
    let mut made = 0;
    let mut throttled = false;
    loop {
        let result = attempt().await;
        made += 1;
        if let Ok(answer) = &result
            && is_retryable(answer.status())
        {
            throttled = true;
            if made < attempts {
                let pause = server_wait(answer.headers(), Timestamp::now())
                    .unwrap_or_else(|| pause(made, rand::random()));
                drop(result);
                sleep(pause).await;
                continue;
            }
        }
        return Retried {
            result,
            attempts: made,
            throttled,
        };
    }
}

pub(crate) const fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// How long the server asks to wait, capped: `RateLimit-ResetTime` (a date in the future), else `Retry-After` (seconds, > 0).
pub(crate) fn server_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let until_reset = text("ratelimit-resettime").and_then(|date| {
        let reset = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
        let wait = Duration::try_from(reset.duration_since(now)).ok()?;
        (!wait.is_zero()).then_some(wait)
    });
    let retry_after = || {
        let seconds: u64 = text("retry-after")?.trim().parse().ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    };
    until_reset
        .or_else(retry_after)
        .map(|wait| wait.min(LONGEST_PAUSE))
}

/// Pause after the `made`th attempt, from 1: 100 ms, then doubled with jitter; `luck` in `[0, 1)`.
fn pause(made: u32, luck: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(made.saturating_sub(1)));
    let above_first = doubled.saturating_sub(FIRST_PAUSE);
    (FIRST_PAUSE + above_first.mul_f64(luck)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use reqwest::header::{HeaderName, HeaderValue};
    use rstest::rstest;
    use tokio::time::Instant;

    use super::*;

    struct Scripted(u16, HeaderMap);

    impl Answered for Scripted {
        fn status(&self) -> u16 {
            self.0
        }
        fn headers(&self) -> &HeaderMap {
            &self.1
        }
    }

    fn answer(status: u16, header: Option<(&'static str, &'static str)>) -> Scripted {
        let headers = header
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        Scripted(status, headers)
    }

    async fn run(answers: Vec<Scripted>) -> (Retried<Scripted>, Duration) {
        let answers = RefCell::new(VecDeque::from(answers));
        let start = Instant::now();
        let retried = repeat(ATTEMPTS, || {
            let next = answers.borrow_mut().pop_front().unwrap();
            async move { Ok(next) }
        })
        .await;
        assert!(answers.borrow().is_empty(), "an answer was not asked for");
        (retried, start.elapsed())
    }

    #[rstest]
    #[case(408, true)]
    #[case(429, true)]
    #[case(500, true)]
    #[case(501, false)]
    #[case(502, true)]
    #[case(503, true)]
    #[case(504, true)]
    #[case(505, false)]
    #[case(511, false)]
    #[case(512, true)]
    #[case(599, true)]
    #[case(200, false)]
    #[case(404, false)]
    #[case(409, false)]
    #[case(416, false)]
    fn only_some_statuses_are_retried(#[case] status: u16, #[case] retried: bool) {
        assert_eq!(is_retryable(status), retried);
    }

    #[tokio::test(start_paused = true)]
    async fn five_attempts_are_made_and_the_last_answer_is_handed_on() {
        let answers = (0..5).map(|_| answer(500, None)).collect();
        let (retried, elapsed) = run(answers).await;
        assert_eq!(retried.attempts, 5);
        assert!(retried.throttled);
        assert_eq!(retried.result.unwrap().0, 500);
        let least = 4 * FIRST_PAUSE;
        let most = Duration::from_millis(100 + 200 + 400 + 800);
        assert!(
            elapsed >= least && elapsed <= most + Duration::from_millis(4),
            "{elapsed:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_says_how_long_to_wait() {
        let (retried, elapsed) = run(vec![
            answer(429, Some(("retry-after", "2"))),
            answer(202, None),
        ])
        .await;
        assert_eq!((retried.attempts, retried.throttled), (2, true));
        assert_eq!(elapsed, Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_a_day_is_asked_again_after_a_minute() {
        let (_, elapsed) = run(vec![
            answer(429, Some(("retry-after", "86400"))),
            answer(204, None),
        ])
        .await;
        assert_eq!(elapsed, LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn other_answers_and_transport_errors_are_not_repeated() {
        let (retried, elapsed) = run(vec![answer(409, None)]).await;
        assert_eq!((retried.attempts, retried.throttled), (1, false));
        assert_eq!(elapsed, Duration::ZERO);

        let refused = CallFailure::Transport {
            method: "PUT",
            url: "http://h/".into(),
            reason: "refused".into(),
        };
        let retried: Retried<Scripted> = repeat(ATTEMPTS, || async { Err(refused.clone()) }).await;
        assert_eq!(retried.attempts, 1);
        assert_eq!(retried.result.err(), Some(refused));
    }

    #[rstest]
    #[case(&[("ratelimit-resettime", "Tue, 05 Nov 2019 11:50:30 GMT")], Some(30))]
    #[case(&[("ratelimit-resettime", "Tue, 05 Nov 2019 11:50:30 GMT"), ("retry-after", "5")], Some(30))]
    #[case(&[("ratelimit-resettime", "Tue, 05 Nov 2019 11:49:59 GMT"), ("retry-after", "5")], Some(5))]
    #[case(&[("ratelimit-resettime", "soon")], None)]
    #[case(&[("ratelimit-resettime", "Wed, 06 Nov 2019 11:50:00 GMT")], Some(60))]
    #[case(&[("retry-after", "Tue, 05 Nov 2019 11:50:30 GMT")], None)]
    #[case(&[("retry-after", "0")], None)]
    #[case(&[("retry-after", "-3")], None)]
    #[case(&[], None)]
    fn the_wait_a_server_names_is_read_from_two_headers(
        #[case] pairs: &[(&'static str, &'static str)],
        #[case] seconds: Option<u64>,
    ) {
        let now = "2019-11-05T11:50:00Z".parse().unwrap();
        let headers = pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        assert_eq!(server_wait(&headers, now), seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(1, 0.9, 100)]
    #[case(2, 0.0, 100)]
    #[case(2, 1.0, 200)]
    #[case(4, 0.5, 450)]
    #[case(30, 1.0, 60_000)]
    fn unasked_pauses_double_with_jitter(#[case] made: u32, #[case] luck: f64, #[case] ms: u64) {
        assert_eq!(pause(made, luck), Duration::from_millis(ms));
    }
}
