use std::{collections::BTreeMap, time::Duration};

use gantry_agent::{
    ArchiveCacheRequest, CleanupRequest, DownloadArtifactsRequest, RestoreCacheRequest,
    SourcesRequest, UploadArtifactsRequest,
};
use gantry_config::PullPolicy;
use gantry_container::{ContainerSpec, Labels, LogSpec, NetworkSpec, VolumeSpec};
use gantry_job::{Cause, FeatureFlags, Masks, Stage, Variables};
use serde::{Deserialize, Serialize};

/// Everything a job needs, decided before anything is made. Journaled as it is and never computed again for a job that runs.
///
/// Holds secrets (variables, tokens); print it through [`crate::render`] only. What only the engine can tell (image IDs after a
/// pull, addresses of services) is bound later by the executor.
#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Job ID at the server; local runs count their own.
    pub job_id: i64,
    /// Name of the job, for messages.
    pub job_name: String,
    /// Names of the job's objects.
    pub names: Names,
    /// Directories inside the containers.
    pub directories: Directories,
    /// Labels of every object of the job (docker-executor §8 default set, and `gantry.state`).
    pub labels: Labels,
    /// Job variables as scripts export them, expanded, in order.
    pub variables: Variables,
    /// Image of the build container, for the line `Using Docker executor with image …`.
    pub image_name: String,
    /// The job has no image of its own (line `Using default image`).
    pub default_image_used: bool,
    /// Volumes to create before any container, in order of `binds`.
    pub volumes: Vec<PlannedVolume>,
    /// Mount paths of folders of the host that stand in for volumes (`cache_dir` in `[runners.docker]`): any user may write there, too.
    #[serde(default)]
    pub folders: Vec<String>,
    /// Per-job network (`FF_NETWORK_PER_BUILD`).
    pub network: Option<NetworkSpec>,
    /// Services in order.
    pub services: Vec<PlannedService>,
    /// Build container.
    pub build: PlannedContainer,
    /// Helper container, only when a stage needs it.
    pub helper: Option<PlannedContainer>,
    /// Directories to make (mode 0777) below mounts before the first stage when no helper does it: absolute container paths,
    /// parents first.
    pub make_directories: Vec<String>,
    /// Stages in order, from `prepare_script` to `cleanup_file_variables`.
    pub stages: Vec<PlannedStage>,
    /// Time limits.
    pub limits: Limits,
    /// How scripts are framed.
    pub script: ScriptOptions,
    /// Registry credentials.
    pub credentials: RegistryCredentials,
    /// Warnings to print after the header, each one line (job-lifecycle §1.1 row 7).
    pub warnings: Vec<String>,
    /// Warnings of the time limits of scripts, each a line of its own before the first script (job-lifecycle §1.4).
    #[serde(default)]
    pub script_warnings: Vec<String>,
    /// Lines of the log before the first script: of the policy that made the job.
    #[serde(default)]
    pub policy: Vec<String>,
    /// What the helper makes has the helper's own umask and is given to the user of the build image
    /// (`FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR`).
    #[serde(default)]
    pub give_to_image_user: bool,
    /// Image to show in `Using helper image:  …  (overridden, default would be  … )`: the default's name, when it is overridden.
    pub helper_overrides: Option<String>,
    /// Cancel by stopping the container instead of signalling its processes (`FF_USE_NATIVE_CONTAINER_STOP`).
    pub native_stop: bool,
    /// `AFTER_SCRIPT_IGNORE_ERRORS`.
    pub after_script_ignore_errors: bool,
    /// `EXECUTOR_JOB_SECTION_ATTEMPTS`: tries of a stage whose container gets lost.
    #[serde(default)]
    pub section_attempts: u32,
    /// Seconds to wait for services; negative: do not wait.
    pub wait_for_services: i64,
    /// The container that looks whether services answer; `None` where they are not waited for, or nothing can reach them.
    #[serde(default)]
    pub service_check: Option<ServiceCheck>,
    /// What services print goes into the log (`CI_DEBUG_SERVICES`).
    #[serde(default)]
    pub debug_services: bool,
}

