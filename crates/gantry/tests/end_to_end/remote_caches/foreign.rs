//! The same with other people's servers (`./dev servers` gets them).

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use gantry_testkit::{Azurite, FakeGitLabBuilder, ForeignServer, Identity, JobBuilder, TestCa};
use rstest::rstest;
use serde_json::json;
use tempfile::NamedTempFile;

use super::{end, uses_cache};
use crate::harness::{Config, Docker, Host, job, skipped, until};

/// Where containers find a server: a name, and an authority that vouches for it.
struct Place {
    name: String,
    bridge: String,
    /// Also of a GitLab, whose word on the authority goes to jobs.
    identity: Identity,
    ca: NamedTempFile,
}

impl Place {
    /// For a server of this name; `None`, and a word on it, without an engine.
    async fn new(name: &str) -> Option<Self> {
        let Some(docker) = Docker::of_environment() else {
            skipped("GANTRY_TEST_ENGINE names no engine");
            return None;
        };
        let bridge = docker.bridge().await;
        let ca = TestCa::new("an authority of one's own");
        let mut file = NamedTempFile::new().expect("a temporary file");
        file.write_all(ca.pem().as_bytes()).expect("a file");
        Some(Self {
            name: name.to_owned(),
            identity: ca.issue(&[name, &bridge]),
            bridge,
            ca: file,
        })
    }

    /// Starts the program that `variable` names, with the identity in `cert.pem` and `key.pem`; `None`, and a word on it, without one.
    async fn start(
        &self,
        variable: &str,
        ports: usize,
        arrange: impl FnOnce(&mut Command, &Path, &[u16]),
    ) -> Option<ForeignServer> {
        let started = ForeignServer::start(variable, ports, |command, folder, ports| {
            let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
            write("cert.pem", &self.identity.certificate).expect("a file");
            write("key.pem", &self.identity.key).expect("a file");
            arrange(command, folder, ports);
        });
        started.await.inspect_err(|why| skipped(why)).ok()
    }

    /// A cache of one job is there for the next, which has no local archive; a small one, and one of many blocks or parts.
    async fn keeps_caches(&self, tables: &str, variables: &[(&str, &str)]) {
        let config = Config::new()
            .runner(&format!("tls-ca-file = \"{}\"", self.ca.path().display()))
            .docker(&format!(
                "extra_hosts = [\"{}:{}\"]",
                self.name, self.bridge
            ))
            .more(tables);
        let make = |gitlab: FakeGitLabBuilder| gitlab.tls(self.identity.clone());
        let host = Host::with(&config, make).await;
        let host = host.expect("an engine was there");
        let runner = host.start_in(variables);
        for work in [uses_cache("gems main naïve"), uses_large_cache("large")] {
            let (_, log) = end(&host, &work).await;
            log.assert_prints("made");
            log.assert_says("Uploading cache.zip to");
            log.assert_says("Created cache");
            let (_, log) = end(&host, &work).await;
            log.assert_says("Downloading cache from");
            log.assert_says("Successfully extracted cache");
            log.assert_prints("kept");
            log.assert_says("Primary cache already exists remotely, skipping upload");
        }
        host.finish(runner).await;
    }
}

/// Makes a bucket where nobody has to sign for it.
async fn make_bucket(url: &str) {
    let output = tokio::process::Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--noproxy",
            "*",
        ])
        .args(["--request", "PUT", url])
        .output()
        .await
        .expect("curl");
    assert!(output.status.success(), "{output:?}");
}

