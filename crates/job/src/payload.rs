//! The job payload: the JSON a GitLab server answers to a job request (coordinator-api §5).
//!
//! Reading is liberal where servers are known to be sloppy and strict where a mistake would
//! change the job: a missing or `null` field has its zero value, a `null` list element is no
//! element, unknown fields are ignored, numbers are 64 bits wide; a value of the wrong type is an
//! error that names the path and the position. Bytes that are not UTF-8, and escapes of half a character,
//! become U+FFFD.
//!
//! The types also serialize, and what they write they read back equal: payloads are journaled.
//! Tokens and passwords are [`Secret`]s, and a variable never shows its value in `Debug`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::variable::Variable;

mod error;
mod executor_opts;
mod input;
mod lenient;
mod opaque;
mod secrets;
mod text;

#[cfg(test)]
mod tests;

pub use error::PayloadError;
pub use executor_opts::{DockerOpts, ExecutorOpts, KubernetesOpts};
pub use opaque::Opaque;
pub use secrets::{SecretProvider, SecretSource, VaultAuth, VaultEngine, VaultSecret, VaultServer};

use lenient::{
    Object, named_objects, null_as_default as nil, null_free_list as list, object, objects,
    optional_object, present_text, wire_variables as vars,
};

/// Payloads longer than this are refused unread. The largest script seen in practice is a few
/// hundred kilobytes; the bound keeps one answer from filling the memory of the runner.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;

/// One job as the server describes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobPayload {
    /// Job id, unique on the server.
    #[serde(deserialize_with = "nil")]
    pub id: i64,
    /// Token of this one job; authorizes trace, update, artifact and git requests.
    #[serde(deserialize_with = "nil")]
    pub token: Secret,
    /// Default git strategy: true `fetch`, false `clone`.
    #[serde(deserialize_with = "nil")]
    pub allow_git_fetch: bool,
    /// Name, stage and ids of the job.
    #[serde(deserialize_with = "object")]
    pub job_info: JobInfo,
    /// What to check out.
    #[serde(deserialize_with = "object")]
    pub git_info: GitInfo,
    /// Timeout and the like.
    #[serde(deserialize_with = "object")]
    pub runner_info: RunnerInfo,
    /// Job inputs for `${{ job.inputs.x }}`.
    #[serde(deserialize_with = "objects")]
    pub inputs: Vec<JobInput>,
    /// Job variables in order; duplicates are legal and the last one wins.
    #[serde(deserialize_with = "vars")]
    pub variables: Vec<Variable>,
    /// Scripts to run, in order. `after_script` is one of them.
    #[serde(deserialize_with = "objects")]
    pub steps: Vec<Step>,
    /// Image of the build container; absent means the runner's default.
    #[serde(deserialize_with = "optional_object")]
    pub image: Option<Image>,
    /// Service containers.
    #[serde(deserialize_with = "objects")]
    pub services: Vec<Image>,
    /// Artifacts and reports to upload.
    #[serde(deserialize_with = "objects")]
    pub artifacts: Vec<Artifact>,
    /// Cache entries.
    #[serde(deserialize_with = "objects")]
    pub cache: Vec<Cache>,
    /// Registry credentials.
    #[serde(deserialize_with = "objects")]
    pub credentials: Vec<Credential>,
    /// Jobs whose artifacts are wanted first.
    #[serde(deserialize_with = "objects")]
    pub dependencies: Vec<Dependency>,
    /// What this server understands.
    #[serde(deserialize_with = "object")]
    pub features: ServerFeatures,
    /// External secrets by variable name.
    #[serde(deserialize_with = "named_objects")]
    pub secrets: BTreeMap<String, SecretSource>,
    /// Scripts around get_sources.
    #[serde(deserialize_with = "objects")]
    pub hooks: Vec<Hook>,
    /// Native steps: a JSON document as a string. `null` and `""` are absent.
    #[serde(
        deserialize_with = "present_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub run: Option<String>,
    /// Execution policy that made the job.
    #[serde(deserialize_with = "object")]
    pub policy_options: PolicyOptions,
    /// Suspend and resume of environments.
    #[serde(deserialize_with = "object")]
    pub suspend_options: SuspendOptions,
}

