use std::time::Duration;

use gantry_config::CacheConfig;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rstest::rstest;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::*;
use crate::tests::{client, query};

/// What stays in a canonical query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const HOUR: Duration = Duration::from_secs(3600);

fn config() -> S3CacheConfig {
    S3CacheConfig {
        server_address: "s3.example.com".to_owned(),
        access_key: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        bucket_name: "caches".to_owned(),
        ..S3CacheConfig::default()
    }
}

fn made(config: S3CacheConfig) -> Storage {
    let config = CacheConfig {
        kind: "s3".to_owned(),
        s3: config,
        ..CacheConfig::default()
    };
    Storage::new(&config, &client()).unwrap().unwrap()
}

/// The signature that a server computes for a request as it gets it: an independent reading of AWS' description.
fn expected(method: &str, url: &str, headers: &[(&str, &str)], secret: &str) -> String {
    let parsed = Url::parse(url).unwrap();
    let items = query(url);
    let escape = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let canonical_query: Vec<String> = items
        .iter()
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    let host = &parsed[url::Position::BeforeHost..url::Position::AfterPort];
    let names = &items["X-Amz-SignedHeaders"];
    let canonical_headers: String = names
        .split(';')
        .map(|name| {
            let value = if name == "host" {
                host
            } else {
                headers.iter().find(|(known, _)| *known == name).unwrap().1
            };
            format!("{name}:{value}\n")
        })
        .collect();
    let canonical = format!(
        "{method}\n{}\n{}\n{canonical_headers}\n{names}\nUNSIGNED-PAYLOAD",
        parsed.path(),
        canonical_query.join("&")
    );
    let credential: Vec<&str> = items["X-Amz-Credential"].split('/').collect();
    let [_, date, region, service, end] = credential[..] else {
        panic!("no scope in {credential:?}")
    };
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{date}/{region}/{service}/{end}\n{}",
        items["X-Amz-Date"],
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let sign = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let key = [date, region, service, end]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| {
            sign(&key, part)
        });
    hex(&sign(&key, &to_sign))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

#[test]
fn the_check_of_these_tests_agrees_with_the_published_example() {
    // "Authenticating Requests: Using Query Parameters" of the Amazon S3 API reference.
    let url = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host";
    assert_eq!(
        expected("GET", url, &[], SECRET),
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
}

#[tokio::test]
async fn downloads_checks_and_uploads_are_signed_for_their_method_and_headers() {
    let storage = made(S3CacheConfig {
        server_side_encryption: "KMS".to_owned(),
        server_side_encryption_key_id: "arn:aws:kms:eu:1:key/x".to_owned(),
        session_token: "session/token+".into(),
        ..config()
    });
    let object = "runner/abc/project/7/gems main~1/naïve";
    let requests = [
        ("GET", storage.download(object, HOUR).await.unwrap()),
        ("HEAD", storage.check(object, HOUR).await.unwrap()),
        ("PUT", storage.upload(object, "gems", HOUR).await.unwrap()),
    ];
    for (method, request) in &requests {
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let items = query(&request.url);
        assert_eq!(
            items["X-Amz-Signature"],
            expected(method, &request.url, &headers, SECRET),
            "{method}"
        );
        assert_eq!(items["X-Amz-Expires"], "3600");
        assert_eq!(items["X-Amz-Security-Token"], "session/token+");
        assert!(
            request.url.starts_with(
                "https://s3.example.com/caches/runner/abc/project/7/gems%20main~1/na%C3%AFve?"
            ),
            "{}",
            request.url
        );
    }
    let (_, upload) = &requests[2];
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        upload.headers,
        [
            header("x-amz-server-side-encryption", "aws:kms"),
            header(
                "x-amz-server-side-encryption-aws-kms-key-id",
                "arn:aws:kms:eu:1:key/x"
            ),
            header("x-amz-meta-cachekey", "gems"),
        ]
    );
    let signed = &query(&upload.url)["X-Amz-SignedHeaders"];
    assert!(signed.contains("x-amz-server-side-encryption;"), "{signed}");
}

