//! Job variables: an ordered list with duplicates, look-up and expansion (job-lifecycle §2.2).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::outcome::JobStatus;

mod boolean;
mod expand;
mod nested;

#[cfg(test)]
mod tests;

pub use boolean::parse_bool;

/// Name of the variable that holds the directory of file variables.
pub const TMP_DIR_VARIABLE: &str = "RUNNER_TEMP_PROJECT_DIR";

/// Bytes one expanded value may have. Values pass through environments, where 128 KiB is the
/// most the kernel takes; the bound stops `$A$A$A…` from filling the memory of the runner.
pub const MAX_EXPANDED_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that all values of one set may have after expansion.
pub const MAX_EXPANDED_SET_BYTES: usize = 64 * 1024 * 1024;

/// Longest `KEY=VALUE` that Linux passes to a program (`MAX_ARG_STRLEN` less the final NUL).
pub const MAX_ENV_ENTRY_BYTES: usize = 128 * 1024 - 1;

/// Longest name of a file that Linux takes (`NAME_MAX`).
const LONGEST_FILE_NAME: usize = 255;

/// One variable. `Debug` never shows the value.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Variable {
    /// Name; not necessarily an identifier of a shell.
    pub key: String,
    /// Value; the content in case of a file variable.
    pub value: String,
    /// May be shown to service containers.
    pub public: bool,
    /// The value is written to a file and the variable holds its path.
    pub file: bool,
    /// The value is masked in the trace.
    pub masked: bool,
    /// The value is not expanded.
    pub raw: bool,
    /// Set by the runner itself; never by a server.
    pub internal: bool,
}

impl Variable {
    /// A variable with all flags off.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            ..Self::default()
        }
    }

    /// A variable of the runner that everyone may see.
    pub fn internal_public(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            public: true,
            internal: true,
            ..Self::new(key, value)
        }
    }

    /// Whether every POSIX shell can export the key.
    pub fn key_is_identifier(&self) -> bool {
        let mut bytes = self.key.bytes();
        bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    /// Whether a file variable has a file: where its key is the name of one, which neither leads out of the directory nor is hidden
    /// there like the runner's own.
    pub fn key_is_file_name(&self) -> bool {
        let key = self.key.as_str();
        !key.is_empty()
            && key.len() <= LONGEST_FILE_NAME
            && !key.starts_with('.')
            && !key.contains(['/', '\0'])
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut flags = String::new();
        for (on, name) in [
            (self.public, " public"),
            (self.file, " file"),
            (self.masked, " masked"),
            (self.raw, " raw"),
            (self.internal, " internal"),
        ] {
            if on {
                flags.push_str(name);
            }
        }
        write!(f, "{}=[{} bytes]{flags}", self.key, self.value.len())
    }
}

/// Variables in order. A key may occur more than once; look-ups take the last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variables(Vec<Variable>);

impl Variables {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a variable, which then wins over earlier ones of its key.
    pub fn push(&mut self, variable: Variable) {
        self.0.push(variable);
    }

