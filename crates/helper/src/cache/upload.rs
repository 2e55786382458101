//! Sending an archive to its signed address (job-lifecycle §5.4): whole, or while it is still being packed.
//!
//! Google Cloud Storage takes a body in chunks, Azure a list of blocks, and S3 a list of parts, if the request brings their addresses: the
//! object appears when its last byte has come, or not at all. What is sent so is sent again as a whole if anything goes wrong. Without
//! such addresses S3 wants to know the length beforehand, so the archive is packed first.

mod parts;

use std::{
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Seek},
    path::Path,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gantry_agent::{ArchiveCacheEntry, EntryOutcome, MultipartUpload, SignedUrl};
use gantry_archive::Growing;
use ureq::http::Method;

use super::{CacheError, TRIES, headers_of, received, shown_name};
use crate::{
    http::{
        Answer, Body, Client, HttpError, MOST_REDIRECTS, clean_url, origin, redirected,
        retry::Problem, too_many_redirects,
    },
    log,
    meter::Meter,
};

/// Archives that are not longer are packed first: it takes no time. Also the length of a block.
const LEAST: u64 = 8 << 20;
const CONTENT_TYPE: &str = "application/octet-stream";
const LABEL: &str = "Uploading cache";
/// Bytes of an answer's body that are looked at.
const BEGINNING: u64 = 1024;

/// How an archive can be sent whose length is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// Not at all.
    Whole,
    /// In chunks: Google Cloud Storage.
    Chunks,
    /// In blocks: Azure, whose signature covers all of them.
    Blocks,
    /// In parts, each of which has its address: S3.
    Parts(&'a MultipartUpload),
}

impl<'a> Way<'a> {
    /// What an entry says of its store.
    pub(super) fn of(entry: &'a ArchiveCacheEntry) -> Self {
        match (&entry.put, &entry.multipart) {
            (None, _) => Self::Whole,
            (Some(_), Some(upload)) => Self::Parts(upload),
            (Some(put), None) => Self::of_address(put),
        }
    }

    fn of_address(put: &SignedUrl) -> Self {
        let url = put.url.expose();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| {
            query
                .split('&')
                .filter_map(|item| item.split_once('='))
                .any(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        let blob = put.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("x-ms-blob-type")
                && header.value.expose() == "BlockBlob"
        });
        if has("X-Goog-Signature") || has("GoogleAccessId") && has("Signature") {
            Self::Chunks
        } else if blob && has("sig") && has("sv") && !has("comp") {
            Self::Blocks
        } else {
            Self::Whole
        }
    }
}

/// What became of an attempt to send an archive while it was made.
#[derive(Debug)]
pub(super) enum Streamed {
    /// It is in the store.
    Done,
    /// It was not begun: the archive is short.
    NotBegun,
    /// It is not in the store, and may be sent as a whole.
    Failed(String),
    /// The store refuses it.
    Refused(String),
}

/// Sends an archive that is being made. `modified`: its time.
pub(super) fn stream(
    client: &Client,
    entry: &ArchiveCacheEntry,
    way: Way<'_>,
    archive: &Growing,
    modified: SystemTime,
) -> Streamed {
    let Some(put) = &entry.put else {
        return Streamed::NotBegun;
    };
    match archive.wait_for(LEAST) {
        Ok(len) if len >= LEAST => {}
        _ => return Streamed::NotBegun,
    }
    announce(put, &entry.file);
    let sent = match way {
        Way::Whole => return Streamed::NotBegun,
        Way::Chunks => chunks(client, put, archive, modified),
        Way::Blocks => blocks(client, put, archive),
        // A PUT has its chance whatever is said of a part.
        Way::Parts(upload) => parts::send(client, upload, entry.check.as_ref(), archive)
            .map_err(|problem| Problem::passing(problem.text)),
    };
    match sent {
        Ok(()) => Streamed::Done,
        Err(problem) if problem.is_refusal() => Streamed::Refused(problem.text),
        Err(problem) => Streamed::Failed(problem.text),
    }
}

fn judge(answer: Result<Answer, HttpError>) -> Result<Answer, Problem> {
    let answer = answer?;
    if (200..300).contains(&answer.status) {
        Ok(answer)
    } else {
        Err(received(answer))
    }
}

/// The answer to a PUT.
fn stored(answer: Result<Answer, HttpError>) -> Result<(), Problem> {
    let mut answer = judge(answer)?;
    let (status, has_tag) = (answer.status, answer.header("etag").is_some());
    match not_of_a_store(status, has_tag, answer.beginning(BEGINNING)) {
        None => Ok(()),
        Some(what) => Err(Problem::passing(format!(
            "{}: received: {}, but with {what} in place of a store's answer",
            answer.url(),
            answer.status_text()
        ))),
    }
}

/// What a success comes with that is none: S3 may find out late that it has failed, and a proxy or a page to log in on the way says 200 to
/// everything. (A server of files may well say 201 with a page.)
fn not_of_a_store(status: u16, has_tag: bool, beginning: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(beginning).to_ascii_lowercase();
    let mut text = text.trim_start_matches('\u{feff}').trim_start();
    if let Some((_, rest)) = text
        .strip_prefix("<?xml")
        .and_then(|rest| rest.split_once("?>"))
    {
        text = rest.trim_start();
    }
    let begins = |tags: &[&str]| tags.iter().any(|tag| text.starts_with(tag));
    if begins(&["<error>", "<error "]) {
        Some("an error")
    } else if status == 200 && !has_tag && begins(&["<!doctype html", "<html"]) {
        Some("a web page")
    } else {
        None
    }
}

