//! Archives that are sent to S3 in parts while they are made.

use std::{
    fs,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use gantry_agent::{ArchiveCacheEntry, EntryOutcome, MultipartUpload, UploadPart};
use rstest::rstest;

use super::transfer::{item, large_entry, signed};
use crate::support::{Job, Reply, Store, StoreRequest};

/// An entry that is sent in parts of 8 and 16 MiB.
fn in_parts(job: &Job, store: &Store, parts: usize) -> ArchiveCacheEntry {
    let part = |number: usize| UploadPart {
        put: signed(
            store,
            &format!("/b/k?partNumber={number}&uploadId=u&X-Amz-Signature=s3cret"),
        ),
        size: if number < 3 { 8 << 20 } else { 16 << 20 },
    };
    ArchiveCacheEntry {
        check: Some(signed(store, "/b/k?X-Amz-Signature=s3cret")),
        multipart: Some(MultipartUpload {
            parts: (1..=parts).map(part).collect(),
            complete: signed(store, "/b/k?uploadId=u&X-Amz-Signature=s3cret"),
        }),
        ..large_entry(job, signed(store, "/b/k?X-Amz-Signature=s3cret"))
    }
}

fn part(request: &StoreRequest) -> usize {
    item(request, "partNumber").parse().unwrap_or(0)
}

/// The answer of a store that finds nothing wrong.
fn takes_parts(request: &StoreRequest) -> Reply {
    let reply = Reply::status(200);
    match &request.method[..] {
        "PUT" if part(request) > 0 => reply.with("ETag", format!("\"tag<{}>\"", part(request))),
        "POST" => reply.body(
            "\n <CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>",
        ),
        _ => reply,
    }
}

fn parts_of(seen: &[StoreRequest]) -> Vec<u8> {
    let mut parts: Vec<_> = seen.iter().filter(|request| part(request) > 0).collect();
    parts.sort_by_key(|request| part(request));
    parts
        .iter()
        .flat_map(|request| request.body.clone())
        .collect()
}

#[test]
fn s3_gets_parts_side_by_side_while_the_archive_is_made_and_the_list_of_them_at_the_end() {
    let mut job = Job::new();
    let together = Barrier::new(2);
    let store = Store::start(move |request, _| {
        if (1..=2).contains(&part(request)) {
            together.wait();
        }
        takes_parts(request)
    });
    let entry = in_parts(&job, &store, 9);
    let done = job.save(entry.clone());
    done.assert_done();
    assert_eq!(done.err().matches("Uploading cache.zip to ").count(), 1);
    assert!(!done.err().contains("s3cret") && !done.err().contains("uploadId"));
    let seen = store.seen();
    assert_eq!(seen.len(), 4, "three parts and their list");
    assert!(parts_of(&seen) == fs::read(job.file()).unwrap());
    let list = seen.last().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&list.body),
        (1..=3).fold("<CompleteMultipartUpload>".to_owned(), |list, number| list
            + &format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>\"tag&lt;{number}>\"</ETag></Part>"
            ))
            + "</CompleteMultipartUpload>"
    );
    let done = job.save(entry);
    assert!(done.err().contains("skipping upload"), "{}", done.err());
    assert_eq!(store.seen().len(), 5, "unchanged, so only asked for");
}

#[test]
fn an_archive_that_is_no_longer_than_a_part_is_sent_by_one_put() {
    let mut job = Job::new();
    let store = Store::start(|request, _| takes_parts(request));
    let entry = in_parts(&job, &store, 9);
    job.write("vendor/large", "small");
    let done = job.save(entry);
    done.assert_done();
    let seen = store.seen();
    assert_eq!((seen.len(), part(&seen[0])), (1, 0));
    assert!(seen[0].body == fs::read(job.file()).unwrap());
}

#[test]
fn a_part_that_gets_lost_is_sent_again() {
    let mut job = Job::new();
    let lost = AtomicUsize::new(0);
    let store =
        Store::start(
            move |request, _| match (part(request), lost.load(Ordering::SeqCst)) {
                (2, 0..2) => {
                    let before = lost.fetch_add(1, Ordering::SeqCst);
                    Reply {
                        raw: (before == 1).then(Vec::new),
                        ..Reply::status(503)
                    }
                }
                _ => takes_parts(request),
            },
        );
    let entry = in_parts(&job, &store, 9);
    let done = job.save(entry);
    done.assert_done();
    assert_eq!(done.err().matches("Retrying...").count(), 2);
    let sent: Vec<_> = store
        .seen()
        .iter()
        .map(part)
        .filter(|part| *part == 2)
        .collect();
    assert_eq!(sent.len(), 3);
    assert!(
        !store
            .seen()
            .iter()
            .any(|request| request.method == "PUT" && part(request) == 0)
    );
}

