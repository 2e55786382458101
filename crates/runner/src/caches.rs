//! Remote caches of runners. Jobs of one runner share a storage, so that credentials which must be asked for are asked for once.

use std::sync::{Mutex, OnceLock, PoisonError};

use gantry_config::RunnerConfig;
use gantry_object_storage::Storage;
use tracing::error;

/// Settings that are remembered; older ones go.
const MOST: usize = 16;

#[derive(Default)]
pub(crate) struct Caches {
    /// Made when the first runner with a remote cache has a job.
    client: OnceLock<Option<reqwest::Client>>,
    known: Mutex<Vec<(serde_json::Value, Storage)>>,
}

impl Caches {
    /// The runner's storage. What cannot be used is told in the process log, and the job has its local caches (config-toml §5).
    pub(crate) fn get(&self, runner: &RunnerConfig) -> Option<Storage> {
        if runner.cache.kind.is_empty() {
            return None;
        }
        let snapshot = runner.to_journal().ok()?;
        // The table and its keys; the rest of the runner does not matter.
        let key = serde_json::json!([snapshot["runner"]["cache"], snapshot["cache"]]);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, storage)) = known.iter().find(|(one, _)| *one == key) {
            return Some(storage.clone());
        }
        let client = self.client.get_or_init(|| {
            gantry_gitlab::outside_client()
                .inspect_err(|error| error!(%error, "no client for cloud storages"))
                .ok()
        });
        match Storage::new(&runner.cache, client.as_ref()?) {
            Ok(storage) => {
                let storage = storage?;
                if known.len() == MOST {
                    known.remove(0);
                }
                known.push((key, storage.clone()));
                Some(storage)
            }
            Err(error) => {
                error!(runner = runner.short_token(), %error, "Could not create cache adapter");
                None
            }
        }
    }
}
