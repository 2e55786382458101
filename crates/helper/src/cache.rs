//! Caches (job-lifecycle §5): the stages, and what they share with the commands `cache-extractor` and `cache-archiver`.

pub(crate) mod restore;
pub(crate) mod save;
mod upload;

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gantry_agent::{EntryOutcome, SignedUrl};
use rustix::fs::OFlags;
use ureq::http::Method;

use crate::{
    files,
    http::{
        Answer, Client, HttpError, Limits, Settings,
        retry::{Again, Problem, Tries},
        shown,
    },
    log,
    receive::Parallel,
    selection::variable,
};

/// Of a transfer.
const TRIES: Tries = Tries {
    most: 3,
    most_busy: 3,
    pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(1),
    context: None,
};

/// Files under way end so.
const TEMPORARY: &str = ".tmp";
/// Nobody writes longer than this, if nobody can tell who writes.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// Whoever writes and does not say so has written meanwhile: a helper that a former release of the runner started.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// A cache that was not restored or saved.
#[derive(Debug)]
pub(crate) struct CacheError {
    pub(crate) outcome: EntryOutcome,
    pub(crate) text: String,
    /// It has been printed.
    pub(crate) told: bool,
}

impl CacheError {
    fn new(outcome: EntryOutcome, text: impl Into<String>) -> Self {
        Self {
            outcome,
            text: text.into(),
            told: false,
        }
    }

    fn failed(text: impl Into<String>) -> Self {
        Self::new(EntryOutcome::Failed, text)
    }

    /// Prints why, if that was not done.
    pub(crate) fn tell(&self) {
        if !self.told {
            log::line(log::Level::Fatal, &self.text, &[]);
        }
    }
}

/// A client for signed addresses. 0 seconds: 10 minutes.
pub(crate) fn client(timeout_seconds: u64, ca: Option<String>) -> Client {
    let seconds = match timeout_seconds {
        0 => 600,
        seconds => seconds,
    };
    Client::new(Settings {
        ca,
        identity: None,
        user_agent: crate::USER_AGENT.into(),
        limits: Limits {
            whole: Some(Duration::from_secs(seconds)),
            head: Some(Duration::from_secs(30)),
        },
    })
}

/// How archives come where they come in ranges: `CACHE_CONCURRENCY` of `CACHE_CHUNK_SIZE` bytes at a time.
pub(crate) fn ranges() -> Option<Parallel> {
    let number = |name: &str| {
        let text = variable(name).filter(|text| !text.is_empty())?;
        let number: Option<u64> = text.parse().ok();
        if number.is_none() {
            log::warning(&format!(
                "{name}: {:?} is left aside: a number of at least 0 is needed",
                shown(&text)
            ));
        }
        number
    };
    Parallel::new(number("CACHE_CONCURRENCY"), number("CACHE_CHUNK_SIZE"))
}

fn send(
    client: &Client,
    method: &Method,
    to: &SignedUrl,
    more: &[(String, String)],
) -> Result<Answer, HttpError> {
    client.follow(method, to.url.expose(), &headers_of(to), more)
}

/// Headers that an address wants.
fn headers_of(to: &SignedUrl) -> Vec<(String, String)> {
    to.headers
        .iter()
        .map(|header| (header.name.clone(), header.value.expose().to_owned()))
        .collect()
}

/// Place of the metadata of an archive.
fn metadata_path(archive: &Path) -> PathBuf {
    archive.with_file_name("metadata.json")
}

/// Writes the metadata beside an archive: a JSON object with keys in lower case, mode 0640.
fn write_metadata(archive: &Path, metadata: &BTreeMap<String, String>) -> io::Result<()> {
    let metadata: BTreeMap<String, &String> = metadata
        .iter()
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
        .collect();
    let dir = archive.parent().unwrap_or(Path::new("."));
    let mut file = temporary("metadata_", dir)?;
    file.write_all(serde_json::to_string(&metadata)?.as_bytes())?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o640))?;
    put(file, &metadata_path(archive))
}

/// The directory of an archive, for its owner alone.
fn make_dir(archive: &Path) -> io::Result<PathBuf> {
    let dir = match archive.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)?;
    remove_stale(&dir);
    Ok(dir)
}

