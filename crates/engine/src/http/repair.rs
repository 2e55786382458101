//! Puts back the newlines that Docker's `local` log driver loses (engine-mechanics §c).
//!
//! The engine cuts lines over 16 KiB into pieces of 16384 bytes and stores the last piece without its newline. All pieces of one
//! line carry the same timestamp. So, per stream: an entry that does not end in a newline, followed by one with another
//! timestamp, was the last piece of a line; the newline goes between them. Newer engines store the newline themselves; then
//! nothing is added.
//!
//! Two more rules keep it exact where a stream or a run ends:
//! * an *empty* last piece says that the line ended in a newline (a line of exactly n × 16384 bytes);
//! * an entry of its own shorter than a piece is what a run had written when it ended, without newline; nothing is added, so
//!   that two runs of one container stay apart exactly as they were written.
//!
//! What cannot be known: whether a last line over 16 KiB of a run ended in a newline. At the end of a stream none is added;
//! between two runs one is.

use bytes::{BufMut, BytesMut};

use crate::LOG_PIECE as PIECE;

/// The state of one stream's repair; entries in, bytes as the container wrote them out.
#[derive(Debug, Default)]
pub(super) struct LineRepair {
    /// Timestamp of the last entry.
    timestamp: Vec<u8>,
    /// The last entry lacks its newline.
    open: Open,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Nothing is missing.
    #[default]
    No,
    /// The end of a run, written without newline.
    Unfinished,
    /// A piece of a long line, perhaps its last.
    Piece,
    /// An empty last piece: the newline was there.
    EmptyPiece,
}

impl LineRepair {
    /// Takes the next log entry of the stream.
    pub(super) fn entry(&mut self, timestamp: &[u8], bytes: &[u8], out: &mut BytesMut) {
        let same_line = self.open != Open::No && self.timestamp == timestamp;
        if !same_line && matches!(self.open, Open::Piece | Open::EmptyPiece) {
            out.put_u8(b'\n');
        }
        out.extend_from_slice(bytes);
        self.open = if bytes.ends_with(b"\n") {
            Open::No
        } else if bytes.is_empty() && same_line {
            Open::EmptyPiece
        } else if same_line || bytes.len() >= PIECE {
            Open::Piece
        } else {
            Open::Unfinished
        };
        self.timestamp.clear();
        self.timestamp.extend_from_slice(timestamp);
    }

    /// The stream is over.
    pub(super) fn finish(&mut self, out: &mut BytesMut) {
        if self.open == Open::EmptyPiece {
            out.put_u8(b'\n');
        }
        self.open = Open::No;
    }
}

/// Splits an entry of a log with timestamps.
pub(super) fn split_timestamp(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = entry.iter().take(64).position(|byte| *byte == b' ')?;
    Some((&entry[..space], &entry[space + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the engine's `local` driver stores of one run's stream: (timestamp, bytes) entries.
    fn store(written: &[u8], clock: &mut u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut entries = Vec::new();
        for line in written.split_inclusive(|byte| *byte == b'\n') {
            *clock += 1;
            let stamp = format!("t{clock}").into_bytes();
            let (body, newline) = match line.strip_suffix(b"\n") {
                Some(body) => (body, true),
                None => (line, false),
            };
            if body.len() < PIECE {
                entries.push((stamp, line.to_vec()));
                continue;
            }
            let mut rest = body;
            while rest.len() >= PIECE {
                entries.push((stamp.clone(), rest[..PIECE].to_vec()));
                rest = &rest[PIECE..];
            }
            // The last piece: its newline is lost; at the end of the run an empty one is never written.
            if newline || !rest.is_empty() {
                entries.push((stamp, rest.to_vec()));
            }
        }
        entries
    }

    fn replay(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let (mut repair, mut out) = (LineRepair::default(), BytesMut::new());
        for (stamp, bytes) in entries {
            repair.entry(stamp, bytes, &mut out);
        }
        repair.finish(&mut out);
        out.to_vec()
    }

    fn round_trip(written: &[u8]) -> Vec<u8> {
        replay(&store(written, &mut 0))
    }

    #[test]
    fn newlines_of_long_lines_come_back() {
        let long = vec![b'x'; 20_000];
        let written = [b"a\n", &long[..], b"\nb\n", &long, b"\n", &long, b"\nend"].concat();
        assert_eq!(round_trip(&written), written);
    }

    #[test]
    fn lines_of_whole_pieces_keep_their_newline_even_as_the_last() {
        for pieces in 1..4 {
            let line = vec![b'x'; pieces * PIECE];
            let written = [&line[..], b"\n"].concat();
            assert_eq!(round_trip(&written), written);
            assert_eq!(round_trip(&line), line);
        }
    }

    #[test]
    fn only_the_very_last_newline_after_a_long_line_cannot_be_seen() {
        let long = vec![b'x'; 20_000];
        let written = [&long[..], b"\n"].concat();
        assert_eq!(round_trip(&written), long);
    }

    #[test]
    fn an_engine_that_keeps_the_newline_gets_no_second_one() {
        let entries = [
            (b"t1".to_vec(), vec![b'x'; PIECE]),
            (b"t1".to_vec(), b"yy\n".to_vec()),
            (b"t2".to_vec(), b"z\n".to_vec()),
        ];
        assert_eq!(replay(&entries).len(), PIECE + 5);
    }

    #[test]
    fn two_runs_of_a_container_stay_as_written() {
        let mut clock = 0;
        let mut entries = store(b"first run without newline", &mut clock);
        entries.extend(store(b"second\n", &mut clock));
        assert_eq!(replay(&entries), b"first run without newlinesecond\n");
    }

    #[test]
    fn timestamps_are_cut_at_the_first_space() {
        assert_eq!(
            split_timestamp(b"2024Z a b"),
            Some((&b"2024Z"[..], &b"a b"[..]))
        );
        assert_eq!(split_timestamp(b"2024Z "), Some((&b"2024Z"[..], &b""[..])));
        assert_eq!(split_timestamp(b"nospace"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn random_streams_come_back_but_for_the_last_newline_after_a_long_line(
            lines in prop::collection::vec((prop_oneof![0_usize..100, 16_300_usize..16_500, 32_700_usize..32_800, 0_usize..70_000], any::<u8>()), 0..8),
            ends in any::<bool>(),
        ) {
            let mut written = Vec::new();
            for (length, fill) in &lines {
                written.extend(std::iter::repeat_n(if *fill == b'\n' { 0 } else { *fill }, *length));
                written.push(b'\n');
            }
            if !ends {
                written.pop();
            }
            let last_line = written.strip_suffix(b"\n").map(|rest| {
                rest.rsplit(|byte| *byte == b'\n').next().unwrap_or_default().len()
            });
            let last_long = last_line.is_some_and(|length| length > PIECE && length % PIECE != 0);
            let seen = round_trip(&written);
            let expected = written.len() - usize::from(last_long);
            // No assert_eq: it would print the bytes.
            prop_assert!(seen == written[..expected], "{} of {expected} bytes", seen.len());
        }
    }
}
