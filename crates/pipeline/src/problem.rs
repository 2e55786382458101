//! What is wrong with a pipeline, where, and what to do about it.

use std::fmt;

use miette::{Diagnostic, LabeledSpan};

use crate::excerpt::Excerpt;
use crate::source::{Source, Span};

/// What sort of problem it is. A caller decides by this, never by the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Not YAML, or not text.
    Syntax,
    /// Too large, too deep, or aliases that expand to too much.
    Limit,
    /// YAML that GitLab's parser refuses or reads in a surprising way.
    Scalar,
    /// A value of the wrong type or form.
    Type,
    /// A keyword of GitLab that is not supported yet.
    Unsupported,
    /// A keyword that GitLab does not know either.
    UnknownKeyword,
    /// Something required is not there.
    Missing,
    /// A name that points at nothing, such as a stage.
    Undefined,
    /// Two things that exclude each other.
    Conflict,
    /// A name that may not be used.
    Reserved,
    /// A key given twice.
    Duplicate,
    /// A job that can be read, and not be run as things are.
    Job,
    /// The file holds no pipeline: no visible job, or none outside `.pre` and `.post`.
    NoJobs,
}

/// Whether a problem stops the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but may surprise.
    Warning,
}

/// One problem with its place.
///
/// `Display` is the message alone; [`Problem::line`] puts the place before it. As a
/// [`Diagnostic`] it renders with the source line and carets.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: ProblemKind,
    severity: Severity,
    message: String,
    label: String,
    help: Option<String>,
    span: Span,
    caret: miette::SourceSpan,
    source: Excerpt,
}

impl Problem {
    /// An error at `span` of `source`. The message is a lower-case fragment.
    pub(crate) fn new(
        source: &Source,
        kind: ProblemKind,
        span: Span,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            severity: Severity::Error,
            message: message.into(),
            label: "here".to_owned(),
            help: None,
            span,
            caret: source.caret(span),
            source: Excerpt(source.named()),
        }
    }

    /// Says what the caret points at.
    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Makes it a warning.
    #[must_use]
    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// What sort of problem.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Error or warning.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Where.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Name of the file.
    pub fn file(&self) -> &str {
        self.source.0.name()
    }

    /// What the caret points at.
    pub fn label_text(&self) -> &str {
        &self.label
    }

    /// What to do, if that can be said.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// `file:line:column: message`, for output without source lines.
    pub fn line(&self) -> String {
        let Span { start, .. } = self.span;
        format!(
            "{}:{}:{}: {}",
            self.file(),
            start.line,
            start.column,
            self.message
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

// Not derived: the severity is decided per value.
impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_primary_with_span(Some(self.label.clone()), self.caret);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Why a file is no pipeline that can be run: all problems of it, in the order of their places.
#[derive(Debug, Clone, thiserror::Error, Diagnostic)]
#[error("{file} cannot be run: {}", count(problems.len(), *omitted))]
pub struct PipelineError {
    file: String,
    #[related]
    problems: Vec<Problem>,
    omitted: usize,
}

impl PipelineError {
    /// All problems of a file, at least one.
    pub fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::span);
        Self {
            file: file.to_owned(),
            problems,
            omitted: 0,
        }
    }

    /// The same, where more problems were found than are kept.
    pub(crate) fn omitting(self, omitted: usize) -> Self {
        Self { omitted, ..self }
    }

    /// Name of the entry file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems, at least one and at most about a hundred.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

fn count(problems: usize, omitted: usize) -> String {
    match (problems, omitted) {
        (1, 0) => "1 problem".to_owned(),
        (many, 0) => format!("{many} problems"),
        (many, more) => format!(
            "{} problems, of which these are the first {many}",
            many + more
        ),
    }
}
