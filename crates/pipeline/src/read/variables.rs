//! `variables`: names and values, or values with options.

use super::Reader;
use crate::keywords::{GLOBAL_VARIABLE, JOB_VARIABLE, Keywords};
use crate::pipeline::Variable;
use crate::problem::ProblemKind;
use crate::yaml::{Entry, Map, Node, Style, Value};

/// Where variables stand, which decides what may be said about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VariablesOf {
    /// The file.
    Global,
    /// A job.
    Job,
    /// A service: plain values only.
    Service,
}

impl VariablesOf {
    fn keywords(self) -> Option<&'static Keywords> {
        match self {
            Self::Global => Some(&GLOBAL_VARIABLE),
            Self::Job => Some(&JOB_VARIABLE),
            Self::Service => None,
        }
    }
}

impl Reader<'_> {
    /// All variables of a map, each key once. Null is none.
    pub(super) fn variables(&mut self, node: &Node, path: &str, of: VariablesOf) -> Vec<Variable> {
        if node.is_null() {
            return Vec::new();
        }
        let Some(map) = node.as_map() else {
            self.wrong_type(node, path, "a map of names and values");
            return Vec::new();
        };
        let mut variables: Vec<Variable> = Vec::with_capacity(map.entries().len());
        for entry in map.entries() {
            let key = entry.key.to_text().unwrap_or_default();
            if key.is_empty() {
                let problem = self
                    .at(
                        ProblemKind::Missing,
                        entry.key.span,
                        format!("a name in `{path}` is empty"),
                    )
                    .label("no name");
                self.report(problem);
                continue;
            }
            if key.contains(['=', '\0']) {
                let message = format!("`{path}` has a name that no environment can hold");
                let problem = self
                    .at(ProblemKind::Reserved, entry.key.span, message)
                    .label("`=` and NUL cannot stand in a name");
                self.report(problem);
                continue;
            }
            let path = format!("{path}:{key}");
            if let Some(variable) = self.variable(entry, key, &path, of) {
                variables.push(variable);
            }
        }
        variables
    }

    fn variable(
        &mut self,
        entry: &Entry,
        key: String,
        path: &str,
        of: VariablesOf,
    ) -> Option<Variable> {
        let node = &*entry.value;
        if let (Some(map), Some(keywords)) = (node.as_map(), of.keywords()) {
            if !self.check_keywords(map, keywords, path) {
                return None;
            }
            return self.described(map, entry, key, path);
        }
        let wanted = match of {
            VariablesOf::Service => "text, a number or a boolean",
            _ => "text, a number, a boolean, or a map with `value`",
        };
        let value = self.value(node, path, wanted)?;
        Some(Variable {
            key,
            value,
            expand: true,
            description: None,
            options: Vec::new(),
        })
    }

    /// `{value, description, options, expand}`.
    fn described(&mut self, map: &Map, entry: &Entry, key: String, path: &str) -> Option<Variable> {
        let value = match map.get("value") {
            Some(node) => self.value(
                node,
                &format!("{path}:value"),
                "text, a number or a boolean",
            )?,
            None => String::new(),
        };
        let expand = match map.get("expand").map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => true,
            Some((_, Value::Bool(expand))) => *expand,
            Some((node, _)) => {
                self.wrong_type(node, &format!("{path}:expand"), "a boolean");
                return None;
            }
        };
        let description = match map.get("description") {
            None => None,
            Some(node) => Some(self.value(node, &format!("{path}:description"), "text")?),
        };
        let options = map.get("options").map_or_else(Vec::new, |node| {
            self.texts(node, &format!("{path}:options"))
        });
        if !options.is_empty() && !options.contains(&value) {
            let span = map.get("value").map_or(entry.key.span, |node| node.span);
            let problem = self
                .at(
                    ProblemKind::Conflict,
                    span,
                    format!("the value of `{path}` is not one of its options"),
                )
                .label("not an option")
                .help(format!("options: {}", options.join(", ")));
            self.report(problem);
        }
        Some(Variable {
            key,
            value,
            expand,
            description,
            options,
        })
    }

    /// A scalar as text. A number or boolean that comes out other than it was written is a
    /// warning: `3.10` is the number 3.1.
    fn value(&mut self, node: &Node, path: &str, wanted: &str) -> Option<String> {
        let Some(text) = node.to_text() else {
            self.wrong_type(node, path, wanted);
            return None;
        };
        if text.contains('\0') {
            let problem = self
                .at(
                    ProblemKind::Type,
                    node.span,
                    format!("`{path}` holds a NUL character"),
                )
                .label("no environment can hold it");
            self.report(problem);
            return None;
        }
        let written = self
            .source
            .text()
            .get(node.span.start.byte..node.span.end.byte);
        let typed = matches!(
            node.value,
            Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_)
        );
        if let Some(written) = written
            && typed
            && node.style == Style::Plain
            && written.trim() != text
        {
            let written = written.trim();
            let problem = self
                .at(
                    ProblemKind::Scalar,
                    node.span,
                    format!("`{path}` is `{text}`, not `{written}`"),
                )
                .label(format!("{} in YAML", node.what()))
                .help(format!("for the text itself write \"{written}\""));
            self.warn(problem);
        }
        Some(text)
    }
}
