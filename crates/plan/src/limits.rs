//! Time limits of a job (job-lifecycle §1.2, §1.4).

use std::time::Duration;

use gantry_job::{FeatureFlag, FeatureFlags};

use crate::{Inputs, Limits, resolve::Resolved};

/// Clocks cannot count further than some centuries; no job lasts that long.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Seconds before the 2nd, 3rd … attempt with `FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY`.
const EXPONENTIAL: &[u64] = &[5, 10, 20, 40, 80, 160, 300];
/// The same without.
const SHORT: &[u64] = &[1, 2, 4, 5];

pub(crate) fn plan(inputs: &Inputs<'_>, resolved: &Resolved) -> Limits {
    let job = resolved.payload.timeout().min(LONGEST);
    // A limit that is not shorter would only hide the job's own message.
    let shorter = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero() && *limit < job);
    Limits {
        job,
        prepare: shorter(inputs.runner.prepare_timeout),
        get_sources: shorter(inputs.runner.get_sources_timeout),
        script: shorter(resolved.timeouts.script),
        after_script: resolved.timeouts.after_script.min(LONGEST),
        retry_waits: retry_waits(&resolved.flags),
    }
}

/// Pauses before the 2nd, 3rd … attempt of a stage.
pub(crate) fn retry_waits(flags: &FeatureFlags) -> Vec<Duration> {
    let exponential = flags.is_on(FeatureFlag::UseExponentialBackoffStageRetry);
    let waits = if exponential { EXPONENTIAL } else { SHORT };
    waits.iter().copied().map(Duration::from_secs).collect()
}

/// Seconds to wait for services, at most as long as the job may take; negative: do not wait.
pub(crate) fn wait_for_services(inputs: &Inputs<'_>, limits: &Limits) -> i64 {
    let wait = inputs.runner.docker.wait_for_services_timeout;
    wait.map_or(-1, |wait| {
        i64::try_from(wait.min(limits.job).as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests;
