//! The log on disk, and how much of which raw stream is in it.
//!
//! Two files in the job's folder, mode 0600: `trace`, the output, contiguous; `cursor`, records
//! that each say how long the output is, its checksum, and how many raw bytes of each stream made
//! it. Output is written first, then the record; a process that dies in between leaves output
//! without a record, which the next start cuts off and makes again from the raw bytes. Only output
//! with a record can be read.
//!
//! Bytes that could not be written (disk full) wait in memory in order; [`Spool::commit`] tries
//! again. Nothing is synced: the promise covers the death of the process, and loss of power is
//! found by the checksums.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;

use crate::job_trace::{Opened, TraceProgress};
use crate::limit::Limit;
use crate::processor::Consumed;
use crate::replay::Places;
use crate::{Stream, TraceError};

mod files;
mod open;
mod record;
#[cfg(test)]
mod tests;

pub use files::{LONGEST_READ, SpoolReader};

use files::NamedFile;
use record::{Header, Record, Update, VERSION};

/// A cursor is rewritten when it is larger than this and than 8 times what it must say.
const LONGEST_CURSOR: u64 = 1024 * 1024;

/// How much memory the buffers keep between two commits.
const KEPT_CAPACITY: usize = 16 * 1024;

/// What the spool knows of one raw stream.
#[derive(Debug, Clone, Default)]
pub struct StreamCursor {
    /// How far it is consumed.
    pub consumed: Consumed,
    /// Its source was closed and nothing came after.
    pub closed: bool,
    /// The last few consumed places at a line break, for a replay that differs.
    pub places: Places,
}

/// The log of one job on disk. One writer; readers have a [`SpoolReader`].
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    trace: Arc<NamedFile>,
    cursor: NamedFile,
    /// Output in the file.
    trace_len: u64,
    /// Output that is not yet in the file.
    tail: Vec<u8>,
    /// Over all output, in the file or not.
    checksum: Hasher,
    limit: Limit,
    /// Records in the file.
    cursor_len: u64,
    /// Records that are not yet in the file.
    cursor_tail: Vec<u8>,
    /// Rewrite the cursor when it is longer than this.
    rewrite_above: u64,
    sources: Vec<String>,
    /// How many of `sources` a record names.
    sources_recorded: usize,
    streams: HashMap<(usize, Stream), StreamCursor>,
    /// Streams that moved since the last record.
    moved: Vec<(usize, Stream)>,
    once: HashSet<String>,
    new_once: Vec<String>,
    finished: bool,
    /// `finished` or the end of the limit is not in a record yet.
    flags_changed: bool,
    /// What the last record in the file says.
    progress: TraceProgress,
}

impl Spool {
    /// Makes the files of a new spool in `folder`.
    ///
    /// # Errors
    /// [`TraceError::Io`] (also when they exist) or [`TraceError::DiskFull`].
    pub fn create(folder: &Path, limit_bytes: u64) -> Result<Self, TraceError> {
        let trace = NamedFile::open(folder.join(files::TRACE), true)?;
        let cursor = NamedFile::open(folder.join(files::CURSOR), true)?;
        let mut spool = Self::empty(folder, trace, cursor, limit_bytes);
        spool.write_header()?;
        Ok(spool)
    }

    /// Opens a spool, makes its files if there are none, and cuts off what has no whole record.
    ///
    /// # Errors
    /// [`TraceError::Corrupt`] when a record or the output does not match its checksum,
    /// [`TraceError::Version`], [`TraceError::Io`].
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<(Self, Opened), TraceError> {
        open::open(folder, limit_bytes)
    }

