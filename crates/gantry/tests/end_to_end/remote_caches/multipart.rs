//! Caches that are sent to S3 in parts while they are packed: the runner begins the upload and ends it, whatever becomes of it.

use gantry_testkit::s3::{Fault, S3Server};
use gantry_testkit::{JobBuilder, ServerJobState};
use rstest::rstest;

use super::{end, entry, host, s3, tables};
use crate::harness::{Config, Host, JobLog, Signal, job, until};

const CREATE: &str = "CreateMultipartUpload";
const PART: &str = "UploadPart";
const COMPLETE: &str = "CompleteMultipartUpload";
const ABORT: &str = "AbortMultipartUpload";

/// A job whose cache has a few parts.
fn uses_large_cache() -> JobBuilder {
    job(["if [ -e vendor/noise ]; then md5sum -c vendor/sum; else echo made; mkdir -p vendor; head -c 30000000 /dev/urandom > vendor/noise; md5sum vendor/noise > vendor/sum; fi"])
        .set("/cache", entry("gems"))
}

fn count(server: &S3Server, operation: &str) -> usize {
    let requests = server.requests();
    let found = requests.iter().filter(|it| it.operation() == operation);
    found.count()
}

/// A later job finds the cache.
async fn is_kept(host: &Host, server: &S3Server) {
    let (_, log) = end(host, &uses_large_cache()).await;
    log.assert_says("Downloading cache from");
    log.assert_prints("vendor/noise: OK");
    assert_eq!(server.open_uploads(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_cache_is_sent_in_parts_and_a_small_one_at_once() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let encryption = "ServerSideEncryption = \"KMS\"\nServerSideEncryptionKeyID = \"alias/ci\"";
    let host = host(&Config::new().more(&tables(&server, "", encryption))).await;
    let runner = host.start();
    let (_, log) = end(&host, &uses_large_cache()).await;
    log.assert_says("Uploading cache.zip to");
    log.assert_says("Created cache");
    log.assert_never_says("uploadId");
    assert_eq!(count(&server, "PUT"), 0);
    assert_eq!(count(&server, PART), 4, "of 8 MiB");
    assert_eq!(count(&server, COMPLETE), 1);
    let begun = &server.requests_by("POST")[0];
    assert_eq!(begun.operation(), CREATE);
    for (header, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/ci"),
        ("x-amz-meta-cachekey", "gems"),
        ("content-type", "application/octet-stream"),
    ] {
        assert_eq!(begun.header(header), Some(value));
    }
    // Unchanged, so begun in vain.
    is_kept(&host, &server).await;
    assert_eq!(count(&server, PART), 4);
    let (_, log) = end(&host, &super::uses_cache("small")).await;
    log.assert_says("Created cache");
    assert_eq!((count(&server, "PUT"), count(&server, PART)), (1, 4));
    assert_eq!(server.open_uploads(), Vec::<String>::new());
    assert_eq!(server.objects("caches").len(), 2);
    host.finish(runner).await;
}

#[rstest]
#[case::not_allowed(CREATE, Fault::Status(403), 0)]
#[case::not_known(CREATE, Fault::Status(501), 0)]
#[case::fails_late(COMPLETE, Fault::LateError, 4)]
#[case::no_tags(PART, Fault::NoTag, 1)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_in_parts_is_sent_as_a_whole(
    #[case] operation: &'static str,
    #[case] fault: Fault,
    #[case] parts: usize,
) {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, "", ""))).await;
    let runner = host.start();
    server.spoil_next(operation, 99, fault);
    let (_, log) = end(&host, &uses_large_cache()).await;
    log.assert_says("Created cache");
    assert_eq!(count(&server, "PUT"), 1);
    assert!(count(&server, PART) >= parts);
    if operation == CREATE {
        log.assert_never_says("Retrying");
        runner
            .says("archives are packed before they are sent")
            .await;
    }
    assert_eq!(server.open_uploads(), Vec::<String>::new());
    is_kept(&host, &server).await;
    if operation == CREATE {
        assert_eq!(count(&server, CREATE), 1, "not again for a while");
    }
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_switches_it_off() {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let config = Config::new()
        .gantry("s3_multipart = false")
        .more(&tables(&server, "", ""));
    let host = host(&config).await;
    let runner = host.start();
    end(&host, &uses_large_cache()).await;
    assert_eq!((count(&server, "PUT"), count(&server, CREATE)), (1, 0));
    is_kept(&host, &server).await;
    host.finish(runner).await;
}

/// How a job ends while parts of its cache are on their way.
#[derive(Debug, Clone, Copy)]
enum Stopped {
    Timeout,
    Signal,
}

#[rstest]
#[case::by_its_time_limit(Stopped::Timeout)]
#[case::by_the_end_of_the_runner(Stopped::Signal)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_stopped_leaves_nothing_in_the_storage(#[case] how: Stopped) {
    let Some((_, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, "", ""))).await;
    let mut runner = host.start();
    server.spoil_next(PART, 99, Fault::Held);
    let work = match how {
        Stopped::Timeout => uses_large_cache().timeout(15),
        Stopped::Signal => uses_large_cache(),
    };
    let id = host.gitlab.enqueue(&work);
    until("a part to be sent", async || {
        (!server.held().is_empty()).then_some(())
    })
    .await;
    assert_eq!(server.open_uploads().len(), 1);
    if matches!(how, Stopped::Signal) {
        runner.signal(Signal::TERM);
    }
    let ended = host.end_of(id).await;
    assert_ne!(ended.state, ServerJobState::Success);
    until("the upload to be aborted", async || {
        server.open_uploads().is_empty().then_some(())
    })
    .await;
    assert_eq!(count(&server, ABORT), 1);
    assert!(server.objects("caches").is_empty());
    if matches!(how, Stopped::Signal) {
        runner.ended().await;
        host.assert_nothing_left().await;
    } else {
        host.finish(runner).await;
    }
}

#[rstest]
#[case::with_its_helper(false)]
#[case::and_its_helper_is_lost(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_when_the_runner_was_killed_and_is_begun_once(#[case] lost: bool) {
    let Some((docker, _, server)) = s3(None).await else {
        return;
    };
    let host = host(&Config::new().more(&tables(&server, "", ""))).await;
    let runner = host.start();
    server.spoil_next(PART, 99, Fault::Held);
    // A helper that is lost in the midst of a stage is replaced.
    let work = uses_large_cache().variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "2");
    let id = host.gitlab.enqueue(&work);
    until("a part to be sent", async || {
        (!server.held().is_empty()).then_some(())
    })
    .await;
    let [open] = &server.open_uploads()[..] else {
        panic!("one upload");
    };
    let journal = host.journal(id);
    let noted = journal.iter().find_map(|record| record.get("Uploads"));
    assert_eq!(noted.expect("it is written down")[0]["id"], open.as_str());
    runner.kill().await;
    if lost {
        for helper in host.containers("-predefined").await {
            docker.run(&["kill", &helper]).await;
        }
    }
    server.release();
    let runner = host.start();
    let ended = host.end_of(id).await;
    let log = JobLog::of(&ended);
    assert_eq!(ended.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("Created cache");
    assert_eq!((count(&server, CREATE), count(&server, COMPLETE)), (1, 1));
    assert_eq!(count(&server, "PUT"), 0);
    is_kept(&host, &server).await;
    host.finish(runner).await;
}
