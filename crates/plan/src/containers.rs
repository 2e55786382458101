//! Create bodies of build and helper container (docker-executor §2.4, §7), and what all containers of a job share.

use std::collections::{BTreeMap, HashMap};

use gantry_archive::Pattern;
use gantry_config::{Device, GpuRequest, LogDriver};
use gantry_container::{
    ContainerSpec, DeviceRequestSpec, DeviceSpec, EngineFlavor, Env, HostSpec, Labels, LogSpec,
};
use gantry_job::{Cause, FeatureFlag, payload::Image, variable::MAX_ENV_ENTRY_BYTES};
use gantry_shell::{DETECT_SHELL, pwsh_command};

use crate::{
    Inputs, PlannedContainer, allow_list, images, labels,
    network::Network,
    replayable_log,
    resolve::{Resolved, configuration},
};

/// What the containers of a job are made from.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) resolved: &'a Resolved,
    /// `R` of docker-executor §2.1.
    pub(crate) run: &'a str,
    /// Default set.
    pub(crate) labels: &'a Labels,
    pub(crate) network: &'a Network,
    pub(crate) binds: &'a [String],
}

/// The container of the user's scripts: the image's entrypoint is kept unless the job says otherwise, and the first shell that is
/// found reads the script from stdin.
pub(crate) fn build(scope: &Scope<'_>) -> Result<PlannedContainer, Cause> {
    let Scope {
        inputs, resolved, ..
    } = *scope;
    let docker = &inputs.runner.docker;
    let job = resolved.payload.image.as_ref();
    let image = images::build(inputs, resolved)?;
    let name = format!("{}-build", scope.run);
    let user = docker
        .user
        .clone()
        .or_else(|| job.map(|image| image.executor_opts.docker.user.clone()))
        .filter(|user| !user.is_empty());
    let shell = match scope.inputs.runner.shell.as_deref() {
        Some("pwsh") => pwsh_command(),
        _ => ["sh", "-c", DETECT_SHELL].map(str::to_owned).into(),
    };
    let spec = ContainerSpec {
        hostname: scope.network.hostname(&resolved.project_unique),
        cmd: Some(shell),
        entrypoint: job.and_then(|image| scope.entrypoint(image)),
        user,
        env: environment(&resolved.variables.container_env())?,
        labels: labels::typed(scope.labels, "build"),
        interactive: true,
        platform: image.platform.clone(),
        host: HostSpec {
            privileged: docker.privileged,
            init: resolved.flags.is_on(FeatureFlag::UseInitWithDockerExecutor),
            log: Some(build_log(inputs)),
            ..scope.limited_host()
        },
        endpoints: scope.network.endpoints(&["build".to_owned(), name.clone()]),
        ..ContainerSpec::default()
    };
    Ok(PlannedContainer { name, image, spec })
}

/// The helper gets what its work needs and no more: no privileges, no job variables in its environment (docker-executor §13 rows 26
/// and 27). It runs beside the build container, so the name `build` is not its own.
pub(crate) fn helper(scope: &Scope<'_>) -> Result<PlannedContainer, Cause> {
    let name = format!("{}-predefined", scope.run);
    let spec = ContainerSpec {
        hostname: scope.network.hostname(&scope.resolved.project_unique),
        user: Some("0:0".to_owned()),
        labels: labels::typed(scope.labels, "predefined"),
        host: scope.limited_host(),
        endpoints: scope.network.endpoints(std::slice::from_ref(&name)),
        ..ContainerSpec::default()
    };
    let image = images::helper(scope.inputs, scope.resolved)?;
    Ok(PlannedContainer { name, image, spec })
}

