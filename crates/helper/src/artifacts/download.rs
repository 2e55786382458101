//! Download (job-lifecycle §6.4). The first try asks for the address in the object store; the token never goes to another server than
//! the coordinator. A body that broke off is continued where the server allows it.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    path::Path,
    thread,
    time::Duration,
};

use gantry_agent::{Dependency, DownloadArtifactsRequest, EntryOutcome, EntryResult};
use gantry_archive::{Extracted, extract, threads};
use ureq::http::Method;

use super::{ArtifactError, address, client, fields};
use crate::{
    http::{Answer, Body, Client, MOST_REDIRECTS, clean_url, origin, redirect},
    log,
    meter::Meter,
    selection::variable,
};

/// The stage: every dependency is tried.
pub(crate) fn run(
    request: &DownloadArtifactsRequest,
    done: &mut Vec<EntryResult>,
) -> Result<(), String> {
    let client = client(&request.coordinator, 3600, 600);
    let mut failure = None;
    for dependency in &request.dependencies {
        let mut result = crate::stage_child::result(done.len(), EntryOutcome::Done);
        log::notice(&format!(
            "Downloading artifacts for {} ({})...",
            dependency.name, dependency.id
        ));
        match download(request, dependency, &client) {
            Ok((extracted, bytes)) => {
                result.files = extracted.entries;
                result.bytes = bytes;
            }
            Err(error) => {
                error.tell();
                result.outcome = if error.partial {
                    EntryOutcome::Partial
                } else {
                    EntryOutcome::Failed
                };
                failure.get_or_insert_with(|| error.text.clone());
                result.error = Some(error.text);
            }
        }
        done.push(result);
    }
    failure.map_or(Ok(()), Err)
}

/// The command: without notices.
pub(crate) fn run_quietly(request: &DownloadArtifactsRequest) -> Result<(), String> {
    let client = client(&request.coordinator, 3600, 600);
    for dependency in &request.dependencies {
        download(request, dependency, &client).map_err(|error| error.text)?;
    }
    Ok(())
}

/// One dependency: what was unpacked, and the size of the archive.
fn download(
    request: &DownloadArtifactsRequest,
    dependency: &Dependency,
    client: &Client,
) -> Result<(Extracted, u64), ArtifactError> {
    let dir = variable("ARCHIVER_STAGING_DIR").filter(|dir| !dir.is_empty());
    let file = match &dir {
        Some(dir) => tempfile::tempfile_in(dir),
        None => tempfile::tempfile(),
    };
    let place = dir.unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let file =
        file.map_err(|error| ArtifactError::new(format!("cannot write to {place}: {error}")))?;
    let mut part = Part {
        file,
        held: 0,
        etag: None,
        place,
    };
    let mut tries = 0;
    loop {
        let direct = tries == 0 && request.direct_download;
        match fetch(request, dependency, client, direct, &mut part) {
            Ok(()) => break,
            Err(Failure::Final(text)) => return Err(ArtifactError::new(text)),
            Err(Failure::Temporary(text)) => {
                if tries >= request.retries {
                    return Err(ArtifactError::new(format!("invalid argument: {text}")));
                }
                tries += 1;
                log::line(
                    log::Level::Warning,
                    "Retrying...",
                    &[("context", "artifacts-downloader".into()), ("error", text)],
                );
                thread::sleep(Duration::from_millis(request.retry_milliseconds));
            }
        }
    }
    let size = part.held;
    extract(part.file, &request.project_dir, threads())
        .map(|extracted| (extracted, size))
        .map_err(|error| ArtifactError {
            partial: error.is_partial(),
            text: error.to_string(),
        })
}

enum Failure {
    Final(String),
    Temporary(String),
}

/// A download under way.
struct Part {
    file: File,
    held: u64,
    /// Of what is held.
    etag: Option<String>,
    /// For messages.
    place: String,
}

