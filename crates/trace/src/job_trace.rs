//! One job's log as the rest of the program sees it.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::spool::{Spool, SpoolReader};
use crate::{Clock, Phrase, Stream, TraceError, TraceOptions};

mod entry;
#[cfg(test)]
mod tests;
mod writer;

use entry::Entry;
use writer::Writer;

/// How far a log has come: what can be read and what the server must be told. All three fields
/// belong together, so take them from one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceProgress {
    /// Bytes that can be read and sent.
    pub len: u64,
    /// CRC32 (IEEE) of exactly those bytes.
    pub checksum: u32,
    /// No more will come.
    pub finished: bool,
}

impl TraceProgress {
    /// The checksum as GitLab wants it: `crc32:` and 8 lower-case hex digits
    /// (coordinator-api §7).
    #[must_use]
    pub fn checksum_text(&self) -> String {
        format!("crc32:{:08x}", self.checksum)
    }
}

/// How a line of the runner looks (coordinator-api §11, ANSI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Plain: `␛[0K<text>␛[0;m`.
    Print,
    /// Bold green.
    Info,
    /// Yellow, with `WARNING: `.
    Warning,
    /// Bold red, with `ERROR: `. Also the peer's "soft error".
    Error,
}

/// What became of the raw bytes of one [`JobTrace::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Raw bytes of this stream, counted from its first, whose effect is in the spool.
    pub consumed: u64,
    /// Start marks found in this stream, now and before.
    pub start_marks: u32,
}

/// What the spool knows of one raw stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Raw bytes whose effect is in the spool, counted from the stream's first byte.
    pub consumed: u64,
    /// CRC32 of those raw bytes.
    pub raw_checksum: u32,
    /// Start marks found in this stream.
    pub start_marks: u32,
    /// [`JobTrace::close_source`] was called and nothing was written since.
    pub closed: bool,
}

/// What [`JobTrace::open`] found and had to cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// Bytes of output kept.
    pub len: u64,
    /// Bytes of output after the last whole record, cut off. Their raw bytes are replayed.
    pub trace_bytes_cut: u64,
    /// Bytes of a torn last record, cut off.
    pub cursor_bytes_cut: u64,
    /// Whole records whose output was not on the disk. Never after the death of a process alone:
    /// the machine lost power or somebody changed the files.
    pub records_lost: u64,
    /// [`JobTrace::finish`] was called before.
    pub finished: bool,
}

/// One job's log. Cheap to clone; all clones are the same log.
///
/// Writing calls do a short write to the page cache under a lock that is never held across an
/// await. Nothing is synced to the disk: the promise covers the death of the process, not of the
/// machine (design, Durability).
#[derive(Clone)]
pub struct JobTrace(Arc<Shared>);

struct Shared {
    writer: Mutex<Writer>,
    progress: watch::Sender<TraceProgress>,
    reader: SpoolReader,
    clock: Clock,
}

impl JobTrace {
    /// Makes the files of a new log in `folder` (which exists), mode 0600.
    ///
    /// # Errors
    /// [`TraceError::Io`] or [`TraceError::DiskFull`], also when the files exist already.
    pub fn create(folder: &Path, options: TraceOptions) -> Result<Self, TraceError> {
        let spool = Spool::create(folder, options.limit_bytes)?;
        Ok(Self::over(spool, options))
    }

    /// Opens the log of a job that an earlier process began; makes it if its files were never made.
    /// `options` must be the ones it was created with, plus phrases added since.
    ///
    /// # Errors
    /// [`TraceError::Corrupt`], [`TraceError::Version`], [`TraceError::Io`].
    pub fn open(folder: &Path, options: TraceOptions) -> Result<(Self, Opened), TraceError> {
        let (spool, opened) = Spool::open(folder, options.limit_bytes)?;
        Ok((Self::over(spool, options), opened))
    }

    /// Writes one line of the runner with colour, reset and line break added. Never fails: on a
    /// full disk the line waits in memory, and [`JobTrace::finish`] tells.
    pub fn line(&self, level: Level, text: &str) {
        self.entry(None, Entry::Line { level, text });
    }

    /// As [`JobTrace::line`], but at most once per `key` in the life of the log, over all
    /// restarts. Returns whether the line was written now.
    pub fn line_once(&self, key: &str, level: Level, text: &str) -> bool {
        self.entry(Some(key), Entry::Line { level, text })
    }

    /// Plain line: `line(Level::Print, …)`.
    pub fn println(&self, text: &str) {
        self.line(Level::Print, text);
    }

    /// Info line: `line(Level::Info, …)`.
    pub fn infoln(&self, text: &str) {
        self.line(Level::Info, text);
    }

    /// Warning line: `line(Level::Warning, …)`.
    pub fn warningln(&self, text: &str) {
        self.line(Level::Warning, text);
    }

    /// Error line: `line(Level::Error, …)`.
    pub fn errorln(&self, text: &str) {
        self.line(Level::Error, text);
    }

    /// Writes bytes to the runner's stream as they are (masked, but no colour or line break added).
    pub fn raw(&self, text: &[u8]) {
        self.entry(None, Entry::Raw(text));
    }

    /// As [`JobTrace::raw`], at most once per `key`. Returns whether it was written now.
    pub fn raw_once(&self, key: &str, text: &[u8]) -> bool {
        self.entry(Some(key), Entry::Raw(text))
    }

    /// Opens a section and prints its title line. Without `sections` only the title is printed.
    pub fn section_start(&self, name: &str, title: &str) {
        self.entry(None, Entry::SectionStart { name, title });
    }

    /// Closes a section; without `sections` nothing.
    pub fn section_end(&self, name: &str) {
        self.entry(None, Entry::SectionEnd { name });
    }

