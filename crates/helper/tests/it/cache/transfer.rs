//! Archives on their way: unpacked while they come, sent while they are made, in ranges; and what becomes of them when the way is bad.

use std::{
    fs,
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use gantry_agent::{ArchiveCacheEntry, EntryOutcome, Header, RemoteSource, SignedUrl};
use rstest::rstest;

use crate::support::{Finished, Job, PROGRAM, Reply, Store, StoreRequest, until};

pub(super) fn signed(store: &Store, path: &str) -> SignedUrl {
    SignedUrl {
        url: store.url(path).into(),
        headers: Vec::new(),
    }
}

/// Bytes that do not get shorter.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next)
        .take(len.div_ceil(8))
        .flatten()
        .collect();
    bytes.truncate(len);
    bytes
}

/// An archive with files, one of them named last.
fn archive(job: &mut Job, content: &[u8]) -> Vec<u8> {
    job.write("vendor/a", content);
    job.write("vendor/last", "last");
    job.save(job.entry());
    let archive = fs::read(job.file()).unwrap();
    fs::remove_file(job.file()).unwrap();
    fs::remove_dir_all(job.project().join("vendor")).unwrap();
    archive
}

fn restore(job: &mut Job, store: &Store) -> Finished {
    let mut candidate = job.candidate();
    candidate.remote = Some(RemoteSource {
        get: signed(store, "/k?X-Amz-Signature=s3cret"),
        head: None,
    });
    job.restore(vec![candidate])
}

fn names(job: &Job) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(job.project())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_cache_is_unpacked_while_it_comes_and_is_in_the_tree_when_it_is_whole() {
    let mut job = Job::new();
    let content = noise(300_000);
    let archive = archive(&mut job, &content);
    job.write("kept", "x");
    let project = job.project();
    let at = archive.len() - 10;
    let seen = Arc::new(AtomicBool::new(false));
    let unpacked = Arc::clone(&seen);
    let store = Store::start(move |_, _| {
        let (project, unpacked) = (project.clone(), Arc::clone(&unpacked));
        Reply::status(200).body(archive.clone()).pause(at, move || {
            let staged = || {
                let names = fs::read_dir(&project).unwrap().flatten();
                let beside = names
                    .map(|entry| entry.path())
                    .find(|path| path.display().to_string().contains(".gantry-extract-"));
                beside.and_then(|dir| Some(fs::read_dir(dir).ok()?.count()))
            };
            until("both files are unpacked", || staged() == Some(2));
            unpacked.store(!project.join("vendor").exists(), Ordering::SeqCst);
        })
    });
    let done = restore(&mut job, &store);
    done.assert_done();
    assert!(seen.load(Ordering::SeqCst), "unpacked, and not in the tree");
    assert_eq!(store.seen().len(), 1);
    assert_eq!(names(&job), ["kept", "vendor"]);
    assert_eq!(fs::read(job.project().join("vendor/a")).unwrap(), content);
}

#[test]
fn a_download_that_always_breaks_off_leaves_neither_files_nor_an_archive() {
    let mut job = Job::new();
    let archive = archive(&mut job, &noise(100_000));
    job.write("kept", "x");
    let store = Store::start(move |_, _| Reply {
        cut: 1,
        ..Reply::status(200).body(archive.clone())
    });
    let done = restore(&mut job, &store);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Failed);
    assert_eq!(store.seen().len(), 3);
    let told = format!(
        "the download from {} broke off: the connection",
        store.url("/k")
    );
    assert_eq!(done.err().matches(&told).count(), 3, "{}", done.err());
    assert!(!done.err().contains("s3cret"));
    assert_eq!(names(&job), ["kept"]);
    let beside = fs::read_dir(job.file().parent().unwrap()).unwrap();
    let beside: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    // Of the archive that was made for this test.
    assert_eq!(
        beside,
        ["metadata.json"],
        "nothing that could count as a cache"
    );
}

#[test]
fn an_object_that_is_replaced_while_it_comes_is_taken_anew() {
    let mut job = Job::new();
    let old = archive(&mut job, b"old");
    job.write("vendor/new", "new");
    let new = archive(&mut job, b"other");
    let store = Store::start(move |request, number| {
        if number == 0 {
            return Reply {
                cut: 30,
                ..Reply::status(200).with("ETag", "\"1\"").body(old.clone())
            };
        }
        assert_eq!(request.header("if-range"), "\"1\"");
        Reply::status(200).with("ETag", "\"2\"").body(new.clone())
    });
    let done = restore(&mut job, &store);
    done.assert_done();
    let vendor = job.project().join("vendor");
    assert_eq!(fs::read(vendor.join("a")).unwrap(), b"other");
    assert!(vendor.join("new").exists());
    assert_eq!(names(&job), ["vendor"]);
}

