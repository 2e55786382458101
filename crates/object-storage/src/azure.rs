//! Azure Blob Storage (config-toml §5).

use std::sync::Arc;

use gantry_config::AzureCacheConfig;
use object_store::azure::MicrosoftAzureBuilder;
use secrecy::ExposeSecret as _;

use crate::{
    Storage, StorageError,
    role::Connector,
    storage::{Form, reason},
};

mod sas;

const TABLE: &str = "azure";
const DOMAIN: &str = "blob.core.windows.net";

pub(crate) fn storage(
    config: &AzureCacheConfig,
    client: &reqwest::Client,
) -> Result<Storage, StorageError> {
    let domain = match config.storage_domain.as_str() {
        "" => DOMAIN,
        domain => domain,
    };
    let endpoint = format!("https://{}.{domain}", config.account_name);
    storage_at(config, endpoint, client)
}

pub(crate) fn storage_at(
    config: &AzureCacheConfig,
    endpoint: String,
    client: &reqwest::Client,
) -> Result<Storage, StorageError> {
    if config.account_name.is_empty() {
        return Err(StorageError::config(TABLE, "has no AccountName"));
    }
    if config.container_name.is_empty() {
        return Err(StorageError::config(TABLE, "has no ContainerName"));
    }
    let key = config.account_key.expose_secret();
    let mut builder = if key.is_empty() {
        // The workload's identity, else the machine's.
        MicrosoftAzureBuilder::from_env()
    } else {
        MicrosoftAzureBuilder::new().with_access_key(key)
    };
    builder = builder
        .with_account(&config.account_name)
        .with_container_name(&config.container_name)
        .with_endpoint(endpoint)
        .with_crypto_provider(Arc::new(sas::DecodedNames))
        .with_http_connector(Connector(client.clone()));
    let built = builder
        .build()
        .map_err(|error| StorageError::config(TABLE, reason(&error)))?;
    let signer = Arc::new(built);
    Ok(Storage::of(Arc::clone(&signer) as _, signer, Form::Azure))
}
