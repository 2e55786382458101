//! `RUNNER_SCRIPT_TIMEOUT` and `RUNNER_AFTER_SCRIPT_TIMEOUT` (job-lifecycle §1.4).

use std::time::Duration;

use crate::duration::{self, Signed};

/// Limit of `after_script` where none is set.
const AFTER_SCRIPT_DEFAULT: Duration = Duration::from_secs(5 * 60);

/// Time limits of the scripts of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTimeouts {
    /// Limit over all steps but `after_script`; `None` leaves the job's.
    pub script: Option<Duration>,
    /// Limit of `after_script`, counted from its start; the job's limit holds as well.
    pub after_script: Duration,
    /// What to warn of in the trace.
    pub warnings: Vec<String>,
}

pub(super) fn resolve(script: &str, after_script: &str, remaining: Duration) -> StageTimeouts {
    let mut warnings = Vec::new();
    // A script limit that equals the job's would only hide the job's own message.
    let script = read("RUNNER_SCRIPT_TIMEOUT", script, remaining, &mut warnings)
        .filter(|limit| *limit < remaining);
    // The peer says "Setting to job timeout" and falls back to 5 minutes; here it is what it says.
    let after_script = read(
        "RUNNER_AFTER_SCRIPT_TIMEOUT",
        after_script,
        remaining,
        &mut warnings,
    )
    .unwrap_or(AFTER_SCRIPT_DEFAULT);
    StageTimeouts {
        script,
        after_script,
        warnings,
    }
}

/// The limit of one variable, at most `remaining`; `None` where it has none that can be used.
fn read(
    name: &str,
    raw: &str,
    remaining: Duration,
    warnings: &mut Vec<String>,
) -> Option<Duration> {
    if raw.is_empty() {
        return None;
    }
    match duration::parse(raw) {
        Err(_) => {
            warnings.push(format!("Ignoring malformed {name} timeout: {raw}"));
            None
        }
        Ok(Signed::Negative(_)) => {
            warnings.push(format!("Ignoring relative {name} timeout: {raw}"));
            None
        }
        Ok(Signed::Positive(Duration::ZERO)) => None,
        Ok(Signed::Positive(limit)) if limit > remaining => {
            warnings.push(format!(
                "{name} timeout: {raw} is longer than job timeout. Setting to job timeout"
            ));
            Some(remaining)
        }
        Ok(Signed::Positive(limit)) => Some(limit),
    }
}
