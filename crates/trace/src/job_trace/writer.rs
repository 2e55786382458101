//! The writing side of a job's log: processors of its streams over one spool.

use std::sync::Arc;

use jiff::Timestamp;

use super::entry::Entry;
use super::{Level, Position, TraceProgress, Written};
use crate::lines::Stamp;
use crate::mask::MaskSet;
use crate::processor::{Consumed, StreamProcessor, StreamState};
use crate::replay::{ReplaySkipper, Resumed, Seam};
use crate::spool::Spool;
use crate::{Phrase, RUNNER_SOURCE, Stream, TraceError, TraceOptions};

/// Raw bytes are processed in slices of this size, to bound the memory of their output.
const SLICE: usize = 16 * 1024;

/// Output is written to the file when this much of it has come together.
const FLUSH_AT: usize = 32 * 1024;

/// Past the limit a stream's place is recorded once per this many raw bytes.
const DRAIN_STEP: u64 = 1024 * 1024;

/// Runner lines are dropped when this much output waits for a full disk.
const MOST_WAITING: usize = 256 * 1024;

/// A stream that is being written.
struct Live {
    source: String,
    stream: Stream,
    processor: StreamProcessor,
    /// Set while replayed bytes are skipped.
    skipper: Option<ReplaySkipper>,
    /// The count of consumed bytes that the spool was last told.
    recorded: u64,
    /// The spool must be told before the next commit.
    moved: bool,
}

/// All that writes into one job's log.
pub(super) struct Writer {
    spool: Spool,
    setting: Setting,
    sections: bool,
    runner: StreamProcessor,
    /// A job has a handful of these at a time.
    streams: Vec<Live>,
}

/// What a new processor is made with.
struct Setting {
    masks: Arc<MaskSet>,
    timestamps: bool,
}

impl Setting {
    fn processor(&self, stream: Stream, consumed: Consumed) -> StreamProcessor {
        StreamProcessor::resume(stream, self.timestamps, Arc::clone(&self.masks), consumed)
    }
}

impl Writer {
    pub(super) fn new(spool: Spool, options: TraceOptions) -> Self {
        let setting = Setting {
            masks: Arc::new(MaskSet::new(options.phrases, &options.token_prefixes)),
            timestamps: options.timestamps,
        };
        let runner = spool.stream(RUNNER_SOURCE, Stream::Executor);
        let runner = runner.map(|cursor| cursor.consumed.clone());
        Self {
            runner: setting.processor(Stream::Executor, runner.unwrap_or_default()),
            sections: options.sections,
            streams: Vec::new(),
            setting,
            spool,
        }
    }

    /// What can be read.
    pub(super) fn progress(&self) -> TraceProgress {
        self.spool.progress()
    }

    /// Writes an entry of the runner, at most once if it has a key.
    pub(super) fn entry(&mut self, key: Option<&str>, entry: Entry<'_>, now: Timestamp) -> bool {
        if self.spool.waiting() > MOST_WAITING {
            self.commit_or_wait();
        }
        if self.spool.is_finished() || self.spool.waiting() > MOST_WAITING {
            return false;
        }
        if key.is_some_and(|key| !self.spool.once(key)) {
            return false;
        }
        self.append_entry(entry, now);
        self.commit_or_wait();
        true
    }

    fn append_entry(&mut self, entry: Entry<'_>, now: Timestamp) {
        let stamp = Stamp::new(now);
        let runner = &mut self.runner;
        self.spool.append(|out| {
            for piece in entry.pieces(self.sections, now) {
                runner.push_whole(&piece, &stamp, out);
            }
        });
        self.spool
            .advance(RUNNER_SOURCE, Stream::Executor, runner.consumed(), false);
    }

    /// Takes raw bytes in. An error means that none were.
    pub(super) fn write(
        &mut self,
        source: &str,
        frames: &[(Stream, &[u8])],
        now: Timestamp,
    ) -> Result<(), TraceError> {
        self.ready()?;
        let stamp = Stamp::new(now);
        // Many small frames cost less as one piece, and a line in pieces stays one line.
        let mut joined = Vec::new();
        for run in frames.chunk_by(|one, next| one.0 == next.0) {
            let stream = run[0].0;
            if let [(_, raw)] = run {
                self.take(source, stream, raw, &stamp, now);
                continue;
            }
            for (_, raw) in run {
                if joined.len() + raw.len() > SLICE {
                    self.take(source, stream, &joined, &stamp, now);
                    joined.clear();
                }
                joined.extend_from_slice(raw);
            }
            self.take(source, stream, &joined, &stamp, now);
            joined.clear();
        }
        self.commit_or_wait();
        Ok(())
    }

