//! How a command fails: what, and what to do about it.

use std::io::Write as _;

/// A failed command. Printed once, at the end.
#[derive(Debug)]
pub(crate) enum CliError {
    /// A sentence and hints.
    Plain {
        /// What failed.
        message: String,
        /// What to do.
        hints: Vec<String>,
    },
    /// The same of a command that logs: told in the form of the log.
    Fatal {
        /// What failed.
        message: String,
        /// What to do.
        hints: Vec<String>,
    },
    /// A report with places in a source text.
    Report(miette::Report),
}

impl CliError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Plain {
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Of a command that has begun to log.
    pub(crate) fn fatal(message: impl Into<String>) -> Self {
        Self::Fatal {
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// The same in the form of the log, which may be read by programs.
    pub(crate) fn in_the_log(self) -> Self {
        match self {
            Self::Plain { message, hints } => Self::Fatal { message, hints },
            other => other,
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Plain { message, mut hints } => {
                hints.push(hint.into());
                Self::Plain { message, hints }
            }
            Self::Fatal { message, mut hints } => {
                hints.push(hint.into());
                Self::Fatal { message, hints }
            }
            report @ Self::Report(_) => report,
        }
    }

    pub(crate) fn print(&self) {
        let mut stderr = std::io::stderr().lock();
        let printed = match self {
            Self::Plain { message, hints } => writeln!(stderr, "error: {message}").and_then(|()| {
                hints
                    .iter()
                    .try_for_each(|hint| writeln!(stderr, "hint: {hint}"))
            }),
            Self::Fatal { message, hints } => {
                stderr.write_all(crate::logging::fatal(message, hints).as_bytes())
            }
            Self::Report(report) => writeln!(stderr, "{report:?}"),
        };
        // Nobody is left to tell that stderr is closed.
        printed.ok();
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain { message, .. } | Self::Fatal { message, .. } => f.write_str(message),
            Self::Report(report) => write!(f, "{report}"),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
