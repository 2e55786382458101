use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Labels of an engine object.
pub type Labels = BTreeMap<String, String>;

/// Container environment in order, duplicates kept. Holds secrets: its `Debug` shows keys only.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(pub Vec<(String, String)>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(key, _)| key))
            .finish()
    }
}

/// Body of a container create, in Engine API terms (docker-executor §2.4, §2.5).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Image reference or ID to create from.
    pub image: String,
    /// Host name inside the container; engine default if `None`.
    pub hostname: Option<String>,
    /// Command; the image's own if `None`.
    pub cmd: Option<Vec<String>>,
    /// Entrypoint; the image's own if `None`; `[""]` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// User; the image's own if `None`.
    pub user: Option<String>,
    /// Working directory; the image's own if `None`.
    pub working_dir: Option<String>,
    /// Environment, in order.
    pub env: Env,
    /// Labels.
    pub labels: Labels,
    /// Stdin is kept open for one client and stdin, stdout and stderr are attached (a build container that reads its script).
    pub interactive: bool,
    /// `platform` query of the create request.
    pub platform: Option<String>,
    /// HostConfig.
    pub host: HostSpec,
    /// NetworkingConfig endpoints: network name → endpoint.
    pub endpoints: BTreeMap<String, EndpointSpec>,
}

/// HostConfig of a container create.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostSpec {
    /// `source:destination[:options]`.
    pub binds: Vec<String>,
    /// NetworkMode; engine default if empty.
    pub network_mode: String,
    /// Privileged.
    pub privileged: bool,
    /// Init process as PID 1.
    pub init: bool,
    /// Memory limit in bytes, 0 = none.
    pub memory: i64,
    /// CPU limit in billionths of a CPU, 0 = none.
    pub nano_cpus: i64,
    /// Limit of memory and swap in bytes, 0 = engine default.
    #[serde(default)]
    pub memory_swap: i64,
    /// Soft memory limit in bytes, 0 = none.
    #[serde(default)]
    pub memory_reservation: i64,
    /// Relative weight of CPU time, 0 = engine default.
    #[serde(default)]
    pub cpu_shares: i64,
    /// CPUs to run on, such as `0-2`; all if empty.
    #[serde(default)]
    pub cpuset_cpus: String,
    /// Parent cgroup; engine default if empty.
    #[serde(default)]
    pub cgroup_parent: String,
    /// Tmpfs mounts: path → options.
    #[serde(default)]
    pub tmpfs: BTreeMap<String, String>,
    /// Security options, seccomp profiles as text.
    #[serde(default)]
    pub security_opt: Vec<String>,
    /// Devices of the engine's host.
    #[serde(default)]
    pub devices: Vec<DeviceSpec>,
    /// GPUs and the like.
    #[serde(default)]
    pub device_requests: Vec<DeviceRequestSpec>,
    /// Size of /dev/shm in bytes, 0 = engine default.
    pub shm_size: i64,
    /// Additional `/etc/hosts` lines `name:ip`.
    pub extra_hosts: Vec<String>,
    /// Log driver; engine default if `None`.
    pub log: Option<LogSpec>,
    /// Root file system read-only.
    pub read_only_rootfs: bool,
}

/// A device of the engine's host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Path on the host.
    pub on_host: String,
    /// Path in the container.
    pub in_container: String,
    /// Of `r`, `w` and `m`.
    pub permissions: String,
}

/// Devices that a driver of the engine provides.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceRequestSpec {
    /// Driver; the engine chooses if empty.
    pub driver: String,
    /// How many; -1: all.
    pub count: i64,
    /// Which.
    pub device_ids: Vec<String>,
    /// Alternatives, each a list of what the devices must be able to do.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// Log driver of a container and its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Driver name, e.g. `local`.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

/// Endpoint settings of one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// DNS names of the container on this network.
    pub aliases: Vec<String>,
}

/// Body of a volume create. A volume made implicitly by a bind has no labels, so volumes are always created first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Name.
    pub name: String,
    /// Driver; engine default if empty.
    pub driver: String,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    pub labels: Labels,
}

/// Body of a network create.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Name; not unique to the engine.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// EnableIPv6, always sent.
    pub enable_ipv6: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

/// A directory that an archive upload makes or sets right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TarEntry {
    /// Path in the container without leading slash, e.g. `builds/group/project`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
