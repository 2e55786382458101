//! Expansion of references in what references stand for.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use super::{
    MAX_EXPANDED_BYTES, MAX_EXPANDED_SET_BYTES, TMP_DIR_VARIABLE, Variable, Variables, expand,
    file_path, special,
};

/// Longer chains of references are cut: each takes the program's stack.
const MAX_CHAIN: usize = 100;

impl Variables {
    /// As [`Variables::expanded_reporting`], but what a reference stands for is expanded as well: `A=$B`, `B=$C`, `C=x` gives `x`
    /// for all of them. A variable that refers to itself, by whatever way, stands in its own value as it was written; that is
    /// reported.
    pub fn expanded_nested(&self) -> (Self, Vec<String>) {
        let index: HashMap<&str, &Variable> = self
            .iter()
            .map(|variable| (variable.key.as_str(), variable))
            .collect();
        let nested = Nested {
            tmp_dir: index
                .get(TMP_DIR_VARIABLE)
                .map_or("", |variable| variable.value.as_str()),
            index,
            state: RefCell::default(),
        };
        let expanded = self
            .iter()
            .map(|variable| {
                let last = nested
                    .index
                    .get(variable.key.as_str())
                    .is_some_and(|last| std::ptr::eq(*last, variable));
                let value = if last {
                    nested.value_of(variable)
                } else {
                    nested.expanded(variable)
                };
                Variable {
                    value,
                    ..variable.clone()
                }
            })
            .collect();
        let mut problems = nested.state.into_inner().problems;
        problems.dedup();
        (expanded, problems)
    }
}

struct Nested<'a> {
    /// The last entry of each key.
    index: HashMap<&'a str, &'a Variable>,
    tmp_dir: &'a str,
    state: RefCell<State<'a>>,
}

#[derive(Default)]
struct State<'a> {
    done: HashMap<&'a str, String>,
    /// On the way from a variable to what it refers to.
    chain: Vec<&'a str>,
    bytes: usize,
    problems: Vec<String>,
}

impl<'a> Nested<'a> {
    fn lookup(&self, key: &str) -> Cow<'a, str> {
        if let Some(text) = special(key) {
            return Cow::Borrowed(text);
        }
        match self.index.get(key) {
            None => Cow::Borrowed(""),
            Some(variable) if variable.file => Cow::Owned(file_path(self.tmp_dir, key)),
            Some(variable) => Cow::Owned(self.value_of(variable)),
        }
    }

    /// The value of the last entry of a key, worked out once.
    fn value_of(&self, variable: &'a Variable) -> String {
        let key = variable.key.as_str();
        if let Some(value) = self.state.borrow().done.get(key) {
            return value.clone();
        }
        {
            let mut state = self.state.borrow_mut();
            if state.chain.contains(&key) {
                state.problems.push(format!(
                    "{key}: refers to itself, that reference is left as it is"
                ));
                return variable.value.clone();
            }
            if state.chain.len() >= MAX_CHAIN {
                state.problems.push(format!(
                    "{key}: is at the end of a chain of {MAX_CHAIN} references and is left unexpanded"
                ));
                return variable.value.clone();
            }
            state.chain.push(key);
        }
        let value = self.expanded(variable);
        let mut state = self.state.borrow_mut();
        state.chain.pop();
        state.done.insert(key, value.clone());
        value
    }

    fn expanded(&self, variable: &'a Variable) -> String {
        if variable.raw || !variable.value.contains('$') {
            return variable.value.clone();
        }
        let left = MAX_EXPANDED_SET_BYTES.saturating_sub(self.state.borrow().bytes);
        let limit = left.min(MAX_EXPANDED_BYTES);
        let (value, complete) = expand::expand(&variable.value, limit, |name| self.lookup(name));
        let mut state = self.state.borrow_mut();
        state.bytes += value.len();
        if !complete {
            state.problems.push(format!(
                "{}: value expands to more than {limit} bytes, the rest is left unexpanded",
                variable.key
            ));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(list: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let variables: Variables = list
            .iter()
            .map(|(key, value)| Variable::new(*key, *value))
            .collect();
        let (expanded, problems) = variables.expanded_nested();
        let values = expanded.iter().map(|variable| variable.value.clone());
        (values.collect(), problems)
    }

    #[test]
    fn chains_are_followed_whatever_their_order() {
        let (found, problems) = values(&[("A", "$B"), ("B", "<$C>"), ("C", "x"), ("D", "${A}$A")]);
        assert_eq!(found, ["<x>", "<x>", "x", "<x><x>"]);
        assert!(problems.is_empty());
        let (found, _) = values(&[
            ("A", "first $B"),
            ("A", "last $B"),
            ("B", "$$C"),
            ("C", "$A"),
        ]);
        assert_eq!(found, ["first $C", "last $C", "$C", "last $C"]);
    }

    #[test]
    fn raw_values_and_files_end_a_chain() {
        let variables = Variables::from(vec![
            Variable::new("A", "$RAW $FILE"),
            Variable {
                raw: true,
                ..Variable::new("RAW", "$C")
            },
            Variable {
                file: true,
                ..Variable::new("FILE", "$C")
            },
            Variable::new("C", "x"),
            Variable::new(TMP_DIR_VARIABLE, "/t"),
        ]);
        let (expanded, _) = variables.expanded_nested();
        assert_eq!(expanded.value("A"), "$C /t/FILE");
        assert_eq!(expanded.value("FILE"), "x", "the content is expanded");
    }

    #[test]
    fn circles_end_and_are_reported() {
        let (found, problems) = values(&[("PATH", "$PATH:/x")]);
        assert_eq!(found, ["$PATH:/x:/x"]);
        assert_eq!(
            problems,
            ["PATH: refers to itself, that reference is left as it is"]
        );
        let (found, problems) = values(&[("A", "a$B"), ("B", "b$A")]);
        assert_eq!(found, ["aba$B", "ba$B"]);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn neither_long_chains_nor_growth_are_the_end_of_the_runner() {
        let chain: Vec<(String, String)> = (0..50_000)
            .map(|n| (format!("V{n}"), format!("$V{}", n + 1)))
            .collect();
        let chain: Vec<(&str, &str)> = chain
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert!(!values(&chain).1.is_empty());
        let doubling: Vec<(String, String)> = (0..64)
            .map(|n| (format!("V{n}"), format!("${{V{0}}}${{V{0}}}x", n + 1)))
            .collect();
        let doubling: Vec<(&str, &str)> = doubling
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let (found, problems) = values(&doubling);
        assert!(!problems.is_empty());
        assert!(found.iter().map(String::len).sum::<usize>() <= 2 * MAX_EXPANDED_SET_BYTES);
    }
}