/// Names and ids around the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobInfo {
    /// Job name as in the pipeline.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Pipeline stage.
    #[serde(deserialize_with = "nil")]
    pub stage: String,
    /// Pipeline id.
    #[serde(deserialize_with = "nil")]
    pub pipeline_id: i64,
    /// Project id.
    #[serde(deserialize_with = "nil")]
    pub project_id: i64,
    /// Project name.
    #[serde(deserialize_with = "nil")]
    pub project_name: String,
    /// Project path with its groups.
    #[serde(deserialize_with = "nil")]
    pub project_full_path: String,
    /// Namespace id.
    #[serde(deserialize_with = "nil")]
    pub namespace_id: i64,
    /// Id of the outermost namespace.
    #[serde(deserialize_with = "nil")]
    pub root_namespace_id: i64,
    /// Organization id.
    #[serde(deserialize_with = "nil")]
    pub organization_id: i64,
    /// Id of the GitLab instance.
    #[serde(deserialize_with = "nil")]
    pub instance_id: String,
    /// UUID of the GitLab instance.
    #[serde(deserialize_with = "nil")]
    pub instance_uuid: String,
    /// User who started the job.
    pub user_id: Option<i64>,
    /// User the job acts for.
    pub scoped_user_id: Option<i64>,
    /// Seconds the job waited.
    #[serde(deserialize_with = "nil")]
    pub time_in_queue_seconds: f64,
    /// Text, for it may be `+Inf`.
    #[serde(deserialize_with = "nil")]
    pub project_jobs_running_on_instance_runners_count: String,
    /// Length of the queue the job came from.
    #[serde(deserialize_with = "nil")]
    pub queue_size: i64,
    /// Depth of the job in that queue.
    #[serde(deserialize_with = "nil")]
    pub queue_depth: i64,
}

/// Repository, ref and commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GitInfo {
    /// Remote URL with the job token as password, hence secret.
    #[serde(deserialize_with = "nil")]
    pub repo_url: Secret,
    /// `sha1` (also when empty) or `sha256`.
    #[serde(deserialize_with = "nil")]
    pub repo_object_format: String,
    /// Branch, tag or merge request ref.
    #[serde(rename = "ref", deserialize_with = "nil")]
    pub ref_name: String,
    /// Commit to check out.
    #[serde(deserialize_with = "nil")]
    pub sha: String,
    /// Commit before the push.
    #[serde(deserialize_with = "nil")]
    pub before_sha: String,
    /// `branch` or `tag`.
    #[serde(deserialize_with = "nil")]
    pub ref_type: String,
    /// What to fetch.
    #[serde(deserialize_with = "list")]
    pub refspecs: Vec<String>,
    /// Commits to fetch; 0 means all.
    #[serde(deserialize_with = "nil")]
    pub depth: i64,
    /// Whether the ref is protected; absent means: look at `CI_COMMIT_REF_PROTECTED`.
    pub protected: Option<bool>,
}

/// What the server sets for the runner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerInfo {
    /// Unused by current servers.
    #[serde(deserialize_with = "nil")]
    pub uuid: String,
    /// Job timeout in seconds; see [`JobPayload::timeout`].
    #[serde(deserialize_with = "nil")]
    pub timeout: i64,
}

/// One job input: with a name, of a known type, and of a value of that type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "input::WireInput")]
pub struct JobInput {
    /// Name.
    pub key: String,
    /// Typed value.
    pub value: JobInputValue,
}

/// Typed value of a job input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobInputValue {
    /// `string`, `number`, `boolean`, `array` or `struct`.
    #[serde(rename = "type", deserialize_with = "nil")]
    pub kind: String,
    /// The value.
    #[serde(deserialize_with = "nil")]
    pub content: Opaque,
    /// Whether it may be interpolated (it may not).
    #[serde(deserialize_with = "nil")]
    pub sensitive: bool,
}

/// Name of the step with the user's script.
pub const SCRIPT_STEP: &str = "script";
/// Name of the step that runs after all others, in its own shell.
pub const AFTER_SCRIPT_STEP: &str = "after_script";

