use gantry_testkit::s3::{ACCESS_KEY, Fault, ROLE, S3Server, SECRET_KEY};
use rstest::rstest;

use super::*;
use crate::{
    s3::storage_in,
    tests::{client, query},
};

const HOUR: Duration = Duration::from_secs(3600);
const OBJECT: &str = "ci/project/7/gems main";

fn storage(server: &S3Server, change: impl FnOnce(&mut gantry_config::S3CacheConfig)) -> Storage {
    let mut config = gantry_config::S3CacheConfig {
        server_address: server.address().to_owned(),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        bucket_name: "caches".to_owned(),
        insecure: true,
        ..gantry_config::S3CacheConfig::default()
    };
    change(&mut config);
    let endpoint = format!("http://{}", server.address());
    let environment = |name: &str| (name == "AWS_ENDPOINT_URL_STS").then(|| endpoint.clone());
    storage_in(&config, &client(), &environment).unwrap()
}

#[rstest]
#[case::growing(Sizes::Growing, 8, 32 * 1024)]
#[case::alike(Sizes::Alike, 64, 5 * 1024)]
fn parts_hold_an_archive_of_any_length_and_are_never_too_small_or_too_many(
    #[case] sizes: Sizes,
    #[case] first: u64,
    #[case] at_least: u64,
) {
    let all: Vec<u64> = sizes.until(0).collect();
    assert_eq!(all[0], first * MIB);
    assert!(all.iter().sum::<u64>() + 8 * MIB * 8 >= at_least * MIB);
    assert!(all.len() <= 80);
    assert!(all.iter().all(|size| (5 * MIB..=5 << 30).contains(size)));
    // No more than a known limit asks for.
    for (most, count) in [(1, 1), (first * MIB, 1), (first * MIB + 1, 2)] {
        assert_eq!(sizes.until(most).count(), count, "{most}");
    }
}

#[test]
fn storages_that_want_parts_alike_get_them_so() {
    let account = "https://caches.0123abc.r2.cloudflarestorage.com";
    assert_eq!(Sizes::at(account), Sizes::Alike);
    assert_eq!(Sizes::at("https://caches.s3.amazonaws.com"), Sizes::Growing);
}

/// Sends what a helper would, and gives what the server says in the end.
async fn send(parts: &PartUploads, contents: &[Vec<u8>]) -> (u16, String) {
    let mut list = String::from("<CompleteMultipartUpload>");
    for (number, ((put, _), content)) in parts.parts.iter().zip(contents).enumerate() {
        let sent = client().put(&put.url).body(content.clone()).send();
        let answer = sent.await.unwrap();
        assert_eq!(answer.status(), 200, "part {}", number + 1);
        let tag = answer.headers()["etag"].to_str().unwrap();
        let number = (number + 1).to_string();
        list.extend(["<Part><PartNumber>", &number, "</PartNumber><ETag>", tag]);
        list.push_str("</ETag></Part>");
    }
    list.push_str("</CompleteMultipartUpload>");
    let answer = client().post(&parts.complete.url).body(list).send();
    let answer = answer.await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[rstest]
#[case::with_a_key("")]
#[case::with_a_role(ROLE)]
#[tokio::test]
async fn parts_that_are_sent_by_their_addresses_become_the_object(#[case] role: &str) {
    let server = S3Server::start().await;
    let storage = storage(&server, |config| {
        config.role_arn = role.to_owned();
        config.server_side_encryption = "KMS".to_owned();
        config.server_side_encryption_key_id = "alias/ci".to_owned();
    });
    let id = storage.begin_upload(OBJECT, "gems main").await.unwrap();
    let id = id.expect("an upload");
    assert_eq!(server.open_uploads(), [id.as_str()]);
    let begun = server.requests().pop().unwrap();
    assert_eq!(begun.operation(), "CreateMultipartUpload");
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/ci"),
        ("x-amz-meta-cachekey", "gems main"),
        ("content-type", "application/octet-stream"),
    ] {
        assert_eq!(begun.header(name), Some(value));
        let signed = begun.item("X-Amz-SignedHeaders").unwrap();
        assert!(signed.split(';').any(|one| one == name), "{signed}");
    }
    let parts = storage.upload_parts(OBJECT, &id, 0, HOUR).await.unwrap();
    assert_eq!(parts.parts.len(), 72);
    assert_eq!(query(&parts.complete.url)["X-Amz-Expires"], "3600");
    let contents = [vec![b'a'; 5 << 20], b"the rest".to_vec()];
    let (status, text) = send(&parts, &contents).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(server.object("caches", OBJECT).unwrap(), contents.concat());
    // It is over, and to end it again does no harm.
    assert!(server.open_uploads().is_empty());
    storage.abort_upload(OBJECT, &id).await.unwrap();
    assert_eq!(server.object("caches", OBJECT).unwrap(), contents.concat());
}

