//! What there is to be archived.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, Metadata},
    io,
    os::unix::ffi::OsStrExt,
    os::unix::fs::MetadataExt,
    path::Path,
};

use crate::{
    glob::full,
    number,
    paths::{Names, Node, Sorted},
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
        })
    }

    /// All but the path, for [`Names::put_details`].
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            Kind::File => 0,
            Kind::Dir => 1,
            Kind::Symlink => 2,
        });
        for value in [self.mode, self.uid, self.gid] {
            number::put(out, value.into());
        }
        number::put(out, self.size);
        number::put_signed(out, self.mtime);
    }

    fn take(mut details: &[u8], path: &[u8]) -> Option<Self> {
        let (kind, rest) = details.split_first()?;
        details = rest;
        // They were of 32 bits.
        let [mode, uid, gid] = [(); 3].map(|()| number::take(&mut details) as u32);
        Some(Self {
            path: path.into(),
            kind: match kind {
                0 => Kind::File,
                1 => Kind::Dir,
                _ => Kind::Symlink,
            },
            mode,
            uid,
            gid,
            size: number::take(&mut details),
            mtime: number::take_signed(&mut details),
        })
    }
}

/// Mark of a path that is an item.
pub(crate) const IS_ITEM: u8 = 1;

/// Items, sorted by the bytes of their paths, each once. Of a million files it holds some forty megabytes.
#[derive(Clone, Default)]
pub struct Items {
    pub(crate) paths: Sorted,
    pub(crate) count: usize,
    pub(crate) newest: Option<(i64, i64)>,
}

impl Items {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items, in order.
    pub fn iter(&self) -> impl Iterator<Item = Item> + Send {
        let mut walk = self.paths.walk();
        let names = &self.paths.names;
        std::iter::from_fn(move || {
            loop {
                let node = walk.next()?;
                if is_item(names, node) {
                    break Item::take(names.details(node)?, walk.path());
                }
            }
        })
    }

    /// When the one that changed last was changed: seconds since 1970 and nanoseconds. `None`: there are no items.
    pub fn newest(&self) -> Option<(i64, i64)> {
        self.newest
    }

    /// Takes a file, directory or link below `root` as it is now, whether or not it is among the items already.
    ///
    /// # Errors
    /// If it cannot be looked at, or is nothing that archives hold.
    pub fn look(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let path = path.as_os_str().as_bytes();
        let found = fs::symlink_metadata(full(root, path))?;
        let item = Item::new(&found).ok_or_else(|| io::Error::other("archives do not hold it"))?;
        let mut details = Vec::new();
        item.put(&mut details);
        let full = |_| io::Error::other("there are too many files");
        let node = self.paths.node(path).map_err(full)?;
        self.paths.names.put_details(node, &details).map_err(full)?;
        if !is_item(&self.paths.names, node) {
            self.paths.names.mark(node, IS_ITEM);
            self.count += 1;
        }
        self.newest = self.newest.max(Some(time(&found)));
        Ok(())
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

fn is_item(names: &Names, node: Node) -> bool {
    names.marks(node) & IS_ITEM != 0
}

/// When something was changed.
pub(crate) fn time(found: &Metadata) -> (i64, i64) {
    (found.mtime(), found.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    #[test]
    fn a_million_files_need_less_than_fifty_megabytes() {
        let mut paths = Paths::new();
        let item = Item {
            path: Box::default(),
            kind: Kind::File,
            mode: 0o644,
            uid: 100_000,
            gid: 100_000,
            size: 100_000,
            mtime: 1_900_000_000,
        };
        // As many as make the table grow: then it is at its largest.
        let count = 50_000;
        let mut details = Vec::new();
        for number in 0..count {
            let name = format!("node_modules/package-{}/module-{number:05}.js", number / 40);
            let node = paths.node(name.as_bytes()).unwrap();
            details.clear();
            item.put(&mut details);
            paths.names.put_details(node, &details).unwrap();
            paths.names.mark(node, IS_ITEM);
        }
        assert!(paths.held() / count < 60, "{}", paths.held() / count);
        let items = Items {
            paths: paths.sorted(),
            count,
            newest: None,
        };
        let held = items.paths.held() / count;
        assert!(held < 50, "{held}");
        let last = items.iter().last().unwrap();
        assert_eq!(
            last.path(),
            Path::new("node_modules/package-999/module-39999.js")
        );
        let path = last.path.clone();
        assert_eq!(last, Item { path, ..item });
    }
}