/// Opens what is in the place of an archive. A pipe there would have no writer, and nobody waits for one.
fn open(archive: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        // The bits fit.
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(archive)
}

/// Takes away what is on the way to an archive and is no directory: nobody else stores anything there.
fn clear_the_way(archive: &Path) {
    for dir in archive.ancestors().skip(1) {
        match fs::symlink_metadata(dir) {
            Ok(_) if dir.is_dir() => return,
            Ok(_) => {
                let text = match files::remove(dir) {
                    Ok(()) => format!("{} was in the way of a cache: removed", dir.display()),
                    Err(error) => error.to_string(),
                };
                log::warning(&text);
                return;
            }
            Err(_) => {}
        }
    }
}

/// Puts a file in its place. What is there and is no file was put there by no save.
fn put(file: tempfile::NamedTempFile, place: &Path) -> io::Result<()> {
    if place.is_dir() {
        files::remove(place)?;
    }
    file.persist(place)?;
    Ok(())
}

/// A file that becomes an archive or its metadata when it is whole. Its lock says that somebody writes it, for as long as a process
/// has it open. (Not every file system has locks; there age alone tells.)
fn temporary(prefix: &str, dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(prefix)
        .suffix(TEMPORARY)
        .tempfile_in(dir)?;
    file.as_file().try_lock().ok();
    Ok(file)
}

/// What interrupted jobs left. On a directory that jobs share, others may be writing.
fn remove_stale(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(TEMPORARY) && is_stale(&entry).unwrap_or(false) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn is_stale(entry: &fs::DirEntry) -> io::Result<bool> {
    let found = entry.metadata()?;
    let age = found.modified()?.elapsed().unwrap_or_default();
    if !found.is_file() || age <= QUIET {
        return Ok(false);
    }
    Ok(match File::open(entry.path())?.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => age > STALE,
    })
}

/// Takes an archive away that is of no use, so that it is made or fetched anew. Not what another job has put in its place meanwhile.
fn discard(archive: &Path, useless: &File) {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    let is_same = || Ok::<_, io::Error>(id(fs::metadata(archive)?) == id(useless.metadata()?));
    if !is_same().unwrap_or(false) {
        return;
    }
    for path in [archive, &metadata_path(archive)] {
        if let Err(error) = files::remove(path) {
            log::warning(&format!("cannot remove {}: {error}", path.display()));
        }
    }
}

/// The archive of the other naming scheme becomes the one that is asked for.
fn adopt(file: &Path, alternate: Option<&Path>) {
    let Some(alternate) = alternate else { return };
    if alternate == file || file.exists() || !alternate.exists() {
        return;
    }
    let moved = make_dir(file).and_then(|_| fs::rename(alternate, file));
    match moved {
        Ok(()) => {
            fs::rename(metadata_path(alternate), metadata_path(file)).ok();
            log::info("Renamed alternate cache file to primary");
        }
        Err(error) => log::warning(&format!(
            "Failed to rename alternate cache file to primary: {error}"
        )),
    }
}

fn mtime(file: &File) -> io::Result<SystemTime> {
    file.metadata()?.modified()
}

/// `Last-Modified` of an answer.
fn last_modified(answer: &Answer) -> Option<SystemTime> {
    httpdate::parse_http_date(answer.header("last-modified")?).ok()
}

/// What an answer that is no success means.
fn received(answer: Answer) -> Problem {
    let again = match answer.status {
        401 | 403 | 404 | 413 => Again::Refused,
        429 | 500.. => Again::after(&answer),
        _ => Again::Never,
    };
    let text = answer.status_text();
    let message = answer.message();
    let separator = if message.is_empty() { "" } else { ". " };
    Problem {
        text: format!("received: {text}{separator}{message}"),
        again,
    }
}

/// The name in messages.
fn shown_name(file: &Path) -> String {
    file.file_name().map_or_else(
        || file.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_came_in_place_of_a_damaged_one_is_not_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.zip");
        fs::write(&path, "damaged").unwrap();
        let damaged = File::open(&path).unwrap();
        fs::write(dir.path().join("new"), "whole").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        discard(&path, &damaged);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        discard(&path, &File::open(&path).unwrap());
        assert!(!path.exists());
    }
}