#[test]
fn a_part_that_was_not_asked_for_is_not_taken_for_the_rest() {
    let mut job = Job::new();
    let content = noise(50_000);
    let archive = archive(&mut job, &content);
    let store = Store::start(move |_, number| {
        let reply = Reply::status(200)
            .with("ETag", "\"1\"")
            .body(archive.clone());
        match number {
            0 => Reply {
                cut: 20_000,
                ..reply
            },
            1 => Reply {
                status: 206,
                ..reply.with("Content-Range", format!("bytes 0-9/{}", archive.len()))
            },
            _ => reply,
        }
    });
    let done = restore(&mut job, &store);
    done.assert_done();
    assert!(
        done.err()
            .contains("the server sent another part than the rest")
    );
    assert_eq!(store.seen()[2].header("range"), "");
    assert_eq!(fs::read(job.project().join("vendor/a")).unwrap(), content);
}

/// `cache-extractor` with ranges of 10 000 bytes, four at a time.
fn extract_in_ranges(job: &Job, store: &Store) -> (bool, String) {
    let output = Command::new(PROGRAM)
        .args([
            "cache-extractor",
            "--concurrency",
            "4",
            "--chunk-size",
            "10000",
            "--file",
        ])
        .arg(job.file())
        .args(["--url", &store.url("/k?sig=s3cret")])
        .current_dir(job.project())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

#[test]
fn a_large_object_comes_in_ranges_side_by_side() {
    let mut job = Job::new();
    let content = noise(100_000);
    let archive = archive(&mut job, &content);
    let served = archive.clone();
    let (together, broken) = (Arc::new(Barrier::new(4)), AtomicUsize::new(0));
    let store = Store::start(move |request, number| {
        let reply = Reply::range_of(&served, request)
            .with("ETag", "\"e\"")
            .with("x-amz-meta-cachekey", "key");
        if (1..=4).contains(&number) {
            together.wait();
            assert_eq!(request.header("if-match"), "\"e\"");
        }
        if request.header("range").starts_with("bytes=20000-") {
            broken.fetch_add(1, Ordering::SeqCst);
            return Reply { cut: 5000, ..reply };
        }
        reply
    });
    let (ok, text) = extract_in_ranges(&job, &store);
    assert!(ok, "{text}");
    assert_eq!(fs::read(job.file()).unwrap(), archive);
    assert_eq!(fs::read(job.project().join("vendor/a")).unwrap(), content);
    let mut ranges: Vec<_> = store
        .seen()
        .iter()
        .map(|request| request.header("range").to_owned())
        .collect();
    assert_eq!(ranges.remove(0), "bytes=0-0");
    assert!(
        ranges.contains(&"bytes=90000-99999".to_owned()),
        "{ranges:?}"
    );
    assert!(
        ranges.contains(&"bytes=25000-29999".to_owned()),
        "what broke off is continued: {ranges:?}"
    );
    let metadata = job.file().with_file_name("metadata.json");
    assert_eq!(
        fs::read_to_string(metadata).unwrap(),
        r#"{"cachekey":"key"}"#
    );
}

type Answers = fn(&[u8], &StoreRequest) -> Reply;

#[rstest]
#[case::knows_no_ranges(|all: &[u8], _: &StoreRequest| Reply::status(200).body(all))]
#[case::dislikes_ranges(|all: &[u8], request: &StoreRequest| match request.header("range") {
    "" => Reply::status(200).body(all),
    _ => Reply::status(400),
})]
#[case::changes_its_mind(|all: &[u8], request: &StoreRequest| match request.header("range") {
    "bytes=0-0" => Reply::range_of(all, request),
    "" => Reply::status(200).body(all),
    _ => Reply::status(412),
})]
#[case::lies_about_the_length(|all: &[u8], request: &StoreRequest| match request.header("range") {
    "bytes=0-0" => Reply::status(206)
        .with("Content-Range", "bytes 0-0/1152921504606846976")
        .body("P"),
    _ => Reply::status(200).body(all),
})]
#[case::says_no_length(|all: &[u8], request: &StoreRequest| match request.header("range") {
    "bytes=0-0" => Reply::status(206).with("Content-Range", "bytes 0-0/*").body("P"),
    _ => Reply::status(200).body(all),
})]
#[case::gives_other_parts(|all: &[u8], request: &StoreRequest| match request.header("range") {
    "bytes=0-0" => Reply::range_of(all, request),
    "" => Reply::status(200).body(all),
    _ => Reply::status(206)
        .with("Content-Range", format!("bytes 7-16/{}", all.len()))
        .body(&all[7..17]),
})]
fn a_server_without_good_ranges_is_asked_for_all_of_it(#[case] answers: Answers) {
    let mut job = Job::new();
    let content = noise(30_000);
    let archive = archive(&mut job, &content);
    let store = Store::start(move |request, _| answers(&archive, request));
    let (ok, text) = extract_in_ranges(&job, &store);
    assert!(ok, "{text}");
    assert_eq!(fs::read(job.project().join("vendor/a")).unwrap(), content);
    assert_eq!(names(&job), ["vendor"]);
}

