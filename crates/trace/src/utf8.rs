//! Makes the log valid UTF-8.
//!
//! Each byte that is no part of a character becomes U+FFFD, as in the peer (one per byte, not one
//! per sequence). A character that is cut by the end of a piece waits for its rest.

use serde::{Deserialize, Serialize};

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The beginning of a character whose rest has not come yet: at most 3 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Utf8State {
    #[serde(rename = "b", default, skip_serializing_if = "Vec::is_empty")]
    begun: Vec<u8>,
}

impl Utf8State {
    /// Passes `input` on to `sink` in pieces of whole characters.
    pub(crate) fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) {
        let mut rest = input;
        while !self.begun.is_empty() {
            let Some((&byte, after)) = rest.split_first() else {
                return;
            };
            self.begun.push(byte);
            match std::str::from_utf8(&self.begun) {
                Ok(_) => {
                    sink(&self.begun);
                    self.begun.clear();
                }
                Err(error) => match error.error_len() {
                    None => {}
                    Some(_) => {
                        // The new byte does not belong to the character: it is read again alone.
                        self.begun.pop();
                        self.end(&mut sink);
                        continue;
                    }
                },
            }
            rest = after;
        }
        while !rest.is_empty() {
            let Err(error) = std::str::from_utf8(rest) else {
                sink(rest);
                return;
            };
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            if !valid.is_empty() {
                sink(valid);
            }
            let Some(length) = error.error_len() else {
                self.begun.extend_from_slice(invalid);
                return;
            };
            for _ in 0..length {
                sink(REPLACEMENT);
            }
            rest = &invalid[length..];
        }
    }

    /// The rest of the character will not come.
    pub(crate) fn end(&mut self, mut sink: impl FnMut(&[u8])) {
        for _ in self.begun.drain(..) {
            sink(REPLACEMENT);
        }
    }
}

/// The largest cut of `text` of at most `max` bytes that does not split a character.
pub(crate) fn cut_at_character(text: &[u8], max: usize) -> usize {
    if max >= text.len() {
        return text.len();
    }
    let mut cut = max;
    while cut > 0 && text[cut] & 0xc0 == 0x80 {
        cut -= 1;
    }
    cut
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn repaired(pieces: &[&[u8]]) -> String {
        let (mut state, mut out) = (Utf8State::default(), Vec::new());
        for piece in pieces {
            state.feed(piece, |text| out.extend_from_slice(text));
        }
        state.end(|text| out.extend_from_slice(text));
        String::from_utf8(out).unwrap()
    }

    #[rstest]
    #[case::plain(b"plain", "plain")]
    #[case::two_wrong_bytes(b"\xff\xfe", "\u{fffd}\u{fffd}")]
    #[case::characters_stay("a\u{e9}\u{20ac}\u{1f600}b".as_bytes(), "a\u{e9}\u{20ac}\u{1f600}b")]
    #[case::cut_character_then_text(b"\xe2\x82x", "\u{fffd}\u{fffd}x")]
    #[case::cut_character_then_character(b"\xe2\x82\xc3\xa9", "\u{fffd}\u{fffd}\u{e9}")]
    #[case::cut_at_the_end(b"a\xf0\x9f\x98", "a\u{fffd}\u{fffd}\u{fffd}")]
    #[case::surrogate(b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}")]
    #[case::overlong(b"\xc0\xaf", "\u{fffd}\u{fffd}")]
    #[case::line_break_in_a_character(b"\xe2\x82\n", "\u{fffd}\u{fffd}\n")]
    fn each_byte_that_is_no_character_becomes_one_replacement_under_any_split(
        #[case] raw: &[u8],
        #[case] expected: &str,
    ) {
        assert_eq!(repaired(&[raw]), expected);
        let bytes: Vec<&[u8]> = raw.chunks(1).collect();
        assert_eq!(repaired(&bytes), expected);
        for at in 0..=raw.len() {
            assert_eq!(
                repaired(&[&raw[..at], &raw[at..]]),
                expected,
                "split at {at}"
            );
        }
    }

    #[rstest]
    #[case("abc", 2, 2)]
    #[case("abc", 3, 3)]
    #[case("abc", 9, 3)]
    #[case("a\u{20ac}b", 2, 1)]
    #[case("a\u{20ac}b", 3, 1)]
    #[case("a\u{20ac}b", 4, 4)]
    #[case("\u{1f600}", 3, 0)]
    fn a_cut_never_splits_a_character(#[case] text: &str, #[case] max: usize, #[case] cut: usize) {
        assert_eq!(cut_at_character(text.as_bytes(), max), cut);
    }
}
