//! A `.git` for the job.
//!
//! Git's own directory is sent in a form that stands for itself: of a linked worktree the parts of
//! the worktree and those it shares are put together, objects borrowed from another repository come
//! along, and the configuration is written anew ([`super::git_config`]). Left out are hooks, locks
//! and unfinished files, reflogs and what was fetched last (they may hold URLs with passwords),
//! and data of submodules, other worktrees and LFS.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::git_config;
use super::walk::walk;
use super::{Archive, Modes, TreeError, present};
use crate::facts::GitDirs;

/// How many repositories may borrow objects from one another.
const MOST_ALTERNATES: usize = 16;

/// Names at the top of git's directory that are not sent.
const LEFT_OUT: [&str; 13] = [
    "COMMIT_EDITMSG",
    "FETCH_HEAD",
    "commondir",
    "config",
    "config.worktree",
    "gc.pid",
    "gitdir",
    "hooks",
    "lfs",
    "locked",
    "logs",
    "modules",
    "worktrees",
];

/// Names at the top of a shared directory that a linked worktree uses; the others are those of the
/// main worktree.
const SHARED: [&str; 8] = [
    "branches",
    "description",
    "info",
    "objects",
    "packed-refs",
    "refs",
    "reftable",
    "shallow",
];

/// Refs that each worktree has of its own.
const OWN_REFS: [&str; 3] = ["refs/bisect", "refs/rewritten", "refs/worktree"];

/// Git's directory, ready to be sent.
#[derive(Debug, Clone)]
pub struct GitSnapshot {
    dirs: GitDirs,
    config: String,
    /// `objects` of this repository, then those it borrows from.
    objects: Vec<PathBuf>,
}

impl GitSnapshot {
    /// Reads what is needed to send it.
    pub(super) async fn new(root: &Path, dirs: &GitDirs) -> Result<Self, TreeError> {
        let config = git_config::for_job(root).await?;
        let objects = object_folders(&dirs.common.join("objects"));
        Ok(Self {
            dirs: dirs.clone(),
            config,
            objects,
        })
    }

    pub(super) fn write<W: Write>(&self, archive: &mut Archive<W>) -> Result<(), TreeError> {
        let git = Path::new(".git");
        archive.folder(git)?;
        archive.text(&git.join("config"), &self.config)?;
        let linked = self.dirs.own != self.dirs.common;
        let common = |name: &Path, _: bool| {
            sent(name) && !(linked && (!is_shared(name) || is_own_ref(name)))
        };
        self.copy(&self.dirs.common, &common, archive)?;
        if linked {
            self.copy(&self.dirs.own, &|name, _| sent(name), archive)?;
        }
        for (index, folder) in self.objects.iter().enumerate() {
            let below = |name: &Path| git.join("objects").join(name);
            let wanted = |name: &Path, is_folder: bool| {
                // Two object stores hold the same objects often.
                let known = || {
                    self.objects[..index]
                        .iter()
                        .any(|one| one.join(name).exists())
                };
                sent_object(name) && (is_folder || index == 0 || !known())
            };
            archive.folder(&git.join("objects"))?;
            walk(folder, &wanted, &mut |path, name| {
                archive.add(path, &below(name), Modes::Git)
            })?;
        }
        // Git takes a folder without these two for no repository.
        archive.folder(&git.join("objects"))?;
        archive.folder(&git.join("refs"))
    }

    /// Sends what is below `folder`, apart from objects.
    fn copy<W: Write>(
        &self,
        folder: &Path,
        wanted: &dyn Fn(&Path, bool) -> bool,
        archive: &mut Archive<W>,
    ) -> Result<(), TreeError> {
        let wanted =
            |name: &Path, is_folder: bool| name != Path::new("objects") && wanted(name, is_folder);
        walk(folder, &wanted, &mut |path, name| {
            archive.add(path, &Path::new(".git").join(name), Modes::Git)
        })
    }
}

fn sent(name: &Path) -> bool {
    let top = name
        .components()
        .next()
        .map(std::path::Component::as_os_str)
        .unwrap_or_default();
    let left_out = LEFT_OUT.iter().any(|left_out| top == OsStr::new(left_out));
    !left_out && !top.as_bytes().starts_with(b"fsmonitor--") && !is_lock(name)
}

fn sent_object(name: &Path) -> bool {
    let borrowed = ["info/alternates", "info/http-alternates"];
    let file = name.file_name().unwrap_or_default().as_bytes();
    let unfinished = file.starts_with(b"tmp_") || file.starts_with(b".tmp-");
    !borrowed.iter().any(|file| name == Path::new(file)) && !unfinished && !is_lock(name)
}

/// No ref may have such a name.
fn is_lock(name: &Path) -> bool {
    name.file_name()
        .unwrap_or_default()
        .as_bytes()
        .ends_with(b".lock")
}

fn is_shared(name: &Path) -> bool {
    SHARED.iter().any(|shared| name.starts_with(shared))
}

fn is_own_ref(name: &Path) -> bool {
    OWN_REFS.iter().any(|own| name.starts_with(own))
}

/// An object store and those that its `info/alternates` names, each once.
fn object_folders(first: &Path) -> Vec<PathBuf> {
    let mut folders = vec![first.to_owned()];
    let mut next = 0;
    while next < folders.len() && folders.len() < MOST_ALTERNATES {
        let folder = folders[next].clone();
        next += 1;
        let Ok(Some(list)) = present(std::fs::read(folder.join("info/alternates"))) else {
            continue;
        };
        for line in list.split(|byte| *byte == b'\n') {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let path = folder.join(OsStr::from_bytes(line));
            let path = path.canonicalize().unwrap_or(path);
            if !folders.contains(&path) {
                folders.push(path);
            }
        }
    }
    folders
}
