//! `script`, `before_script`, `after_script`: a text, or lists of texts in lists.

use super::{Reader, is_reference};
use crate::problem::ProblemKind;
use crate::yaml::{Node, Style, Value};

/// How many lists may stand one in another (local-pipelines A5).
const MOST_NESTED: usize = 10;

impl Reader<'_> {
    /// All lines in order. Null is no line.
    pub(super) fn script(&mut self, node: &Node, path: &str) -> Vec<String> {
        let mut lines = Vec::new();
        match &node.value {
            Value::Null => {}
            Value::Str(line) => lines.push(line.clone()),
            Value::Seq(_) if !is_reference(node) => {
                self.script_list(node, path, 1, &mut lines);
            }
            _ => {
                self.wrong_type(node, path, "a text or a list of texts");
            }
        }
        lines
    }

    fn script_list(&mut self, list: &Node, path: &str, level: usize, lines: &mut Vec<String>) {
        if level > MOST_NESTED {
            let message = format!("`{path}` has lists nested more than {MOST_NESTED} levels deep");
            let problem = self
                .at(ProblemKind::Type, list.span, message)
                .label("one list too many");
            self.report(problem);
            return;
        }
        for item in list.as_seq().unwrap_or_default() {
            match &item.value {
                Value::Str(line) => lines.push(line.clone()),
                Value::Seq(_) if !is_reference(item) => {
                    self.script_list(item, path, level + 1, lines);
                }
                _ => self.not_a_line(item, path),
            }
        }
    }

    fn not_a_line(&mut self, item: &Node, path: &str) {
        if is_reference(item) {
            return;
        }
        let help = match (&item.value, item.style) {
            (Value::Map(_), Style::Block) => {
                "a line that holds `: ` is read as a map; put the whole line in quotes, or write it after `- |`"
            }
            (Value::Map(_), _) => "a line that begins with `{` is read as a map; put it in quotes",
            (Value::Null, _) => "nothing stands after the dash; remove it",
            _ => "put the line in quotes",
        };
        let problem = self
            .at(
                ProblemKind::Type,
                item.span,
                format!("`{path}` should hold texts, not {}", item.what()),
            )
            .label(item.what())
            .help(help);
        self.report(problem);
    }
}
