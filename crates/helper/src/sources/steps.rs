//! What git is asked for, step by step: `git init`, `git fetch`, `git checkout` (job-lifecycle §4.3 steps 13 to 16).

use std::{ffi::OsString, path::Path};

use gantry_agent::{ObjectFormat, SourcesRequest};

use super::{Remote, server, submodules};
use crate::{
    files,
    git_config::EXTERNAL_PATTERN,
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

/// What the steps work with.
pub(super) struct Steps<'a> {
    pub(super) request: &'a SourcesRequest,
    pub(super) remote: &'a Remote,
    /// For new repositories.
    pub(super) template: &'a Path,
    /// What their configuration includes.
    pub(super) external: &'a Path,
    pub(super) lfs: bool,
}

impl Steps<'_> {
    /// Makes the repository, or makes one that was kept fit for use.
    pub(super) fn init(&self, stage: &Stage) -> Result<(), StageError> {
        let (request, dir) = (self.request, self.dir());
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
            self.template.into(),
        ];
        if request.object_format == ObjectFormat::Sha256 {
            init.extend(["--object-format", "sha256"].map(OsString::from));
        }
        stage.git(None, init, "init")?;
        if kept_config {
            self.adopt_config(stage)?;
        } else {
            stage.notice("Created fresh repository.");
        }
        Ok(())
    }

    /// Points a `.git/config` that was kept at the remote and the included file.
    fn adopt_config(&self, stage: &Stage) -> Result<(), StageError> {
        let (dir, url) = (self.dir(), &self.remote.url);
        let add = ["remote", "add", "origin", url];
        if stage.git_status(Some(dir), add, Show::Nothing)? == 0 {
            stage.notice("Created fresh repository.");
        } else {
            stage.git(
                Some(dir),
                ["remote", "set-url", "origin", url],
                "remote set-url",
            )?;
        }
        let external = text(self.external);
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

    /// Fetches what the payload names.
    pub(super) fn fetch(&self, stage: &Stage) -> Result<(), StageError> {
        server::run(stage, Some(self.dir()), self.fetch_arguments(), "fetch")
            .map_err(|error| error.about_flags("GIT_FETCH_EXTRA_FLAGS"))
    }

    fn fetch_arguments(&self) -> Vec<String> {
        let request = self.request;
        let mut arguments = user_agent(request);
        arguments.extend(proactive(request, self.remote));
        arguments.extend(["fetch", "origin", "--no-recurse-submodules"].map(String::from));
        arguments.extend(request.refspecs.iter().cloned());
        if request.depth > 0 {
            arguments.extend(["--depth".into(), request.depth.to_string()]);
        } else if files::exists(&self.dir().join(".git/shallow")) {
            arguments.push("--unshallow".into());
        }
        arguments.extend(request.fetch_flags.iter().cloned());
        arguments
    }

    /// Checks out the commit, and cleans the tree.
    pub(super) fn checkout(&self, stage: &Stage) -> Result<(), StageError> {
        let (request, dir) = (self.request, self.dir());
        let sha = &request.sha;
        let short: String = sha.chars().take(8).collect();
        stage.notice(&format!(
            "Checking out {short} as detached HEAD (ref is {})...",
            request.git_ref
        ));
        let mut arguments = vec!["-c".to_owned(), "submodule.recurse=false".into()];
        arguments.extend(proactive(request, self.remote));
        arguments.extend(["checkout", "-f", "-q", sha].map(String::from));
        let before = submodules::places(stage, dir)?;
        stage.git(Some(dir), arguments, "checkout")?;
        submodules::detach_former(stage, dir, &before)
    }

    /// Removes what is not of the commit, and gets files of LFS.
    pub(super) fn finish(&self, stage: &Stage) -> Result<(), StageError> {
        let dir = self.dir();
        if let Some(flags) = &self.request.clean_flags {
            let arguments = [String::from("clean")]
                .into_iter()
                .chain(flags.iter().cloned());
            stage
                .git(Some(dir), arguments, "clean")
                .map_err(|error| error.about_flags("GIT_CLEAN_FLAGS"))?;
        }
        if self.lfs && uses_lfs(stage, dir)? {
            server::run(stage, Some(dir), ["lfs", "pull"], "lfs pull")?;
            stage.print("\n");
        }
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.request.project_dir
    }
}

pub(super) fn user_agent(request: &SourcesRequest) -> Vec<String> {
    if request.user_agent.is_empty() {
        return Vec::new();
    }
    let setting = format!("http.userAgent={}", request.user_agent);
    vec!["-c".into(), setting]
}

pub(super) fn proactive(request: &SourcesRequest, remote: &Remote) -> Vec<String> {
    match &remote.http_host {
        Some(host) if request.proactive_auth => {
            vec!["-c".into(), format!("http.{host}.proactiveAuth=basic")]
        }
        _ => Vec::new(),
    }
}

/// Whether any attributes of the commit name LFS. `git lfs pull` looks at every file, and takes a while to find none.
fn uses_lfs(stage: &Stage, dir: &Path) -> Result<bool, StageError> {
    Ok(stage.git_status(Some(dir), LFS_QUERY, Show::Nothing)? == 0)
}
