//! Variables, settings, directories and names of a job: what every part of the plan looks at.

use gantry_container::{VolumeDefinition, VolumeSource, clean_path, is_below, rfc1123};
use gantry_job::{
    AssembleInput, Assembled, Cause, FeatureFlag, FeatureFlags, GitStrategy, JobPayload,
    JobSettings, SettingsContext, StageTimeouts, Variables,
    assemble::{self, flag_sources},
};

use crate::{Directories, HostFacts, Inputs, LogPlan, Numbers, Sources};

/// A job with everything that can be known without an engine.
pub(crate) struct Resolved {
    /// The payload with image and service names expanded.
    pub(crate) payload: JobPayload,
    pub(crate) flags: FeatureFlags,
    pub(crate) variables: Variables,
    pub(crate) settings: JobSettings,
    pub(crate) timeouts: StageTimeouts,
    pub(crate) directories: Directories,
    pub(crate) short_token: String,
    pub(crate) project_unique: String,
    /// The builds directory lies in a host or named volume of the config, so it is kept.
    pub(crate) shared_builds: bool,
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn resolve(inputs: &Inputs<'_>) -> Result<Resolved, Cause> {
    let mut payload = inputs.payload.clone();
    let runner = inputs.runner;
    let environment = environment(inputs);
    let (flags, mut warnings) =
        FeatureFlags::resolve(&runner.feature_flags, &flag_sources(&environment, &payload));
    let short_token = runner.short_token().to_owned();
    let n = inputs.numbers.concurrent_project;
    let project_unique = rfc1123(&format!(
        "runner-{short_token}-project-{}-concurrent-{n}",
        payload.job_info.project_id
    ));
    let shared_builds = builds_are_shared(inputs)?;

    // Two rounds: directories depend on settings, and variables on directories.
    let mut input = AssembleInput {
        flags: flags.clone(),
        runner_short_token: short_token.clone(),
        environment,
        builds_dir: runner.builds_dir.clone(),
        project_dir: String::new(),
        tmp_dir: String::new(),
        concurrent_id: inputs.numbers.concurrent,
        concurrent_project_id: n,
        timeout: payload.timeout(),
        tls: inputs.tls.clone(),
        runner_version: inputs.host.version.clone(),
        runner_revision: inputs.host.revision.clone(),
        executable_arch: inputs.host.executable_arch.clone(),
        secrets: Vec::new(),
        network_name: flags
            .is_on(FeatureFlag::NetworkPerBuild)
            .then(|| network_name(inputs, &short_token)),
    };
    let context = SettingsContext {
        allow_git_fetch: payload.allow_git_fetch,
        depth: payload.git_info.depth,
        debug_trace_disabled: runner.debug_trace_disabled,
    };
    let first = assemble::assemble(&payload, &input);
    let settings = JobSettings::read(&first.expanded, &context);
    let project = project_dir(inputs, &settings, &first, shared_builds, &short_token)?;
    input.tmp_dir = format!("{project}.tmp");
    input.project_dir.clone_from(&project);

    // Image names are expanded once, before anything else sees them (job-lifecycle §1.1 row 4).
    let second = assemble::assemble(&payload, &input);
    expand_names(&mut payload, &second.expanded);
    let Assembled {
        expanded, problems, ..
    } = assemble::assemble(&payload, &input);
    let settings = JobSettings::read(&expanded, &context);
    warnings.extend(settings.problems.iter().cloned());
    warnings.extend(problems);
    let timeouts = settings.stage_timeouts(payload.timeout());
    warnings.extend(timeouts.warnings.iter().cloned());
    warnings.dedup();
    let directories = Directories {
        builds: runner.builds_dir.clone(),
        temporary: input.tmp_dir,
        project,
        cache: runner.cache_dir.clone(),
    };
    Ok(Resolved {
        payload,
        flags,
        variables: expanded,
        settings,
        timeouts,
        directories,
        short_token,
        project_unique,
        shared_builds,
        warnings,
    })
}

/// How the log of a job is written. Needs no engine and never fails, so that every failure has a log to stand in.
pub fn log_plan(
    payload: &JobPayload,
    runner: &gantry_config::RunnerConfig,
    host: &HostFacts,
    numbers: Numbers,
) -> LogPlan {
    let tls = gantry_job::TlsFiles::default();
    let engine = nowhere();
    let inputs = Inputs {
        payload,
        runner,
        host,
        engine: &engine,
        numbers,
        seed: [0; 8],
        tls: &tls,
        correlation_id: None,
        sources: Sources::Git,
    };
    let environment = environment(&inputs);
    let (flags, _) =
        FeatureFlags::resolve(&runner.feature_flags, &flag_sources(&environment, payload));
    let (variables, debug_trace) = match resolve(&inputs) {
        Ok(resolved) => (resolved.variables, resolved.settings.debug_trace),
        // The plan will fail with the same cause; what is masked must be masked all the same.
        Err(_) => (payload.variables.iter().cloned().collect(), false),
    };
    let masks = gantry_job::Masks::of_job(payload, &variables, &flags);
    let mut header = vec![
        format!(
            "Running with gitlab-runner {} ({})",
            host.version, host.revision
        ),
        format!(
            "  on {} {}, system ID: {}",
            runner.name,
            runner.short_token(),
            host.system_id
        ),
    ];
    let changed: Vec<_> = flags
        .non_default()
        .iter()
        .map(|(flag, on)| format!("{}:{on}", flag.name()))
        .collect();
    if !changed.is_empty() {
        header.push(format!("  feature flags: {}", changed.join(", ")));
    }
    LogPlan {
        timestamps: flags.is_on(FeatureFlag::Timestamps),
        sections: payload.features.trace_sections,
        limit_bytes: runner.output_limit,
        masks,
        header,
        debug_trace,
    }
}

/// What the job asks for and this version does not do, as a cause; `None` if it may run.
pub fn refusal(
    payload: &JobPayload,
    runner: &gantry_config::RunnerConfig,
    ignores: impl Fn(&str) -> bool,
) -> Option<Cause> {
    let environment: Vec<String> = runner
        .environment
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let input = AssembleInput {
        environment,
        ..AssembleInput::default()
    };
    let variables = assemble::assemble(payload, &input).expanded;
    let context = SettingsContext {
        allow_git_fetch: payload.allow_git_fetch,
        depth: payload.git_info.depth,
        debug_trace_disabled: runner.debug_trace_disabled,
    };
    let settings = JobSettings::read(&variables, &context);
    let found = gantry_job::unsupported_keywords(payload, &settings);
    gantry_job::refusal(&found, ignores)
}

fn nowhere() -> gantry_container::EngineFacts {
    gantry_container::EngineFacts {
        flavor: gantry_container::EngineFlavor::Docker,
        version: String::new(),
        api_version: String::new(),
        os: "linux".to_owned(),
        architecture: String::new(),
        host_name: String::new(),
    }
}

fn environment(inputs: &Inputs<'_>) -> Vec<String> {
    inputs
        .runner
        .environment
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// `CI_BUILD_NETWORK_NAME` (docker-executor §2.1).
pub(crate) fn network_name(inputs: &Inputs<'_>, short_token: &str) -> String {
    rfc1123(&format!(
        "runner-{short_token}-{}-{}-{}",
        inputs.payload.job_info.project_id, inputs.numbers.concurrent_project, inputs.payload.id
    ))
}

/// Whether builds_dir lies in (or is) the destination of a host or named volume (docker-executor §4.4).
fn builds_are_shared(inputs: &Inputs<'_>) -> Result<bool, Cause> {
    let builds = &inputs.runner.builds_dir;
    if !builds.starts_with('/') {
        return Err(configuration(
            "build directory needs to be an absolute path",
        ));
    }
    if clean_path(builds) == "/" {
        return Err(configuration("build directory needs to be a non-root path"));
    }
    let mut shared = false;
    for text in &inputs.runner.docker.volumes {
        let volume =
            VolumeDefinition::parse(text).map_err(|error| configuration(&error.to_string()))?;
        if matches!(
            volume.source,
            Some(VolumeSource::Host(_) | VolumeSource::Named(_))
        ) {
            shared |= is_below(&clean_path(builds), &clean_path(&volume.destination));
        }
    }
    Ok(shared)
}

/// The project directory (job-lifecycle §4.1).
fn project_dir(
    inputs: &Inputs<'_>,
    settings: &JobSettings,
    assembled: &Assembled,
    shared_builds: bool,
    short_token: &str,
) -> Result<String, Cause> {
    let runner = inputs.runner;
    let builds = runner.builds_dir.trim_end_matches('/');
    if let Some(path) = &settings.git_clone_path {
        if !runner.custom_build_dir_enabled() {
            return Err(configuration(
                "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature",
            ));
        }
        // `$CI_BUILDS_DIR` in it is expanded already, but for values that name late variables.
        let path = clean_path(&assembled.unexpanded.expand(path));
        if !is_below(&path, &clean_path(builds)) {
            return Err(configuration(&format!(
                "the GIT_CLONE_PATH={path:?} has to be within {builds:?}"
            )));
        }
        return Ok(path);
    }
    let slug = project_slug(inputs.payload);
    let mut project = if shared_builds {
        format!(
            "{builds}/{short_token}/{}/{slug}",
            inputs.numbers.concurrent_project
        )
    } else {
        format!("{builds}/{slug}")
    };
    if settings.git_strategy == GitStrategy::Empty {
        project.push_str("-empty");
    }
    Ok(project)
}

/// Path of the repository URL without `.git`; `project-<id>` when it has none that can be used.
fn project_slug(payload: &JobPayload) -> String {
    let fallback = || format!("project-{}", payload.job_info.project_id);
    let Some(path) = repository_path(payload.git_info.repo_url.expose()) else {
        return fallback();
    };
    let path = path.strip_suffix(".git").unwrap_or(path);
    if path.contains("..") || path.chars().any(char::is_control) {
        return fallback();
    }
    let slug = clean_path(path);
    let slug = slug.trim_matches('/');
    if slug.is_empty() || slug == "." {
        fallback()
    } else {
        slug.to_owned()
    }
}

/// The path of a URL `scheme://[user@]host/path[?…]`.
pub(crate) fn repository_path(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    if host.is_empty() {
        return None;
    }
    let end = path.find(['?', '#']).unwrap_or(path.len());
    Some(path[..end].trim_end_matches('/'))
}

fn expand_names(payload: &mut JobPayload, variables: &Variables) {
    let images = payload.image.iter_mut().chain(&mut payload.services);
    for image in images {
        image.name = variables.expand(&image.name);
        image.alias = variables.expand(&image.alias);
        let docker = &mut image.executor_opts.docker;
        docker.platform = variables.expand(&docker.platform);
        docker.user = variables.expand(&docker.user);
    }
}

pub(crate) fn configuration(message: &str) -> Cause {
    Cause::Configuration {
        message: message.to_owned(),
    }
}
