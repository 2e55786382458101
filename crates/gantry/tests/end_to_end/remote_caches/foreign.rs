//! The same with other people's servers, where the environment names their programs. See CONTRIBUTING.md, "Tests".

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gantry_testkit::{FakeGitLabBuilder, Identity, TestCa};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{end, uses_cache};
use crate::harness::{Config, Docker, Host, skipped, until};

/// A server in a process of its own, and a folder with an authority that vouches for it.
struct Foreign {
    folder: TempDir,
    bridge: String,
    port: u16,
    /// For a GitLab whose word on the authority goes to jobs.
    identity: Identity,
    _process: Child,
}

impl Foreign {
    /// Starts the program that `variable` names; `name` is that of its certificate.
    async fn start(
        variable: &str,
        name: &str,
        arguments: impl FnOnce(&Path, u16) -> Vec<String>,
    ) -> Option<Self> {
        let Some(program) = std::env::var_os(variable).filter(|it| !it.is_empty()) else {
            skipped(&format!("{variable} names no program"));
            return None;
        };
        let Some(docker) = Docker::of_environment() else {
            skipped("GANTRY_TEST_ENGINE names no engine");
            return None;
        };
        let bridge = docker.bridge().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ca = TestCa::new("an authority of one's own");
        let identity = ca.issue(&[name, &bridge]);
        for (file, text) in [
            ("ca.pem", ca.pem()),
            ("cert.pem", &identity.certificate),
            ("key.pem", &identity.key),
        ] {
            std::fs::write(folder.path().join(file), text).expect("a file");
        }
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        let free = TcpListener::bind(any).and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        let process = Command::new(program)
            .args(arguments(folder.path(), port))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        until("the server to listen", async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        })
        .await;
        Some(Self {
            folder,
            bridge,
            port,
            identity,
            _process: process,
        })
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A `curl` that must succeed; names lead to this machine.
    async fn curl(&self, name: &str, arguments: &[&str]) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
            .arg(self.file("ca.pem"))
            .args(["--resolve", &format!("{name}:{}:127.0.0.1", self.port)])
            .args(arguments)
            .output()
            .await
            .expect("curl");
        assert!(output.status.success(), "{output:?}");
    }

    /// A cache of one job is there for the next, which has no local archive.
    async fn keeps_a_cache(&self, name: &str, tables: &str, variables: &[(&str, &str)]) {
        let config = Config::new()
            .runner(&format!("tls-ca-file = \"{}\"", self.file("ca.pem")))
            .docker(&format!("extra_hosts = [\"{name}:{}\"]", self.bridge))
            .more(tables);
        let make = |gitlab: FakeGitLabBuilder| gitlab.tls(self.identity.clone());
        let host = Host::with(&config, make).await;
        let host = host.expect("an engine was there");
        let runner = host.start_in(variables);
        let (_, log) = end(&host, &uses_cache("gems main naïve")).await;
        log.assert_prints("made");
        log.assert_says("Uploading cache.zip to");
        log.assert_says("Created cache");
        let (_, log) = end(&host, &uses_cache("gems main naïve")).await;
        log.assert_says("Downloading cache.zip from");
        log.assert_says("Successfully extracted cache");
        log.assert_prints("kept");
        log.assert_says("Primary cache already exists remotely, skipping upload");
        host.finish(runner).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_kept_in_azurite() {
    const ACCOUNT: &str = "devstoreaccount1";
    // The account that every emulator knows.
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let name = format!("{ACCOUNT}.blob.azurite.test");
    let started = Foreign::start("GANTRY_TEST_AZURITE", &name, |folder, port| {
        let file = |name: &str| folder.join(name).display().to_string();
        let port = port.to_string();
        [
            "--blobHost",
            "0.0.0.0",
            "--blobPort",
            &port,
            "--silent",
            "--inMemoryPersistence",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([
            "--cert".to_owned(),
            file("cert.pem"),
            "--key".to_owned(),
            file("key.pem"),
        ])
        .collect()
    });
    let Some(azurite) = started.await else {
        return;
    };
    let (date, version) = (jiff::Timestamp::now(), "2021-08-06");
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let to_sign = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/caches\nrestype:container"
    );
    let key = STANDARD.decode(KEY).expect("a key");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    mac.update(to_sign.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let url = format!("https://{name}:{}/caches?restype=container", azurite.port);
    let authorization = format!("Authorization: SharedKey {ACCOUNT}:{signature}");
    let (date, version) = (
        format!("x-ms-date: {date}"),
        format!("x-ms-version: {version}"),
    );
    let headers = ["-H", &authorization, "-H", &date, "-H", &version];
    azurite
        .curl(&name, &[&["-X", "PUT"], &headers[..], &[&url]].concat())
        .await;
    let tables = format!(
        "[runners.cache]\nType = \"azure\"\nPath = \"ci\"\n[runners.cache.azure]\nAccountName = \"{ACCOUNT}\"\nAccountKey = \"{KEY}\"\nContainerName = \"caches\"\nStorageDomain = \"blob.azurite.test:{}\"\n",
        azurite.port
    );
    azurite.keeps_a_cache(&name, &tables, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_kept_in_a_google_cloud_storage_server() {
    // A key of nobody.
    const KEY: &str = include_str!("../../../../object-storage/src/gcs/test-key.pem");
    let name = "storage.gcs.test";
    let started = Foreign::start("GANTRY_TEST_FAKE_GCS", name, |folder, port| {
        std::fs::create_dir_all(folder.join("buckets/caches")).expect("a folder");
        let file = |name: &str| folder.join(name).display().to_string();
        vec![
            "-scheme=https".to_owned(),
            "-host=0.0.0.0".to_owned(),
            format!("-port={port}"),
            "-backend=memory".to_owned(),
            "-log-level=error".to_owned(),
            format!("-public-host={name}:{port}"),
            format!("-data={}", file("buckets")),
            format!("-cert-location={}", file("cert.pem")),
            format!("-private-key-location={}", file("key.pem")),
        ]
    });
    let Some(gcs) = started.await else {
        return;
    };
    let credentials = serde_json::json!({
        "type": "service_account", "client_email": "cache@example.iam.gserviceaccount.com",
        "private_key_id": "1", "private_key": KEY, "client_id": "1",
        "token_uri": "https://oauth2.gcs.test/token",
    });
    std::fs::write(gcs.file("account.json"), credentials.to_string()).expect("a file");
    let tables = format!(
        "[runners.cache]\nType = \"gcs\"\nMaxUploadedArchiveSize = 1000000\n[runners.cache.gcs]\nCredentialsFile = \"{}\"\nBucketName = \"caches\"\nUniverseDomain = \"gcs.test:{}\"\n",
        gcs.file("account.json"),
        gcs.port
    );
    gcs.keeps_a_cache(name, &tables, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_kept_in_moto_by_a_role() {
    // Of a name it takes the first part for a bucket.
    let name = "127.0.0.1";
    let started = Foreign::start("GANTRY_TEST_MOTO", name, |_, port| {
        ["-H", "0.0.0.0", "-p", &port.to_string()]
            .map(str::to_owned)
            .to_vec()
    });
    let Some(moto) = started.await else {
        return;
    };
    let bucket = format!("http://{name}:{}/caches", moto.port);
    moto.curl(name, &["-X", "PUT", &bucket]).await;
    let tables = format!(
        "[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nServerAddress = \"{}:{}\"\nInsecure = true\nBucketName = \"caches\"\nAccessKey = \"AKIAIOSFODNN7EXAMPLE\"\nSecretKey = \"secret\"\nRoleARN = \"arn:aws:iam::123456789012:role/cache\"\n",
        moto.bridge, moto.port
    );
    let endpoint = format!("http://127.0.0.1:{}", moto.port);
    moto.keeps_a_cache(
        "moto.gantry.test",
        &tables,
        &[("AWS_ENDPOINT_URL_STS", &endpoint)],
    )
    .await;
}
