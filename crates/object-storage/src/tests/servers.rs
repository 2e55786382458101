//! Against servers: an S3 server in this process that checks every signature, and other people's (`./dev servers` gets them);
//! without them those tests say `skipped`.

use std::{sync::Arc, time::Duration};

use gantry_config::{AzureCacheConfig, CacheConfig, S3CacheConfig};
use gantry_testkit::s3::{ACCESS_KEY, ROLE, S3Server, SECRET_KEY};
use gantry_testkit::{Azurite, ForeignServer};
use object_store::{CredentialProvider as _, StaticCredentialProvider, aws::AwsCredential};
use rstest::rstest;
use url::Url;

use super::client;
use crate::{
    SignedRequest, Storage,
    azure::storage_at,
    role::{AssumeRole, Sts},
    s3::storage_in,
};

const HOUR: Duration = Duration::from_secs(3600);
const OBJECT: &str = "ci/runner/abc/project/7/gems main~1/naïve";

/// A server, unless it cannot be had here.
fn had<T>(started: Result<T, String>) -> Option<T> {
    started.inspect_err(|why| eprintln!("skipped: {why}")).ok()
}

async fn send(method: &str, request: &SignedRequest, body: Option<&'static str>) -> (u16, String) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut url = Url::parse(&request.url).unwrap();
    let mut sent = client().request(method.clone(), url.clone());
    // Names of buckets below a name of this machine need no name server: the request says which it is for.
    if url.host_str().is_some_and(|host| host.ends_with(".test")) {
        let host = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        url.set_host(Some("127.0.0.1")).unwrap();
        sent = client().request(method, url).header("host", host);
    }
    for (name, value) in &request.headers {
        sent = sent.header(name, value);
    }
    if let Some(body) = body {
        sent = sent.body(body);
    }
    let answer = sent.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.text().await.unwrap())
}

async fn keeps_a_cache(storage: &Storage) {
    let absent = storage.download("project/7/absent", HOUR).await.unwrap();
    assert_eq!(send("GET", &absent, None).await.0, 404);
    let put = storage.upload(OBJECT, "gems main", HOUR).await.unwrap();
    let (status, text) = send("PUT", &put, Some("archive")).await;
    assert!((200..300).contains(&status), "{status} {text}");
    let check = storage.check(OBJECT, HOUR).await.unwrap();
    assert_eq!(send("HEAD", &check, None).await.0, 200);
    let get = storage.download(OBJECT, HOUR).await.unwrap();
    assert_eq!(send("GET", &get, None).await, (200, "archive".to_owned()));
    // What was signed for one object is of no use for another.
    let second = "ci/runner/abc/project/8/gems";
    let put = storage.upload(second, "gems", HOUR).await.unwrap();
    assert!((200..300).contains(&send("PUT", &put, Some("other")).await.0));
    let (_, permission) = get.url.split_once('?').unwrap();
    let other = storage.download(second, HOUR).await.unwrap();
    let (place, _) = other.url.split_once('?').unwrap();
    let stolen = SignedRequest {
        url: format!("{place}?{permission}"),
        ..other
    };
    assert_eq!(send("GET", &stolen, None).await.0, 403);
}

