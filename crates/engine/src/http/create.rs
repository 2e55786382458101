//! Bodies of create requests, from specifications.

use std::collections::BTreeMap;

use gantry_container::{
    ContainerSpec, DeviceRequestSpec, DeviceSpec, EngineFlavor, HostSpec, Labels, NetworkSpec,
    VolumeSpec,
};
use serde::Serialize;

fn zero(value: &i64) -> bool {
    *value == 0
}

fn no(value: &bool) -> bool {
    !value
}

/// Body of `POST /containers/create`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateContainer<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: &'a Option<String>,
    env: Vec<String>,
    labels: &'a Labels,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    open_stdin: bool,
    stdin_once: bool,
    host_config: HostConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    networking_config: Option<NetworkingConfig<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    binds: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    network_mode: &'a str,
    #[serde(skip_serializing_if = "no")]
    privileged: bool,
    #[serde(skip_serializing_if = "no")]
    init: bool,
    #[serde(skip_serializing_if = "zero")]
    memory: i64,
    #[serde(skip_serializing_if = "zero")]
    nano_cpus: i64,
    #[serde(skip_serializing_if = "zero")]
    memory_swap: i64,
    #[serde(skip_serializing_if = "zero")]
    memory_reservation: i64,
    #[serde(skip_serializing_if = "zero")]
    cpu_shares: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    cpuset_cpus: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup_parent: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    security_opt: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<Device<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_requests: Vec<DeviceRequest<'a>>,
    #[serde(skip_serializing_if = "zero")]
    shm_size: i64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    extra_hosts: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    log_config: Option<LogConfig<'a>>,
    #[serde(skip_serializing_if = "no")]
    readonly_rootfs: bool,
    restart_policy: RestartPolicy,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Device<'a> {
    path_on_host: &'a str,
    path_in_container: &'a str,
    cgroup_permissions: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceRequest<'a> {
    driver: &'a str,
    count: i64,
    #[serde(rename = "DeviceIDs")]
    device_ids: &'a [String],
    capabilities: &'a [Vec<String>],
    options: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig<'a> {
    r#type: &'a str,
    config: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkingConfig<'a> {
    endpoints_config: BTreeMap<&'a str, EndpointConfig<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointConfig<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    aliases: &'a [String],
}

impl<'a> CreateContainer<'a> {
    pub(super) fn new(spec: &'a ContainerSpec, flavor: EngineFlavor) -> Self {
        let endpoints = spec.endpoints.iter();
        let endpoints_config: BTreeMap<_, _> = endpoints
            .map(|(name, spec)| {
                (
                    name.as_str(),
                    EndpointConfig {
                        aliases: &spec.aliases,
                    },
                )
            })
            .collect();
        let env = spec
            .env
            .0
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        Self {
            image: &spec.image,
            hostname: &spec.hostname,
            cmd: &spec.cmd,
            entrypoint: &spec.entrypoint,
            user: &spec.user,
            working_dir: &spec.working_dir,
            env,
            labels: &spec.labels,
            tty: false,
            attach_stdin: spec.interactive,
            attach_stdout: spec.interactive,
            attach_stderr: spec.interactive,
            open_stdin: spec.interactive,
            stdin_once: spec.interactive,
            host_config: HostConfig::new(&spec.host, flavor),
            networking_config: (!endpoints_config.is_empty())
                .then_some(NetworkingConfig { endpoints_config }),
        }
    }
}

impl<'a> HostConfig<'a> {
    fn new(host: &'a HostSpec, flavor: EngineFlavor) -> Self {
        // Podman refuses `local`; its own log is exact as it is (engine-mechanics §c).
        let log = host.log.as_ref();
        let log = log.filter(|log| flavor == EngineFlavor::Docker || log.driver != "local");
        Self {
            binds: &host.binds,
            network_mode: &host.network_mode,
            privileged: host.privileged,
            init: host.init,
            memory: host.memory,
            nano_cpus: host.nano_cpus,
            memory_swap: host.memory_swap,
            memory_reservation: host.memory_reservation,
            cpu_shares: host.cpu_shares,
            cpuset_cpus: &host.cpuset_cpus,
            cgroup_parent: &host.cgroup_parent,
            tmpfs: &host.tmpfs,
            security_opt: &host.security_opt,
            devices: host.devices.iter().map(Device::from).collect(),
            device_requests: host
                .device_requests
                .iter()
                .map(DeviceRequest::from)
                .collect(),
            shm_size: host.shm_size,
            extra_hosts: &host.extra_hosts,
            log_config: log.map(|log| LogConfig {
                r#type: &log.driver,
                config: &log.options,
            }),
            readonly_rootfs: host.read_only_rootfs,
            restart_policy: RestartPolicy { name: "no" },
        }
    }
}

impl<'a> From<&'a DeviceSpec> for Device<'a> {
    fn from(spec: &'a DeviceSpec) -> Self {
        Self {
            path_on_host: &spec.on_host,
            path_in_container: &spec.in_container,
            cgroup_permissions: &spec.permissions,
        }
    }
}

impl<'a> From<&'a DeviceRequestSpec> for DeviceRequest<'a> {
    fn from(spec: &'a DeviceRequestSpec) -> Self {
        Self {
            driver: &spec.driver,
            count: spec.count,
            device_ids: &spec.device_ids,
            capabilities: &spec.capabilities,
            options: &spec.options,
        }
    }
}

/// Body of `POST /volumes/create`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateVolume<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    driver: &'a str,
    driver_opts: &'a BTreeMap<String, String>,
    labels: &'a Labels,
}

impl<'a> From<&'a VolumeSpec> for CreateVolume<'a> {
    fn from(spec: &'a VolumeSpec) -> Self {
        Self {
            name: &spec.name,
            driver: &spec.driver,
            driver_opts: &spec.driver_opts,
            labels: &spec.labels,
        }
    }
}

/// Body of `POST /networks/create`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateNetwork<'a> {
    name: &'a str,
    labels: &'a Labels,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    options: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a NetworkSpec> for CreateNetwork<'a> {
    fn from(spec: &'a NetworkSpec) -> Self {
        Self {
            name: &spec.name,
            labels: &spec.labels,
            enable_ipv6: spec.enable_ipv6,
            options: &spec.options,
        }
    }
}

/// Body of `POST /containers/{id}/exec`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateExec<'a> {
    pub(super) attach_stdin: bool,
    pub(super) attach_stdout: bool,
    pub(super) attach_stderr: bool,
    pub(super) tty: bool,
    pub(super) cmd: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) env: &'a [String],
}

/// Body of `POST /exec/{id}/start`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartExec {
    pub(super) detach: bool,
    pub(super) tty: bool,
}