/// Names of a job's objects (docker-executor §2.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Names {
    /// Runner's short token.
    pub short_token: String,
    /// `U`, also the default host name.
    pub project_unique: String,
    /// `R`, prefix of container names.
    pub run: String,
    /// Host of the runner, for `Running on … via …`.
    pub runner_host: String,
}

/// Directories inside the containers (job-lifecycle §4.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Directories {
    /// `CI_BUILDS_DIR`.
    pub builds: String,
    /// `CI_PROJECT_DIR`.
    pub project: String,
    /// `RUNNER_TEMP_PROJECT_DIR`.
    pub temporary: String,
    /// Base of local cache archives.
    pub cache: String,
}

/// A volume the job uses. Only temporary ones carry the label of their owner: kept ones are no leftovers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedVolume {
    /// Create body; the name is claimed by the journaled plan.
    pub spec: VolumeSpec,
    /// Mount path in the containers.
    pub destination: String,
    /// Removed with the job; otherwise reused by later jobs.
    pub temporary: bool,
}

/// A container of the job. `spec.image` stays empty until the image is bound.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedContainer {
    /// Container name, claimed by the journaled plan.
    pub name: String,
    /// Image and how to get it.
    pub image: PlannedImage,
    /// Create body without image (and without the service addresses, see [`Plan::services`]).
    pub spec: ContainerSpec,
}

/// An image and the ways to get it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedImage {
    /// Reference, expanded.
    pub reference: String,
    /// Policies to try in order, at least one (docker-executor §3.2).
    pub policies: Vec<PullPolicy>,
    /// Platform asked for, expanded.
    pub platform: Option<String>,
    /// The helper image we make ourselves: a present one is used without a pull, whatever the policy, and an absent one is loaded
    /// from the packaged file before a pull is tried (docker-executor §3.7).
    pub packaged: bool,
}

/// A service of the job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedService {
    /// Its container; network aliases are in its endpoints.
    pub container: PlannedContainer,
    /// `<service>:<version>` of the line `Starting service …`.
    pub title: String,
    /// Names under which build and helper find it (docker-executor §5.3).
    pub aliases: Vec<String>,
    /// The build container gets its variables as a legacy container link gave them (page: "Linked containers share their environment
    /// variables").
    #[serde(default)]
    pub linked: bool,
    /// Warnings to print before it starts (aliases already in use).
    pub warnings: Vec<String>,
}

/// The container that looks whether services answer, one for all of a job (docker-executor §6.5).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceCheck {
    /// Container name, claimed by the journaled plan.
    pub name: String,
    /// Create body without image and command: it runs in the image of a service.
    pub spec: ContainerSpec,
    /// Services have no address of their own: they are on the host's network, or on that of one container, as this one is.
    pub loopback: bool,
}

/// One stage: a section of the log.
#[derive(Clone, Serialize, Deserialize)]
pub struct PlannedStage {
    /// Which.
    pub stage: Stage,
    /// What it does.
    pub work: StageWork,
    /// How often it is tried in all, from 1.
    pub attempts: u32,
}

/// What a stage does.
#[derive(Clone, Serialize, Deserialize)]
pub enum StageWork {
    /// Only lines in the log, in order; written as output of the stage.
    Lines(Vec<String>),
    /// Sources by git, in the helper.
    Sources(Box<SourcesRequest>),
    /// A user script in the build container.
    Script(ScriptWork),
    /// Deletes file variables and the like, in the helper. Runs after every end, also after timeout, abort and crash.
    Cleanup(CleanupRequest),
    /// Caches are restored by the helper.
    RestoreCache(Box<CacheRestore>),
    /// Artifacts of earlier jobs are fetched by the helper. The variables are put in when the stage begins.
    DownloadArtifacts(Box<DownloadArtifactsRequest>),
    /// Caches are saved by the helper.
    ArchiveCache(Box<CacheArchive>),
    /// Artifacts are sent by the helper. Variables and times are put in when the stage begins.
    UploadArtifacts(Box<UploadArtifactsRequest>),
    /// Nothing: the job asks for what cannot be done, and the stage fails of it.
    Fails(Cause),
}

