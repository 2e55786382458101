//! What the helper is asked for artifacts (job-lifecycle §6, coordinator-api §10).

use std::path::PathBuf;

use gantry_agent::{
    ArtifactEntry, Coordinator, Dependency, DownloadArtifactsRequest, Provenance, Selection,
    TlsFiles, UploadArtifactsRequest,
};
use gantry_job::{FeatureFlag, payload::Artifact, variable::parse_bool};

use crate::{
    ArtifactsAt, GIVEN_ARTIFACTS, Inputs, KEPT_ARTIFACTS, StageWork, cache::Ended,
    resolve::Resolved, url::RepositoryUrl,
};

/// Makes a provenance statement.
const PROVENANCE: &str = "RUNNER_GENERATE_ARTIFACTS_METADATA";

/// `download_artifacts`, if an earlier job has any.
pub(crate) fn download(inputs: &Inputs<'_>, resolved: &Resolved) -> Option<StageWork> {
    let dependencies: Vec<_> = resolved
        .payload
        .dependencies
        .iter()
        .filter(|dependency| !dependency.artifacts_file.filename.is_empty())
        .map(|dependency| Dependency {
            id: dependency.id.unsigned_abs(),
            name: dependency.name.clone(),
            token: dependency.token.expose().into(),
        })
        .collect();
    if dependencies.is_empty() {
        return None;
    }
    Some(StageWork::DownloadArtifacts(Box::new(
        DownloadArtifactsRequest {
            project_dir: resolved.directories.project.clone().into(),
            coordinator: coordinator(inputs),
            folder: folder(inputs, GIVEN_ARTIFACTS),
            dependencies,
            direct_download: resolved.flags.is_on(FeatureFlag::UseDirectDownload),
            parallel_transfer: resolved
                .flags
                .is_on(FeatureFlag::UseParallelArtifactTransfer),
            ..DownloadArtifactsRequest::default()
        },
    )))
}

/// `upload_artifacts_on_success` or `upload_artifacts_on_failure`, if an entry's `when` fits.
pub(crate) fn upload(inputs: &Inputs<'_>, resolved: &Resolved, ended: Ended) -> Option<StageWork> {
    let runner = inputs.runner;
    if runner.url.is_empty() && inputs.artifacts == ArtifactsAt::Server {
        return None;
    }
    let entries: Vec<_> = resolved
        .payload
        .artifacts
        .iter()
        .filter(|artifact| is_wanted(artifact) && ended.wants(&artifact.when))
        .map(|artifact| ArtifactEntry {
            name: artifact.name.clone(),
            selection: Selection {
                paths: artifact.paths.clone(),
                exclude: artifact.exclude.clone(),
                untracked: artifact.untracked,
            },
            format: artifact.artifact_format.clone(),
            artifact_type: artifact.artifact_type.clone(),
            expire_in: artifact.expire_in.clone(),
        })
        .collect();
    if entries.is_empty() {
        return None;
    }
    Some(StageWork::UploadArtifacts(Box::new(
        UploadArtifactsRequest {
            project_dir: resolved.directories.project.clone().into(),
            coordinator: coordinator(inputs),
            folder: folder(inputs, KEPT_ARTIFACTS),
            job_id: inputs.payload.id.unsigned_abs(),
            token: inputs.payload.token.expose().into(),
            entries,
            timeout_seconds: runner.artifact_upload_timeout.as_secs(),
            response_header_timeout_seconds: runner.artifact_response_header_timeout.as_secs(),
            provenance: provenance(inputs, resolved),
            variables: Vec::new(),
        },
    )))
}

/// Whether an entry asks for anything. One with exclusions only does, and uploads nothing (job-lifecycle §6.3).
fn is_wanted(artifact: &Artifact) -> bool {
    artifact.untracked || !artifact.paths.is_empty() || !artifact.exclude.is_empty()
}

/// The directory for a job without a server.
fn folder(inputs: &Inputs<'_>, path: &str) -> Option<PathBuf> {
    (inputs.artifacts == ArtifactsAt::Here).then(|| path.into())
}

fn coordinator(inputs: &Inputs<'_>) -> Coordinator {
    Coordinator {
        url: inputs.runner.url.clone(),
        tls: TlsFiles {
            ca: inputs.tls.ca.clone(),
            cert: inputs.tls.cert.clone(),
            key: inputs.tls.key.as_ref().map(|key| key.expose().into()),
        },
        user_agent: format!(
            "gitlab-runner {} {}",
            inputs.host.version, inputs.host.executable_arch
        ),
    }
}

/// What is known of it now; the times are the executor's.
fn provenance(inputs: &Inputs<'_>, resolved: &Resolved) -> Option<Provenance> {
    let variables = &resolved.variables;
    if parse_bool(variables.value(PROVENANCE)) != Some(true) {
        return None;
    }
    let payload = &resolved.payload;
    let repo_url = RepositoryUrl::parse(payload.git_info.repo_url.expose());
    let schema = variables.value("SLSA_PROVENANCE_SCHEMA_VERSION");
    Some(Provenance {
        runner_id: variables.value("CI_RUNNER_ID").to_owned(),
        repo_url: repo_url.map(|url| url.clean()).unwrap_or_default(),
        repo_digest: payload.git_info.sha.clone(),
        job_name: payload.job_info.name.clone(),
        executor_name: "docker".to_owned(),
        runner_name: inputs.runner.name.clone(),
        started_at: String::new(),
        ended_at: String::new(),
        schema_version: if schema.is_empty() { "v1" } else { schema }.to_owned(),
        parameters: payload
            .variables
            .iter()
            .map(|variable| variable.key.clone())
            .collect(),
    })
}

#[cfg(test)]
mod tests;