/// One script of the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// `script`, `after_script`, `release` or any other.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Commands; an element may hold several lines.
    #[serde(deserialize_with = "list")]
    pub script: Vec<String>,
    /// Ignored by runners.
    #[serde(deserialize_with = "nil")]
    pub timeout: i64,
    /// Ignored by runners.
    #[serde(deserialize_with = "nil")]
    pub when: String,
    /// Ignored by runners: the server decides from the exit code.
    #[serde(deserialize_with = "nil")]
    pub allow_failure: bool,
}

/// An image with the way to run it: of the build container or of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Image reference, not yet expanded.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Names separated by blanks or commas.
    #[serde(deserialize_with = "nil")]
    pub alias: String,
    /// Command; empty keeps the image's.
    #[serde(deserialize_with = "list")]
    pub command: Vec<String>,
    /// Entrypoint; empty keeps the image's, `[""]` clears it.
    #[serde(deserialize_with = "list")]
    pub entrypoint: Vec<String>,
    /// Ports of the web terminal proxy.
    #[serde(deserialize_with = "objects")]
    pub ports: Vec<Port>,
    /// Variables of this service alone.
    #[serde(deserialize_with = "vars")]
    pub variables: Vec<Variable>,
    /// Pull policies in order.
    #[serde(deserialize_with = "list")]
    pub pull_policy: Vec<String>,
    /// Options per executor.
    #[serde(deserialize_with = "nil")]
    pub executor_opts: ExecutorOpts,
}

/// A port of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Number.
    #[serde(deserialize_with = "nil")]
    pub number: i64,
    /// `http` or `https`.
    #[serde(deserialize_with = "nil")]
    pub protocol: String,
    /// Name.
    #[serde(deserialize_with = "nil")]
    pub name: String,
}

/// Files to keep after the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// Archive name, not yet expanded.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Whether to add all files git does not track.
    #[serde(deserialize_with = "nil")]
    pub untracked: bool,
    /// Patterns to add.
    #[serde(deserialize_with = "list")]
    pub paths: Vec<String>,
    /// Patterns to leave out.
    #[serde(deserialize_with = "list")]
    pub exclude: Vec<String>,
    /// `on_success` (also when empty), `on_failure` or `always`.
    #[serde(deserialize_with = "nil")]
    pub when: String,
    /// `archive`, `junit`, …
    #[serde(deserialize_with = "nil")]
    pub artifact_type: String,
    /// `zip` (also when empty), `gzip`, `raw`, `zipzstd` or `tarzstd`.
    #[serde(deserialize_with = "nil")]
    pub artifact_format: String,
    /// Passed on to the server as it is.
    #[serde(deserialize_with = "nil")]
    pub expire_in: String,
}

/// One cache entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// Key, not yet expanded.
    #[serde(deserialize_with = "nil")]
    pub key: String,
    /// Whether to add all files git does not track.
    #[serde(deserialize_with = "nil")]
    pub untracked: bool,
    /// `pull-push` (also when empty), `pull` or `push`, not yet expanded.
    #[serde(deserialize_with = "nil")]
    pub policy: String,
    /// Patterns to keep.
    #[serde(deserialize_with = "list")]
    pub paths: Vec<String>,
    /// `on_success` (also when empty), `on_failure` or `always`.
    #[serde(deserialize_with = "nil")]
    pub when: String,
    /// Keys tried after the first.
    #[serde(deserialize_with = "list")]
    pub fallback_keys: Vec<String>,
}

/// A login, so far always of a registry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credential {
    /// `registry`.
    #[serde(rename = "type", deserialize_with = "nil")]
    pub kind: String,
    /// Host, with or without port.
    #[serde(deserialize_with = "nil")]
    pub url: String,
    /// User name.
    #[serde(deserialize_with = "nil")]
    pub username: String,
    /// Password.
    #[serde(deserialize_with = "nil")]
    pub password: Secret,
}

/// A job whose artifacts this one wants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// Job id.
    #[serde(deserialize_with = "nil")]
    pub id: i64,
    /// Token that may download them.
    #[serde(deserialize_with = "nil")]
    pub token: Secret,
    /// Job name.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// The file; without a name there is nothing to download.
    #[serde(deserialize_with = "object")]
    pub artifacts_file: DependencyFile,
}

