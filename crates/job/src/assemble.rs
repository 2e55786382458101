//! The whole variable list of a job, in the order of job-lifecycle §2.1.

use std::time::Duration;

use crate::feature_flag::{FeatureFlag, FeatureFlags};
use crate::outcome::JobStatus;
use crate::payload::JobPayload;
use crate::variable::{TMP_DIR_VARIABLE, Variable, Variables};

#[cfg(test)]
mod tests;

/// Name of the file, below the temporary directory, whose lines scripts append to in order to
/// set variables of later stages (job-lifecycle §2.6).
pub const GITLAB_ENV_FILE: &str = "gitlab_runner_env";

/// Certificates the job gets as file variables; absent ones make no variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM for `CI_SERVER_TLS_CA_FILE`.
    pub ca: Option<String>,
    /// PEM for `CI_SERVER_TLS_CERT_FILE`.
    pub cert: Option<String>,
    /// PEM for `CI_SERVER_TLS_KEY_FILE`.
    pub key: Option<crate::Secret>,
}

/// What the runner knows and the payload does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssembleInput {
    /// Resolved flags of the job.
    pub flags: FeatureFlags,
    /// The runner token, shortened (coordinator-api §2).
    pub runner_short_token: String,
    /// `[[runners]].environment`, each `KEY=VALUE`; others are ignored.
    pub environment: Vec<String>,
    /// `CI_BUILDS_DIR`.
    pub builds_dir: String,
    /// `CI_PROJECT_DIR`.
    pub project_dir: String,
    /// `RUNNER_TEMP_PROJECT_DIR`; by rule the project directory with `.tmp` appended.
    pub tmp_dir: String,
    /// `CI_CONCURRENT_ID`.
    pub concurrent_id: u32,
    /// `CI_CONCURRENT_PROJECT_ID`.
    pub concurrent_project_id: u32,
    /// `CI_JOB_TIMEOUT`; whole seconds are shown.
    pub timeout: Duration,
    /// Certificates.
    pub tls: TlsFiles,
    /// `CI_RUNNER_VERSION`: the compatible peer release.
    pub runner_version: String,
    /// `CI_RUNNER_REVISION`.
    pub runner_revision: String,
    /// `CI_RUNNER_EXECUTABLE_ARCH`, e.g. `linux/amd64`.
    pub executable_arch: String,
    /// Resolved external secrets, flags set by whoever resolved them.
    pub secrets: Vec<Variable>,
    /// `CI_BUILD_NETWORK_NAME`; only with `FF_NETWORK_PER_BUILD`.
    pub network_name: Option<String>,
    /// Expand references in what references stand for; the peer expands once.
    pub nested: bool,
}

/// The list before and after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assembled {
    /// As assembled.
    pub unexpanded: Variables,
    /// Each value expanded against `unexpanded`: once, or with what is in it if that is wanted.
    pub expanded: Variables,
    /// One sentence per variable that could not be used as it was sent.
    pub problems: Vec<String>,
}

/// Entries that decide on feature flags, the stronger last: `[[runners]].environment`, then the
/// payload's variables. For [`FeatureFlags::resolve`].
pub fn flag_sources(environment: &[String], payload: &JobPayload) -> Variables {
    runner_environment(environment)
        .chain(payload.variables.iter().cloned())
        .filter(|variable| FeatureFlag::from_name(&variable.key).is_some())
        .collect()
}

/// Builds the whole list. Script-only variables (row 12 of job-lifecycle §2.1) are not in it.
pub fn assemble(payload: &JobPayload, input: &AssembleInput) -> Assembled {
    let mut list: Vec<Variable> = input.flags.variables().collect();
    let image = payload
        .image
        .as_ref()
        .map_or("", |image| image.name.as_str());
    if !image.is_empty() {
        list.push(Variable::internal_public("CI_JOB_IMAGE", image));
    }
    list.push(Variable {
        internal: true,
        ..Variable::new("CI_RUNNER_SHORT_TOKEN", &input.runner_short_token)
    });
    // Flags in the environment have been resolved; exported is the resolved value.
    list.extend(runner_environment(&input.environment).filter(is_no_flag));
    list.extend(runner_facts(input));
    list.extend(tls_files(&input.tls));

    let mut problems = Vec::new();
    for variable in payload
        .variables
        .iter()
        .filter(|variable| is_no_flag(variable))
    {
        if variable.key.is_empty() {
            problems.push("a job variable without a key is ignored".to_owned());
        } else {
            list.push(variable.clone());
        }
    }

    list.push(Variable::internal_public(
        "CI_DISPOSABLE_ENVIRONMENT",
        "true",
    ));
    list.push(Variable::internal_public(
        "CI_RUNNER_VERSION",
        &input.runner_version,
    ));
    list.push(Variable::internal_public(
        "CI_RUNNER_REVISION",
        &input.runner_revision,
    ));
    list.push(Variable::internal_public(
        "CI_RUNNER_EXECUTABLE_ARCH",
        &input.executable_arch,
    ));
    list.extend(input.secrets.iter().cloned());
    list.push(Variable::internal_public(TMP_DIR_VARIABLE, &input.tmp_dir));
    if let Some(network) = &input.network_name {
        list.push(Variable::internal_public("CI_BUILD_NETWORK_NAME", network));
    }

    problems.dedup();
    let unexpanded = Variables::from(list);
    let (expanded, faults) = if input.nested {
        unexpanded.expanded_nested()
    } else {
        unexpanded.expanded_reporting()
    };
    problems.extend(faults);
    Assembled {
        unexpanded,
        expanded,
        problems,
    }
}

fn is_no_flag(variable: &Variable) -> bool {
    FeatureFlag::from_name(&variable.key).is_none()
}

fn runner_environment(environment: &[String]) -> impl Iterator<Item = Variable> {
    environment
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| Variable {
            internal: true,
            ..Variable::new(key, value)
        })
}

/// Row 4 of job-lifecycle §2.1.
fn runner_facts(input: &AssembleInput) -> [Variable; 7] {
    [
        Variable::internal_public("CI_BUILDS_DIR", &input.builds_dir),
        Variable::internal_public("CI_PROJECT_DIR", &input.project_dir),
        Variable::internal_public("CI_CONCURRENT_ID", input.concurrent_id.to_string()),
        Variable::internal_public(
            "CI_CONCURRENT_PROJECT_ID",
            input.concurrent_project_id.to_string(),
        ),
        Variable::internal_public("CI_SERVER", "yes"),
        Variable::internal_public(JobStatus::VARIABLE, JobStatus::Running.as_str()),
        Variable::internal_public("CI_JOB_TIMEOUT", input.timeout.as_secs().to_string()),
    ]
}

fn tls_files(tls: &TlsFiles) -> impl Iterator<Item = Variable> {
    let file = |key: &str, pem: &str, public| Variable {
        file: true,
        public,
        internal: true,
        ..Variable::new(key, pem)
    };
    [
        tls.ca
            .as_deref()
            .map(|pem| file("CI_SERVER_TLS_CA_FILE", pem, true)),
        tls.cert
            .as_deref()
            .map(|pem| file("CI_SERVER_TLS_CERT_FILE", pem, true)),
        tls.key
            .as_ref()
            .map(|pem| file("CI_SERVER_TLS_KEY_FILE", pem.expose(), false)),
    ]
    .into_iter()
    .flatten()
}