/// What a store says of a request, by how many of its kind came before.
type Says = fn(&StoreRequest, usize) -> Option<Reply>;

const LATE: &str = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>try again</Message></Error>";

#[rstest]
#[case::a_part_without_a_tag(
    |request: &StoreRequest, _| (part(request) == 2).then(|| Reply::status(200)),
    9,
    "the answer to part 2 has no ETag"
)]
#[case::a_part_that_is_refused(
    |request: &StoreRequest, _| (part(request) == 1).then(|| Reply::status(404).body(
        "<Error><Code>NoSuchUpload</Code><Message>it was aborted</Message></Error>"
    )),
    9,
    "NoSuchUpload"
)]
#[case::too_few_parts(|_: &StoreRequest, _| None, 2, "the archive is longer than 2 parts")]
#[case::an_error_after_the_status(
    |request: &StoreRequest, _| (request.method == "POST").then(|| Reply::status(200).body(LATE)),
    9,
    "did not put the parts together: code: InternalError, message: try again"
)]
#[case::something_else_after_the_status(
    |request: &StoreRequest, _| (request.method == "POST").then(|| Reply::status(200).body("hello")),
    9,
    "did not put the parts together: hello"
)]
#[case::a_list_that_is_refused(
    |request: &StoreRequest, _| (request.method == "POST").then(|| Reply::status(400).body(
        "<Error><Code>InvalidPart</Code><Message>not alike</Message></Error>"
    )),
    9,
    "InvalidPart"
)]
fn parts_that_come_to_nothing_are_followed_by_the_whole(
    #[case] says: Says,
    #[case] parts: usize,
    #[case] told: &str,
) {
    let mut job = Job::new();
    let store = Store::start(move |request, number| {
        says(request, number).unwrap_or_else(|| takes_parts(request))
    });
    let entry = in_parts(&job, &store, parts);
    let done = job.save(entry);
    done.assert_done();
    assert!(done.err().contains(told), "{}", done.err());
    let seen = store.seen();
    let whole = seen.last().unwrap();
    assert_eq!((&whole.method[..], part(whole)), ("PUT", 0));
    assert!(whole.body == fs::read(job.file()).unwrap());
}

#[rstest]
#[case::of_this_archive(true)]
#[case::of_another_one(false)]
fn a_lost_answer_to_the_list_is_looked_up_in_the_store(#[case] same: bool) {
    let mut job = Job::new();
    let file = job.file();
    let asked = AtomicUsize::new(0);
    let store = Store::start(move |request, _| match &request.method[..] {
        "POST" if asked.fetch_add(1, Ordering::SeqCst) == 0 => Reply {
            raw: Some(Vec::new()),
            ..Reply::default()
        },
        "POST" => Reply::status(404).body("<Error><Code>NoSuchUpload</Code></Error>"),
        "HEAD" if same => Reply::status(200).body(fs::read(&file).unwrap()),
        "HEAD" => Reply::status(200).body("older"),
        _ => takes_parts(request),
    });
    let entry = in_parts(&job, &store, 9);
    let done = job.save(entry);
    done.assert_done();
    let seen = store.seen();
    let whole = seen
        .iter()
        .any(|request| request.method == "PUT" && part(request) == 0);
    assert_eq!(whole, !same);
}

#[test]
fn an_archive_over_the_limit_is_not_put_together() {
    let mut job = Job::new();
    let store = Store::start(|request, _| takes_parts(request));
    let mut entry = in_parts(&job, &store, 9);
    entry.max_archive_size = 10 << 20;
    let done = job.save(entry);
    assert_eq!(done.entries[0].outcome, EntryOutcome::Partial);
    assert!(done.err().contains("is too big"), "{}", done.err());
    assert!(store.seen().iter().all(|request| part(request) > 0));
}