/// The archive of a dependency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DependencyFile {
    /// File name; empty means there is none.
    #[serde(deserialize_with = "nil")]
    pub filename: String,
    /// Bytes.
    #[serde(deserialize_with = "nil")]
    pub size: i64,
}

/// What the server understands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerFeatures {
    /// Whether section markers are wanted in the trace.
    #[serde(deserialize_with = "nil")]
    pub trace_sections: bool,
    /// Token prefixes to mask.
    #[serde(deserialize_with = "list")]
    pub token_mask_prefixes: Vec<String>,
    /// Failure reasons the server knows; see [`crate::FailureReason::for_server`].
    #[serde(deserialize_with = "list")]
    pub failure_reasons: Vec<String>,
    /// OpenTelemetry settings.
    #[serde(deserialize_with = "nil")]
    pub tracing: Opaque,
}

/// Script lines around get_sources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// `pre_get_sources_script` or `post_get_sources_script`.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Commands.
    #[serde(deserialize_with = "list")]
    pub script: Vec<String>,
}

/// Execution policy that made the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyOptions {
    /// Whether a policy made the job.
    #[serde(deserialize_with = "nil")]
    pub execution_policy_job: bool,
    /// Name of the policy.
    #[serde(deserialize_with = "nil")]
    pub policy_name: String,
    /// Whether job variables may override those of the policy.
    pub policy_variables_override_allowed: Option<bool>,
    /// Variables to which that does not apply.
    #[serde(deserialize_with = "list")]
    pub policy_variables_override_exceptions: Vec<String>,
}

/// Suspend and resume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuspendOptions {
    /// Suspend when the job succeeded.
    #[serde(deserialize_with = "nil")]
    pub suspend_on_success: bool,
    /// Suspend when the job failed.
    #[serde(deserialize_with = "nil")]
    pub suspend_on_failure: bool,
    /// Key of the environment to resume.
    #[serde(deserialize_with = "nil")]
    pub runtime_environment_key: String,
}

/// Job timeout where the server sends none.
pub const DEFAULT_JOB_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(7200);

impl JobPayload {
    /// Reads a payload.
    ///
    /// Never panics. The error names the path and position of the first fault, and shows none of
    /// the payload's values.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, PayloadError> {
        if bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(PayloadError::TooLarge {
                bytes: bytes.len(),
                limit: MAX_PAYLOAD_BYTES,
            });
        }
        let text = text::repaired(bytes);
        let mut json = serde_json::Deserializer::from_str(&text);
        let Object(payload) = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| PayloadError::from_traced(&error, text.len()))?;
        json.end()
            .map_err(|error| PayloadError::from_json(&error, "", text.len()))?;
        Ok(payload)
    }

    /// The job timeout; 2 h where the server sends none or nonsense (coordinator-api §5).
    pub fn timeout(&self) -> std::time::Duration {
        match u64::try_from(self.runner_info.timeout) {
            Ok(seconds) if seconds > 0 => std::time::Duration::from_secs(seconds),
            _ => DEFAULT_JOB_TIMEOUT,
        }
    }

    /// Steps that run before `after_script`, in order.
    pub fn script_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps
            .iter()
            .filter(|step| step.name != AFTER_SCRIPT_STEP)
    }

    /// The `after_script` step, if it has anything to run.
    pub fn after_script(&self) -> Option<&Step> {
        self.steps
            .iter()
            .find(|step| step.name == AFTER_SCRIPT_STEP && !step.script.is_empty())
    }

    /// Whether the ref is protected (coordinator-api §5, `git_info.protected`): where the server
    /// does not say, the first `CI_COMMIT_REF_PROTECTED` does.
    pub fn ref_is_protected(&self) -> bool {
        self.git_info.protected.unwrap_or_else(|| {
            self.variables
                .iter()
                .find(|variable| variable.key == "CI_COMMIT_REF_PROTECTED")
                .is_some_and(|variable| variable.value == "true")
        })
    }
}