    fn take(&mut self, source: &str, stream: Stream, raw: &[u8], stamp: &Stamp, now: Timestamp) {
        let at = self.live(source, stream);
        let Some(skipper) = &mut self.streams[at].skipper else {
            self.feed(at, raw, stamp);
            return;
        };
        let Some(resumed) = skipper.push(raw) else {
            return;
        };
        self.streams[at].skipper = None;
        if resumed.seam != Seam::Exact {
            self.rewind(at, &resumed, now);
        }
        self.feed(at, &resumed.bytes, stamp);
    }

    /// Lets a stream's processor take raw bytes.
    fn feed(&mut self, at: usize, raw: &[u8], stamp: &Stamp) {
        for slice in raw.chunks(SLICE) {
            let live = &mut self.streams[at];
            let marked = live.processor.start_marks();
            let step = if self.spool.limit_reached() {
                live.processor.drain(slice);
                DRAIN_STEP
            } else {
                let processor = &mut live.processor;
                self.spool.append(|out| {
                    processor.push(slice, stamp, out);
                });
                1
            };
            let consumed = live.processor.consumed().bytes;
            live.moved |= consumed - live.recorded >= step;
            live.moved |= marked != live.processor.start_marks();
            if self.spool.waiting() >= FLUSH_AT {
                self.commit_or_wait();
            }
        }
    }

    /// Tells the spool what the output used up and writes both. What cannot be written now stays
    /// in memory: the next call tries again, and takes nothing in as long as that fails.
    fn commit_or_wait(&mut self) {
        self.advance();
        self.spool.commit_or_wait();
    }

    fn advance(&mut self) {
        for live in self.streams.iter_mut().filter(|live| live.moved) {
            let consumed = live.processor.consumed();
            self.spool
                .advance(&live.source, live.stream, consumed, false);
            live.recorded = consumed.bytes;
            live.moved = false;
        }
    }

    /// The replayed log differs: goes on at a line break before, and says so.
    fn rewind(&mut self, at: usize, resumed: &Resumed<'_>, now: Timestamp) {
        let live = &mut self.streams[at];
        let in_line = !live.processor.consumed().state.at_line_start();
        let consumed = Consumed {
            bytes: resumed.offset,
            checksum: resumed.checksum,
            state: StreamState::line_start(live.processor.start_marks()),
        };
        self.spool
            .advance(&live.source, live.stream, &consumed, false);
        live.recorded = consumed.bytes;
        live.processor = self.setting.processor(live.stream, consumed);
        if in_line && !self.setting.timestamps {
            self.append_entry(Entry::Raw(b"\n"), now);
        }
        let (level, text) = (Level::Warning, seam_text(resumed.seam));
        self.append_entry(Entry::Line { level, text }, now);
    }

    /// The place in `streams` of a stream. A new one begins where the spool is.
    fn live(&mut self, source: &str, stream: Stream) -> usize {
        if let Some(at) = self.find(source, stream) {
            return at;
        }
        let cursor = self.spool.stream(source, stream);
        let consumed = cursor.map(|cursor| cursor.consumed.clone());
        let consumed = consumed.unwrap_or_default();
        self.streams.push(Live {
            source: source.to_owned(),
            stream,
            recorded: consumed.bytes,
            processor: self.setting.processor(stream, consumed),
            skipper: None,
            moved: false,
        });
        self.streams.len() - 1
    }

    fn find(&self, source: &str, stream: Stream) -> Option<usize> {
        self.streams
            .iter()
            .position(|live| live.stream == stream && live.source == source)
    }

    /// Writes what a source held back.
    pub(super) fn close_source(&mut self, source: &str, now: Timestamp) -> Result<(), TraceError> {
        self.ready()?;
        self.close_streams(source, &Stamp::new(now));
        self.commit_or_wait();
        Ok(())
    }