#[test]
fn a_missing_object_is_a_miss_in_ranges_too() {
    let job = Job::new();
    let store = Store::start(|_, _| Reply::status(404));
    let (ok, text) = extract_in_ranges(&job, &store);
    assert!(!ok && text.contains("file does not exist"), "{text}");
    assert_eq!(store.seen().len(), 1);
}

/// An entry whose archive is too long to be packed before it is sent.
pub(super) fn large_entry(job: &Job, put: SignedUrl) -> ArchiveCacheEntry {
    job.write("vendor/large", noise(20 << 20));
    ArchiveCacheEntry {
        put: Some(put),
        ..job.entry()
    }
}

const GCS: &str = "/bucket/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=s3cret";

#[test]
fn google_s_store_gets_an_archive_before_its_length_is_known() {
    let mut job = Job::new();
    let store = Store::start(|_, _| Reply::status(200));
    let mut entry = large_entry(&job, signed(&store, GCS));
    entry.check = Some(signed(&store, GCS));
    let done = job.save(entry.clone());
    done.assert_done();
    let put = &store.seen()[0];
    assert_eq!(put.header("transfer-encoding"), "chunked");
    assert!(put.whole && put.header("last-modified").ends_with(" GMT"));
    assert!(put.body == fs::read(job.file()).unwrap());
    assert_eq!(done.err().matches("Uploading cache.zip to ").count(), 1);

    let done = job.save(entry);
    assert!(done.err().contains("skipping upload"), "{}", done.err());
    assert_eq!(store.seen().len(), 2, "unchanged, so only asked for");
}

#[test]
fn a_store_that_wants_a_length_after_all_gets_the_archive_as_a_whole() {
    let mut job = Job::new();
    let store = Store::start(|request, _| {
        let chunked = request.header("transfer-encoding") == "chunked";
        Reply::status(if chunked { 411 } else { 200 })
    });
    let done = job.save(large_entry(&job, signed(&store, GCS)));
    done.assert_done();
    let seen = store.seen();
    let whole = &seen[1];
    assert_eq!(whole.header("content-length"), whole.body.len().to_string());
    assert!(whole.body == fs::read(job.file()).unwrap());
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_refusal_is_not_asked_for_twice_and_the_local_archive_stays() {
    let mut job = Job::new();
    let store = Store::start(|_, _| Reply::status(403));
    let done = job.save(large_entry(&job, signed(&store, GCS)));
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert!(
        done.err().contains("FATAL: received: 403 Forbidden"),
        "{}",
        done.err()
    );
    assert_eq!(store.seen().len(), 1);
    assert!(job.file().exists());
}

#[test]
fn an_archive_over_the_limit_does_not_get_to_the_store() {
    let mut job = Job::new();
    let store = Store::start(|_, _| Reply::status(200));
    let mut entry = large_entry(&job, signed(&store, GCS));
    entry.max_archive_size = 10 << 20;
    let done = job.save(entry);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert!(done.err().contains("is too big (Limit is set to 10.49 MB)"));
    assert!(store.seen().iter().all(|request| !request.whole));
}

fn azure(store: &Store) -> SignedUrl {
    SignedUrl {
        headers: vec![
            Header {
                name: "x-ms-blob-type".into(),
                value: "BlockBlob".into(),
            },
            Header {
                name: "x-ms-meta-cachekey".into(),
                value: "key".into(),
            },
        ],
        ..signed(store, "/c/k?sv=2026-02-06&sp=cw&sig=s3cret")
    }
}

/// Value of an item of the query.
pub(super) fn item<'a>(request: &'a StoreRequest, name: &str) -> &'a str {
    let query = request.target.split_once('?').unwrap().1;
    query
        .split('&')
        .filter_map(|item| item.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value)
}

