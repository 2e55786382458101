//! Quoting for POSIX shells.

/// Puts `text` in single quotes, inside which a POSIX shell reads every byte as it is.
///
/// The peer's default `$'…'` form is not understood by dash; single quotes are by every shell,
/// so `FF_POSIXLY_CORRECT_ESCAPES` has nothing left to change. NUL bytes are dropped: no shell
/// can hold them in a variable.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    push_quoted(&mut quoted, text);
    quoted
}

/// Appends the quoted form of `text` to `script`.
pub(crate) fn push_quoted(script: &mut String, text: &str) {
    script.push('\'');
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '\0']) {
        script.push_str(&rest[..at]);
        if rest.as_bytes()[at] == b'\'' {
            script.push_str(r"'\''");
        }
        rest = &rest[at + 1..];
    }
    script.push_str(rest);
    script.push('\'');
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", "''")]
    #[case("plain", "'plain'")]
    #[case("it's", r"'it'\''s'")]
    #[case("'", r"''\'''")]
    #[case("$HOME `id` \\ \"", "'$HOME `id` \\ \"'")]
    #[case("two\nlines", "'two\nlines'")]
    #[case("n\0ul", "'nul'")]
    fn text_is_quoted(#[case] text: &str, #[case] quoted: &str) {
        assert_eq!(quote(text), quoted);
    }
}
