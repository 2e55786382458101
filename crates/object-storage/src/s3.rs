//! S3 and what speaks like it (config-toml §5).

use std::sync::Arc;

use gantry_config::S3CacheConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

use crate::{
    Storage, StorageError,
    multipart::{Parts, Sizes},
    role::{AssumeRole, Sts},
    storage::{Form, reason},
};

mod profile;

const TABLE: &str = "s3";
const DEFAULT_REGION: &str = "us-east-1";

pub(crate) fn storage(
    config: &S3CacheConfig,
    client: &reqwest::Client,
) -> Result<Storage, StorageError> {
    let environment = |name: &str| std::env::var(name).ok();
    storage_in(config, client, &environment)
}

/// [`storage`] on a machine with these environment variables.
pub(crate) fn storage_in(
    config: &S3CacheConfig,
    client: &reqwest::Client,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Storage, StorageError> {
    if config.bucket_name.is_empty() {
        return Err(StorageError::config(TABLE, "has no BucketName"));
    }
    let address = Address::of(config);
    let base = Arc::new(build(config, &address, client, environment)?);
    let with_role = |role: &str| {
        let sts = Sts {
            role: role.to_owned(),
            region: address.region.clone(),
            endpoint: sts_endpoint(&address.region, environment),
            max_concurrency: config.assume_role_max_concurrency,
            caching: !config.disable_assume_role_credentials_caching,
        };
        let provider = AssumeRole::new(sts, Arc::clone(base.credentials()), client.clone());
        finish(builder(config, &address, client).with_credentials(Arc::new(provider)))
    };
    let (download, upload) = match (config.role_arn.as_str(), config.upload_role_arn.as_str()) {
        ("", "") => (Arc::clone(&base), base),
        ("", upload) => (Arc::clone(&base), Arc::new(with_role(upload)?)),
        (role, _) => {
            let both = Arc::new(with_role(role)?);
            (Arc::clone(&both), both)
        }
    };
    let form = Form::S3 {
        encryption: encryption(config),
    };
    let parts = Parts::new(client.clone(), Sizes::at(&address.endpoint));
    Ok(Storage::of(download, upload, form).in_parts(parts))
}

/// Where the bucket is.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    region: String,
    /// With the bucket in the host if `virtual_host`.
    endpoint: String,
    virtual_host: bool,
}

impl Address {
    fn of(config: &S3CacheConfig) -> Self {
        let region = if config.bucket_location.is_empty() {
            DEFAULT_REGION.to_owned()
        } else {
            config.bucket_location.clone()
        };
        let bucket = &config.bucket_name;
        let (scheme, canonical) = if config.insecure {
            ("http", ":80")
        } else {
            ("https", ":443")
        };
        let (host, theirs) = if !config.server_address.is_empty() {
            let address = config.server_address.trim_end_matches('/');
            let host = address.strip_suffix(canonical).unwrap_or(address);
            (host.to_owned(), knows_virtual_hosts(host))
        } else if config.accelerate {
            let dual = if config.dual_stack { ".dualstack" } else { "" };
            (format!("s3-accelerate{dual}.amazonaws.com"), true)
        } else {
            let dual = if config.dual_stack { ".dualstack" } else { "" };
            (format!("s3{dual}.{region}.{}", domain(&region)), true)
        };
        // A name with dots does not fit the certificate of the hosts below the storage's.
        let virtual_host = match config.path_style {
            Some(path_style) => !path_style,
            None => theirs && (config.insecure || !bucket.contains('.')),
        };
        let endpoint = if virtual_host {
            format!("{scheme}://{bucket}.{host}")
        } else {
            format!("{scheme}://{host}")
        };
        Self {
            region,
            endpoint,
            virtual_host,
        }
    }
}

fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    }
}

