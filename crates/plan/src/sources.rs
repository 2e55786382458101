//! What the helper is asked for sources and for the cleanup after the job (job-lifecycle §4).

use gantry_agent::{
    BaseUrl, CleanupRequest, FileVariable, GitStrategy as AgentStrategy, JobCleanup, ObjectFormat,
    SourcesRequest, Submodules, TlsFiles, Variable,
};
use gantry_job::{
    FeatureFlag, GitStrategy, JobSettings, SubmoduleStrategy, Variables, assemble::GITLAB_ENV_FILE,
    variable::file_path,
};

use crate::{Inputs, resolve::Resolved, url::RepositoryUrl};

/// User name that goes with a job token.
const TOKEN_USER: &str = "gitlab-ci-token";
/// Files of an earlier job that change a later one (job-lifecycle §3.5).
const STALE_FILES: [&str; 2] = ["gitlab_runner_env", "masking.db"];
/// git takes no greater depth, and this one for the whole history.
const GREATEST_DEPTH: u64 = 0x7fff_ffff;

pub(crate) fn sources(inputs: &Inputs<'_>, resolved: &Resolved) -> SourcesRequest {
    let git = &resolved.payload.git_info;
    let settings = &resolved.settings;
    let flags = &resolved.flags;
    let runner = inputs.runner;
    let directories = &resolved.directories;
    let variables = &resolved.variables;
    let remote = remote(inputs, resolved);
    let script = |script: &str| (!script.is_empty()).then(|| script.to_owned());
    let hook = |name: &str| {
        let hooks = resolved.payload.hooks.iter();
        hooks
            .filter(|hook| hook.name == name)
            .flat_map(|hook| hook.script.iter().cloned())
            .collect::<Vec<_>>()
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
        credential_hosts: remote.credential_hosts,
        global_credentials: flags.is_on(FeatureFlag::GitUrlsWithoutTokens),
        git_ref: git.ref_name.clone(),
        sha: git.sha.clone(),
        refspecs: git.refspecs.clone(),
        depth: depth(settings.git_depth),
        object_format: object_format(&git.repo_object_format),
        clean_flags: settings.git_clean_flags.clone(),
        fetch_flags: settings.git_fetch_extra_flags.clone(),
        native_clone: flags.is_on(FeatureFlag::UseGitNativeClone),
        clone_flags: settings.git_clone_extra_flags.clone(),
        submodules: submodules(settings),
        checkout: settings.git_checkout,
        clean_git_config: clean_git_config(inputs, resolved),
        safe_directory: runner.safe_directory_checkout.unwrap_or(true),
        user_agent: format!(
            "gitlab-runner {} {}",
            inputs.host.version, inputs.host.executable_arch
        ),
        correlation_id: inputs
            .correlation_id
            .filter(|_| flags.is_on(FeatureFlag::UseGitalyCorrelationId))
            .map(str::to_owned),
        bundle_uri: flags.is_on(FeatureFlag::UseGitBundleUris),
        proactive_auth: flags.is_on(FeatureFlag::UseGitProactiveAuth),
        lfs_skip: settings.git_lfs_skip_smudge,
        tls: TlsFiles {
            ca: inputs.tls.ca.clone(),
            cert: inputs.tls.cert.clone(),
            key: inputs.tls.key.as_ref().map(|key| key.expose().into()),
        },
        variables: variables
            .iter()
            .map(|variable| Variable {
                key: variable.key.clone(),
                value: variables.program_value(variable).into_owned().into(),
            })
            .chain([Variable {
                key: "GITLAB_ENV".to_owned(),
                value: file_path(&directories.temporary, GITLAB_ENV_FILE).into(),
            }])
            .collect(),
        files: file_variables(variables)
            .map(|variable| FileVariable {
                path: file_path(&directories.temporary, &variable.key).into(),
                content: variable.value.clone().into(),
            })
            .collect(),
        stale_files: STALE_FILES
            .map(|name| file_path(&directories.temporary, name).into())
            .to_vec(),
        pre_get_sources: script(&runner.pre_get_sources_script)
            .into_iter()
            .chain(hook("pre_get_sources_script"))
            .collect(),
        post_get_sources: hook("post_get_sources_script")
            .into_iter()
            .chain(script(&runner.post_get_sources_script))
            .collect(),
        debug_trace: settings.debug_trace,
    }
}

