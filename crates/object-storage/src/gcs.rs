//! Google Cloud Storage (config-toml §5).

use std::sync::Arc;

use gantry_config::GcsCacheConfig;
use object_store::{
    StaticCredentialProvider,
    gcp::{GcpCredential, GcpSigningCredential, GoogleCloudStorageBuilder, ServiceAccountKey},
};
use secrecy::ExposeSecret as _;

use crate::{
    Storage, StorageError,
    role::Connector,
    storage::{Form, reason},
};

const TABLE: &str = "gcs";
const UNIVERSE: &str = "googleapis.com";

pub(crate) fn storage(
    config: &GcsCacheConfig,
    max_bytes: u64,
    client: &reqwest::Client,
) -> Result<Storage, StorageError> {
    let failed = |error: object_store::Error| StorageError::config(TABLE, reason(&error));
    if config.bucket_name.is_empty() {
        return Err(StorageError::config(TABLE, "has no BucketName"));
    }
    if !["", UNIVERSE].contains(&config.universe_domain.as_str()) {
        return Err(StorageError::config(
            TABLE,
            format!(
                "UniverseDomain is {:?}: only {UNIVERSE} is supported",
                config.universe_domain
            ),
        ));
    }
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&config.bucket_name)
        .with_http_connector(Connector(client.clone()));
    let key = config.private_key.expose_secret();
    if !config.credentials_file.is_empty() {
        builder = builder.with_service_account_path(&config.credentials_file);
    } else if !config.access_id.is_empty() && !key.is_empty() {
        // In the file of many, the ends of lines are two characters.
        let pem = key.replace("\\n", "\n");
        let private_key = ServiceAccountKey::from_pem(pem.as_bytes()).map_err(failed)?;
        builder = builder
            .with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential {
                bearer: String::new(),
            })))
            .with_signing_credentials(Arc::new(StaticCredentialProvider::new(
                GcpSigningCredential {
                    email: config.access_id.clone(),
                    private_key: Some(private_key),
                },
            )));
    } else if !config.access_id.is_empty() || !key.is_empty() {
        return Err(StorageError::config(
            TABLE,
            "has one of AccessID and PrivateKey: set both, or CredentialsFile",
        ));
    }
    let signer = Arc::new(builder.build().map_err(failed)?);
    Ok(Storage::of(
        Arc::clone(&signer) as _,
        signer,
        Form::Gcs { max_bytes },
    ))
}

#[cfg(test)]
mod tests;
