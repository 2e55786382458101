//! Job variables that configure the runner (config-toml §8, job-lifecycle §2.7).
//!
//! A value that cannot be used never fails a job here: the default stands, and one sentence per
//! fault is collected for the one warning the trace shows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::variable::Variables;

mod reader;
mod stage_timeout;

#[cfg(test)]
mod tests;

pub use stage_timeout::StageTimeouts;

use reader::Reader;

/// `GIT_STRATEGY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GitStrategy {
    /// The directory is made anew each time.
    Clone,
    /// The directory is kept and brought up to date.
    Fetch,
    /// The directory is left as it is.
    None,
    /// The directory is emptied, and there is no repository.
    Empty,
}

impl GitStrategy {
    /// The word of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Fetch => "fetch",
            Self::None => "none",
            Self::Empty => "empty",
        }
    }

    /// Whether a repository is fetched.
    pub fn uses_repository(self) -> bool {
        match self {
            Self::Clone | Self::Fetch => true,
            Self::None | Self::Empty => false,
        }
    }
}

/// `GIT_SUBMODULE_STRATEGY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubmoduleStrategy {
    /// Submodules are left alone.
    None,
    /// Submodules of the repository.
    Normal,
    /// Those of submodules as well.
    Recursive,
    /// No word of the list: unlike any other setting this fails get_sources, with
    /// [`SubmoduleStrategy::INVALID_MESSAGE`].
    Invalid,
}

impl SubmoduleStrategy {
    /// Error of get_sources for a strategy that is none.
    pub const INVALID_MESSAGE: &'static str = "unknown GIT_SUBMODULE_STRATEGY";
}

/// What the defaults of settings depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsContext {
    /// `allow_git_fetch` of the payload: the strategy where none is named.
    pub allow_git_fetch: bool,
    /// `git_info.depth` of the payload.
    pub depth: i64,
    /// `debug_trace_disabled` of the runner.
    pub debug_trace_disabled: bool,
}

/// Settings of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSettings {
    /// `CI_DEBUG_TRACE`, unless the runner forbids it.
    pub debug_trace: bool,
    /// `CI_DEBUG_SERVICES`, unless the runner forbids it.
    pub debug_services: bool,
    /// `GIT_STRATEGY`.
    pub git_strategy: GitStrategy,
    /// `GIT_CHECKOUT`.
    pub git_checkout: bool,
    /// Commits to fetch, 0 for all. The server has put `GIT_DEPTH` into the payload.
    pub git_depth: u64,
    /// `GIT_CLONE_PATH`, not yet checked.
    pub git_clone_path: Option<String>,
    /// `GIT_CLEAN_FLAGS`; `None` means: do not clean.
    pub git_clean_flags: Option<Vec<String>>,
    /// `GIT_CLONE_EXTRA_FLAGS`.
    pub git_clone_extra_flags: Vec<String>,
    /// `GIT_FETCH_EXTRA_FLAGS`.
    pub git_fetch_extra_flags: Vec<String>,
    /// `GIT_SUBMODULE_STRATEGY`; [`SubmoduleStrategy::None`] without a repository.
    pub git_submodule_strategy: SubmoduleStrategy,
    /// `GIT_SUBMODULE_PATHS`.
    pub git_submodule_paths: Vec<String>,
    /// `GIT_SUBMODULE_DEPTH`.
    pub git_submodule_depth: u64,
    /// `GIT_SUBMODULE_UPDATE_FLAGS`.
    pub git_submodule_update_flags: Vec<String>,
    /// `GIT_SUBMODULE_FORCE_HTTPS`.
    pub git_submodule_force_https: bool,
    /// `GIT_LFS_SKIP_SMUDGE`.
    pub git_lfs_skip_smudge: bool,
    /// `GET_SOURCES_ATTEMPTS`, 1 to 10 like all attempts.
    pub get_sources_attempts: u32,
    /// `RESTORE_CACHE_ATTEMPTS`.
    pub restore_cache_attempts: u32,
    /// `ARTIFACT_DOWNLOAD_ATTEMPTS`.
    pub artifact_download_attempts: u32,
    /// `EXECUTOR_JOB_SECTION_ATTEMPTS`: runs of a stage whose container vanishes.
    pub executor_job_section_attempts: u32,
    /// `SECRETS_RETRIEVAL_ATTEMPTS`.
    pub secrets_retrieval_attempts: u32,
    /// `AFTER_SCRIPT_IGNORE_ERRORS`.
    pub after_script_ignore_errors: bool,
    /// `CACHE_REQUEST_TIMEOUT` in minutes.
    pub cache_request_timeout_minutes: i64,
    /// `DOCKER_AUTH_CONFIG`.
    pub docker_auth_config: Option<Secret>,
    /// `RUNNER_SCRIPT_TIMEOUT` as written; see [`JobSettings::stage_timeouts`].
    pub script_timeout: String,
    /// `RUNNER_AFTER_SCRIPT_TIMEOUT` as written; see [`JobSettings::stage_timeouts`].
    pub after_script_timeout: String,
    /// One sentence per value that could not be used, without duplicates.
    pub problems: Vec<String>,
}

