//! `[runners.docker]`: the keys this version acts on (docker-executor §1).
//!
//! A key that is not a field here is still known, checked for its type and named at load: see [`crate::keys`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Device, Environment, GpuRequest};

/// `[runners.docker]`. Empty strings count as unset, as in the peer. Strings are as written: job variables in `image`,
/// `helper_image` and `volumes` are expanded per job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerConfig {
    /// Endpoint of the engine; `None`: `DOCKER_HOST`, else the platform's socket.
    pub host: Option<String>,
    /// TLS on. When `host` is unset all three connection settings come from the environment (docker-executor §1.1).
    pub tls_verify: bool,
    /// Folder with `ca.pem`, `cert.pem`, `key.pem`; used with `tls_verify`.
    pub tls_cert_path: Option<PathBuf>,
    /// Image of jobs that name none.
    pub image: Option<String>,
    /// As written; empty: unset. Use [`DockerConfig::pull_policies`].
    #[serde(deserialize_with = "known_policies")]
    pub pull_policy: Vec<PullPolicy>,
    /// Image of the helper container instead of the default one.
    pub helper_image: Option<String>,
    /// Volume specifications, none of them empty (docker-executor §4).
    pub volumes: Vec<String>,
    /// Cache volumes are per job and go with it.
    pub disable_cache: bool,
    /// Folder of the engine's host for cache volumes, absolute; `None`: they are the engine's.
    pub cache_dir: Option<String>,
    /// Entrypoints of jobs and of services are ignored.
    pub disable_entrypoint_overwrite: bool,
    /// Network of all containers; `None`: the engine's default, or one per job (docker-executor §5).
    pub network_mode: Option<String>,
    /// Extended privileges for build, helper and services.
    pub privileged: bool,
    /// User of the build container; wins over the job's.
    pub user: Option<String>,
    /// Memory limit of build and helper, in bytes.
    pub memory: Option<u64>,
    /// CPU limit of build and helper, in billionths of a CPU (`cpus = "1.5"` is 1 500 000 000).
    pub nano_cpus: Option<u64>,
    /// `host:ip` lines for `/etc/hosts` of all containers.
    pub extra_hosts: Vec<String>,
    /// Size of `/dev/shm` in bytes; `None`: the engine's default.
    pub shm_size: Option<u64>,
    /// Extended privileges for services; `None`: as `privileged`.
    pub services_privileged: Option<bool>,
    /// Services that may be privileged, as patterns; none: all.
    pub allowed_privileged_services: Vec<String>,
    /// Services that jobs may use, as patterns; none: all. Those of `services` always may.
    pub allowed_services: Vec<String>,
    /// Services of every job, before its own.
    pub services: Vec<ServiceConfig>,
    /// Greatest number of services of a job, these included; `None`: no limit.
    pub services_limit: Option<u64>,
    /// What services may use of the machine.
    pub service_limits: ServiceLimits,
    /// Tmpfs mounts of services: path → options.
    pub services_tmpfs: BTreeMap<String, String>,
    /// Security options of services; seccomp profiles are read from their files.
    pub services_security_opt: Vec<String>,
    /// Devices of services: pattern of their image → devices.
    pub services_devices: BTreeMap<String, Vec<Device>>,
    /// GPUs of services.
    pub service_gpus: Option<GpuRequest>,
    /// How long services may take to become reachable. 30 s where the file says nothing or 0; `None` (negative in the file): no
    /// health check at all.
    pub wait_for_services_timeout: Option<Duration>,
}

impl DockerConfig {
    /// Pull policies in the order to try them; `always` where the file says nothing.
    #[must_use]
    pub fn pull_policies(&self) -> &[PullPolicy] {
        if self.pull_policy.is_empty() {
            &[PullPolicy::Always]
        } else {
            &self.pull_policy
        }
    }
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            host: None,
            tls_verify: false,
            tls_cert_path: None,
            image: None,
            pull_policy: Vec::new(),
            helper_image: None,
            volumes: Vec::new(),
            disable_cache: false,
            cache_dir: None,
            disable_entrypoint_overwrite: false,
            network_mode: None,
            privileged: false,
            user: None,
            memory: None,
            nano_cpus: None,
            extra_hosts: Vec::new(),
            shm_size: None,
            services_privileged: None,
            allowed_privileged_services: Vec::new(),
            allowed_services: Vec::new(),
            services: Vec::new(),
            services_limit: None,
            service_limits: ServiceLimits::default(),
            services_tmpfs: BTreeMap::new(),
            services_security_opt: Vec::new(),
            services_devices: BTreeMap::new(),
            service_gpus: None,
            wait_for_services_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// `[[runners.docker.services]]`. Job variables in `name`, `alias` and the values of `environment` are expanded per job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceConfig {
    /// Image.
    pub name: String,
    /// Further names in the network, separated by blanks or commas.
    pub alias: String,
    /// Command; empty: the image's own.
    pub command: Vec<String>,
    /// Entrypoint; empty: the image's own.
    pub entrypoint: Vec<String>,
    /// Variables of its own. Kept apart in a snapshot.
    #[serde(skip)]
    pub environment: Environment,
}

/// `service_memory` and the like. `None` and empty: no limit, and the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceLimits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap in bytes.
    pub memory_swap: Option<u64>,
    /// Soft limit of memory in bytes.
    pub memory_reservation: Option<u64>,
    /// CPUs, in billionths.
    pub nano_cpus: Option<u64>,
    /// Relative weight.
    pub cpu_shares: i64,
    /// CPUs to run on, such as `0-2`.
    pub cpuset_cpus: String,
    /// Parent cgroup.
    pub cgroup_parent: String,
}

/// When an image is pulled (docker-executor §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// `always`
    Always,
    /// `if-not-present`
    IfNotPresent,
    /// `never`
    Never,
}

impl PullPolicy {
    /// Reads a policy as it is written in the file; `None` when it is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "always" => Some(Self::Always),
            "if-not-present" => Some(Self::IfNotPresent),
            "never" => Some(Self::Never),
            _ => None,
        }
    }

    /// The name as it is written in the file and shown in job logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::IfNotPresent => "if-not-present",
            Self::Never => "never",
        }
    }
}

/// A snapshot of another version may hold policies this one does not know: they are left out, the rest stays.
fn known_policies<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PullPolicy>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    Ok(names
        .iter()
        .filter_map(|name| PullPolicy::from_name(name))
        .collect())
}
