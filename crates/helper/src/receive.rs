//! A body that is received into a file: continued where it broke off, or fetched in ranges side by side. Others may read the file
//! meanwhile.

use std::{
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use gantry_archive::{ExtractError, Extracted, Growing, extract_growing, threads};
use ureq::http::Method;

use crate::{
    http::{
        Answer, Client, clean_url,
        retry::{Again, Problem, Tries},
    },
    meter::Meter,
};

/// Of one range.
const TRIES: Tries = Tries {
    most: 3,
    most_busy: 3,
    pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(1),
    context: None,
};
/// A server may say any length.
const MOST_CHUNKS: u64 = 1 << 22;

/// How a large object is fetched: `FF_USE_PARALLEL_CACHE_TRANSFER`, `FF_USE_PARALLEL_ARTIFACT_TRANSFER` (coordinator-api §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parallel {
    /// Requests at a time.
    pub(crate) requests: usize,
    /// Bytes of each. An object that is not larger comes in one.
    pub(crate) chunk: u64,
}

impl Parallel {
    /// As the peer does it.
    pub(crate) const USUAL: Self = Self {
        requests: 16,
        chunk: 16 << 20,
    };
    /// More requests at a time than this do not make a transfer faster.
    const MOST: usize = 64;

    /// So many requests at a time, each of so many bytes. One at a time is none of this.
    pub(crate) fn new(requests: Option<u64>, chunk: Option<u64>) -> Option<Self> {
        let requests = requests.map_or(Self::USUAL.requests, |requests| {
            usize::try_from(requests).map_or(Self::MOST, |requests| requests.min(Self::MOST))
        });
        let chunk = chunk.filter(|&chunk| chunk > 0);
        (requests > 1).then_some(Self {
            requests,
            chunk: chunk.unwrap_or(Self::USUAL.chunk),
        })
    }
}

/// Why a body is not there.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The file cannot be written.
    Write(io::Error),
    /// The server did not send all of it. Another request may get the rest.
    Off(Problem),
}

impl Broken {
    /// `from`: an address as it may be shown.
    fn off(from: &str, why: &str) -> Self {
        Self::Off(Problem::passing(format!(
            "the download from {from} broke off: {why}"
        )))
    }

    fn again(&self) -> Again {
        match self {
            Self::Write(_) => Again::Never,
            Self::Off(problem) => problem.again,
        }
    }
}

/// Unpacks an archive below `dir` while `fetch` gets it, which says [`Growing::finish`] when it is whole.
pub(crate) fn unpack_meanwhile<T>(
    archive: &Growing,
    dir: &Path,
    fetch: impl FnOnce() -> T,
) -> (T, Result<Extracted, ExtractError>) {
    thread::scope(|scope| {
        let extracting = scope.spawn(|| extract_growing(archive, dir, threads()));
        let guard = archive.guard();
        let fetched = fetch();
        drop(guard);
        let extracted = extracting.join().unwrap_or(Err(ExtractError::Panicked));
        (fetched, extracted)
    })
}

/// A download under way.
pub(crate) struct Part<'a> {
    into: &'a Growing,
    /// Of what is held.
    etag: Option<String>,
}

impl<'a> Part<'a> {
    /// Of nothing yet.
    pub(crate) fn new(into: &'a Growing) -> Self {
        Self { into, etag: None }
    }

    /// Bytes that are there.
    pub(crate) fn held(&self) -> u64 {
        self.into.held()
    }

    /// Headers that ask for what is missing of the same object; none if all of it has to come.
    pub(crate) fn ask_for_rest(&self) -> Vec<(String, String)> {
        match &self.etag {
            Some(etag) if self.held() > 0 => vec![
                ("Range".into(), format!("bytes={}-", self.held())),
                ("If-Range".into(), etag.clone()),
            ],
            _ => Vec::new(),
        }
    }

    /// The rest cannot be had: all of it has to come.
    pub(crate) fn forget(&mut self) {
        self.etag = None;
    }

