//! Caches in an object storage, by whole jobs: an S3 server that checks every signature (config-toml §5, job-lifecycle §5).

mod foreign;
mod multipart;

use gantry_testkit::s3::{ACCESS_KEY, ROLE, S3Server, SECRET_KEY};
use gantry_testkit::{JobBuilder, JobRecord, ServerJobState};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Config, Docker, Host, JobLog, job, skipped};

/// Words about a cache that could not be used.
const MISS: &str = "Failed to extract cache";
/// A volume for local archives, so that they are there for the next job.
const LOCAL: &str = "volumes = [\"/cache\"]";

/// Number of the project that a job is of.
fn project(job: &JobRecord) -> String {
    let payload: Value = serde_json::from_slice(&job.payload).expect("a payload");
    payload["job_info"]["project_id"].to_string()
}

fn entry(key: &str) -> Value {
    json!([{"key": key, "paths": ["vendor/"], "policy": "pull-push", "when": "on_success"}])
}

/// A job that makes `vendor/` if it is not there, and says which it was.
fn uses_cache(key: &str) -> JobBuilder {
    job(["if [ -e vendor/gem ]; then cat vendor/gem; else echo made; mkdir -p vendor; echo kept > vendor/gem; head -c 20000 /dev/urandom > vendor/noise; fi"])
        .set("/cache", entry(key))
}

/// An engine and an S3 server that its containers reach under this name, or under the bridge's address.
async fn s3(name: Option<&str>) -> Option<(Docker, String, S3Server)> {
    let Some(docker) = Docker::of_environment() else {
        skipped("GANTRY_TEST_ENGINE names no engine");
        return None;
    };
    let bridge = docker.bridge().await;
    let server = S3Server::start_on(([0, 0, 0, 0], 0).into(), name.unwrap_or(&bridge)).await;
    Some((docker, bridge, server))
}

/// Tables of a configuration with this storage: `[runners.cache]` lines first, `[runners.cache.s3]` lines then.
fn tables(server: &S3Server, cache: &str, s3: &str) -> String {
    let keys = if s3.contains("SecretKey") || s3.contains("AuthenticationType") {
        String::new()
    } else {
        format!("AccessKey = \"{ACCESS_KEY}\"\nSecretKey = \"{SECRET_KEY}\"\n")
    };
    format!(
        "[runners.cache]\nType = \"s3\"\n{cache}\n[runners.cache.s3]\nServerAddress = \"{}\"\nInsecure = true\nBucketName = \"caches\"\n{keys}{s3}\n",
        server.address()
    )
}

async fn host(config: &Config) -> Host {
    let host = Host::new(config).await.expect("an engine was there");
    host.secret(SECRET_KEY);
    host
}

/// The job's end, and that of its objects. A job with a cache succeeds, whatever becomes of the cache.
async fn end(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let job = host.end_of(host.gitlab.enqueue(work)).await;
    let log = JobLog::of(&job);
    host.until_removed().await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    // What was signed is a permission, and neither it nor a key is for people who read logs.
    log.assert_never_says("X-Amz-Signature");
    host.assert_no_secret("the job's log", &job.log());
    (job, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_in_s3_is_there_for_the_next_job_and_unchanged_it_is_not_sent_again() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().docker(LOCAL).more(&tables(&server, "", ""))).await;
    let runner = host.start();
    let (first, log) = end(&host, &uses_cache("gems-main")).await;
    log.assert_prints("made");
    log.assert_says("Uploading cache.zip to");
    log.assert_says("Created cache");
    let project = project(&first);
    let object = format!("runner/{}/project/{project}/gems-main", host.short_token());
    assert_eq!(server.objects("caches"), [object]);
    let put = &server.requests_by("PUT")[0];
    assert_eq!(put.header("x-amz-meta-cachekey"), Some("gems-main"));
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    assert!(put.header("last-modified").is_some());
    // Another machine has no local archive.
    host.remove_kept_volumes().await;
    let (_, log) = end(&host, &uses_cache("gems-main")).await;
    log.assert_says("Downloading cache from");
    log.assert_says("Successfully extracted cache");
    log.assert_prints("kept");
    log.assert_says("Primary cache already exists remotely, skipping upload");
    assert_eq!(server.requests_by("PUT").len(), 1);
    // On the same machine not even the download is made again.
    let before = server.requests_by("GET").len();
    let (_, log) = end(&host, &uses_cache("gems-main")).await;
    log.assert_says("cache.zip is up to date");
    log.assert_prints("kept");
    assert_eq!(server.requests_by("PUT").len(), 1);
    assert!(server.requests_by("GET").len() <= before + 1);
    host.finish(runner).await;
}

