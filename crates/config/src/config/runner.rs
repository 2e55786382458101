//! One `[[runners]]` entry (config-toml §4).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{CacheConfig, DockerConfig, JobQueuingDuration};

/// One runner: who it is, where its jobs come from, how they run.
///
/// `Serialize` (for display and tools) leaves out the token and the environment, `Debug` hides their values;
/// [`RunnerConfig::to_journal`] is the one way to write them down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerConfig {
    /// Description, `runner_name` in logs; may be empty.
    pub name: String,
    /// Base URL of GitLab: placeholders expanded, without trailing `/` and without one trailing `/ci`.
    pub url: String,
    /// Number the server gave the runner; 0 when unknown.
    pub id: i64,
    /// Authentication token, placeholders expanded.
    #[serde(skip)]
    pub token: SecretString,
    /// When the token was obtained; `None`: unknown.
    pub token_obtained_at: Option<SystemTime>,
    /// When the token ends; `None`: never.
    pub token_expires_at: Option<SystemTime>,
    /// `tls-ca-file`; `None`: looked for beside the config (coordinator-api §12).
    pub tls_ca_file: Option<PathBuf>,
    /// `tls-cert-file`
    pub tls_cert_file: Option<PathBuf>,
    /// `tls-key-file`
    pub tls_key_file: Option<PathBuf>,
    /// Replaces scheme and host of git URLs.
    pub clone_url: Option<String>,

    /// Greatest number of jobs of this runner at once, a request in flight included; `None`: no limit of its own.
    pub limit: Option<usize>,
    /// Greatest number of job requests at once, at least 1.
    pub request_concurrency: usize,
    /// No new poll right after a job.
    pub strict_check_interval: bool,
    /// Greatest size of a job log in bytes (`output_limit` × 1024).
    pub output_limit: u64,
    /// Failures in a row before the runner rests, at least 1.
    pub unhealthy_requests_limit: u32,
    /// How long it rests.
    pub unhealthy_interval: Duration,
    /// Tries of the final update before the slot is given up, at least 1.
    pub job_status_final_update_retry_limit: u32,
    /// Limit of the prepare stages; `None`: the job's timeout.
    pub prepare_timeout: Option<Duration>,
    /// Limit of fetching sources, retries included; `None`: the job's timeout.
    pub get_sources_timeout: Option<Duration>,

    /// Which executor the entry is for.
    pub executor: Executor,
    /// Base of project folders in containers, `/builds` where the file says nothing.
    pub builds_dir: String,
    /// Base of the local cache in containers, `/cache` where the file says nothing.
    pub cache_dir: String,
    /// Variables under those of the job.
    #[serde(skip)]
    pub environment: Environment,
    /// Shell of scripts; `None`: the executor's default.
    pub shell: Option<String>,
    /// Script before sources are fetched, in the helper's environment; may be empty.
    pub pre_get_sources_script: String,
    /// Script after sources are fetched, in the helper's environment; may be empty.
    pub post_get_sources_script: String,
    /// Script before the job's, in the same shell; may be empty.
    pub pre_build_script: String,
    /// Script after the job's, in the same shell; may be empty.
    pub post_build_script: String,
    /// Jobs cannot switch debug traces on.
    pub debug_trace_disabled: bool,
    /// `safe_directory_checkout`; `None`: on.
    pub safe_directory_checkout: Option<bool>,
    /// `clean_git_config`; `None`: on for the docker executor unless the git strategy is `none`.
    pub clean_git_config: Option<bool>,
    /// Labels sent to the server: the file's global ones with the runner's own over them, at most 32.
    pub labels: BTreeMap<String, String>,
    /// `[runners.feature_flags]`; beats job variables.
    pub feature_flags: BTreeMap<String, bool>,
    /// `[runners.custom_build_dir]`
    pub custom_build_dir: CustomBuildDir,
    /// `[runners.artifact] upload_timeout`
    pub artifact_upload_timeout: Duration,
    /// `[runners.artifact] response_header_timeout`
    pub artifact_response_header_timeout: Duration,
    /// `[runners.cache]`
    pub cache: CacheConfig,
    /// `[[runners.monitoring.job_queuing_durations]]`
    #[serde(skip)]
    pub job_queuing_durations: Vec<JobQueuingDuration>,
    /// `[runners.docker]`
    pub docker: DockerConfig,

    /// Why the entry cannot be used; `None`: it can. A warning at load has already said so.
    #[serde(skip)]
    pub skip: Option<Skip>,
    /// Line of `[[runners]]` in the file, from 1; 0 when not from a file.
    #[serde(skip)]
    pub line: usize,
}

