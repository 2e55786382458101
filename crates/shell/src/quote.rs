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

/// Appends `text` as one word: bare where a shell takes every byte of it as it is, else quoted.
///
/// Quotes inside the quoted body cost four bytes each, and bash reads its script byte by byte:
/// 10 kB take it about 7 ms.
pub(crate) fn push_word(script: &mut String, text: &str) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b",./@_-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        script.push_str(text);
    } else {
        push_quoted(script, text);
    }
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
    #[case("true", "true")]
    #[case("/builds/g-1/p_2.tmp,x@y", "/builds/g-1/p_2.tmp,x@y")]
    #[case("a b", "'a b'")]
    #[case("~", "'~'")]
    #[case("a=b", "'a=b'")]
    #[case("é", "'é'")]
    fn word_is_quoted_only_where_it_must_be(#[case] text: &str, #[case] word: &str) {
        let mut script = String::new();
        push_word(&mut script, text);
        assert_eq!(script, word);
    }

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
