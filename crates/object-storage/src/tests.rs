//! What the tests of all storages share.

use std::collections::BTreeMap;

use url::Url;

pub(crate) fn client() -> reqwest::Client {
    // Nothing is asked for in these tests, but a client cannot be made without a TLS provider.
    gantry_gitlab::outside_client().unwrap()
}

/// The items of a query.
pub(crate) fn query(url: &str) -> BTreeMap<String, String> {
    let url = Url::parse(url).unwrap();
    url.query_pairs().into_owned().collect()
}

/// Against servers that run on this machine; see CONTRIBUTING.md, "Tests". Without them each says `skipped`.
mod servers {
    use std::{sync::Arc, time::Duration};

    use gantry_config::{AzureCacheConfig, CacheConfig, S3CacheConfig};
    use object_store::{CredentialProvider as _, StaticCredentialProvider, aws::AwsCredential};

    use super::client;
    use crate::{
        SignedRequest, Storage,
        azure::storage_at,
        role::{AssumeRole, Sts},
    };

    const HOUR: Duration = Duration::from_secs(3600);
    const OBJECT: &str = "ci/runner/abc/project/7/gems main~1/naïve";

    fn server(variable: &str) -> Option<String> {
        let found = std::env::var(variable).ok().filter(|text| !text.is_empty());
        if found.is_none() {
            eprintln!("skipped: {variable} names no server");
        }
        found
    }

    async fn send(
        method: &str,
        request: &SignedRequest,
        body: Option<&'static str>,
    ) -> (u16, String) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut sent = client().request(method, &request.url);
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

    #[tokio::test]
    async fn an_s3_server_takes_the_requests() {
        let Some(server) = server("GANTRY_TEST_S3") else {
            return;
        };
        let config = CacheConfig {
            kind: "s3".to_owned(),
            s3: S3CacheConfig {
                server_address: server,
                access_key: "S3RVER".into(),
                secret_key: "S3RVER".into(),
                bucket_name: "caches".to_owned(),
                insecure: true,
                ..S3CacheConfig::default()
            },
            ..CacheConfig::default()
        };
        let storage = Storage::new(&config, &client()).unwrap().unwrap();
        keeps_a_cache(&storage).await;
    }

    #[tokio::test]
    async fn an_azure_server_takes_the_requests() {
        let Some(endpoint) = server("GANTRY_TEST_AZURE") else {
            return;
        };
        // The account that every emulator knows.
        let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
        let config = AzureCacheConfig {
            account_name: "devstoreaccount1".to_owned(),
            account_key: key.into(),
            container_name: "caches".to_owned(),
            ..AzureCacheConfig::default()
        };
        let storage = storage_at(&config, endpoint, &client()).unwrap();
        keeps_a_cache(&storage).await;
    }

    #[tokio::test]
    async fn a_role_is_assumed_once_and_kept() {
        let Some(endpoint) = server("GANTRY_TEST_STS") else {
            return;
        };
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
}