    /// As [`JobTrace::section_start`], at most once per `key`. Returns whether it was written now.
    pub fn section_start_once(&self, key: &str, name: &str, title: &str) -> bool {
        self.entry(Some(key), Entry::SectionStart { name, title })
    }

    /// As [`JobTrace::section_end`], at most once per `key`. Returns whether it was written now.
    pub fn section_end_once(&self, key: &str, name: &str) -> bool {
        self.entry(Some(key), Entry::SectionEnd { name })
    }

    /// Takes raw output of a container in. `source` is the container's key: its id, or anything
    /// else that a restarted process can name again and that no other container of the job has.
    /// Best in pieces of up to 64 KiB: each call makes at least one spool record.
    ///
    /// After [`JobTrace::begin_replay`] the bytes are those of the container's log from its first
    /// byte on, and what was consumed before is skipped.
    ///
    /// # Errors
    /// [`TraceError::DiskFull`] or [`TraceError::Io`]: nothing was taken in, call again with the
    /// same bytes. [`TraceError::Finished`] after [`JobTrace::finish`].
    pub fn write(&self, source: &str, stream: Stream, raw: &[u8]) -> Result<Written, TraceError> {
        let now = self.0.clock.now();
        self.with(|writer| {
            writer.write(source, &[(stream, raw)], now)?;
            Ok(writer.written(source, stream))
        })
    }

    /// As [`JobTrace::write`] for many frames of one source at once, in order: for readers that take
    /// many small frames out of one read. Neighbours of one stream are processed as one piece, and
    /// records are written once per 32 KiB of output, not once per frame.
    ///
    /// # Errors
    /// As [`JobTrace::write`].
    pub fn write_frames(&self, source: &str, frames: &[(Stream, &[u8])]) -> Result<(), TraceError> {
        let now = self.0.clock.now();
        self.with(|writer| writer.write(source, frames, now))
    }

    /// The source is at its end: what was held back is written. Closing twice does nothing more.
    ///
    /// # Errors
    /// As [`JobTrace::write`].
    pub fn close_source(&self, source: &str) -> Result<(), TraceError> {
        let now = self.0.clock.now();
        self.with(|writer| writer.close_source(source, now))
    }

    /// What the spool knows of a stream; zero if it has none of it.
    #[must_use]
    pub fn position(&self, source: &str, stream: Stream) -> Position {
        self.lock().position(source, stream)
    }

    /// From now on [`JobTrace::write`] gets this source's log again from its first byte. Bytes held
    /// back in memory are forgotten (they come again), consumed ones are skipped after a check of
    /// their checksum. If the log differs, the trace goes on at the last common line break and
    /// says so in a warning line. May be called any number of times.
    pub fn begin_replay(&self, source: &str) {
        self.lock().begin_replay(source);
    }

    /// From now on [`JobTrace::write`] gets this source's bytes from [`Position::consumed`] of each
    /// stream on: for a source that keeps its output until it is consumed, after its connection
    /// was lost. Bytes held back in memory are forgotten (they come again). After
    /// [`JobTrace::open`] this is how every source stands.
    pub fn begin_at_position(&self, source: &str) {
        self.lock().begin_at_position(source);
    }

    /// Adds phrases while the job runs: secrets resolved late, the start mark of the next stage.
    pub fn add_phrases(&self, phrases: impl IntoIterator<Item = Phrase>) {
        self.lock().add_phrases(phrases);
    }

    /// No more output: closes all sources, so that what was held back is in, and tells readers.
    /// Later lines are dropped. Calling it again does nothing more.
    ///
    /// # Errors
    /// [`TraceError::DiskFull`] or [`TraceError::Io`] when output is still in memory only; call
    /// again later.
    pub fn finish(&self) -> Result<(), TraceError> {
        let now = self.0.clock.now();
        self.with(|writer| writer.finish(now))
    }

    /// Length, checksum and end as one consistent value.
    #[must_use]
    pub fn progress(&self) -> TraceProgress {
        *self.0.progress.borrow()
    }

    /// Bytes that can be read.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.progress().len
    }

    /// No byte can be read yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// CRC32 of the bytes that can be read.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.progress().checksum
    }

    /// Follows growth and the end: `changed().await`, then look at the value.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<TraceProgress> {
        self.0.progress.subscribe()
    }

    /// Reads up to `max` bytes (at most 1 MiB) from `offset`, while writing goes on. Empty at or
    /// past the end. Reads the page cache; takes no lock of the writer.
    ///
    /// # Errors
    /// [`TraceError::Io`].
    pub fn read_at(&self, offset: u64, max: usize) -> Result<Vec<u8>, TraceError> {
        self.0.reader.read(offset, max, self.len())
    }

    fn over(spool: Spool, options: TraceOptions) -> Self {
        Self(Arc::new(Shared {
            progress: watch::Sender::new(spool.progress()),
            reader: spool.reader(),
            clock: options.clock.clone(),
            writer: Mutex::new(Writer::new(spool, options)),
        }))
    }

    fn entry(&self, key: Option<&str>, entry: Entry<'_>) -> bool {
        let now = self.0.clock.now();
        self.with(|writer| writer.entry(key, entry, now))
    }

    /// Lets `act` write, then tells readers what is new.
    fn with<R>(&self, act: impl FnOnce(&mut Writer) -> R) -> R {
        let mut writer = self.lock();
        let result = act(&mut writer);
        let now = writer.progress();
        // Under the lock, so that readers see progress in order.
        self.0.progress.send_if_modified(|last| {
            let grown = *last != now;
            *last = now;
            grown
        });
        result
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // The writer's state is whole between its calls into foreign code; there is none that
        // could panic half-way through a change.
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for JobTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobTrace").field(&self.progress()).finish()
    }
}
