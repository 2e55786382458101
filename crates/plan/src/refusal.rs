//! What a job asks for and this version does not do: refused by name, or said in the log where the configuration allows to go on.

use gantry_job::{
    Cause, FeatureFlag, FeatureFlags, JobPayload, JobSettings, Unsupported, unsupported_keywords,
};

/// What the job asks for and this version does not do, as a cause; `None` if it may run.
///
/// `ignores` tells whether `[gantry] ignore_unsupported` names a keyword. To be asked before [`crate::plan`], which takes every
/// keyword that is left for an ignored one and warns of it.
pub fn refusal(payload: &JobPayload, ignores: impl Fn(&str) -> bool) -> Option<Cause> {
    gantry_job::refusal(&unsupported_keywords(payload), ignores)
}

/// One sentence for each thing the job asks for in vain.
pub(crate) fn ignored(
    payload: &JobPayload,
    settings: &JobSettings,
    flags: &FeatureFlags,
) -> Vec<String> {
    let mut found: Vec<_> = unsupported_keywords(payload)
        .into_iter()
        .filter(|unsupported| matches!(unsupported, Unsupported::Keyword { .. }))
        .map(|keyword| {
            format!(
                "This job runs without {keyword}, which this version of Gantry does not do (`ignore_unsupported` in [gantry])"
            )
        })
        .collect();
    if settings.debug_services && !payload.services.is_empty() {
        found.push(
            "CI_DEBUG_SERVICES: logs of services are not shown in this version of Gantry"
                .to_owned(),
        );
    }
    if flags.is_on(FeatureFlag::DisableUmaskForDockerExecutor) {
        found.push(
            "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR: not done in this version of Gantry, sources can be written to by every user"
                .to_owned(),
        );
    }
    found
}

#[cfg(test)]
mod tests;
