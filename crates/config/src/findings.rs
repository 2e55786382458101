//! What a load has found so far, with byte offsets; [`Findings::finish`] turns offsets into lines.

use std::path::Path;

use crate::excerpt::{Lines, Shown};
use crate::problem::{ConfigError, Problem, ProblemKind, UnknownKey, Warning, WarningKind};

/// Most problems that are reported of one file; a file that is not a config at all could have one per line.
const MOST: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Findings {
    problems: Vec<Found>,
    warnings: Vec<(usize, Warning)>,
    unknown: Vec<(usize, UnknownKey)>,
    /// `name` of the runner entry that is looked at.
    pub(crate) runner: Option<String>,
}

#[derive(Debug)]
struct Found {
    at: usize,
    kind: ProblemKind,
    key: String,
    message: String,
    shown: Shown,
}

/// A place in [`Findings`], to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    problems: usize,
    warnings: usize,
}

impl Findings {
    /// Notes what makes the file unusable. `shown`: what is known about the value at `at`.
    pub(crate) fn problem(
        &mut self,
        kind: ProblemKind,
        at: usize,
        key: String,
        shown: Shown,
        message: impl Into<String>,
    ) {
        self.problems.push(Found {
            at,
            kind,
            key,
            message: message.into(),
            shown,
        });
    }

    pub(crate) fn warn(
        &mut self,
        kind: WarningKind,
        at: usize,
        key: String,
        message: impl Into<String>,
    ) {
        let warning = Warning {
            kind,
            key,
            runner: self.runner.clone(),
            line: 0,
            message: message.into(),
        };
        self.warnings.push((at, warning));
    }

    /// `did_you_mean` is asked for the first hundred only: comparing names is work, and nobody reads on.
    pub(crate) fn unknown(
        &mut self,
        at: usize,
        key: String,
        did_you_mean: impl FnOnce() -> Option<&'static str>,
    ) {
        let did_you_mean = if self.unknown.len() < 100 {
            did_you_mean()
        } else {
            None
        };
        self.unknown.push((
            at,
            UnknownKey {
                key,
                line: 0,
                did_you_mean,
            },
        ));
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            problems: self.problems.len(),
            warnings: self.warnings.len(),
        }
    }

    /// Forgets the warnings since `mark`, and the problems a program that does not use the values need not care about.
    pub(crate) fn forget_but_types(&mut self, mark: Mark) {
        self.warnings.truncate(mark.warnings);
        let mut index = 0;
        self.problems.retain(|problem| {
            index += 1;
            index <= mark.problems || problem.kind != ProblemKind::Value
        });
    }

    /// Whether the file cannot be used so far.
    pub(crate) fn any_problem(&self) -> bool {
        !self.problems.is_empty()
    }

    /// All in file order, or the error.
    pub(crate) fn finish(
        mut self,
        text: &str,
        path: &Path,
    ) -> Result<(Vec<Warning>, Vec<UnknownKey>), ConfigError> {
        let lines = Lines::new(text);
        if self.any_problem() {
            return Err(self.into_error(&lines, path));
        }
        self.warnings.sort_by_key(|(at, _)| *at);
        self.unknown.sort_by_key(|(at, _)| *at);
        let warnings = self.warnings.into_iter().map(|(at, warning)| Warning {
            line: lines.line(at),
            ..warning
        });
        let unknown = self.unknown.into_iter().map(|(at, key)| UnknownKey {
            line: lines.line(at),
            ..key
        });
        Ok((warnings.collect(), unknown.collect()))
    }

    /// The problems alone.
    pub(crate) fn into_error(mut self, lines: &Lines<'_>, path: &Path) -> ConfigError {
        self.problems.sort_by_key(|found| found.at);
        let problems = self
            .problems
            .into_iter()
            .take(MOST)
            .map(|found| found.placed(lines))
            .collect();
        ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        }
    }
}

impl Found {
    fn placed(self, lines: &Lines<'_>) -> Problem {
        let (line, column) = lines.place(self.at);
        let excerpt = lines.excerpt(self.at, self.shown);
        Problem {
            kind: self.kind,
            key: self.key,
            line,
            column,
            message: self.message,
            excerpt,
        }
    }
}
