//! What is wrong with a file, and what is odd about it.
//!
//! Messages never hold a token, a password or another value of a key marked secret; excerpts have them blotted out.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is there but cannot be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The file was read and is wrong in one or more places.
    #[error("{}", Listing { path, problems })]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// All that was found, in file order; at least one.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Whether a running process must end when a reload meets this, as the peer does for `concurrent < 1`; with any other error
    /// the old configuration stays (config-toml §1).
    #[must_use]
    pub fn ends_the_process(&self) -> bool {
        match self {
            Self::Read { .. } => false,
            Self::Invalid { problems, .. } => problems
                .iter()
                .any(|problem| problem.kind == ProblemKind::NoJobSlots),
        }
    }

    /// The problems of [`ConfigError::Invalid`], else none.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } => &[],
            Self::Invalid { problems, .. } => problems,
        }
    }
}

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What sort of thing.
    pub kind: ProblemKind,
    /// Dotted path such as `runners[0].docker.memory`; empty when the file is no TOML at all.
    pub key: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what would be right: a lower-case fragment.
    pub message: String,
    /// The line with a mark under the place, secrets blotted out; empty where showing it could leak one.
    pub excerpt: String,
}

/// Sorts of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Not UTF-8 or not TOML.
    Syntax,
    /// A value of another type than the key takes.
    Type,
    /// The right type, but no value the key can have.
    Value,
    /// `concurrent` is less than 1.
    NoJobSlots,
}

/// `Display` of a list of problems: one block each.
struct Listing<'a> {
    path: &'a std::path::Path,
    problems: &'a [Problem],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{}:{}:{}: ",
                self.path.display(),
                problem.line,
                problem.column
            )?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
            if !problem.excerpt.is_empty() {
                write!(f, "\n{}", problem.excerpt)?;
            }
        }
        Ok(())
    }
}

/// Something odd that does not stop the process. `Display` gives one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What sort of thing.
    pub kind: WarningKind,
    /// Dotted path such as `runners[0].docker.cap_add`.
    pub key: String,
    /// `name` of the runner it concerns (may be empty); `None` outside `[[runners]]`.
    pub runner: Option<String>,
    /// Line in the file, from 1.
    pub line: usize,
    /// What it means: a lower-case fragment.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.key)?;
        if let Some(runner) = self.runner.as_deref().filter(|name| !name.is_empty()) {
            write!(f, " (runner {runner:?})")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Sorts of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// The peer acts on the key, Gantry does not yet.
    NotSupportedYet,
    /// The key has no meaning for Gantry and will not get one.
    NoEffect,
    /// No such key in `[gantry]`.
    UnknownKey,
    /// The same key twice, in different case.
    DoubleKey,
    /// The value is not what it seems: replaced or left out.
    Value,
    /// The runner entry cannot be used: see [`crate::Skip`].
    RunnerSkipped,
}

/// A key nobody knows. It loads; `lint` and the debug log name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// Dotted path.
    pub key: String,
    /// Line, from 1.
    pub line: usize,
    /// The known key of the same table it most looks like.
    pub did_you_mean: Option<&'static str>,
}