pub(super) fn retrying(error: String) {
    log::line(log::Level::Warning, "Retrying...", &[("error", error)]);
}

fn announce(put: &SignedUrl, file: &Path) {
    log::info("Using presigned URL for cache upload");
    log::info(&format!(
        "Uploading {} to {}",
        shown_name(file),
        clean_url(put.url.expose())
    ));
}

/// The headers of an upload, with those that are usual where they are not given.
fn upload_headers(put: &SignedUrl, modified: Option<SystemTime>) -> Vec<(String, String)> {
    let mut headers = headers_of(put);
    let mut usual = vec![("Content-Type", CONTENT_TYPE.to_owned())];
    if let Some(time) = modified {
        usual.push(("Last-Modified", httpdate::fmt_http_date(time)));
    }
    for (name, value) in usual {
        if !headers
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
        {
            headers.push((name.into(), value));
        }
    }
    headers
}

fn chunks(
    client: &Client,
    put: &SignedUrl,
    archive: &Growing,
    modified: SystemTime,
) -> Result<(), Problem> {
    let headers = upload_headers(put, Some(modified));
    // If the archive does not become whole, its reader fails, and the connection is closed before the last chunk.
    let mut reader = Meter::new(archive.reader(), LABEL, None);
    let body = Body::Reader(&mut reader, None);
    stored(client.send(&Method::PUT, put.url.expose(), &headers, body))?;
    reader.finish();
    Ok(())
}

fn blocks(client: &Client, put: &SignedUrl, archive: &Growing) -> Result<(), Problem> {
    let unmade = |error: io::Error| Problem::passing(error.to_string());
    // Blocks that are not in a list yet are shared by all who send to this name: theirs must not be taken for ours.
    let own = RandomState::new().build_hasher().finish();
    let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    let mut meter = Meter::new((), LABEL, None);
    let (mut at, mut number) = (0, 0_u32);
    loop {
        let end = archive.wait_for(at + LEAST).map_err(unmade)?;
        if end == at {
            break;
        }
        // Letters and digits: needs no encoding in an address.
        let id = STANDARD.encode(format!("{own:016x}{number:08}"));
        let url = with_query(put.url.expose(), &format!("comp=block&blockid={id}"));
        let length = end - at;
        TRIES.run(|_| {
            let mut reader = io::Read::take(archive.reader_at(at), length);
            let body = Body::Reader(&mut reader, Some(length));
            stored(client.send(&Method::PUT, &url, &[], body))
        })?;
        meter.count(length);
        list.extend(["<Latest>", &id, "</Latest>"]);
        (at, number) = (end, number + 1);
    }
    list.push_str("</BlockList>");
    let mut headers = headers_of(put);
    headers.retain(|(name, _)| !name.eq_ignore_ascii_case("x-ms-blob-type"));
    headers.push(("x-ms-blob-content-type".into(), CONTENT_TYPE.into()));
    headers.push(("Content-Type".into(), "application/xml".into()));
    let url = with_query(put.url.expose(), "comp=blocklist");
    TRIES.run(|_| {
        let mut body = list.as_bytes();
        let body = Body::Reader(&mut body, Some(list.len() as u64));
        stored(client.send(&Method::PUT, &url, &headers, body))
    })?;
    meter.finish();
    Ok(())
}

/// An address with more in its query.
fn with_query(url: &str, more: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{more}")
}

/// Sends an archive that is whole. `announced`: it was said already.
pub(super) fn whole(
    client: &Client,
    put: &SignedUrl,
    file: &Path,
    announced: bool,
) -> Result<(), CacheError> {
    if !announced {
        announce(put, file);
    }
    let partial = |text: String| CacheError::new(EntryOutcome::Partial, text);
    let cannot = |error: io::Error| partial(format!("cannot read {}: {error}", file.display()));
    let mut archive = File::open(file).map_err(cannot)?;
    let found = archive.metadata().map_err(cannot)?;
    let headers = upload_headers(put, found.modified().ok());
    TRIES
        .run(|_| {
            let mut url = put.url.expose().to_owned();
            for _ in 0..=MOST_REDIRECTS {
                archive.rewind().map_err(|error| {
                    Problem::passing(format!("cannot read the archive: {error}"))
                })?;
                let mut reader = Meter::new(&archive, LABEL, Some(found.len()));
                let body = Body::Reader(&mut reader, Some(found.len()));
                let answer = client.send(&Method::PUT, &url, &headers, body);
                let next = match &answer {
                    // Others would make a GET of it.
                    Ok(answer) if matches!(answer.status, 307 | 308) => redirected(&url, answer),
                    _ => None,
                };
                match next {
                    // Its headers are signed for that server, and may be keys.
                    Some(Ok(next)) if origin(&next) == origin(&url) => url = next,
                    Some(Err(text)) => return Err(Problem::passing(text)),
                    Some(Ok(_)) | None => {
                        stored(answer)?;
                        reader.finish();
                        return Ok(());
                    }
                }
            }
            Err(Problem::passing(too_many_redirects()))
        })
        .map_err(|problem| partial(problem.text))
}

#[cfg(test)]
mod tests;
