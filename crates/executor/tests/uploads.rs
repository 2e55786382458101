//! Uploads of caches in parts: the storage is a real server, engine and helper are scripted.

use std::sync::{Arc, Mutex};

use gantry_agent::{ArchiveCacheRequest, StageRequest};
use gantry_config::{CacheConfig, S3CacheConfig};
use gantry_executor::Wish;
use gantry_object_storage::Storage;
use gantry_testkit::s3::{ACCESS_KEY, Fault, S3Server, SECRET_KEY};
use rstest::rstest;
use tokio::sync::Notify;

use crate::harness::{Bench, Ending, Setup, Work, with_server};

const CREATE: &str = "CreateMultipartUpload";
const ABORT: &str = "AbortMultipartUpload";

fn config(server: &S3Server) -> CacheConfig {
    CacheConfig {
        kind: "s3".to_owned(),
        s3: S3CacheConfig {
            server_address: server.address().to_owned(),
            access_key: ACCESS_KEY.into(),
            secret_key: SECRET_KEY.into(),
            bucket_name: "caches".to_owned(),
            insecure: true,
            ..S3CacheConfig::default()
        },
        ..CacheConfig::default()
    }
}

/// A job that saves a cache, and what its helper does meanwhile.
fn bench(server: &S3Server, saving: Work) -> Bench {
    let cache = config(server);
    let storage = Storage::new(&cache, &gantry_gitlab::outside_client().unwrap()).unwrap();
    let setup = Setup::script(Work::says("built\n"))
        .git()
        .cache()
        .helper("archive_cache", saving)
        .with(|it| it.runner.cache = cache);
    let mut bench = Bench::new(setup);
    bench.caches = storage;
    bench
}

/// Operations on uploads, in order.
fn operations(server: &S3Server) -> Vec<String> {
    let requests = server.requests();
    requests
        .iter()
        .map(|it| it.operation().to_owned())
        .collect()
}

/// What the helper was asked to save, each time.
fn saves(bench: &Bench) -> Vec<ArchiveCacheRequest> {
    let asked = bench.agents.asked().into_iter();
    asked
        .filter_map(|request| match request {
            StageRequest::ArchiveCache(request) => Some(*request),
            _ => None,
        })
        .collect()
}

/// The number of the upload that the helper was asked to send.
fn upload_of(request: &ArchiveCacheRequest) -> String {
    let upload = request.entries[0].multipart.as_ref().expect("in parts");
    let complete = upload.complete.url.expose();
    let (_, rest) = complete.split_once("uploadId=").expect("its number");
    rest.split('&').next().unwrap_or(rest).to_owned()
}

/// What is in the storage while the helper works.
fn looks_at(server: &S3Server) -> (Work, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (server, to) = (server.clone(), Arc::clone(&seen));
    let work = Work::nothing().does(move |_| *to.lock().unwrap() = server.open_uploads());
    (work, seen)
}

#[test]
fn an_upload_is_begun_before_its_helper_works_and_ended_after_it() {
    with_server(async {
        let server = S3Server::start().await;
        let (work, seen) = looks_at(&server);
        let bench = bench(&server, work);
        bench.run_to_end().await.assert_success();
        let [asked] = &saves(&bench)[..] else {
            panic!("one save");
        };
        assert_eq!(*seen.lock().unwrap(), [upload_of(asked)]);
        let parts = &asked.entries[0].multipart.as_ref().unwrap().parts;
        assert!(parts.len() > 1 && parts.iter().all(|part| part.size > 0));
        assert!(asked.entries[0].put.is_some() && asked.entries[0].check.is_some());
        // Whoever completed it knows nothing of the second.
        assert_eq!(operations(&server), [CREATE, ABORT]);
        assert!(server.open_uploads().is_empty());
    });
}

#[rstest]
#[case::it_is_not_allowed(Fault::Status(403))]
#[case::it_is_not_known(Fault::Status(501))]
#[case::it_fails(Fault::Status(500))]
#[case::it_hangs_up(Fault::Hangup)]
fn where_the_storage_begins_no_upload_the_archive_is_sent_as_a_whole(#[case] fault: Fault) {
    with_server(async {
        let server = S3Server::start().await;
        server.spoil_next(CREATE, 99, fault);
        let bench = bench(&server, Work::nothing());
        bench.run_to_end().await.assert_success();
        let asked = &saves(&bench)[0].entries[0];
        assert!(asked.multipart.is_none() && asked.put.is_some());
        assert!(!operations(&server).contains(&ABORT.to_owned()));
    });
}

/// What ends while the helper sends.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Process,
    Job,
}

/// A job whose first process is in the midst of the upload.
async fn in_mid_upload(ends: Ends) -> (S3Server, Bench, Ending) {
    let server = S3Server::start().await;
    let arrived = Arc::new(Notify::new());
    let tells = Arc::clone(&arrived);
    let work = Work::nothing().does(move |_| tells.notify_one());
    let work = match ends {
        // Long enough for the second process to find it at work.
        Ends::Process => work.pause_ms(500),
        Ends::Job => work.then_hangs(),
    };
    let bench = bench(&server, work);
    let process = bench.start().await;
    let ending = match ends {
        Ends::Process => {
            tokio::select! {
                _ = process.live() => panic!("the upload is not at its end"),
                () = arrived.notified() => {}
            }
            drop(process);
            bench.run_to_end().await
        }
        Ends::Job => {
            let (ending, ()) = tokio::join!(bench.finish(process), async {
                arrived.notified().await;
                bench.server.wish(Wish::Abort);
            });
            ending.unwrap()
        }
    };
    (server, bench, ending)
}

#[test]
fn a_process_that_takes_the_job_up_goes_on_with_the_upload_that_was_begun() {
    with_server(async {
        let (server, bench, ending) = in_mid_upload(Ends::Process).await;
        ending.assert_success();
        assert_eq!(operations(&server)[..2], [CREATE, ABORT]);
        assert_eq!(server.requests_by("POST").len(), 1, "begun once");
        assert!(server.open_uploads().is_empty());
        assert_eq!(saves(&bench).len(), 1, "the helper is at work already");
    });
}

#[test]
fn a_job_that_is_taken_away_leaves_no_upload() {
    with_server(async {
        let (server, _, _) = in_mid_upload(Ends::Job).await;
        assert_eq!(operations(&server), [CREATE, ABORT]);
        assert!(server.open_uploads().is_empty());
    });
}

#[test]
fn an_upload_that_cannot_be_aborted_is_written_down_for_a_later_process() {
    with_server(async {
        let server = S3Server::start().await;
        let bench = bench(&server, Work::nothing());
        server.spoil_next(ABORT, 1, Fault::Status(500));
        let ending = bench.run_to_end().await;
        ending.assert_success();
        assert_eq!(server.open_uploads().len(), 1);
        // The job is over; what is left of it is removed by whoever finds its journal.
        let process = bench.start().await;
        assert!(process.job.remove().await);
        assert!(server.open_uploads().is_empty());
        assert_eq!(operations(&server), [CREATE, ABORT, ABORT]);
    });
}