#[rstest]
#[case::path_and_shared("Path = \"ci\"\nShared = true", "", "ci/project/{project}/gems main")]
#[case::of_one_runner(
    "Path = \"a/b\"",
    "",
    "a/b/runner/{runner}/project/{project}/gems main"
)]
#[case::hashed(
    "",
    "FF_HASH_CACHE_KEYS",
    "runner/{runner}/project/{project}/db/db47b176153e299aa9b4d18d772109410ca575b62f594f4d720b7048a1412dc3"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_named_as_the_peer_names_them(
    #[case] cache: &str,
    #[case] flag: &str,
    #[case] object: &str,
) {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, cache, ""))).await;
    let runner = host.start();
    let mut work = uses_cache("gems main");
    if !flag.is_empty() {
        work = work.variable(flag, "true");
    }
    let (first, _) = end(&host, &work).await;
    let project = project(&first);
    let object = object
        .replace("{runner}", host.short_token())
        .replace("{project}", &project);
    assert_eq!(server.objects("caches"), [object]);
    let (_, log) = end(&host, &work).await;
    log.assert_prints("kept");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_found_whether_its_key_was_hashed_or_not() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, "", ""))).await;
    let runner = host.start();
    end(&host, &uses_cache("gems")).await;
    let hashed = uses_cache("gems").variable("FF_HASH_CACHE_KEYS", "true");
    let (_, log) = end(&host, &hashed).await;
    log.assert_prints("kept");
    assert_eq!(server.objects("caches").len(), 2);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_refused_and_told_and_the_job_goes_on() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let keys = format!("AccessKey = \"{ACCESS_KEY}\"\nSecretKey = \"wrong\"");
    let host = host(&Config::new().more(&tables(&server, "", &keys))).await;
    let runner = host.start();
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says("403 Forbidden");
    log.assert_says("SignatureDoesNotMatch");
    log.assert_says(MISS);
    log.assert_says("Failed to create cache");
    assert!(server.objects("caches").is_empty());
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.status == 403)
    );
    // Nothing that the same request would change: it is made once.
    assert_eq!(server.requests_by("GET").len(), 1);
    assert_eq!(server.requests_by("PUT").len(), 1);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_cannot_be_reached_does_not_fail_the_job() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, "", ""))).await;
    server.go_down().await;
    let runner = host.start();
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says(MISS);
    log.assert_says("Failed to create cache");
    log.assert_prints("made");
    server.come_back().await;
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says("Created cache");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_busy_is_asked_again() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, "", ""))).await;
    let runner = host.start();
    end(&host, &uses_cache("gems")).await;
    server.fail_next("GET", 2, 503);
    let (_, log) = end(&host, &uses_cache("gems")).await;
    let retries = log.all.iter().filter(|line| line.contains("Retrying..."));
    assert_eq!(retries.count(), 2, "{}", log.text());
    log.assert_prints("kept");
    // An answer that ends in its midst is no archive.
    server.cut_next(5000);
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_prints("kept");
    host.finish(runner).await;
}

#[rstest]
#[case::with_local_archives(LOCAL)]
#[case::without("")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_a_miss_that_the_save_repairs(
    #[case] volumes: &str,
    #[values("garbage", "half", "nothing")] damage: &str,
) {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().docker(volumes).more(&tables(&server, "", ""))).await;
    let runner = host.start();
    end(&host, &uses_cache("gems")).await;
    let object = server.objects("caches").remove(0);
    let whole = server.object("caches", &object).expect("the cache");
    let damaged = match damage {
        "garbage" => vec![b'x'; whole.len()],
        "half" => whole[..whole.len() / 2].to_vec(),
        _ => Vec::new(),
    };
    server.replace("caches", &object, &damaged);
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says(MISS);
    log.assert_prints("made");
    log.assert_says("Created cache");
    assert_ne!(server.object("caches", &object), Some(damaged));
    host.remove_kept_volumes().await;
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says("Successfully extracted cache");
    log.assert_prints("kept");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_over_the_limit_stays_on_the_machine() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let limit = tables(&server, "MaxUploadedArchiveSize = 1000", "");
    let host = host(&Config::new().docker(LOCAL).more(&limit)).await;
    let runner = host.start();
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says("is too big (Limit is set to");
    assert!(server.requests_by("PUT").is_empty());
    host.finish(runner).await;
}

#[rstest]
#[case::kms(
    "ServerSideEncryption = \"KMS\"\nServerSideEncryptionKeyID = \"alias/ci\"",
    "aws:kms",
    Some("alias/ci")
)]
#[case::own("ServerSideEncryption = \"AES256\"", "AES256", None)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_is_asked_for_with_the_upload(
    #[case] lines: &str,
    #[case] kind: &str,
    #[case] key: Option<&str>,
) {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, "", lines))).await;
    let runner = host.start();
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says("Created cache");
    let put = &server.requests_by("PUT")[0];
    assert_eq!(put.status, 200);
    assert_eq!(put.header("x-amz-server-side-encryption"), Some(kind));
    assert_eq!(
        put.header("x-amz-server-side-encryption-aws-kms-key-id"),
        key
    );
    let signed = put.item("X-Amz-SignedHeaders").expect("signed headers");
    assert!(signed.contains("x-amz-server-side-encryption"), "{signed}");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_may_be_a_name_below_the_servers() {
    let Some((_, bridge, server)) = s3(Some("s3.gantry.test")).await else {
        return;
    };
    let config = Config::new()
        .docker(&format!(
            "extra_hosts = [\"caches.s3.gantry.test:{bridge}\"]"
        ))
        .more(&tables(&server, "", "PathStyle = false"));
    let host = host(&config).await;
    let runner = host.start();
    end(&host, &uses_cache("gems")).await;
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_prints("kept");
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .all(|it| it.host.starts_with("caches.s3.gantry.test:"))
    );
    assert!(requests.iter().all(|it| it.path.starts_with("/runner/")));
    host.finish(runner).await;
}

