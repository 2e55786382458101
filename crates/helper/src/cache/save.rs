//! Putting a cache away (job-lifecycle §5.4).
//!
//! An archive that is unchanged is not made again: its mark says what it was made of ([`Fingerprint`]), and it is newer than all its
//! files. Of one without a mark, made by another runner, the second is all that can be told.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::Path,
    thread,
    time::SystemTime,
};

use gantry_agent::{ArchiveCacheEntry, ArchiveCacheRequest, EntryOutcome, EntryResult, SignedUrl};
use gantry_archive::{Fingerprint, Format, Growing, Items, Level, pack, threads};
use tempfile::NamedTempFile;
use ureq::http::Method;

use super::{
    CacheError, adopt, clear_the_way, client, make_dir, open, send,
    upload::{Streamed, Way, retrying, stream, whole},
    write_metadata,
};
use crate::{
    http::Client,
    log,
    meter::size,
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
            clear_the_way(&entry.file);
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
pub(crate) fn save(
    project_dir: &Path,
    entry: &ArchiveCacheEntry,
    client: &Client,
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
    let format = format(variable("CACHE_COMPRESSION_FORMAT"));
    let level = level(variable("CACHE_COMPRESSION_LEVEL"));
    let mark = Fingerprint::of(&items, &format!("{format:?} {level:?}"));
    let saved = |outcome| Saved {
        outcome,
        files: items.len() as u64,
        bytes: fs::metadata(file).map_or(0, |found| found.len()),
    };
    let mut streamed = Streamed::NotBegun;
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
        let making = Making {
            project_dir,
            entry,
            items: &items,
            format,
            level,
            mark: &mark,
        };
        streamed = making.run(client)?;
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
    match streamed {
        Streamed::Done => {}
        Streamed::NotBegun => whole(client, put, file, false)?,
        Streamed::Refused(text) => return Err(CacheError::new(EntryOutcome::Partial, text)),
        Streamed::Failed(text) => {
            retrying(text);
            whole(client, put, file, true)?;
        }
    }
    Ok(saved(EntryOutcome::Done))
}

/// Whether an archive holds just what it would be made of.
fn is_unchanged(file: &Path, items: &Items, mark: &Fingerprint) -> bool {
    let Ok(archive) = open(file) else {
        return false;
    };
    let Some(found) = archive.metadata().ok().filter(fs::Metadata::is_file) else {
        return false;
    };
    let made = (found.mtime(), found.mtime_nsec());
    if items.newest().is_some_and(|newest| newest > made) {
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

/// How an archive is made.
struct Making<'a> {
    project_dir: &'a Path,
    entry: &'a ArchiveCacheEntry,
    items: &'a Items,
    format: Format,
    level: Level,
    mark: &'a Fingerprint,
}

impl Making<'_> {
    /// Makes the archive beside its place, moves it there, and sends it meanwhile where the store takes it so.
    fn run(&self, client: &Client) -> Result<Streamed, CacheError> {
        let file = &self.entry.file;
        let failed = |error: io::Error| self.failed(&error);
        let dir = make_dir(file).map_err(failed)?;
        // A file that changes while it is read is newer than the archive.
        let began = SystemTime::now();
        let temp = super::temporary("archive_", &dir).map_err(failed)?;
        let growing = Growing::new(temp.as_file().try_clone().map_err(failed)?);
        let way = Way::of(self.entry);
        thread::scope(|scope| {
            let sending = (way != Way::Whole).then(|| {
                let growing = &growing;
                scope.spawn(move || stream(client, self.entry, way, growing, began))
            });
            let guard = growing.guard();
            self.pack(&growing)?;
            self.keep(temp, began)?;
            growing.finish();
            drop(guard);
            let sent = sending.map(thread::ScopedJoinHandle::join);
            Ok(match sent {
                None => Streamed::NotBegun,
                Some(Ok(sent)) => sent,
                Some(Err(_)) => Streamed::Failed("a thread panicked".into()),
            })
        })
    }

    fn pack(&self, growing: &Growing) -> Result<(), CacheError> {
        let sink = Appending {
            to: growing,
            most: self.entry.max_archive_size,
        };
        let packed = pack(
            self.project_dir,
            self.items,
            self.format,
            self.level,
            Some(self.mark),
            threads(),
            sink,
        )
        .map_err(|error| CacheError::failed(error.to_string()))?;
        for path in &packed.shrunk {
            log::warning(&format!(
                "{} became shorter while it was read",
                path.display()
            ));
        }
        Ok(())
    }

    /// The archive comes to its place.
    fn keep(&self, temp: NamedTempFile, began: SystemTime) -> Result<(), CacheError> {
        let file = &self.entry.file;
        let failed = |error: io::Error| self.failed(&error);
        temp.as_file()
            .set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(failed)?;
        temp.as_file().set_modified(began).map_err(failed)?;
        super::put(temp, file).map_err(failed)?;
        write_metadata(file, &self.entry.metadata).map_err(|error| {
            CacheError::failed(format!(
                "cannot write the metadata of {}: {error}",
                file.display()
            ))
        })
    }

    fn failed(&self, error: &io::Error) -> CacheError {
        CacheError::failed(format!(
            "cannot write {}: {error}",
            self.entry.file.display()
        ))
    }
}

/// Where the archive is packed to.
struct Appending<'a> {
    to: &'a Growing,
    /// A longer one is not sent; 0: no limit.
    most: u64,
}

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = self.to.held();
        self.to.file().write_all_at(bytes, held)?;
        let held = held + bytes.len() as u64;
        if self.most > 0 && held > self.most {
            self.to.fail();
        }
        self.to.grow_to(held);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
