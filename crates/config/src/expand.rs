//! `$VAR` and `${VAR}` in `token` and `url` (config-toml §1 "Placeholder expansion"), by the rules of Go's `os.Expand`.

use crate::load::Placeholders;

/// An expanded text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// The text with all placeholders replaced.
    pub(crate) text: String,
    /// Names that were asked for and are not set; they became nothing.
    pub(crate) unset: Vec<String>,
}

/// Replaces placeholders. `${}` and an open `${` vanish, a `$` before anything else stays.
pub(crate) fn expand(text: &str, values: &Placeholders) -> Expanded {
    let mut expanded = Expanded {
        text: String::with_capacity(text.len()),
        unset: Vec::new(),
    };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = leading_name(rest);
        match name {
            Name::None if after.len() == rest.len() => expanded.text.push('$'),
            Name::None => {}
            Name::Some(name) => match values.get(name) {
                Some(value) => expanded.text.push_str(value),
                None => expanded.unset.push(name.to_owned()),
            },
        }
        rest = after;
    }
    expanded.text.push_str(rest);
    expanded
}

/// What stands behind a `$`.
enum Name<'a> {
    Some(&'a str),
    None,
}

/// The name at the start of `text`, and what follows it.
fn leading_name(text: &str) -> (Name<'_>, &str) {
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.split_once('}') {
            Some(("", after)) => (Name::None, after),
            Some((name, after)) => (Name::Some(name), after),
            None => (Name::None, inner),
        };
    }
    // Shell's special variables have one-character names; a process environment does not hold them.
    if text.starts_with(|c: char| "*#$@!?-0123456789".contains(c)) {
        return (Name::Some(&text[..1]), &text[1..]);
    }
    let len = text
        .bytes()
        .take_while(|byte| *byte == b'_' || byte.is_ascii_alphanumeric())
        .count();
    if len == 0 {
        (Name::None, text)
    } else {
        (Name::Some(&text[..len]), &text[len..])
    }
}

#[cfg(test)]
mod tests {
    use super::expand;
    use crate::load::Placeholders;
    use rstest::rstest;

    #[rstest]
    #[case("plain", "plain", &[])]
    #[case("$TOKEN", "secret", &[])]
    #[case("${TOKEN}", "secret", &[])]
    #[case("a-$TOKEN-b${TOKEN}c", "a-secret-bsecretc", &[])]
    #[case("$TOKEN_X", "", &["TOKEN_X"])]
    #[case("x${MISSING}y$GONE", "xy", &["MISSING", "GONE"])]
    #[case("$", "$", &[])]
    #[case("a$.b", "a$.b", &[])]
    #[case("${}x", "x", &[])]
    #[case("${TOKEN", "TOKEN", &[])]
    #[case("$1x", "x", &["1"])]
    #[case("$$", "", &["$"])]
    #[case("$é", "$é", &[])]
    fn placeholders_expand_as_in_the_peer(
        #[case] text: &str,
        #[case] expected: &str,
        #[case] unset: &[&str],
    ) {
        let values = Placeholders::from([("TOKEN".to_owned(), "secret".to_owned())]);
        let expanded = expand(text, &values);
        assert_eq!(
            (expanded.text.as_str(), expanded.unset),
            (expected, unset.iter().map(ToString::to_string).collect())
        );
    }
}
