//! Stages of a job in order (job-lifecycle §1.2), and the sources request (job-lifecycle §4).

use gantry_agent::{
    BaseUrl, CleanupRequest, FileVariable, GitStrategy as AgentStrategy, JobCleanup, ObjectFormat,
    SourcesRequest, TlsFiles, Variable,
};
use gantry_job::{FeatureFlag, GitStrategy, Stage, variable::file_path};

use crate::{
    Inputs, PlannedStage, ScriptWork, Sources, StageWork,
    resolve::{Resolved, repository_path},
};

/// User name that goes with a job token.
const TOKEN_USER: &str = "gitlab-ci-token";

/// Whether a stage needs the helper: git, or something to remove from storage that is kept.
pub(crate) fn need_helper(inputs: &Inputs<'_>, resolved: &Resolved, project_is_kept: bool) -> bool {
    match inputs.sources {
        Sources::WorkingTree => false,
        Sources::Git => resolved.settings.git_strategy.uses_repository() || project_is_kept,
    }
}

pub(crate) fn plan(inputs: &Inputs<'_>, resolved: &Resolved, helper: bool) -> Vec<PlannedStage> {
    let settings = &resolved.settings;
    let runner = inputs.runner;
    let mut stages = vec![PlannedStage {
        stage: Stage::PrepareScript,
        work: StageWork::Lines(vec![format!(
            "Running on {} via {}...",
            resolved.project_unique, inputs.host.name
        )]),
        attempts: 1,
    }];
    stages.push(PlannedStage {
        stage: Stage::GetSources,
        work: match (inputs.sources, helper) {
            (Sources::WorkingTree, _) => {
                StageWork::Lines(vec![notice("Using the working tree as it is")])
            }
            (Sources::Git, true) => StageWork::Sources(Box::new(sources(inputs, resolved))),
            (Sources::Git, false) => StageWork::Lines(without_repository(settings.git_strategy)),
        },
        attempts: settings.get_sources_attempts,
    });
    for step in resolved.payload.script_steps() {
        let expand_lines = step.name == "release";
        stages.push(PlannedStage {
            stage: Stage::of_step(&step.name),
            work: StageWork::Script(ScriptWork {
                lines: step
                    .script
                    .iter()
                    .map(|line| {
                        if expand_lines {
                            resolved.variables.expand(line)
                        } else {
                            line.clone()
                        }
                    })
                    .collect(),
                pre_build_script: runner.pre_build_script.clone(),
                post_build_script: runner.post_build_script.clone(),
            }),
            attempts: settings.executor_job_section_attempts,
        });
    }
    if let Some(step) = resolved.payload.after_script() {
        stages.push(PlannedStage {
            stage: Stage::AfterScript,
            work: StageWork::Script(ScriptWork {
                lines: step.script.clone(),
                pre_build_script: String::new(),
                post_build_script: String::new(),
            }),
            attempts: settings.executor_job_section_attempts,
        });
    }
    stages.push(PlannedStage {
        stage: Stage::CleanupFileVariables,
        work: if helper {
            StageWork::Cleanup(cleanup(inputs, resolved))
        } else {
            StageWork::Lines(Vec::new())
        },
        attempts: 1,
    });
    stages
}

fn notice(text: &str) -> String {
    format!("\x1b[32;1m{text}\x1b[0;m")
}

/// What the peer prints where there is no repository (job-lifecycle §4.2).
fn without_repository(strategy: GitStrategy) -> Vec<String> {
    let first = if strategy == GitStrategy::Empty {
        "Skipping Git repository setup and creating an empty build directory"
    } else {
        "Skipping Git repository setup"
    };
    [
        first,
        "Skipping Git checkout",
        "Skipping Git submodules setup",
    ]
    .map(notice)
    .to_vec()
}

fn sources(inputs: &Inputs<'_>, resolved: &Resolved) -> SourcesRequest {
    let git = &resolved.payload.git_info;
    let settings = &resolved.settings;
    let flags = &resolved.flags;
    let runner = inputs.runner;
    let directories = &resolved.directories;
    let remote = remote(inputs, resolved);
    let scripts = |script: &str| {
        if script.is_empty() {
            Vec::new()
        } else {
            vec![script.to_owned()]
        }
    };
    SourcesRequest {
        strategy: agent_strategy(settings.git_strategy),
        builds_dir: directories.builds.clone().into(),
        project_dir: directories.project.clone().into(),
        tmp_dir: directories.temporary.clone().into(),
        repo_url: remote.url,
        username: remote.username,
        token: remote.password.into(),
        base_urls: remote.base_urls,
        git_ref: git.ref_name.clone(),
        sha: git.sha.clone(),
        refspecs: git.refspecs.clone(),
        depth: u32::try_from(settings.git_depth).unwrap_or(u32::MAX),
        object_format: object_format(&git.repo_object_format),
        clean_flags: settings.git_clean_flags.clone(),
        fetch_flags: settings.git_fetch_extra_flags.clone(),
        checkout: settings.git_checkout,
        clean_git_config: clean_git_config(inputs, resolved),
        safe_directory: runner.safe_directory_checkout.unwrap_or(true),
        user_agent: format!(
            "gitlab-runner {} {}",
            inputs.host.version, inputs.host.executable_arch
        ),
        correlation_id: flags
            .is_on(FeatureFlag::UseGitalyCorrelationId)
            .then(|| inputs.correlation_id.map(str::to_owned))
            .flatten(),
        bundle_uri: flags.is_on(FeatureFlag::UseGitBundleUris),
        proactive_auth: flags.is_on(FeatureFlag::UseGitProactiveAuth),
        lfs_skip: settings.git_lfs_skip_smudge,
        tls: TlsFiles {
            ca: inputs.tls.ca.clone(),
            cert: inputs.tls.cert.clone(),
            key: inputs.tls.key.as_ref().map(|key| key.expose().into()),
        },
        variables: resolved
            .variables
            .iter()
            .map(|variable| Variable {
                key: variable.key.clone(),
                value: resolved
                    .variables
                    .program_value(variable)
                    .into_owned()
                    .into(),
            })
            .collect(),
        files: resolved
            .variables
            .iter()
            .filter(|variable| variable.file)
            .map(|variable| FileVariable {
                path: file_path(&directories.temporary, &variable.key).into(),
                content: variable.value.clone().into(),
            })
            .collect(),
        stale_files: ["gitlab_runner_env", "masking.db"]
            .map(|name| file_path(&directories.temporary, name).into())
            .to_vec(),
        pre_get_sources: scripts(&runner.pre_get_sources_script),
        post_get_sources: scripts(&runner.post_get_sources_script),
    }
}

