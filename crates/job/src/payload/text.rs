//! The bytes of a payload as text that can be read.

use std::borrow::Cow;

/// Bytes that are not UTF-8, and escapes of half a character (`\ud800` without its other half), become U+FFFD, as the peer reads them.
/// Left alone, either would make the whole payload unreadable.
pub(super) fn repaired(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let halves = halves(&text);
    if halves.is_empty() {
        return text;
    }
    let mut text = text.into_owned();
    for at in halves {
        text.replace_range(at..at + ESCAPE, r"\ufffd");
    }
    Cow::Owned(text)
}

/// Bytes of `\uXXXX`.
const ESCAPE: usize = 6;

/// Where escapes of half characters stand.
fn halves(text: &str) -> Vec<usize> {
    let mut halves = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find('\\').map(|at| from + at) {
        from = match unit(text, at) {
            Some(0xd800..=0xdbff) => match unit(text, at + ESCAPE) {
                Some(0xdc00..=0xdfff) => at + 2 * ESCAPE,
                _ => {
                    halves.push(at);
                    at + ESCAPE
                }
            },
            Some(0xdc00..=0xdfff) => {
                halves.push(at);
                at + ESCAPE
            }
            Some(_) => at + ESCAPE,
            // The escaped character may be a backslash.
            None => at + 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    halves
}

/// The UTF-16 unit of an escape that begins here.
fn unit(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + ESCAPE)?.strip_prefix(r"\u")?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::alone(r#""a\ud800b""#, "a\u{fffd}b")]
    #[case::upper_case(r#""\uDBFFb""#, "\u{fffd}b")]
    #[case::second_half(r#""a\udc00""#, "a\u{fffd}")]
    #[case::wrong_order(r#""\udc00\ud800""#, "\u{fffd}\u{fffd}")]
    #[case::two_first_halves(r#""\ud83e\ud83e\udd80""#, "\u{fffd}🦀")]
    #[case::before_another_escape(r#""\ud800\n\ud800A""#, "\u{fffd}\n\u{fffd}A")]
    #[case::whole(r#""\ud83e\udd80""#, "🦀")]
    #[case::no_escape(r#""\\ud800 \\\ud800""#, "\\ud800 \\\u{fffd}")]
    #[case::none("\"é\"", "é")]
    fn half_characters_are_replaced(#[case] json: &str, #[case] text: &str) {
        let repaired = repaired(json.as_bytes());
        assert_eq!(repaired.len(), json.len(), "places of errors stay");
        assert_eq!(serde_json::from_str::<String>(&repaired).unwrap(), text);
    }

    #[rstest]
    #[case(b"\xff\\")]
    #[case(b"\\u")]
    #[case(b"\\ud80")]
    #[case("\\é\\ud80é".as_bytes())]
    fn what_is_cut_is_left_as_it_is(#[case] bytes: &[u8]) {
        assert_eq!(repaired(bytes), String::from_utf8_lossy(bytes));
    }
}