    fn close_streams(&mut self, source: &str, stamp: &Stamp) {
        for stream in Stream::ALL {
            let mut processor = match (self.find(source, stream), self.spool.stream(source, stream))
            {
                (Some(at), _) => self.streams.swap_remove(at).processor,
                (None, Some(cursor)) if !cursor.closed => {
                    self.setting.processor(stream, cursor.consumed.clone())
                }
                (None, _) => continue,
            };
            self.spool.append(|out| {
                processor.close(stamp, out);
            });
            self.spool
                .advance(source, stream, processor.consumed(), true);
        }
    }

    /// Ends the log. An error means that some of it is in memory only.
    pub(super) fn finish(&mut self, now: Timestamp) -> Result<(), TraceError> {
        if !self.spool.is_finished() {
            let stamp = Stamp::new(now);
            let live = self.streams.iter().map(|live| live.source.clone());
            let mut open: Vec<String> = live.chain(self.spool.open_sources()).collect();
            open.retain(|source| source != RUNNER_SOURCE);
            open.sort_unstable();
            open.dedup();
            for source in open {
                self.close_streams(&source, &stamp);
            }
            let runner = &mut self.runner;
            self.spool.append(|out| {
                runner.close(&stamp, out);
            });
            self.spool
                .advance(RUNNER_SOURCE, Stream::Executor, runner.consumed(), true);
            self.spool.finish();
        }
        self.spool.commit().map(|_| ())
    }

    /// What became of a stream's raw bytes so far.
    pub(super) fn written(&self, source: &str, stream: Stream) -> Written {
        let Some(at) = self.find(source, stream) else {
            return Written::default();
        };
        let processor = &self.streams[at].processor;
        Written {
            consumed: processor.consumed().bytes,
            start_marks: processor.start_marks(),
        }
    }

    pub(super) fn position(&self, source: &str, stream: Stream) -> Position {
        let Some(cursor) = self.spool.stream(source, stream) else {
            return Position::default();
        };
        // Marks that are found but not consumed yet count here, and are found again after a restart.
        let live = self
            .find(source, stream)
            .map(|at| self.streams[at].processor.start_marks());
        Position {
            consumed: cursor.consumed.bytes,
            raw_checksum: cursor.consumed.checksum,
            start_marks: live.unwrap_or(cursor.consumed.state.start_marks()),
            closed: cursor.closed,
        }
    }

    /// Goes back to what the spool knows of a source.
    pub(super) fn begin_at_position(&mut self, source: &str) {
        self.streams.retain(|live| live.source != source);
    }

    /// Goes back to what the spool knows of a source, and skips that much of what comes.
    pub(super) fn begin_replay(&mut self, source: &str) {
        self.begin_at_position(source);
        for stream in Stream::ALL {
            let Some(cursor) = self.spool.stream(source, stream) else {
                continue;
            };
            self.streams.push(Live {
                source: source.to_owned(),
                stream,
                processor: self.setting.processor(stream, cursor.consumed.clone()),
                skipper: Some(ReplaySkipper::new(&cursor.consumed, &cursor.places)),
                recorded: cursor.consumed.bytes,
                moved: false,
            });
        }
    }

    pub(super) fn add_phrases(&mut self, phrases: impl IntoIterator<Item = Phrase>) {
        let masks = Arc::new(self.setting.masks.with(phrases));
        self.runner.set_masks(Arc::clone(&masks));
        for live in &mut self.streams {
            live.processor.set_masks(Arc::clone(&masks));
        }
        self.setting.masks = masks;
    }

    #[cfg(test)]
    pub(super) fn spool_for_tests(&mut self) -> &mut Spool {
        &mut self.spool
    }

    #[cfg(test)]
    pub(super) fn masks_for_tests(&self) -> &MaskSet {
        &self.setting.masks
    }

    /// Whether more can be taken in: what an earlier call left in memory is written first.
    fn ready(&mut self) -> Result<(), TraceError> {
        if self.spool.is_finished() {
            return Err(TraceError::Finished);
        }
        if self.spool.is_behind() {
            self.spool.commit()?;
        }
        Ok(())
    }
}

fn seam_text(seam: Seam) -> &'static str {
    match seam {
        Seam::Exact => "",
        Seam::CommonLine => {
            "The container's log differs from what was read before the runner restarted. \
             It goes on at the last line that both have in common; lines may be repeated."
        }
        Seam::Unknown => {
            "The container's log differs from what was read before the runner restarted, and no \
             common line was found. Lines may be repeated or missing here."
        }
    }
}
