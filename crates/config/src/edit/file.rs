//! The file of a configuration: its lock, and how it is replaced.
//!
//! Normally a new file takes the old one's place in one step. Where that is impossible (the file itself is mounted into a container,
//! or its folder is not writable) it is written in place, in an order that leaves something that loads at each moment at which
//! writing can fail.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::EditError;
use crate::load::read_bounded;

/// Longest wait for another process; it holds the lock for the time of a read and a write.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Links that may lie one behind the other.
const LINKS: usize = 40;
/// More room than any change takes.
const ROOM: usize = 16 * 1024;

/// The file, with links followed, locked against other editors.
///
/// The lock is on the folder and on the file. The folder's is for a file that is replaced (the next one is another file); the file's
/// own for one that several containers have mounted, each into a folder of its own.
#[derive(Debug)]
pub(super) struct Locked {
    path: PathBuf,
    _folder: Option<File>,
    file: Option<File>,
}

impl Locked {
    /// Waits for the lock. Makes the folder of the file, if need be.
    pub(super) fn take(path: &Path) -> Result<Self, EditError> {
        let path = follow(path).map_err(|source| failed("follow links of", path, source))?;
        let folder = folder(&path);
        if !folder.exists() {
            let mut make = DirBuilder::new();
            make.recursive(true).mode(0o700);
            make.create(folder)
                .map_err(|source| failed("make the folder", folder, source))?;
        }
        let end = Instant::now() + LOCK_LIMIT;
        // A folder that may be passed through but not read has no lock; the file's own must do.
        let folder = match File::open(folder) {
            Ok(folder) => {
                lock(&folder, end, &path)?;
                Some(folder)
            }
            Err(_) => None,
        };
        let file = loop {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => break None,
                Err(source) => return Err(failed("open", &path, source)),
            };
            lock(&file, end, &path)?;
            // It may have been replaced while we waited.
            if is_still(&file, &path) {
                break Some(file);
            }
        };
        Ok(Self {
            path,
            _folder: folder,
            file,
        })
    }

    /// What is in it; nothing if there is none.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            return Ok(Vec::new());
        }
        read_bounded(&self.path)
    }

    /// Whether [`Locked::replace`] would work, as far as that can be known without doing it.
    pub(super) fn prove(&self, old: &[u8]) -> Result<(), EditError> {
        if self.file.is_some() {
            // Refused for a file on a read-only mount and for an immutable one, which a rename would not survive either.
            OpenOptions::new()
                .write(true)
                .open(&self.path)
                .map_err(|source| failed("open for writing", &self.path, source))?;
        }
        let mut content = old.to_vec();
        content.resize(old.len() + ROOM, b'\n');
        match self.write_beside(&content) {
            Ok(beside) => fs::remove_file(&beside)
                .map_err(|source| failed("remove the trial file", &beside, source)),
            Err(error) if self.file.is_some() && only_in_place(&error) => Ok(()),
            Err(source) => Err(failed("write beside", &self.path, source)),
        }
    }

    /// Puts `new` in the place of `old`, with mode 0600.
    pub(super) fn replace(&self, old: &[u8], new: &[u8]) -> Result<(), EditError> {
        let beside = match self.write_beside(new) {
            Ok(beside) => beside,
            Err(error) if self.file.is_some() && only_in_place(&error) => {
                return self.write_in_place(old, new);
            }
            Err(source) => return Err(failed("write beside", &self.path, source)),
        };
        match fs::rename(&beside, &self.path) {
            Ok(()) => {
                // The name is durable with its folder; a file system that cannot sync folders does it by itself.
                if let Ok(folder) = File::open(folder(&self.path)) {
                    folder.sync_all().ok();
                }
                Ok(())
            }
            Err(error) => {
                fs::remove_file(&beside).ok();
                if self.file.is_some() && only_in_place(&error) {
                    self.write_in_place(old, new)
                } else {
                    Err(failed("replace", &self.path, error))
                }
            }
        }
    }

    /// A new file with this content in the same folder, durable, and with the owner of the old one.
    fn write_beside(&self, content: &[u8]) -> io::Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let beside = folder(&self.path).join(format!(".{name}.{:08x}.new", rand::random::<u32>()));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(content)?;
            if let Some(old) = self.file.as_ref().and_then(|file| file.metadata().ok()) {
                let new = file.metadata()?;
                if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                    // Only root can; for anybody else the file becomes theirs, as with the peer.
                    std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())).ok();
                }
            }
            file.sync_all()
        };
        match write() {
            Ok(()) => Ok(beside),
            Err(error) => {
                if error.kind() != ErrorKind::AlreadyExists {
                    fs::remove_file(&beside).ok();
                }
                Err(error)
            }
        }
    }

    /// Room first, as empty lines at the end; then all at once; then the length. Undone if it fails.
    pub(super) fn write_in_place(&self, old: &[u8], new: &[u8]) -> Result<(), EditError> {
        let error = |source| failed("write", &self.path, source);
        let file = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .map_err(error)?;
        let write = || {
            if let Some(more) = new.len().checked_sub(old.len()) {
                file.write_all_at(&vec![b'\n'; more], old.len() as u64)?;
                file.sync_all()?;
            }
            file.write_all_at(new, 0)?;
            file.set_len(new.len() as u64)?;
            file.sync_all()
        };
        if let Err(source) = write() {
            file.write_all_at(old, 0)
                .and_then(|()| file.set_len(old.len() as u64))
                .ok();
            return Err(error(source));
        }
        // A mounted file may belong to somebody else: the mode is theirs then.
        file.set_permissions(Permissions::from_mode(0o600)).ok();
        Ok(())
    }
}

/// Whether a failed replacement leaves writing in place: the file is a mount point, or its folder takes no new files.
fn only_in_place(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
    )
}

fn lock(file: &File, end: Instant, path: &Path) -> Result<(), EditError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(EditError::Locked {
                    path: path.to_owned(),
                });
            }
            // A file system without locks: there is one editor at a time, or nothing can be done about it.
            Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}

fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Where the file really is or will be: links are followed, also one that leads to nothing yet.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(path),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many links, one behind the other"))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> EditError {
    EditError::Write {
        action,
        path: path.to_owned(),
        source,
    }
}
