//! Reads single settings and collects what is wrong with them.

use crate::variable::{Variables, parse_bool};

/// Reads settings from variables.
pub(super) struct Reader<'a> {
    variables: &'a Variables,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(variables: &'a Variables) -> Self {
        Self {
            variables,
            problems: Vec::new(),
        }
    }

    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }

    pub(super) fn problem(&mut self, sentence: String) {
        if !self.problems.contains(&sentence) {
            self.problems.push(sentence);
        }
    }

    /// The value, unless it is missing or empty.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        Some(self.variables.value(name)).filter(|text| !text.is_empty())
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        let Some(text) = self.text(name) else {
            return default;
        };
        parse_bool(text).unwrap_or_else(|| {
            self.problem(format!(
                "{name}: expected bool got {text:?}, using default value: {default}"
            ));
            default
        })
    }

    pub(super) fn integer(&mut self, name: &str, default: i64) -> i64 {
        let Some(text) = self.text(name) else {
            return default;
        };
        text.parse().unwrap_or_else(|_| {
            self.problem(format!(
                "{name}: expected int got {text:?}, using default value: {default}"
            ));
            default
        })
    }

    /// 1 unless set, and never less than 1 nor more than 10.
    pub(super) fn attempts(&mut self, name: &str) -> u32 {
        let wanted = self.integer(name, 1);
        let clamped = wanted.clamp(1, 10);
        if clamped != wanted {
            self.problem(format!(
                "{name}: number of attempts out of the range [1, 10], clamping to: {clamped}"
            ));
        }
        u32::try_from(clamped).unwrap_or(1)
    }

    pub(super) fn words(&self, name: &str) -> Vec<String> {
        self.text(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    /// Words; none means the default, and the single word `none` means no flags.
    pub(super) fn flags(&self, name: &str, default: &[&str]) -> Vec<String> {
        let words = self.words(name);
        match words.as_slice() {
            [] => default.iter().map(ToString::to_string).collect(),
            [word] if word == "none" => Vec::new(),
            _ => words,
        }
    }
}
