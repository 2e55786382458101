//! What there is to be archived.

use std::{
    ffi::OsStr, fs::Metadata, os::unix::ffi::OsStrExt, os::unix::fs::MetadataExt, path::Path,
};

/// Kind of an [`Item`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link, kept as such.
    Symlink,
}

/// A file, directory or link of the tree, as it was when it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub(crate) path: Box<[u8]>,
    /// Kind.
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; of files only.
    pub size: u64,
    /// Time of modification, seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds.
    pub mtime_nsec: u32,
}

impl Item {
    /// Path below the root; the root itself is never an item.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Still without a path. `None` for what archives do not hold: sockets, pipes, devices.
    pub(crate) fn new(found: &Metadata) -> Option<Self> {
        let kind = if found.is_file() {
            Kind::File
        } else if found.is_dir() {
            Kind::Dir
        } else if found.is_symlink() {
            Kind::Symlink
        } else {
            return None;
        };
        Some(Self {
            path: Box::default(),
            kind,
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            size: if kind == Kind::File { found.len() } else { 0 },
            mtime: found.mtime(),
            // Below 10⁹.
            mtime_nsec: found.mtime_nsec() as u32,
        })
    }
}