fn cleanup(inputs: &Inputs<'_>, resolved: &Resolved) -> CleanupRequest {
    let directories = &resolved.directories;
    let settings = &resolved.settings;
    CleanupRequest {
        builds_dir: directories.builds.clone().into(),
        project_dir: directories.project.clone().into(),
        tmp_dir: directories.temporary.clone().into(),
        files: resolved
            .variables
            .iter()
            .filter(|variable| variable.file)
            .map(|variable| file_path(&directories.temporary, &variable.key).into())
            .collect(),
        clean_git_config: clean_git_config(inputs, resolved),
        job_cleanup: resolved
            .flags
            .is_on(FeatureFlag::EnableJobCleanup)
            .then(|| JobCleanup {
                strategy: agent_strategy(settings.git_strategy),
                clean_flags: settings.git_clean_flags.clone(),
                object_format: object_format(&resolved.payload.git_info.repo_object_format),
            }),
    }
}

fn clean_git_config(inputs: &Inputs<'_>, resolved: &Resolved) -> bool {
    inputs
        .runner
        .clean_git_config
        .unwrap_or(resolved.settings.git_strategy != GitStrategy::None)
}

fn agent_strategy(strategy: GitStrategy) -> AgentStrategy {
    match strategy {
        GitStrategy::Fetch => AgentStrategy::Fetch,
        GitStrategy::Clone => AgentStrategy::Clone,
        GitStrategy::None => AgentStrategy::None,
        GitStrategy::Empty => AgentStrategy::Empty,
    }
}

fn object_format(name: &str) -> ObjectFormat {
    if name == "sha256" {
        ObjectFormat::Sha256
    } else {
        ObjectFormat::Sha1
    }
}

struct Remote {
    url: String,
    username: String,
    password: String,
    base_urls: Vec<BaseUrl>,
}

/// The remote without credentials, the credentials, and URL rewrites without credentials (job-lifecycle §4.4).
fn remote(inputs: &Inputs<'_>, resolved: &Resolved) -> Remote {
    let repo_url = resolved.payload.git_info.repo_url.expose();
    let (url, user, password) = split_credentials(repo_url);
    let token = resolved.payload.token.expose();
    let mut remote = Remote {
        url,
        username: if user.is_empty() {
            TOKEN_USER.to_owned()
        } else {
            user
        },
        password: if password.is_empty() {
            token.to_owned()
        } else {
            password
        },
        base_urls: Vec::new(),
    };
    let Some(clone_url) = inputs
        .runner
        .clone_url
        .as_deref()
        .filter(|url| url.contains("://"))
    else {
        return remote;
    };
    let (base, user, _) = split_credentials(clone_url);
    let base = base.trim_end_matches('/').to_owned();
    let mut path = resolved.variables.value("CI_PROJECT_PATH").to_owned();
    if path.is_empty() {
        path = repository_path(repo_url)
            .unwrap_or_default()
            .trim_end_matches(".git")
            .to_owned();
    }
    if base.starts_with("ssh://") {
        let user = if user.is_empty() {
            "git".to_owned()
        } else {
            user
        };
        let host = base.trim_start_matches("ssh://");
        remote.url = format!("ssh://{user}@{host}/{path}.git");
        remote.password = String::new();
        return remote;
    }
    // Submodules and scripts that name the server's public address are sent the same way.
    if let Some(origin) = origin_of(&remote.url) {
        remote.base_urls.push(BaseUrl {
            url: format!("{base}/"),
            instead_of: format!("{origin}/"),
        });
    }
    remote.url = format!("{base}/{path}.git");
    remote.username = TOKEN_USER.to_owned();
    remote.password = token.to_owned();
    remote
}

fn origin_of(url: &str) -> Option<&str> {
    let start = url.find("://")? + 3;
    let end = url[start..]
        .find('/')
        .map_or(url.len(), |slash| start + slash);
    Some(&url[..end])
}

/// URL without user info, user, password (both percent-decoded by no one: GitLab's tokens need none).
fn split_credentials(url: &str) -> (String, String, String) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return (url.to_owned(), String::new(), String::new());
    };
    let host_end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..host_end].rfind('@') else {
        return (url.to_owned(), String::new(), String::new());
    };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    (
        format!("{scheme}://{}", &rest[at + 1..]),
        user.to_owned(),
        password.to_owned(),
    )
}
