//! `[runners.cache]` and its tables (config-toml §5). Only `Type` speaks: without it the rest means nothing, and `register` writes
//! the empty tables.

use super::{Key, Kind, Section};

pub(super) static SECTION: Section = Section {
    path: "runners.cache",
    what: "remote cache",
    keys: &[
        Key::new(
            "Type",
            Kind::Text,
            "",
            "s3, gcs or azure; empty: local cache only",
        ),
        Key::new("Path", Kind::Text, "", "prefix of object names").with("Type"),
        Key::new("Shared", Kind::Bool, "false", "shared by all runners").with("Type"),
        Key::new(
            "MaxUploadedArchiveSize",
            Kind::Int,
            "0",
            "greatest upload in bytes; 0: no limit",
        )
        .with("Type"),
        Key::new("s3", Kind::Table(&S3), "", "S3"),
        Key::new("gcs", Kind::Table(&GCS), "", "Google Cloud Storage"),
        Key::new("azure", Kind::Table(&AZURE), "", "Azure Blob Storage"),
    ],
};

static S3: Section = Section {
    path: "runners.cache.s3",
    what: "S3",
    keys: &[
        Key::new("ServerAddress", Kind::Text, "", "host[:port]; empty: AWS").with("Type"),
        Key::new("AccessKey", Kind::Text, "", "access key")
            .secret()
            .with("Type"),
        Key::new("SecretKey", Kind::Text, "", "secret key")
            .secret()
            .with("Type"),
        Key::new("SessionToken", Kind::Text, "", "session token")
            .secret()
            .with("Type"),
        Key::new("BucketName", Kind::Text, "", "bucket").with("Type"),
        Key::new("BucketLocation", Kind::Text, "", "region").with("Type"),
        Key::new("Insecure", Kind::Bool, "false", "http instead of https").with("Type"),
        Key::new(
            "AuthenticationType",
            Kind::Text,
            "",
            "access-key or iam; empty: chosen",
        )
        .with("Type"),
        Key::new(
            "ServerSideEncryption",
            Kind::Text,
            "",
            "S3, KMS or DSSE-KMS",
        )
        .with("Type"),
        Key::new("ServerSideEncryptionKeyID", Kind::Text, "", "KMS key").with("Type"),
        Key::new("DualStack", Kind::Bool, "true", "IPv6 endpoint of AWS")
            .with("Type")
            .zero_counts(),
        Key::new(
            "PathStyle",
            Kind::Bool,
            "",
            "bucket in the path; empty: chosen",
        )
        .with("Type")
        .zero_counts(),
        Key::new("Accelerate", Kind::Bool, "false", "transfer acceleration").with("Type"),
        Key::new("RoleARN", Kind::Text, "", "role for transfers").with("Type"),
        Key::new(
            "UploadRoleARN",
            Kind::Text,
            "",
            "role for uploads (deprecated)",
        )
        .with("Type"),
        Key::new(
            "AssumeRoleMaxConcurrency",
            Kind::Int,
            "5",
            "role requests at once; -1: no limit",
        )
        .with("Type"),
        Key::new(
            "DisableAssumeRoleCredentialsCaching",
            Kind::Bool,
            "false",
            "asks for a role each time",
        )
        .with("Type"),
    ],
};

static GCS: Section = Section {
    path: "runners.cache.gcs",
    what: "Google Cloud Storage",
    keys: &[
        Key::new("CredentialsFile", Kind::Text, "", "service account").with("Type"),
        Key::new("AccessID", Kind::Text, "", "account").with("Type"),
        Key::new("PrivateKey", Kind::Text, "", "its key")
            .secret()
            .with("Type"),
        Key::new("BucketName", Kind::Text, "", "bucket").with("Type"),
        Key::new(
            "UniverseDomain",
            Kind::Text,
            "googleapis.com",
            "domain of the API",
        )
        .with("Type"),
    ],
};

static AZURE: Section = Section {
    path: "runners.cache.azure",
    what: "Azure Blob Storage",
    keys: &[
        Key::new("AccountName", Kind::Text, "", "account").with("Type"),
        Key::new(
            "AccountKey",
            Kind::Text,
            "",
            "its key; empty: identity of the machine",
        )
        .secret()
        .with("Type"),
        Key::new("ContainerName", Kind::Text, "", "container").with("Type"),
        Key::new(
            "StorageDomain",
            Kind::Text,
            "blob.core.windows.net",
            "domain of the API",
        )
        .with("Type"),
    ],
};