#[tokio::test]
async fn an_address_is_good_for_its_part_alone() {
    let server = S3Server::start().await;
    let storage = storage(&server, |_| ());
    let id = storage.begin_upload(OBJECT, "k").await.unwrap().unwrap();
    let parts = storage.upload_parts(OBJECT, &id, 0, HOUR).await.unwrap();
    let first = &parts.parts[0].0.url;
    let changed = [
        first.replace("partNumber=1", "partNumber=2"),
        first.replace("gems%20main", "gems%20other"),
    ];
    for url in changed {
        assert_ne!(&url, first);
        let answer = client().put(&url).body("x").send().await.unwrap();
        assert_eq!(answer.status(), 403, "{url}");
    }
    let answer = client().delete(first).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert_eq!(server.open_uploads(), [id]);
}

#[tokio::test]
async fn an_upload_that_is_aborted_is_gone_with_its_parts() {
    let server = S3Server::start().await;
    let storage = storage(&server, |_| ());
    let id = storage.begin_upload(OBJECT, "k").await.unwrap().unwrap();
    let parts = storage.upload_parts(OBJECT, &id, 0, HOUR).await.unwrap();
    let put = client().put(&parts.parts[0].0.url).body("part").send();
    assert_eq!(put.await.unwrap().status(), 200);
    for _ in 0..2 {
        storage.abort_upload(OBJECT, &id).await.unwrap();
        assert!(server.open_uploads().is_empty());
    }
    assert!(server.objects("caches").is_empty());
}

#[rstest]
#[case::not_allowed(Fault::Status(403))]
#[case::not_known(Fault::Status(501))]
#[case::broken(Fault::Hangup)]
#[case::no_upload_id(Fault::Status(200))]
#[tokio::test]
async fn a_storage_that_begins_no_upload_is_not_asked_again_for_a_while(#[case] fault: Fault) {
    let server = S3Server::start().await;
    let storage = storage(&server, |_| ());
    server.spoil_next("CreateMultipartUpload", 99, fault);
    for _ in 0..3 {
        // Jobs of one runner share a storage.
        let begun = storage.clone().begin_upload(OBJECT, "k").await.unwrap();
        assert_eq!(begun, None);
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn where_no_upload_may_be_ended_none_is_begun_any_more() {
    let server = S3Server::start().await;
    let storage = storage(&server, |_| ());
    let id = storage.begin_upload(OBJECT, "k").await.unwrap().unwrap();
    server.fail_next("AbortMultipartUpload", 1, 403);
    let error = storage.abort_upload(OBJECT, &id).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("403 Forbidden; allow s3:AbortMultipartUpload"),
        "{error}"
    );
    assert_eq!(storage.begin_upload(OBJECT, "k").await.unwrap(), None);
    storage.abort_upload(OBJECT, &id).await.unwrap();
    assert!(server.open_uploads().is_empty());
}

#[tokio::test]
async fn storages_that_take_a_growing_body_are_asked_for_no_parts() {
    let config = gantry_config::AzureCacheConfig {
        account_name: "account".to_owned(),
        account_key: "a2V5".into(),
        container_name: "caches".to_owned(),
        ..gantry_config::AzureCacheConfig::default()
    };
    let storage = crate::azure::storage(&config, &client()).unwrap();
    assert_eq!(storage.begin_upload(OBJECT, "k").await.unwrap(), None);
    storage.abort_upload(OBJECT, "id").await.unwrap();
}
