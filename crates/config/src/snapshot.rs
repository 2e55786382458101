//! A runner entry in a job's journal, so that a restarted process goes on with the settings the job began with.
//!
//! This is the one place where token and environment are written down; the journal keeps its files to their owner (0600). Reading
//! is tolerant both ways: fields another version added are ignored, fields it did not have get their defaults.

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::config::{CacheConfig, Environment, RunnerConfig};

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
    service_environments: Vec<Vec<(&'a str, &'a str)>>,
    cache: CacheSecrets<'a>,
}

/// Keys of the remote cache.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct CacheSecrets<'a> {
    s3_access_key: Cow<'a, str>,
    s3_secret_key: Cow<'a, str>,
    s3_session_token: Cow<'a, str>,
    gcs_private_key: Cow<'a, str>,
    azure_account_key: Cow<'a, str>,
}

impl<'a> CacheSecrets<'a> {
    fn of(cache: &'a CacheConfig) -> Self {
        let shown = |secret: &'a SecretString| Cow::Borrowed(secret.expose_secret());
        Self {
            s3_access_key: shown(&cache.s3.access_key),
            s3_secret_key: shown(&cache.s3.secret_key),
            s3_session_token: shown(&cache.s3.session_token),
            gcs_private_key: shown(&cache.gcs.private_key),
            azure_account_key: shown(&cache.azure.account_key),
        }
    }

    fn give_to(self, cache: &mut CacheConfig) {
        let secret = |text: Cow<'a, str>| SecretString::from(text.into_owned());
        cache.s3.access_key = secret(self.s3_access_key);
        cache.s3.secret_key = secret(self.s3_secret_key);
        cache.s3.session_token = secret(self.s3_session_token);
        cache.gcs.private_key = secret(self.gcs_private_key);
        cache.azure.account_key = secret(self.azure_account_key);
    }
}

/// The same, read back.
#[derive(Deserialize)]
struct Read {
    runner: RunnerConfig,
    #[serde(default)]
    token: SecretString,
    #[serde(default)]
    environment: Vec<(String, String)>,
    #[serde(default)]
    service_environments: Vec<Vec<(String, String)>>,
    #[serde(default)]
    cache: CacheSecrets<'static>,
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
            service_environments: self
                .docker
                .services
                .iter()
                .map(|service| service.environment.iter().collect())
                .collect(),
            cache: CacheSecrets::of(&self.cache),
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
        read.cache.give_to(&mut runner.cache);
        runner.environment = Environment::from_iter(read.environment);
        let services = runner.docker.services.iter_mut();
        for (service, environment) in services.zip(read.service_environments) {
            service.environment = Environment::from_iter(environment);
        }
        Ok(runner)
    }
}

/// Serde quotes the value it did not expect, which may be the token: keep the sort of error only.
fn unquoted(_: serde_json::Error) -> serde_json::Error {
    serde::de::Error::custom("not of the form this version writes")
}

#[cfg(test)]
mod tests;
