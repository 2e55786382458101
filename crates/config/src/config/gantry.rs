//! `[gantry]`: settings the peer has no key for.
//!
//! The peer ignores the table (unknown keys load), so one file serves both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The GitLab Runner release whose behaviour Gantry follows and whose number jobs and servers are told.
pub const COMPATIBLE_VERSION: &str = "19.4.0";

/// `[gantry]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GantryConfig {
    /// `state_dir` as written; `None`: see [`crate::state_dir::resolve`].
    pub state_dir: Option<PathBuf>,
    /// `on_stop`: what a stop does with running jobs. The command line (`--on-stop`) wins.
    pub on_stop: OnStop,
    /// `ignore_unsupported`: keywords of a job that may be dropped instead of failing the job.
    pub ignore_unsupported: IgnoreUnsupported,
    /// `compatible_version`: value of `CI_RUNNER_VERSION` and `info.version`.
    pub compatible_version: String,
    /// `compatible_revision`: value of `CI_RUNNER_REVISION` and `info.revision`; `None`: Gantry's own.
    pub compatible_revision: Option<String>,
    /// `log_driver`: where the engine keeps the output of containers.
    pub log_driver: LogDriver,
    /// `link_variables`: whether build containers get the variables of services as legacy container links gave them.
    pub link_variables: bool,
    /// `naming`: names of cache volumes and of paths below a shared builds directory.
    pub naming: Naming,
    /// `shared_local_cache`: the volume of the local cache (`cache_dir`) belongs to the project, not to a number of concurrent jobs.
    pub shared_local_cache: bool,
    /// `nested_variables`: references in what references of variables stand for are expanded, too.
    pub nested_variables: bool,
    /// `mask_encoded`: masked values are masked in base64, URLs, JSON and traces of shells, too.
    pub mask_encoded: bool,
    /// `s3_multipart`: caches are sent to S3 while they are packed.
    pub s3_multipart: bool,
    /// `terminal_after_script`: a connected terminal keeps a finished job's build container.
    pub terminal_after_script: bool,
    /// `[gantry.helper_binary]`: architecture of the engine (`arm64`, `amd64` …) → a `gantry-helper` for it, where the one that is
    /// built in does not fit.
    pub helper_binary: BTreeMap<String, PathBuf>,
}

impl Default for GantryConfig {
    fn default() -> Self {
        Self {
            state_dir: None,
            on_stop: OnStop::default(),
            ignore_unsupported: IgnoreUnsupported::default(),
            compatible_version: COMPATIBLE_VERSION.to_owned(),
            compatible_revision: None,
            log_driver: LogDriver::default(),
            link_variables: true,
            naming: Naming::default(),
            shared_local_cache: false,
            nested_variables: false,
            mask_encoded: true,
            s3_multipart: true,
            terminal_after_script: false,
            helper_binary: BTreeMap::new(),
        }
    }
}

/// `on_stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStop {
    /// End the jobs within `shutdown_timeout` and report them, as the peer does.
    #[default]
    Stop,
    /// Leave the jobs running; the next start takes them over.
    Detach,
}

impl OnStop {
    /// Reads the setting; `None` when it is neither.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "stop" => Some(Self::Stop),
            "detach" => Some(Self::Detach),
            _ => None,
        }
    }
}

/// `naming`: where the documented names and those of GitLab Runner since 18.4 differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// `runner-<8 letters>-project-<id>-concurrent-<n>-cache-<md5>`, `/builds/<8 letters>/…` (page, "Configure directories for the
    /// container build and cache").
    #[default]
    Documented,
    /// `runner-<hash>-cache-<md5>`, `/builds/<9 letters>/…` (docker-executor §4.3, §4.4): volumes and builds directories of a host
    /// that moves over stay in use.
    Compatible,
}

impl Naming {
    /// Reads the setting; `None` when it is neither.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "documented" => Some(Self::Documented),
            "compatible" => Some(Self::Compatible),
            _ => None,
        }
    }
}

/// `log_driver` (engine-mechanics §c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// The driver that keeps bytes whole: `local` on Docker where `log_options` is unset, else `json-file`; Podman's own there.
    #[default]
    Auto,
    /// `local`
    Local,
    /// `json-file`, as the peer; replaces bytes that are not UTF-8.
    JsonFile,
}

impl LogDriver {
    /// Reads the setting; `None` when it is none of them.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "local" => Some(Self::Local),
            "json-file" => Some(Self::JsonFile),
            _ => None,
        }
    }
}

/// `ignore_unsupported`: `false` (default), `true` or a list of keywords (`cache`, `artifacts` …).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IgnoreUnsupported {
    /// A job that asks for what Gantry cannot do fails at once.
    #[default]
    Nothing,
    /// What Gantry cannot do is dropped, whatever it is.
    Everything,
    /// Only these keywords are dropped.
    Keywords(BTreeSet<String>),
}

impl IgnoreUnsupported {
    /// Whether a job that uses `keyword` may run without it.
    #[must_use]
    pub fn allows(&self, keyword: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Keywords(list) => list.contains(keyword),
        }
    }
}
