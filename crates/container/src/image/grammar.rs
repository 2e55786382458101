//! The pieces of a reference, character by character.

/// `[a-zA-Z0-9]` with hyphens inside, dotted, or an IPv6 address in brackets; then an optional port.
pub(super) fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Components of lower-case letters and digits, separated inside by `.`, `_`, `__` or any number of `-`.
pub(super) fn is_path(text: &str) -> bool {
    text.split('/').all(|component| {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = component.as_bytes();
        let mut at = 0;
        loop {
            let start = at;
            while at < bytes.len() && alphanumeric(bytes[at]) {
                at += 1;
            }
            if at == start {
                return false;
            }
            let separator = at;
            while at < bytes.len() && !alphanumeric(bytes[at]) {
                at += 1;
            }
            match &bytes[separator..at] {
                b"" => return true,
                b"." | b"_" | b"__" => {}
                hyphens if hyphens.iter().all(|b| *b == b'-') => {}
                _ => return false,
            }
        }
    })
}

/// A word character, then up to 127 word characters, dots and hyphens.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// `algorithm:hex`; sha256 has 64 digits, others at least 32.
pub(super) fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let lower_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match algorithm {
        "sha256" => hex.len() == 64 && lower_hex(hex),
        "sha512" => hex.len() == 128 && lower_hex(hex),
        _ => {
            let parts = |c: char| matches!(c, '+' | '.' | '-' | '_');
            algorithm.split(parts).all(|part| {
                part.starts_with(|c: char| c.is_ascii_alphabetic())
                    && part.bytes().all(|b| b.is_ascii_alphanumeric())
            }) && hex.len() >= 32
                && hex.bytes().all(|b| b.is_ascii_hexdigit())
        }
    }
}

pub(super) fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
