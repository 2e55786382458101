//! Signed addresses of a store that does what stores do.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use gantry_agent::{EntryOutcome, Header, RemoteSource, SignedUrl};

use crate::support::{Job, Reply, Store};

fn url(store: &Store, path: &str) -> SignedUrl {
    SignedUrl {
        url: store.url(&format!("{path}?X-Amz-Signature=s3cret")).into(),
        headers: Vec::new(),
    }
}

fn remote(store: &Store, path: &str) -> RemoteSource {
    RemoteSource {
        get: url(store, path),
        head: Some(url(store, path)),
    }
}

#[test]
fn a_cache_goes_to_the_store_and_is_not_sent_again_while_it_is_there() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let store = Store::start(|_, _| Reply::status(200));
    let mut entry = job.entry();
    entry.put = Some(SignedUrl {
        headers: vec![Header {
            name: "x-amz-meta-cachekey".into(),
            value: "key".into(),
        }],
        ..url(&store, "/bucket/key")
    });
    entry.check = Some(url(&store, "/bucket/key"));
    let done = job.save(entry.clone());
    done.assert_done();
    assert!(done.err().contains(&format!(
        "Uploading cache.zip to {}",
        store.url("/bucket/key")
    )));
    assert!(!done.err().contains("s3cret") && !done.out().contains("s3cret"));
    let put = &store.seen()[0];
    assert_eq!(
        (&put.method[..], &put.target[..]),
        ("PUT", "/bucket/key?X-Amz-Signature=s3cret")
    );
    assert_eq!(put.header("x-amz-meta-cachekey"), "key");
    assert_eq!(put.header("content-type"), "application/octet-stream");
    assert!(put.header("last-modified").ends_with(" GMT"));
    assert_eq!(put.header("content-length"), put.body.len().to_string());
    assert_eq!(put.body, fs::read(job.file()).unwrap());

    let done = job.save(entry.clone());
    assert!(
        done.err()
            .contains("Primary cache already exists remotely, skipping upload")
    );
    assert_eq!(store.seen().len(), 2);
    assert_eq!(store.seen()[1].method, "HEAD");

    // Gone from the store: the archive that is there is sent.
    let gone =
        Store::start(|request, _| Reply::status(if request.method == "HEAD" { 404 } else { 200 }));
    entry.put = Some(url(&gone, "/k"));
    entry.check = Some(url(&gone, "/k"));
    let done = job.save(entry.clone());
    assert!(
        done.err()
            .contains("does not exist remotely, uploading existing archive")
    );
    assert_eq!(gone.seen()[1].method, "PUT");

    entry.max_archive_size = 10;
    job.write("vendor/b", "new");
    let done = job.save(entry);
    assert!(
        done.err().contains("is too big (Limit is set to 10 B)"),
        "{}",
        done.err()
    );
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert_eq!(gone.seen().len(), 2);
}

#[test]
fn a_store_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let mut job = Job::new();
    job.write("vendor/a", "x");
    let store = Store::start(|_, number| Reply::status(if number < 2 { 503 } else { 200 }));
    let mut entry = job.entry();
    entry.put = Some(url(&store, "/k"));
    let done = job.save(entry.clone());
    done.assert_done();
    assert_eq!(done.err().matches("Retrying...").count(), 2);
    let bodies: Vec<_> = store
        .seen()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));

    let refused = Store::start(|_, _| {
        Reply::status(403)
            .body("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
    });
    entry.put = Some(url(&refused, "/k"));
    job.write("vendor/a", "xy");
    let done = job.save(entry);
    assert!(done.err().contains("FATAL: received: 403 Forbidden. Request failed with code: AccessDenied, message: Access Denied"));
    assert!(done.out().contains("Failed to create cache"));
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert_eq!(refused.seen().len(), 1);
}

/// An archive with one file.
fn archive(job: &mut Job, content: &str) -> Vec<u8> {
    job.write("vendor/a", content);
    job.save(job.entry());
    let archive = fs::read(job.file()).unwrap();
    fs::remove_file(job.file()).unwrap();
    fs::remove_dir_all(job.project().join("vendor")).unwrap();
    archive
}

#[test]
fn a_cache_comes_from_the_store_unless_the_local_one_is_as_new() {
    let mut job = Job::new();
    let archive = archive(&mut job, "from the store");
    let store = Store::start(move |_, _| {
        Reply::status(200)
            .with("Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT")
            .with("ETag", "\"e\"")
            .with("x-amz-meta-cachekey", "key")
            .body(archive.clone())
    });
    let mut candidate = job.candidate();
    candidate.remote = Some(remote(&store, "/k"));
    let done = job.restore(vec![candidate.clone()]);
    done.assert_done();
    assert!(
        done.err()
            .contains(&format!("Downloading cache from {}", store.url("/k")))
    );
    assert_eq!(
        fs::read_to_string(job.project().join("vendor/a")).unwrap(),
        "from the store"
    );
    let time = fs::metadata(job.file()).unwrap().modified().unwrap();
    assert_eq!(
        time,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890)
    );
    let metadata = job.file().with_file_name("metadata.json");
    assert_eq!(
        fs::read_to_string(metadata).unwrap(),
        r#"{"cachekey":"key"}"#
    );
    let done = job.restore(vec![candidate.clone()]);
    assert!(done.err().contains("cache.zip is up to date"));

    // The local one is as new, but no good: the store has better.
    let held = fs::metadata(job.file()).unwrap().modified().unwrap();
    fs::write(job.file(), "garbage").unwrap();
    fs::File::options()
        .write(true)
        .open(job.file())
        .unwrap()
        .set_modified(held)
        .unwrap();
    let done = job.restore(vec![candidate]);
    done.assert_done();
}

