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

#[tokio::test]
async fn the_storage_of_another_universe_is_addressed_there() {
    let other = GcsCacheConfig {
        universe_domain: "example.com".to_owned(),
        ..config()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let account = serde_json::json!({"client_email": other.access_id, "private_key": KEY});
    std::fs::write(file.path(), account.to_string()).unwrap();
    let by_file = GcsCacheConfig {
        access_id: String::new(),
        private_key: "".into(),
        credentials_file: file.path().display().to_string(),
        ..other.clone()
    };
    let url = async |config: &GcsCacheConfig| {
        let storage = storage(config, 0, &client()).unwrap();
        let minute = Duration::from_secs(60);
        storage.download("project/7/gems", minute).await.unwrap()
    };
    let signed = url(&by_file).await;
    let credential = &query(&signed.url)["X-Goog-Credential"];
    assert!(credential.starts_with(&other.access_id), "{credential}");
    let request = url(&other).await;
    let address = "https://storage.example.com/caches/project/7/gems?";
    assert!(request.url.starts_with(address), "{}", request.url);
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
    assert_eq!(
        said(&|it| {
            it.universe_domain = "example.com".to_owned();
            it.access_id.clear();
            it.private_key = "".into();
        }),
        "[runners.cache.gcs] UniverseDomain is \"example.com\": set CredentialsFile, or AccessID and PrivateKey"
    );
    let bad = said(&|it| it.private_key = "-----BEGIN hunter2".into());
    assert!(
        bad.starts_with("[runners.cache.gcs] ") && !bad.contains("hunter2"),
        "{bad}"
    );
}
