//! Control sequences in a line of text (ECMA-48): which bytes are text, which are colours, and
//! which would move the cursor, clear the screen or rename the window.

const ESC: u8 = 0x1b;

/// Copies the text of a line. Sequences that set colours and weights are given to `colour` (the
/// whole sequence), all others and control characters other than tabs are left out.
pub(super) fn copy(line: &[u8], out: &mut Vec<u8>, mut colour: impl FnMut(&[u8], &mut Vec<u8>)) {
    let mut rest = line;
    while let Some(at) = rest.iter().position(|&byte| is_special(byte)) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let length = match rest {
            [ESC, b'[', ..] => {
                let length = csi(rest);
                if is_colour(&rest[..length]) {
                    colour(&rest[..length], out);
                }
                length
            }
            [ESC, b']' | b'P' | b'X' | b'^' | b'_', ..] => string(rest),
            [ESC, ..] => escape(rest),
            // The second half of the control characters, in UTF-8; the first byte begins others too.
            [0xc2, 0x80..=0x9f, ..] => 2,
            [0xc2, ..] => {
                out.push(0xc2);
                1
            }
            _ => 1,
        };
        rest = &rest[length.min(rest.len())..];
    }
    out.extend_from_slice(rest);
}

/// Whether a sequence, as given by [`copy`], begins with a reset, and whether anything follows it.
pub(super) fn reset(sequence: &[u8]) -> (bool, bool) {
    let parameters = &sequence[2..sequence.len() - 1];
    let mut parts = parameters.split(|&byte| byte == b';');
    let zero = |part: &[u8]| part.iter().all(|&byte| byte == b'0');
    let first = parts.next().is_some_and(zero);
    (first, parts.any(|part| !zero(part)))
}

fn is_special(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f || byte == 0xc2
}

/// `ESC [`, parameters, intermediate bytes, one final byte.
fn csi(text: &[u8]) -> usize {
    let body = text[2..]
        .iter()
        .position(|byte| !(0x20..=0x3f).contains(byte));
    // A sequence that the line cuts off, or that holds what none holds, ends there.
    match body {
        Some(at) if (0x40..=0x7e).contains(&text[2 + at]) => at + 3,
        Some(at) => at + 2,
        None => text.len(),
    }
}

fn is_colour(sequence: &[u8]) -> bool {
    sequence.len() >= 3
        && sequence.ends_with(b"m")
        && sequence[2..sequence.len() - 1]
            .iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'))
}

/// A string that BEL or `ESC \` ends.
fn string(text: &[u8]) -> usize {
    for (at, &byte) in text.iter().enumerate().skip(2) {
        if byte == 0x07 {
            return at + 1;
        }
        if byte == ESC && text.get(at + 1) == Some(&b'\\') {
            return at + 2;
        }
    }
    text.len()
}

/// `ESC`, intermediate bytes, one final byte.
fn escape(text: &[u8]) -> usize {
    let body = text[1..]
        .iter()
        .position(|byte| !(0x20..=0x2f).contains(byte));
    match body {
        Some(at) if (0x30..=0x7e).contains(&text[1 + at]) => at + 2,
        Some(at) => at + 1,
        None => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn text(line: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        copy(line, &mut out, |_, _| {});
        out
    }

    #[rstest]
    #[case::nothing_special(b"plain \xc3\xa9\ttext", b"plain \xc3\xa9\ttext")]
    #[case::colours(b"\x1b[32;1m$ make\x1b[0;m", b"$ make")]
    #[case::erase(b"\x1b[0Kline", b"line")]
    #[case::cursor(b"a\x1b[2Ab\x1b[?25lc", b"abc")]
    #[case::title(b"\x1b]0;title\x07text", b"text")]
    #[case::link(b"\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", b"text")]
    #[case::charset(b"\x1b(Btext", b"text")]
    #[case::bell_and_backspace(b"a\x07b\x08c\x7f", b"abc")]
    #[case::c1(b"a\xc2\x9b2Jb \xc2\xa7 5", b"a2Jb \xc2\xa7 5")]
    #[case::cut_off(b"text\x1b[3", b"text")]
    #[case::cut_off_string(b"text\x1b]0;ti", b"text")]
    #[case::lone_escape(b"text\x1b", b"text")]
    #[case::broken_sequence(b"a\x1b[\xc3\xa9b", b"a\xc3\xa9b")]
    fn only_text_is_left(#[case] line: &[u8], #[case] left: &[u8]) {
        assert_eq!(
            String::from_utf8_lossy(&text(line)),
            String::from_utf8_lossy(left)
        );
    }

    #[rstest]
    #[case(b"\x1b[m", (true, false))]
    #[case(b"\x1b[0m", (true, false))]
    #[case(b"\x1b[0;m", (true, false))]
    #[case(b"\x1b[0;33m", (true, true))]
    #[case(b"\x1b[33m", (false, false))]
    #[case(b"\x1b[1;33m", (false, true))]
    fn resets_are_found(#[case] sequence: &[u8], #[case] found: (bool, bool)) {
        assert_eq!(reset(sequence), found);
    }

    proptest! {
        #[test]
        fn no_line_leaves_an_escape_or_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let left = text(&line);
            prop_assert!(!left.iter().any(|&byte| byte < 0x20 && byte != b'\t'));
            prop_assert!(left.len() <= line.len());
        }

        #[test]
        fn sequences_of_any_form_are_cut_whole(line in "(\x1b[\\[\\]P(]?[0-9;?]{0,4}[a-zA-Z\x07]?|x){0,20}") {
            let left = text(line.as_bytes());
            prop_assert!(!left.contains(&ESC));
        }
    }
}