#[test]
fn a_download_that_breaks_off_is_continued_where_it_broke() {
    let mut job = Job::new();
    let archive = archive(&mut job, &"long content ".repeat(10_000));
    let served = archive.clone();
    let store = Store::start(move |request, number| {
        let reply = Reply::status(200)
            .with("ETag", "\"e\"")
            .body(served.clone());
        match number {
            0 => Reply {
                cut: served.len() / 2,
                ..reply
            },
            _ => {
                let from: usize = request
                    .header("range")
                    .trim_start_matches("bytes=")
                    .trim_end_matches('-')
                    .parse()
                    .unwrap();
                assert_eq!(request.header("if-range"), "\"e\"");
                Reply {
                    status: 206,
                    body: served[from..].to_vec(),
                    ..reply
                }
            }
        }
    });
    let mut candidate = job.candidate();
    candidate.remote = Some(remote(&store, "/k"));
    let done = job.restore(vec![candidate]);
    done.assert_done();
    assert_eq!(store.seen().len(), 2);
    assert_eq!(fs::read(job.file()).unwrap(), archive);
}

#[test]
fn what_a_store_answers_instead_of_a_cache_fails_with_its_reason_and_leaves_the_project() {
    let mut job = Job::new();
    job.write("kept", "x");
    let cases: [(&str, Reply); 6] = [
        ("file does not exist", Reply::status(404)),
        (
            "not an archive",
            Reply::status(200).body("<html>Sign in</html>"),
        ),
        (
            "stopped after 10 redirects",
            Reply::status(302).with("Location", "/again"),
        ),
        (
            "names `file:///etc/passwd`, which is no http address",
            Reply::status(302).with("Location", "file://user:word@/etc/passwd?signature=1"),
        ),
        (
            "GET http://127.0.0.1",
            Reply {
                raw: Some(b"no http at all\r\n\r\n".to_vec()),
                ..Reply::default()
            },
        ),
        (
            "GET http://127.0.0.1",
            Reply {
                raw: Some(Vec::new()),
                ..Reply::default()
            },
        ),
    ];
    for (text, reply) in cases {
        let store = Store::start(move |_, _| reply.clone());
        let mut candidate = job.candidate();
        candidate.remote = Some(remote(&store, "/k"));
        let done = job.restore(vec![candidate]);
        assert_ne!(done.entries[0].outcome, EntryOutcome::Done);
        assert!(done.err().contains(text), "{text}: {}", done.err());
        assert!(!done.err().contains("s3cret"), "{}", done.err());
        assert!(done.out().contains("Failed to extract cache"));
        let left: Vec<_> = fs::read_dir(job.project())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["kept"]);
    }
}

#[test]
fn the_alternate_address_is_taken_if_it_alone_is_there_or_newer() {
    let mut job = Job::new();
    let archive = archive(&mut job, "alternate");
    let times = [
        (None, Some("Fri, 13 Feb 2009 23:31:30 GMT"), true),
        (
            Some("Fri, 13 Feb 2009 23:31:31 GMT"),
            Some("Fri, 13 Feb 2009 23:31:30 GMT"),
            false,
        ),
        (
            Some("Fri, 13 Feb 2009 23:31:30 GMT"),
            Some("Fri, 13 Feb 2009 23:31:31 GMT"),
            true,
        ),
        (Some("Fri, 13 Feb 2009 23:31:30 GMT"), None, false),
    ];
    for (primary, alternate, takes_alternate) in times {
        let archive = archive.clone();
        let store = Store::start(move |request, _| {
            let time = if request.target.starts_with("/alternate") {
                alternate
            } else {
                primary
            };
            match time {
                Some(time) => Reply::status(200)
                    .with("Last-Modified", time)
                    .body(archive.clone()),
                None => Reply::status(404),
            }
        });
        fs::remove_file(job.file()).ok();
        let mut candidate = job.candidate();
        candidate.remote = Some(remote(&store, "/primary"));
        candidate.alternate = Some(remote(&store, "/alternate"));
        let done = job.restore(vec![candidate]);
        done.assert_done();
        let seen = store.seen();
        let got = seen.last().unwrap();
        assert_eq!(got.method, "GET");
        assert_eq!(
            got.target.starts_with("/alternate"),
            takes_alternate,
            "{primary:?} {alternate:?}"
        );
    }
}
