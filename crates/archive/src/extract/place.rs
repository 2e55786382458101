//! Staged files on their way to their places.

use std::{fs::File, io, os::fd::OwnedFd};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, futimens, openat,
        renameat, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use crate::{
    Kind,
    error::{ExtractError, shown},
    extract::{
        plan::{Entry, Plan},
        staging::{Staging, times},
    },
    root::{Obstacle, Root, split},
};

/// Whether everything will find its place, before anything is unpacked.
pub(super) fn check(root: &mut Root, plan: &Plan) -> Result<(), ExtractError> {
    plan.check_parents()?;
    let mut walk = plan.walk();
    while let Some(node) = walk.next() {
        let path = walk.path();
        let Some(kind) = plan.kind(node) else {
            continue;
        };
        let (parent, name) = split(path);
        let parent = match root.dir(parent) {
            // Nor is anything in it.
            Ok(None) => continue,
            Ok(Some(dir)) => dir,
            Err(obstacle) => return Err(refused(root, path, obstacle)),
        };
        let found = match statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(refused(root, path, Obstacle::Io(error.into()))),
        };
        let problem = match (kind, found) {
            (Kind::Dir, FileType::Directory) => None,
            // A link to a directory inside the tree does as well.
            (Kind::Dir, FileType::Symlink) => match root.dir(path) {
                Ok(Some(_)) => None,
                Ok(None) => Some("there is a link in its place that leads nowhere"),
                Err(obstacle) => return Err(refused(root, path, obstacle)),
            },
            (Kind::Dir, _) => Some("there is a file in the place of this directory"),
            (Kind::File, FileType::Directory) => {
                Some("there is a directory in the place of this file")
            }
            (Kind::Symlink, FileType::Directory) if !is_empty(&parent, name) => {
                Some("there is a directory in the place of this link")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(ExtractError::entry(path, problem));
        }
    }
    Ok(())
}

/// Moves everything to its place: directories, files, then links, then modes and times of directories from the inside out.
pub(super) fn commit(root: &mut Root, staging: &Staging, plan: &Plan) -> Result<(), ExtractError> {
    let (mut links, mut dirs) = (Vec::new(), Vec::new());
    for node in plan.walk() {
        let Some(entry) = plan.entry(node) else {
            continue;
        };
        let path = &entry.path;
        let failed = |source: io::Error| failed(path, source);
        match entry.kind {
            Kind::Dir => {
                root.make(path)
                    .map_err(|obstacle| failed(obstacle.into()))?;
                dirs.push(node);
            }
            Kind::File => {
                let (parent, name) = split(path);
                let parent = root
                    .make(parent)
                    .map_err(|obstacle| failed(obstacle.into()))?;
                match renameat(&staging.dir, entry.staged.to_string(), &*parent, name) {
                    Err(Errno::XDEV) => {
                        copy(staging, &parent, name, &entry).map_err(failed)?;
                    }
                    moved => moved.map_err(|error| failed(error.into()))?,
                }
            }
            Kind::Symlink => links.push(node),
        }
    }
    for entry in links.into_iter().filter_map(|node| plan.entry(node)) {
        link(root, &entry.path, &entry).map_err(|source| failed(&entry.path, source))?;
    }
    for entry in dirs.into_iter().rev().filter_map(|node| plan.entry(node)) {
        finish_dir(root, &entry.path, &entry).map_err(|source| failed(&entry.path, source))?;
    }
    Ok(())
}

fn failed(path: &[u8], source: io::Error) -> ExtractError {
    ExtractError::Place {
        name: shown(path),
        source,
    }
}

/// Into a directory of the tree that is another file system.
fn copy(staging: &Staging, parent: &OwnedFd, name: &[u8], entry: &Entry) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = openat(&staging.dir, entry.staged.to_string(), flags, Mode::empty())?;
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = openat(parent, name, flags, Mode::from_raw_mode(0o666))?;
    let (mut from, mut to) = (File::from(from), File::from(to));
    io::copy(&mut from, &mut to)?;
    if let Some((uid, gid)) = entry.owner {
        fchown(&to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).ok();
    }
    if let Some(mode) = entry.mode {
        fchmod(&to, Mode::from_raw_mode(mode))?;
    }
    if let Some(time) = entry.mtime {
        futimens(&to, &times(time))?;
    }
    unlinkat(&staging.dir, entry.staged.to_string(), AtFlags::empty())?;
    Ok(())
}

fn link(root: &mut Root, path: &[u8], entry: &Entry) -> io::Result<()> {
    let (parent, name) = split(path);
    let parent = root.make(parent)?;
    match unlinkat(&*parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(&*parent, name, AtFlags::REMOVEDIR)?,
        Err(error) => return Err(error.into()),
    }
    symlinkat(&entry.target[..], &*parent, name)?;
    if let Some((uid, gid)) = entry.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(
            &*parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .ok();
    }
    if let Some(time) = entry.mtime {
        // Not every file system keeps times of links.
        utimensat(&*parent, name, &times(time), AtFlags::SYMLINK_NOFOLLOW).ok();
    }
    Ok(())
}

fn finish_dir(root: &mut Root, path: &[u8], entry: &Entry) -> io::Result<()> {
    let (parent, name) = split(path);
    let parent = root.make(parent)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match openat(&*parent, name, flags, Mode::empty()) {
        Ok(dir) => dir,
        // A link that was kept; or one that we may not look into, whose owner is another.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if let Some((uid, gid)) = entry.owner {
        fchown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).ok();
    }
    // Where the directory belongs to another, mode and times are theirs.
    if let Some(mode) = entry.mode {
        ignore_permission(fchmod(&dir, Mode::from_raw_mode(mode)))?;
    }
    if let Some(time) = entry.mtime {
        ignore_permission(futimens(&dir, &times(time)))?;
    }
    Ok(())
}

fn ignore_permission(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_empty(parent: &OwnedFd, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(dir) = openat(parent, name, flags, Mode::empty()) else {
        return false;
    };
    Dir::new(dir).is_ok_and(|mut dir| {
        dir.all(|entry| {
            entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
        })
    })
}

fn refused(root: &Root, path: &[u8], obstacle: Obstacle) -> ExtractError {
    match obstacle {
        Obstacle::Link => ExtractError::Outside {
            name: shown(path),
            root: root.path.display().to_string(),
        },
        Obstacle::NoDirectory => ExtractError::entry(
            path,
            "there is a file or link in the place of one of its directories",
        ),
        Obstacle::Io(source) => ExtractError::Write {
            name: shown(path),
            source,
        },
    }
}

impl From<Obstacle> for io::Error {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Link => Self::other("a link leads out of the tree"),
            Obstacle::NoDirectory => Self::other("something else is in the place of a directory"),
            Obstacle::Io(error) => error,
        }
    }
}
