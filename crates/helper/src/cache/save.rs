//! Putting a cache away (job-lifecycle §5.4).
//!
//! An archive that is unchanged is not made again: its mark says what it was made of ([`Fingerprint`]), and it is newer than all its
//! files. Of one without a mark, made by another runner, the second is all that can be told.

use std::{
    fs::{self, File},
    io::{self, Seek},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    thread,
    time::SystemTime,
};

use gantry_agent::{ArchiveCacheEntry, ArchiveCacheRequest, EntryOutcome, EntryResult, SignedUrl};
use gantry_archive::{Fingerprint, Format, Item, Level, pack, threads};
use ureq::http::Method;

use super::{
    CacheError, PAUSE, TRIES, adopt, client, is_temporary, make_dir, send, shown_name,
    write_metadata,
};
use crate::{
    http::{Body, Client, clean_url},
    log,
    meter::{Meter, size},
    selection::{find, variable},
};

/// The stage.
pub(crate) fn run(request: &ArchiveCacheRequest, done: &mut Vec<EntryResult>) {
    let client = client(request.timeout_seconds, request.ca.clone());
    for entry in &request.entries {
        let mut result = crate::stage_child::result(done.len(), EntryOutcome::Nothing);
        entry.lines.iter().for_each(log::prepared);
        if !entry.skip {
            log::notice(&format!("Creating cache {}...", entry.key));
            match save(&request.project_dir, entry, &client) {
                Ok(saved) => {
                    log::notice("Created cache");
                    result.outcome = saved.outcome;
                    result.files = saved.files;
                    result.bytes = saved.bytes;
                }
                Err(error) => {
                    error.tell();
                    log::yellow("Failed to create cache");
                    result.outcome = error.outcome;
                    result.error = Some(error.text);
                }
            }
        }
        done.push(result);
    }
}

/// What was put away.
pub(crate) struct Saved {
    outcome: EntryOutcome,
    files: u64,
    bytes: u64,
}

/// A format by name; zip if it is none.
fn format(text: Option<String>) -> Format {
    match text.unwrap_or_default().to_ascii_lowercase().as_str() {
        "tarzstd" => Format::TarZstd,
        "zipzstd" => Format::ZipZstd,
        _ => Format::Zip,
    }
}

/// A level by name; none is the usual one.
pub(crate) fn level(text: Option<String>) -> Level {
    let text = text.unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "fastest" => Level::Fastest,
        "fast" => Level::Fast,
        "slow" => Level::Slow,
        "slowest" => Level::Slowest,
        "" | "default" => Level::Default,
        _ => {
            log::warning(&format!(
                "compression level {:?} is invalid, falling back to default",
                crate::http::shown(&text)
            ));
            Level::Default
        }
    }
}

/// Archives and uploads, by the variables that say how.
fn save(
    project_dir: &Path,
    entry: &ArchiveCacheEntry,
    client: &Client,
) -> Result<Saved, CacheError> {
    let format = variable("CACHE_COMPRESSION_FORMAT");
    let level = variable("CACHE_COMPRESSION_LEVEL");
    save_as(project_dir, entry, client, format, level)
}

/// Archives and uploads.
pub(crate) fn save_as(
    project_dir: &Path,
    entry: &ArchiveCacheEntry,
    client: &Client,
    format_name: Option<String>,
    level_name: Option<String>,
) -> Result<Saved, CacheError> {
    let file = &entry.file;
    adopt(file, entry.alternate_file.as_deref());
    let items = find(project_dir, &entry.selection);
    if items.is_empty() {
        log::warning("No files to cache.");
        return Ok(Saved {
            outcome: EntryOutcome::Nothing,
            files: 0,
            bytes: 0,
        });
    }
    let (format, level) = (format(format_name), level(level_name));
    let mark = Fingerprint::of(&items, &format!("{format:?} {level:?}"));
    let saved = |outcome| Saved {
        outcome,
        files: items.len() as u64,
        bytes: fs::metadata(file).map_or(0, |found| found.len()),
    };
    if is_unchanged(file, &items, &mark) {
        if entry.put.is_none() {
            log::info("Archive is up to date!");
            return Ok(saved(EntryOutcome::Nothing));
        }
        if entry
            .check
            .as_ref()
            .is_some_and(|check| is_there(client, check))
        {
            log::info("Primary cache already exists remotely, skipping upload");
            return Ok(saved(EntryOutcome::Nothing));
        }
        log::info("Primary cache does not exist remotely, uploading existing archive");
    } else {
        archive(project_dir, entry, &items, format, level, &mark)?;
    }
    let Some(put) = &entry.put else {
        log::info(
            "No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.",
        );
        return Ok(saved(EntryOutcome::Done));
    };
    let bytes = saved(EntryOutcome::Done).bytes;
    if entry.max_archive_size > 0 && bytes > entry.max_archive_size {
        log::info(&format!(
            "Cache archive size ({}) is too big (Limit is set to {}). Cache will be stored only locally.",
            size(bytes),
            size(entry.max_archive_size)
        ));
        return Ok(saved(EntryOutcome::Partial));
    }
    upload(client, put, file)?;
    Ok(saved(EntryOutcome::Done))
}

