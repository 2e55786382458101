//! Files on volumes that user code could write to. Nothing here follows a symbolic link in the last part of a path.

use std::{
    fs::{self, DirEntry, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Removes whatever is at `path`, a tree included. Nothing there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let Some(found) = look(path)? else {
        return Ok(());
    };
    let removed = if found.is_dir() {
        remove_tree(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("cannot remove", path, &error)),
        _ => Ok(()),
    }
}

/// As `rm -rf` after `chmod -R u+rwX`. A mount point is emptied and stays.
fn remove_tree(path: &Path) -> io::Result<()> {
    let mut result = fs::remove_dir_all(path);
    if result
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    {
        open_up(path);
        result = fs::remove_dir_all(path);
    }
    match result {
        Err(error)
            if error.kind() == ErrorKind::ResourceBusy
                && fs::read_dir(path).is_ok_and(|mut left| left.next().is_none()) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Lets the owner into every directory. What does not work shows up when it is removed.
fn open_up(dir: &Path) {
    let Ok(found) = fs::symlink_metadata(dir) else {
        return;
    };
    if !found.is_dir() {
        return;
    }
    let mut permissions = found.permissions();
    permissions.set_mode(permissions.mode() | 0o700);
    fs::set_permissions(dir, permissions).ok();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}

/// Makes `path` a directory and not a link to one; anything else that is there goes.
pub(crate) fn real_dir(path: &Path) -> io::Result<()> {
    if look(path)?.is_some_and(|found| !found.is_dir()) {
        remove(path)?;
    }
    fs::create_dir_all(path).map_err(|error| at("cannot create directory", path, &error))
}

/// Whether a directory is there, not reached by a link.
pub(crate) fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Whether anything is there.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// A new file in place of whatever is there.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    remove(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(content));
    written.map_err(|error| at("cannot write", path, &error))
}

/// The entries of a directory; none if it is no directory or only a link to one.
pub(crate) fn entries(dir: &Path) -> io::Result<Vec<DirEntry>> {
    if !is_real_dir(dir) {
        return Ok(Vec::new());
    }
    let read = fs::read_dir(dir).and_then(Iterator::collect);
    read.map_err(|error| at("cannot read directory", dir, &error))
}

fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(at("cannot look at", path, &error)),
    }
}

/// An error that names its file.
pub(crate) fn at(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_removed_and_what_it_points_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::create_dir(&target).unwrap();
        fs::write(target.join("kept"), "x").unwrap();
        symlink(&target, &link).unwrap();
        remove(&link).unwrap();
        assert!(!exists(&link) && target.join("kept").exists());

        symlink(&target, &link).unwrap();
        assert!(entries(&link).unwrap().is_empty());
        real_dir(&link).unwrap();
        assert!(is_real_dir(&link) && target.join("kept").exists());
    }

    #[test]
    fn writing_replaces_a_link_instead_of_following_it() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        write(&link, 0o600, b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_to_string(&link).unwrap(), "new");
    }

    #[test]
    fn nothing_and_directories_without_permissions_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("absent")).unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir_all(closed.join("inner")).unwrap();
        fs::write(closed.join("inner/file"), "x").unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        remove(&dir.path().join("file/below")).unwrap();
        fs::set_permissions(closed.join("inner"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        remove(&closed).unwrap();
        assert!(!exists(&closed));
    }
}
