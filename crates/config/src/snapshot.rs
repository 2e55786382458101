//! A runner entry in a job's journal, so that a restarted process goes on with the settings the job began with.
//!
//! This is the one place where token and environment are written down; the journal keeps its files to their owner (0600). Reading
//! is tolerant both ways: fields another version added are ignored, fields it did not have get their defaults.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::config::{Environment, RunnerConfig};

/// Why a journaled runner entry cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("runner entry in the journal: {0}")]
pub struct SnapshotError(#[from] serde_json::Error);

/// Form of the snapshot: the entry as it may be shown, and apart from it what may not.
#[derive(Serialize)]
struct Written<'a> {
    runner: &'a RunnerConfig,
    token: &'a str,
    environment: Vec<(&'a str, &'a str)>,
}

/// The same, read back.
#[derive(Deserialize)]
struct Read {
    runner: RunnerConfig,
    #[serde(default)]
    token: SecretString,
    #[serde(default)]
    environment: Vec<(String, String)>,
}

impl RunnerConfig {
    /// The entry **with its secrets**, for the journal and nothing else.
    ///
    /// # Errors
    /// None that a loaded configuration can cause.
    pub fn to_journal(&self) -> Result<serde_json::Value, SnapshotError> {
        let written = Written {
            runner: self,
            token: self.token.expose_secret(),
            environment: self.environment.iter().collect(),
        };
        Ok(serde_json::to_value(written)?)
    }

    /// The entry a job began with.
    ///
    /// # Errors
    /// When `snapshot` is not of [`RunnerConfig::to_journal`].
    pub fn from_journal(snapshot: &serde_json::Value) -> Result<Self, SnapshotError> {
        let read = Read::deserialize(snapshot).map_err(unquoted)?;
        let mut runner = read.runner;
        runner.token = read.token;
        runner.environment = Environment::from_iter(read.environment);
        Ok(runner)
    }
}

/// Serde quotes the value it did not expect, which may be the token: keep the sort of error only.
fn unquoted(_: serde_json::Error) -> serde_json::Error {
    serde::de::Error::custom("not of the form this version writes")
}

#[cfg(test)]
mod tests;