pub(crate) fn cleanup(inputs: &Inputs<'_>, resolved: &Resolved) -> CleanupRequest {
    let directories = &resolved.directories;
    let settings = &resolved.settings;
    let clean_up = resolved.flags.is_on(FeatureFlag::EnableJobCleanup);
    CleanupRequest {
        builds_dir: directories.builds.clone().into(),
        project_dir: directories.project.clone().into(),
        tmp_dir: directories.temporary.clone().into(),
        files: file_variables(&resolved.variables)
            .map(|variable| file_path(&directories.temporary, &variable.key).into())
            .collect(),
        clean_git_config: clean_git_config(inputs, resolved),
        job_cleanup: clean_up.then(|| JobCleanup {
            strategy: agent_strategy(settings.git_strategy),
            clean_flags: settings.git_clean_flags.clone(),
            object_format: object_format(&resolved.payload.git_info.repo_object_format),
        }),
    }
}

/// File variables that get a file: the last of each key, and only keys that are names, so that no key is a path.
fn file_variables(variables: &Variables) -> impl Iterator<Item = &gantry_job::Variable> {
    variables.iter().filter(|variable| {
        let last = variables.get(&variable.key);
        variable.file
            && variable.key_is_file_name()
            && last.is_some_and(|last| std::ptr::eq(last, *variable))
    })
}

fn clean_git_config(inputs: &Inputs<'_>, resolved: &Resolved) -> bool {
    let own = inputs.runner.clean_git_config;
    own.unwrap_or(resolved.settings.git_strategy != GitStrategy::None)
}

fn depth(depth: u64) -> u32 {
    u32::try_from(depth.min(GREATEST_DEPTH)).unwrap_or(u32::MAX)
}

fn submodules(settings: &JobSettings) -> Option<Submodules> {
    let recursive = match settings.git_submodule_strategy {
        // The plan has refused an invalid one.
        SubmoduleStrategy::None | SubmoduleStrategy::Invalid => return None,
        SubmoduleStrategy::Normal => false,
        SubmoduleStrategy::Recursive => true,
    };
    Some(Submodules {
        recursive,
        paths: settings.git_submodule_paths.clone(),
        depth: depth(settings.git_submodule_depth),
        update_flags: settings.git_submodule_update_flags.clone(),
    })
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
    match name {
        "sha256" => ObjectFormat::Sha256,
        _ => ObjectFormat::Sha1,
    }
}

struct Remote {
    /// Without credentials.
    url: String,
    username: String,
    password: String,
    base_urls: Vec<BaseUrl>,
    credential_hosts: Vec<String>,
}

