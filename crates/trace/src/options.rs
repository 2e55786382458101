//! What a job's log is made with.

use std::fmt;

use crate::Clock;

/// How one job's log is masked, formatted and limited.
#[derive(Debug, Clone)]
pub struct TraceOptions {
    /// Literal byte strings that must not be in the log, and start marks. Order and duplicates
    /// do not matter; empty ones are ignored.
    pub phrases: Vec<Phrase>,
    /// Token prefixes: the prefix stays, the token characters after it become `[MASKED]`.
    /// See [`default_token_prefixes`]; `features.token_mask_prefixes` of the payload are added by
    /// the caller. Any number; empty ones and ones with a line break are ignored.
    pub token_prefixes: Vec<String>,
    /// `FF_TIMESTAMPS`: each line starts with time and stream (coordinator-api §11).
    pub timestamps: bool,
    /// `features.trace_sections`: whether section markers are written at all.
    pub sections: bool,
    /// The most bytes of output before the log is cut off (`output_limit` × 1024). The notice
    /// that says so comes on top.
    pub limit_bytes: u64,
    /// Where timestamps come from.
    pub clock: Clock,
}

impl TraceOptions {
    /// The peer's `output_limit` when the config has none: 4096 KiB.
    pub const DEFAULT_LIMIT_BYTES: u64 = 4096 * 1024;
}

impl Default for TraceOptions {
    /// Timestamps and sections on, all default token prefixes, no phrases, the default limit.
    fn default() -> Self {
        Self {
            phrases: Vec::new(),
            token_prefixes: default_token_prefixes(true),
            timestamps: true,
            sections: true,
            limit_bytes: Self::DEFAULT_LIMIT_BYTES,
            clock: Clock::system(),
        }
    }
}

/// The token prefixes that are masked without being asked for: `glpat-` always, the others with
/// `FF_MASK_ALL_DEFAULT_TOKENS` (coordinator-api §11).
#[must_use]
pub fn default_token_prefixes(all: bool) -> Vec<String> {
    const ALWAYS: usize = 1;
    const PREFIXES: [&str; 14] = [
        "glpat-",
        "gloas-",
        "gldt-",
        "glrt-",
        "glcbt-",
        "glrtr-",
        "glptt-",
        "glft-",
        "glimt-",
        "glagent-",
        "glsoat-",
        "glffct-",
        "_gitlab_session=",
        "gltok-",
    ];
    let count = if all { PREFIXES.len() } else { ALWAYS };
    PREFIXES[..count].iter().map(ToString::to_string).collect()
}

/// A literal byte string that is taken out of the log wherever it is, also when it is split over
/// several writes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phrase {
    pub(crate) bytes: Vec<u8>,
    pub(crate) start_mark: bool,
}

impl Phrase {
    /// A secret: becomes `[MASKED]`. Trimming is the caller's, as it depends on the variable.
    #[must_use]
    pub fn secret(value: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: value.into(),
            start_mark: false,
        }
    }

    /// A start mark: the line a stage script prints first, to prove that it ran. It vanishes from
    /// the log and the stream it was in reports it ([`Written::start_marks`](crate::Written)).
    /// Give the whole line with its line break.
    #[must_use]
    pub fn start_mark(line: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: line.into(),
            start_mark: true,
        }
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.start_mark {
            "Phrase(start mark)"
        } else {
            "Phrase(secret)"
        })
    }
}
