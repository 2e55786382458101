//! Variables, flags, settings and directories of a job: what every part of the plan looks at.

use gantry_container::rfc1123;
use gantry_job::{
    AssembleInput, Assembled, Cause, FeatureFlag, FeatureFlags, JobPayload, JobSettings,
    SettingsContext, StageTimeouts, SubmoduleStrategy, Variables,
    assemble::{assemble, flag_sources},
};

use crate::{Directories, Inputs, Sources, directories, refusal, services};

/// A job with everything that can be known without an engine.
pub(crate) struct Resolved {
    /// The payload with names, aliases and options of its images expanded.
    pub(crate) payload: JobPayload,
    pub(crate) flags: FeatureFlags,
    /// Expanded; the final list.
    pub(crate) variables: Variables,
    pub(crate) settings: JobSettings,
    pub(crate) timeouts: StageTimeouts,
    pub(crate) directories: Directories,
    pub(crate) short_token: String,
    /// `U` of docker-executor §2.1.
    pub(crate) project_unique: String,
    /// The builds directory lies in a host directory or named volume of the configuration.
    pub(crate) shared_builds: bool,
    /// Each once, in the order in which they are found.
    pub(crate) warnings: Vec<String>,
}

/// What is known before the directories are.
pub(crate) struct Preliminary {
    pub(crate) flags: FeatureFlags,
    flag_problems: Vec<String>,
    input: AssembleInput,
    /// Expanded without directories, which are still empty.
    pub(crate) variables: Variables,
}

pub(crate) fn preliminary(inputs: &Inputs<'_>) -> Preliminary {
    let runner = inputs.runner;
    let payload = inputs.payload;
    let environment = environment(runner);
    let (flags, flag_problems) =
        FeatureFlags::resolve(&runner.feature_flags, &flag_sources(&environment, payload));
    let input = AssembleInput {
        flags: flags.clone(),
        runner_short_token: runner.short_token().to_owned(),
        environment,
        builds_dir: runner.builds_dir.clone(),
        project_dir: String::new(),
        tmp_dir: String::new(),
        concurrent_id: inputs.numbers.concurrent,
        concurrent_project_id: inputs.numbers.concurrent_project,
        timeout: payload.timeout(),
        tls: inputs.tls.clone(),
        runner_version: inputs.host.version.clone(),
        runner_revision: inputs.host.revision.clone(),
        executable_arch: inputs.host.executable_arch.clone(),
        secrets: inputs.secrets.to_vec(),
        network_name: flags
            .is_on(FeatureFlag::NetworkPerBuild)
            .then(|| network_name(inputs)),
        nested: inputs.host.nested_variables,
    };
    let variables = assemble(payload, &input).expanded;
    Preliminary {
        flags,
        flag_problems,
        input,
        variables,
    }
}

pub(crate) fn resolve(inputs: &Inputs<'_>) -> Result<Resolved, Cause> {
    let runner = inputs.runner;
    let Preliminary {
        flags,
        flag_problems,
        mut input,
        variables,
    } = preliminary(inputs);
    let context = settings_context(inputs.payload, runner);

    // Directories depend on settings, and the other variables on directories.
    let shared_builds = directories::builds_are_shared(inputs)?;
    let settings = JobSettings::read(&variables, &context);
    let project = directories::project_dir(inputs, &settings, shared_builds)?;
    input.tmp_dir = format!("{project}.tmp");
    input.project_dir.clone_from(&project);
    let mut payload = inputs.payload.clone();
    gantry_job::inputs::interpolate(&mut payload, &flags)?;
    payload.services.splice(0..0, services::of_runner(runner));
    let mut assembled = assemble(&payload, &input);
    if expand_images(&mut payload, &assembled.expanded) {
        // `CI_JOB_IMAGE` is the expanded name.
        assembled = assemble(&payload, &input);
    }
    let Assembled {
        expanded, problems, ..
    } = assembled;

    let mut settings = JobSettings::read(&expanded, &context);
    if inputs.sources == Sources::WorkingTree {
        // The tree comes with its submodules as they are.
        settings.git_submodule_strategy = SubmoduleStrategy::None;
    }
    if settings.git_submodule_strategy == SubmoduleStrategy::Invalid {
        return Err(configuration(format!(
            "{} {:?}: write normal, recursive or none",
            SubmoduleStrategy::INVALID_MESSAGE,
            expanded.value("GIT_SUBMODULE_STRATEGY")
        )));
    }
    let timeouts = settings.stage_timeouts(payload.timeout());
    let mut warnings: Vec<String> = Vec::new();
    for warning in flag_problems
        .into_iter()
        .chain(settings.problems.iter().cloned())
        .chain(problems)
        .chain(refusal::ignored(&payload, &flags, inputs.sources))
    {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(Resolved {
        flags,
        variables: expanded,
        timeouts,
        directories: Directories {
            builds: runner.builds_dir.clone(),
            temporary: input.tmp_dir,
            project,
            cache: runner.cache_dir.clone(),
        },
        short_token: input.runner_short_token,
        project_unique: rfc1123(&format!(
            "runner-{}-project-{}-concurrent-{}",
            runner.short_token(),
            payload.job_info.project_id,
            inputs.numbers.concurrent_project
        )),
        payload,
        settings,
        shared_builds,
        warnings,
    })
}

/// `[[runners]] environment` as `KEY=VALUE`.
pub(crate) fn environment(runner: &gantry_config::RunnerConfig) -> Vec<String> {
    runner
        .environment
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

pub(crate) fn settings_context(
    payload: &JobPayload,
    runner: &gantry_config::RunnerConfig,
) -> SettingsContext {
    SettingsContext {
        allow_git_fetch: payload.allow_git_fetch,
        depth: payload.git_info.depth,
        debug_trace_disabled: runner.debug_trace_disabled,
    }
}

/// `CI_BUILD_NETWORK_NAME` (docker-executor §2.1).
pub(crate) fn network_name(inputs: &Inputs<'_>) -> String {
    rfc1123(&format!(
        "runner-{}-{}-{}-{}",
        inputs.runner.short_token(),
        inputs.payload.job_info.project_id,
        inputs.numbers.concurrent_project,
        inputs.payload.id
    ))
}

/// Expands names, aliases and options of the images once (docker-executor §3.1), and tells whether the build image's name changed.
fn expand_images(payload: &mut JobPayload, variables: &Variables) -> bool {
    let before = payload.image.as_ref().map(|image| image.name.clone());
    for image in payload.image.iter_mut().chain(&mut payload.services) {
        let docker = &mut image.executor_opts.docker;
        for text in [
            &mut image.name,
            &mut image.alias,
            &mut docker.platform,
            &mut docker.user,
        ] {
            if text.contains('$') {
                *text = variables.expand(text);
            }
        }
    }
    before != payload.image.as_ref().map(|image| image.name.clone())
}

/// A mistake in the job or in the configuration: it fails once and is told as it is.
pub(crate) fn configuration(message: impl Into<String>) -> Cause {
    Cause::Configuration {
        message: message.into(),
    }
}

#[cfg(test)]
mod tests;
