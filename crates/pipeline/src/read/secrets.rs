//! `secrets`: names of variables, each from a provider (local-pipelines A5).

use super::Reader;
use crate::keywords::{SECRET, SECRET_PROVIDERS};
use crate::pipeline::JobSecret;
use crate::problem::ProblemKind;
use crate::yaml::{Entry, Node, Value};

impl Reader<'_> {
    /// The secrets of a job. What their providers are told is not read: nobody is asked here.
    pub(super) fn secrets(&mut self, node: &Node, path: &str) -> Vec<JobSecret> {
        if node.is_null() {
            return Vec::new();
        }
        let Some(map) = node.as_map() else {
            self.wrong_type(node, path, "a map of names and providers");
            return Vec::new();
        };
        map.entries()
            .iter()
            .filter_map(|entry| self.secret(entry, path))
            .collect()
    }

    fn secret(&mut self, entry: &Entry, path: &str) -> Option<JobSecret> {
        let name = entry.key.to_text().unwrap_or_default();
        let path = format!("{path}:{name}");
        let Some(map) = entry.value.as_map() else {
            self.wrong_type(&entry.value, &path, "a map with a provider");
            return None;
        };
        if !self.check_keywords(map, &SECRET, &path) {
            return None;
        }
        if !SECRET_PROVIDERS
            .iter()
            .any(|name| map.entry(name).is_some())
        {
            let problem = self
                .at(
                    ProblemKind::Missing,
                    entry.key.span,
                    format!("the secret `{name}` has no provider"),
                )
                .label("this secret")
                .help(format!("providers: {}", SECRET_PROVIDERS.join(", ")));
            self.report(problem);
            return None;
        }
        let file = match map.get("file").map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => true,
            Some((_, Value::Bool(file))) => *file,
            Some((node, _)) => {
                self.wrong_type(node, &format!("{path}:file"), "a boolean");
                return None;
            }
        };
        Some(JobSecret {
            name,
            file,
            span: entry.key.span,
        })
    }
}
