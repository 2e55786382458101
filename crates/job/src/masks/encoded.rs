//! What a secret looks like when something has encoded it: in base64, also within a longer text; in URLs; in JSON; and in what shells
//! show of their commands (`set -x`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter values have no forms: a few letters of base64 occur in any log.
const SHORTEST: usize = 8;
/// Letters in a line of the program `base64`.
const LINE: usize = 76;
/// Shorter ends of wrapped lines are not looked for.
const SHORTEST_PIECE: usize = 16;

/// All forms that differ from the value itself.
pub(super) fn forms(value: &str) -> Vec<String> {
    if value.len() < SHORTEST {
        return Vec::new();
    }
    let mut forms = base64_forms(value.as_bytes());
    forms.extend(url_forms(value));
    forms.extend(json_forms(value));
    forms.extend(traced_forms(value));
    forms.retain(|form| form != value);
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Base64 takes three bytes at a time, so a text that stands in a longer one has three forms, by its place. Letters that hold bits
/// of what is around it are left out.
fn base64_forms(value: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(value);
        // The first letter without a bit of what is before, and the last without one of what follows.
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for encoded in [
            STANDARD_NO_PAD.encode(&bytes),
            URL_SAFE_NO_PAD.encode(&bytes),
        ] {
            if let Some(core) = encoded.get(from..to) {
                forms.push(core.to_owned());
            }
            if before == 0 && encoded.len() > LINE {
                forms.extend(
                    encoded
                        .as_bytes()
                        .chunks(LINE)
                        .filter(|piece| piece.len() >= SHORTEST_PIECE)
                        .map(|piece| String::from_utf8_lossy(piece).into_owned()),
                );
            }
        }
    }
    forms
}

/// As in RFC 3986, of a part of a path and of a path, and as browsers do it in scripts and in forms; each with digits in either case,
/// and with a plus sign for a blank as in forms.
fn url_forms(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for plain in [&b"-._~"[..], b"-._~/", b"-._~!'()*", b"-._*"] {
        let upper = percent_encoded(value, |byte| {
            byte.is_ascii_alphanumeric() || plain.contains(&byte)
        });
        let lower = lower_digits(&upper);
        forms.extend([
            upper.replace("%20", "+"),
            lower.replace("%20", "+"),
            upper,
            lower,
        ]);
    }
    forms
}

/// The inside of a string: with what must be escaped; with `<`, `>` and `&` escaped, as for web pages; with slashes escaped; and in
/// ASCII alone.
fn json_forms(value: &str) -> Vec<String> {
    let for_pages = |char| matches!(char, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    let plain = json_encoded(value, |_| false);
    vec![
        json_encoded(value, for_pages),
        json_encoded(value, |char| !char.is_ascii()),
        plain.replace('/', r"\/"),
        plain,
    ]
}

fn json_encoded(value: &str, escaped: impl Fn(char) -> bool) -> String {
    let mut encoded = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '"' => encoded.push_str("\\\""),
            '\\' => encoded.push_str(r"\\"),
            '\n' => encoded.push_str(r"\n"),
            '\r' => encoded.push_str(r"\r"),
            '\t' => encoded.push_str(r"\t"),
            '\x08' => encoded.push_str(r"\b"),
            '\x0c' => encoded.push_str(r"\f"),
            char if char < ' ' || escaped(char) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    write!(encoded, "\\u{unit:04x}").ok();
                }
            }
            char => encoded.push(char),
        }
    }
    encoded
}

/// Single quotes within single quotes, as bash and as dash and busybox put them, and the `$'…'` that bash puts around line breaks.
fn traced_forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.replace('\'', r"'\''"), value.replace('\'', "'\"'\"'")];
    if value.contains(['\n', '\r', '\t']) {
        let escaped = value.replace('\\', r"\\").replace('\'', r"\'");
        forms.push(
            escaped
                .replace('\n', r"\n")
                .replace('\r', r"\r")
                .replace('\t', r"\t"),
        );
    }
    forms
}

fn percent_encoded(value: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

/// `%2F` as `%2f`.
fn lower_digits(encoded: &str) -> String {
    let mut lower = String::with_capacity(encoded.len());
    let mut digits = 0;
    for char in encoded.chars() {
        if digits > 0 {
            digits -= 1;
            lower.push(char.to_ascii_lowercase());
        } else {
            digits = if char == '%' { 2 } else { 0 };
            lower.push(char);
        }
    }
    lower
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("p@ss w/rd", "p%40ss%20w%2Frd")]
    #[case("p@ss w/rd", "p%40ss%20w%2frd")]
    #[case("p@ss w/rd", "p%40ss+w%2Frd")]
    #[case("p@ss (w)!", "p%40ss%20(w)!")]
    #[case("p@ss (w)!", "p%40ss%20%28w%29%21")]
    fn known_forms_are_among_them(#[case] value: &str, #[case] form: &str) {
        let forms = forms(value);
        assert!(
            forms
                .iter()
                .any(|found| form.starts_with(found.as_str()) || found == form),
            "{forms:?}"
        );
        assert!(
            forms.iter().any(|found| form.contains(found.as_str())),
            "{forms:?}"
        );
    }

    #[rstest]
    #[case("p@ss w/rd", "p%40ss+w%2frd")]
    #[case("p@ss w/rd", "p%40ss%20w/rd")]
    #[case("p@ss~w*rd", "p%40ss%7Ew*rd")]
    #[case("p@ss \"w\\rd\"", r#"p@ss \"w\\rd\""#)]
    #[case("line one\nline\ttwo\x01", r"line one\nline\ttwo\u0001")]
    #[case("<script>&é", r"\u003cscript\u003e\u0026é")]
    #[case("<script>é🦀", r"<script>\u00e9\ud83e\udd80")]
    #[case("of/path/x", r"of\/path\/x")]
    #[case("it's hers", r"it'\''s hers")]
    #[case("it's hers", "it'\"'\"'s hers")]
    #[case("it's\nhers", r"it\'s\nhers")]
    #[case("secret-value", "c2VjcmV0LXZhbHVl")]
    #[case("\u{3ff}\u{3ff}\u{3ff}\u{3ff}", "z7_Pv8-_z7")]
    fn escaped_forms_are_among_them(#[case] value: &str, #[case] form: &str) {
        let forms = forms(value);
        assert!(forms.iter().any(|found| found == form), "{forms:?}");
    }

    #[test]
    fn short_values_have_none_and_plain_ones_no_url_form() {
        assert_eq!(forms("short12"), Vec::<String>::new());
        assert!(forms("plain-value").iter().all(|form| !form.contains('%')));
    }

    #[test]
    fn lines_of_the_base64_program_are_found() {
        let value = "x".repeat(100);
        let encoded = STANDARD_NO_PAD.encode(&value);
        let forms = forms(&value);
        assert!(forms.contains(&encoded[..76].to_owned()));
        assert!(forms.contains(&encoded[76..].to_owned()));
    }

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_stands_in_an_encoded_text(
            before in proptest::collection::vec(any::<u8>(), 0..7),
            value in "[ -~é]{8,40}",
            after in proptest::collection::vec(any::<u8>(), 0..7),
        ) {
            let text = [&before[..], value.as_bytes(), &after[..]].concat();
            let forms = forms(&value);
            for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                let found = forms.iter().filter(|form| encoded.contains(form.as_str())).map(String::len).max();
                // All letters that the secret alone decides.
                prop_assert!(found.unwrap_or(0) >= value.len() * 8 / 6 - 1, "{encoded}");
            }
        }
    }
}
