//! What is sent before an archive is whole, and what of it counts.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    thread,
};

use gantry_agent::Header;
use rstest::rstest;

use super::*;

fn signed(url: &str, header: Option<(&str, &str)>) -> SignedUrl {
    SignedUrl {
        url: url.into(),
        headers: header
            .map(|(name, value)| Header {
                name: name.into(),
                value: value.into(),
            })
            .into_iter()
            .collect(),
    }
}

#[rstest]
#[case(
    "https://s3/b/k?X-Amz-Algorithm=AWS4&X-Amz-Signature=x",
    None,
    Way::Whole
)]
#[case(
    "https://gcs/b/k?X-Goog-Algorithm=RSA&X-Goog-Signature=x",
    None,
    Way::Chunks
)]
#[case("https://gcs/b/k?x-goog-signature=x", None, Way::Chunks)]
#[case(
    "https://gcs/b/k?GoogleAccessId=i&Expires=1&Signature=x",
    None,
    Way::Chunks
)]
#[case("https://a/c/k?sv=2026&sp=w&sig=x", Some(("x-ms-blob-type", "BlockBlob")), Way::Blocks)]
#[case("https://a/c/k?sv=2026&sp=w&sig=x", Some(("X-Ms-Blob-Type", "AppendBlob")), Way::Whole)]
#[case("https://a/c/k?sv=2026&sp=w&sig=x", None, Way::Whole)]
#[case("https://a/c/X-Goog-Signature=x", None, Way::Whole)]
#[case("https://minio/b/k?AWSAccessKeyId=i&Signature=x", None, Way::Whole)]
fn the_address_says_whether_a_length_must_be_known(
    #[case] url: &str,
    #[case] header: Option<(&str, &str)>,
    #[case] way: Way<'_>,
) {
    assert_eq!(Way::of_address(&signed(url, header)), way);
}

#[rstest]
#[case(200, false, "", None)]
#[case(200, false, "stored", None)]
#[case(
    200,
    false,
    "\n<!DOCTYPE html><title>Log in</title>",
    Some("a web page")
)]
#[case(200, false, "<HTML>", Some("a web page"))]
#[case(200, true, "<html>", None)]
#[case(201, false, "<!DOCTYPE HTML PUBLIC><title>201 Created</title>", None)]
#[case(
    200,
    true,
    "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>",
    Some("an error")
)]
#[case(200, true, "<?xml version=\"1.0\"?><CopyObjectResult/>", None)]
fn a_success_with_the_words_of_another_is_none(
    #[case] status: u16,
    #[case] has_tag: bool,
    #[case] body: &str,
    #[case] expected: Option<&str>,
) {
    assert_eq!(not_of_a_store(status, has_tag, body.as_bytes()), expected);
}

/// One request is answered so.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten().take(1) {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok() && line != "\r\n" {
                line.clear();
            }
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    format!("http://{address}/k?X-Amz-Signature=s3cret")
}

#[test]
fn a_page_to_log_in_is_no_upload() {
    let client = super::super::client(10, None);
    let url = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>");
    let answer = client.send(&Method::PUT, &url, &[], Body::None);
    let problem = stored(answer).unwrap_err();
    let address = url.split('?').next().unwrap();
    assert_eq!(
        problem.text,
        format!("{address}: received: 200 OK, but with a web page in place of a store's answer")
    );
    assert!(problem.is_passing());
}

#[test]
fn more_is_added_to_a_query_and_not_to_a_fragment() {
    assert_eq!(
        with_query("http://h/k?sig=x#f", "comp=block"),
        "http://h/k?sig=x&comp=block"
    );
    assert_eq!(
        with_query("http://h/k", "comp=block"),
        "http://h/k?comp=block"
    );
}

fn growing() -> Growing {
    Growing::new(tempfile::tempfile().unwrap())
}

fn grow(growing: &Growing, to: u64) {
    let held = growing.held();
    let bytes = vec![7; usize::try_from(to - held).unwrap()];
    growing.file().write_all_at(&bytes, held).unwrap();
    growing.grow_to(to);
}

/// The head of a request in lower case, and the connection behind it.
fn accept(listener: &TcpListener) -> (String, BufReader<TcpStream>) {
    let mut connection = BufReader::new(listener.accept().unwrap().0);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(connection.read_line(&mut head).unwrap() > 0);
    }
    (head.to_lowercase(), connection)
}

/// Sends to a server that is played by `serve`.
fn streamed(way: Way<'_>, archive: &Growing, serve: impl FnOnce(TcpListener) + Send) -> Streamed {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/k?sig=x", listener.local_addr().unwrap());
    let entry = ArchiveCacheEntry {
        file: "cache.zip".into(),
        put: Some(signed(&url, None)),
        ..ArchiveCacheEntry::default()
    };
    let client = super::super::client(60, None);
    thread::scope(|scope| {
        scope.spawn(|| serve(listener));
        stream(&client, &entry, way, archive, SystemTime::UNIX_EPOCH)
    })
}

#[test]
fn bytes_are_sent_before_the_archive_is_whole_and_its_failure_is_no_end_of_the_body() {
    let archive = growing();
    grow(&archive, LEAST);
    let done = streamed(Way::Chunks, &archive, |listener| {
        let (head, mut connection) = accept(&listener);
        assert!(head.contains("transfer-encoding: chunked"));
        let mut some = vec![0; 1 << 20];
        connection.read_exact(&mut some).unwrap();
        // It was not whole when these came.
        archive.fail();
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).ok();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "no last chunk");
    });
    assert!(matches!(done, Streamed::Failed(_)), "{done:?}");
}

#[test]
fn blocks_of_an_archive_that_fails_are_never_listed() {
    let archive = growing();
    grow(&archive, LEAST + 1);
    let done = streamed(Way::Blocks, &archive, |listener| {
        let (head, mut connection) = accept(&listener);
        assert!(
            head.starts_with("put /k?sig=x&comp=block&blockid="),
            "{head}"
        );
        let mut block = vec![0; usize::try_from(LEAST).unwrap()];
        connection.read_exact(&mut block).unwrap();
        archive.fail();
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        connection.get_mut().write_all(answer).unwrap();
    });
    assert!(matches!(done, Streamed::Failed(_)), "{done:?}");
}

#[test]
fn a_short_archive_is_left_to_be_sent_as_a_whole() {
    let archive = growing();
    grow(&archive, LEAST - 1);
    archive.finish();
    let done = streamed(Way::Chunks, &archive, drop);
    assert!(matches!(done, Streamed::NotBegun), "{done:?}");
}
