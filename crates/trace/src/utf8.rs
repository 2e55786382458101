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
            let error = match std::str::from_utf8(rest) {
                Ok(_) => {
                    sink(rest);
                    return;
                }
                Err(error) => error,
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