impl RunnerConfig {
    /// Greatest size of a job log where the file says nothing: 4 MiB.
    pub const OUTPUT_LIMIT: u64 = 4096 * 1024;

    /// The part of the token that may be shown: logs, labels, folder and container names (coordinator-api §2).
    #[must_use]
    pub fn short_token(&self) -> &str {
        crate::token::short_token(self.token.expose_secret())
    }

    /// What tells runners apart: url and short token (coordinator-api §2).
    #[must_use]
    pub fn unique_id(&self) -> String {
        format!("{}{}", self.url, self.short_token())
    }

    /// Whether jobs may choose their folder (`GIT_CLONE_PATH`): on for docker unless the file says otherwise.
    #[must_use]
    pub fn custom_build_dir_enabled(&self) -> bool {
        self.custom_build_dir.enabled.unwrap_or(true)
    }
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            id: 0,
            token: SecretString::default(),
            token_obtained_at: None,
            token_expires_at: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            clone_url: None,
            limit: None,
            request_concurrency: 1,
            strict_check_interval: false,
            output_limit: Self::OUTPUT_LIMIT,
            unhealthy_requests_limit: 3,
            unhealthy_interval: Duration::from_secs(3600),
            job_status_final_update_retry_limit: 10,
            prepare_timeout: None,
            get_sources_timeout: None,
            executor: Executor::Docker,
            builds_dir: "/builds".to_owned(),
            cache_dir: "/cache".to_owned(),
            environment: Environment::default(),
            shell: None,
            pre_get_sources_script: String::new(),
            post_get_sources_script: String::new(),
            pre_build_script: String::new(),
            post_build_script: String::new(),
            debug_trace_disabled: false,
            safe_directory_checkout: None,
            clean_git_config: None,
            labels: BTreeMap::new(),
            feature_flags: BTreeMap::new(),
            custom_build_dir: CustomBuildDir::default(),
            artifact_upload_timeout: Duration::from_secs(3600),
            artifact_response_header_timeout: Duration::from_secs(600),
            cache: CacheConfig::default(),
            job_queuing_durations: Vec::new(),
            docker: DockerConfig::default(),
            skip: None,
            line: 0,
        }
    }
}

/// `executor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Executor {
    /// `docker`
    Docker,
    /// Any other name, also an empty or unknown one.
    Other(String),
}

impl From<String> for Executor {
    fn from(name: String) -> Self {
        if name == "docker" {
            Self::Docker
        } else {
            Self::Other(name)
        }
    }
}

impl From<Executor> for String {
    fn from(executor: Executor) -> Self {
        match executor {
            Executor::Docker => "docker".to_owned(),
            Executor::Other(name) => name,
        }
    }
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("docker"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Why an entry is left out of polling; the process goes on with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It is for another executor (or names none).
    OtherExecutor,
    /// The token is blank, also after its placeholders were expanded.
    BlankToken,
    /// The url is blank or neither `http` nor `https`.
    UnusableUrl,
}

/// `[runners.custom_build_dir]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomBuildDir {
    /// As written; see [`RunnerConfig::custom_build_dir_enabled`].
    pub enabled: Option<bool>,
}

/// `environment`: `KEY=value` entries in file order. `Debug` shows the keys only, since values are often credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    entries: Vec<(String, String)>,
}

impl Environment {
    /// Keys and values in file order; a later entry of the same key wins.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(entries: T) -> Self {
        Self {
            entries: entries.into_iter().collect(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.entries
                    .iter()
                    .map(|(key, _)| (key, format_args!("[MASKED]"))),
            )
            .finish()
    }
}
