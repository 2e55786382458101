//! What can go wrong with a job's log.

use std::io;
use std::path::PathBuf;

/// Why a log could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The disk is full. Nothing of the refused call was taken in; repeat it later.
    #[error("write job log {path}: the disk is full; free space in the state folder")]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The files contradict each other or their checksums: the job must be set aside.
    #[error("job log {path} is corrupt at byte {offset}: {reason}; set the job's folder aside")]
    Corrupt {
        /// The file in question.
        path: PathBuf,
        /// Where in that file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The files were written by a version that this one does not know.
    #[error("job log {path} has format version {found}, this program knows {known}")]
    Version {
        /// The cursor file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Any other failure of the file system. Like [`TraceError::DiskFull`], a refused write took
    /// nothing in.
    #[error("{action} job log {path}")]
    Io {
        /// What was tried: `create`, `open`, `write`, `read` …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// More output after [`JobTrace::finish`](crate::JobTrace::finish).
    #[error("the job log is finished")]
    Finished,
}

impl TraceError {
    /// Sorts an error of the system: a full disk is told apart.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}
