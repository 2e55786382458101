//! What a job asks for and this version does not do: refused by name, or said in the log where the configuration allows to go on.

use gantry_config::RunnerConfig;
use gantry_job::{
    AssembleInput, Cause, FeatureFlag, FeatureFlags, GitStrategy, JobPayload, JobSettings,
    Unsupported, assemble::assemble, unsupported_keywords,
};

use crate::resolve;

/// What the job asks for and this version does not do, as a cause; `None` if it may run.
///
/// `ignores` tells whether `[gantry] ignore_unsupported` names a keyword. To be asked before [`crate::plan`], which takes every
/// keyword that is left for an ignored one and warns of it.
pub fn refusal(
    payload: &JobPayload,
    runner: &RunnerConfig,
    ignores: impl Fn(&str) -> bool,
) -> Option<Cause> {
    let input = AssembleInput {
        environment: resolve::environment(runner),
        ..AssembleInput::default()
    };
    let variables = assemble(payload, &input).expanded;
    let settings = JobSettings::read(&variables, &resolve::settings_context(payload, runner));
    gantry_job::refusal(&unsupported_keywords(payload, &settings), ignores)
}

/// One sentence for each thing the job asks for in vain.
pub(crate) fn ignored(
    payload: &JobPayload,
    settings: &JobSettings,
    flags: &FeatureFlags,
) -> Vec<String> {
    let mut found: Vec<_> = unsupported_keywords(payload, settings)
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
    if flags.is_on(FeatureFlag::UseGitNativeClone) && settings.git_strategy == GitStrategy::Clone {
        found.push(
            "FF_USE_GIT_NATIVE_CLONE: not done in this version of Gantry, the repository is fetched into an empty directory".to_owned(),
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
