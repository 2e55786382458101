use super::*;

#[test]
fn a_type_that_is_no_storage_is_named_and_none_is_local_only() {
    let client = crate::tests::client();
    let config = |kind: &str| CacheConfig {
        kind: kind.to_owned(),
        ..CacheConfig::default()
    };
    assert!(Storage::new(&config(""), &client).unwrap().is_none());
    let error = Storage::new(&config("ftp"), &client).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown cache type \"ftp\": set Type in [runners.cache] to s3, gcs or azure"
    );
    let error = Storage::new(&config("S3"), &client).unwrap_err();
    assert_eq!(error.to_string(), "[runners.cache.s3] has no BucketName");
}

#[test]
fn a_signed_request_does_not_show_its_permission() {
    let request = SignedRequest {
        url: "https://s3.example.com/b/k?X-Amz-Signature=abc".to_owned(),
        headers: vec![("x-amz-meta-cachekey".to_owned(), "secret".to_owned())],
    };
    let shown = format!("{request:?}");
    assert!(
        !shown.contains("abc") && !shown.contains("secret"),
        "{shown}"
    );
    assert!(shown.contains("https://s3.example.com/b/k"), "{shown}");
}

#[test]
fn keys_are_sent_in_headers_as_plain_ascii() {
    assert_eq!(header_text("gems-main 1"), "gems-main 1");
    assert_eq!(header_text("naïve\n"), "na%C3%AFve%0A");
    assert_eq!(header_text(&"ü".repeat(300)), "%C3%BC".repeat(170));
}
