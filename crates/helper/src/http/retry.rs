//! Requests that are made again: one rule for all transfers of the helper (coordinator-api §10, §13; job-lifecycle §5.3, §5.4).

use std::{
    thread,
    time::{Duration, SystemTime},
};

use ureq::http::HeaderMap;

use super::{Answer, HttpError};
use crate::log;

/// The longest pause that a server may ask for: a job waits, and a try too early costs one answer.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(120);

/// Why something was not done, and whether it is of use to try it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) again: Again,
}

/// Whether another try is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// No; nor in any other form, because the server refuses it.
    Refused,
    /// No.
    Never,
    /// The server is not well, and may have said for how long.
    Busy(Option<Duration>),
    /// Perhaps.
    Perhaps,
}

impl Problem {
    pub(crate) fn lasting(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            again: Again::Never,
        }
    }

    pub(crate) fn passing(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            again: Again::Perhaps,
        }
    }

    /// Whether it may be gone by the next try.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.again, Again::Busy(_) | Again::Perhaps)
    }

    pub(crate) fn is_refusal(&self) -> bool {
        self.again == Again::Refused
    }
}

impl From<HttpError> for Problem {
    fn from(error: HttpError) -> Self {
        Self::passing(error.to_string())
    }
}

/// How often something is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tries {
    /// In total.
    pub(crate) most: u32,
    /// In total, where the server's answer is one that may be another soon.
    pub(crate) most_busy: u32,
    /// After the first try. It doubles with each.
    pub(crate) pause: Duration,
    pub(crate) longest_pause: Duration,
    /// Who tries, as the line about it says.
    pub(crate) context: Option<&'static str>,
}

impl Tries {
    /// Tries until it is done or of no more use. `attempt` gets the number of those that failed.
    pub(crate) fn run<T>(
        &self,
        attempt: impl FnMut(u32) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.run_with(thread::sleep, attempt)
    }

    fn run_with<T>(
        &self,
        mut wait: impl FnMut(Duration),
        mut attempt: impl FnMut(u32) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut failed = 0;
        loop {
            let problem = match attempt(failed) {
                Ok(done) => return Ok(done),
                Err(problem) => problem,
            };
            failed += 1;
            let Some(pause) = self.pause_after(failed, problem.again) else {
                return Err(problem);
            };
            let mut fields = Vec::new();
            fields.extend(self.context.map(|context| ("context", context.to_owned())));
            fields.push(("error", problem.text));
            log::line(log::Level::Warning, "Retrying...", &fields);
            wait(pause);
        }
    }

    /// How long to wait when so many tries have failed; `None`: there is no other.
    pub(crate) fn pause_after(&self, failed: u32, again: Again) -> Option<Duration> {
        let (most, asked) = match again {
            Again::Refused | Again::Never => return None,
            Again::Busy(asked) => (self.most_busy.max(self.most), asked),
            Again::Perhaps => (self.most, None),
        };
        let doubled = 1 << failed.saturating_sub(1).min(16);
        let usual = (self.pause * doubled).min(self.longest_pause);
        (failed < most).then(|| asked.unwrap_or(usual))
    }
}

impl Again {
    /// What an answer says that is no success and has no meaning of its own. A server is busy whose answer is likely to be another in
    /// seconds: it restarts, has too much to do, or is behind a proxy that does not find it (coordinator-api §13).
    pub(crate) fn after(answer: &Answer) -> Self {
        match answer.status {
            408 | 429 | 500 | 502 | 503 | 504 | 512.. => {
                Self::Busy(asked_pause(&answer.headers, SystemTime::now()))
            }
            _ => Self::Perhaps,
        }
    }
}