    fn empty(folder: &Path, trace: NamedFile, cursor: NamedFile, limit_bytes: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            trace: Arc::new(trace),
            cursor,
            trace_len: 0,
            tail: Vec::new(),
            checksum: Hasher::new(),
            limit: Limit::new(limit_bytes, false),
            cursor_len: 0,
            cursor_tail: Vec::new(),
            rewrite_above: LONGEST_CURSOR,
            sources: Vec::new(),
            sources_recorded: 0,
            streams: HashMap::new(),
            moved: Vec::new(),
            once: HashSet::new(),
            new_once: Vec::new(),
            finished: false,
            flags_changed: false,
            progress: TraceProgress::default(),
        }
    }

    fn write_header(&mut self) -> Result<(), TraceError> {
        let mut line = Vec::new();
        record::write_line(&Header { version: VERSION }, &mut line);
        self.cursor.write_at(&line, 0)?;
        self.cursor_len = line.len() as u64;
        Ok(())
    }

    /// Lets `write` append output to the log, then applies the limit to what it appended.
    pub fn append<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let from = self.tail.len();
        let result = write(&mut self.tail);
        let before = self.limit.reached();
        let len = self.trace_len + from as u64;
        self.limit.apply(len, &mut self.tail, from);
        self.flags_changed |= before != self.limit.reached();
        self.checksum.update(&self.tail[from..]);
        result
    }

    /// The output appended so far used up the raw bytes of a stream up to this place.
    pub fn advance(&mut self, source: &str, stream: Stream, consumed: &Consumed, closed: bool) {
        let number = self.source_number(source);
        let cursor = self.streams.entry((number, stream)).or_default();
        cursor.consumed.clone_from(consumed);
        cursor.closed = closed;
        cursor.places.note(consumed);
        if !self.moved.contains(&(number, stream)) {
            self.moved.push((number, stream));
        }
    }

    /// Notes the key of an entry that must be written once. The output of the entry must be
    /// appended before the next commit. `false`: it was noted before.
    pub fn once(&mut self, key: &str) -> bool {
        let new = self.once.insert(key.to_owned());
        if new {
            self.new_once.push(key.to_owned());
        }
        new
    }

    /// The log is at its end.
    pub fn finish(&mut self) {
        self.flags_changed |= !self.finished;
        self.finished = true;
    }

    /// Writes what was appended and a record for it. On an error nothing is lost: it waits in
    /// memory for the next commit.
    ///
    /// # Errors
    /// [`TraceError::DiskFull`] or [`TraceError::Io`].
    pub fn commit(&mut self) -> Result<TraceProgress, TraceError> {
        if self.has_changes() {
            self.write_record();
        }
        if !self.tail.is_empty() {
            self.trace.write_at(&self.tail, self.trace_len)?;
            self.trace_len += self.tail.len() as u64;
            self.tail.clear();
            self.tail.shrink_to(KEPT_CAPACITY);
        }
        if !self.cursor_tail.is_empty() {
            self.cursor.write_at(&self.cursor_tail, self.cursor_len)?;
            self.cursor_len += self.cursor_tail.len() as u64;
            self.cursor_tail.clear();
            self.cursor_tail.shrink_to(KEPT_CAPACITY);
            self.progress = self.current();
            self.rewrite_if_long();
        }
        Ok(self.progress)
    }

    /// Commits if that is possible now; what cannot be written waits for the next commit.
    pub fn commit_or_wait(&mut self) {
        self.commit().ok();
    }

    /// What was last committed: what can be read.
    #[must_use]
    pub fn progress(&self) -> TraceProgress {
        self.progress
    }

    /// Output that waits in memory for the next commit, in bytes.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tail.len()
    }

    /// The last commit failed: output or records wait in memory.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.cursor_tail.is_empty()
    }

    /// The limit is reached: more output is dropped.
    #[must_use]
    pub fn limit_reached(&self) -> bool {
        self.limit.reached()
    }

    /// The log is at its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What is known of a stream.
    #[must_use]
    pub fn stream(&self, source: &str, stream: Stream) -> Option<&StreamCursor> {
        let number = self.sources.iter().position(|known| known == source)?;
        self.streams.get(&(number, stream))
    }

    /// The sources with a stream that is not closed.
    pub fn open_sources(&self) -> impl Iterator<Item = String> {
        let open = self.streams.iter().filter(|(_, cursor)| !cursor.closed);
        open.map(|(key, _)| self.sources[key.0].clone())
    }

    /// Reads what was committed.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader {
            trace: Arc::clone(&self.trace),
        }
    }

    fn source_number(&mut self, source: &str) -> usize {
        // A job has a handful of sources, the newest is the one that writes.
        if let Some(number) = self.sources.iter().rposition(|known| known == source) {
            return number;
        }
        self.sources.push(source.to_owned());
        self.sources.len() - 1
    }

    fn current(&self) -> TraceProgress {
        TraceProgress {
            len: self.trace_len + self.tail.len() as u64,
            checksum: self.checksum.clone().finalize(),
            finished: self.finished,
        }
    }

    fn has_changes(&self) -> bool {
        self.flags_changed || !self.moved.is_empty() || !self.new_once.is_empty()
    }

    /// Makes the record of what changed since the last one.
    fn write_record(&mut self) {
        let current = self.current();
        let moved = std::mem::take(&mut self.moved);
        let record = Record {
            len: current.len,
            checksum: current.checksum,
            base: false,
            limit_reached: self.limit.reached(),
            finished: self.finished,
            sources: self.sources[self.sources_recorded..].to_vec(),
            once: std::mem::take(&mut self.new_once),
            updates: moved.iter().map(|key| self.update(*key, false)).collect(),
        };
        record::write_line(&record, &mut self.cursor_tail);
        self.sources_recorded = self.sources.len();
        self.flags_changed = false;
        self.moved = moved;
        self.moved.clear();
    }

    fn update(&self, key: (usize, Stream), with_places: bool) -> Update {
        let cursor = &self.streams[&key];
        Update {
            source: key.0,
            stream: key.1,
            consumed: cursor.consumed.bytes,
            checksum: cursor.consumed.checksum,
            state: cursor.consumed.state.clone(),
            closed: cursor.closed,
            earlier: if with_places {
                cursor.places.to_vec()
            } else {
                Vec::new()
            },
        }
    }

    /// Rewrites the cursor as one record when it has grown long. Everything must be committed.
    fn rewrite_if_long(&mut self) {
        if self.cursor_len <= self.rewrite_above {
            return;
        }
        let current = self.current();
        let mut keys: Vec<_> = self.streams.keys().copied().collect();
        keys.sort_unstable();
        let mut once: Vec<_> = self.once.iter().cloned().collect();
        once.sort_unstable();
        let base = Record {
            len: current.len,
            checksum: current.checksum,
            base: true,
            limit_reached: self.limit.reached(),
            finished: self.finished,
            sources: self.sources.clone(),
            once,
            updates: keys.into_iter().map(|key| self.update(key, true)).collect(),
        };
        let mut content = Vec::new();
        record::write_line(&Header { version: VERSION }, &mut content);
        record::write_line(&base, &mut content);
        // A failure (disk full) changes nothing: the long cursor stays right.
        if let Ok(cursor) = files::replace_cursor(&self.folder, &content) {
            self.cursor = cursor;
            self.cursor_len = content.len() as u64;
        }
        self.rewrite_above = LONGEST_CURSOR.max(self.cursor_len.saturating_mul(8));
    }
}
