//! Tokens that are known by their prefix, such as `glpat-`.

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use serde::{Deserialize, Serialize};

use super::MASKED;

/// The token prefixes of a job, any number (the peer keeps 15 and drops the rest).
#[derive(Debug)]
pub(crate) struct TokenPrefixes {
    search: Option<AhoCorasick>,
    prefixes: Vec<Vec<u8>>,
    first_bytes: Box<[bool; 256]>,
    longest: usize,
}

/// Where in a token the stream is. The default is "nowhere".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct TokenState {
    /// The end of what was passed on, as far as it is the beginning of a prefix (or all of one).
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    tail: Vec<u8>,
    /// Inside a token whose mask is written already.
    #[serde(rename = "r", default, skip_serializing_if = "std::ops::Not::not")]
    in_token: bool,
}

impl TokenPrefixes {
    pub(crate) fn new(prefixes: &[String]) -> Self {
        let mut prefixes: Vec<Vec<u8>> = prefixes
            .iter()
            .filter(|prefix| !prefix.is_empty() && !prefix.contains(['\n', '\r']))
            .map(|prefix| prefix.clone().into_bytes())
            .collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let search = (!prefixes.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(&prefixes)
                // Fails only beyond 2^31 states, far above the largest payload that is read.
                .expect("token prefixes of a payload fit in an automaton")
        });
        let mut first_bytes = Box::new([false; 256]);
        for prefix in &prefixes {
            first_bytes[usize::from(prefix[0])] = true;
        }
        Self {
            search,
            longest: prefixes.iter().map(Vec::len).max().unwrap_or(0),
            first_bytes,
            prefixes,
        }
    }

    /// Passes `input` to `sink` with tokens replaced: the place is where a prefix ends and a token
    /// character follows, the first such place wins.
    pub(crate) fn feed(&self, state: &mut TokenState, input: &[u8], mut sink: impl FnMut(&[u8])) {
        let Some(search) = &self.search else {
            if !input.is_empty() {
                sink(input);
            }
            return;
        };
        let mut at = 0;
        loop {
            if state.in_token {
                let Some(length) = input[at..].iter().position(|&byte| !is_token(byte)) else {
                    return;
                };
                at += length;
                state.in_token = false;
            }
            let rest = &input[at..];
            let start = self
                .continued(search, &state.tail, rest)
                .or_else(|| self.within(search, rest));
            let Some(start) = start else {
                break;
            };
            if start > 0 {
                sink(&rest[..start]);
            }
            sink(MASKED);
            at += start;
            state.tail.clear();
            state.in_token = true;
        }
        let rest = &input[at..];
        if !rest.is_empty() {
            sink(rest);
            self.remember(&mut state.tail, rest);
        }
    }

    /// Where in `rest` a token starts whose prefix began in `tail`.
    fn continued(&self, search: &AhoCorasick, tail: &[u8], rest: &[u8]) -> Option<usize> {
        if tail.is_empty() || rest.is_empty() {
            return None;
        }
        let mut joined = tail.to_vec();
        joined.extend_from_slice(&rest[..rest.len().min(self.longest)]);
        search
            .find_overlapping_iter(&joined)
            .filter_map(|found| found.end().checked_sub(tail.len()))
            .find(|&end| rest.get(end).copied().is_some_and(is_token))
    }

    /// Where in `rest` a token starts whose prefix is in `rest`, too.
    fn within(&self, search: &AhoCorasick, rest: &[u8]) -> Option<usize> {
        let follows = |end: usize| rest.get(end).copied().is_some_and(is_token);
        let mut from = 0;
        while let Some(found) = search.find(Input::new(rest).range(from..)) {
            let end = found.end();
            if follows(end) {
                return Some(end);
            }
            // A prefix without a token behind it. Others may overlap it, which the fast search
            // would step over: look at all that end near.
            let (low, high) = (
                end.saturating_sub(self.longest),
                rest.len().min(end + self.longest),
            );
            let near = search
                .find_overlapping_iter(&rest[low..high])
                .map(|found| low + found.end())
                .find(|&other| other > end && follows(other));
            if near.is_some() {
                return near;
            }
            from = end;
        }
        None
    }

    /// Makes `tail` the longest end of `tail` + `passed` that a prefix begins with.
    fn remember(&self, tail: &mut Vec<u8>, passed: &[u8]) {
        let old;
        let window = if passed.len() >= self.longest || tail.is_empty() {
            &passed[passed.len().saturating_sub(self.longest)..]
        } else {
            tail.extend_from_slice(passed);
            old = std::mem::take(tail);
            &old[old.len().saturating_sub(self.longest)..]
        };
        let start = (0..window.len()).find(|&at| {
            self.first_bytes[usize::from(window[at])]
                && self
                    .prefixes
                    .iter()
                    .any(|prefix| prefix.starts_with(&window[at..]))
        });
        tail.clear();
        if let Some(start) = start {
            tail.extend_from_slice(&window[start..]);
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'=' | b'-')
}
