//! The stages that move archives: cache (job-lifecycle §5) and artifacts (job-lifecycle §6, coordinator-api §10).
//!
//! Each request holds several entries. They are done in order, and a failure of one does not keep the others from being tried. What
//! becomes of each is told in [`EntryResult`]s, and the lines of the job log are printed by the helper, so that they stand in order.
//!
//! Keys, policies, `when` and names of archives are decided by the runner. Patterns and the name of artifacts come as they are in the
//! payload: the helper expands them by `variables` (job-lifecycle §2.3). These variables also say, by the peer's names:
//! `CACHE_COMPRESSION_FORMAT`, `CACHE_COMPRESSION_LEVEL`, `ARTIFACT_COMPRESSION_LEVEL`, `ARCHIVER_STAGING_DIR`,
//! `TRANSFER_METER_FREQUENCY`, `CI_DEBUG_TRACE`, and `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy` in both cases.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    request::{TlsFiles, Variable},
    secret::Secret,
};

/// How a line of the runner is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineKind {
    /// Bold green: what is done.
    #[default]
    Notice,
    /// Yellow: what is not as it should be.
    Warning,
}

/// A line that the helper prints before it begins with an entry or a candidate: what the runner found out about its key or policy,
/// such as `Not downloading cache <key> due to policy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// Colour.
    pub kind: LineKind,
    /// Text, without colour and end of line.
    pub text: String,
}

/// Which files of the project are meant (job-lifecycle §6.1). Nothing is expanded yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Patterns, relative to the project directory or absolute below it.
    pub paths: Vec<String>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Everything that git does not know, ignored files included.
    pub untracked: bool,
}

/// An address that carries its own permission.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SignedUrl {
    /// The address. Its query is a secret; log lines show it without query and credentials.
    pub url: Secret,
    /// Headers to be sent with it.
    pub headers: Vec<Header>,
}

/// A header of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value: may be an encryption key.
    pub value: Secret,
}

/// Where a cache is fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteSource {
    /// For GET.
    pub get: SignedUrl,
    /// For HEAD. Needed to choose between this one and `alternate`.
    pub head: Option<SignedUrl>,
}

/// One key under which a cache may be found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreCandidate {
    /// Printed before `Checking cache for <key>...`.
    pub lines: Vec<Line>,
    /// The key as people know it.
    pub key: String,
    /// The local archive, absolute: `<cache dir>/<slug>/<key>/cache.zip`. Metadata lies beside it as `metadata.json`.
    pub file: PathBuf,
    /// The local archive by the other naming scheme (`FF_HASH_CACHE_KEYS`). Becomes `file` if that is not there.
    pub alternate_file: Option<PathBuf>,
    /// The shared cache; `None`: local only.
    pub remote: Option<RemoteSource>,
    /// The shared cache by the other naming scheme: taken if it alone is there or newer.
    pub alternate: Option<RemoteSource>,
}

/// One cache of the job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreEntry {
    /// Printed first. An entry with lines only (policy `push`, unusable key) has no candidates.
    pub lines: Vec<Line>,
    /// What the cache holds; used for `clean_up_failed` only.
    pub selection: Selection,
    /// The key, then the fallback keys. The first that is found and extracted ends the entry.
    pub candidates: Vec<RestoreCandidate>,
}

/// `restore_cache` (job-lifecycle §5.3). Ends with status 0 whatever becomes of the entries, unless it is canceled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreCacheRequest {
    /// `CI_PROJECT_DIR`: where the archives are extracted.
    pub project_dir: PathBuf,
    /// Entries.
    pub entries: Vec<RestoreEntry>,
    /// `FF_CLEAN_UP_FAILED_CACHE_EXTRACT`.
    pub clean_up_failed: bool,
    /// `FF_USE_PARALLEL_CACHE_TRANSFER`: ranged requests side by side.
    pub parallel_transfer: bool,
    /// `CACHE_REQUEST_TIMEOUT`, seconds; 0: 10 minutes.
    pub timeout_seconds: u64,
    /// Certificates that are trusted besides the helper's own, PEM.
    pub ca: Option<String>,
    /// Environment of the stage.
    pub variables: Vec<Variable>,
}

