//! From the raw bytes of one stream to log bytes, with the count of raw bytes that this used up.
//!
//! Order: phrases, URL parameters, token prefixes, UTF-8, timestamps (coordinator-api §11). The
//! peer repairs UTF-8 last; doing it before the lines are cut gives the same bytes, except that a
//! character is never cut by the end of an unfinished line.
//!
//! **Consumed** raw bytes are those whose effect is in the output or in the [`StreamState`]. Not
//! consumed are a tail that may become a phrase and, with timestamps, an unfinished line: they are
//! kept in memory, and a restarted process gets them again. So the state at every such point is a
//! few bytes, usually none: after a line break nothing is open but the line itself.

use std::fmt;
use std::sync::Arc;

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::Stream;
use crate::lines::{Lines, Stamp};
use crate::mask::MaskSet;
use crate::mask::params::ParamState;
use crate::mask::phrases::Piece;
use crate::mask::tokens::TokenState;
use crate::utf8::Utf8State;

/// An unfinished line is written once it was made of more raw bytes than this, so that a token
/// without end does not keep the stream from being consumed.
const LONGEST_UNCONSUMED: u64 = 64 * 1024;

/// What a processor must know besides its raw offset to go on from there. Small, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamState {
    /// The next header carries `+`.
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    continuation: bool,
    /// Start marks that were in the stream.
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    start_marks: u32,
    /// The last consumed raw byte was no line break.
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    in_line: bool,
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    params: ParamState,
    #[serde(rename = "t", default, skip_serializing_if = "is_default")]
    tokens: TokenState,
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    utf8: Utf8State,
}

impl StreamState {
    /// How many start marks were in the stream.
    #[must_use]
    pub fn start_marks(&self) -> u32 {
        self.start_marks
    }

    /// The last consumed raw byte was a line break, or there was none yet.
    #[must_use]
    pub fn at_line_start(&self) -> bool {
        !self.in_line
    }

    /// The state at the beginning of a line, with the start marks met so far.
    #[must_use]
    pub fn line_start(start_marks: u32) -> Self {
        Self {
            start_marks,
            ..Self::default()
        }
    }
}

/// The place in a raw stream up to which its bytes are consumed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consumed {
    /// Raw bytes, counted from the first of the stream.
    pub bytes: u64,
    /// CRC32 of them.
    pub checksum: u32,
    /// What else is needed to go on from there.
    pub state: StreamState,
}

/// Turns the raw bytes of one stream into log bytes.
///
/// The output is the same for any cutting of the same raw bytes into pushes, but for the `+`
/// lines and the times of timestamped output.
pub struct StreamProcessor {
    masks: Arc<MaskSet>,
    lines: Option<Lines>,
    params: ParamState,
    tokens: TokenState,
    utf8: Utf8State,
    start_marks: u32,
    in_line: bool,
    /// Raw bytes scanned: consumed ones and those of the unfinished line.
    scanned: u64,
    scanned_checksum: Hasher,
    /// Raw bytes behind the scanned ones that may become a phrase.
    held: Vec<u8>,
    consumed: Consumed,
}

impl StreamProcessor {
    /// A processor at the first byte of a stream.
    #[must_use]
    pub fn new(stream: Stream, timestamps: bool, masks: Arc<MaskSet>) -> Self {
        Self::resume(stream, timestamps, masks, Consumed::default())
    }

    /// A processor that goes on where another one had come to.
    #[must_use]
    pub fn resume(
        stream: Stream,
        timestamps: bool,
        masks: Arc<MaskSet>,
        consumed: Consumed,
    ) -> Self {
        let state = consumed.state.clone();
        Self {
            masks,
            lines: timestamps.then(|| Lines::new(stream, state.continuation)),
            params: state.params,
            tokens: state.tokens,
            utf8: state.utf8,
            start_marks: state.start_marks,
            in_line: state.in_line,
            scanned: consumed.bytes,
            scanned_checksum: Hasher::new_with_initial_len(consumed.checksum, consumed.bytes),
            held: Vec::new(),
            consumed,
        }
    }

    /// What is looked for from now on. Bytes that are held back are searched again with it.
    pub fn set_masks(&mut self, masks: Arc<MaskSet>) {
        self.masks = masks;
    }

    /// Takes the next raw bytes and appends what they give to `out`. One push is one piece of
    /// output as the container wrote it: a `\r` in it, without a line break after, shows at once.
    pub fn push(&mut self, raw: &[u8], stamp: &Stamp, out: &mut Vec<u8>) -> &Consumed {
        self.take(raw, false, stamp, out);
        self.settle(false, out);
        &self.consumed
    }

    /// Takes raw bytes after which no secret can be going on: nothing is held back for phrases.
    /// For the runner's own lines.
    pub fn push_whole(&mut self, raw: &[u8], stamp: &Stamp, out: &mut Vec<u8>) -> &Consumed {
        self.take(raw, true, stamp, out);
        self.settle(false, out);
        &self.consumed
    }

