//! Syntax errors in words that say what to do.

use granit_parser::{ErrorKind, ScanError};

use crate::problem::{Problem, ProblemKind};
use crate::source::Source;

/// The parser's error with its place, and a hint for the mistakes people make.
pub(super) fn problem(source: &Source, error: &ScanError) -> Problem {
    let mark = error.marker();
    let byte = mark.byte_offset().unwrap_or_else(|| {
        source
            .text()
            .char_indices()
            .nth(mark.index())
            .map_or(source.text().len(), |(at, _)| at)
    });
    let span = source.span_at(byte);
    let kind = match error.kind() {
        ErrorKind::RecursionLimitExceeded => ProblemKind::Limit,
        _ => ProblemKind::Syntax,
    };
    let problem = Problem::new(source, kind, span, format!("not YAML: {}", error.kind()))
        .label("the parser gave up here");
    match hint(error.kind()) {
        Some(hint) => problem.help(hint),
        None => problem,
    }
}

fn hint(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => "indent with spaces, not with tabs",
        ErrorKind::MappingValueNotAllowed | ErrorKind::SimpleKeyExpected => {
            "a text that holds `: ` needs quotes; else check the indentation of this line and the one before"
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation
        | ErrorKind::BlockSequenceEntryNotAllowed
        | ErrorKind::InvalidSimpleKey => {
            "check the indentation: keys of one map and items of one list begin in the same column"
        }
        ErrorKind::UnclosedQuotedScalar => "a quote is opened and never closed",
        ErrorKind::InvalidTrailingSingleQuotedScalar
        | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            "quotes go around the whole text; inside single quotes write '' for a quote"
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            "use single quotes, or write \\\\ for a backslash in double quotes"
        }
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::InvalidColonPlacement => {
            "check the brackets; a text that begins with `[` or `{` needs quotes"
        }
        ErrorKind::UnexpectedCharacter {
            character: '@' | '`' | '%',
        } => "a text that begins with this character needs quotes",
        ErrorKind::MissingAnchorOrAliasName => "a text that begins with `*` or `&` needs quotes",
        _ => return None,
    })
}