fn fetch(
    request: &DownloadArtifactsRequest,
    dependency: &Dependency,
    client: &Client,
    direct: bool,
    part: &mut Part,
) -> Result<(), Failure> {
    let token = dependency.token.expose();
    let first = address(&request.coordinator, dependency.id);
    let home = origin(&first);
    let mut url = if direct {
        format!("{first}?direct_download=true")
    } else {
        first
    };
    let mut told = false;
    for _ in 0..=MOST_REDIRECTS {
        let mut headers = Vec::new();
        if origin(&url) == home {
            headers.push(("JOB-TOKEN".to_owned(), token.to_owned()));
        }
        let mut ranged = false;
        if part.held > 0
            && let Some(etag) = &part.etag
        {
            ranged = true;
            headers.push(("Range".into(), format!("bytes={}-", part.held)));
            headers.push(("If-Range".into(), etag.clone()));
        }
        let answer = client
            .send(&Method::GET, &url, &headers, Body::None)
            .map_err(|error| Failure::Temporary(error.to_string()))?;
        match answer.status {
            301 | 302 | 303 | 307 | 308 => {
                let to = answer
                    .header("location")
                    .and_then(|location| redirect(&url, location));
                let Some(to) = to else {
                    return Err(Failure::Temporary("redirected to nowhere".into()));
                };
                if !told && origin(&to) != home {
                    told = true;
                    let host = origin(&to);
                    let host = host.split("://").nth(1).unwrap_or(&host);
                    log::info(&format!("Direct download from {host}"));
                }
                url = to;
            }
            200 => return receive(request, dependency, &url, answer, part, false),
            206 if ranged => return receive(request, dependency, &url, answer, part, true),
            status => return Err(refused(dependency, answer, status)),
        }
    }
    Err(Failure::Temporary(format!(
        "{}: stopped after {MOST_REDIRECTS} redirects",
        clean_url(&url)
    )))
}

fn refused(dependency: &Dependency, answer: Answer, status: u16) -> Failure {
    let told = fields(&answer, dependency.id, dependency.token.expose());
    let line = |what: &str| {
        log::line(
            log::Level::Error,
            &format!("Downloading artifacts from coordinator... {what}"),
            &told,
        );
    };
    match status {
        401 | 403 => {
            let what = if status == 401 {
                "unauthorized"
            } else {
                "forbidden"
            };
            line(what);
            let message = answer.message();
            Failure::Final(if message.is_empty() {
                "permission denied".into()
            } else {
                format!("permission denied: {message}")
            })
        }
        404 => {
            line("not found");
            Failure::Final("file does not exist".into())
        }
        _ => {
            let text = answer.status_text();
            line("failed");
            let message = answer.message();
            Failure::Temporary(if message.is_empty() {
                format!("received: {text}")
            } else {
                format!("received: {text} ({message})")
            })
        }
    }
}

fn receive(
    request: &DownloadArtifactsRequest,
    dependency: &Dependency,
    url: &str,
    answer: Answer,
    part: &mut Part,
    resumed: bool,
) -> Result<(), Failure> {
    let place = part.place.clone();
    let cannot = |error: io::Error| Failure::Final(format!("cannot write to {place}: {error}"));
    if !resumed {
        part.file.set_len(0).map_err(cannot)?;
        part.file.rewind().map_err(cannot)?;
        part.held = 0;
    }
    part.etag = answer
        .header("etag")
        .filter(|etag| !etag.starts_with("W/"))
        .map(str::to_owned);
    let mut told = fields(&answer, dependency.id, dependency.token.expose());
    let host = origin(url);
    told.push(("host", host.split("://").nth(1).unwrap_or(&host).to_owned()));
    let length: Option<u64> = answer
        .header("content-length")
        .and_then(|text| text.parse().ok());
    let mut reader = Meter::new(answer.into_reader(), "Downloading artifacts", length);
    let mut buffer = vec![0; 256 << 10];
    let mut came = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                part.file.write_all(&buffer[..read]).map_err(cannot)?;
                part.held += read as u64;
                came += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Failure::Temporary(format!(
                    "the download broke off: {error}"
                )));
            }
        }
    }
    if length.is_some_and(|length| came < length) {
        return Err(Failure::Temporary(
            "the download broke off: the connection was closed too early".into(),
        ));
    }
    reader.finish();
    log::line(
        log::Level::Info,
        "Downloading artifacts from coordinator... ok",
        &told,
    );
    check_place(&request.project_dir)
}

fn check_place(dir: &Path) -> Result<(), Failure> {
    if dir.is_dir() {
        Ok(())
    } else {
        Err(Failure::Final(format!(
            "there is no directory {}",
            dir.display()
        )))
    }
}
