//! The two files of a spool.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::TraceError;

/// Name of the output file in the job's folder.
pub(crate) const TRACE: &str = "trace";
/// Name of the file with the records.
pub(crate) const CURSOR: &str = "cursor";
/// Name of a cursor that is being rewritten.
pub(crate) const CURSOR_NEW: &str = "cursor.new";

/// The most bytes that one read gives: what one PATCH may carry (coordinator-api §6).
pub const LONGEST_READ: usize = 1024 * 1024;

/// An open file that knows its path, for errors.
#[derive(Debug)]
pub(crate) struct NamedFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl NamedFile {
    /// Opens for reading and writing, mode 0600 if it is made. With `fresh` it must not exist.
    pub(crate) fn open(path: PathBuf, fresh: bool) -> Result<Self, TraceError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        if fresh {
            options.create_new(true);
        } else {
            options.create(true);
        }
        match options.truncate(false).open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => {
                let action = if fresh { "create" } else { "open" };
                Err(TraceError::io(action, path, error))
            }
        }
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), TraceError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| TraceError::io("write", &self.path, error))
    }

    /// Reads into `buffer` from `offset`, less than its length only at the end of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, TraceError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TraceError::io("read", &self.path, error)),
            }
        }
        Ok(filled)
    }

    /// Cuts the file to `len` bytes.
    pub(crate) fn truncate(&self, len: u64) -> Result<(), TraceError> {
        self.file
            .set_len(len)
            .map_err(|error| TraceError::io("truncate", &self.path, error))
    }

    /// Length of the file.
    pub(crate) fn len(&self) -> Result<u64, TraceError> {
        match self.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(TraceError::io("inspect", &self.path, error)),
        }
    }
}

/// Reads the output of a spool while it is being written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SpoolReader {
    pub(crate) trace: Arc<NamedFile>,
}

impl SpoolReader {
    /// Reads up to `max` bytes (at most [`LONGEST_READ`]) from `offset`, but not past `len`, the
    /// length that the spool last reported.
    ///
    /// # Errors
    /// [`TraceError::Io`], also when the file is shorter than `len`.
    pub fn read(&self, offset: u64, max: usize, len: u64) -> Result<Vec<u8>, TraceError> {
        let rest = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; rest.min(max).min(LONGEST_READ)];
        let count = self.trace.read_at(&mut buffer, offset)?;
        if count < buffer.len() {
            let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(TraceError::io("read", &self.trace.path, error));
        }
        Ok(buffer)
    }
}

/// Replaces the cursor of `folder` by one with `content`; gives the new open file.
pub(crate) fn replace_cursor(folder: &Path, content: &[u8]) -> Result<NamedFile, TraceError> {
    let new = folder.join(CURSOR_NEW);
    std::fs::remove_file(&new).ok();
    let mut file = NamedFile::open(new, true)?;
    file.write_at(content, 0)?;
    let path = folder.join(CURSOR);
    std::fs::rename(&file.path, &path)
        .map_err(|error| TraceError::io("rename", &file.path, error))?;
    file.path = path;
    Ok(file)
}
