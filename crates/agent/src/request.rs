//! What a stage is asked to do. Everything a stage needs is in its request: nothing of it is in arguments or in the environment of
//! the helper container.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    archives::{
        ArchiveCacheRequest, DownloadArtifactsRequest, RestoreCacheRequest, UploadArtifactsRequest,
    },
    secret::Secret,
};

/// One stage's work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StageRequest {
    /// `get_sources` (job-lifecycle §4).
    Sources(Box<SourcesRequest>),
    /// `clear_worktree`, before the second attempt of `get_sources` (job-lifecycle §4.7).
    ClearWorktree(ClearWorktreeRequest),
    /// `cleanup_file_variables` (job-lifecycle §4.8).
    Cleanup(Box<CleanupRequest>),
    /// The files of the job become those of the build image's user (docker-executor §7.4).
    ChangeOwner(Box<ChangeOwnerRequest>),
    /// `restore_cache` (job-lifecycle §5.3).
    RestoreCache(Box<RestoreCacheRequest>),
    /// `archive_cache`, `archive_cache_on_failure` (job-lifecycle §5.4).
    ArchiveCache(Box<ArchiveCacheRequest>),
    /// `download_artifacts` (job-lifecycle §6.4).
    DownloadArtifacts(Box<DownloadArtifactsRequest>),
    /// `upload_artifacts_on_success`, `upload_artifacts_on_failure` (job-lifecycle §6.3).
    UploadArtifacts(Box<UploadArtifactsRequest>),
    /// A kind that this build does not know. An agent ends such a stage with an error.
    #[serde(other)]
    Unknown,
}

/// Whose the files of a job become (docker-executor §7.4). Links are changed, not followed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeOwnerRequest {
    /// Directories, with all that is in them. One that is not there is none.
    pub paths: Vec<PathBuf>,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How sources get into the project directory (job-lifecycle §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GitStrategy {
    /// Re-use what is there.
    #[default]
    Fetch,
    /// Remove what is there first.
    Clone,
    /// Leave the directory as it is.
    None,
    /// An empty directory.
    Empty,
}

/// The hash of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    /// The usual one.
    #[default]
    Sha1,
    /// `git init --object-format sha256`.
    Sha256,
}

/// An environment variable of git and of the scripts around it. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Name.
    pub key: String,
    /// Value; of a file variable its path.
    pub value: Secret,
}

/// A file variable: written before the stage, so that scripts find it (job-lifecycle §2.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVariable {
    /// Path, below the temporary directory.
    pub path: PathBuf,
    /// Content.
    pub content: Secret,
}

/// `git` shall use `url` where a URL begins with `instead_of` (job-lifecycle §4.4). Neither holds credentials: the credential
/// helper gives them for every URL of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseUrl {
    /// What is used.
    pub url: String,
    /// The beginning it replaces.
    pub instead_of: String,
}

/// Contents of TLS files for the server's host. They are kept in a private directory while the stage runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TlsFiles {
    /// CA certificates, PEM.
    #[serde(default)]
    pub ca: Option<String>,
    /// Client certificate, PEM.
    #[serde(default)]
    pub cert: Option<String>,
    /// Key of the client certificate, PEM.
    #[serde(default)]
    pub key: Option<Secret>,
}

/// How submodules are brought up to date (job-lifecycle §4.6).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Submodules {
    /// `GIT_SUBMODULE_STRATEGY=recursive`: those of submodules as well.
    pub recursive: bool,
    /// `GIT_SUBMODULE_PATHS`, split; empty: all.
    pub paths: Vec<String>,
    /// `GIT_SUBMODULE_DEPTH`; 0: whole history.
    pub depth: u32,
    /// `GIT_SUBMODULE_UPDATE_FLAGS`, split.
    pub update_flags: Vec<String>,
}

