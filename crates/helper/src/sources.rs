//! `get_sources`: the repository into the project directory, in the order of job-lifecycle §4.3.
//!
//! The token reaches git only through the environment: a credential helper in the included configuration answers with
//! `$CI_JOB_TOKEN`, which scripts of the build container have, too.

mod kept;
mod native_clone;
mod remote;
mod server;
mod steps;
mod submodules;

use std::{fs, io, path::Path};

use gantry_agent::{FileVariable, GitStrategy, SourcesRequest};

use self::steps::Steps;
pub(crate) use self::{kept::clear, remote::Remote};
use crate::{
    files,
    git_config::{self, EXTERNAL_VARIABLE, Global},
    hygiene,
    script::{self, Flow},
    stage::{Stage, StageError, text},
};

impl From<io::Error> for StageError {
    /// Errors of [`files`] name their file.
    fn from(error: io::Error) -> Self {
        Self::own(error.to_string())
    }
}

/// Does the stage.
pub(crate) fn run(stage: &mut Stage, request: &SourcesRequest) -> Result<(), StageError> {
    check(request)?;
    prepare(stage, request)?;
    match request.strategy {
        GitStrategy::Fetch | GitStrategy::Clone => fetch(stage, request),
        GitStrategy::None => {
            stage.notice("Skipping Git repository setup");
            fs::create_dir_all(&request.project_dir).map_err(|error| {
                files::at("cannot create directory", &request.project_dir, &error)
            })?;
            skip_rest(stage);
            credentials_only(request)
        }
        GitStrategy::Empty => {
            stage.notice("Skipping Git repository setup and creating an empty build directory");
            files::remove(&request.project_dir)?;
            files::real_dir(&request.project_dir)?;
            skip_rest(stage);
            credentials_only(request)
        }
    }
}

/// Without a repository scripts have credentials all the same, if they are to be had outside of repositories.
fn credentials_only(request: &SourcesRequest) -> Result<(), StageError> {
    if !request.global_credentials {
        return Ok(());
    }
    let external = git_config::external_path(&request.tmp_dir);
    let remote = Remote::parse(&request.repo_url);
    let config = git_config::external(request, &remote);
    files::write(&external, 0o666, config.as_bytes())?;
    files::write(
        &git_config::for_scripts_path(&request.tmp_dir),
        0o666,
        git_config::for_scripts(&external).as_bytes(),
    )?;
    Ok(())
}

fn skip_rest(stage: &Stage) {
    stage.notice("Skipping Git checkout");
    stage.notice("Skipping Git submodules setup");
}

/// What git would take for an option, and paths that lead nowhere.
fn check(request: &SourcesRequest) -> Result<(), StageError> {
    for (name, path) in [
        ("project", &request.project_dir),
        ("temporary", &request.tmp_dir),
    ] {
        if !path.is_absolute() || path == Path::new("/") {
            return Err(StageError::own(format!(
                "the {name} directory {} is not usable",
                path.display()
            )));
        }
    }
    if let Some(refspec) = request
        .refspecs
        .iter()
        .find(|refspec| refspec.starts_with('-'))
    {
        return Err(StageError::own(format!(
            "refspec {refspec:?} begins with a dash"
        )));
    }
    let git = matches!(request.strategy, GitStrategy::Fetch | GitStrategy::Clone);
    if git && request.checkout && (request.sha.is_empty() || request.sha.starts_with('-')) {
        return Err(StageError::own(format!(
            "commit {:?} cannot be checked out",
            request.sha
        )));
    }
    if let Some(submodules) = &request.submodules
        && submodules.paths.iter().any(|path| path == ":(exclude)")
    {
        return Err(StageError::own(format!(
            "GIT_SUBMODULE_PATHS: invalid submodule pathspec [{}]",
            quoted_list(&submodules.paths)
        )));
    }
    if git && (request.repo_url.is_empty() || request.repo_url.starts_with('-')) {
        return Err(StageError::own("the repository has no usable URL"));
    }
    Ok(())
}

fn quoted_list(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    words.join(" ")
}