/// Caches to restore. Variables and signed addresses are put in when the stage begins: they hold the job's status and are valid for a
/// while only.
#[derive(Clone, Serialize, Deserialize)]
pub struct CacheRestore {
    /// What the helper is asked.
    pub request: RestoreCacheRequest,
    /// Objects in the remote cache, by entry and candidate.
    pub objects: Vec<Vec<CacheObject>>,
}

/// Caches to save; see [`CacheRestore`].
#[derive(Clone, Serialize, Deserialize)]
pub struct CacheArchive {
    /// What the helper is asked.
    pub request: ArchiveCacheRequest,
    /// Object in the remote cache, by entry.
    pub objects: Vec<Option<String>>,
    /// They are sent while they are packed where that takes an upload in parts; not in journals of version 0.1.0.
    #[serde(default)]
    pub multipart: bool,
}

/// A cache in the remote cache, if there is a remote one and the key can be kept there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheObject {
    /// Name.
    pub object: Option<String>,
    /// Name by the other scheme (`FF_HASH_CACHE_KEYS`).
    pub alternate: Option<String>,
}

/// The user lines of a stage.
#[derive(Clone, Serialize, Deserialize)]
pub struct ScriptWork {
    /// Lines in order.
    pub lines: Vec<String>,
    /// `[[runners]] pre_build_script`, not for after_script.
    pub pre_build_script: String,
    /// `[[runners]] post_build_script`, not for after_script.
    pub post_build_script: String,
}

/// How scripts are framed (job-lifecycle §3).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScriptOptions {
    /// `shell = "sh"`.
    pub sh: bool,
    /// `shell = "pwsh"`.
    #[serde(default)]
    pub pwsh: bool,
    /// `CI_DEBUG_TRACE`.
    pub debug_trace: bool,
    /// The server understands sections.
    pub trace_sections: bool,
    /// No stage of the helper makes the project directory, so the script does.
    pub create_project_dir: bool,
    /// Flags of the job.
    pub flags: FeatureFlags,
}

/// Time limits of the job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    /// Whole job, from acceptance.
    pub job: Duration,
    /// Preparation and `prepare_script`.
    pub prepare: Option<Duration>,
    /// All attempts of get_sources.
    pub get_sources: Option<Duration>,
    /// All steps together.
    pub script: Option<Duration>,
    /// after_script.
    pub after_script: Duration,
    /// Back-off before the 2nd, 3rd … attempt of a stage; the last one repeats (job-lifecycle §1.2).
    pub retry_waits: Vec<Duration>,
}

/// Where registry credentials come from (docker-executor §3.6).
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct RegistryCredentials {
    /// Content of the variable `DOCKER_AUTH_CONFIG`.
    pub docker_auth_config: Option<String>,
    /// Payload entries of type `registry`: (url, user name, password).
    pub payload: Vec<(String, String, String)>,
}

/// How a job's log is written; decided before anything else, so that every failure has a log to stand in.
#[derive(Clone, Serialize, Deserialize)]
pub struct LogPlan {
    /// `FF_TIMESTAMPS`.
    pub timestamps: bool,
    /// `features.trace_sections`.
    pub sections: bool,
    /// `output_limit` in bytes.
    pub limit_bytes: u64,
    /// What to mask.
    pub masks: Masks,
    /// Header lines (coordinator-api §11).
    pub header: Vec<String>,
    /// `CI_DEBUG_TRACE` or `CI_DEBUG_SERVICES` is in effect: the server restricts who reads the log.
    pub debug_trace: bool,
}

/// Log driver of a container: Docker's `local` without rotation, of which every byte can be read again, or `json-file` as in the
/// peer, which destroys bytes that are not UTF-8 on Docker and keeps all on Podman (engine-mechanics §c).
pub fn replayable_log(local_driver: bool) -> LogSpec {
    let options: &[(&str, &str)] = if local_driver {
        &[("compress", "false"), ("max-file", "1"), ("max-size", "1t")]
    } else {
        &[]
    };
    LogSpec {
        driver: if local_driver { "local" } else { "json-file" }.to_owned(),
        options: options
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
    }
}
