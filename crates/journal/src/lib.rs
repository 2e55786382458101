//! Durable state of running jobs: what was decided and what was done, written before the world changes.
//!
//! A [`StateFolder`] belongs to one process for its life (a lock names the owner's pid) and carries the random id that marks this
//! runner's engine objects. Each job has a [`JobFolder`] with an append-only [`Journal`] of versioned, checksummed records; a torn
//! last record is cut off on opening, a damaged one elsewhere is an error that names file and line, and the job can be set aside
//! without touching others. What the records mean is their owner's business: the journal stores any serde type.
//!
//! Records that hold what may not be on a disk in clear are sealed ([`Journal::seal`]).
//!
//! See `docs/durability.md` for the promise this serves.

mod folder;
mod journal;
mod seal;

pub use folder::{JobFolder, StateFolder};
pub use journal::{Crash, Journal, read_records};

use std::path::PathBuf;

/// Why durable state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The state folder or one of its files cannot be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// Another process owns the folder.
    #[error("the state folder {} is in use by the process with pid {pid}; give this runner its own ([gantry] state_dir)", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Owner, `unknown` when its pid cannot be read.
        pid: String,
    },
    /// A record is damaged and it is not a torn end.
    #[error("{}:{line}: {message}", path.display())]
    Corrupt {
        /// Journal file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Written by a newer version.
    #[error("{} has journal version {found}; this program reads up to {known}", path.display())]
    Version {
        /// Journal file.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
}

impl JournalError {
    /// The disk is full (or a quota reached): no new jobs, running ones go on.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }

    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
