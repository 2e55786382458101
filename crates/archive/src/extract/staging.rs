//! Where files wait until the whole archive is known to be good.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstatvfs, futimens,
    mkdirat, openat, unlinkat,
};

use crate::{
    error::{ExtractError, shown},
    extract::plan::Entry,
    root::Root,
};

/// Names of staging directories begin so. One that is left behind was interrupted and may be removed.
pub const STAGING_PREFIX: &str = ".gantry-extract-";

/// Blocks of zeros of this size become holes.
const HOLE: usize = 64 << 10;
static ZEROS: [u8; HOLE] = [0; HOLE];

/// A directory in the tree for files to come, named by number.
pub(super) struct Staging {
    pub(super) dir: OwnedFd,
    path: std::path::PathBuf,
    /// Bytes that may still be written.
    budget: AtomicU64,
    free: u64,
}

impl Staging {
    pub(super) fn new(root: &Root) -> Result<Self, ExtractError> {
        let fail = |source: io::Error| ExtractError::Write {
            name: root.path.display().to_string(),
            source,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos());
        let name = format!("{STAGING_PREFIX}{}-{now:x}", std::process::id());
        mkdirat(&root.dir, &name, Mode::RWXU).map_err(|error| fail(error.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(&root.dir, &name, flags, Mode::empty());
        let dir = dir.map_err(|error| fail(error.into()))?;
        let free = free(&dir);
        Ok(Self {
            dir,
            path: root.path.join(name),
            budget: AtomicU64::new(free),
            free,
        })
    }

    /// A new file. `name`: of its entry, for messages.
    pub(super) fn create(&self, number: u64, name: &[u8]) -> Result<Staged<'_>, ExtractError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        let file = openat(&self.dir, number.to_string(), flags, mode);
        let file = file.map_err(|error| write_error(name, error.into()))?;
        Ok(Staged {
            staging: self,
            file: file.into(),
            written: 0,
            taken: 0,
            hole: false,
        })
    }

    /// A file that is there already.
    pub(super) fn reopen(&self, entry: &Entry) -> Result<Staged<'_>, ExtractError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, entry.staged.to_string(), flags, Mode::empty());
        let file = file.map_err(|error| write_error(&entry.path, error.into()))?;
        Ok(Staged {
            staging: self,
            file: file.into(),
            written: entry.size,
            taken: 0,
            hole: false,
        })
    }

    /// What is in a file that is there already.
    pub(super) fn read(&self, entry: &Entry) -> Result<File, ExtractError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, entry.staged.to_string(), flags, Mode::empty());
        file.map(File::from)
            .map_err(|error| write_error(&entry.path, error.into()))
    }

    fn take(&self, bytes: u64) -> Result<(), ExtractError> {
        let taken = self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        taken
            .map(drop)
            .map_err(|_| ExtractError::NoSpace { free: self.free })
    }
}

/// Bytes that may be written. A part is left to others.
fn free(dir: &OwnedFd) -> u64 {
    #[cfg(test)]
    if let Some(free) = FREE.get() {
        return free;
    }
    fstatvfs(dir).map_or(u64::MAX, |found| {
        found.f_bavail.saturating_mul(found.f_frsize) / 20 * 19
    })
}

#[cfg(test)]
thread_local! {
    /// As if this were all.
    pub(super) static FREE: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nothing is in it after success.
        if unlinkat(rustix::fs::CWD, &self.path, AtFlags::REMOVEDIR).is_err() {
            std::fs::remove_dir_all(&self.path).ok();
        }
    }
}

/// A file being written.
pub(super) struct Staged<'a> {
    staging: &'a Staging,
    file: File,
    written: u64,
    /// Bytes that were no holes.
    taken: u64,
    /// It ends with a hole.
    hole: bool,
}

impl Staged<'_> {
    pub(super) fn write(&mut self, bytes: &[u8], name: &[u8]) -> Result<(), ExtractError> {
        for piece in bytes.chunks(HOLE) {
            if piece.len() == HOLE && piece == &ZEROS[..] {
                self.hole = true;
            } else {
                self.staging.take(piece.len() as u64)?;
                self.taken += piece.len() as u64;
                self.file
                    .write_all_at(piece, self.written)
                    .map_err(|error| write_error(name, error))?;
                self.hole = false;
            }
            self.written += piece.len() as u64;
        }
        Ok(())
    }

    /// Takes it away again: `number` is its name.
    pub(super) fn discard(self, number: u64) {
        let staging = self.staging;
        staging.budget.fetch_add(self.taken, Ordering::Relaxed);
        unlinkat(&staging.dir, number.to_string(), AtFlags::empty()).ok();
    }

    /// Gives it its length.
    pub(super) fn close(self) -> io::Result<()> {
        if self.hole {
            self.file.set_len(self.written)?;
        }
        Ok(())
    }

    /// Sets owner, mode and time.
    pub(super) fn finish(self, entry: &Entry) -> Result<(), ExtractError> {
        let done = || -> io::Result<()> {
            if self.hole {
                self.file.set_len(self.written)?;
            }
            if let Some((uid, gid)) = entry.owner {
                // As far as this process may. Before the mode: a change of owner takes bits away.
                fchown(
                    &self.file,
                    Some(Uid::from_raw(uid)),
                    Some(Gid::from_raw(gid)),
                )
                .ok();
            }
            if let Some(mode) = entry.mode {
                fchmod(&self.file, Mode::from_raw_mode(mode))?;
            }
            if let Some(time) = entry.mtime {
                futimens(&self.file, &times(time))?;
            }
            Ok(())
        };
        done().map_err(|error| write_error(&entry.path, error))
    }
}

/// A time of modification, and the same of access.
pub(super) fn times(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

pub(super) fn write_error(name: &[u8], source: io::Error) -> ExtractError {
    ExtractError::Write {
        name: shown(name),
        source,
    }
}

/// An unnamed file with some content.
#[cfg(test)]
pub(super) fn scratch(data: &[u8]) -> io::Result<File> {
    use std::io::Write as _;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(data)?;
    Ok(file)
}