impl Scope<'_> {
    /// The entrypoint of an image as the job gives it, if it may.
    pub(crate) fn entrypoint(&self, image: &Image) -> Option<Vec<String>> {
        let docker = &self.inputs.runner.docker;
        given(&image.entrypoint).filter(|_| !docker.disable_entrypoint_overwrite)
    }

    /// What is to be said where it may not.
    pub(crate) fn entrypoint_warning(&self, image: &Image) -> Option<String> {
        let ignored = !image.entrypoint.is_empty() && self.entrypoint(image).is_none();
        ignored.then(|| "Entrypoint override disabled".to_owned())
    }

    /// HostConfig of the service with this name: with limits and devices of its own (docker-executor §2.5, §6.7).
    pub(crate) fn service_host(&self, name: &str) -> Result<HostSpec, Cause> {
        let docker = &self.inputs.runner.docker;
        let limits = &docker.service_limits;
        let allowed = &docker.allowed_privileged_services;
        Ok(HostSpec {
            privileged: docker.services_privileged.unwrap_or(docker.privileged)
                && (allowed.is_empty() || allow_list::has(allowed, name)),
            init: self
                .resolved
                .flags
                .is_on(FeatureFlag::UseInitWithDockerExecutor),
            memory: number(limits.memory),
            memory_swap: number(limits.memory_swap),
            memory_reservation: number(limits.memory_reservation),
            nano_cpus: number(limits.nano_cpus),
            cpu_shares: limits.cpu_shares,
            cpuset_cpus: limits.cpuset_cpus.clone(),
            cgroup_parent: limits.cgroup_parent.clone(),
            tmpfs: docker.services_tmpfs.clone(),
            security_opt: docker.services_security_opt.clone(),
            devices: devices(&docker.services_devices, name)?,
            device_requests: docker.service_gpus.iter().map(gpus).collect(),
            ..self.host()
        })
    }

    /// HostConfig of build and helper container.
    fn limited_host(&self) -> HostSpec {
        let docker = &self.inputs.runner.docker;
        HostSpec {
            memory: number(docker.memory),
            nano_cpus: number(docker.nano_cpus),
            ..self.host()
        }
    }

    /// HostConfig of a container that needs the network and nothing else.
    pub(crate) fn bare_host(&self) -> HostSpec {
        HostSpec {
            binds: Vec::new(),
            shm_size: 0,
            ..self.host()
        }
    }

    /// What all containers have in common. The log driver is named, as in the peer: the engine's default may be one that cannot be
    /// read, or that a container does not start with.
    fn host(&self) -> HostSpec {
        let docker = &self.inputs.runner.docker;
        HostSpec {
            binds: self.binds.to_vec(),
            network_mode: self.network.mode.clone(),
            shm_size: number(docker.shm_size),
            extra_hosts: docker.extra_hosts.clone(),
            log: Some(replayable_log(false)),
            ..HostSpec::default()
        }
    }
}

/// Devices of a service: of all patterns that match its image, with the tag it has or is pulled with (docker-executor §1.3).
fn devices(patterns: &BTreeMap<String, Vec<Device>>, name: &str) -> Result<Vec<DeviceSpec>, Cause> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    let mut found = Vec::new();
    for (pattern, devices) in patterns {
        let read = Pattern::new(pattern.as_bytes()).map_err(|error| {
            configuration(format!(
                "invalid service device image pattern: {pattern}: {error} (services_devices in [runners.docker])"
            ))
        })?;
        if read.matches(tagged.as_bytes()) {
            found.extend(devices.iter().map(|device| DeviceSpec {
                on_host: device.host.clone(),
                in_container: device.container.clone(),
                permissions: device.permissions.clone(),
            }));
        }
    }
    Ok(found)
}

fn gpus(request: &GpuRequest) -> DeviceRequestSpec {
    DeviceRequestSpec {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: request.devices.clone(),
        capabilities: vec![request.capabilities.clone()],
        options: request.options.clone(),
    }
}

/// Where the engine keeps the output, so that it can be read again byte for byte: of Docker's drivers only `local` keeps all bytes;
/// Podman has no `local`, and its `json-file` is exact (engine-mechanics §c).
fn build_log(inputs: &Inputs<'_>) -> LogSpec {
    let local = match (inputs.engine.flavor, inputs.host.log_driver) {
        (EngineFlavor::Docker, LogDriver::Auto | LogDriver::Local) => true,
        (EngineFlavor::Docker, LogDriver::JsonFile) | (EngineFlavor::Podman, _) => false,
    };
    replayable_log(local)
}

/// A command or entrypoint, if the job gives one. `[""]` is one: it clears the image's.
pub(crate) fn given(words: &[String]) -> Option<Vec<String>> {
    (!words.is_empty()).then(|| words.to_vec())
}

/// `KEY=VALUE` entries as environment, in order, duplicates kept. The last of a key counts.
///
/// # Errors
/// When no program can be started with it. The engine would say so without naming the variable.
pub(crate) fn environment(entries: &[String]) -> Result<Env, Cause> {
    let pairs: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
        .collect();
    let last: HashMap<&str, &str> = pairs.iter().copied().collect();
    if let Some(key) = pairs.iter().map(|(key, _)| *key).find(|key| {
        let value = last.get(key).map_or(0, |value| value.len());
        key.len() + 1 + value > MAX_ENV_ENTRY_BYTES
    }) {
        return Err(configuration(format!(
            "variable {key:?} is too long for a container's environment (limit 128 KiB); make it a file variable"
        )));
    }
    if let Some((key, _)) = pairs
        .iter()
        .find(|(key, value)| key.contains('\0') || value.contains('\0'))
    {
        return Err(configuration(format!(
            "variable {key:?} holds a zero byte, which no environment can; make it a file variable"
        )));
    }
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Ok(Env(pairs.into_iter().map(owned).collect()))
}

fn number(value: Option<u64>) -> i64 {
    value.map_or(0, |value| i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
