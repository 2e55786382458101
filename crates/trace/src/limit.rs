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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// What is in the log after `writes`, without the notice, and how often the notice is there.
    fn limited(bytes: u64, writes: &[&str]) -> (String, usize) {
        let (mut limit, mut log) = (Limit::new(bytes, false), Vec::new());
        for write in writes {
            let from = log.len();
            log.extend_from_slice(write.as_bytes());
            // Half of the log is in the file already, half waits: both count.
            let in_file = from / 2;
            let mut tail = log.split_off(in_file);
            limit.apply(
                in_file as u64 + (from - in_file) as u64,
                &mut tail,
                from - in_file,
            );
            log.extend_from_slice(&tail);
        }
        let text = String::from_utf8(log).unwrap();
        let notices = text.matches(&notice(bytes)).count();
        (text.replace(&notice(bytes), ""), notices)
    }

    #[rstest]
    #[case::below(&["12345", "678"], "12345678", 0)]
    #[case::reached(&["12345", "67890"], "1234567890", 1)]
    #[case::passed(&["12345678901234"], "1234567890", 1)]
    #[case::later_data_is_dropped(&["12345678901", "x", "y"], "1234567890", 1)]
    #[case::at_a_character(&["12345678\u{20ac}9"], "12345678", 1)]
    #[case::character_fits(&["1234567\u{20ac}9"], "1234567\u{20ac}", 1)]
    fn the_log_is_cut_at_a_character_and_says_so_once(
        #[case] writes: &[&str],
        #[case] expected: &str,
        #[case] notices: usize,
    ) {
        assert_eq!(limited(10, writes), (expected.to_owned(), notices));
    }

    #[test]
    fn the_notice_is_that_of_the_peer() {
        assert_eq!(
            notice(1024),
            "\n\x1b[33;1mJob's log exceeded limit of 1024 bytes.\nJob execution will continue but \
             no more output will be collected.\x1b[0;m\n"
        );
    }
}
