//! The short form of a runner token.

/// Bytes of a token that may be shown.
const SHORT_LENGTH: usize = 9;

/// The first 9 bytes of a token after its kind prefix (coordinator-api §2): enough to tell
/// runners apart in logs, names and labels, too little to use.
pub fn short_token(token: &str) -> &str {
    let mut rest = token;
    if let Some(after) = rest.strip_prefix("glrt-") {
        rest = without_partition(after).unwrap_or(after);
    } else if let Some(after) = without_partition(rest) {
        rest = after;
    } else if let Some(after) = rest.strip_prefix("glrtr-") {
        rest = after;
    }
    rest = rest.strip_prefix("glcbt-").unwrap_or(rest);
    rest = without_registration_prefix(rest).unwrap_or(rest);
    let mut end = rest.len().min(SHORT_LENGTH);
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    &rest[..end]
}

/// Text after `t1_`, `t2_` or `t3_`.
fn without_partition(text: &str) -> Option<&str> {
    match text.as_bytes() {
        [b't', b'1'..=b'3', b'_', ..] => Some(&text[3..]),
        _ => None,
    }
}

/// Text after `GR` and seven hexadecimal digits.
fn without_registration_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("GR")?.get(..7)?;
    hex.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| &text[9..])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("glrt-abcdefghijklmnopqrst", "abcdefghi")]
    #[case("glrt-t1_abcdefghijklm", "abcdefghi")]
    #[case("t2_abcdefghijklm", "abcdefghi")]
    #[case("glrtr-abcdefghijklm", "abcdefghi")]
    #[case("glcbt-64_abcdefghijklm", "64_abcdef")]
    #[case("GR1348941abcdefghijklm", "abcdefghi")]
    #[case("GR13489xyzdefghijklm", "GR13489xy")]
    #[case("t4_abcdefghijklm", "t4_abcdef")]
    #[case("glrt-t4_abcdefghijklm", "t4_abcdef")]
    #[case("short", "short")]
    #[case("", "")]
    #[case("ääääääää", "ääää")]
    #[case("GRä", "GRä")]
    fn the_kind_prefix_is_dropped_and_nine_bytes_remain(#[case] token: &str, #[case] short: &str) {
        assert_eq!(short_token(token), short);
    }
}
