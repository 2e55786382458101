//! Each key of the tables of storages, from the text of a configuration to the address that is signed (config-toml §5).

use std::{path::Path, time::Duration};

use gantry_config::Placeholders;
use rstest::rstest;

use super::{client, query};
use crate::{SignedRequest, Storage};

/// Signs an upload with a configuration of this `Type` and the lines of its table.
async fn upload(kind: &str, lines: &str) -> SignedRequest {
    let text = format!(
        "[[runners]]\nname = 'a'\nurl = 'https://gitlab.example.com'\ntoken = 'glrt-0123456789'\nexecutor = 'docker'\n\
         [runners.docker]\nimage = 'alpine'\n\
         [runners.cache]\nType = '{kind}'\nMaxUploadedArchiveSize = 5000\n[runners.cache.{kind}]\n{lines}\n"
    );
    let loaded = gantry_config::parse(&text, Path::new("config.toml"), &Placeholders::new());
    let config = loaded.unwrap().config;
    let cache = &config.runners[0].cache;
    let storage = Storage::new(cache, &client()).unwrap().unwrap();
    let hour = Duration::from_secs(3600);
    storage
        .upload("project/7/gems", "gems", hour)
        .await
        .unwrap()
}

/// What is looked at in a request.
#[derive(Debug, Clone, Copy)]
enum In {
    /// The beginning of the address.
    Address,
    /// An item of the query, which is to begin so.
    Item(&'static str),
    /// A header.
    Header(&'static str),
}

fn look(request: &SignedRequest, at: In) -> String {
    match at {
        In::Address => request.url.split('?').next().unwrap().to_owned(),
        In::Item(name) => query(&request.url).remove(name).unwrap_or_default(),
        In::Header(name) => {
            let mut headers = request.headers.iter();
            let found = headers.find(|(one, _)| one == name);
            found.map_or_else(String::new, |(_, value)| value.clone())
        }
    }
}

const SCOPE: In = In::Item("X-Amz-Credential");
const AWS: &str = "AccessKey = 'AKIA1'\nSecretKey = 's'\nAuthenticationType = 'access-key'\nBucketName = 'b'\nBucketLocation = 'eu-west-1'";

#[rstest]
#[case::server_address(
    "ServerAddress = 'minio:9000'",
    In::Address,
    "https://minio:9000/b/project/7/gems"
)]
#[case::canonical_port(
    "ServerAddress = 'minio:443'",
    In::Address,
    "https://minio/b/project/7/gems"
)]
#[case::insecure(
    "ServerAddress = 'minio'\nInsecure = true",
    In::Address,
    "http://minio/b/project/7/gems"
)]
#[case::no_server_address(
    "",
    In::Address,
    "https://b.s3.dualstack.eu-west-1.amazonaws.com/project/7/gems"
)]
#[case::dual_stack(
    "DualStack = false",
    In::Address,
    "https://b.s3.eu-west-1.amazonaws.com/project/7/gems"
)]
#[case::path_style(
    "PathStyle = true",
    In::Address,
    "https://s3.dualstack.eu-west-1.amazonaws.com/b/project/7/gems"
)]
#[case::no_path_style(
    "ServerAddress = 'minio:9000'\nPathStyle = false",
    In::Address,
    "https://b.minio:9000/project/7/gems"
)]
#[case::accelerate(
    "Accelerate = true",
    In::Address,
    "https://b.s3-accelerate.dualstack.amazonaws.com/project/7/gems"
)]
#[case::accelerate_alone(
    "Accelerate = true\nDualStack = false",
    In::Address,
    "https://b.s3-accelerate.amazonaws.com/project/7/gems"
)]
#[case::access_key("", SCOPE, "AKIA1/")]
#[case::bucket_location("", In::Item("X-Amz-Credential"), "/eu-west-1/s3/aws4_request")]
#[case::no_session_token("", In::Item("X-Amz-Security-Token"), "")]
#[case::session_token(
    "SessionToken = 'to/ken+'",
    In::Item("X-Amz-Security-Token"),
    "to/ken+"
)]
#[case::encryption(
    "ServerSideEncryption = 'S3'",
    In::Header("x-amz-server-side-encryption"),
    "AES256"
)]
#[case::encryption_by_a_service(
    "ServerSideEncryption = 'DSSE-KMS'",
    In::Header("x-amz-server-side-encryption"),
    "aws:kms:dsse"
)]
#[case::encryption_key(
    "ServerSideEncryption = 'KMS'\nServerSideEncryptionKeyID = 'alias/ci'",
    In::Header("x-amz-server-side-encryption-aws-kms-key-id"),
    "alias/ci"
)]
#[tokio::test]
async fn every_key_of_s3_is_seen_in_what_is_signed(
    #[case] lines: &str,
    #[case] at: In,
    #[case] expected: &str,
) {
    let request = upload("s3", &format!("{AWS}\n{lines}")).await;
    let found = look(&request, at);
    match at {
        // Between key and scope stands the day.
        In::Item("X-Amz-Credential") => assert!(found.contains(expected), "{found}"),
        _ => assert_eq!(found, expected),
    }
}

#[tokio::test]
async fn the_secret_and_the_bucket_of_s3_change_what_is_signed() {
    let signature =
        async |lines: &str| look(&upload("s3", lines).await, In::Item("X-Amz-Signature"));
    let first = signature(AWS).await;
    let other_secret = AWS.replace("SecretKey = 's'", "SecretKey = 't'");
    assert_ne!(signature(&other_secret).await, first);
    let other_bucket = AWS.replace("BucketName = 'b'", "BucketName = 'c'");
    let request = upload("s3", &other_bucket).await;
    assert!(request.url.starts_with("https://c.s3."), "{}", request.url);
}

#[rstest]
#[case::account_name("", In::Address, "https://acc.blob.core.windows.net/c/project/7/gems")]
#[case::storage_domain(
    "StorageDomain = 'blob.core.chinacloudapi.cn'",
    In::Address,
    "https://acc.blob.core.chinacloudapi.cn/c/project/7/gems"
)]
#[tokio::test]
async fn the_keys_of_azure_are_seen_in_the_address(
    #[case] lines: &str,
    #[case] at: In,
    #[case] expected: &str,
) {
    let table = format!("AccountName = 'acc'\nAccountKey = 'a2V5'\nContainerName = 'c'\n{lines}");
    assert_eq!(look(&upload("azure", &table).await, at), expected);
}

#[rstest]
#[case::bucket_name("", In::Address, "https://storage.googleapis.com/b/project/7/gems")]
#[case::universe_domain(
    "UniverseDomain = 'apis.example'",
    In::Address,
    "https://storage.apis.example/b/project/7/gems"
)]
#[case::greatest_size("", In::Header("x-goog-content-length-range"), "0,5000")]
#[tokio::test]
async fn the_keys_of_google_are_seen_in_what_is_signed(
    #[case] lines: &str,
    #[case] at: In,
    #[case] expected: &str,
) {
    let key = include_str!("../gcs/test-key.pem");
    let table = format!(
        "AccessID = 'cache@example.iam.gserviceaccount.com'\nPrivateKey = '''{key}'''\nBucketName = 'b'\n{lines}"
    );
    let request = upload("gcs", &table).await;
    assert_eq!(look(&request, at), expected);
    let by = look(&request, In::Item("X-Goog-Credential"));
    assert!(
        by.starts_with("cache@example.iam.gserviceaccount.com/"),
        "{by}"
    );
}
