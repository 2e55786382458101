//! Getting a cache back (job-lifecycle §5.3).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::SystemTime,
};

use gantry_agent::{
    EntryOutcome, EntryResult, RemoteSource, RestoreCacheRequest, RestoreCandidate, RestoreEntry,
};
use gantry_archive::{ExtractError, Extracted, extract, threads};
use ureq::http::Method;

use super::{
    CacheError, PAUSE, TRIES, adopt, client, discard, is_temporary, last_modified, make_dir, mtime,
    send, shown_name, write_metadata,
};
use crate::{
    expansion::expand,
    files,
    http::{Client, clean_url},
    log,
    meter::Meter,
    selection::variable,
};

/// The stage.
pub(crate) fn run(request: &RestoreCacheRequest, done: &mut Vec<EntryResult>) {
    let client = client(request.timeout_seconds, request.ca.clone());
    for entry in &request.entries {
        let result = entry_result(request, entry, &client, done.len());
        done.push(result);
    }
}

fn entry_result(
    request: &RestoreCacheRequest,
    entry: &RestoreEntry,
    client: &Client,
    index: usize,
) -> EntryResult {
    let mut result = crate::stage_child::result(index, EntryOutcome::Nothing);
    entry.lines.iter().for_each(log::prepared);
    for candidate in &entry.candidates {
        candidate.lines.iter().for_each(log::prepared);
        log::notice(&format!("Checking cache for {}...", candidate.key));
        match restore(&request.project_dir, candidate, client) {
            Ok(extracted) => {
                log::notice("Successfully extracted cache");
                result.outcome = EntryOutcome::Done;
                result.error = None;
                result.files = extracted.entries;
                result.bytes = fs::metadata(&candidate.file).map_or(0, |found| found.len());
                return result;
            }
            Err(error) => {
                error.tell();
                log::yellow("Failed to extract cache");
                // What went wrong counts for more than that there was nothing.
                if result.error.is_none() || error.outcome != EntryOutcome::Miss {
                    result.outcome = error.outcome;
                    result.error = Some(error.text);
                }
                if request.clean_up_failed {
                    clean_up(request, entry);
                }
            }
        }
    }
    result
}

/// `FF_CLEAN_UP_FAILED_CACHE_EXTRACT`: every path of the cache, as it is spelled.
fn clean_up(request: &RestoreCacheRequest, entry: &RestoreEntry) {
    for path in &entry.selection.paths {
        let expanded = expand(path, &variable).unwrap_or_else(|_| path.clone());
        log::notice(&format!("Removing {expanded}"));
        let full = request.project_dir.join(&expanded);
        // Never the project itself, nor anything outside of it.
        let inside = full.strip_prefix(&request.project_dir).is_ok_and(|rest| {
            rest.components().next().is_some()
                && rest
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)))
        });
        if inside && let Err(error) = files::remove(&full) {
            log::warning(&error.to_string());
        }
    }
}

/// Fetches, if there is a remote, and extracts.
pub(crate) fn restore(
    project_dir: &Path,
    candidate: &RestoreCandidate,
    client: &Client,
) -> Result<Extracted, CacheError> {
    let file = &candidate.file;
    let remote = candidate.remote.as_ref();
    if remote.is_none() {
        log::info(
            "No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be \
             extracted.",
        );
        adopt(file, candidate.alternate_file.as_deref());
    }
    let mut fresh = false;
    if let Some(remote) = remote {
        log::info("Using presigned URL for cache download");
        let source = choose(client, remote, candidate.alternate.as_ref());
        fresh = download(client, source, file)?;
    }
    match unpack(project_dir, file) {
        // What lies here is no good, but the server may have better.
        Err(error) if remote.is_some() && !fresh && !file.exists() => {
            error.tell();
            if let Some(remote) = remote {
                let source = choose(client, remote, candidate.alternate.as_ref());
                download(client, source, file)?;
            }
            unpack(project_dir, file)
        }
        done => done,
    }
}

/// Extracts an archive. One that is damaged is taken away: it is a miss from now on.
fn unpack(project_dir: &Path, file: &Path) -> Result<Extracted, CacheError> {
    let archive = match File::open(file) {
        Ok(archive) => archive,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = "Cache file does not exist";
            log::warning(text);
            return Err(CacheError {
                told: true,
                ..CacheError::new(EntryOutcome::Miss, text)
            });
        }
        Err(error) => {
            return Err(CacheError::failed(format!(
                "cannot open {}: {error}",
                file.display()
            )));
        }
    };
    extract(archive, project_dir, threads()).map_err(|error: ExtractError| {
        let outcome = if error.is_partial() {
            EntryOutcome::Partial
        } else {
            EntryOutcome::Failed
        };
        if error.is_archive_s_fault() {
            discard(file);
        }
        CacheError::new(outcome, error.to_string())
    })
}

/// The primary source, or the alternate one if it alone is there or is newer.
fn choose<'a>(
    client: &Client,
    primary: &'a RemoteSource,
    alternate: Option<&'a RemoteSource>,
) -> &'a RemoteSource {
    let Some(alternate) = alternate else {
        return primary;
    };
    // `None`: not there, or nobody knows.
    let time = |source: &RemoteSource| {
        let head = source.head.as_ref()?;
        let answer = send(client, &Method::HEAD, head, &[]).ok()?;
        (200..300)
            .contains(&answer.status)
            .then(|| last_modified(&answer).unwrap_or(SystemTime::UNIX_EPOCH))
    };
    match (time(primary), time(alternate)) {
        (primary_time, Some(time)) if primary_time.is_none_or(|primary| primary < time) => {
            log::info(&format!(
                "Selecting alternate cache URL: {}",
                clean_url(alternate.get.url.expose())
            ));
            alternate
        }
        (_, None) => primary,
        _ => {
            log::info("Selecting primary cache URL");
            primary
        }
    }
}