    /// Takes the body of a 200, or of a 206 to [`Part::ask_for_rest`].
    pub(crate) fn receive(&mut self, answer: Answer, label: &'static str) -> Result<(), Broken> {
        let url = answer.url().to_owned();
        if answer.status != 206 {
            self.begin_anew()?;
        } else if content_range(&answer).is_some_and(|(from, _)| from != self.held()) {
            self.forget();
            let why = "the server sent another part than the rest";
            return Err(Broken::off(&url, why));
        }
        self.etag = strong_etag(&answer);
        let length = length(&answer);
        let mut reader = Meter::new(answer.into_reader(), label, length);
        let mut held = self.held();
        let came = copy(&url, &mut reader, |bytes| {
            self.into.file().write_all_at(bytes, held)?;
            held += bytes.len() as u64;
            self.into.grow_to(held);
            Ok(())
        })?;
        if length.is_some_and(|length| came < length) {
            return Err(Broken::off(&url, CLOSED));
        }
        reader.finish();
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), Broken> {
        if self.held() > 0 {
            self.into.restart();
        }
        self.into.file().set_len(0).map_err(Broken::Write)
    }

    /// Fetches an object in ranges.
    pub(crate) fn receive_ranges(
        &mut self,
        client: &Client,
        object: &Object<'_>,
        parallel: Parallel,
        label: &'static str,
    ) -> Result<(), Broken> {
        self.begin_anew()?;
        let total = object.total;
        self.etag.clone_from(&object.etag);
        let chunks = total.div_ceil(parallel.chunk.max(1));
        let url = clean_url(object.url);
        if chunks > MOST_CHUNKS {
            return Err(Broken::off(&url, "it is said to be too large"));
        }
        let ranges = Ranges {
            into: self.into,
            client,
            object,
            chunk: parallel.chunk,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            progress: Mutex::new(Progress {
                received: vec![0; usize::try_from(chunks).unwrap_or(0)],
                whole: 0,
                meter: Meter::new((), label, Some(total)),
            }),
            failure: Mutex::new(None),
        };
        let workers = parallel
            .requests
            .clamp(1, usize::try_from(chunks).unwrap_or(usize::MAX));
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| ranges.work());
            }
        });
        let failure = ranges.failure.into_inner();
        if let Some(failure) = failure.unwrap_or_else(PoisonError::into_inner) {
            return Err(failure);
        }
        if self.held() != total {
            return Err(Broken::off(&url, "a part is missing"));
        }
        let progress = ranges.progress.into_inner();
        progress
            .unwrap_or_else(PoisonError::into_inner)
            .meter
            .finish();
        Ok(())
    }
}

/// Asks for as little as can be, to learn how long an object is and whether it can be had in parts.
pub(crate) const PROBE: (&str, &str) = ("Range", "bytes=0-0");

/// An object that can be had in parts.
pub(crate) struct Object<'a> {
    url: &'a str,
    own: Vec<(String, String)>,
    etag: Option<String>,
    pub(crate) total: u64,
}

impl<'a> Object<'a> {
    /// What the answer to [`PROBE`] tells of it. `own`: headers that its server wants with every request.
    pub(crate) fn probed(
        url: &'a str,
        own: Vec<(String, String)>,
        answer: &Answer,
    ) -> Option<Self> {
        if answer.status != 206 {
            return None;
        }
        Some(Self {
            url,
            own,
            etag: strong_etag(answer),
            total: content_range(answer)?.1?,
        })
    }
}

/// An object on its way, in ranges.
struct Ranges<'a> {
    into: &'a Growing,
    client: &'a Client,
    object: &'a Object<'a>,
    chunk: u64,
    next: AtomicU64,
    stop: AtomicBool,
    progress: Mutex<Progress>,
    failure: Mutex<Option<Broken>>,
}

