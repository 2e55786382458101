//! Changes `config.toml` where it lies (config-toml §1 "Saving", and what the peer loses there is kept): comments, order, unknown
//! keys and `$VAR` placeholders stay as they were written.
//!
//! [`edit()`] is the one way in: it takes the lock, reads the file anew, lets the caller change it, checks that the result is a
//! configuration that loads, and replaces the file in one step. A file that does not load is never changed. Two processes that
//! edit at once wait for each other, so that neither loses the other's change.
//!
//! | Module | Owns |
//! |---|---|
//! | `document` | pure: the text and its changes |
//! | `entry` | pure: a new `[[runners]]` entry from flags and a template |
//! | `file` | lock, read, replace |
//! | `unsaved` | where a new token goes when the file cannot be written |

mod document;
mod entry;
mod file;
mod unsaved;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

use crate::config::{Config, RunnerConfig};
use crate::load::{Placeholders, parse};
use crate::problem::ConfigError;
use document::Document;
pub use entry::{EntryError, RunnerEntry};
use file::Locked;
pub use unsaved::keep_unsaved_token;

/// Why a configuration was not changed. The file is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// It cannot be read, or is wrong: what is wrong is not made worse.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The change would make it wrong.
    #[error("the changed configuration would not load: {0}")]
    Result(#[source] ConfigError),
    /// `runners` is written in a form that cannot be changed.
    #[error("{}: {reason}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// What about it.
        reason: &'static str,
    },
    /// It cannot be written.
    #[error("{action} {}: {source}", path.display())]
    Write {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another process has held the lock for too long.
    #[error("{}: another process is changing it and does not come to an end", path.display())]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// What was to be changed is no longer in the file.
    #[error("{}: {what}", path.display())]
    Gone {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
}

/// A token as GitLab gave it, and what is written of it.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The token.
    pub token: SecretString,
    /// When it was given.
    pub obtained_at: SystemTime,
    /// When it ends; `None`: never.
    pub expires_at: Option<SystemTime>,
}

/// A configuration under the lock, while it is changed.
#[derive(Debug)]
pub struct Edit<'a> {
    path: &'a Path,
    document: Document,
    config: Config,
}

impl Edit<'_> {
    /// What the file says at the moment. Changes made since do not show.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Adds a runner at the end of the file.
    ///
    /// # Errors
    /// `runners` is written in a form that cannot be added to.
    pub fn add_runner(&mut self, entry: RunnerEntry) -> Result<(), EditError> {
        self.document
            .push_runner(entry.into_table())
            .map_err(|reason| self.form(reason))
    }

    /// Removes the runners for which `gone` says so, and returns how many those are. Comments above their headers stay; what is
    /// written inside goes with them.
    ///
    /// # Errors
    /// `runners` is written in a form that cannot be taken from.
    pub fn remove_runners(
        &mut self,
        gone: impl Fn(&RunnerConfig) -> bool,
    ) -> Result<usize, EditError> {
        let runners = self.config.runners.iter().enumerate();
        let found: Vec<usize> = runners
            .filter(|(_, runner)| gone(runner))
            .map(|(index, _)| index)
            .collect();
        for index in found.iter().rev() {
            self.document
                .remove_runner(*index)
                .map_err(|reason| self.form(reason))?;
        }
        Ok(found.len())
    }

    /// Gives all runners that have the token of `old` (and its URL) the new one. Returns whether a placeholder had to make way: what
    /// it stands for is of no more use.
    ///
    /// # Errors
    /// There is none any more, or the form of `runners` does not allow it.
    pub fn replace_token(&mut self, old: &RunnerConfig, new: &NewToken) -> Result<bool, EditError> {
        let runners = self.config.runners.iter().enumerate();
        let found: Vec<usize> = runners
            .filter(|(_, runner)| runner.same_credentials(old))
            .map(|(index, _)| index)
            .collect();
        if found.is_empty() {
            return Err(EditError::Gone {
                path: self.path.to_owned(),
                what: format!(
                    "runner {:?} ({}) is no longer in it",
                    old.name,
                    old.short_token()
                ),
            });
        }
        let mut placeholder = false;
        for index in found {
            placeholder |= self
                .document
                .set_token(index, new)
                .map_err(|reason| self.form(reason))?;
        }
        Ok(placeholder)
    }

    fn form(&self, reason: &'static str) -> EditError {
        EditError::Form {
            path: self.path.to_owned(),
            reason,
        }
    }
}

impl RunnerConfig {
    /// Whether the other entry speaks to the same server with the same token.
    #[must_use]
    pub fn same_credentials(&self, other: &Self) -> bool {
        self.url == other.url && self.token.expose_secret() == other.token.expose_secret()
    }
}

/// Changes the file at `path`; one that does not exist is made, with its folder. What `change` returns is handed on after the file
/// is written; if it fails, or changes nothing, nothing is written.
///
/// # Errors
/// What [`EditError`] says; the file is as it was.
pub fn edit<T, E: From<EditError>>(
    path: &Path,
    placeholders: &Placeholders,
    change: impl FnOnce(&mut Edit<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let locked = Locked::take(path)?;
    let (old, mut edit) = open(&locked, path, placeholders)?;
    let done = change(&mut edit)?;
    let new = edit.document.to_text();
    if new.as_bytes() != old {
        parse(&new, path, placeholders).map_err(EditError::Result)?;
        locked.replace(&old, new.as_bytes())?;
    }
    Ok(done)
}

/// Proves that [`edit()`] will be able to save: the file loads, can be opened for writing, and there is room beside it. To be asked
/// before something is done that cannot be undone.
///
/// # Errors
/// What would go wrong.
pub fn prove_writable(path: &Path, placeholders: &Placeholders) -> Result<(), EditError> {
    let locked = Locked::take(path)?;
    let (old, _) = open(&locked, path, placeholders)?;
    locked.prove(&old)
}

fn open<'a>(
    locked: &Locked,
    path: &'a Path,
    placeholders: &Placeholders,
) -> Result<(Vec<u8>, Edit<'a>), EditError> {
    let old = locked.read().map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let loaded = parse(&old, path, placeholders)?;
    // It is UTF-8 and TOML, or it would not have loaded.
    let text = String::from_utf8_lossy(&old);
    let document = Document::parse(&text).map_err(|_| EditError::Form {
        path: path.to_owned(),
        reason: "it is written in a form that loads but cannot be changed in place",
    })?;
    let edit = Edit {
        path,
        document,
        config: loaded.config,
    };
    Ok((old, edit))
}

#[cfg(test)]
mod tests;