#[rstest]
#[case::aws("", None, "https://caches.s3.dualstack.eu-west-1.amazonaws.com")]
#[case::aws_path("", Some(true), "https://s3.dualstack.eu-west-1.amazonaws.com")]
#[case::named_aws("s3.amazonaws.com", None, "https://caches.s3.amazonaws.com")]
#[case::google(
    "storage.googleapis.com",
    None,
    "https://caches.storage.googleapis.com"
)]
#[case::own("minio.example.com:9000", None, "https://minio.example.com:9000")]
#[case::own_virtual(
    "minio.example.com:9000",
    Some(false),
    "https://caches.minio.example.com:9000"
)]
#[case::canonical_port("minio.example.com:443", None, "https://minio.example.com")]
fn the_bucket_is_where_the_server_expects_it(
    #[case] server: &str,
    #[case] path_style: Option<bool>,
    #[case] endpoint: &str,
) {
    let address = Address::of(&S3CacheConfig {
        server_address: server.to_owned(),
        bucket_location: "eu-west-1".to_owned(),
        path_style,
        ..config()
    });
    assert_eq!(address.endpoint, endpoint);
    assert_eq!(address.region, "eu-west-1");
}

#[test]
fn variants_of_aws_have_their_own_addresses() {
    let at = |change: &dyn Fn(&mut S3CacheConfig)| {
        let mut config = S3CacheConfig {
            server_address: String::new(),
            ..config()
        };
        change(&mut config);
        Address::of(&config).endpoint
    };
    assert_eq!(
        at(&|it| it.dual_stack = false),
        "https://caches.s3.us-east-1.amazonaws.com"
    );
    assert_eq!(
        at(&|it| it.accelerate = true),
        "https://caches.s3-accelerate.dualstack.amazonaws.com"
    );
    assert_eq!(
        at(&|it| it.bucket_location = "cn-north-1".to_owned()),
        "https://caches.s3.dualstack.cn-north-1.amazonaws.com.cn"
    );
    assert_eq!(
        at(&|it| it.bucket_name = "my.caches".to_owned()),
        "https://s3.dualstack.us-east-1.amazonaws.com",
        "no certificate is for two names below the host"
    );
    let insecure = S3CacheConfig {
        insecure: true,
        server_address: "minio:80".to_owned(),
        ..config()
    };
    assert_eq!(Address::of(&insecure).endpoint, "http://minio");
}

#[rstest]
#[case("", true, Ok(false))]
#[case("", false, Ok(true))]
#[case("IAM", true, Ok(true))]
#[case("access-key", false, Ok(false))]
#[case("magic", true, Err(()))]
fn credentials_come_from_the_machine_where_something_is_missing(
    #[case] kind: &str,
    #[case] complete: bool,
    #[case] machine: Result<bool, ()>,
) {
    let mut config = S3CacheConfig {
        authentication_type: kind.to_owned(),
        ..config()
    };
    if !complete {
        config.secret_key = SecretString::default();
    }
    assert_eq!(from_machine(&config).map_err(|_| ()), machine);
}

#[rstest]
#[case("", &[])]
#[case("s3", &["AES256"])]
#[case("AES256", &["AES256"])]
#[case("aws:kms", &["aws:kms", "key"])]
#[case("DSSE-KMS", &["aws:kms:dsse", "key"])]
#[case("rot13", &[])]
fn encryption_is_asked_for_in_the_words_of_the_protocol(
    #[case] value: &str,
    #[case] sent: &[&str],
) {
    let headers = encryption(&S3CacheConfig {
        server_side_encryption: value.to_owned(),
        server_side_encryption_key_id: "key".to_owned(),
        ..config()
    });
    let values: Vec<_> = headers.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, sent);
}

#[tokio::test]
async fn times_are_kept_within_what_storages_take() {
    let storage = made(config());
    for (valid, expires) in [
        (Duration::ZERO, "1"),
        (Duration::from_secs(30 * 24 * 3600), "604800"),
    ] {
        let request = storage.download("project/7/gems", valid).await.unwrap();
        assert_eq!(query(&request.url)["X-Amz-Expires"], expires);
    }
}

#[tokio::test]
async fn a_name_that_no_storage_takes_is_refused() {
    let error = made(config())
        .download("project/7/a//b", HOUR)
        .await
        .unwrap_err();
    assert_eq!(error, StorageError::Name("project/7/a//b".to_owned()));
}
