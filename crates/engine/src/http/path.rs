//! Request paths: segments and query values escaped.

use std::fmt::Write as _;

/// A path under construction.
pub(super) struct Path {
    text: String,
    query: bool,
}

impl Path {
    /// Starts with the API prefix, e.g. `/v1.41`, and a fixed part.
    pub(super) fn new(prefix: &str, fixed: &str) -> Self {
        Self {
            text: format!("{prefix}{fixed}"),
            query: false,
        }
    }

    /// Adds a segment of foreign text; a slash in it stays part of the segment.
    pub(super) fn segment(mut self, segment: &str) -> Self {
        self.text.push('/');
        escape(&mut self.text, segment, b"");
        self
    }

    /// Adds an image reference, whose slashes and colons an engine wants to see.
    pub(super) fn reference(mut self, reference: &str) -> Self {
        self.text.push('/');
        escape(&mut self.text, reference, b"/:@");
        self
    }

    /// Adds fixed text.
    pub(super) fn then(mut self, fixed: &str) -> Self {
        self.text.push_str(fixed);
        self
    }

    /// Adds a query parameter.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.query { '&' } else { '?' });
        self.query = true;
        self.text.push_str(name);
        self.text.push('=');
        escape(&mut self.text, value, b"/:");
        self
    }

    /// The whole path.
    pub(super) fn build(self) -> String {
        self.text
    }
}

fn escape(text: &mut String, value: &str, plain: &[u8]) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn foreign_text_cannot_leave_its_place() {
        let path = Path::new("/v1.41", "/containers")
            .segment("../a b?c#d%")
            .then("/json")
            .query("path", "/x y&z=1")
            .query("t", "10");
        assert_eq!(
            path.build(),
            "/v1.41/containers/..%2Fa%20b%3Fc%23d%25/json?path=/x%20y%26z%3D1&t=10"
        );
        let image = Path::new("", "/images")
            .reference("r.io:5000/a/b@sha256:0?")
            .then("/json");
        assert_eq!(image.build(), "/images/r.io:5000/a/b@sha256:0%3F/json");
    }
}
