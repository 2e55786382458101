//! What the tests of this crate share: raw streams full of hard places, and the reader's side of
//! the log format.

use std::collections::BTreeMap;

use proptest::prelude::*;

/// Raw bytes made of the words that the processor looks for, whole and in parts.
pub(crate) fn raw_stream() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"secret",
        b"secret_suffix",
        b"sec",
        b"ret",
        b"_suf",
        b"two\nlines",
        b"two\n",
        b"glpat-",
        b"gl",
        b"pat-a",
        b"?rss_token=",
        b"&",
        b"rss_",
        b"token=",
        b"start-mark-0af3\n",
        b"start-",
        b"mark-0af3",
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
        b"x",
        b"words of a line\n",
        b"\xff",
        b"\xe2\x82",
        b"\xac",
        "\u{20ac}".as_bytes(),
        "\u{1f600}".as_bytes(),
    ];
    prop::collection::vec(prop::sample::select(words), 0..40).prop_map(|words| words.concat())
}

/// The text of each stream of a timestamped log as a reader shows it: headers off, `+` lines
/// joined to the one before. Panics on a line that has no header.
pub(crate) fn joined_lines(log: &[u8]) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let log = std::str::from_utf8(log).expect("a log is UTF-8");
    for line in log.split_inclusive('\n') {
        assert!(
            line.len() > 32 && line.ends_with('\n'),
            "no header: {line:?}"
        );
        let (time, rest) = line.split_at(27);
        time.parse::<jiff::Timestamp>()
            .expect("a line starts with its time");
        let text = texts.entry(rest[1..4].to_owned()).or_default();
        match &rest[4..5] {
            " " => {}
            "+" => {
                text.pop();
            }
            flag => panic!("unknown flag {flag:?}"),
        }
        text.push_str(&rest[5..]);
    }
    texts
}

/// Each byte that is no part of a character becomes U+FFFD.
pub(crate) fn repaired(raw: &[u8]) -> String {
    let (mut text, mut rest) = (String::new(), raw);
    while !rest.is_empty() {
        let valid = (1..=rest.len().min(4)).find_map(|len| std::str::from_utf8(&rest[..len]).ok());
        text.push_str(valid.unwrap_or("\u{fffd}"));
        rest = &rest[valid.map_or(1, str::len)..];
    }
    text
}
