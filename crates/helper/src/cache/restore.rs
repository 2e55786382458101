//! Getting a cache back (job-lifecycle §5.3).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::SystemTime,
};

use gantry_agent::{
    EntryOutcome, EntryResult, RemoteSource, RestoreCacheRequest, RestoreCandidate, RestoreEntry,
};
use gantry_archive::{ExtractError, Extracted, Growing, extract, threads};
use tempfile::NamedTempFile;
use ureq::http::Method;

use super::{
    CacheError, TRIES, adopt, clear_the_way, client, discard, headers_of, last_modified, make_dir,
    mtime, open, ranges, received, send, shown_name, write_metadata,
};
use crate::{
    expansion::expand,
    files,
    http::{Answer, Client, clean_url, retry::Problem},
    log,
    receive::{self, Broken, Object, Parallel, Part, unpack_meanwhile},
    selection::variable,
};

/// The stage.
pub(crate) fn run(request: &RestoreCacheRequest, done: &mut Vec<EntryResult>) {
    let client = client(request.timeout_seconds, request.ca.clone());
    let parallel = request.parallel_transfer.then(ranges).flatten();
    for entry in &request.entries {
        let result = entry_result(request, entry, &client, parallel, done.len());
        done.push(result);
    }
}

fn entry_result(
    request: &RestoreCacheRequest,
    entry: &RestoreEntry,
    client: &Client,
    parallel: Option<Parallel>,
    index: usize,
) -> EntryResult {
    let mut result = crate::stage_child::result(index, EntryOutcome::Nothing);
    entry.lines.iter().for_each(log::prepared);
    for candidate in &entry.candidates {
        candidate.lines.iter().for_each(log::prepared);
        log::notice(&format!("Checking cache for {}...", candidate.key));
        clear_the_way(&candidate.file);
        match restore(&request.project_dir, candidate, client, parallel) {
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
    parallel: Option<Parallel>,
) -> Result<Extracted, CacheError> {
    let file = &candidate.file;
    let Some(remote) = &candidate.remote else {
        log::info(
            "No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be \
             extracted.",
        );
        adopt(file, candidate.alternate_file.as_deref());
        return unpack(project_dir, file);
    };
    log::info("Using presigned URL for cache download");
    let fetch = || {
        let source = choose(client, remote, candidate.alternate.as_ref());
        let download = Download {
            client,
            source,
            file,
            parallel,
        };
        download.run(project_dir)
    };
    if let Some(extracted) = fetch()? {
        return Ok(extracted);
    }
    match unpack(project_dir, file) {
        // What lies here is no good, but the server may have better.
        Err(error) if !file.exists() => {
            error.tell();
            match fetch()? {
                Some(extracted) => Ok(extracted),
                None => unpack(project_dir, file),
            }
        }
        done => done,
    }
}

/// Extracts an archive. One that is damaged is taken away: it is a miss from now on.
fn unpack(project_dir: &Path, file: &Path) -> Result<Extracted, CacheError> {
    let archive = match open(file) {
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
    let failed = |error| CacheError::failed(format!("cannot open {}: {error}", file.display()));
    let found = archive.metadata().map_err(failed)?;
    if !found.is_file() {
        discard(file, &archive);
        let what = if found.is_dir() {
            "a directory"
        } else {
            "no file"
        };
        return Err(CacheError::failed(format!(
            "{} is {what}, not an archive",
            file.display()
        )));
    }
    let read = archive.try_clone().map_err(failed)?;
    extract(read, project_dir, threads()).map_err(|error| no_good(file, &archive, &error))
}

/// What an archive that was not extracted means.
fn no_good(file: &Path, archive: &File, error: &ExtractError) -> CacheError {
    let outcome = if error.is_partial() {
        EntryOutcome::Partial
    } else {
        EntryOutcome::Failed
    };
    if error.is_archive_s_fault() {
        discard(file, archive);
    }
    CacheError::new(outcome, error.to_string())
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
    Fresh(Fresh),
    UpToDate,
}

/// What is known of an archive that has come.
struct Fresh {
    modified: Option<SystemTime>,
    metadata: BTreeMap<String, String>,
}

/// Why an archive has not come.
fn not_come(broken: Broken) -> Problem {
    match broken {
        Broken::Write(error) => Problem::lasting(format!("cannot write the cache: {error}")),
        Broken::Off(problem) => problem,
    }
}

const MISSING: &str = "file does not exist";
const LABEL: &str = "Downloading cache";

/// From where, and whereto.
struct Download<'a> {
    client: &'a Client,
    source: &'a RemoteSource,
    file: &'a Path,
    parallel: Option<Parallel>,
}

impl Download<'_> {
    /// Fetches the archive unless the local one is as new, and extracts it meanwhile. `None`: it is as new.
    fn run(&self, project_dir: &Path) -> Result<Option<Extracted>, CacheError> {
        let file = self.file;
        let dir = make_dir(file).map_err(|error| {
            CacheError::failed(format!(
                "cannot make the directory of {}: {error}",
                file.display()
            ))
        })?;
        let cannot = |error: io::Error| {
            CacheError::failed(format!("cannot write to {}: {error}", dir.display()))
        };
        let temp = super::temporary("cache_", &dir).map_err(cannot)?;
        let growing = Growing::new(temp.as_file().try_clone().map_err(cannot)?);
        let (fetched, extracted) = unpack_meanwhile(&growing, project_dir, || {
            let Got::Fresh(fresh) = self.fetch(&growing)? else {
                return Ok(false);
            };
            self.keep(temp, &fresh)?;
            growing.finish();
            Ok(true)
        });
        match fetched? {
            false => Ok(None),
            true => extracted
                .map(Some)
                .map_err(|error| no_good(file, growing.file(), &error)),
        }
    }

    /// The archive comes to its place.
    fn keep(&self, temp: NamedTempFile, fresh: &Fresh) -> Result<(), CacheError> {
        let file = self.file;
        let failed = |error: io::Error| {
            CacheError::failed(format!("cannot write {}: {error}", file.display()))
        };
        temp.as_file()
            .set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(failed)?;
        if let Some(modified) = fresh.modified {
            temp.as_file().set_modified(modified).map_err(failed)?;
        }
        if let Err(error) = write_metadata(file, &fresh.metadata) {
            log::warning(&format!("cannot write the metadata of the cache: {error}"));
        }
        super::put(temp, file).map_err(failed)
    }

    /// As many tries as are allowed.
    fn fetch(&self, into: &Growing) -> Result<Got, CacheError> {
        let mut part = Part::new(into);
        let mut parallel = self.parallel;
        let got = TRIES.run(|_| self.request(&mut part, parallel.take()));
        let got = got.map_err(|problem| {
            log::warning(&problem.text);
            let outcome = if problem.text == MISSING {
                EntryOutcome::Miss
            } else {
                EntryOutcome::Failed
            };
            CacheError {
                told: true,
                ..CacheError::new(outcome, problem.text)
            }
        })?;
        if matches!(got, Got::UpToDate) {
            log::info(&format!("{} is up to date", shown_name(self.file)));
        }
        Ok(got)
    }

    /// One request, or those for the ranges of a large object.
    fn request(&self, part: &mut Part<'_>, parallel: Option<Parallel>) -> Result<Got, Problem> {
        let mut headers = part.ask_for_rest();
        let resuming = !headers.is_empty();
        if parallel.is_some() {
            headers.push((receive::PROBE.0.into(), receive::PROBE.1.into()));
        }
        let answer = send(self.client, &Method::GET, &self.source.get, &headers)?;
        match (answer.status, parallel) {
            (200, _) | (206, Some(_)) => {}
            (206, None) if resuming => {}
            (404, _) => return Err(Problem::lasting(MISSING)),
            // An empty object, or a server that knows no ranges.
            (_, Some(_)) => return self.request(part, None),
            (416, None) if resuming => {
                part.forget();
                return Err(Problem::passing("the rest of the cache is not available"));
            }
            (_, None) => return Err(received(answer)),
        }
        let resumed = resuming && answer.status == 206;
        let modified = last_modified(&answer);
        if !resumed
            && let Some(modified) = modified
            && let Ok(local) = open(self.file).and_then(|local| mtime(&local))
            && local >= modified
        {
            return Ok(Got::UpToDate);
        }
        let fresh = Fresh {
            modified,
            metadata: metadata(&answer),
        };
        let received = if let Some(parallel) = parallel.filter(|_| answer.status == 206) {
            let source = &self.source.get;
            match Object::probed(source.url.expose(), headers_of(source), &answer) {
                Some(object) if object.total > parallel.chunk => {
                    self.tell(&answer);
                    part.receive_ranges(self.client, &object, parallel, LABEL)
                }
                _ => return self.request(part, None),
            }
        } else {
            if !resumed {
                self.tell(&answer);
            }
            part.receive(answer, LABEL)
        };
        match received {
            Ok(()) => Ok(Got::Fresh(fresh)),
            // Then in one.
            Err(Broken::Off(_)) if parallel.is_some() => self.request(part, None),
            Err(broken) => Err(not_come(broken)),
        }
    }

    fn tell(&self, answer: &Answer) {
        log::line(
            log::Level::Info,
            &format!(
                "Downloading cache from {}",
                clean_url(self.source.get.url.expose())
            ),
            &[("etag", answer.header("etag").unwrap_or_default().to_owned())],
        );
    }
}

/// `x-amz-meta-*`, `x-goog-meta-*` and the like.
fn metadata(answer: &Answer) -> BTreeMap<String, String> {
    answer
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let (_, key) = name.as_str().strip_prefix("x-")?.split_once("-meta-")?;
            Some((key.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect()
}
