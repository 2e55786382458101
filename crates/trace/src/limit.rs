//! The size limit of a log (coordinator-api §11, Size limit).

use crate::utf8::cut_at_character;

/// Cuts the log off once it reaches its limit, and says so once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    bytes: u64,
    reached: bool,
}

impl Limit {
    pub(crate) fn new(bytes: u64, reached: bool) -> Self {
        Self { bytes, reached }
    }

    /// The log is cut off: everything from now on is dropped.
    pub(crate) fn reached(self) -> bool {
        self.reached
    }

    /// Applies the limit to what was appended to `tail` from `from` on, when `len` bytes of log
    /// stand before it. The notice comes on top of the limit, as in the peer.
    pub(crate) fn apply(&mut self, len: u64, tail: &mut Vec<u8>, from: usize) {
        if self.reached {
            tail.truncate(from);
            return;
        }
        let new = &tail[from..];
        let room = self.bytes.saturating_sub(len);
        if new.is_empty() || (new.len() as u64) < room {
            return;
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let cut = cut_at_character(new, room);
        tail.truncate(from + cut);
        tail.extend_from_slice(notice(self.bytes).as_bytes());
        self.reached = true;
    }
}

fn notice(bytes: u64) -> String {
    format!(
        "\n\x1b[33;1mJob's log exceeded limit of {bytes} bytes.\n\
         Job execution will continue but no more output will be collected.\x1b[0;m\n"
    )
}