    /// All entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Variable> {
        self.0.iter()
    }

    /// All entries in order.
    pub fn as_slice(&self) -> &[Variable] {
        &self.0
    }

    /// Number of entries, duplicates included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last entry with that key.
    pub fn get(&self, key: &str) -> Option<&Variable> {
        self.0.iter().rev().find(|variable| variable.key == key)
    }

    /// The value as a setting is read: the content of a file variable, and the empty string for
    /// an unknown key.
    pub fn value(&self, key: &str) -> &str {
        self.get(key).map_or("", |variable| variable.value.as_str())
    }

    /// What a variable holds for programs: its value or, for a file variable, the path of its
    /// file, `<RUNNER_TEMP_PROJECT_DIR>/<KEY>`.
    pub fn program_value<'a>(&self, variable: &'a Variable) -> Cow<'a, str> {
        if variable.file {
            Cow::Owned(file_path(self.value(TMP_DIR_VARIABLE), &variable.key))
        } else {
            Cow::Borrowed(&variable.value)
        }
    }

    /// What `$key` stands for in an expansion (job-lifecycle §2.2): special names first, then
    /// the last entry of that key, then nothing.
    pub fn lookup(&self, key: &str) -> Cow<'_, str> {
        match special(key) {
            Some(text) => Cow::Borrowed(text),
            None => self
                .get(key)
                .map_or(Cow::Borrowed(""), |variable| self.program_value(variable)),
        }
    }

    /// Replaces `$NAME` and `${NAME}` in `text` once, left to right (job-lifecycle §2.2).
    ///
    /// Substituted text is not scanned again. Once the result has [`MAX_EXPANDED_BYTES`],
    /// references are left as they stand.
    pub fn expand(&self, text: &str) -> String {
        expand::expand(text, MAX_EXPANDED_BYTES, |name| self.lookup(name)).0
    }

    /// The same list with each value that is not raw expanded once against *this* list, so that
    /// chains are not resolved (job-lifecycle §2.2).
    pub fn expanded(&self) -> Self {
        self.expanded_reporting().0
    }

    /// As [`Variables::expanded`], with one sentence for each variable that grew too long and so
    /// keeps references in it.
    pub fn expanded_reporting(&self) -> (Self, Vec<String>) {
        let index: HashMap<&str, &Variable> = self
            .0
            .iter()
            .map(|variable| (variable.key.as_str(), variable))
            .collect();
        let tmp_dir = index
            .get(TMP_DIR_VARIABLE)
            .map_or("", |variable| variable.value.as_str());
        let lookup = |name: &str| match special(name) {
            Some(text) => Cow::Borrowed(text),
            None => match index.get(name) {
                Some(variable) if variable.file => Cow::Owned(file_path(tmp_dir, name)),
                Some(variable) => Cow::Borrowed(variable.value.as_str()),
                None => Cow::Borrowed(""),
            },
        };
        let mut budget = MAX_EXPANDED_SET_BYTES;
        let mut problems = Vec::new();
        let mut expanded = Vec::with_capacity(self.0.len());
        for variable in &self.0 {
            let mut variable = variable.clone();
            if !variable.raw && variable.value.contains('$') {
                let limit = budget.min(MAX_EXPANDED_BYTES);
                let (value, complete) = expand::expand(&variable.value, limit, lookup);
                budget = budget.saturating_sub(value.len());
                if !complete {
                    problems.push(format!(
                        "{}: value expands to more than {limit} bytes, the rest is left unexpanded",
                        variable.key
                    ));
                }
                variable.value = value;
            }
            expanded.push(variable);
        }
        (Self(expanded), problems)
    }

    /// `KEY=VALUE` of all entries in order, duplicates included, file variables as path: the
    /// environment of build and helper containers (job-lifecycle §2.4). Call it on the expanded
    /// list.
    pub fn container_env(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|variable| self.env_entry(variable))
            .collect()
    }

    /// `KEY=VALUE` of those entries that service containers may see: public or internal ones
    /// (job-lifecycle §2.4). Call it on the expanded list.
    pub fn service_env(&self) -> Vec<String> {
        self.0
            .iter()
            .filter(|variable| variable.public || variable.internal)
            .map(|variable| self.env_entry(variable))
            .collect()
    }

    fn env_entry(&self, variable: &Variable) -> String {
        format!("{}={}", variable.key, self.program_value(variable))
    }

    /// Keys whose `KEY=VALUE` no program can be given ([`MAX_ENV_ENTRY_BYTES`]); the last entry
    /// of a key counts.
    pub fn too_long_for_env(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|variable| {
                !variable.file
                    && variable.key.len() + 1 + variable.value.len() > MAX_ENV_ENTRY_BYTES
                    && self
                        .get(&variable.key)
                        .is_some_and(|last| std::ptr::eq(last, *variable))
            })
            .map(|variable| variable.key.as_str())
            .collect()
    }

    /// Sets `CI_JOB_STATUS` in the *first* entry of that key, so that one sent by the server
    /// hides it (job-lifecycle §2.1).
    pub fn set_job_status(&mut self, status: JobStatus) {
        let key = JobStatus::VARIABLE;
        if let Some(variable) = self.0.iter_mut().find(|variable| variable.key == key) {
            status.as_str().clone_into(&mut variable.value);
        }
    }
}

/// Path of the file of a file variable.
pub fn file_path(tmp_dir: &str, key: &str) -> String {
    match tmp_dir.trim_end_matches('/') {
        "" if tmp_dir.is_empty() => key.to_owned(),
        dir => format!("{dir}/{key}"),
    }
}

/// Names that are never looked up: shell parameters, which have no meaning here.
fn special(key: &str) -> Option<&'static str> {
    match key {
        "$" => Some("$"),
        "*" | "#" | "@" | "!" | "?" => Some(""),
        _ => match key.as_bytes() {
            [digit] if digit.is_ascii_digit() => Some(""),
            _ => None,
        },
    }
}

impl From<Vec<Variable>> for Variables {
    fn from(list: Vec<Variable>) -> Self {
        Self(list)
    }
}

impl From<Variables> for Vec<Variable> {
    fn from(variables: Variables) -> Self {
        variables.0
    }
}

impl FromIterator<Variable> for Variables {
    fn from_iter<I: IntoIterator<Item = Variable>>(list: I) -> Self {
        Self(list.into_iter().collect())
    }
}

impl Extend<Variable> for Variables {
    fn extend<I: IntoIterator<Item = Variable>>(&mut self, list: I) {
        self.0.extend(list);
    }
}

impl IntoIterator for Variables {
    type Item = Variable;
    type IntoIter = std::vec::IntoIter<Variable>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Variables {
    type Item = &'a Variable;
    type IntoIter = std::slice::Iter<'a, Variable>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
