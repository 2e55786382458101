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

mod universe;

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
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&config.bucket_name)
        .with_http_connector(Connector(client.clone()));
    let key = config.private_key.expose_secret();
    let other = other_universe(config);
    if !config.credentials_file.is_empty() && other.is_some() {
        let (email, key) = account(&config.credentials_file)?;
        builder = with_key(builder, email, &key).map_err(failed)?;
    } else if !config.credentials_file.is_empty() {
        builder = builder.with_service_account_path(&config.credentials_file);
    } else if !config.access_id.is_empty() && !key.is_empty() {
        builder = with_key(builder, config.access_id.clone(), key).map_err(failed)?;
    } else if !config.access_id.is_empty() || !key.is_empty() {
        return Err(StorageError::config(
            TABLE,
            "has one of AccessID and PrivateKey: set both, or CredentialsFile",
        ));
    } else if let Some(universe) = other {
        // Without a key of its own, it is a service of the first universe that signs.
        return Err(StorageError::config(
            TABLE,
            format!(
                "UniverseDomain is {universe:?}: set CredentialsFile, or AccessID and PrivateKey"
            ),
        ));
    }
    if let Some(universe) = other {
        let host = format!("storage.{universe}");
        builder = builder
            .with_base_url(&format!("https://{host}"))
            .with_crypto_provider(Arc::new(universe::OtherHost(host)));
    }
    let signer = Arc::new(builder.build().map_err(failed)?);
    Ok(Storage::of(
        Arc::clone(&signer) as _,
        signer,
        Form::Gcs { max_bytes },
    ))
}

/// Signs with this key and asks nobody for a token.
fn with_key(
    builder: GoogleCloudStorageBuilder,
    email: String,
    key: &str,
) -> object_store::Result<GoogleCloudStorageBuilder> {
    // In the file of many, the ends of lines are two characters.
    let pem = key.replace("\\n", "\n");
    let private_key = Some(ServiceAccountKey::from_pem(pem.as_bytes())?);
    let signing = GcpSigningCredential { email, private_key };
    let bearer = String::new();
    Ok(builder
        .with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential {
            bearer,
        })))
        .with_signing_credentials(Arc::new(StaticCredentialProvider::new(signing))))
}

/// E-mail address and key of a service account's file. The library reads such a file itself, but then wants its signatures from the
/// digests that are given for another universe.
fn account(file: &str) -> Result<(String, String), StorageError> {
    let failed = |why: &dyn std::fmt::Display| {
        StorageError::config(TABLE, format!("CredentialsFile {file:?}: {why}"))
    };
    let text = std::fs::read(file).map_err(|error| failed(&error))?;
    // What a parser says may quote the key.
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|_| failed(&"is not JSON"))?;
    let field = |name: &str| {
        let text = json[name].as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
            .ok_or_else(|| failed(&format_args!("has no {name}")))
    };
    Ok((field("client_email")?, field("private_key")?))
}

/// `UniverseDomain`, if it is not the first.
fn other_universe(config: &GcsCacheConfig) -> Option<&str> {
    let universe = config.universe_domain.trim_end_matches('.');
    (!["", UNIVERSE].contains(&universe)).then_some(universe)
}

#[cfg(test)]
mod tests;