/// An upload in parts that was begun: an archive can be sent while it is packed. Whoever asks for it ends it if it is not completed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MultipartUpload {
    /// Parts, the first one first. As many as the archive needs are sent, each answered with its `ETag`.
    pub parts: Vec<UploadPart>,
    /// For POST of the list of parts.
    pub complete: SignedUrl,
}

/// One part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadPart {
    /// For PUT.
    pub put: SignedUrl,
    /// Size, bytes; that of the last one that is sent may be less.
    pub size: u64,
}

/// One cache to be saved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchiveCacheEntry {
    /// Printed first.
    pub lines: Vec<Line>,
    /// Only the lines: policy `pull`, or an unusable key.
    pub skip: bool,
    /// The key as people know it.
    pub key: String,
    /// The local archive, absolute.
    pub file: PathBuf,
    /// The local archive by the other naming scheme. Becomes `file` if that is not there.
    pub alternate_file: Option<PathBuf>,
    /// What is saved.
    pub selection: Selection,
    /// For PUT; `None`: kept locally only.
    pub put: Option<SignedUrl>,
    /// Takes the place of `put` where the archive is not small and is sent while it is packed; what goes wrong with it is tried by `put`.
    pub multipart: Option<MultipartUpload>,
    /// For HEAD: whether an archive is there already, if the local one is unchanged.
    pub check: Option<SignedUrl>,
    /// `MaxUploadedArchiveSize`, bytes; 0: no limit.
    pub max_archive_size: u64,
    /// For `metadata.json`; with a remote the signed headers hold them as well. Usually `cachekey` alone.
    pub metadata: BTreeMap<String, String>,
}

/// `archive_cache` and `archive_cache_on_failure` (job-lifecycle §5.4). Ends with status 0 whatever becomes of the entries, unless it is
/// canceled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchiveCacheRequest {
    /// `CI_PROJECT_DIR`.
    pub project_dir: PathBuf,
    /// Entries whose `when` fits.
    pub entries: Vec<ArchiveCacheEntry>,
    /// `CACHE_REQUEST_TIMEOUT`, seconds; 0: 10 minutes.
    pub timeout_seconds: u64,
    /// As in [`RestoreCacheRequest::ca`].
    pub ca: Option<String>,
    /// Environment of the stage.
    pub variables: Vec<Variable>,
}

/// The server that holds artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Coordinator {
    /// `CI_SERVER_URL`, with its relative root if it has one.
    pub url: String,
    /// TLS files of the server.
    pub tls: TlsFiles,
    /// `User-Agent`. Empty: the helper's own.
    pub user_agent: String,
}

/// Artifacts of an earlier job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// Number of that job.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its token (not that of the running job).
    pub token: Secret,
}

/// `download_artifacts` (job-lifecycle §6.4). Fails if a dependency does; the others are still tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DownloadArtifactsRequest {
    /// `CI_PROJECT_DIR`: where they are extracted.
    pub project_dir: PathBuf,
    /// Server.
    pub coordinator: Coordinator,
    /// Directory that holds `<id>.zip` of each dependency, for a job without a server. The server is not asked then.
    pub folder: Option<PathBuf>,
    /// Those with a file.
    pub dependencies: Vec<Dependency>,
    /// `FF_USE_DIRECT_DOWNLOAD`.
    pub direct_download: bool,
    /// `FF_USE_PARALLEL_ARTIFACT_TRANSFER`.
    pub parallel_transfer: bool,
    /// Tries after the first one.
    pub retries: u32,
    /// Pause before each of them, milliseconds.
    pub retry_milliseconds: u64,
    /// Environment of the stage.
    pub variables: Vec<Variable>,
}

