//! Where sources and temporary files are inside the containers (job-lifecycle §4.1, docker-executor §4.4).

use gantry_config::Naming;
use gantry_container::{VolumeDefinition, clean_path, is_below};
use gantry_job::{Cause, GitStrategy, JobPayload, JobSettings};

use crate::{
    Inputs,
    resolve::configuration,
    url::{RepositoryUrl, percent_decode},
};

/// Whether `builds_dir` is, or lies in, the destination of a host directory or named volume of the configuration: jobs share such a
/// directory, so their paths tell them apart. Also checks `builds_dir` and every entry of `volumes`.
pub(crate) fn builds_are_shared(inputs: &Inputs<'_>) -> Result<bool, Cause> {
    let builds = &inputs.runner.builds_dir;
    if !builds.starts_with('/') {
        return Err(configuration(
            "build directory needs to be an absolute path",
        ));
    }
    if clean_path(builds) == "/" {
        return Err(configuration("build directory needs to be a non-root path"));
    }
    let mut shared = false;
    for text in &inputs.runner.docker.volumes {
        let volume =
            VolumeDefinition::parse(text).map_err(|error| configuration(error.to_string()))?;
        shared |= volume.source.is_some()
            && is_below(&clean_path(builds), &clean_path(&volume.destination));
    }
    Ok(shared)
}

/// `CI_PROJECT_DIR`: absolute and cleaned.
pub(crate) fn project_dir(
    inputs: &Inputs<'_>,
    settings: &JobSettings,
    shared: bool,
) -> Result<String, Cause> {
    let runner = inputs.runner;
    let builds = &runner.builds_dir;
    if let Some(path) = &settings.git_clone_path {
        if !runner.custom_build_dir_enabled() {
            return Err(configuration(
                "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature",
            ));
        }
        // By whole names, so that `/builds/..x` is inside (the peer refuses it).
        let cleaned = clean_path(path);
        if !is_below(&cleaned, &clean_path(builds)) {
            return Err(configuration(format!(
                "the GIT_CLONE_PATH={path:?} has to be within {builds:?}"
            )));
        }
        return Ok(cleaned);
    }
    let slug = project_slug(inputs.payload);
    let own = if shared {
        let n = inputs.numbers.concurrent_project;
        format!("{}/{n}/{slug}", shown_token(inputs))
    } else {
        slug
    };
    let suffix = match settings.git_strategy {
        GitStrategy::Empty => "-empty",
        GitStrategy::Fetch | GitStrategy::Clone | GitStrategy::None => "",
    };
    Ok(clean_path(&format!("{builds}/{own}{suffix}")))
}

/// The runner's token in names that the page describes: its first 8 letters there, 9 in GitLab Runner 19.4.
pub(crate) fn shown_token<'a>(inputs: &Inputs<'a>) -> &'a str {
    let short = inputs.runner.short_token();
    match inputs.host.naming {
        Naming::Documented => short
            .char_indices()
            .nth(8)
            .map_or(short, |(end, _)| &short[..end]),
        Naming::Compatible => short,
    }
}

/// Also the folder of the project's caches. Path of the repository URL without `.git`; `project-<id>` where there is none that can be used.
pub(crate) fn project_slug(payload: &JobPayload) -> String {
    let path = RepositoryUrl::parse(payload.git_info.repo_url.expose())
        .and_then(|url| percent_decode(url.path));
    path.as_deref()
        .map(|path| clean_path(path.strip_suffix(".git").unwrap_or(path)))
        .filter(|slug| !slug.contains("..") && !slug.chars().any(char::is_control))
        .map(|slug| slug.trim_start_matches('/').to_owned())
        .filter(|slug| !slug.is_empty() && slug != ".")
        .unwrap_or_else(|| format!("project-{}", payload.job_info.project_id))
}

/// Every directory below `root` on the way to `path`, parents first, `path` and its `.tmp` included.
pub(crate) fn on_the_way(root: &str, path: &str) -> Vec<String> {
    let root = clean_path(root);
    let Some(below) = path.strip_prefix(&root) else {
        return Vec::new();
    };
    let mut at = root;
    let mut found: Vec<_> = below
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| {
            at = format!("{at}/{part}");
            at.clone()
        })
        .collect();
    found.push(format!("{path}.tmp"));
    found
}

#[cfg(test)]
mod tests;