/// Where a role is asked for. The variables are those of AWS' own clients, for proxies and storages that are not AWS.
fn sts_endpoint(region: &str, environment: &dyn Fn(&str) -> Option<String>) -> String {
    let named = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]
        .into_iter()
        .filter_map(environment)
        .find(|endpoint| !endpoint.is_empty());
    match named {
        Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
        None => format!("https://sts.{region}.{}/", domain(region)),
    }
}

fn knows_virtual_hosts(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    ["amazonaws.com", "amazonaws.com.cn", "googleapis.com"]
        .iter()
        .any(|domain| name == *domain || name.ends_with(&format!(".{domain}")))
}

/// Whether credentials come from the machine: asked for, or something of address and keys is missing (config-toml §5).
fn from_machine(config: &S3CacheConfig) -> Result<bool, StorageError> {
    let blank = |secret: &SecretString| secret.expose_secret().is_empty();
    match config.authentication_type.to_ascii_lowercase().as_str() {
        "iam" => Ok(true),
        "access-key" => Ok(false),
        "" => Ok(config.server_address.is_empty()
            || blank(&config.access_key)
            || blank(&config.secret_key)),
        _ => Err(StorageError::config(
            TABLE,
            format!(
                "AuthenticationType is {:?}: write access-key or iam",
                config.authentication_type
            ),
        )),
    }
}

fn builder(config: &S3CacheConfig, address: &Address, client: &reqwest::Client) -> AmazonS3Builder {
    with_place(AmazonS3Builder::new(), config, address, client)
}

fn with_place(
    builder: AmazonS3Builder,
    config: &S3CacheConfig,
    address: &Address,
    client: &reqwest::Client,
) -> AmazonS3Builder {
    builder
        .with_bucket_name(&config.bucket_name)
        .with_region(&address.region)
        .with_endpoint(&address.endpoint)
        // It has a variable of its own, which would go before.
        .with_config(AmazonS3ConfigKey::S3Endpoint, &address.endpoint)
        .with_virtual_hosted_style_request(address.virtual_host)
        .with_allow_http(config.insecure)
        .with_http_connector(crate::role::Connector(client.clone()))
}

fn build(
    config: &S3CacheConfig,
    address: &Address,
    client: &reqwest::Client,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<AmazonS3, StorageError> {
    let mut builder = if from_machine(config)? {
        match profile::credentials(environment) {
            Some(profile) => profile.give_to(builder(config, address, client)),
            // Environment, web identity, task and instance; what the table says of the place wins.
            None => with_place(AmazonS3Builder::from_env(), config, address, client),
        }
    } else {
        builder(config, address, client)
            .with_access_key_id(config.access_key.expose_secret())
            .with_secret_access_key(config.secret_key.expose_secret())
    };
    let token = config.session_token.expose_secret();
    if !token.is_empty() {
        builder = builder.with_token(token);
    }
    finish(builder)
}

fn finish(builder: AmazonS3Builder) -> Result<AmazonS3, StorageError> {
    builder
        .build()
        .map_err(|error| StorageError::config(TABLE, reason(&error)))
}

/// Headers of an upload that is to be encrypted by the storage.
fn encryption(config: &S3CacheConfig) -> Vec<(&'static str, String)> {
    const HEADER: &str = "x-amz-server-side-encryption";
    const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
    let kind = match config.server_side_encryption.to_ascii_uppercase().as_str() {
        "" => return Vec::new(),
        "S3" | "AES256" => return vec![(HEADER, "AES256".to_owned())],
        "KMS" | "AWS:KMS" => "aws:kms",
        "DSSE-KMS" | "AWS:KMS:DSSE" => "aws:kms:dsse",
        _ => {
            warn!(
                value = config.server_side_encryption,
                "ServerSideEncryption in [runners.cache.s3] is none of S3, KMS, DSSE-KMS: caches are sent without it"
            );
            return Vec::new();
        }
    };
    let mut headers = vec![(HEADER, kind.to_owned())];
    if !config.server_side_encryption_key_id.is_empty() {
        headers.push((KEY, config.server_side_encryption_key_id.clone()));
    }
    headers
}

#[cfg(test)]
mod tests;
