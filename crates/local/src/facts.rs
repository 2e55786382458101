//! What git tells about the working copy. Only commands that read are run, with optional locks
//! off and without programs that a repository's configuration could name.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use gantry_pipeline::{Commit, GitFacts, ProjectFacts, UserFacts};
use tokio::process::Command;

#[cfg(test)]
mod tests;

/// Why the facts cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The folder cannot be entered.
    #[error("cannot read the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is a repository and no git.
    #[error("cannot run git, which this repository needs")]
    NoGit {
        /// Why.
        source: std::io::Error,
    },
    /// Git does not want to read the repository.
    #[error("git {command} failed in {}: {message}", path.display())]
    Git {
        /// The subcommand.
        command: String,
        /// Where it ran.
        path: PathBuf,
        /// What it said.
        message: String,
    },
}

/// A working copy: a git repository, or just a folder.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Root of the repository, else the folder.
    pub root: PathBuf,
    /// Where git keeps its data; none outside of git.
    pub git_dirs: Option<GitDirs>,
    /// What git tells.
    pub git: GitFacts,
    /// Name of the root, and the user.
    pub project: ProjectFacts,
}

/// Where git keeps its data. The two differ in a linked worktree only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitDirs {
    /// `HEAD`, index and the like of this worktree.
    pub own: PathBuf,
    /// Objects, refs and configuration of all worktrees.
    pub common: PathBuf,
}

/// Collects the facts of the working copy that `folder` lies in. `config_path` is the path of the
/// pipeline file from the root.
///
/// # Errors
/// When the folder or the repository cannot be read.
pub async fn collect(folder: &Path, config_path: &str) -> Result<Checkout, FactsError> {
    let folder = std::fs::canonicalize(folder).map_err(|source| FactsError::Folder {
        path: folder.to_owned(),
        source,
    })?;
    let uid = rustix::process::getuid().as_raw();
    // Git itself is asked only where there is something to ask about: its absence, or what it
    // says about a folder without repository, is no error.
    if !folder
        .ancestors()
        .any(|folder| folder.join(".git").symlink_metadata().is_ok())
    {
        let user = Git { folder: &folder }
            .user(uid)
            .await
            .unwrap_or_else(|_| UserFacts {
                id: uid,
                ..UserFacts::default()
            });
        return Ok(Checkout {
            project: project(&folder, config_path, user),
            root: folder,
            git_dirs: None,
            git: GitFacts::default(),
        });
    }
    let git = Git { folder: &folder };
    let (root, git_dirs, sha256) = git.dirs().await?;
    let git = Git { folder: &root };
    let (branch, commit, tag, remote, user) = tokio::try_join!(
        git.branch(),
        git.commit(),
        git.tag(),
        git.remote(),
        git.user(uid)
    )?;
    let (remote_name, remote_url) = remote.unzip();
    let default_branch = git.default_branch(remote_name.as_deref()).await?;
    Ok(Checkout {
        project: project(&root, config_path, user),
        git: GitFacts {
            commit,
            branch,
            tag,
            default_branch,
            remote_url,
            sha256,
        },
        git_dirs: Some(git_dirs),
        root,
    })
}

/// The last commit that changed a file; none if there is none.
pub(crate) async fn last_commit(root: &Path, file: &str) -> Option<String> {
    let git = Git { folder: root };
    let place = pathspec(root, file);
    let arguments = [
        "log",
        "-1",
        "--no-show-signature",
        "--format=%H",
        "--",
        &place,
    ];
    git.line(&arguments).await.ok().flatten()
}

/// Files of the working tree that a pattern matches, sorted; those that git ignores are not among them.
pub(crate) async fn matching_files(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let git = Git { folder: root };
    let place = pathspec(root, pattern);
    let arguments = [
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
        "--",
        &place,
    ];
    let Ok(answer) = git.ask(&arguments).await else {
        return Vec::new();
    };
    let names = answer.stdout.split(|byte| *byte == 0);
    let mut files: Vec<_> = names
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(OsString::from_vec(name.to_vec())))
        .collect();
    files.sort();
    // A file in conflict is listed once per side.
    files.dedup();
    files
}

/// Whether a path is a pattern. A file that is called so, such as `[id].js`, is itself.
pub(crate) fn is_pattern(root: &Path, path: &str) -> bool {
    path.contains(['*', '?', '[']) && std::fs::symlink_metadata(root.join(path)).is_err()
}

/// From the root; `*` stays within a folder, and `**` does not. What is no pattern is taken as it is spelled.
fn pathspec(root: &Path, path: &str) -> String {
    let magic = if is_pattern(root, path) {
        "glob"
    } else {
        "literal"
    };
    format!(":(top,{magic}){path}")
}

fn project(root: &Path, config_path: &str, user: UserFacts) -> ProjectFacts {
    let folder = root
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    ProjectFacts {
        folder,
        config_path: config_path.to_owned(),
        user,
    }
}

/// Variables by which a calling git, e.g. one that runs a hook, points at a repository. The
/// folder alone decides here.
const REPOSITORY_VARIABLES: [&str; 11] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
];

/// A git command that only reads. `std` and `tokio` commands are made of it alike.
pub(crate) fn git_command(folder: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("git");
    command.arg("-C").arg(folder);
    // A file system monitor is a program that the repository names.
    command.args(["-c", "core.fsmonitor=false", "-c", "core.quotePath=false"]);
    for variable in REPOSITORY_VARIABLES {
        command.env_remove(variable);
    }
    command
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Git in one folder.
struct Git<'a> {
    folder: &'a Path,
}

