//! Tree → [`Pipeline`]: what each keyword may hold, what a job inherits, and everything that is
//! wrong with a file, at once (local-pipelines A1 steps 6 to 10, A2, A5, A9).

use std::sync::Arc;

use self::variables::VariablesOf;
use crate::keywords::{Keywords, Support};
use crate::pipeline::{Pipeline, Variable};
use crate::problem::{PipelineError, Problem, ProblemKind};
use crate::source::{Source, Span};
use crate::suggest::did_you_mean;
use crate::yaml::{self, Document, Entry, Limits, Map, Node};

mod archives;
mod global;
mod image;
mod job;
mod order;
mod parallel;
mod script;
mod secrets;
mod variables;

#[cfg(test)]
mod tests;

/// Problems beyond this many are only counted: nobody reads them.
const MOST_PROBLEMS: usize = 100;

/// Tag of a reference to another part of the file.
const REFERENCE: &str = "!reference";

/// Reads a file to the end and gives the pipeline or all its problems.
pub(crate) fn read(source: &Source) -> Result<Pipeline, PipelineError> {
    let composed = yaml::compose(source, &Limits::default());
    let mut reader = Reader {
        source,
        problems: composed.problems,
        omitted: 0,
        warnings: composed.warnings,
    };
    // After a syntax error the rest of the tree is missing: what it lacks is no news.
    let pipeline = if reader.problems.is_empty() {
        reader
            .body(&composed.documents)
            .and_then(|body| reader.pipeline(&body))
    } else {
        None
    };
    match pipeline {
        Some(mut pipeline) if reader.problems.is_empty() => {
            pipeline.warnings = reader.warnings;
            Ok(pipeline)
        }
        _ => Err(PipelineError::new(source.name(), reader.problems).omitting(reader.omitted)),
    }
}

/// Reads a file of variables: a map of names and values.
pub(crate) fn variables(source: &Source) -> Result<Vec<Variable>, PipelineError> {
    let composed = yaml::compose(source, &Limits::default());
    let mut reader = Reader {
        source,
        problems: composed.problems,
        omitted: 0,
        warnings: composed.warnings,
    };
    let root = composed.documents.first().map(|document| &document.root);
    let variables = match root {
        Some(root) if reader.problems.is_empty() => {
            reader.variables(root, "variables", VariablesOf::Service)
        }
        _ => Vec::new(),
    };
    if reader.problems.is_empty() {
        return Ok(variables);
    }
    Err(PipelineError::new(source.name(), reader.problems).omitting(reader.omitted))
}

/// Reads nodes and collects what is wrong with them.
struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
    /// Problems found and not kept.
    omitted: usize,
    warnings: Vec<Problem>,
}

