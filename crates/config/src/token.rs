//! The part of a token that may be shown (coordinator-api §2 "Short token").

/// Length of a short token in bytes.
const SHORT: usize = 9;

/// The short token of any GitLab token: known prefixes stripped, then the first 9 bytes.
///
/// Never longer than that, and never cut inside a character.
#[must_use]
pub fn short_token(token: &str) -> &str {
    let rest = strip_runner_prefix(token);
    let rest = rest.strip_prefix("glcbt-").unwrap_or(rest);
    let rest = strip_registration_prefix(rest);
    let mut end = rest.len().min(SHORT);
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    &rest[..end]
}

/// `^glrt-(t[123]_)?`, `^t[123]_` or `^glrtr-`.
fn strip_runner_prefix(token: &str) -> &str {
    if let Some(rest) = token.strip_prefix("glrt-") {
        return strip_partition(rest).unwrap_or(rest);
    }
    strip_partition(token)
        .or_else(|| token.strip_prefix("glrtr-"))
        .unwrap_or(token)
}

/// `^t[123]_`
fn strip_partition(token: &str) -> Option<&str> {
    ["t1_", "t2_", "t3_"]
        .iter()
        .find_map(|prefix| token.strip_prefix(prefix))
}

/// `^GR[0-9A-Fa-f]{7}`
fn strip_registration_prefix(token: &str) -> &str {
    match token.strip_prefix("GR") {
        Some(rest) if rest.len() >= 7 && rest.as_bytes()[..7].iter().all(u8::is_ascii_hexdigit) => {
            &rest[7..]
        }
        _ => token,
    }
}

#[cfg(test)]
mod tests {
    use super::short_token;
    use rstest::rstest;

    #[rstest]
    #[case::created("glrt-abcdefghijklmnop", "abcdefghi")]
    #[case::created_in_partition("glrt-t1_abcdefghijklmnop", "abcdefghi")]
    #[case::partition_alone("t3_abcdefghijklmnop", "abcdefghi")]
    #[case::legacy("glrtr-abcdefghijklmnop", "abcdefghi")]
    #[case::plain("abcdefghijklmnop", "abcdefghi")]
    #[case::job("glcbt-64_abcdefghijk", "64_abcdef")]
    #[case::registration("GR1348941abcdefghijk", "abcdefghi")]
    #[case::registration_without_hex("GRxyzabcdefgh", "GRxyzabcd")]
    #[case::created_holding_registration("glrt-GR1348941abcdefghijk", "abcdefghi")]
    #[case::short("glrt-abc", "abc")]
    #[case::empty("", "")]
    #[case::cut_inside_a_character("abcdefghé", "abcdefgh")]
    fn short_token_strips_prefixes_and_keeps_nine_bytes(
        #[case] token: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(short_token(token), expected);
    }
}
