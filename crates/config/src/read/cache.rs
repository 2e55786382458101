//! `[runners.cache]`.

use secrecy::SecretString;

use crate::config::{AzureCacheConfig, CacheConfig, GcsCacheConfig, S3CacheConfig};
use crate::tree::Tree;

pub(super) fn cache(tree: &Tree) -> CacheConfig {
    CacheConfig {
        kind: tree.string("Type").to_owned(),
        path: tree.string("Path").to_owned(),
        shared: tree.flag("Shared"),
        max_uploaded_archive_size: tree.count("MaxUploadedArchiveSize").unwrap_or(0),
        s3: tree.table("s3").map_or_else(S3CacheConfig::default, s3),
        gcs: tree.table("gcs").map_or_else(GcsCacheConfig::default, gcs),
        azure: tree
            .table("azure")
            .map_or_else(AzureCacheConfig::default, azure),
    }
}

fn s3(tree: &Tree) -> S3CacheConfig {
    let default = S3CacheConfig::default();
    S3CacheConfig {
        server_address: tree.string("ServerAddress").to_owned(),
        access_key: secret(tree, "AccessKey"),
        secret_key: secret(tree, "SecretKey"),
        session_token: secret(tree, "SessionToken"),
        bucket_name: tree.string("BucketName").to_owned(),
        bucket_location: tree.string("BucketLocation").to_owned(),
        insecure: tree.flag("Insecure"),
        authentication_type: tree.string("AuthenticationType").to_owned(),
        server_side_encryption: tree.string("ServerSideEncryption").to_owned(),
        server_side_encryption_key_id: tree.string("ServerSideEncryptionKeyID").to_owned(),
        dual_stack: tree.bool("DualStack").unwrap_or(default.dual_stack),
        path_style: tree.bool("PathStyle"),
        accelerate: tree.flag("Accelerate"),
        role_arn: tree.string("RoleARN").to_owned(),
        upload_role_arn: tree.string("UploadRoleARN").to_owned(),
        assume_role_max_concurrency: tree
            .int("AssumeRoleMaxConcurrency")
            .filter(|count| *count != 0)
            .unwrap_or(default.assume_role_max_concurrency),
        disable_assume_role_credentials_caching: tree.flag("DisableAssumeRoleCredentialsCaching"),
    }
}

fn gcs(tree: &Tree) -> GcsCacheConfig {
    GcsCacheConfig {
        credentials_file: tree.string("CredentialsFile").to_owned(),
        access_id: tree.string("AccessID").to_owned(),
        private_key: secret(tree, "PrivateKey"),
        bucket_name: tree.string("BucketName").to_owned(),
        universe_domain: tree.string("UniverseDomain").to_owned(),
    }
}

fn azure(tree: &Tree) -> AzureCacheConfig {
    AzureCacheConfig {
        account_name: tree.string("AccountName").to_owned(),
        account_key: secret(tree, "AccountKey"),
        container_name: tree.string("ContainerName").to_owned(),
        storage_domain: tree.string("StorageDomain").to_owned(),
    }
}

fn secret(tree: &Tree, key: &str) -> SecretString {
    SecretString::from(tree.string(key))
}
