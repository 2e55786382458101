//! `[runners.monitoring]`.

use std::str::FromStr;

use jiff::tz::TimeZone;
use regex_lite::Regex;

use crate::config::{JobQueuingDuration, Period};
use crate::duration::GoDuration;
use crate::excerpt::Shown;
use crate::findings::Findings;
use crate::problem::ProblemKind;
use crate::tree::Tree;

/// Rows of `job_queuing_durations`; `path` is that of the runner. A row that cannot be read blocks loading, as in the peer
/// (config-toml §1).
pub(super) fn job_queuing_durations(
    tree: &Tree,
    path: &str,
    findings: &mut Findings,
) -> Vec<JobQueuingDuration> {
    let Some(monitoring) = tree.table("monitoring") else {
        return Vec::new();
    };
    let rows = monitoring.tables("job_queuing_durations").iter();
    let rows = rows.enumerate().map(|(index, row)| {
        let path = format!("{path}.monitoring.job_queuing_durations[{index}]");
        row_of(row, &path, findings)
    });
    rows.collect()
}

fn row_of(row: &Tree, path: &str, findings: &mut Findings) -> JobQueuingDuration {
    let mut refuse = |key: &str, message: String| {
        let (kind, at) = (ProblemKind::Value, row.at(key));
        findings.problem(kind, at, format!("{path}.{key}"), Shown::Plain, message);
    };
    let mut periods = Vec::new();
    for period in row.list("periods") {
        match Period::from_str(period) {
            Ok(period) => periods.push(period),
            Err(message) => refuse("periods", message),
        }
    }
    let time_zone = match row.string("timezone") {
        "" | "Local" => TimeZone::system(),
        name => TimeZone::get(name).unwrap_or_else(|_| {
            let message = format!(
                "this machine knows no time zone {name:?} (Debian's package tzdata has them)"
            );
            refuse("timezone", message);
            TimeZone::UTC
        }),
    };
    let pattern = row.text("jobs_running_for_project");
    let jobs_running_for_project = pattern.and_then(|pattern| match Regex::new(&pattern) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            refuse(
                "jobs_running_for_project",
                format!("no regular expression: {error}"),
            );
            None
        }
    });
    JobQueuingDuration {
        periods,
        time_zone,
        threshold: row.duration("threshold").and_then(GoDuration::positive),
        jobs_running_for_project,
    }
}