/// How long a busy server asks to be left alone (coordinator-api §13): until `RateLimit-ResetTime`, a date to come, or for `Retry-After`
/// seconds (a date there is left out of account, as the peer does).
fn asked_pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let until = text("ratelimit-resettime")
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .and_then(|date| date.duration_since(now).ok());
    let seconds = text("retry-after").and_then(|seconds| seconds.parse().ok());
    [until, seconds.map(Duration::from_secs)]
        .into_iter()
        .flatten()
        .find(|pause| !pause.is_zero())
        .map(|pause| pause.min(LONGEST_ASKED_PAUSE))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use ureq::http::{HeaderName, HeaderValue};

    use super::*;

    const TRIES: Tries = Tries {
        most: 3,
        most_busy: 6,
        pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(5),
        context: None,
    };

    fn busy(seconds: Option<u64>) -> Again {
        Again::Busy(seconds.map(Duration::from_secs))
    }

    /// What failed, and the pauses that were made meanwhile.
    #[rstest]
    #[case::nothing(&[], true, &[])]
    #[case::once(&[Again::Perhaps], true, &[1])]
    #[case::for_good(&[Again::Perhaps; 3], false, &[1, 2])]
    #[case::a_server_that_is_not_well_is_asked_more_often(&[busy(None); 5], true, &[1, 2, 4, 5, 5])]
    #[case::but_not_for_ever(&[busy(None); 6], false, &[1, 2, 4, 5, 5])]
    #[case::it_is_left_alone_for_as_long_as_it_asks(&[busy(Some(30)), busy(Some(1)), busy(None)], true, &[30, 1, 4])]
    #[case::the_last_failure_decides(&[busy(None), busy(None), Again::Perhaps], false, &[1, 2])]
    #[case::never(&[Again::Never], false, &[])]
    #[case::refused(&[Again::Perhaps, Again::Refused], false, &[1])]
    fn tries_and_their_pauses(
        #[case] failures: &[Again],
        #[case] ok: bool,
        #[case] pauses: &[u64],
    ) {
        let mut made = Vec::new();
        let done = TRIES.run_with(
            |pause| made.push(pause.as_secs()),
            |failed| match failures.get(failed as usize) {
                Some(&again) => Err(Problem {
                    text: failed.to_string(),
                    again,
                }),
                None => Ok(failed as usize),
            },
        );
        assert_eq!(made, pauses);
        match done {
            Ok(failed) => assert_eq!((ok, failed), (true, failures.len())),
            Err(problem) => {
                assert!(!ok);
                assert_eq!(problem.text, (failures.len() - 1).to_string());
            }
        }
    }

    #[rstest]
    #[case::seconds(None, Some(" 3 "), Some(3))]
    #[case::not_for_a_day(None, Some("86400"), Some(120))]
    #[case::zero(None, Some("0"), None)]
    #[case::negative(None, Some("-1"), None)]
    #[case::a_date_of_retry_after(None, Some("Sun, 29 Nov 2026 00:00:40 GMT"), None)]
    #[case::empty(None, Some(""), None)]
    #[case::neither(None, None, None)]
    #[case::a_date_to_come(Some("Sun, 29 Nov 2026 00:00:40 GMT"), Some("3"), Some(40))]
    #[case::a_date_that_is_over(Some("Sat, 28 Nov 2026 23:59:59 GMT"), Some("3"), Some(3))]
    #[case::this_moment(Some("Sun, 29 Nov 2026 00:00:00 GMT"), None, None)]
    #[case::a_date_of_next_year(Some("Mon, 29 Nov 2027 00:00:00 GMT"), None, Some(120))]
    #[case::no_date(Some("soon"), Some("3"), Some(3))]
    fn a_server_is_left_alone_as_long_as_it_asks_but_not_for_a_day(
        #[case] reset: Option<&'static str>,
        #[case] after: Option<&'static str>,
        #[case] pause: Option<u64>,
    ) {
        let now = httpdate::parse_http_date("Sun, 29 Nov 2026 00:00:00 GMT").unwrap();
        let mut headers = HeaderMap::new();
        for (name, text) in [("RateLimit-ResetTime", reset), ("Retry-After", after)] {
            let name: HeaderName = name.parse().unwrap();
            headers.extend(text.map(|text| (name, HeaderValue::from_static(text))));
        }
        let found = asked_pause(&headers, now);
        assert_eq!(found.map(|pause| pause.as_secs()), pause);
    }
}
