use gantry_config::{LogDriver, Naming, RunnerConfig};
use gantry_container::EngineFacts;
use gantry_job::{JobPayload, TlsFiles, Variable};

/// Everything a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The job.
    pub payload: &'a JobPayload,
    /// The runner that took it.
    pub runner: &'a RunnerConfig,
    /// Facts of the process and its host.
    pub host: &'a HostFacts,
    /// Facts of the engine.
    pub engine: &'a EngineFacts,
    /// Numbers that tell this job from others that run.
    pub numbers: Numbers,
    /// Random part of the names, once per job.
    pub seed: [u8; 8],
    /// Certificates for the job's own connections to the server.
    pub tls: &'a TlsFiles,
    /// Correlation ID of the job request, if there was one.
    pub correlation_id: Option<&'a str>,
    /// Where the sources come from.
    pub sources: Sources,
    /// Resolved external secrets (see [`crate::secret_requests`]).
    pub secrets: &'a [Variable],
    /// Where artifacts are kept.
    pub artifacts: ArtifactsAt,
}

/// Facts of the process and its host.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Host name, for `Running on … via …`.
    pub name: String,
    /// `.runner_system_id`.
    pub system_id: String,
    /// Random id of the state folder.
    pub state_id: String,
    /// `CI_RUNNER_VERSION`: the compatible peer release.
    pub version: String,
    /// `CI_RUNNER_REVISION`.
    pub revision: String,
    /// Operating system and architecture of the runner in the peer's words, e.g. `linux/amd64`.
    pub executable_arch: String,
    /// Reference of the default helper image.
    pub helper_image: String,
    /// `[gantry] log_driver`.
    pub log_driver: LogDriver,
    /// `[gantry] link_variables`.
    pub link_variables: bool,
    /// `[gantry] naming`.
    pub naming: Naming,
    /// `[gantry] shared_local_cache`.
    pub shared_local_cache: bool,
    /// `[gantry] nested_variables`.
    pub nested_variables: bool,
    /// `[gantry] s3_multipart`.
    pub s3_multipart: bool,
    /// `[gantry] mask_encoded`.
    pub mask_encoded: bool,
}

/// Numbers that tell this job from others that run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// `CI_CONCURRENT_ID`: lowest free among the runner's running jobs.
    pub concurrent: u32,
    /// `CI_CONCURRENT_PROJECT_ID`: the same within the project; part of names.
    pub concurrent_project: u32,
}

/// Where the sources come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// As `GIT_STRATEGY` says.
    Git,
    /// The working tree of a local run, uploaded.
    WorkingTree,
}

/// Where artifacts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArtifactsAt {
    /// On the server.
    #[default]
    Server,
    /// With whoever runs the job: the helper leaves archives in [`KEPT_ARTIFACTS`] and finds those of earlier jobs in
    /// [`GIVEN_ARTIFACTS`].
    Here,
}

/// Directory of the helper container in which a job without a server leaves its archives.
pub const KEPT_ARTIFACTS: &str = "/gantry-artifacts/kept";
/// Directory of the helper container in which a job without a server finds archives of earlier jobs.
pub const GIVEN_ARTIFACTS: &str = "/gantry-artifacts/given";
