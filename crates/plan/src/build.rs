//! Puts the plan together.

use std::time::Duration;

use gantry_container::Labels;
use gantry_job::{Cause, FeatureFlag, JobPayload, duration};

use crate::{
    Inputs, LABEL_PREFIX, Limits, Names, Plan, RegistryCredentials, STATE_LABEL, ScriptOptions,
    Sources, containers,
    network::Network,
    resolve::{self, Resolved},
    services, stages, volumes,
};

/// Decides everything a job needs.
///
/// # Errors
/// What is wrong with the job or the runner's configuration, as the job's cause of failure.
pub fn plan(inputs: &Inputs<'_>) -> Result<Plan, Cause> {
    if inputs.engine.os != "linux" {
        return Err(Cause::Engine {
            what: "reading the engine's facts".to_owned(),
            message: format!("unsupported os type: {}", inputs.engine.os),
        });
    }
    let resolved = resolve::resolve(inputs)?;
    let run = format!("{}-{}", resolved.project_unique, volumes::hex(&inputs.seed));
    let labels = labels(inputs, &resolved);
    let volumes = volumes::plan(inputs, &resolved, &run, &labels)?;
    let network = Network::plan(inputs, &resolved, &labels);
    let helper = stages::need_helper(inputs, &resolved, volumes.project_is_kept);
    let settings = &resolved.settings;
    let docker = &inputs.runner.docker;
    Ok(Plan {
        job_id: inputs.payload.id,
        job_name: inputs.payload.job_info.name.clone(),
        image_name: containers::build_image(inputs, &resolved)?,
        default_image_used: resolved
            .payload
            .image
            .as_ref()
            .is_none_or(|image| image.name.is_empty()),
        services: services::plan(inputs, &resolved, &run, &labels, &network, &volumes.binds)?,
        build: containers::build(inputs, &resolved, &run, &labels, &network, &volumes.binds)?,
        helper: helper
            .then(|| containers::helper(inputs, &resolved, &run, &labels, &network, &volumes.binds))
            .transpose()?,
        helper_overrides: docker
            .helper_image
            .is_some()
            .then(|| inputs.host.helper_image.clone()),
        make_directories: match inputs.sources {
            Sources::WorkingTree => {
                directories_between(&resolved.directories.builds, &resolved.directories.project)
            }
            Sources::Git => Vec::new(),
        },
        stages: stages::plan(inputs, &resolved, helper),
        limits: limits(inputs, &resolved),
        script: ScriptOptions {
            sh: inputs.runner.shell.as_deref() == Some("sh"),
            debug_trace: settings.debug_trace,
            trace_sections: resolved.payload.features.trace_sections,
            create_project_dir: !helper,
            flags: resolved.flags.clone(),
        },
        credentials: credentials(&resolved),
        warnings: resolved.warnings,
        native_stop: resolved.flags.is_on(FeatureFlag::UseNativeContainerStop),
        after_script_ignore_errors: settings.after_script_ignore_errors,
        wait_for_services: docker.wait_for_services_timeout.map_or(-1, |timeout| {
            i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)
        }),
        names: Names {
            short_token: resolved.short_token,
            project_unique: resolved.project_unique,
            run,
            runner_host: inputs.host.name.clone(),
        },
        directories: resolved.directories,
        volumes: volumes.created,
        network: network.own,
        variables: resolved.variables,
        labels,
    })
}

/// Default label set (docker-executor §8) and the owner's.
fn labels(inputs: &Inputs<'_>, resolved: &Resolved) -> Labels {
    let payload = &resolved.payload;
    let git = &payload.git_info;
    let n = inputs.numbers.concurrent_project;
    let pipeline = match payload.job_info.pipeline_id {
        0 => resolved.variables.value("CI_PIPELINE_ID").to_owned(),
        id => id.to_string(),
    };
    let mut labels: Labels = [
        ("job.id", payload.id.to_string()),
        ("job.url", job_url(payload)),
        ("job.sha", git.sha.clone()),
        ("job.before_sha", git.before_sha.clone()),
        ("job.ref", git.ref_name.clone()),
        ("job.timeout", duration::format(payload.timeout())),
        ("project.id", payload.job_info.project_id.to_string()),
        ("project.runner_id", n.to_string()),
        ("pipeline.id", pipeline),
        ("runner.id", resolved.short_token.clone()),
        ("runner.local_id", inputs.numbers.concurrent.to_string()),
        ("runner.system_id", inputs.host.system_id.clone()),
        ("managed", "true".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), value))
    .collect();
    labels.insert(STATE_LABEL.to_owned(), inputs.host.state_id.clone());
    labels
}

/// The job's page: repository URL without credentials and `.git`, and `/-/jobs/<id>`.
pub fn job_url(payload: &JobPayload) -> String {
    let url = payload.git_info.repo_url.expose();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host_end = rest.find('/').unwrap_or(rest.len());
    let host_start = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    let bare = &rest[host_start..];
    let bare = bare.split(['?', '#']).next().unwrap_or(bare);
    let bare = bare.strip_suffix(".git").unwrap_or(bare);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{bare}/-/jobs/{}", payload.id)
}

fn limits(inputs: &Inputs<'_>, resolved: &Resolved) -> Limits {
    let job = resolved.payload.timeout();
    let shorter = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero() && *limit < job);
    let seconds: &[u64] = if resolved
        .flags
        .is_on(FeatureFlag::UseExponentialBackoffStageRetry)
    {
        &[5, 10, 20, 40, 80, 160, 300]
    } else {
        &[1, 2, 4, 5]
    };
    Limits {
        job,
        prepare: shorter(inputs.runner.prepare_timeout),
        get_sources: shorter(inputs.runner.get_sources_timeout),
        script: resolved.timeouts.script,
        after_script: resolved.timeouts.after_script,
        retry_waits: seconds.iter().copied().map(Duration::from_secs).collect(),
    }
}

fn credentials(resolved: &Resolved) -> RegistryCredentials {
    RegistryCredentials {
        docker_auth_config: resolved
            .settings
            .docker_auth_config
            .as_ref()
            .map(|config| config.expose().to_owned()),
        payload: resolved
            .payload
            .credentials
            .iter()
            .filter(|credential| credential.kind == "registry")
            .map(|credential| {
                (
                    credential.url.clone(),
                    credential.username.clone(),
                    credential.password.expose().to_owned(),
                )
            })
            .collect(),
    }
}

/// Every directory below `root` on the way to `path`, parents first, `path` and its `.tmp` included.
fn directories_between(root: &str, path: &str) -> Vec<String> {
    let root = root.trim_end_matches('/');
    let Some(below) = path.strip_prefix(root) else {
        return Vec::new();
    };
    let mut at = root.to_owned();
    let mut found: Vec<_> = below
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| {
            at = format!("{at}/{part}");
            at.clone()
        })
        .collect();
    found.push(format!("{path}.tmp"));
    found
}
