//! Build and helper container (docker-executor §2.4, §7).

use gantry_config::{LogDriver, PullPolicy};
use gantry_container::{ContainerSpec, EngineFlavor, Env, HostSpec, Labels, LogSpec};
use gantry_job::{Cause, FeatureFlag};
use gantry_shell::DETECT_SHELL;

use crate::{
    Inputs, PlannedContainer, PlannedImage,
    network::Network,
    replayable_log,
    resolve::{Resolved, configuration},
};

pub(crate) fn build(
    inputs: &Inputs<'_>,
    resolved: &Resolved,
    run: &str,
    labels: &Labels,
    network: &Network,
    binds: &[String],
) -> Result<PlannedContainer, Cause> {
    let docker = &inputs.runner.docker;
    let job_image = resolved
        .payload
        .image
        .as_ref()
        .filter(|image| !image.name.is_empty());
    let reference = build_image(inputs, resolved)?;
    let opts = job_image.map(|image| &image.executor_opts.docker);
    let platform = opts
        .map(|opts| opts.platform.clone())
        .filter(|platform| !platform.is_empty());
    let user = docker
        .user
        .clone()
        .or_else(|| opts.map(|opts| opts.user.clone()))
        .filter(|user| !user.is_empty());
    let asked = job_image
        .map(|image| image.pull_policy.as_slice())
        .unwrap_or_default();
    let name = format!("{run}-build");
    if let Some(key) = resolved.variables.too_long_for_env().first() {
        return Err(configuration(&format!(
            "variable \"{key}\" is too long for a container's environment (limit 128 KiB); make it a file variable"
        )));
    }
    let spec = ContainerSpec {
        hostname: Some(resolved.project_unique.clone()),
        cmd: Some(vec![
            "sh".to_owned(),
            "-c".to_owned(),
            DETECT_SHELL.to_owned(),
        ]),
        entrypoint: job_image
            .map(|image| image.entrypoint.clone())
            .filter(|entrypoint| !entrypoint.is_empty()),
        user,
        env: Env(env_pairs(&resolved.variables.container_env())),
        labels: typed(labels, "build"),
        interactive: true,
        platform: platform.clone(),
        host: HostSpec {
            binds: binds.to_vec(),
            privileged: docker.privileged,
            init: resolved.flags.is_on(FeatureFlag::UseInitWithDockerExecutor),
            log: build_log(inputs),
            ..limited_host(inputs, network)
        },
        endpoints: network.endpoints(&["build".to_owned(), name.clone()]),
        ..ContainerSpec::default()
    };
    let image = PlannedImage {
        policies: pull_policies(inputs, &reference, asked)?,
        reference,
        platform,
        packaged: false,
    };
    Ok(PlannedContainer { name, image, spec })
}

/// The helper gets what its work needs and no more: no privileges, no job variables in its environment.
pub(crate) fn helper(
    inputs: &Inputs<'_>,
    resolved: &Resolved,
    run: &str,
    labels: &Labels,
    network: &Network,
    binds: &[String],
) -> Result<PlannedContainer, Cause> {
    let own = inputs
        .runner
        .docker
        .helper_image
        .as_deref()
        .map(|image| resolved.variables.expand(image))
        .filter(|image| !image.is_empty());
    let name = format!("{run}-predefined");
    let packaged = own.is_none();
    let reference = own.unwrap_or_else(|| inputs.host.helper_image.clone());
    let spec = ContainerSpec {
        hostname: Some(resolved.project_unique.clone()),
        user: Some("0:0".to_owned()),
        labels: typed(labels, "predefined"),
        host: HostSpec {
            binds: binds.to_vec(),
            ..limited_host(inputs, network)
        },
        endpoints: network.endpoints(std::slice::from_ref(&name)),
        ..ContainerSpec::default()
    };
    let image = PlannedImage {
        policies: pull_policies(inputs, &reference, &[])?,
        reference,
        platform: None,
        packaged,
    };
    Ok(PlannedContainer { name, image, spec })
}

/// The image of the build container: the job's, else the config's.
pub(crate) fn build_image(inputs: &Inputs<'_>, resolved: &Resolved) -> Result<String, Cause> {
    let job = resolved
        .payload
        .image
        .as_ref()
        .map(|image| image.name.clone());
    let config = || {
        inputs
            .runner
            .docker
            .image
            .as_deref()
            .map(|image| resolved.variables.expand(image))
    };
    job.filter(|name| !name.is_empty())
        .or_else(config)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| configuration("no Docker image specified to run the build in"))
}

/// Policies to try, in order (docker-executor §3.2).
pub(crate) fn pull_policies(
    inputs: &Inputs<'_>,
    image: &str,
    asked: &[String],
) -> Result<Vec<PullPolicy>, Cause> {
    let docker = &inputs.runner.docker;
    let allowed = docker.pull_policies();
    let mut wanted = Vec::new();
    for name in asked.iter().filter(|name| !name.is_empty()) {
        wanted.push(
            PullPolicy::from_name(name).ok_or_else(|| {
                configuration(&format!("unsupported pull_policy config: {name:?}"))
            })?,
        );
    }
    if wanted.is_empty() {
        return Ok(allowed.to_vec());
    }
    let effective: Vec<_> = wanted
        .iter()
        .copied()
        .filter(|policy| allowed.contains(policy))
        .collect();
    if !effective.is_empty() {
        return Ok(effective);
    }
    let list = |policies: &[PullPolicy]| {
        policies
            .iter()
            .map(|policy| policy.name())
            .collect::<Vec<_>>()
            .join(" ")
    };
    Err(configuration(&format!(
        "invalid pull policy for image {image:?}: pull_policy ([{}]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([{}])",
        list(&wanted),
        list(allowed)
    )))
}

/// What build and helper containers have in common.
fn limited_host(inputs: &Inputs<'_>, network: &Network) -> HostSpec {
    let docker = &inputs.runner.docker;
    let number = |value: Option<u64>| {
        value
            .and_then(|value| i64::try_from(value).ok())
            .unwrap_or(0)
    };
    HostSpec {
        network_mode: network.mode.clone(),
        memory: number(docker.memory),
        nano_cpus: number(docker.nano_cpus),
        shm_size: number(docker.shm_size),
        extra_hosts: docker.extra_hosts.clone(),
        ..HostSpec::default()
    }
}

pub(crate) fn service_host(
    inputs: &Inputs<'_>,
    resolved: &Resolved,
    network: &Network,
) -> HostSpec {
    HostSpec {
        privileged: inputs.runner.docker.privileged,
        init: resolved.flags.is_on(FeatureFlag::UseInitWithDockerExecutor),
        // Limits of build containers are not those of services (docker-executor §2.5).
        memory: 0,
        nano_cpus: 0,
        ..limited_host(inputs, network)
    }
}

/// Where the engine keeps the output, so that it can be read again byte for byte. Podman's own log is exact.
fn build_log(inputs: &Inputs<'_>) -> Option<LogSpec> {
    match (inputs.engine.flavor, inputs.host.log_driver) {
        (EngineFlavor::Podman, _) => None,
        (EngineFlavor::Docker, LogDriver::Auto | LogDriver::Local) => Some(replayable_log(true)),
        (EngineFlavor::Docker, LogDriver::JsonFile) => Some(replayable_log(false)),
    }
}

fn typed(labels: &Labels, kind: &str) -> Labels {
    let mut labels = labels.clone();
    labels.insert(format!("{}type", crate::LABEL_PREFIX), kind.to_owned());
    labels
}

pub(crate) fn env_pairs(entries: &[String]) -> Vec<(String, String)> {
    entries
        .iter()
        .map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}