impl JobSettings {
    /// Reads the settings from the expanded variables of a job.
    pub fn read(variables: &Variables, context: &SettingsContext) -> Self {
        let mut reader = Reader::new(variables);
        let git_strategy = git_strategy(&mut reader, context.allow_git_fetch);
        let git_submodule_strategy = submodule_strategy(&mut reader, git_strategy);
        let depth = i64::max(context.depth, 0);
        Self {
            debug_trace: debug(&mut reader, "CI_DEBUG_TRACE", context),
            debug_services: debug(&mut reader, "CI_DEBUG_SERVICES", context),
            git_strategy,
            git_checkout: reader.boolean("GIT_CHECKOUT", true),
            git_depth: depth.unsigned_abs(),
            git_clone_path: reader.text("GIT_CLONE_PATH").map(str::to_owned),
            git_clean_flags: match reader.flags("GIT_CLEAN_FLAGS", &["-ffdx"]) {
                flags if flags.is_empty() => None,
                flags => Some(flags),
            },
            git_clone_extra_flags: reader.flags("GIT_CLONE_EXTRA_FLAGS", &[]),
            git_fetch_extra_flags: reader.flags("GIT_FETCH_EXTRA_FLAGS", &["--prune", "--quiet"]),
            git_submodule_strategy,
            git_submodule_paths: reader.words("GIT_SUBMODULE_PATHS"),
            git_submodule_depth: i64::max(reader.integer("GIT_SUBMODULE_DEPTH", depth), 0)
                .unsigned_abs(),
            git_submodule_update_flags: reader.flags("GIT_SUBMODULE_UPDATE_FLAGS", &[]),
            git_submodule_force_https: reader.boolean("GIT_SUBMODULE_FORCE_HTTPS", false),
            git_lfs_skip_smudge: reader.boolean("GIT_LFS_SKIP_SMUDGE", false),
            get_sources_attempts: reader.attempts("GET_SOURCES_ATTEMPTS"),
            restore_cache_attempts: reader.attempts("RESTORE_CACHE_ATTEMPTS"),
            artifact_download_attempts: reader.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS"),
            executor_job_section_attempts: reader.attempts("EXECUTOR_JOB_SECTION_ATTEMPTS"),
            secrets_retrieval_attempts: reader.attempts("SECRETS_RETRIEVAL_ATTEMPTS"),
            after_script_ignore_errors: reader.boolean("AFTER_SCRIPT_IGNORE_ERRORS", true),
            cache_request_timeout_minutes: reader.integer("CACHE_REQUEST_TIMEOUT", 10),
            docker_auth_config: reader.text("DOCKER_AUTH_CONFIG").map(Secret::from),
            script_timeout: variables.value("RUNNER_SCRIPT_TIMEOUT").to_owned(),
            after_script_timeout: variables.value("RUNNER_AFTER_SCRIPT_TIMEOUT").to_owned(),
            problems: reader.into_problems(),
        }
    }

    /// Time limits of the scripts, when `remaining` is left of the job (job-lifecycle §1.4).
    ///
    /// To be asked when the first script starts; its warnings are for the trace at that place.
    pub fn stage_timeouts(&self, remaining: Duration) -> StageTimeouts {
        stage_timeout::resolve(&self.script_timeout, &self.after_script_timeout, remaining)
    }
}

fn git_strategy(reader: &mut Reader<'_>, allow_git_fetch: bool) -> GitStrategy {
    let default = if allow_git_fetch {
        GitStrategy::Fetch
    } else {
        GitStrategy::Clone
    };
    match reader.text("GIT_STRATEGY") {
        None => default,
        Some("clone") => GitStrategy::Clone,
        Some("fetch") => GitStrategy::Fetch,
        Some("none") => GitStrategy::None,
        Some("empty") => GitStrategy::Empty,
        Some(other) => {
            reader.problem(format!(
                "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got {other:?}, using default value '{}'",
                default.as_str()
            ));
            default
        }
    }
}

fn submodule_strategy(reader: &mut Reader<'_>, git: GitStrategy) -> SubmoduleStrategy {
    let strategy = match reader.text("GIT_SUBMODULE_STRATEGY") {
        None | Some("none") => SubmoduleStrategy::None,
        Some("normal") => SubmoduleStrategy::Normal,
        Some("recursive") => SubmoduleStrategy::Recursive,
        Some(other) => {
            reader.problem(format!(
                "GIT_SUBMODULE_STRATEGY: expected either 'normal', 'recursive' or 'none' got {other:?}"
            ));
            SubmoduleStrategy::Invalid
        }
    };
    if git.uses_repository() {
        strategy
    } else {
        SubmoduleStrategy::None
    }
}

fn debug(reader: &mut Reader<'_>, name: &'static str, context: &SettingsContext) -> bool {
    let on = reader.boolean(name, false);
    if on && context.debug_trace_disabled {
        reader.problem(format!("{name}: usage is disabled on this Runner"));
        return false;
    }
    on
}
