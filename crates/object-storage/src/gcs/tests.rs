use std::time::Duration;

use crate::tests::{client, query};

use super::*;

/// A key of nobody.
const KEY: &str = include_str!("test-key.pem");

fn config() -> GcsCacheConfig {
    GcsCacheConfig {
        access_id: "cache@example.iam.gserviceaccount.com".to_owned(),
        private_key: KEY.into(),
        bucket_name: "caches".to_owned(),
        ..GcsCacheConfig::default()
    }
}

#[tokio::test]
async fn uploads_are_signed_with_type_key_and_greatest_size() {
    let storage = storage(&config(), 1000, &client()).unwrap();
    let request = storage
        .upload("project/7/gems", "gems", Duration::from_secs(60))
        .await
        .unwrap();
    assert!(
        request
            .url
            .starts_with("https://storage.googleapis.com/caches/project/7/gems?"),
        "{}",
        request.url
    );
    let items = query(&request.url);
    assert_eq!(items["X-Goog-Algorithm"], "GOOG4-RSA-SHA256");
    assert_eq!(items["X-Goog-Expires"], "60");
    assert!(items["X-Goog-Credential"].starts_with("cache@example.iam.gserviceaccount.com/"));
    assert_eq!(
        items["X-Goog-SignedHeaders"],
        "content-type;host;x-goog-content-length-range;x-goog-meta-cachekey"
    );
    assert_eq!(items["X-Goog-Signature"].len(), 512, "2048 bits in hex");
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    assert_eq!(
        headers,
        [
            "content-type: application/octet-stream",
            "x-goog-meta-cachekey: gems",
            "x-goog-content-length-range: 0,1000"
        ]
    );
}

#[tokio::test]
async fn downloads_need_no_header_and_a_key_on_one_line_is_read() {
    let one_line = GcsCacheConfig {
        private_key: KEY.replace('\n', "\\n").into(),
        ..config()
    };
    let storage = storage(&one_line, 0, &client()).unwrap();
    let request = storage
        .download("project/7/gems", Duration::from_secs(60))
        .await
        .unwrap();
    assert!(request.headers.is_empty());
    assert_eq!(query(&request.url)["X-Goog-SignedHeaders"], "host");
}

#[test]
fn what_is_missing_is_named() {
    let said = |change: &dyn Fn(&mut GcsCacheConfig)| {
        let mut config = config();
        change(&mut config);
        storage(&config, 0, &client()).unwrap_err().to_string()
    };
    assert_eq!(
        said(&|it| it.bucket_name.clear()),
        "[runners.cache.gcs] has no BucketName"
    );
    assert_eq!(
        said(&|it| it.access_id.clear()),
        "[runners.cache.gcs] has one of AccessID and PrivateKey: set both, or CredentialsFile"
    );
    assert!(said(&|it| it.universe_domain = "example.com".to_owned()).contains("UniverseDomain"));
    let bad = said(&|it| it.private_key = "-----BEGIN hunter2".into());
    assert!(
        bad.starts_with("[runners.cache.gcs] ") && !bad.contains("hunter2"),
        "{bad}"
    );
}
