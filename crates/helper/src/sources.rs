//! `get_sources`: the repository into the project directory, in the order of job-lifecycle §4.3.
//!
//! The token reaches git only through the environment: a credential helper in the included configuration answers with
//! `$CI_JOB_TOKEN`, which scripts of the build container have, too.

mod native_clone;
mod remote;
mod server;
mod submodules;

use std::{ffi::OsString, fs, io, path::Path};

use gantry_agent::{FileVariable, GitStrategy, ObjectFormat, SourcesRequest};

pub(crate) use self::remote::Remote;
use crate::{
    files,
    git_config::{self, EXTERNAL_PATTERN, EXTERNAL_VARIABLE, Global},
    hygiene,
    script::{self, Flow},
    stage::{Show, Stage, StageError, text},
};

/// Looks for LFS in the attributes of a commit.
const LFS_QUERY: [&str; 7] = [
    "grep",
    "--quiet",
    "-e",
    "filter=lfs",
    "HEAD",
    "--",
    "*.gitattributes",
];

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
    if clone {
        native_clone::run(stage, request, &remote, &template, &external)?;
    } else {
        fetch_into(stage, request, &remote, &template, &external)?;
    }
    if request.checkout {
        checkout(stage, request, &remote, lfs)?;
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

/// `git init` and `git fetch` (job-lifecycle §4.3 steps 13 to 15).
fn fetch_into(
    stage: &Stage,
    request: &SourcesRequest,
    remote: &Remote,
    template: &Path,
    external: &Path,
) -> Result<(), StageError> {
    let dir = request.project_dir.as_path();
    match request.depth {
        0 => stage.notice("Fetching changes..."),
        depth => stage.notice(&format!(
            "Fetching changes with git depth set to {depth}..."
        )),
    }
    // A configuration that stays is not replaced by the template's.
    let kept_config = files::exists(&dir.join(".git/config"));
    let mut init: Vec<OsString> = vec![
        "init".into(),
        dir.into(),
        "--template".into(),
        template.into(),
    ];
    if request.object_format == ObjectFormat::Sha256 {
        init.extend(["--object-format", "sha256"].map(OsString::from));
    }
    stage.git(None, init, "init")?;
    if kept_config {
        adopt_config(stage, dir, remote, external)?;
    } else {
        stage.notice("Created fresh repository.");
    }
    server::run(
        stage,
        Some(dir),
        fetch_arguments(request, remote, dir),
        "fetch",
    )
}

/// Points a `.git/config` that was kept at the remote and the included file.
fn adopt_config(
    stage: &Stage,
    dir: &Path,
    remote: &Remote,
    external: &Path,
) -> Result<(), StageError> {
    let add = ["remote", "add", "origin", &remote.url];
    if stage.git_status(Some(dir), add, Show::Nothing)? == 0 {
        stage.notice("Created fresh repository.");
    } else {
        stage.git(
            Some(dir),
            ["remote", "set-url", "origin", &remote.url],
            "remote set-url",
        )?;
    }
    let external = text(external);
    let include = [
        "config",
        "--file",
        ".git/config",
        "--replace-all",
        "include.path",
        &external,
        EXTERNAL_PATTERN,
    ];
    stage.git(Some(dir), include, "config")
}

fn fetch_arguments(request: &SourcesRequest, remote: &Remote, dir: &Path) -> Vec<String> {
    let mut arguments = user_agent(request);
    arguments.extend(proactive(request, remote));
    arguments.extend(["fetch", "origin", "--no-recurse-submodules"].map(String::from));
    arguments.extend(request.refspecs.iter().cloned());
    if request.depth > 0 {
        arguments.extend(["--depth".into(), request.depth.to_string()]);
    } else if files::exists(&dir.join(".git/shallow")) {
        arguments.push("--unshallow".into());
    }
    arguments.extend(request.fetch_flags.iter().cloned());
    arguments
}

fn user_agent(request: &SourcesRequest) -> Vec<String> {
    if request.user_agent.is_empty() {
        return Vec::new();
    }
    let setting = format!("http.userAgent={}", request.user_agent);
    vec!["-c".into(), setting]
}

fn proactive(request: &SourcesRequest, remote: &Remote) -> Vec<String> {
    match &remote.http_host {
        Some(host) if request.proactive_auth => {
            vec!["-c".into(), format!("http.{host}.proactiveAuth=basic")]
        }
        _ => Vec::new(),
    }
}

fn checkout(
    stage: &Stage,
    request: &SourcesRequest,
    remote: &Remote,
    lfs: bool,
) -> Result<(), StageError> {
    let dir = Some(request.project_dir.as_path());
    let sha = &request.sha;
    let short: String = sha.chars().take(8).collect();
    stage.notice(&format!(
        "Checking out {short} as detached HEAD (ref is {})...",
        request.git_ref
    ));
    let mut arguments = vec!["-c".to_owned(), "submodule.recurse=false".into()];
    arguments.extend(proactive(request, remote));
    arguments.extend(["checkout", "-f", "-q", sha].map(String::from));
    let before = submodules::places(stage, &request.project_dir)?;
    stage.git(dir, arguments, "checkout")?;
    submodules::detach_former(stage, &request.project_dir, &before)?;

    if let Some(flags) = &request.clean_flags {
        let arguments = [String::from("clean")]
            .into_iter()
            .chain(flags.iter().cloned());
        stage.git(dir, arguments, "clean")?;
    }
    if lfs && uses_lfs(stage, &request.project_dir)? {
        server::run(stage, dir, ["lfs", "pull"], "lfs pull")?;
        stage.print("\n");
    }
    Ok(())
}

/// Whether any attributes of the commit name LFS. `git lfs pull` looks at every file, and takes a while to find none.
fn uses_lfs(stage: &Stage, dir: &Path) -> Result<bool, StageError> {
    Ok(stage.git_status(Some(dir), LFS_QUERY, Show::Nothing)? == 0)
}
