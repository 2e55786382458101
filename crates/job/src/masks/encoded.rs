//! What a secret looks like when something has encoded it: in base64, also within a longer text, and in URLs.

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
    forms.retain(|form| form != value);
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

/// As in RFC 3986, with digits in either case; as browsers do it; and as in forms, where a blank is a plus sign.
fn url_forms(value: &str) -> Vec<String> {
    let unreserved = b"-._~";
    let component = b"-._~!'()*";
    let strict = |byte: u8| byte.is_ascii_alphanumeric() || unreserved.contains(&byte);
    let upper = percent_encoded(value, strict);
    vec![
        lower_digits(&upper),
        percent_encoded(value, |byte| {
            byte.is_ascii_alphanumeric() || component.contains(&byte)
        }),
        upper.replace("%20", "+"),
        upper,
    ]
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
    #[case("secret-value", "c2VjcmV0LXZhbHVl")]
    #[case("\u{3ff}\u{3ff}\u{3ff}\u{3ff}", "z7_Pv8-_z7")]
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
