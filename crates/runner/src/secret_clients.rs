//! HTTP clients for servers of secrets. Runners with the same authorities share one; none is there before a job has secrets.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use gantry_config::RunnerConfig;
use gantry_gitlab::{ClientError, outside_client_trusting};

/// Clients that are remembered; older ones go.
const MOST: usize = 4;

#[derive(Default)]
pub(crate) struct SecretClients {
    /// The CA file and when it was changed, with the client that trusts it.
    known: Mutex<Vec<(Trust, reqwest::Client)>>,
}

type Trust = (Option<PathBuf>, Option<std::time::SystemTime>);

impl SecretClients {
    /// A client that trusts the machine's authorities and those of `VAULT_CACERT`, as Vault's own clients do, else of the runner's
    /// `tls-ca-file`: a company that has an authority of its own for GitLab has it for Vault as well.
    pub(crate) fn get(&self, runner: &RunnerConfig) -> Result<reqwest::Client, ClientError> {
        let file = std::env::var_os("VAULT_CACERT")
            .filter(|file| !file.is_empty())
            .map(PathBuf::from)
            .or_else(|| runner.tls_ca_file.clone());
        let changed = file
            .as_ref()
            .and_then(|file| std::fs::metadata(file).ok()?.modified().ok());
        let trust = (file, changed);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = known.iter().find(|(one, _)| *one == trust) {
            return Ok(client.clone());
        }
        let client = outside_client_trusting(trust.0.as_deref())?;
        if known.len() == MOST {
            known.remove(0);
        }
        known.push((trust, client.clone()));
        Ok(client)
    }
}