impl Reader<'_> {
    fn report(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.omitted += 1;
        }
    }

    fn warn(&mut self, problem: Problem) {
        if self.warnings.len() < MOST_PROBLEMS {
            self.warnings.push(problem.warning());
        }
    }

    /// The document that holds the jobs. A header document (`spec`) before it is refused.
    fn body(&mut self, documents: &[Document]) -> Option<Arc<Node>> {
        let filled: Vec<&Document> = documents
            .iter()
            .filter(|document| !document.root.is_null())
            .collect();
        if let Some(third) = filled.get(2) {
            let problem = self
                .at(
                    ProblemKind::Syntax,
                    third.span,
                    "the file has more than two documents",
                )
                .label("the third begins here")
                .help("a header (`spec`) and the pipeline are all that a file may hold");
            self.report(problem);
            return None;
        }
        let header = filled
            .first()
            .and_then(|first| first.root.as_map()?.entry("spec"));
        match (filled.as_slice(), header) {
            ([_, body], Some(spec)) => {
                self.not_supported("spec", spec.key.span, "");
                Some(Arc::clone(&body.root))
            }
            ([first, second], None) => {
                let problem = self
                    .at(ProblemKind::Syntax, second.span, "this document is ignored")
                    .label("the pipeline is the document before it")
                    .help("only a document with `spec` may stand before the pipeline");
                self.warn(problem);
                Some(Arc::clone(&first.root))
            }
            ([first], _) => Some(Arc::clone(&first.root)),
            _ => {
                let problem = self
                    .at(
                        ProblemKind::NoJobs,
                        self.source.span_at(0),
                        "the file is empty",
                    )
                    .label("nothing here")
                    .help("a job needs a name and a `script`");
                self.report(problem);
                None
            }
        }
    }

    fn at(&self, kind: ProblemKind, span: Span, message: impl Into<String>) -> Problem {
        Problem::new(self.source, kind, span, message)
    }

    /// A keyword that GitLab knows and this program does not run yet.
    fn not_supported(&mut self, keyword: &str, span: Span, owner: &str) {
        let of = if owner.is_empty() {
            String::new()
        } else {
            format!(" in {owner}")
        };
        let problem = self
            .at(
                ProblemKind::Unsupported,
                span,
                format!(
                    "`{keyword}` is not supported yet (line {}{of})",
                    span.start.line
                ),
            )
            .label("cannot be run here")
            .help("nothing was started; remove the keyword, or run this pipeline on a server");
        self.report(problem);
    }

    /// A value of the wrong type. What comes from a `!reference` was reported already.
    fn wrong_type(&mut self, node: &Node, path: &str, wanted: &str) -> Option<()> {
        if is_reference(node) {
            return None;
        }
        let problem = self
            .at(
                ProblemKind::Type,
                node.span,
                format!("`{path}` should be {wanted}, not {}", node.what()),
            )
            .label(node.what());
        self.report(problem);
        None
    }

    /// Reports keywords of `map` that cannot be used. Gives whether all can.
    fn check_keywords(&mut self, map: &Map, keywords: &Keywords, path: &str) -> bool {
        let before = self.problems.len();
        for entry in map.entries() {
            self.check_keyword(entry, keywords, path);
        }
        self.problems.len() == before
    }

    fn check_keyword(&mut self, entry: &Entry, keywords: &Keywords, path: &str) {
        let name = entry.key.to_text().unwrap_or_default();
        let known = entry.key.as_str().and_then(|name| keywords.get(name));
        match known {
            Some(Support::Yes) => {}
            Some(Support::NotYet) => self.not_supported(&name, entry.key.span, path),
            None if name == "<<" => {
                let problem = self
                    .at(
                        ProblemKind::Type,
                        entry.key.span,
                        "`<<` needs a map or a list of maps",
                    )
                    .label("merges nothing");
                self.report(problem);
            }
            None => {
                let help = did_you_mean(&name, keywords.names()).unwrap_or_else(|| {
                    format!("keywords here: {}", keywords.supported().join(", "))
                });
                let problem = self
                    .at(
                        ProblemKind::UnknownKeyword,
                        entry.key.span,
                        format!("`{path}` has an unknown keyword `{name}`"),
                    )
                    .label("unknown")
                    .help(help);
                self.report(problem);
            }
        }
    }

    /// Reports each `!reference` in a part of the file that is used.
    fn refuse_references(&mut self, node: &Node) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if is_reference(node) {
                let span = node.tag.as_ref().map_or(node.span, |tag| tag.span);
                if !self.problems.iter().any(|problem| problem.span() == span) {
                    self.not_supported(REFERENCE, span, "");
                }
                continue;
            }
            match &node.value {
                yaml::Value::Seq(items) => open.extend(items.iter().map(|item| &**item)),
                yaml::Value::Map(map) => {
                    open.extend(map.entries().iter().map(|entry| &*entry.value));
                }
                _ => {}
            }
        }
    }

    /// A text that must not be empty.
    fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        match node.as_str() {
            Some(text) if !text.trim().is_empty() => Some(text.to_owned()),
            Some(_) => {
                let problem = self
                    .at(
                        ProblemKind::Missing,
                        node.span,
                        format!("`{path}` is empty"),
                    )
                    .label("no text");
                self.report(problem);
                None
            }
            None => {
                self.wrong_type(node, path, "text");
                None
            }
        }
    }

    /// A list of texts; null is an empty one.
    fn texts(&mut self, node: &Node, path: &str) -> Vec<String> {
        if node.is_null() {
            return Vec::new();
        }
        let Some(items) = node.as_seq() else {
            self.wrong_type(node, path, "a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => {
                    self.wrong_type(item, path, "a list of texts");
                }
            }
        }
        texts
    }
}

fn is_reference(node: &Node) -> bool {
    node.tag_name() == Some(REFERENCE)
}