    /// The end of the stream: everything held back is appended to `out` and consumed. Bytes pushed
    /// later begin a new line.
    pub fn close(&mut self, stamp: &Stamp, out: &mut Vec<u8>) -> &Consumed {
        self.take(&[], true, stamp, out);
        let Self { lines, utf8, .. } = self;
        utf8.end(|text| write(lines, text, stamp, out));
        if let Some(lines) = lines {
            lines.end(out);
        }
        self.params = ParamState::default();
        self.tokens = TokenState::default();
        self.settle(true, out);
        &self.consumed
    }

    /// Takes raw bytes whose output would be dropped (the limit is reached): only a start mark is
    /// still looked for.
    pub fn drain(&mut self, raw: &[u8]) -> &Consumed {
        if let Some(lines) = &mut self.lines {
            lines.clear();
        }
        let marks = !self.masks.marks.is_empty();
        let mut buffer = std::mem::take(&mut self.held);
        let taken = if marks {
            buffer.extend_from_slice(raw);
            let masks = Arc::clone(&self.masks);
            let mut seen = 0;
            let taken = masks.marks.scan(&buffer, false, |piece| {
                seen += u32::from(piece == Piece::StartMark);
            });
            self.start_marks += seen;
            self.count(&buffer[..taken]);
            taken
        } else {
            self.count(&buffer);
            self.count(raw);
            buffer.len()
        };
        buffer.drain(..taken);
        self.held = buffer;
        self.consumed.bytes = self.scanned;
        self.consumed.checksum = self.scanned_checksum.clone().finalize();
        self.consumed.state = StreamState {
            in_line: self.in_line,
            ..StreamState::line_start(self.start_marks)
        };
        &self.consumed
    }

    /// How far the stream is consumed.
    #[must_use]
    pub fn consumed(&self) -> &Consumed {
        &self.consumed
    }

    /// How many start marks were found.
    #[must_use]
    pub fn start_marks(&self) -> u32 {
        self.start_marks
    }

    /// Scans the held bytes and `raw`; with timestamps, moves the consumed place to the last line
    /// break.
    fn take(&mut self, raw: &[u8], whole: bool, stamp: &Stamp, out: &mut Vec<u8>) {
        let mut joined = std::mem::take(&mut self.held);
        let buffer = if joined.is_empty() {
            raw
        } else {
            joined.extend_from_slice(raw);
            &joined
        };
        let masks = Arc::clone(&self.masks);
        // The last place where nothing is open, and the start marks up to it: those behind it come again after a restart.
        let mut last_break = None;
        let taken = masks.phrases.scan(buffer, whole, |piece| {
            if let Piece::Raw { bytes, end } = piece
                && let Some(at) = memchr::memrchr(b'\n', bytes)
            {
                last_break = Some((end - bytes.len() + at + 1, self.start_marks));
            }
            self.start_marks += u32::from(piece == Piece::StartMark);
            self.transform(&masks, piece.text(), stamp, out);
        });
        let mut from = 0;
        if let (Some((place, marks)), true) = (last_break, self.lines.is_some()) {
            self.count(&buffer[..place]);
            from = place;
            self.consumed = Consumed {
                bytes: self.scanned,
                checksum: self.scanned_checksum.clone().finalize(),
                state: StreamState::line_start(marks),
            };
        }
        self.count(&buffer[from..taken]);
        if joined.is_empty() {
            self.held.extend_from_slice(&raw[taken..]);
        } else {
            joined.drain(..taken);
            self.held = joined;
        }
    }

    /// Runs text behind the phrase search through the other steps.
    fn transform(&mut self, masks: &MaskSet, text: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        let Self {
            lines,
            params,
            tokens,
            utf8,
            ..
        } = self;
        params.feed(text, |text| {
            masks.tokens.feed(tokens, text, |text| {
                utf8.feed(text, |text| write(lines, text, stamp, out));
            });
        });
    }

    /// After the bytes of a push: writes an unfinished line if it must be, and moves the consumed
    /// place to all that was scanned if nothing but the held bytes is open.
    fn settle(&mut self, closed: bool, out: &mut Vec<u8>) {
        if let Some(lines) = &mut self.lines {
            let force = self.scanned - self.consumed.bytes > LONGEST_UNCONSUMED;
            lines.end_push(force, out);
            if lines.has_pending() {
                return;
            }
        }
        if self.consumed.bytes != self.scanned || closed {
            self.consumed.bytes = self.scanned;
            self.consumed.checksum = self.scanned_checksum.clone().finalize();
        }
        self.consumed.state = StreamState {
            continuation: self.lines.as_ref().is_some_and(Lines::continuation),
            start_marks: self.start_marks,
            in_line: self.in_line,
            params: self.params.clone(),
            tokens: self.tokens.clone(),
            utf8: self.utf8.clone(),
        };
    }

    fn count(&mut self, raw: &[u8]) {
        if let Some(&last) = raw.last() {
            self.scanned += raw.len() as u64;
            self.scanned_checksum.update(raw);
            self.in_line = last != b'\n';
        }
    }
}

impl fmt::Debug for StreamProcessor {
    /// Without the bytes: they may be part of a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamProcessor")
            .field("consumed", &self.consumed.bytes)
            .field("scanned", &self.scanned)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

fn write(lines: &mut Option<Lines>, text: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
    match lines {
        Some(lines) => lines.feed(text, stamp, out),
        None => out.extend_from_slice(text),
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
