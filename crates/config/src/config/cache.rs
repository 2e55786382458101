//! `[runners.cache]` (config-toml §5): where caches are kept besides the local archives.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `[runners.cache]`. Without [`kind`](Self::kind) there is no remote cache and the rest means nothing.
///
/// `Serialize` leaves out keys and tokens, as [`super::RunnerConfig`] does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheConfig {
    /// `Type` as written: `s3`, `gcs`, `azure`; empty: local only. Any other name is told when a job wants its cache.
    pub kind: String,
    /// `Path`: first part of object names.
    pub path: String,
    /// `Shared`: object names do not hold the runner's short token.
    pub shared: bool,
    /// `MaxUploadedArchiveSize` in bytes; 0: no limit.
    pub max_uploaded_archive_size: u64,
    /// `[runners.cache.s3]`
    pub s3: S3CacheConfig,
    /// `[runners.cache.gcs]`
    pub gcs: GcsCacheConfig,
    /// `[runners.cache.azure]`
    pub azure: AzureCacheConfig,
}

/// `[runners.cache.s3]`. Empty texts are unset.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct S3CacheConfig {
    /// `host[:port]`; empty: AWS.
    pub server_address: String,
    /// Access key.
    #[serde(skip)]
    pub access_key: SecretString,
    /// Secret key.
    #[serde(skip)]
    pub secret_key: SecretString,
    /// Session token.
    #[serde(skip)]
    pub session_token: SecretString,
    /// Bucket.
    pub bucket_name: String,
    /// Region.
    pub bucket_location: String,
    /// `http` instead of `https`.
    pub insecure: bool,
    /// `access-key` or `iam`; empty: chosen.
    pub authentication_type: String,
    /// `S3`, `KMS`, `DSSE-KMS` or what the protocol calls them.
    pub server_side_encryption: String,
    /// Key of KMS.
    pub server_side_encryption_key_id: String,
    /// Addresses of AWS that also have IPv6.
    pub dual_stack: bool,
    /// Bucket in the path (`true`) or in the host; `None`: chosen by the server's address.
    pub path_style: Option<bool>,
    /// Transfer acceleration of AWS.
    pub accelerate: bool,
    /// Role for up- and downloads.
    pub role_arn: String,
    /// Role for uploads.
    pub upload_role_arn: String,
    /// Requests for roles at once; negative: no limit.
    pub assume_role_max_concurrency: i64,
    /// Asks for a role for each transfer.
    pub disable_assume_role_credentials_caching: bool,
}

impl Default for S3CacheConfig {
    fn default() -> Self {
        Self {
            server_address: String::new(),
            access_key: SecretString::default(),
            secret_key: SecretString::default(),
            session_token: SecretString::default(),
            bucket_name: String::new(),
            bucket_location: String::new(),
            insecure: false,
            authentication_type: String::new(),
            server_side_encryption: String::new(),
            server_side_encryption_key_id: String::new(),
            dual_stack: true,
            path_style: None,
            accelerate: false,
            role_arn: String::new(),
            upload_role_arn: String::new(),
            assume_role_max_concurrency: 5,
            disable_assume_role_credentials_caching: false,
        }
    }
}

/// `[runners.cache.gcs]`. Nothing of it but the bucket: credentials of the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GcsCacheConfig {
    /// File of a service account; wins over account and key.
    pub credentials_file: String,
    /// Address of the service account.
    pub access_id: String,
    /// Its key, PEM.
    #[serde(skip)]
    pub private_key: SecretString,
    /// Bucket.
    pub bucket_name: String,
    /// `googleapis.com` where the file says nothing.
    pub universe_domain: String,
}

/// `[runners.cache.azure]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AzureCacheConfig {
    /// Account.
    pub account_name: String,
    /// Its key; empty: identity of the machine or of the workload.
    #[serde(skip)]
    pub account_key: SecretString,
    /// Container.
    pub container_name: String,
    /// `blob.core.windows.net` where the file says nothing.
    pub storage_domain: String,
}
