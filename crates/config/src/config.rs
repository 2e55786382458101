//! The configuration as the rest of the program sees it: resolved values, no questions left.
//!
//! [`Config`] is one loaded file. Its runner entries are shared ([`Arc`]), so a job keeps the entry it started with while a reload
//! puts another in place (config-toml §1 "Hot reload").

mod cache;
mod devices;
mod docker;
mod gantry;
mod log;
mod monitoring;
mod runner;
mod session_server;

pub use cache::{AzureCacheConfig, CacheConfig, GcsCacheConfig, S3CacheConfig};
pub use devices::{Device, GpuRequest};
pub use docker::{DockerConfig, PullPolicy, ServiceConfig, ServiceLimits};
pub use gantry::{COMPATIBLE_VERSION, GantryConfig, IgnoreUnsupported, LogDriver, Naming, OnStop};
pub use log::{LogFormat, LogLevel};
pub use monitoring::{JobQueuingDuration, Period, waited_too_long};
pub use runner::{CustomBuildDir, Environment, Executor, RunnerConfig, Skip};
pub use session_server::{HostPort, SessionServerConfig};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One configuration file, checked (config-toml §2).
///
/// [`Config::default`] is what a missing file means: one slot, no runners.
#[derive(Clone, Debug)]
pub struct Config {
    /// Job slots of the whole process, at least 1.
    pub concurrent: usize,
    /// Time between two rounds of polling over all runners. 3 s where the file says nothing, zero or less.
    pub check_interval: Duration,
    /// Level of the process log. The command line wins.
    pub log_level: LogLevel,
    /// Form of the process log. The command line wins.
    pub log_format: LogFormat,
    /// Address of the metrics endpoint as written (`host:port` or `host`); `None`: no endpoint.
    pub listen_address: Option<String>,
    /// How long a forceful shutdown may take. 30 s where the file says nothing, zero or less.
    pub shutdown_timeout: Duration,
    /// Greatest age of a keep-alive connection to GitLab; `None`: no limit.
    pub connection_max_age: Option<Duration>,
    /// Labels of all runners. Already merged into [`RunnerConfig::labels`].
    pub labels: BTreeMap<String, String>,
    /// `[session_server]`: interactive terminals.
    pub session_server: SessionServerConfig,
    /// `[gantry]`: what the peer has no key for.
    pub gantry: GantryConfig,
    /// `[[runners]]` in file order, also those that cannot be used: see [`RunnerConfig::skip`].
    pub runners: Vec<Arc<RunnerConfig>>,
}

impl Config {
    /// Keys in which `new` differs and that a running process does not take over: they take effect at the next start.
    #[must_use]
    pub fn waits_for_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old_own, own) = (&self.gantry, &new.gantry);
        let (old_sessions, sessions) = (&self.session_server, &new.session_server);
        let changed = [
            ("listen_address", self.listen_address != new.listen_address),
            (
                "session_server.listen_address",
                old_sessions.listen_address != sessions.listen_address,
            ),
            (
                "session_server.advertise_address",
                old_sessions.advertise_address != sessions.advertise_address,
            ),
            ("gantry.state_dir", old_own.state_dir != own.state_dir),
            (
                "gantry.compatible_version",
                old_own.compatible_version != own.compatible_version,
            ),
            (
                "gantry.compatible_revision",
                old_own.compatible_revision != own.compatible_revision,
            ),
            ("gantry.log_driver", old_own.log_driver != own.log_driver),
            (
                "gantry.link_variables",
                old_own.link_variables != own.link_variables,
            ),
            ("gantry.naming", old_own.naming != own.naming),
            (
                "gantry.shared_local_cache",
                old_own.shared_local_cache != own.shared_local_cache,
            ),
            (
                "gantry.nested_variables",
                old_own.nested_variables != own.nested_variables,
            ),
            (
                "gantry.mask_encoded",
                old_own.mask_encoded != own.mask_encoded,
            ),
            (
                "gantry.s3_multipart",
                old_own.s3_multipart != own.s3_multipart,
            ),
            (
                "gantry.helper_binary",
                old_own.helper_binary != own.helper_binary,
            ),
        ];
        let changed = changed.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| key).collect()
    }

    /// The entries that can ask for jobs, in file order.
    pub fn usable_runners(&self) -> impl Iterator<Item = &Arc<RunnerConfig>> {
        self.runners.iter().filter(|runner| runner.skip.is_none())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrent: 1,
            check_interval: Duration::from_secs(3),
            log_level: LogLevel::default(),
            log_format: LogFormat::default(),
            listen_address: None,
            shutdown_timeout: Duration::from_secs(30),
            connection_max_age: Some(Duration::from_secs(15 * 60)),
            labels: BTreeMap::new(),
            session_server: SessionServerConfig::default(),
            gantry: GantryConfig::default(),
            runners: Vec::new(),
        }
    }
}