/// What a command printed, and whether it was content.
struct Answer {
    good: bool,
    stdout: Vec<u8>,
    stderr: String,
}

impl Git<'_> {
    async fn ask(&self, arguments: &[&str]) -> Result<Answer, FactsError> {
        let mut command = Command::from(git_command(self.folder));
        command.args(arguments).kill_on_drop(true);
        let output = command
            .output()
            .await
            .map_err(|source| FactsError::NoGit { source })?;
        Ok(Answer {
            good: output.status.success(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// The answer as one line of text; none if git says no.
    async fn line(&self, arguments: &[&str]) -> Result<Option<String>, FactsError> {
        let answer = self.ask(arguments).await?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let line = text.lines().next().unwrap_or_default();
        Ok((answer.good && !line.is_empty()).then(|| line.to_owned()))
    }

    fn failed(&self, command: &str, answer: &Answer) -> FactsError {
        FactsError::Git {
            command: command.to_owned(),
            path: self.folder.to_owned(),
            message: answer.stderr.clone(),
        }
    }

    /// Root, directories, and whether object names are SHA-256.
    async fn dirs(&self) -> Result<(PathBuf, GitDirs, bool), FactsError> {
        // One path per line: a path that holds a line break is not supported by git either.
        let arguments = [
            "rev-parse",
            "--show-toplevel",
            "--absolute-git-dir",
            "--git-common-dir",
        ];
        let answer = self.ask(&arguments).await?;
        let lines: Vec<&[u8]> = answer.stdout.split(|byte| *byte == b'\n').collect();
        let [root, own, common, ..] = lines.as_slice() else {
            return Err(self.failed("rev-parse", &answer));
        };
        if !answer.good {
            return Err(self.failed("rev-parse", &answer));
        }
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        // Relative to where git ran, if it is relative.
        let common = self.folder.join(path(common));
        let common = std::fs::canonicalize(&common).unwrap_or(common);
        let format = self.line(&["rev-parse", "--show-object-format"]).await?;
        let dirs = GitDirs {
            own: path(own),
            common,
        };
        Ok((path(root), dirs, format.as_deref() == Some("sha256")))
    }

    async fn branch(&self) -> Result<Option<String>, FactsError> {
        self.line(&["symbolic-ref", "--quiet", "--short", "HEAD"])
            .await
    }

    async fn commit(&self) -> Result<Option<Commit>, FactsError> {
        let format = "--format=%H%x00%an <%ae>%x00%cI%x00%B";
        let answer = self
            .ask(&[
                "-c",
                "log.showSignature=false",
                "log",
                "-1",
                "--encoding=UTF-8",
                "--no-color",
                format,
            ])
            .await?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let mut parts = text.splitn(4, '\0').map(str::to_owned);
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        // A repository without commits has none.
        let (Some(sha), Some(author), Some(timestamp), Some(message)) = parts else {
            return Ok(None);
        };
        let message = message.strip_suffix('\n').unwrap_or(&message).to_owned();
        Ok(answer.good.then_some(Commit {
            sha,
            message,
            author,
            timestamp,
        }))
    }

    async fn tag(&self) -> Result<Option<String>, FactsError> {
        self.line(&["tag", "--points-at", "HEAD", "--sort=-version:refname"])
            .await
    }

    /// Name and URL of `origin`, else of the first remote.
    async fn remote(&self) -> Result<Option<(String, String)>, FactsError> {
        let answer = self.ask(&["remote"]).await?;
        let names = String::from_utf8_lossy(&answer.stdout).into_owned();
        let origin = names.lines().find(|name| *name == "origin");
        let Some(name) = origin.or_else(|| names.lines().next()) else {
            return Ok(None);
        };
        let url = self.line(&["remote", "get-url", name]).await?;
        Ok(url.map(|url| (name.to_owned(), url)))
    }

    /// The remote's `HEAD`; else what new repositories begin with, `main` or `master`, if it
    /// exists (local-pipelines C3).
    async fn default_branch(&self, remote: Option<&str>) -> Result<Option<String>, FactsError> {
        if let Some(remote) = remote {
            let head = format!("refs/remotes/{remote}/HEAD");
            if let Some(name) = self
                .line(&["symbolic-ref", "--quiet", "--short", &head])
                .await?
            {
                let branch = name
                    .strip_prefix(remote)
                    .and_then(|name| name.strip_prefix('/'));
                return Ok(Some(branch.unwrap_or(&name).to_owned()));
            }
        }
        let configured = self
            .line(&["config", "--get", "init.defaultBranch"])
            .await?;
        let candidates = configured
            .into_iter()
            .chain(["main".to_owned(), "master".to_owned()]);
        for branch in candidates {
            let reference = format!("refs/heads/{branch}");
            if self
                .ask(&["show-ref", "--verify", "--quiet", &reference])
                .await?
                .good
            {
                return Ok(Some(branch));
            }
        }
        Ok(None)
    }

    async fn user(&self, id: u32) -> Result<UserFacts, FactsError> {
        let (name, email) = tokio::try_join!(
            self.line(&["config", "--get", "user.name"]),
            self.line(&["config", "--get", "user.email"])
        )?;
        let (name, email) = (name.unwrap_or_default(), email.unwrap_or_default());
        Ok(UserFacts { id, name, email })
    }
}
