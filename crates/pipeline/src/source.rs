//! Files as the parser sees them, and places in them.

use std::sync::Arc;

use miette::{NamedSource, SourceSpan};

use crate::excerpt::WIDEST;
use crate::problem::{Problem, ProblemKind};

/// Which file of a pipeline a [`Span`] lies in. The entry file is 0; included files follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A place in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Bytes from the start of the text.
    pub byte: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A stretch of a file, end exclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub source: SourceId,
    /// First character.
    pub start: Position,
    /// Behind the last character.
    pub end: Position,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            end: other.end.max(self.end),
            ..self
        }
    }
}

/// A file: name, text and number. Cloning shares the text.
#[derive(Debug, Clone)]
pub struct Source {
    id: SourceId,
    named: Arc<NamedSource<Arc<str>>>,
}

impl Source {
    /// A file with the name that messages show.
    pub fn new(id: SourceId, name: &str, text: &str) -> Self {
        Self {
            id,
            named: Arc::new(NamedSource::new(name, Arc::from(text))),
        }
    }

    /// Number of the file.
    pub fn id(&self) -> SourceId {
        self.id
    }

    /// Name of the file.
    pub fn name(&self) -> &str {
        self.named.name()
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        self.named.inner()
    }

    /// The text as `miette` wants it, shared.
    pub(crate) fn named(&self) -> Arc<NamedSource<Arc<str>>> {
        Arc::clone(&self.named)
    }

    /// Line and column of a byte offset; one past the end is the end, and an offset inside a
    /// character is its start. Linear in the offset: for errors and ends of text.
    pub fn position(&self, byte: usize) -> Position {
        let mut byte = byte.min(self.text().len());
        while !self.text().is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text()[..byte];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            byte,
            line: before.matches('\n').count() + 1,
            column: before[line_start..]
                .trim_start_matches('\u{FEFF}')
                .chars()
                .count()
                + 1,
        }
    }

    /// The character at a byte offset, as a span; empty at the end of the text.
    pub fn span_at(&self, byte: usize) -> Span {
        let start = self.position(byte);
        let width = self.text()[start.byte..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        let end = Position {
            byte: start.byte + width,
            column: start.column + usize::from(width > 0),
            ..start
        };
        Span {
            source: self.id,
            start,
            end,
        }
    }

    /// The part of a span that can be underlined: on its first line, without blanks at the end.
    pub(crate) fn caret(&self, span: Span) -> SourceSpan {
        let text = self.text();
        let start = self.floor(span.start.byte);
        let end = self.floor(span.end.byte).max(start);
        let first_line = text[start..end]
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end();
        let width = first_line.floor_char_boundary(first_line.len().min(WIDEST));
        SourceSpan::from((start, width))
    }

    fn floor(&self, byte: usize) -> usize {
        let mut byte = byte.min(self.text().len());
        while !self.text().is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }
}

/// Reads the bytes of a file as UTF-8. What is not UTF-8 is a problem whose caret stands on the
/// first bad byte (shown as U+FFFD).
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Source, Box<Problem>> {
    let id = SourceId::default();
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(Source::new(id, name, text)),
        Err(error) => error,
    };
    // A page of context is enough to show the place, however large the file.
    let good = error.valid_up_to();
    let end = bytes.len().min(good + 64);
    let source = Source::new(id, name, &String::from_utf8_lossy(&bytes[..end]));
    let utf16 = matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]);
    Err(Box::new(
        Problem::new(
            &source,
            ProblemKind::Syntax,
            source.span_at(good),
            "the file is not UTF-8 text",
        )
        .label(if utf16 {
            "a UTF-16 byte order mark"
        } else {
            "this byte is not UTF-8"
        })
        .help("save the file as UTF-8"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new(SourceId(0), "f", "añb\nc");
        assert_eq!(
            source.position(0),
            Position {
                byte: 0,
                line: 1,
                column: 1
            }
        );
        assert_eq!(
            source.position(3),
            Position {
                byte: 3,
                line: 1,
                column: 3
            }
        );
        assert_eq!(
            source.position(2),
            Position {
                byte: 1,
                line: 1,
                column: 2
            }
        );
        assert_eq!(
            source.position(5),
            Position {
                byte: 5,
                line: 2,
                column: 1
            }
        );
        assert_eq!(
            source.position(99),
            Position {
                byte: 6,
                line: 2,
                column: 2
            }
        );
    }

    #[test]
    fn a_caret_stays_on_the_first_line() {
        let source = Source::new(SourceId(0), "f", "one two  \nthree");
        let span = Span {
            source: source.id(),
            start: source.position(4),
            end: source.position(12),
        };
        assert_eq!(source.caret(span), SourceSpan::from((4, 3)));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_a_problem_with_a_place() {
        let problem = decode("f.yml", b"a: b\nc: \xFFd").unwrap_err();
        assert_eq!(problem.to_string(), "the file is not UTF-8 text");
        assert_eq!(
            (problem.span().start.line, problem.span().start.column),
            (2, 4)
        );
        let problem = decode("f.yml", b"\xFF\xFEa\0").unwrap_err();
        assert_eq!(problem.label_text(), "a UTF-16 byte order mark");
    }
}