/// Whether an archive holds just what it would be made of.
fn is_unchanged(file: &Path, items: &[Item], mark: &Fingerprint) -> bool {
    let Ok(archive) = File::open(file) else {
        return false;
    };
    let Ok(found) = archive.metadata() else {
        return false;
    };
    let made = (found.mtime(), found.mtime_nsec());
    if items
        .iter()
        .any(|item| (item.mtime, i64::from(item.mtime_nsec)) > made)
    {
        return false;
    }
    match Fingerprint::read(&archive) {
        Ok(Some(found)) => found == *mark,
        // Made by another runner. One that cannot be read is no archive.
        Ok(None) => gantry_archive::is_whole(&archive),
        Err(_) => false,
    }
}

fn is_there(client: &Client, check: &SignedUrl) -> bool {
    send(client, &Method::HEAD, check, &[]).is_ok_and(|answer| (200..300).contains(&answer.status))
}

/// Makes the archive: beside its place, then moved there.
fn archive(
    project_dir: &Path,
    entry: &ArchiveCacheEntry,
    items: &[Item],
    format: Format,
    level: Level,
    mark: &Fingerprint,
) -> Result<(), CacheError> {
    let file = &entry.file;
    let failed =
        |error: io::Error| CacheError::failed(format!("cannot write {}: {error}", file.display()));
    let dir = make_dir(file).map_err(failed)?;
    // A file that changes while it is read is newer than the archive.
    let began = SystemTime::now();
    let temp = super::temporary("archive_", &dir).map_err(failed)?;
    let packed = pack(
        project_dir,
        items,
        format,
        level,
        Some(mark),
        threads(),
        temp.as_file(),
    )
    .map_err(|error| CacheError::failed(error.to_string()))?;
    for path in &packed.shrunk {
        log::warning(&format!(
            "{} became shorter while it was read",
            path.display()
        ));
    }
    temp.as_file()
        .set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(failed)?;
    temp.as_file().set_modified(began).map_err(failed)?;
    temp.persist(file).map_err(|error| failed(error.error))?;
    write_metadata(file, &entry.metadata).map_err(|error| {
        CacheError::failed(format!(
            "cannot write the metadata of {}: {error}",
            file.display()
        ))
    })
}

/// Sends the archive.
fn upload(client: &Client, put: &SignedUrl, file: &Path) -> Result<(), CacheError> {
    log::info("Using presigned URL for cache upload");
    log::info(&format!(
        "Uploading {} to {}",
        shown_name(file),
        clean_url(put.url.expose())
    ));
    let partial = |text: String| CacheError::new(EntryOutcome::Partial, text);
    let cannot = |error: io::Error| partial(format!("cannot read {}: {error}", file.display()));
    let mut archive = File::open(file).map_err(cannot)?;
    let found = archive.metadata().map_err(cannot)?;
    let mut headers: Vec<(String, String)> = put
        .headers
        .iter()
        .map(|header| (header.name.clone(), header.value.expose().to_owned()))
        .collect();
    let given = |name: &str, headers: &[(String, String)]| {
        headers
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    if !given("content-type", &headers) {
        headers.push(("Content-Type".into(), "application/octet-stream".into()));
    }
    if !given("last-modified", &headers)
        && let Ok(time) = found.modified()
    {
        headers.push(("Last-Modified".into(), httpdate::fmt_http_date(time)));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        archive.rewind().map_err(cannot)?;
        let mut reader = Meter::new(&archive, "Uploading cache", Some(found.len()));
        let body = Body::Reader(&mut reader, Some(found.len()));
        let (temporary, problem) = match client.send(&Method::PUT, put.url.expose(), &headers, body)
        {
            Ok(answer) if (200..300).contains(&answer.status) => {
                reader.finish();
                return Ok(());
            }
            Ok(answer) => {
                let (status, text) = (answer.status, answer.status_text());
                let message = answer.message();
                let separator = if message.is_empty() { "" } else { ". " };
                (
                    is_temporary(status),
                    format!("received: {text}{separator}{message}"),
                )
            }
            Err(error) => (true, error.to_string()),
        };
        if !temporary || tries >= TRIES {
            return Err(partial(problem));
        }
        log::line(log::Level::Warning, "Retrying...", &[("error", problem)]);
        thread::sleep(PAUSE);
    }
}
