//! When a runner is not polled because GitLab keeps refusing it (coordinator-api §13).
//!
//! A pure data type: the caller passes the time and logs the outcome. One per runner (`url` + short token); a reload of the
//! config starts afresh.

use std::time::Duration;

use tokio::time::Instant;

/// `unhealthy_requests_limit` and `unhealthy_interval` of a `[[runners]]` entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSettings {
    /// Refusals in a row after which the runner is left alone; 0 counts as the default, 3.
    pub limit: u32,
    /// For how long, counted from the last healthy answer (or from first sight).
    pub interval: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            limit: 3,
            interval: Duration::from_secs(3600),
        }
    }
}

/// What to do with the runner now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poll {
    /// Ask for a job.
    Yes,
    /// The interval is over: ask once more, with a clean counter. The caller logs
    /// `Runner "<id>" is not healthy, but check for a new job will be forced!`.
    Forced,
    /// Leave it alone for this long.
    NotFor(Duration),
}

/// Failure counter and clock of one runner.
#[derive(Debug, Clone)]
pub struct RunnerHealth {
    settings: HealthSettings,
    failures: u32,
    since: Instant,
}

impl RunnerHealth {
    /// A runner seen for the first time at `now`.
    #[must_use]
    pub fn new(settings: HealthSettings, now: Instant) -> Self {
        let limit = if settings.limit == 0 {
            3
        } else {
            settings.limit
        };
        Self {
            settings: HealthSettings { limit, ..settings },
            failures: 0,
            since: now,
        }
    }

    /// Whether to poll at `now`. [`Poll::Forced`] has reset the counter.
    pub fn poll(&mut self, now: Instant) -> Poll {
        if self.is_healthy() {
            return Poll::Yes;
        }
        let rest = (self.since + self.settings.interval).saturating_duration_since(now);
        if rest.is_zero() {
            self.failures = 0;
            self.since = now;
            Poll::Forced
        } else {
            Poll::NotFor(rest)
        }
    }

    /// Any answer that is not a refusal.
    pub fn healthy(&mut self, now: Instant) {
        self.failures = 0;
        self.since = now;
    }

    /// A refused job request (403), a client that cannot be built, or an executor nobody knows.
    ///
    /// Returns the length of the pause when this very refusal starts it; the caller logs
    /// `Runner "<id>" is unhealthy and will be disabled for <d> seconds!`.
    pub fn unhealthy(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        (self.failures == self.settings.limit).then_some(self.settings.interval)
    }

    /// Fewer refusals in a row than the limit.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failures < self.settings.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn three_refusals_in_a_row_stop_the_polling_for_an_hour_since_the_last_healthy_answer() {
        let start = Instant::now();
        let mut health = RunnerHealth::new(HealthSettings::default(), start);
        health.healthy(start + Duration::from_secs(60));
        assert_eq!(health.unhealthy(), None);
        assert_eq!(health.unhealthy(), None);
        assert_eq!(health.poll(start + Duration::from_secs(70)), Poll::Yes);
        assert_eq!(health.unhealthy(), Some(HOUR));
        assert_eq!(
            health.poll(start + Duration::from_secs(120)),
            Poll::NotFor(HOUR - Duration::from_secs(60))
        );
        assert_eq!(health.unhealthy(), None, "said once");
    }

    #[test]
    fn one_check_is_forced_after_the_interval_and_it_starts_counting_anew() {
        let start = Instant::now();
        let mut health = RunnerHealth::new(HealthSettings::default(), start);
        for _ in 0..3 {
            health.unhealthy();
        }
        assert_eq!(health.poll(start + HOUR), Poll::Forced);
        assert_eq!(health.poll(start + HOUR), Poll::Yes);
        assert_eq!(health.unhealthy(), None);
        assert_eq!(health.unhealthy(), None);
        assert_eq!(health.unhealthy(), Some(HOUR));
    }

    #[test]
    fn a_healthy_answer_clears_the_counter() {
        let start = Instant::now();
        let mut health = RunnerHealth::new(HealthSettings::default(), start);
        health.unhealthy();
        health.unhealthy();
        health.healthy(start);
        health.unhealthy();
        assert!(health.is_healthy());
    }

    #[test]
    fn a_limit_of_zero_means_the_default() {
        let start = Instant::now();
        let settings = HealthSettings {
            limit: 0,
            interval: HOUR,
        };
        let mut health = RunnerHealth::new(settings, start);
        health.unhealthy();
        health.unhealthy();
        assert_eq!(health.poll(start), Poll::Yes);
        health.unhealthy();
        assert_eq!(health.poll(start), Poll::NotFor(HOUR));
    }
}
