//! The `info` block: what this runner is and which job keywords it can carry out (coordinator-api §4).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Product;

/// Sent with every job request and every job update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunnerInfo {
    /// Product name, `gitlab-runner`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Compatible peer version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// `linux`, `darwin`, `windows`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// `amd64`, `arm64`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// `[[runners]].executor`, e.g. `docker`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub executor: String,
    /// `[[runners]].shell` or the executor's default, `bash`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// What jobs may ask for. The server routes by it, so a key is true only if it is kept.
    pub features: Features,
    /// Facts of the config that the server shows.
    pub config: InfoConfig,
    /// Labels of the runner manager (global ones merged with `[[runners]].labels`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl RunnerInfo {
    /// The block for a Docker executor with the features of this release, shell `bash`, no GPUs and no labels.
    #[must_use]
    pub fn docker(product: &Product) -> Self {
        Self {
            name: product.name.clone(),
            version: product.version.clone(),
            revision: product.revision.clone(),
            platform: product.platform.clone(),
            architecture: product.architecture.clone(),
            executor: "docker".to_owned(),
            shell: "bash".to_owned(),
            features: Features::supported(),
            config: InfoConfig::default(),
            labels: BTreeMap::new(),
        }
    }
}

/// `info.config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InfoConfig {
    /// `[runners.docker].gpus`; sent even when empty.
    pub gpus: String,
}

/// Every key of `info.features`; all of them are always sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the wire format is a set of named bools"
)]
pub struct Features {
    /// Job variables are injected.
    pub variables: bool,
    /// `image:` is honoured.
    pub image: bool,
    /// `services:` are honoured.
    pub services: bool,
    /// Artifacts are uploaded and downloaded.
    pub artifacts: bool,
    /// `cache:` is honoured.
    pub cache: bool,
    /// `cache:fallback_keys` is honoured.
    pub fallback_cache_keys: bool,
    /// Jobs share the host's environment (never for Docker).
    pub shared: bool,
    /// Several `artifacts[]` entries (reports).
    pub upload_multiple_artifacts: bool,
    /// `artifact_format` gzip and raw.
    pub upload_raw_artifacts: bool,
    /// The executor can serve sessions; whether a server for them runs shows in the request.
    pub session: bool,
    /// Interactive web terminal.
    pub terminal: bool,
    /// `git_info.refspecs` are fetched.
    pub refspecs: bool,
    /// Masked variables are hidden in the log.
    pub masking: bool,
    /// HTTP proxy to services through the session server.
    pub proxy: bool,
    /// `variables[].raw` is not expanded.
    pub raw_variables: bool,
    /// `artifacts[].exclude` is honoured.
    pub artifacts_exclude: bool,
    /// More than one step besides `after_script` (`release`).
    pub multi_build_steps: bool,
    /// The whole trace is sent again when the server asks (412).
    pub trace_reset: bool,
    /// The final update carries a crc32.
    pub trace_checksum: bool,
    /// The final update carries the trace size.
    pub trace_size: bool,
    /// `secrets:` are resolved by the runner.
    pub vault_secrets: bool,
    /// `Job-Status: canceled` stops the job.
    pub cancelable: bool,
    /// The script's exit code is reported.
    pub return_exit_code: bool,
    /// `services[].variables` are honoured.
    pub service_variables: bool,
    /// `services[].alias` may hold several names.
    pub service_multiple_aliases: bool,
    /// `image.executor_opts` is honoured.
    pub image_executor_opts: bool,
    /// `services[].executor_opts` is honoured.
    pub service_executor_opts: bool,
    /// `Job-Status: canceling` stops the script and runs `after_script`.
    pub cancel_gracefully: bool,
    /// `run:` jobs.
    pub native_steps_integration: bool,
    /// Acceptance is confirmed by `PUT state=running` before the job starts.
    pub two_phase_job_commit: bool,
    /// `inputs` are interpolated by the runner.
    pub job_inputs: bool,
}

impl Features {
    /// What Gantry does today. A key turns true in the change that makes it true.
    #[must_use]
    pub const fn supported() -> Self {
        Self {
            variables: true,
            image: true,
            services: true,
            artifacts: true,
            cache: true,
            fallback_cache_keys: true,
            shared: false,
            upload_multiple_artifacts: true,
            upload_raw_artifacts: true,
            session: true,
            terminal: true,
            refspecs: true,
            masking: true,
            proxy: false,
            raw_variables: true,
            artifacts_exclude: true,
            multi_build_steps: true,
            trace_reset: true,
            trace_checksum: true,
            trace_size: true,
            vault_secrets: true,
            cancelable: true,
            return_exit_code: true,
            service_variables: true,
            service_multiple_aliases: true,
            image_executor_opts: true,
            service_executor_opts: true,
            cancel_gracefully: true,
            native_steps_integration: false,
            two_phase_job_commit: true,
            job_inputs: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_feature_key_is_sent_and_only_what_is_kept_is_claimed() {
        let sent = serde_json::to_value(Features::supported()).unwrap();
        assert_eq!(
            sent,
            json!({
                "variables": true, "image": true, "services": true, "artifacts": true, "cache": true,
                "fallback_cache_keys": true, "shared": false, "upload_multiple_artifacts": true,
                "upload_raw_artifacts": true, "session": true, "terminal": true, "refspecs": true,
                "masking": true, "proxy": false, "raw_variables": true, "artifacts_exclude": true,
                "multi_build_steps": true, "trace_reset": true, "trace_checksum": true, "trace_size": true,
                "vault_secrets": true, "cancelable": true, "return_exit_code": true, "service_variables": true,
                "service_multiple_aliases": true, "image_executor_opts": true, "service_executor_opts": true,
                "cancel_gracefully": true, "native_steps_integration": false, "two_phase_job_commit": true,
                "job_inputs": true,
            })
        );
    }

    #[test]
    fn empty_strings_and_labels_are_left_out_but_config_and_features_stay() {
        let mut info = RunnerInfo::docker(&Product::default());
        info.revision.clear();
        let sent = serde_json::to_value(&info).unwrap();
        assert!(sent.get("revision").is_none());
        assert!(sent.get("labels").is_none());
        assert_eq!(sent["config"], json!({"gpus": ""}));
        assert_eq!(sent["executor"], "docker");
        assert!(sent["features"].is_object());
    }
}
