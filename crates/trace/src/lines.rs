//! Timestamped lines (coordinator-api §11, Timestamps).
//!
//! `<27 characters of time> <stream><flag><text>`; the flag is a blank for a new line and `+` for
//! more of the line before. A line is written when its end is known, or as far as it is when a
//! progress bar redraws (`\r`) or it grows too long.

use jiff::{Timestamp, tz::Offset};
use memchr::memchr;

use crate::Stream;

/// A line without end is written once it holds more than this.
pub(crate) const LONGEST_PENDING: usize = 8 * 1024;

const STAMP_LEN: usize = 27;
const HEADER_LEN: usize = STAMP_LEN + 5;

/// A time as it stands in the log: `2026-01-02T03:04:05.123456Z`, UTC.
#[derive(Debug, Clone, Copy)]
pub struct Stamp([u8; STAMP_LEN]);

impl Stamp {
    /// Formats `at`, cut to microseconds.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        let time = Offset::UTC.to_datetime(at);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |from: usize, to: usize, value: i32| {
            let mut value = u32::try_from(value).unwrap_or(0);
            for digit in text[from..to].iter_mut().rev() {
                *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
                value /= 10;
            }
        };
        put(0, 4, time.year().into());
        put(5, 7, time.month().into());
        put(8, 10, time.day().into());
        put(11, 13, time.hour().into());
        put(14, 16, time.minute().into());
        put(17, 19, time.second().into());
        put(20, 26, time.subsec_nanosecond() / 1000);
        Self(text)
    }
}

/// Cuts one stream into lines and puts the header before each.
#[derive(Debug)]
pub(crate) struct Lines {
    label: &'static [u8],
    /// The next header carries `+`.
    continuation: bool,
    /// Header and text of a line whose end has not come.
    pending: Vec<u8>,
    /// The text after the last line break of this push holds `\r`.
    redrawn: bool,
}

impl Lines {
    pub(crate) fn new(stream: Stream, continuation: bool) -> Self {
        Self {
            label: stream.label().as_bytes(),
            continuation,
            pending: Vec::new(),
            redrawn: false,
        }
    }

    /// Takes text; whole lines go to `out`.
    pub(crate) fn feed(&mut self, text: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        let mut rest = text;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            if self.pending.is_empty() {
                self.header(stamp, out);
            } else {
                out.extend_from_slice(&self.pending);
                self.pending.clear();
            }
            out.extend_from_slice(line);
            self.redrawn = false;
            rest = after;
        }
        if rest.is_empty() {
            return;
        }
        if self.pending.is_empty() {
            let mut pending = std::mem::take(&mut self.pending);
            self.header(stamp, &mut pending);
            self.pending = pending;
        }
        self.pending.extend_from_slice(rest);
        self.redrawn |= memchr(b'\r', rest).is_some();
    }

    /// The end of a push: writes an unfinished line if it must not wait. Returns whether it did.
    pub(crate) fn end_push(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        let redrawn = std::mem::take(&mut self.redrawn);
        let must = force || redrawn || self.pending.len() > HEADER_LEN + LONGEST_PENDING;
        if !must || self.pending.is_empty() {
            return false;
        }
        self.write_pending(out);
        self.continuation = true;
        true
    }

    /// The end of the stream: writes an unfinished line.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.write_pending(out);
        }
        self.continuation = false;
        self.redrawn = false;
    }

    /// An unfinished line is kept back.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn continuation(&self) -> bool {
        self.continuation
    }

    /// Forgets an unfinished line and gives its memory back.
    pub(crate) fn clear(&mut self) {
        self.pending = Vec::new();
        self.redrawn = false;
    }

    fn write_pending(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pending);
        out.push(b'\n');
        self.pending.clear();
        self.pending.shrink_to(LONGEST_PENDING);
    }

    fn header(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        let mut header = [b' '; HEADER_LEN];
        header[..STAMP_LEN].copy_from_slice(&stamp.0);
        header[STAMP_LEN + 1..STAMP_LEN + 4].copy_from_slice(self.label);
        if std::mem::take(&mut self.continuation) {
            header[STAMP_LEN + 4] = b'+';
        }
        out.extend_from_slice(&header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(text: &str) -> Stamp {
        Stamp::new(text.parse().unwrap())
    }

    fn written(stream: Stream, pushes: &[&str]) -> String {
        let (mut lines, mut out) = (Lines::new(stream, false), Vec::new());
        for (second, push) in pushes.iter().enumerate() {
            let stamp = stamp(&format!("2026-01-02T03:04:{second:02}Z"));
            lines.feed(push.as_bytes(), &stamp, &mut out);
            lines.end_push(false, &mut out);
        }
        lines.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_time_has_microseconds_and_27_characters() {
        let text = |at: &str| String::from_utf8(stamp(at).0.to_vec()).unwrap();
        assert_eq!(
            text("2026-01-02T03:04:05.123456789Z"),
            "2026-01-02T03:04:05.123456Z"
        );
        assert_eq!(
            text("1999-12-31T23:59:59.000001Z"),
            "1999-12-31T23:59:59.000001Z"
        );
        assert_eq!(
            text("2026-01-02T03:04:05+02:00"),
            "2026-01-02T01:04:05.000000Z"
        );
    }

    #[test]
    fn each_line_has_a_header_with_the_time_at_which_it_began() {
        assert_eq!(
            written(Stream::Stderr, &["one\ntw", "o\n\nthree", "!"]),
            "2026-01-02T03:04:00.000000Z 01E one\n\
             2026-01-02T03:04:00.000000Z 01E two\n\
             2026-01-02T03:04:01.000000Z 01E \n\
             2026-01-02T03:04:01.000000Z 01E three!\n"
        );
    }

    #[test]
    fn a_progress_bar_shows_at_once_and_its_next_part_is_a_continuation() {
        assert_eq!(
            written(Stream::Stdout, &["10%\r", "20%\r", "done\n", "next\n"]),
            "2026-01-02T03:04:00.000000Z 01O 10%\r\n\
             2026-01-02T03:04:01.000000Z 01O+20%\r\n\
             2026-01-02T03:04:02.000000Z 01O+done\n\
             2026-01-02T03:04:03.000000Z 01O next\n"
        );
        assert_eq!(
            written(Stream::ServiceStderr, &["line\n50%\rmore", "end\n"]),
            "2026-01-02T03:04:00.000000Z 0fO line\n\
             2026-01-02T03:04:00.000000Z 0fO 50%\rmore\n\
             2026-01-02T03:04:01.000000Z 0fO+end\n",
            "what follows a line break counts by itself"
        );
        assert_eq!(
            written(Stream::Stdout, &["a\rb\n", "c\n"]),
            "2026-01-02T03:04:00.000000Z 01O a\rb\n2026-01-02T03:04:01.000000Z 01O c\n",
            "a line that is whole is no progress bar"
        );
    }

    #[test]
    fn a_line_over_8_kib_is_written_before_its_end() {
        let (fits, more) = ("x".repeat(LONGEST_PENDING), "y");
        let one = written(Stream::Stdout, &[&fits, "\n"]);
        assert_eq!(one, format!("2026-01-02T03:04:00.000000Z 01O {fits}\n"));
        let two = written(Stream::Stdout, &[&fits, more, "z\n"]);
        assert_eq!(
            two,
            format!("2026-01-02T03:04:00.000000Z 01O {fits}y\n2026-01-02T03:04:02.000000Z 01O+z\n")
        );
    }
}
