//! Labels (docker-executor §8) and the address of the job's page.

use gantry_container::Labels;
use gantry_job::{JobPayload, duration};

use crate::{Inputs, LABEL_PREFIX, STATE_LABEL, resolve::Resolved, url::RepositoryUrl};

/// Default label set, and whose it is.
pub(crate) fn default_set(inputs: &Inputs<'_>, resolved: &Resolved) -> Labels {
    let payload = inputs.payload;
    let git = &payload.git_info;
    let pipeline = match payload.job_info.pipeline_id {
        0 => resolved.variables.value("CI_PIPELINE_ID").to_owned(),
        id => id.to_string(),
    };
    let mut labels = Labels::new();
    for (key, value) in [
        ("job.id", payload.id.to_string()),
        ("job.url", job_url(payload)),
        ("job.sha", git.sha.clone()),
        ("job.before_sha", git.before_sha.clone()),
        ("job.ref", git.ref_name.clone()),
        ("job.timeout", duration::format(payload.timeout())),
        ("project.id", payload.job_info.project_id.to_string()),
        (
            "project.runner_id",
            inputs.numbers.concurrent_project.to_string(),
        ),
        ("pipeline.id", pipeline),
        ("runner.id", resolved.short_token.clone()),
        ("runner.local_id", inputs.numbers.concurrent.to_string()),
        ("runner.system_id", inputs.host.system_id.clone()),
        ("managed", "true".to_owned()),
    ] {
        set(&mut labels, key, &value);
    }
    labels.insert(STATE_LABEL.to_owned(), inputs.host.state_id.clone());
    labels
}

/// The set with `type` added.
pub(crate) fn typed(labels: &Labels, kind: &str) -> Labels {
    let mut labels = labels.clone();
    set(&mut labels, "type", kind);
    labels
}

/// Sets one of the peer's labels by its key without prefix.
pub(crate) fn set(labels: &mut Labels, key: &str, value: &str) {
    labels.insert(format!("{LABEL_PREFIX}{key}"), value.to_owned());
}

/// The job's page: repository URL without credentials and `.git`, and `/-/jobs/<id>`.
///
/// A repository that is not named by a URL gives the last part alone, so that no text of unknown form, which may hold credentials,
/// is shown.
pub fn job_url(payload: &JobPayload) -> String {
    let repository = RepositoryUrl::parse(payload.git_info.repo_url.expose())
        .map(|url| format!("{}{}", url.origin(), url.bare_path()))
        .unwrap_or_default();
    format!("{repository}/-/jobs/{}", payload.id)
}

#[cfg(test)]
mod tests;
