//! Places in a text: line and column, and the line itself with a mark under the place.
//!
//! Excerpts end up in logs, so they must not show secrets, also not of a file that is too broken to know its keys. What follows a
//! key that sounds like a secret is blotted out; lines that may be the middle of a longer value show no text of their own.

/// Longest part of a line that is shown, in characters.
const WIDTH: usize = 100;

/// Stands for what is not shown.
const MASKED: &str = "[MASKED]";

/// Parts of key names whose values are not shown. `environment` and scripts hold credentials often enough.
const SECRET_WORDS: [&str; 9] = [
    "token",
    "password",
    "secret",
    "key",
    "dsn",
    "credential",
    "environment",
    "script",
    "auth",
];

/// How tokens begin that GitLab makes.
const TOKEN_PREFIXES: [&str; 5] = ["glrt-", "glrtr-", "glcbt-", "glpat-", "GR1348941"];

/// How much is known about the value at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Its key is known and harmless. (Others on the same line need not be.)
    Plain,
    /// Its key is known and secret.
    Secret,
    /// Nothing: the file could not be parsed.
    Doubtful,
}

/// A text and where its lines begin.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Finds the lines of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// Line of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// Line and column (in characters) of a byte offset, from 1.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let before = self
            .text
            .get(self.starts[line - 1]..offset.min(self.text.len()))
            .unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The line of `offset` with a mark under it. Empty when nothing of it may be shown.
    pub(crate) fn excerpt(&self, offset: usize, shown: Shown) -> String {
        let (number, column) = self.place(offset);
        let start = self.starts[number - 1];
        let end = self
            .starts
            .get(number)
            .map_or(self.text.len(), |next| next - 1);
        let line = self.text[start..end].trim_end_matches('\r');
        let Some(shown) = visible(line, shown, self.inside_long_text(start)) else {
            return String::new();
        };
        let (shown, column) = window(&shown, column);
        let margin = " ".repeat(number.to_string().len());
        let mark = " ".repeat(column.min(shown.chars().count() + 1) - 1);
        format!("{margin} |\n{number} | {shown}\n{margin} | {mark}^")
    }

    /// Whether a line starts inside a `"""` or `'''` text, judged by the number of quotes before it.
    fn inside_long_text(&self, start: usize) -> bool {
        ["\"\"\"", "'''"]
            .iter()
            .any(|quotes| self.text[..start].matches(quotes).count() % 2 == 1)
    }
}

/// What of a line may be shown.
fn visible(line: &str, shown: Shown, inside_long_text: bool) -> Option<String> {
    if inside_long_text {
        return None;
    }
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let lower = line.to_ascii_lowercase();
    let header = lower.trim_start().starts_with('[') && !lower.contains(['=', '"', '\'']);
    if header {
        return Some(line);
    }
    let Some(equals) = line.find('=') else {
        // Part of an array over several lines, or a stray word: a quoted one may be a value.
        let doubtful = line.contains(['"', '\'']) || line.len() > 40;
        let harmless =
            !has_token(&line) && (shown == Shown::Plain || (shown == Shown::Doubtful && !doubtful));
        return harmless.then_some(line);
    };
    let first_key = line[..equals].trim();
    // An open quote means that the `=` is part of a value, as in a list of `KEY=value` texts.
    let closed = ['"', '\'']
        .iter()
        .all(|quote| first_key.matches(*quote).count() % 2 == 0);
    let bare_key = closed
        && first_key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-. \"'".contains(&byte));
    if !bare_key {
        return None;
    }
    let sounds_secret = SECRET_WORDS.iter().any(|word| lower.contains(word));
    if shown == Shown::Secret || sounds_secret || has_token(&line) {
        return Some(format!("{} {MASKED}", &line[..=equals]));
    }
    Some(line)
}

/// Whether a token of GitLab stands in the line.
fn has_token(line: &str) -> bool {
    TOKEN_PREFIXES.iter().any(|prefix| line.contains(prefix))
}

/// The part of a long line around a column, and the column in it.
fn window(line: &str, column: usize) -> (String, usize) {
    let length = line.chars().count();
    if length <= WIDTH {
        return (line.to_owned(), column);
    }
    let from = column.saturating_sub(WIDTH / 2).min(length - WIDTH);
    let part: String = line.chars().skip(from).take(WIDTH).collect();
    (part, column.saturating_sub(from).max(1))
}

#[cfg(test)]
mod tests {
    use super::{Lines, Shown};
    use rstest::rstest;

    fn excerpt_at(text: &str, marked: &str) -> String {
        Lines::new(text).excerpt(text.find(marked).unwrap(), Shown::Doubtful)
    }

    #[test]
    fn excerpt_marks_the_place() {
        let text = "a = 1\n  memory = \"lots\"\r\nb = 2";
        assert_eq!(
            excerpt_at(text, "\"lots"),
            "  |\n2 |   memory = \"lots\"\n  |            ^"
        );
        assert_eq!(
            Lines::new(text).place(text.find("\"lots").unwrap()),
            (2, 12)
        );
    }

    #[test]
    fn columns_count_characters() {
        let text = "é = \"ü\" x";
        assert_eq!(Lines::new(text).place(text.find('x').unwrap()), (1, 9));
    }

    #[test]
    fn places_behind_the_end_are_at_the_end() {
        assert_eq!(Lines::new("a\nb").place(99), (2, 2));
        assert_eq!(Lines::new("").place(0), (1, 1));
        assert_eq!(
            Lines::new("a\n").excerpt(99, Shown::Doubtful),
            "  |\n2 | \n  | ^"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("image = \"{}HERE{}\"", "a".repeat(500), "b".repeat(500));
        let shown = excerpt_at(&text, "HERE");
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].len() < 120 && lines[1].contains("HERE"), "{shown}");
        assert_eq!(lines[1].find("HERE"), lines[2].find('^'));
    }

    #[rstest]
    #[case::token("  token = \"hunter2\"", "=")]
    #[case::token_in_other_case("Token = hunter2", "hunter2")]
    #[case::dashed("tls-key-file = hunter2", "hunter2")]
    #[case::inline_table("s3 = { SecretKey = \"hunter2\", x = }", "x =")]
    #[case::environment("environment = [\"A=hunter2\"", "[")]
    #[case::line_of_an_array("environment = [\n  \"PASS=hunter2\",\n", "\"PASS")]
    #[case::array_in_an_array("environment = [\n  ['hunter2'", "'hunter2")]
    #[case::bare_line_of_an_array("volumes = [\n  'hunter2'", "'hunter2")]
    #[case::long_text("PrivateKey = \"\"\"\nhunter2\nx", "hunter2")]
    #[case::prefix_alone("name = glrt-hunter2", "glrt")]
    #[case::prefix_without_key("glrt-hunter2", "glrt")]
    fn excerpts_show_no_secret(#[case] text: &str, #[case] marked: &str) {
        let shown = excerpt_at(text, marked);
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn an_item_of_a_harmless_list_is_shown_on_its_own_line() {
        let text = "volumes = [\n  '/a',\n  '',\n]";
        let shown = Lines::new(text).excerpt(text.find("'',").unwrap(), Shown::Plain);
        assert_eq!(shown, "  |\n3 |   '',\n  |   ^");
    }

    #[test]
    fn a_value_marked_secret_is_not_shown_whatever_its_key() {
        assert!(
            !Lines::new("x = \"hunter2\"")
                .excerpt(4, Shown::Secret)
                .contains("hunter2")
        );
    }
}
