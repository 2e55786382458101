//! What can go wrong. Messages name the file; nothing of its content.

use std::{io, path::PathBuf};

/// An archive that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the tree.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `open`, `read`, …
        action: &'static str,
        /// Path below the root.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Where the archive goes.
    #[error("cannot write the archive: {0}")]
    Sink(#[source] io::Error),
    /// Gzip takes files only (job-lifecycle §6.2).
    #[error("the \"{}\" is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Raw takes one file.
    #[error("only one file can be sent as raw")]
    OneRaw,
    /// A name that the format cannot hold.
    #[error("the name of {} is too long for the archive", .0.display())]
    NameTooLong(PathBuf),
    /// A mistake in here.
    #[error("internal error: a thread that compresses panicked")]
    Panicked,
}

/// An archive that could not be unpacked. The tree is as it was, but for [`ExtractError::Place`].
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// No archive of a known kind.
    #[error("not an archive: {0}")]
    NotAnArchive(String),
    /// A kind that is not unpacked.
    #[error("\"{0}\" format: unsupported archive format")]
    Unsupported(&'static str),
    /// The structure is broken: cut short, or changed on its way.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// One entry is not acceptable, or its data is broken.
    #[error("{name}: {problem}")]
    Entry {
        /// Its name, escaped.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An entry that leads out of the tree (the peer's words).
    #[error("{name} cannot be extracted outside of chroot ({root})")]
    Outside {
        /// Its name, escaped.
        name: String,
        /// The tree.
        root: String,
    },
    /// More than the disk holds.
    #[error("the archive unpacks to more than the {free} bytes that are free")]
    NoSpace {
        /// Bytes.
        free: u64,
    },
    /// The archive itself cannot be read.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// The tree cannot be written to; nothing of the archive was put into it.
    #[error("cannot write {name}: {source}")]
    Write {
        /// Entry, or the tree.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Unpacked, but putting it into its place failed half-way.
    #[error("cannot put {name} into its place: {source}")]
    Place {
        /// Entry.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A mistake in here.
    #[error("internal error: a thread that unpacks panicked")]
    Panicked,
}

impl ExtractError {
    /// Whether the archive itself is at fault: unpacking it again would fail again.
    pub fn is_archive_s_fault(&self) -> bool {
        match self {
            Self::NotAnArchive(_)
            | Self::Unsupported(_)
            | Self::Damaged(_)
            | Self::Entry { .. }
            | Self::Outside { .. } => true,
            Self::NoSpace { .. }
            | Self::Read(_)
            | Self::Write { .. }
            | Self::Place { .. }
            | Self::Panicked => false,
        }
    }

    /// Whether the tree holds a part of the archive.
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::Place { .. })
    }

    pub(crate) fn entry(name: &[u8], problem: impl Into<String>) -> Self {
        Self::Entry {
            name: shown(name),
            problem: problem.into(),
        }
    }
}

/// A name for people: control characters escaped, cut if it is long.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for char in String::from_utf8_lossy(name).chars() {
        if text.len() > 300 {
            text.push('…');
            break;
        }
        if char.is_control() {
            text.extend(char.escape_default());
        } else {
            text.push(char);
        }
    }
    text
}
