//! The files of a job become those of the build image's user (docker-executor §7.4).

use std::{fs, io, os::unix::fs::lchown, path::Path};

use gantry_agent::ChangeOwnerRequest;

use crate::{files, stage::StageError};

/// As `chown -RP`: links are changed, not followed. Goes on after a failure, and reports the first one.
pub(crate) fn change(request: &ChangeOwnerRequest) -> Result<(), StageError> {
    let mut first = None;
    for path in &request.paths {
        if files::exists(path) {
            tree(path, request, &mut first);
        }
    }
    first.map_or(Ok(()), |error: io::Error| Err(error.into()))
}

fn tree(path: &Path, owner: &ChangeOwnerRequest, first: &mut Option<io::Error>) {
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        // What is in a directory before the directory itself: whoever owns it may exchange what is in it.
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if is_dir {
            match files::entries(&path) {
                Ok(entries) => left.extend(entries.iter().map(fs::DirEntry::path)),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        if let Err(error) = lchown(&path, Some(owner.uid), Some(owner.gid)) {
            first.get_or_insert(files::at("change the owner of", &path, &error));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn everything_below_the_directories_changes_and_links_are_not_followed() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (project, tmp) = (dir.path().join("p"), dir.path().join("p.tmp"));
        fs::create_dir_all(project.join("a/b")).unwrap();
        fs::write(project.join("a/b/file"), "").unwrap();
        symlink(outside.path(), project.join("link")).unwrap();
        symlink("nowhere", project.join("dangling")).unwrap();
        // Only root may give files away; to itself anybody may.
        let me = fs::metadata(dir.path()).unwrap();
        let root = me.uid() == 0;
        let (uid, gid) = if root {
            (1234, 4321)
        } else {
            (me.uid(), me.gid())
        };
        let paths = vec![project.clone(), tmp];
        change(&ChangeOwnerRequest { paths, uid, gid }).unwrap_or_else(|error| panic!("{error}"));
        for name in ["", "a", "a/b", "a/b/file", "link", "dangling"] {
            let found = fs::symlink_metadata(project.join(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (uid, gid), "{name}");
        }
        if root {
            assert_eq!(fs::metadata(outside.path()).unwrap().uid(), 0);
        }
    }
}
