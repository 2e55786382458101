//! Submodules of a working copy. A job that asks for them (`GIT_SUBMODULE_STRATEGY`) gets their files as they are here, changed and
//! untracked ones too, ignored ones not; their repositories stay here. Nothing is fetched: what is not here is told.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{LIST, RealFolders};
use crate::facts::git_command;
use tokio::process::Command;

/// Which submodules a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Submodules {
    /// None: their folders are empty, as on a server.
    #[default]
    None,
    /// Those of the project.
    Direct,
    /// Those of submodules, too.
    Nested,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Submodule {
    /// From the root of the working copy.
    pub(super) path: PathBuf,
    /// The least wish that it is part of.
    pub(super) wanted_by: Submodules,
    /// Its files from its own folder, each ended by a NUL; `None`: it is not in the working copy.
    pub(super) files: Option<Vec<u8>>,
}

/// Finds all submodules of a working copy, outer ones before those inside.
pub(super) async fn list(root: &Path) -> Arc<[Submodule]> {
    let mut found: Vec<Submodule> = Vec::new();
    let mut folders = RealFolders::default();
    let mut open = vec![(PathBuf::new(), Submodules::Direct)];
    while let Some((above, wanted_by)) = open.pop() {
        let folder = root.join(&above);
        // Without that file git knows of none; most projects are done here, without a process.
        if !folder.join(".gitmodules").is_file() {
            continue;
        }
        let index = output(&folder, &["ls-files", "--stage", "-z"]).await;
        for name in gitlinks(&index.unwrap_or_default()) {
            let path = above.join(name);
            let here = folders.holds(root, &path.join(".git"))
                && root.join(&path).join(".git").symlink_metadata().is_ok();
            let files = if here {
                output(&root.join(&path), &LIST).await
            } else {
                None
            };
            if files.is_some() {
                open.push((path.clone(), Submodules::Nested));
            }
            found.push(Submodule {
                path,
                wanted_by,
                files,
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.into()
}

/// `None` where git cannot: in the folder of a submodule whose repository is not here.
async fn output(folder: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::from(git_command(folder));
    let output = command.args(arguments).kill_on_drop(true).output().await;
    let output = output.ok().filter(|output| output.status.success())?;
    Some(output.stdout)
}

/// Submodules among the lines `mode object stage<TAB>path` of an index. One that is in conflict stands there more than once.
fn gitlinks(index: &[u8]) -> Vec<&Path> {
    let mut paths: Vec<&Path> = index
        .split(|byte| *byte == 0)
        .filter(|entry| entry.starts_with(b"160000 "))
        .filter_map(|entry| {
            let tab = entry.iter().position(|byte| *byte == b'\t')?;
            Some(Path::new(OsStr::from_bytes(&entry[tab + 1..])))
        })
        .collect();
    paths.dedup();
    paths
}