/// Environment and file variables, as in every stage that exports (job-lifecycle §2.5).
fn prepare(stage: &mut Stage, request: &SourcesRequest) -> Result<(), StageError> {
    stage.debug_trace = request.debug_trace;
    files::real_dir(&request.tmp_dir)?;
    // Before the variables: what a former job wrote down for its later stages is not for this one.
    for path in &request.stale_files {
        files::remove(path)?;
    }
    stage.export(&request.variables);
    let own = [
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GCM_INTERACTIVE", "Never"),
        ("CI_JOB_TOKEN", request.token.expose()),
    ];
    for (key, value) in own {
        if !value.is_empty() {
            stage.environment.insert(key.into(), value.into());
        }
    }
    for FileVariable { path, content } in &request.files {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| files::at("cannot create directory", parent, &error))?;
        }
        files::write(path, 0o666, content.expose().as_bytes())?;
    }
    Ok(())
}

fn fetch(stage: &mut Stage, request: &SourcesRequest) -> Result<(), StageError> {
    let dir = request.project_dir.as_path();
    let remote = Remote::parse(&request.repo_url);
    let external = git_config::external_path(&request.tmp_dir);
    stage
        .environment
        .insert(EXTERNAL_VARIABLE.into(), external.clone().into());
    let hosts: Vec<&str> = remote
        .http_host
        .iter()
        .chain(&request.credential_hosts)
        .map(String::as_str)
        .collect();
    let safe_directories = safe_directories(request);
    let lfs = !request.lfs_skip && stage.has_git_command("lfs")?;
    let _global = Global::install(stage, &safe_directories, lfs, Some((&hosts, &request.tls)))?;
    if request.global_credentials {
        files::write(
            &git_config::for_scripts_path(&request.tmp_dir),
            0o666,
            git_config::for_scripts(&external).as_bytes(),
        )?;
    }

    if !request.pre_get_sources.is_empty()
        && script::run_and_keep_environment(
            stage,
            &request.pre_get_sources,
            "pre_get_sources_script",
        )? == Flow::Ended
    {
        stage.warning("pre_get_sources_script ended the stage before the sources were fetched");
        // The job's script begins there.
        files::real_dir(dir)?;
        return Ok(());
    }
    // Files come by one `git lfs pull` instead of one by one, or not at all.
    stage
        .environment
        .insert("GIT_LFS_SKIP_SMUDGE".into(), "1".into());

    if request.strategy == GitStrategy::Clone {
        files::remove(dir)?;
    }
    files::real_dir(dir)?;
    hygiene::clean(dir, &request.tmp_dir, request.clean_git_config)?;
    if request.clean_git_config {
        hygiene::check_head(dir, request.object_format)?;
    }
    let index = hygiene::repair(request)?;
    let clone = request.strategy == GitStrategy::Clone
        && request.native_clone
        && native_clone::is_possible(stage);
    let template = git_config::template_path(&request.tmp_dir);
    files::real_dir(&template)?;
    files::write(
        &template.join("config"),
        0o666,
        git_config::template((!clone).then_some(&remote), &external).as_bytes(),
    )?;
    files::write(
        &external,
        0o666,
        git_config::external(request, &remote).as_bytes(),
    )?;
    if let Some(id) = &request.correlation_id {
        stage.notice(&format!("Gitaly correlation ID: {id}"));
    }
    let steps = Steps {
        request,
        remote: &remote,
        template: &template,
        external: &external,
        lfs,
    };
    if clone {
        native_clone::run(stage, request, &remote, &template, &external)?;
        if request.checkout {
            steps.checkout(stage)?;
        }
    } else {
        kept::obtain(stage, &steps, index)?;
    }
    if request.checkout {
        steps.finish(stage)?;
    } else {
        stage.notice("Skipping Git checkout");
    }
    match &request.submodules {
        None => stage.notice("Skipping Git submodules setup"),
        Some(submodules) => submodules::update(stage, request, submodules, &external, lfs)?,
    }
    if request.post_get_sources.is_empty() {
        return Ok(());
    }
    script::run(
        stage,
        dir,
        &request.post_get_sources,
        "post_get_sources_script",
    )
}

/// Repositories that git may use though their files belong to whoever ran the job before. Submodules lie at paths that are not
/// known yet; they have been made harmless like the project itself.
fn safe_directories(request: &SourcesRequest) -> Vec<String> {
    match (request.safe_directory, &request.submodules) {
        (false, _) => Vec::new(),
        (true, None) => vec![text(&request.project_dir)],
        (true, Some(_)) => vec![text(&request.project_dir), "*".into()],
    }
}