/// Where credentials come from that the table does not hold.
#[derive(Debug, Clone, Copy)]
enum Found {
    Environment,
    File,
    Nowhere,
}

#[rstest]
#[case::in_the_environment(Found::Environment, true)]
#[case::in_the_file_of_awss_own_programs(Found::File, true)]
#[case::nowhere(Found::Nowhere, false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_the_table_lacks_are_those_of_the_machine(
    #[case] found: Found,
    #[case] kept: bool,
) {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let tables = tables(&server, "", "AuthenticationType = \"iam\"");
    let host = host(&Config::new().more(&tables)).await;
    let mut variables = vec![("AWS_EC2_METADATA_DISABLED", "true")];
    // Nobody listens there: a machine without an identity, at once instead of after a while.
    variables.push(("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9"));
    match found {
        Found::Environment => variables.extend([
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ]),
        Found::File => {
            let folder = host.folder().join(".aws");
            std::fs::create_dir(&folder).expect("a folder in a temporary one");
            let text = format!(
                "[ci]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
            );
            std::fs::write(folder.join("credentials"), text).expect("a file");
            variables.push(("AWS_PROFILE", "ci"));
        }
        Found::Nowhere => {}
    }
    let runner = host.start_in(&variables);
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_says("Created cache");
    assert_eq!(server.objects("caches").len(), usize::from(kept));
    if !kept {
        runner.says("the remote cache is not used").await;
        log.assert_says("Cache will be stored only locally");
    }
    host.finish(runner).await;
}

#[rstest]
#[case::for_both("RoleARN", ROLE, [true, true])]
#[case::for_uploads("UploadRoleARN", ROLE, [false, true])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_assumed_for_the_transfers_it_is_set_for(
    #[case] key: &str,
    #[case] role: &str,
    #[case] by_role: [bool; 2],
) {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let lines = format!("{key} = \"{role}\"");
    let host = host(&Config::new().more(&tables(&server, "", &lines))).await;
    let endpoint = format!("http://127.0.0.1:{}", port(&server));
    let runner = host.start_in(&[("AWS_ENDPOINT_URL_STS", &endpoint)]);
    end(&host, &uses_cache("gems")).await;
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_prints("kept");
    for (method, by_role) in ["GET", "PUT"].into_iter().zip(by_role) {
        let requests = server.requests_by(method);
        assert!(!requests.is_empty());
        for request in requests {
            let token = request.item("X-Amz-Security-Token");
            assert_eq!(token.is_some(), by_role, "{method}");
        }
    }
    let posts = server.requests_by("POST");
    let asked = posts.iter().filter(|post| post.operation() == "POST");
    assert_eq!(asked.count(), 1, "kept for the next job");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_not_granted_leaves_the_job_its_local_cache() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let lines = "RoleARN = \"arn:aws:iam::123456789012:role/other\"";
    let host = host(
        &Config::new()
            .docker(LOCAL)
            .more(&tables(&server, "", lines)),
    )
    .await;
    let endpoint = format!("http://127.0.0.1:{}", port(&server));
    let runner = host.start_in(&[("AWS_ENDPOINT_URL_STS", &endpoint)]);
    end(&host, &uses_cache("gems")).await;
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_prints("kept");
    runner
        .says("not authorized to perform sts:AssumeRole")
        .await;
    assert!(server.objects("caches").is_empty());
    host.finish(runner).await;
}

#[rstest]
#[case::unknown_type("Type = \"ftp\"", "unknown cache type")]
#[case::no_bucket("Type = \"s3\"", "has no BucketName")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_cannot_be_set_up_is_told_and_the_job_has_its_local_cache(
    #[case] lines: &str,
    #[case] says: &str,
) {
    let config = Config::new()
        .docker(LOCAL)
        .more(&format!("[runners.cache]\n{lines}\n"));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let runner = host.start();
    end(&host, &uses_cache("gems")).await;
    let (_, log) = end(&host, &uses_cache("gems")).await;
    log.assert_prints("kept");
    runner.says("Could not create cache adapter").await;
    assert!(runner.count(says) > 0);
    host.finish(runner).await;
}

fn port(server: &S3Server) -> &str {
    server
        .address()
        .rsplit_once(':')
        .map_or("", |(_, port)| port)
}
