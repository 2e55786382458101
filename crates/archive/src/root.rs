//! The tree that an archive is unpacked into. Every path is looked up below it by the kernel, which refuses links that lead out; links
//! that stay inside are followed, as a checkout may hold such.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2},
    io::Errno,
};

pub(crate) struct Root {
    pub(crate) dir: OwnedFd,
    pub(crate) path: PathBuf,
    /// The last one looked up.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// The kernel, or the engine's filter of calls, lets us.
    has_openat2: bool,
}

const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a failed look-up means.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// A link that leads out of the tree, or one that could not be judged.
    Link,
    /// Something that is no directory.
    NoDirectory,
    Io(io::Error),
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let dir = open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self {
            dir,
            path: path.to_owned(),
            last: None,
            has_openat2: true,
        })
    }

    /// A directory below the root, if it is there. The empty path is the root.
    pub(crate) fn dir(&mut self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>, Obstacle> {
        if let Some((last, dir)) = &self.last
            && **last == *path
        {
            return Ok(Some(Rc::clone(dir)));
        }
        let dir = match self.look_up(path) {
            Ok(dir) => Rc::new(dir),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => return Err(Obstacle::Link),
            Err(Errno::NOTDIR) => return Err(Obstacle::NoDirectory),
            Err(error) => return Err(Obstacle::Io(error.into())),
        };
        self.last = Some((path.to_vec(), Rc::clone(&dir)));
        Ok(Some(dir))
    }

    /// A directory below the root, made with all its parents if it is not there.
    pub(crate) fn make(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Obstacle> {
        if let Some(dir) = self.dir(path)? {
            return Ok(dir);
        }
        let (parent, name) = split(path);
        let parent = self.make(parent)?;
        match mkdirat(&*parent, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Obstacle::Io(error.into())),
        }
        self.dir(path)?.ok_or(Obstacle::NoDirectory)
    }

    fn look_up(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let shown = if path.is_empty() { b"." } else { path };
        if self.has_openat2 {
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.dir, shown, LOOK, Mode::empty(), inside) {
                Err(Errno::NOSYS | Errno::PERM) => self.has_openat2 = false,
                answer => return answer,
            }
        }
        // Then no link at all is followed.
        let mut dir = openat(&self.dir, ".", LOOK, Mode::empty())?;
        for name in path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            dir = openat(&dir, name, LOOK | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(dir)
    }

    /// For tests: as on an old kernel.
    #[cfg(test)]
    pub(crate) fn without_openat2(mut self) -> Self {
        self.has_openat2 = false;
        self
    }
}

/// Parent and name; the parent of a name alone is the empty path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(end) => (&path[..end], &path[end + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_that_stay_inside_are_followed_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::create_dir_all(dir.path().join("outside")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("real", root.join("in")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("/tmp", root.join("absolute")).unwrap();
        symlink("real/../../outside", root.join("sly")).unwrap();
        for old_kernel in [false, true] {
            let mut root = Root::open(&root).unwrap();
            if old_kernel {
                root = root.without_openat2();
            }
            assert!(matches!(root.dir(b""), Ok(Some(_))));
            assert!(matches!(root.dir(b"real/deep"), Ok(Some(_))));
            assert!(matches!(root.dir(b"real/none/x"), Ok(None)));
            assert!(matches!(root.dir(b"file"), Err(Obstacle::NoDirectory)));
            assert!(matches!(root.dir(b"file/x"), Err(Obstacle::NoDirectory)));
            assert_eq!(root.dir(b"in/deep").is_ok(), !old_kernel);
            for link in ["out", "absolute", "sly", "out/new"] {
                assert!(root.dir(link.as_bytes()).is_err(), "{link}");
                assert!(root.make(link.as_bytes()).is_err(), "{link}");
            }
            root.make(b"new/er/est").unwrap();
        }
        assert!(root.join("new/er/est").is_dir());
        assert!(
            fs::read_dir(dir.path().join("outside"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}
