//! What a job asks for and this version does not do: refused by name, or said in the log where the configuration allows to go on.

use crate::Sources;
use gantry_job::{Cause, FeatureFlag, FeatureFlags, JobPayload, Unsupported, unsupported_keywords};

/// What the job asks for and this version does not do, as a cause; `None` if it may run.
///
/// `ignores` tells whether `[gantry] ignore_unsupported` names a keyword. To be asked before [`crate::plan`], which takes every
/// keyword that is left for an ignored one and warns of it.
pub fn refusal(payload: &JobPayload, ignores: impl Fn(&str) -> bool) -> Option<Cause> {
    gantry_job::refusal(&unsupported_keywords(payload), ignores)
}

/// One sentence for each thing the job asks for in vain.
pub(crate) fn ignored(payload: &JobPayload, flags: &FeatureFlags, sources: Sources) -> Vec<String> {
    let mut found: Vec<_> = unsupported_keywords(payload)
        .into_iter()
        .filter(|unsupported| matches!(unsupported, Unsupported::Keyword { .. }))
        .map(|keyword| {
            format!(
                "This job runs without {keyword}, which this version of Gantry does not do (`ignore_unsupported` in [gantry])"
            )
        })
        .collect();
    found.extend(without_effect(flags, sources));
    found
}

/// Flags that are set otherwise than by default and change nothing here, each with the reason. Flags of other executors are not
/// among them: they change nothing in the peer's Docker executor either.
fn without_effect(flags: &FeatureFlags, sources: Sources) -> impl Iterator<Item = String> + use<> {
    let local = sources == Sources::WorkingTree;
    [
        (
            FeatureFlag::DisableUmaskForDockerExecutor,
            true,
            local.then_some("a local run leaves the modes of the working tree as they are"),
        ),
        (
            FeatureFlag::UseFastzip,
            false,
            Some("archives are made in parallel in the same format"),
        ),
        (
            FeatureFlag::UseLegacyS3CacheAdapter,
            true,
            Some("there is one way to reach S3"),
        ),
        (
            FeatureFlag::UseLegacyGcsCacheAdapter,
            true,
            Some("there is one way to reach Google Cloud Storage"),
        ),
        (
            FeatureFlag::ScriptToStepMigration,
            true,
            Some("scripts run in a shell"),
        ),
        (FeatureFlag::Concrete, true, Some("scripts run in a shell")),
        (
            FeatureFlag::UseJobRouter,
            true,
            Some("jobs are asked for at the server itself"),
        ),
        (
            FeatureFlag::SuspendableEnvironments,
            true,
            Some("environments are neither suspended nor resumed"),
        ),
    ]
    .into_iter()
    .filter(|(flag, value, _)| flags.is_on(*flag) == *value)
    .filter_map(|(flag, _, why)| Some(format!("{flag}: has no effect in Gantry: {}", why?)))
    .collect::<Vec<_>>()
    .into_iter()
}

#[cfg(test)]
mod tests;
