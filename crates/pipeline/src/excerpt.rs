//! The lines that are shown around a place. A line may be as long as the file: of such a one, the part around the place is shown
//! (the renderer pads to the width of the line, and panics where that is beyond what it can pad).

use std::sync::Arc;

use miette::{MietteError, MietteSpanContents, NamedSource, SourceCode, SourceSpan, SpanContents};

/// Longest line that is shown whole, and longest caret, in bytes.
pub(crate) const WIDEST: usize = 200;
/// What is shown of a longer line before and after the place, in bytes.
const AROUND: usize = 60;

/// A file, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Excerpt(pub(crate) Arc<NamedSource<Arc<str>>>);

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = self.0.read_span(span, lines_before, lines_after)?;
        let longest = whole
            .data()
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::len)
            .max();
        // Without lines around, the renderer asks for line and column of the place.
        if lines_before + lines_after == 0 || longest.is_none_or(|length| length <= WIDEST) {
            return Ok(whole);
        }
        let text: &str = self.0.inner();
        let line_start = text[..span.offset()]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line_end = text[span.offset()..]
            .find('\n')
            .map_or(text.len(), |newline| span.offset() + newline);
        let start = text
            .floor_char_boundary(span.offset().saturating_sub(AROUND))
            .max(line_start);
        let end = text
            .ceil_char_boundary(span.offset() + span.len() + AROUND)
            .min(line_end);
        let line = text[..line_start].matches('\n').count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.0.name().to_owned(),
            &text.as_bytes()[start..end],
            SourceSpan::from((start, end - start)),
            line,
            start - line_start,
            1,
        )))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::parse_bytes;

    fn shown(text: &str) -> String {
        let error = parse_bytes("ci.yml", text.as_bytes()).unwrap_err();
        let mut out = String::new();
        miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
            .render_report(&mut out, &error)
            .unwrap();
        out
    }

    #[rstest]
    #[case::key(format!("\"{}\":\n  script: x\n", "k".repeat(1_000_000)))]
    #[case::lists(format!("a: {}", "[".repeat(100_000)))]
    #[case::maps(format!("a: {}", "{a: ".repeat(50_000)))]
    #[case::keyword(format!("a:\n  script: x\n  {}: y\n", "w".repeat(100_000)))]
    #[case::wide_characters(format!("a:\n  script: {{\"{}\": y}}\n", "ü".repeat(50_000)))]
    #[case::behind_a_long_line(format!("a:\n  script: \"{}\"\n  cache: y\n", "x".repeat(100_000)))]
    fn a_long_line_is_shown_in_part(#[case] text: String) {
        let shown = shown(&text);
        assert!(shown.contains("[ci.yml:"), "{shown}");
        assert!(shown.len() < 5_000, "{} bytes", shown.len());
    }

    #[test]
    fn the_place_of_a_problem_in_a_long_line_is_true() {
        let text = format!("a:\n  script: {{\"{}\": y}}\n", "x".repeat(300));
        let shown = shown(&text);
        assert!(shown.contains("[ci.yml:2:11]"), "{shown}");
        assert!(shown.contains("{\"xxx"), "{shown}");
    }
}