#[test]
fn azure_gets_blocks_while_the_archive_is_made_and_the_list_of_them_at_the_end() {
    let mut job = Job::new();
    // The second block is lost once.
    let store = Store::start(|_, number| Reply::status(if number == 1 { 503 } else { 201 }));
    let done = job.save(large_entry(&job, azure(&store)));
    done.assert_done();
    let mut seen = store.seen();
    let list = seen.pop().unwrap();
    seen.remove(1);
    assert_eq!(item(&list, "comp"), "blocklist");
    assert_eq!(list.header("x-ms-meta-cachekey"), "key");
    assert_eq!(
        list.header("x-ms-blob-content-type"),
        "application/octet-stream"
    );
    assert_eq!(list.header("x-ms-blob-type"), "");
    let mut body: Vec<u8> = Vec::new();
    let mut wanted = String::new();
    for block in &seen {
        assert_eq!(
            (item(block, "comp"), item(block, "sig")),
            ("block", "s3cret")
        );
        wanted.extend(["<Latest>", item(block, "blockid"), "</Latest>"]);
        body.extend(&block.body);
    }
    assert_eq!(seen.len(), 3);
    assert!(String::from_utf8(list.body).unwrap().contains(&wanted));
    assert!(body == fs::read(job.file()).unwrap());
}

#[test]
fn blocks_that_another_job_made_void_are_followed_by_the_whole() {
    let mut job = Job::new();
    let store = Store::start(|request, _| {
        let is_list = item(request, "comp") == "blocklist";
        Reply::status(if is_list { 400 } else { 201 })
    });
    let done = job.save(large_entry(&job, azure(&store)));
    done.assert_done();
    let seen = store.seen();
    let whole = seen.last().unwrap();
    assert_eq!(
        (item(whole, "comp"), whole.header("x-ms-blob-type")),
        ("", "BlockBlob")
    );
    assert!(whole.body == fs::read(job.file()).unwrap());
}

#[test]
fn redirects_are_followed_and_what_is_meant_for_one_server_stays_there() {
    let mut job = Job::new();
    let archive = archive(&mut job, b"content");
    let other = Store::start(move |_, _| Reply::status(200).body(archive.clone()));
    let to = other.url("/elsewhere");
    let store = Store::start(move |request, _| match request.target.as_str() {
        "/k" => Reply::status(307).with("Location", "/near"),
        _ => Reply::status(302).with("Location", to.clone()),
    });
    let mut candidate = job.candidate();
    let mut get = signed(&store, "/k");
    get.headers.push(Header {
        name: "x-key".into(),
        value: "s3cret".into(),
    });
    candidate.remote = Some(RemoteSource { get, head: None });
    let done = job.restore(vec![candidate]);
    done.assert_done();
    assert_eq!(store.seen()[1].header("x-key"), "s3cret");
    assert_eq!(other.seen()[0].header("x-key"), "");

    // An upload goes on only where its headers belong.
    job.write("vendor/b", "new");
    let store = Store::start(|request, _| match request.target.as_str() {
        "/k" => Reply::status(307).with("Location", "/near"),
        _ => Reply::status(200),
    });
    let entry = ArchiveCacheEntry {
        put: Some(signed(&store, "/k")),
        ..job.entry()
    };
    let done = job.save(entry.clone());
    done.assert_done();
    assert_eq!(store.seen()[1].body, fs::read(job.file()).unwrap());
    let to = other.url("/elsewhere");
    let store = Store::start(move |_, _| Reply::status(307).with("Location", to.clone()));
    let entry = ArchiveCacheEntry {
        put: Some(signed(&store, "/k")),
        ..entry
    };
    let done = job.save(entry);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert!(
        done.err().contains("received: 307 Temporary Redirect"),
        "{}",
        done.err()
    );
    assert_eq!(other.seen().len(), 1);
}

#[test]
fn a_server_that_does_not_go_on_is_given_up() {
    let mut job = Job::new();
    let archive = archive(&mut job, &noise(100_000));
    let (over, waits) = std::sync::mpsc::channel::<()>();
    let waits = Arc::new(std::sync::Mutex::new(waits));
    let store = Store::start(move |_, _| {
        let waits = Arc::clone(&waits);
        Reply::status(200)
            .body(archive.clone())
            // To the end of the test.
            .pause(50_000, move || {
                assert!(waits.lock().unwrap().recv().is_err());
            })
    });
    let request = gantry_agent::RestoreCacheRequest {
        project_dir: job.project(),
        entries: vec![gantry_agent::RestoreEntry {
            candidates: vec![gantry_agent::RestoreCandidate {
                remote: Some(RemoteSource {
                    get: signed(&store, "/k"),
                    head: None,
                }),
                ..job.candidate()
            }],
            ..gantry_agent::RestoreEntry::default()
        }],
        timeout_seconds: 1,
        ..gantry_agent::RestoreCacheRequest::default()
    };
    let done = job
        .run(gantry_agent::StageRequest::RestoreCache(Box::new(request)))
        .ok();
    assert_eq!(done.entries[0].outcome, EntryOutcome::Failed);
    let url = store.url("/k");
    let told = format!("the download from {url} broke off: it was not over within 1s");
    assert!(done.err().contains(&told), "{}", done.err());
    assert!(names(&job).is_empty());
    drop(over);
}
