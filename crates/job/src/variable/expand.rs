//! The single pass over a text that replaces references (job-lifecycle §2.2).

use std::borrow::Cow;

/// What a `$` was followed by.
enum Reference<'a> {
    /// A name, and the bytes it takes after the `$`.
    Name(&'a str, usize),
    /// A brace form without a name: dropped.
    Nothing(usize),
    /// No reference: the `$` is text.
    Text,
}

/// Replaces the references in `text` by what `lookup` says, and tells whether all of them were.
///
/// A reference is replaced only while the result stays within `limit` bytes.
pub(super) fn expand<'v>(
    text: &str,
    limit: usize,
    lookup: impl Fn(&str) -> Cow<'v, str>,
) -> (String, bool) {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut complete = true;
    // Once no `}` is ahead there never will be one: without this, a text full of `${` would be
    // scanned to its end at each of them.
    let mut closable = true;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        closable = closable && (!after.starts_with('{') || after.contains('}'));
        let taken = match reference(after, closable) {
            Reference::Name(name, taken) => {
                let value = lookup(name);
                if result.len() + value.len() <= limit {
                    result.push_str(&value);
                } else {
                    complete = false;
                    result.push('$');
                    result.push_str(&after[..taken]);
                }
                taken
            }
            Reference::Nothing(taken) => taken,
            Reference::Text => {
                result.push('$');
                0
            }
        };
        rest = &after[taken..];
    }
    result.push_str(rest);
    (result, complete)
}

fn reference(after: &str, closable: bool) -> Reference<'_> {
    let bytes = after.as_bytes();
    match bytes.first() {
        None => Reference::Text,
        // The peer drops the two bytes `${` and goes on with what follows.
        Some(b'{') if !closable => Reference::Nothing(1),
        Some(b'{') => match after.find('}') {
            Some(1) => Reference::Nothing(2),
            Some(close) => Reference::Name(&after[1..close], close + 1),
            None => Reference::Nothing(1),
        },
        Some(b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9') => {
            Reference::Name(&after[..1], 1)
        }
        Some(_) => {
            let end = bytes
                .iter()
                .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
                .unwrap_or(bytes.len());
            if end == 0 {
                Reference::Text
            } else {
                Reference::Name(&after[..end], end)
            }
        }
    }
}