/// What came of a request.
enum Got {
    Fresh,
    UpToDate,
}

/// Fetches into `file` unless that is as new. Whether it was fetched.
fn download(client: &Client, source: &RemoteSource, file: &Path) -> Result<bool, CacheError> {
    let dir = make_dir(file).map_err(|error| {
        CacheError::failed(format!(
            "cannot make the directory of {}: {error}",
            file.display()
        ))
    })?;
    let temp = super::temporary("cache_", &dir).map_err(|error| {
        CacheError::failed(format!("cannot write to {}: {error}", dir.display()))
    })?;
    let mut part = Part {
        temp,
        held: 0,
        etag: None,
    };
    let mut tries = 0;
    loop {
        tries += 1;
        match fetch(client, source, file, &mut part) {
            Ok(Got::UpToDate) => {
                log::info(&format!("{} is up to date", shown_name(file)));
                return Ok(false);
            }
            Ok(Got::Fresh) => break,
            Err((true, problem)) if tries < TRIES => {
                log::line(log::Level::Warning, "Retrying...", &[("error", problem)]);
                thread::sleep(PAUSE);
            }
            Err((_, problem)) => {
                log::warning(&problem);
                let missing = problem == MISSING;
                let outcome = if missing {
                    EntryOutcome::Miss
                } else {
                    EntryOutcome::Failed
                };
                return Err(CacheError {
                    told: true,
                    ..CacheError::new(outcome, problem)
                });
            }
        }
    }
    let failed =
        |error: io::Error| CacheError::failed(format!("cannot write {}: {error}", file.display()));
    part.temp
        .as_file()
        .set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(failed)?;
    part.temp
        .persist(file)
        .map_err(|error| failed(error.error))?;
    Ok(true)
}

const MISSING: &str = "file does not exist";

/// A download under way.
struct Part {
    temp: tempfile::NamedTempFile,
    held: u64,
    /// Of what is held.
    etag: Option<String>,
}

/// One request; `Err`: whether another one may help, and what happened.
fn fetch(
    client: &Client,
    source: &RemoteSource,
    file: &Path,
    part: &mut Part,
) -> Result<Got, (bool, String)> {
    let mut headers = Vec::new();
    if part.held > 0
        && let Some(etag) = &part.etag
    {
        headers.push(("Range".to_owned(), format!("bytes={}-", part.held)));
        headers.push(("If-Range".to_owned(), etag.clone()));
    }
    let answer = send(client, &Method::GET, &source.get, &headers)
        .map_err(|error| (true, error.to_string()))?;
    let resumed = answer.status == 206 && !headers.is_empty();
    match answer.status {
        200 => {}
        206 if resumed => {}
        404 => return Err((false, MISSING.into())),
        416 if !headers.is_empty() => {
            part.etag = None;
            return Err((true, "the rest of the cache is not available".into()));
        }
        status => {
            let text = answer.status_text();
            let message = answer.message();
            let problem = if message.is_empty() {
                format!("received: {text}")
            } else {
                format!("received: {text}. {message}")
            };
            return Err((is_temporary(status), problem));
        }
    }
    let modified = last_modified(&answer);
    if !resumed
        && let Some(modified) = modified
        && let Ok(local) = File::open(file).and_then(|local| mtime(&local))
        && local >= modified
    {
        return Ok(Got::UpToDate);
    }
    let io_error = |error: io::Error| (false, format!("cannot write the cache: {error}"));
    if !resumed {
        part.temp.as_file().set_len(0).map_err(io_error)?;
        io::Seek::rewind(part.temp.as_file_mut()).map_err(io_error)?;
        part.held = 0;
        log::line(
            log::Level::Info,
            &format!(
                "Downloading {} from {}",
                shown_name(file),
                clean_url(source.get.url.expose())
            ),
            &[("ETag", answer.header("etag").unwrap_or_default().to_owned())],
        );
    }
    part.etag = answer
        .header("etag")
        .filter(|etag| !etag.starts_with("W/"))
        .map(str::to_owned);
    let metadata: BTreeMap<String, String> = answer
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let (_, key) = name.as_str().strip_prefix("x-")?.split_once("-meta-")?;
            Some((key.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let length: Option<u64> = answer
        .header("content-length")
        .and_then(|text| text.parse().ok());
    let mut reader = Meter::new(answer.into_reader(), "Downloading cache", length);
    let mut buffer = vec![0; 256 << 10];
    let mut came = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                part.temp.write_all(&buffer[..read]).map_err(io_error)?;
                part.held += read as u64;
                came += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((true, format!("the download broke off: {error}"))),
        }
    }
    if length.is_some_and(|length| came < length) {
        return Err((
            true,
            "the download broke off: the connection was closed too early".into(),
        ));
    }
    reader.finish();
    if let Some(modified) = modified {
        part.temp
            .as_file()
            .set_modified(modified)
            .map_err(io_error)?;
    }
    if let Err(error) = write_metadata(file, &metadata) {
        log::warning(&format!("cannot write the metadata of the cache: {error}"));
    }
    Ok(Got::Fresh)
}