impl Default for DownloadArtifactsRequest {
    fn default() -> Self {
        Self {
            project_dir: PathBuf::new(),
            coordinator: Coordinator::default(),
            folder: None,
            dependencies: Vec::new(),
            direct_download: true,
            parallel_transfer: false,
            retries: 2,
            retry_milliseconds: 1000,
            variables: Vec::new(),
        }
    }
}

/// One upload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactEntry {
    /// `name`, not expanded. Empty: `artifacts`; expanded to nothing: `default`.
    pub name: String,
    /// What is uploaded.
    pub selection: Selection,
    /// `artifact_format` as the payload has it; empty: zip, and the server is not told.
    pub format: String,
    /// `artifact_type`; empty: the server is not told.
    pub artifact_type: String,
    /// `expire_in`; empty: the server decides.
    pub expire_in: String,
}

/// What goes into the provenance statement of artifacts (`RUNNER_GENERATE_ARTIFACTS_METADATA`, coordinator-api §10).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// `CI_RUNNER_ID`.
    pub runner_id: String,
    /// Clean URL of the repository.
    pub repo_url: String,
    /// Commit.
    pub repo_digest: String,
    /// `CI_JOB_NAME`.
    pub job_name: String,
    /// `docker`.
    pub executor_name: String,
    /// Description of the runner.
    pub runner_name: String,
    /// Start of the job, RFC 3339.
    pub started_at: String,
    /// End of the scripts, RFC 3339. The same in every attempt, so that an upload made again is the same bytes.
    pub ended_at: String,
    /// `SLSA_PROVENANCE_SCHEMA_VERSION`: `v1` unless set.
    pub schema_version: String,
    /// Names of all variables of the job.
    pub parameters: Vec<String>,
}

/// `upload_artifacts_on_success` and `upload_artifacts_on_failure` (job-lifecycle §6.3). Fails if an entry does; the others are still
/// tried. An upload made again, under the same id or another, sends the same bytes for the same files: the server takes those as
/// already there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadArtifactsRequest {
    /// `CI_PROJECT_DIR`.
    pub project_dir: PathBuf,
    /// Server.
    pub coordinator: Coordinator,
    /// Directory that gets `<place in entries>.zip` of each entry, for a job without a server. Nothing is sent then.
    pub folder: Option<PathBuf>,
    /// Number of the running job.
    pub job_id: u64,
    /// Its token.
    pub token: Secret,
    /// Entries whose `when` fits.
    pub entries: Vec<ArtifactEntry>,
    /// `[runners.artifact] upload_timeout`, seconds: one whole upload.
    pub timeout_seconds: u64,
    /// `[runners.artifact] response_header_timeout`, seconds.
    pub response_header_timeout_seconds: u64,
    /// Makes a provenance statement for each entry of format `zip`.
    pub provenance: Option<Provenance>,
    /// Environment of the stage.
    pub variables: Vec<Variable>,
}

impl Default for UploadArtifactsRequest {
    fn default() -> Self {
        Self {
            project_dir: PathBuf::new(),
            coordinator: Coordinator::default(),
            folder: None,
            job_id: 0,
            token: Secret::default(),
            entries: Vec::new(),
            timeout_seconds: 3600,
            response_header_timeout_seconds: 600,
            provenance: None,
            variables: Vec::new(),
        }
    }
}

/// How one entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryOutcome {
    /// Done as asked: restored, saved, sent, fetched.
    Done,
    /// There was nothing to do: only lines, no files, an unchanged archive that is in its place.
    Nothing,
    /// No cache was found under any key.
    Miss,
    /// A part only: extraction failed after files had been written, or a cache was kept locally but could not be sent.
    Partial,
    /// Nothing of it was done.
    Failed,
    /// An outcome that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What became of one entry. They come in the order of the request; entries behind a cancel are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryResult {
    /// Place in the request, from 0.
    pub entry: u32,
    /// How it ended.
    pub outcome: EntryOutcome,
    /// What went wrong, for people; names the file or the server. At most 500 bytes. No secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Files and directories in the archive.
    #[serde(default)]
    pub files: u64,
    /// Size of the archive, bytes.
    #[serde(default)]
    pub bytes: u64,
}
