//! `.runner_system_id`: by what GitLab tells the managers of one runner apart (coordinator-api §2 "system_id").
//!
//! The file lies beside the config and is shared with the peer: an id found there is kept, so that a host that moves over stays the
//! same manager in GitLab's eyes. One id per config file, kept over reloads.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use sha2::Sha256;

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

/// An id that is kept nowhere, for a process without a configuration file.
#[must_use]
pub fn generate(machine_id_files: &[impl AsRef<Path>]) -> SystemId {
    make(machine_id(machine_id_files).as_deref(), &mut rand::rng())
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
    let path = config_file
        .parent()
        .unwrap_or(Path::new(""))
        .join(FILE_NAME);
    match fs::read(&path) {
        Ok(bytes) => {
            if let Some(id) = std::str::from_utf8(&bytes)
                .ok()
                .and_then(SystemId::from_text)
            {
                return Ok(Known { id, not_kept: None });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(SystemIdError {
                action: "read",
                path,
                source,
            });
        }
    }
    let id = generate(machine_id_files);
    let not_kept = keep(&id, &path).err().map(|source| SystemIdError {
        action: "write",
        path,
        source,
    });
    Ok(Known { id, not_kept })
}

/// From the machine if it has an id, so that a lost file gives the same id again; else random.
fn make(machine_id: Option<&str>, random: &mut impl Rng) -> SystemId {
    const LENGTH: usize = 12;
    if let Some(mut mac) =
        machine_id.and_then(|id| Hmac::<Sha256>::new_from_slice(id.as_bytes()).ok())
    {
        mac.update(b"gitlab-runner");
        let digest = mac.finalize().into_bytes();
        let hex: String = digest
            .iter()
            .take(LENGTH / 2)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        return SystemId(format!("s_{hex}"));
    }
    let letters: String = random
        .sample_iter(rand::distr::Alphanumeric)
        .take(LENGTH)
        .map(char::from)
        .collect();
    SystemId(format!("r_{letters}"))
}

/// The first machine id there is.
fn machine_id(files: &[impl AsRef<Path>]) -> Option<String> {
    let texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts
        .map(|text| text.trim().to_owned())
        .find(|id| !id.is_empty())
}

/// Writes the file in one step: whoever reads it meanwhile finds the old one or the whole new one.
fn keep(id: &SystemId, path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut make_folder = DirBuilder::new();
    let mut open = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        make_folder.mode(0o700);
        open.mode(0o600);
    }
    make_folder.recursive(true).create(folder)?;
    let draft = path.with_file_name(format!("{FILE_NAME}.{}.new", std::process::id()));
    let written = open
        .write(true)
        .create(true)
        .truncate(true)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(id.as_str().as_bytes())?;
            file.sync_all()
        });
    let kept = written.and_then(|()| fs::rename(&draft, path));
    if kept.is_err() {
        // Best effort: the error that led here is the one to tell.
        drop(fs::remove_file(&draft));
    }
    kept
}

#[cfg(test)]
mod tests;
