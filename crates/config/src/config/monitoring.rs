//! `[[runners.monitoring.job_queuing_durations]]`: how long jobs may wait, and when (config-toml §4).

mod period;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, tz::TimeZone};
use regex_lite::Regex;

pub use period::Period;

/// One row: an acceptable waiting time, the periods it holds in, the projects it holds for.
#[derive(Clone, Debug)]
pub struct JobQueuingDuration {
    /// When it holds: in any of these.
    pub periods: Vec<Period>,
    /// Where the periods' clock hangs.
    pub time_zone: TimeZone,
    /// Longest acceptable time in the queue; `None`: any.
    pub threshold: Option<Duration>,
    /// Only jobs of projects with a matching number of running jobs, as the server says it (`0`, `2`, `Inf+`); `None`: all.
    pub jobs_running_for_project: Option<Regex>,
}

impl JobQueuingDuration {
    fn holds_at(&self, now: Timestamp) -> bool {
        let zoned = now.to_zoned_datetime(self.time_zone.clone());
        self.periods.iter().any(|period| period.contains(&zoned))
    }

    fn is_exceeded(&self, queued: Duration, jobs_running: &str) -> bool {
        let concerns = self.jobs_running_for_project.as_ref();
        self.threshold.is_some_and(|threshold| queued > threshold)
            && concerns.is_none_or(|pattern| pattern.is_match(jobs_running))
    }
}

/// Whether a job that waited so long waited too long, by the last row that holds now. `jobs_running` is
/// `project_jobs_running_on_instance_runners_count` of the payload.
#[must_use]
pub fn waited_too_long(
    rows: &[JobQueuingDuration],
    now: SystemTime,
    queued: Duration,
    jobs_running: &str,
) -> bool {
    // A clock beyond jiff's years is in no period.
    let Ok(now) = Timestamp::try_from(now) else {
        return false;
    };
    let active = rows.iter().rev().find(|row| row.holds_at(now));
    active.is_some_and(|row| row.is_exceeded(queued, jobs_running))
}