/// The remote, its credentials, and rewrites of other URLs of the server (job-lifecycle §4.4).
fn remote(inputs: &Inputs<'_>, resolved: &Resolved) -> Remote {
    let payload = &resolved.payload;
    let token = payload.token.expose();
    let text = payload.git_info.repo_url.expose();
    let repository = RepositoryUrl::parse(text);
    let clone_url = inputs.runner.clone_url.as_deref();
    let clone_url = clone_url.and_then(RepositoryUrl::parse);
    // Where the server is, as submodules name it.
    let base = clone_url
        .or_else(|| RepositoryUrl::parse(&inputs.runner.url))
        .filter(RepositoryUrl::is_http);
    let mut remote = match (clone_url, repository) {
        (Some(base), repository) => cloned_from(base, repository, resolved),
        (None, None) => Remote::of_url(text.to_owned()),
        (None, Some(url)) if !url.is_http() => {
            // The user is part of an ssh address.
            let user = url
                .user()
                .map(|user| format!("{user}@"))
                .unwrap_or_default();
            Remote::of_url(format!("{}://{user}{}{}", url.scheme, url.host, url.path))
        }
        (None, Some(url)) => Remote {
            username: url.user().unwrap_or_else(|| TOKEN_USER.to_owned()),
            password: url.password().unwrap_or_else(|| token.to_owned()),
            ..Remote::of_url(url.clean())
        },
    };
    if let Some(base) = base {
        if resolved.settings.git_submodule_force_https {
            remote
                .base_urls
                .extend(https_for_ssh(&base, &resolved.variables));
        }
        let origin = base.origin();
        let known = RepositoryUrl::parse(&remote.url).is_some_and(|url| url.origin() == origin);
        if !known {
            remote.credential_hosts.push(origin);
            if remote.password.is_empty() {
                token.clone_into(&mut remote.password);
            }
        }
    }
    remote
}

impl Remote {
    /// Without credentials.
    fn of_url(url: String) -> Self {
        Self {
            url,
            username: TOKEN_USER.to_owned(),
            password: String::new(),
            base_urls: Vec::new(),
            credential_hosts: Vec::new(),
        }
    }
}

/// `GIT_SUBMODULE_FORCE_HTTPS`: ssh addresses of the server lead to its HTTP address.
fn https_for_ssh(base: &RepositoryUrl<'_>, variables: &Variables) -> Vec<BaseUrl> {
    let value = |names: [&'static str; 2]| {
        let values = names.map(|name| variables.value(name));
        values.into_iter().find(|value| !value.is_empty())
    };
    let Some(host) = value(["CI_SERVER_SHELL_SSH_HOST", "CI_SERVER_HOST"]) else {
        return Vec::new();
    };
    let url = format!("{}{}", base.origin(), base.path.trim_end_matches('/'));
    match variables.value("CI_SERVER_SHELL_SSH_PORT") {
        "" | "22" => vec![
            BaseUrl {
                url: format!("{url}/"),
                instead_of: format!("git@{host}:"),
            },
            BaseUrl {
                url,
                instead_of: format!("ssh://git@{host}"),
            },
        ],
        port => vec![BaseUrl {
            url,
            instead_of: format!("ssh://git@{host}:{port}"),
        }],
    }
}

/// The remote below `clone_url`.
fn cloned_from(
    base: RepositoryUrl<'_>,
    repository: Option<RepositoryUrl<'_>>,
    resolved: &Resolved,
) -> Remote {
    let project = match resolved.variables.value("CI_PROJECT_PATH") {
        "" => repository.map_or("", |url| url.bare_path().trim_matches('/')),
        path => path,
    };
    let folder = base.path.trim_end_matches('/');
    if !base.is_http() {
        let user = base.user().unwrap_or_else(|| "git".to_owned());
        return Remote::of_url(format!(
            "{}://{user}@{}{folder}/{project}.git",
            base.scheme, base.host
        ));
    }
    let origin = base.origin();
    let mut remote = Remote {
        password: resolved.payload.token.expose().to_owned(),
        ..Remote::of_url(format!("{origin}{folder}/{project}.git"))
    };
    // The peer gives the token to both addresses; here the other one leads to the first, which is set where the other one cannot be
    // reached. GitLab may live in a folder there.
    if let Some(public) = repository.filter(|url| url.is_http() && url.origin() != origin) {
        let above = public.bare_path().strip_suffix(&*format!("/{project}"));
        remote.base_urls.push(BaseUrl {
            url: format!("{origin}{folder}/"),
            instead_of: format!("{}{}/", public.origin(), above.unwrap_or_default()),
        });
    }
    remote
}

#[cfg(test)]
mod tests;
