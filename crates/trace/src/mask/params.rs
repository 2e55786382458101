//! Values of sensitive URL parameters.
//!
//! After `?` or `&` and one of the keys, in any case, everything up to the next `?`, `&`, white
//! space or control character is replaced, also an empty value. Deviation: white space outside
//! ASCII does not end a value, so that a little more is masked than by the peer.

use memchr::memchr2;
use serde::{Deserialize, Serialize};

use super::MASKED;

/// The keys with their `=`, lower case.
const KEYS: [&[u8]; 6] = [
    b"private_token=",
    b"authenticity_token=",
    b"rss_token=",
    b"x-amz-signature=",
    b"x-amz-credential=",
    b"x-amz-security-token=",
];

/// Where in a URL the stream is. The default is "nowhere".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ParamState {
    /// The beginning of a key, read so far; `Some` but empty right after the separator.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    key: Option<Vec<u8>>,
    /// Inside a value whose mask is written already.
    #[serde(rename = "v", default, skip_serializing_if = "std::ops::Not::not")]
    in_value: bool,
}

impl ParamState {
    /// Passes `input` to `sink` with the values replaced.
    pub(crate) fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) {
        let mut sent = 0;
        let mut at = 0;
        while at < input.len() {
            if self.in_value {
                let Some(length) = input[at..].iter().position(|&byte| ends_value(byte)) else {
                    return;
                };
                at += length;
                sent = at;
                self.in_value = false;
            }
            let Some(key) = &mut self.key else {
                let Some(found) = memchr2(b'?', b'&', &input[at..]) else {
                    break;
                };
                at += found + 1;
                self.key = Some(Vec::new());
                continue;
            };
            let byte = input[at];
            at += 1;
            if matches!(byte, b'?' | b'&') {
                key.clear();
                continue;
            }
            key.push(byte.to_ascii_lowercase());
            if KEYS.contains(&key.as_slice()) {
                sink(&input[sent..at]);
                sink(MASKED);
                sent = at;
                self.key = None;
                self.in_value = true;
            } else if !KEYS.iter().any(|known| known.starts_with(key)) {
                self.key = None;
            }
        }
        if sent < input.len() {
            sink(&input[sent..]);
        }
    }
}

fn ends_value(byte: u8) -> bool {
    matches!(byte, b'?' | b'&' | b' ') || byte.is_ascii_control()
}