/// Everything `get_sources` needs (job-lifecycle §4). `Default` gives the peer's defaults with empty directories and URL.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourcesRequest {
    /// How.
    pub strategy: GitStrategy,
    /// `CI_BUILDS_DIR`.
    pub builds_dir: PathBuf,
    /// `CI_PROJECT_DIR`.
    pub project_dir: PathBuf,
    /// `<project dir>.tmp`.
    pub tmp_dir: PathBuf,
    /// Remote URL without credentials. (Credentials found in it are cut off.)
    pub repo_url: String,
    /// User of the remote, normally `gitlab-ci-token`.
    pub username: String,
    /// Password of the remote: the job token. Reaches git only as `CI_JOB_TOKEN` in its environment, asked for by a credential
    /// helper. Empty: no credential helper is set up.
    pub token: Secret,
    /// URL rewrites.
    pub base_urls: Vec<BaseUrl>,
    /// Further servers, as `https://host:port`, that take the same user and token: the address of the server itself where the
    /// remote has another one.
    pub credential_hosts: Vec<String>,
    /// Write a global configuration for scripts of the job, in which the credential helper stands: git outside of the project
    /// directory has credentials, too (`FF_GIT_URLS_WITHOUT_TOKENS`).
    pub global_credentials: bool,
    /// Branch or tag, for the notice.
    pub git_ref: String,
    /// Commit to check out.
    pub sha: String,
    /// What to fetch; none: git's default.
    pub refspecs: Vec<String>,
    /// 0: whole history.
    pub depth: u32,
    /// Hash of the repository.
    pub object_format: ObjectFormat,
    /// `GIT_CLEAN_FLAGS`, split. `None`: the word `none`, no cleaning.
    pub clean_flags: Option<Vec<String>>,
    /// `GIT_FETCH_EXTRA_FLAGS`, split; empty: the word `none`.
    pub fetch_flags: Vec<String>,
    /// `FF_USE_GIT_NATIVE_CLONE`: the strategy `clone` is done by `git clone`, where git is new enough.
    pub native_clone: bool,
    /// `GIT_CLONE_EXTRA_FLAGS`, split. Only for `native_clone`.
    pub clone_flags: Vec<String>,
    /// Submodules; `None`: they are left alone.
    pub submodules: Option<Submodules>,
    /// `GIT_CHECKOUT`.
    pub checkout: bool,
    /// Remove git configuration, hooks and templates that a former job may have planted.
    pub clean_git_config: bool,
    /// Add the project directory to git's `safe.directory`.
    pub safe_directory: bool,
    /// `http.userAgent` of the fetch, such as `gitlab-runner 19.4.0 linux/amd64`. Empty: git's own.
    pub user_agent: String,
    /// `X-Gitaly-Correlation-ID` (`FF_USE_GITALY_CORRELATION_ID`).
    pub correlation_id: Option<String>,
    /// `transfer.bundleURI` (`FF_USE_GIT_BUNDLE_URIS`).
    pub bundle_uri: bool,
    /// `http.proactiveAuth=basic` (`FF_USE_GIT_PROACTIVE_AUTH`).
    pub proactive_auth: bool,
    /// `GIT_LFS_SKIP_SMUDGE` of the job is true: no `git lfs pull`.
    pub lfs_skip: bool,
    /// TLS files of the server.
    pub tls: TlsFiles,
    /// Environment of git and of the scripts.
    pub variables: Vec<Variable>,
    /// File variables to write.
    pub files: Vec<FileVariable>,
    /// Files of a former job to remove before anything else: `gitlab_runner_env`, `masking.db` (job-lifecycle §3.5).
    pub stale_files: Vec<PathBuf>,
    /// Commands before the fetch: `pre_get_sources_script` of the config (one command), then of the job's hook (a command per
    /// line). Run in one shell, echoed; what they export reaches git.
    pub pre_get_sources: Vec<String>,
    /// Commands after it, in the project directory: the job's hook first, then the config's.
    pub post_get_sources: Vec<String>,
    /// `CI_DEBUG_TRACE`: every command is shown before it runs.
    pub debug_trace: bool,
}

impl Default for SourcesRequest {
    fn default() -> Self {
        Self {
            strategy: GitStrategy::default(),
            builds_dir: PathBuf::new(),
            project_dir: PathBuf::new(),
            tmp_dir: PathBuf::new(),
            repo_url: String::new(),
            username: "gitlab-ci-token".into(),
            token: Secret::default(),
            base_urls: Vec::new(),
            credential_hosts: Vec::new(),
            global_credentials: false,
            git_ref: String::new(),
            sha: String::new(),
            refspecs: Vec::new(),
            depth: 0,
            object_format: ObjectFormat::default(),
            clean_flags: Some(vec!["-ffdx".into()]),
            fetch_flags: vec!["--prune".into(), "--quiet".into()],
            native_clone: false,
            clone_flags: Vec::new(),
            submodules: None,
            checkout: true,
            clean_git_config: true,
            safe_directory: true,
            user_agent: String::new(),
            correlation_id: None,
            bundle_uri: true,
            proactive_auth: false,
            lfs_skip: false,
            tls: TlsFiles::default(),
            variables: Vec::new(),
            files: Vec::new(),
            stale_files: Vec::new(),
            pre_get_sources: Vec::new(),
            post_get_sources: Vec::new(),
            debug_trace: false,
        }
    }
}

impl fmt::Debug for SourcesRequest {
    /// What tells one stage from another; scripts, files and variables only as counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourcesRequest")
            .field("strategy", &self.strategy)
            .field("project_dir", &self.project_dir)
            .field("git_ref", &self.git_ref)
            .field("sha", &self.sha)
            .field("refspecs", &self.refspecs)
            .field("depth", &self.depth)
            .field("submodules", &self.submodules)
            .field("variables", &self.variables.len())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// Empties the worktree, but keeps the repository (job-lifecycle §4.7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearWorktreeRequest {
    /// `CI_PROJECT_DIR`.
    pub project_dir: PathBuf,
}

/// What `FF_ENABLE_JOB_CLEANUP` asks of the cleanup stage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobCleanup {
    /// Strategy the job used.
    pub strategy: GitStrategy,
    /// As in [`SourcesRequest::clean_flags`].
    pub clean_flags: Option<Vec<String>>,
    /// Hash of the repository.
    pub object_format: ObjectFormat,
}

/// Removes what a job must not leave on a kept volume (job-lifecycle §4.8). All steps are tried; the first failure is reported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CleanupRequest {
    /// `CI_BUILDS_DIR`.
    pub builds_dir: PathBuf,
    /// `CI_PROJECT_DIR`.
    pub project_dir: PathBuf,
    /// `<project dir>.tmp`. Its `gitlab_runner_env`, `masking.db` and git configuration are always removed.
    pub tmp_dir: PathBuf,
    /// File variables to remove.
    pub files: Vec<PathBuf>,
    /// As in [`SourcesRequest::clean_git_config`].
    pub clean_git_config: bool,
    /// `FF_ENABLE_JOB_CLEANUP`.
    pub job_cleanup: Option<JobCleanup>,
}