struct Progress {
    /// Bytes of each chunk.
    received: Vec<u64>,
    /// Chunks from the beginning that are whole.
    whole: usize,
    meter: Meter<()>,
}

impl Ranges<'_> {
    fn work(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let begin = number * self.chunk;
            if self.stop.load(Ordering::Relaxed) || begin >= self.object.total {
                return;
            }
            let end = (begin + self.chunk).min(self.object.total);
            let mut at = begin;
            let mut failed = 0;
            while let Err(broken) = self.fetch(&mut at, begin, end) {
                failed += 1;
                let pause = TRIES.pause_after(failed, broken.again());
                let Some(pause) = pause.filter(|_| !self.stop.load(Ordering::Relaxed)) else {
                    self.stop.store(true, Ordering::Relaxed);
                    let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert(broken);
                    return;
                };
                thread::sleep(pause);
            }
        }
    }

    /// The rest of a chunk.
    fn fetch(&self, at: &mut u64, begin: u64, end: u64) -> Result<(), Broken> {
        let mut headers = vec![("Range".into(), format!("bytes={at}-{}", end - 1))];
        if let Some(etag) = &self.object.etag {
            // All ranges are of one object.
            headers.push(("If-Match".into(), etag.clone()));
        }
        let answer = self
            .client
            .follow(&Method::GET, self.object.url, &self.object.own, &headers)
            .map_err(|error| Broken::Off(error.into()))?;
        let url = answer.url().to_owned();
        let is_part = answer.status == 206
            && content_range(&answer)
                .is_some_and(|(from, total)| from == *at && total == Some(self.object.total));
        if !is_part {
            return Err(Broken::Off(Problem {
                text: format!(
                    "the download from {url} broke off: the server gives no part of it ({})",
                    answer.status_text()
                ),
                again: Again::after(&answer),
            }));
        }
        // Never more than was asked for: the next part may be there already.
        let mut reader = answer.into_reader().take(end - *at);
        copy(&url, &mut reader, |bytes| {
            self.into.file().write_all_at(bytes, *at)?;
            *at += bytes.len() as u64;
            self.tell(*at, begin, bytes.len() as u64);
            Ok(())
        })?;
        if *at < end {
            return Err(Broken::off(&url, CLOSED));
        }
        Ok(())
    }

    /// A chunk has come to `at`.
    fn tell(&self, at: u64, begin: u64, more: u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.meter.count(more);
        // There are not more of them than fit into memory.
        progress.received[(begin / self.chunk) as usize] = at - begin;
        let len = |number: usize| {
            let begin = number as u64 * self.chunk;
            self.chunk.min(self.object.total - begin)
        };
        while progress
            .received
            .get(progress.whole)
            .is_some_and(|&received| received == len(progress.whole))
        {
            progress.whole += 1;
        }
        let part = progress.received.get(progress.whole).copied();
        let whole = progress.whole as u64 * self.chunk;
        self.into
            .grow_to((whole + part.unwrap_or_default()).min(self.object.total));
    }
}

const CLOSED: &str = "the connection was closed too early";

/// Gives a body in pieces; its length. `from`: the address that it comes from.
fn copy(
    from: &str,
    reader: &mut impl Read,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<u64, Broken> {
    let mut buffer = vec![0; 256 << 10];
    let mut came = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(came),
            Ok(read) => {
                take(&buffer[..read]).map_err(Broken::Write)?;
                came += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::off(from, &error.to_string())),
        }
    }
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header("content-length")?.parse().ok()
}

/// A tag that says the same of the same bytes only.
fn strong_etag(answer: &Answer) -> Option<String> {
    let etag = answer.header("etag")?;
    (!etag.starts_with("W/")).then(|| etag.to_owned())
}

/// First byte and total length of `bytes a-b/n`.
fn content_range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let text = answer.header("content-range")?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let from = range.split_once('-')?.0.trim().parse().ok()?;
    Some((from, total.trim().parse().ok()))
}