/// A job with a cache of 72 MB that cannot be made smaller, which checks every byte of what it finds.
fn uses_large_cache(key: &str) -> JobBuilder {
    job([
        "if [ -e large/sum ]; then sha256sum -c large/sum && echo kept; else echo made; mkdir large; head -c 75497472 /dev/urandom > large/noise; sha256sum large/noise > large/sum; fi",
    ])
    .set(
        "/cache",
        json!([{"key": key, "paths": ["large/"], "policy": "pull-push", "when": "on_success"}]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_kept_in_azurite() {
    let name = format!("{}.blob.azurite.test", Azurite::ACCOUNT);
    let Some(place) = Place::new(&name).await else {
        return;
    };
    let azurite = match Azurite::start(Some((&name, &place.identity))).await {
        Ok(azurite) => azurite,
        Err(why) => return skipped(&why),
    };
    let tables = format!(
        "[runners.cache]\nType = \"azure\"\nPath = \"ci\"\n[runners.cache.azure]\nAccountName = \"{}\"\nAccountKey = \"{}\"\nContainerName = \"{}\"\nStorageDomain = \"blob.azurite.test:{}\"\n",
        Azurite::ACCOUNT,
        Azurite::KEY,
        Azurite::CONTAINER,
        azurite.port()
    );
    place.keeps_caches(&tables, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_kept_in_a_google_cloud_storage_server() {
    // A key of nobody.
    const KEY: &str = include_str!("../../../../object-storage/src/gcs/test-key.pem");
    let name = "storage.gcs.test";
    let Some(place) = Place::new(name).await else {
        return;
    };
    let started = place.start("GANTRY_TEST_FAKE_GCS", 1, |command, folder, ports| {
        std::fs::create_dir_all(folder.join("buckets/caches")).expect("a folder");
        let port = ports[0];
        command
            .args([
                "-scheme=https",
                "-host=0.0.0.0",
                "-backend=memory",
                "-log-level=error",
            ])
            .args([
                "-data=buckets",
                "-cert-location=cert.pem",
                "-private-key-location=key.pem",
            ])
            .arg(format!("-port={port}"))
            .arg(format!("-public-host={name}:{port}"));
    });
    let Some(gcs) = started.await else {
        return;
    };
    let credentials = serde_json::json!({
        "type": "service_account", "client_email": "cache@example.iam.gserviceaccount.com",
        "private_key_id": "1", "private_key": KEY, "client_id": "1",
        "token_uri": "https://oauth2.gcs.test/token",
    });
    let account = gcs.file("account.json");
    std::fs::write(&account, credentials.to_string()).expect("a file");
    let tables = format!(
        "[runners.cache]\nType = \"gcs\"\nMaxUploadedArchiveSize = 100000000\n[runners.cache.gcs]\nCredentialsFile = \"{}\"\nBucketName = \"caches\"\nUniverseDomain = \"gcs.test:{}\"\n",
        account.display(),
        gcs.port()
    );
    place.keeps_caches(&tables, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_kept_in_moto_by_a_role() {
    let Some(place) = Place::new("moto.gantry.test").await else {
        return;
    };
    let started = place.start("GANTRY_TEST_MOTO", 1, |command, _, ports| {
        command.args(["-H", "0.0.0.0", "-p", &ports[0].to_string()]);
    });
    let Some(moto) = started.await else {
        return;
    };
    make_bucket(&format!("http://127.0.0.1:{}/caches", moto.port())).await;
    // By its address: of a name it takes the first part for a bucket.
    let tables = format!(
        "[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nServerAddress = \"{}:{}\"\nInsecure = true\nBucketName = \"caches\"\nAccessKey = \"AKIAIOSFODNN7EXAMPLE\"\nSecretKey = \"secret\"\nRoleARN = \"arn:aws:iam::123456789012:role/cache\"\n",
        place.bridge,
        moto.port()
    );
    let endpoint = format!("http://127.0.0.1:{}", moto.port());
    place
        .keeps_caches(&tables, &[("AWS_ENDPOINT_URL_STS", &endpoint)])
        .await;
}

/// What SeaweedFS is told of who may do what: a user, and a role that users may take on.
fn seaweedfs_accounts(folder: &Path) {
    let write = |name: &str, value: &serde_json::Value| {
        std::fs::write(folder.join(name), value.to_string()).expect("a file");
    };
    let keys = json!({"accessKey": "AKIAIOSFODNN7EXAMPLE", "secretKey": "secret-of-the-user"});
    write(
        "s3.json",
        &json!({"identities": [{"name": "ci", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}),
    );
    let allow =
        |statement: serde_json::Value| json!({"Version": "2012-10-17", "Statement": [statement]});
    let all = json!({"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::caches", "arn:aws:s3:::caches/*"]});
    let trust = json!({"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole"]});
    write(
        "iam.json",
        &json!({
            "sts": {
                "tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "of-the-test",
                "signingKey": "YSBzaWduaW5nIGtleSBvZiB0aGUgdGVzdCwgb2YgMzI=",
            },
            "policy": {"defaultEffect": "Deny", "storeType": "memory"},
            "policies": [{"name": "caches", "document": allow(all)}],
            "roles": [{
                "roleName": "cache", "roleArn": "arn:aws:iam::123456789012:role/cache",
                "trustPolicy": allow(trust), "attachedPolicies": ["caches"],
            }],
        }),
    );
}

/// SeaweedFS leaves a socket behind for each port.
struct Sockets(Vec<u16>);

impl Drop for Sockets {
    fn drop(&mut self) {
        for file in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = file.file_name();
            let name = name.to_string_lossy();
            let ours = |port: &u16| name.ends_with(&format!("-{port}.sock"));
            if name.starts_with("seaweedfs-") && self.0.iter().any(ours) {
                std::fs::remove_file(file.path()).ok();
            }
        }
    }
}

/// SeaweedFS checks signatures and policies by code of its own, and really encrypts.
#[rstest]
#[case::encrypted("ServerSideEncryption = \"AES256\"")]
#[case::by_a_role("RoleARN = \"arn:aws:iam::123456789012:role/cache\"")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_kept_in_seaweedfs(#[case] line: &str) {
    // Of the server and the bucket: there it is a part of the name.
    let (server, bucket) = ("s3.weed.test", "caches.s3.weed.test");
    let Some(place) = Place::new(bucket).await else {
        return;
    };
    let started = place.start("GANTRY_TEST_SEAWEEDFS", 8, |command, folder, ports| {
        seaweedfs_accounts(folder);
        command
            .env("WEED_S3_SSE_KEY", "of-the-test")
            .args(["server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args(["-master.telemetry=false", "-master.volumeSizeLimitMB=500"])
            .args(["-volume.max=20", "-volume.minFreeSpace=1MiB"])
            .args(["-s3", "-s3.ip.bind=0.0.0.0", "-s3.autoCreateBucket=false"])
            .args(["-s3.config=s3.json", "-s3.iam.config=iam.json"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-s3.domainName={server}"));
        let listeners = [
            "s3.port",
            "s3.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "master.port",
            "master.port.grpc",
        ];
        for (name, port) in listeners.iter().zip(ports) {
            command.arg(format!("-{name}={port}"));
        }
    });
    let Some(weed) = started.await else {
        return;
    };
    let _sockets = Sockets(weed.ports().to_vec());
    let port = weed.port();
    let sign = [
        "--aws-sigv4",
        "aws:amz:us-east-1:s3",
        "--user",
        "AKIAIOSFODNN7EXAMPLE:secret-of-the-user",
    ];
    let curl = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("curl");
        command
            .args(["--silent", "--fail", "--noproxy", "*"])
            .args(sign);
        command.args(arguments).output().await.expect("curl")
    };
    let address = format!("http://127.0.0.1:{port}/caches");
    until("the server to be one", async || {
        let made = curl(&["--request", "PUT", &address]).await;
        made.status.success().then_some(())
    })
    .await;
    let tables = format!(
        "[runners.cache]\nType = \"s3\"\nShared = true\n[runners.cache.s3]\nServerAddress = \"{server}:{port}\"\nInsecure = true\nPathStyle = false\nBucketName = \"caches\"\nAccessKey = \"AKIAIOSFODNN7EXAMPLE\"\nSecretKey = \"secret-of-the-user\"\n{line}\n"
    );
    let endpoint = format!("http://127.0.0.1:{port}");
    place
        .keeps_caches(&tables, &[("AWS_ENDPOINT_URL_STS", &endpoint)])
        .await;
    // Names of an archive's files are not compressed: on the disk they are there to read, or not.
    let found = tokio::process::Command::new("grep")
        .args([
            "--recursive",
            "--text",
            "--files-with-matches",
            "--fixed-strings",
        ])
        .args(["--include=*.dat", "large/noise", "."])
        .current_dir(weed.folder())
        .output()
        .await
        .expect("grep");
    let readable = String::from_utf8_lossy(&found.stdout).contains(".dat");
    assert_eq!(readable, !line.contains("AES256"), "{found:?}");
}