fn config(server: &S3Server) -> S3CacheConfig {
    S3CacheConfig {
        server_address: server.address().to_owned(),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        bucket_name: "caches".to_owned(),
        insecure: true,
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

async fn named_server(host: &str) -> S3Server {
    S3Server::start_on(([127, 0, 0, 1], 0).into(), host).await
}

#[rstest]
#[case::by_its_path("127.0.0.1", None)]
#[case::by_a_name_below_the_servers("s3.gantry.test", Some(false))]
#[tokio::test]
async fn an_s3_server_takes_the_requests(#[case] host: &str, #[case] path_style: Option<bool>) {
    let server = named_server(host).await;
    let storage = made(S3CacheConfig {
        path_style,
        ..config(&server)
    });
    keeps_a_cache(&storage).await;
    assert_eq!(
        server.objects("caches").len(),
        2,
        "{:?}",
        server.objects("caches")
    );
}

#[tokio::test]
async fn an_s3_server_gets_encryption_and_key_as_they_were_signed() {
    let server = S3Server::start().await;
    let storage = made(S3CacheConfig {
        server_side_encryption: "KMS".to_owned(),
        server_side_encryption_key_id: "arn:aws:kms:eu:1:key/x".to_owned(),
        ..config(&server)
    });
    let put = storage.upload(OBJECT, "gems main", HOUR).await.unwrap();
    assert_eq!(send("PUT", &put, Some("archive")).await.0, 200);
    let request = &server.requests_by("PUT")[0];
    let sent = |name: &str| request.header(name).unwrap_or_default().to_owned();
    assert_eq!(sent("x-amz-server-side-encryption"), "aws:kms");
    let key = sent("x-amz-server-side-encryption-aws-kms-key-id");
    assert_eq!(key, "arn:aws:kms:eu:1:key/x");
    assert_eq!(sent("x-amz-meta-cachekey"), "gems main");
    // Without them, or with others, the signature is of no use.
    let other = |header: &str| {
        let mut put = put.clone();
        put.headers.iter_mut().for_each(|(name, value)| {
            if name == header {
                "AES256".clone_into(value);
            }
        });
        put
    };
    let changed = other("x-amz-server-side-encryption");
    assert_eq!(send("PUT", &changed, Some("archive")).await.0, 403);
}

#[tokio::test]
async fn an_s3_server_refuses_what_another_secret_signed() {
    let server = S3Server::start().await;
    let storage = made(S3CacheConfig {
        secret_key: "another".into(),
        ..config(&server)
    });
    let put = storage.upload(OBJECT, "gems", HOUR).await.unwrap();
    let (status, text) = send("PUT", &put, Some("archive")).await;
    assert_eq!(status, 403);
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    assert!(server.objects("caches").is_empty());
}

#[rstest]
#[case::both(ROLE, "", true, true)]
#[case::upload_only("", ROLE, false, true)]
#[case::both_go_before_upload(ROLE, "arn:aws:iam::1:role/nobody", true, true)]
#[tokio::test]
async fn a_role_signs_what_it_is_set_for(
    #[case] role: &str,
    #[case] upload: &str,
    #[case] downloads_by_role: bool,
    #[case] uploads_by_role: bool,
) {
    let server = S3Server::start().await;
    let config = S3CacheConfig {
        role_arn: role.to_owned(),
        upload_role_arn: upload.to_owned(),
        ..config(&server)
    };
    let endpoint = format!("http://{}", server.address());
    let environment = |name: &str| (name == "AWS_ENDPOINT_URL_STS").then(|| endpoint.clone());
    let storage = storage_in(&config, &client(), &environment).unwrap();
    keeps_a_cache(&storage).await;
    let asked = server.requests_by("POST");
    assert_eq!(asked.len(), 1, "credentials are kept");
    let by_role = |method: &str| {
        let requests = server.requests_by(method);
        let mut tokens = requests
            .iter()
            .map(|it| it.item("X-Amz-Security-Token").is_some());
        assert!(!requests.is_empty());
        let first = tokens.next().unwrap_or_default();
        assert!(tokens.all(|other| other == first), "{method}");
        first
    };
    assert_eq!(by_role("GET"), downloads_by_role);
    assert_eq!(by_role("PUT"), uploads_by_role);
}

#[rstest]
#[case::of_nobody(
    "arn:aws:iam::123456789012:role/other",
    SECRET_KEY,
    "not authorized to perform sts:AssumeRole"
)]
#[case::asked_with_a_wrong_secret(ROLE, "wrong", "SignatureDoesNotMatch")]
#[tokio::test]
async fn a_role_that_is_refused_is_told(
    #[case] role: &str,
    #[case] secret: &str,
    #[case] says: &str,
) {
    let server = S3Server::start().await;
    let config = S3CacheConfig {
        role_arn: role.to_owned(),
        secret_key: secret.into(),
        ..config(&server)
    };
    let endpoint = format!("http://{}/", server.address());
    let environment = |name: &str| (name == "AWS_ENDPOINT_URL").then(|| endpoint.clone());
    let storage = storage_in(&config, &client(), &environment).unwrap();
    let error = storage.upload(OBJECT, "gems", HOUR).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(says) && text.contains(role), "{text}");
}

#[tokio::test]
async fn an_azure_server_takes_the_requests() {
    let Some(azurite) = had(Azurite::start(None).await) else {
        return;
    };
    let endpoint = format!("http://127.0.0.1:{}/{}", azurite.port(), Azurite::ACCOUNT);
    let config = AzureCacheConfig {
        account_name: Azurite::ACCOUNT.to_owned(),
        account_key: Azurite::KEY.into(),
        container_name: Azurite::CONTAINER.to_owned(),
        ..AzureCacheConfig::default()
    };
    let storage = storage_at(&config, endpoint, &client()).unwrap();
    keeps_a_cache(&storage).await;
}

#[tokio::test]
async fn a_role_is_assumed_once_and_kept() {
    let started = ForeignServer::start("GANTRY_TEST_MOTO", 1, |command, _, ports| {
        command.args(["-H", "127.0.0.1", "-p", &ports[0].to_string()]);
    });
    let Some(moto) = had(started.await) else {
        return;
    };
    let endpoint = format!("http://127.0.0.1:{}", moto.port());
    let sts = Sts {
        role: "arn:aws:iam::123456789012:role/cache".to_owned(),
        region: "us-east-1".to_owned(),
        endpoint,
        max_concurrency: 1,
        caching: true,
    };
    let base = Arc::new(StaticCredentialProvider::new(AwsCredential {
        key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_key: "secret".to_owned(),
        token: None,
    }));
    let role = AssumeRole::new(sts, base, client());
    let first = role.get_credential().await.unwrap();
    assert!(first.token.is_some(), "{first:?}");
    assert_ne!(first.key_id, "AKIAIOSFODNN7EXAMPLE");
    let second = role.get_credential().await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}
