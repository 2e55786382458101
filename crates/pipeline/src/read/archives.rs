//! `artifacts` and `cache` (local-pipelines A5, D3, D4).

use super::Reader;
use crate::keywords::{ARTIFACTS, CACHE, CACHE_KEY, COVERAGE_REPORT, REPORTS};
use crate::pipeline::{Artifacts, Cache, CacheKey, KeyBy, KeyFiles, Report, When};
use crate::problem::ProblemKind;
use crate::source::Span;
use crate::suggest::nearest;
use crate::yaml::{Entry, Map, Node, Value};

/// Caches of one job.
const MOST_CACHES: usize = 4;
/// Files of one key.
const MOST_KEY_FILES: usize = 2;
/// Fallback keys of one cache.
const MOST_FALLBACK_KEYS: usize = 5;

impl Reader<'_> {
    /// `artifacts`; null is none.
    pub(super) fn artifacts(&mut self, node: &Node, path: &str) -> Artifacts {
        let Some(map) = self.map_or_nothing(node, path) else {
            return Artifacts::default();
        };
        self.check_keywords(map, &ARTIFACTS, path);
        let of = |key: &str| format!("{path}:{key}");
        let optional_text = |this: &mut Self, key: &str| {
            map.get(key)
                .map(|node| this.scalar(node, &of(key)))
                .unwrap_or_default()
        };
        Artifacts {
            name: optional_text(self, "name"),
            paths: self.texts_of(map, "paths", path),
            exclude: self.texts_of(map, "exclude", path),
            untracked: self.flag_of(map, "untracked", path),
            when: self.when_of(map, path),
            expire_in: optional_text(self, "expire_in"),
            reports: map
                .get("reports")
                .map(|node| self.reports(node, &of("reports")))
                .unwrap_or_default(),
        }
    }

    fn reports(&mut self, node: &Node, path: &str) -> Vec<Report> {
        let Some(map) = self.map_or_nothing(node, path) else {
            return Vec::new();
        };
        self.check_keywords(map, &REPORTS, path);
        map.entries()
            .iter()
            .filter_map(|entry| self.report_of(entry, path))
            .collect()
    }

    fn report_of(&mut self, entry: &Entry, path: &str) -> Option<Report> {
        let kind = entry.key.as_str()?;
        let path = format!("{path}:{kind}");
        let node = &*entry.value;
        if kind == "coverage_report" {
            let map = self.map_or_nothing(node, &path)?;
            self.check_keywords(map, &COVERAGE_REPORT, &path);
            let mut required = |key: &str| match map.get(key) {
                Some(node) => self.text(node, &format!("{path}:{key}")),
                None => {
                    let message = format!("`{path}` has no `{key}`");
                    let problem = self.at(ProblemKind::Missing, entry.key.span, message);
                    self.report(problem.label("this report"));
                    None
                }
            };
            let (kind, file) = (required("coverage_format"), required("path"));
            return Some(Report {
                kind: kind?,
                paths: vec![file?],
            });
        }
        let paths = match &node.value {
            Value::Str(_) => self.text(node, &path).into_iter().collect(),
            _ => self.texts(node, &path),
        };
        (!paths.is_empty()).then(|| Report {
            kind: kind.to_owned(),
            paths,
        })
    }

    /// `cache`: one, or a list of them; null is none.
    pub(super) fn caches(&mut self, node: &Node, path: &str) -> Vec<Cache> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Map(map) => self.cache(map, path).into_iter().collect(),
            Value::Seq(items) if !super::is_reference(node) => {
                self.at_most(MOST_CACHES, items.len(), node.span, path, "caches");
                let mut caches = Vec::with_capacity(items.len().min(MOST_CACHES));
                for item in items {
                    match item.as_map() {
                        Some(map) => caches.extend(self.cache(map, path)),
                        None => {
                            self.wrong_type(item, path, "a list of maps");
                        }
                    }
                }
                caches
            }
            _ => {
                self.wrong_type(node, path, "a map or a list of maps");
                Vec::new()
            }
        }
    }

    fn cache(&mut self, map: &Map, path: &str) -> Option<Cache> {
        self.check_keywords(map, &CACHE, path);
        let of = |key: &str| format!("{path}:{key}");
        let key = map.get("key").map_or_else(
            || Some(CacheKey::default()),
            |node| self.cache_key(node, &of("key")),
        );
        let policy = map
            .get("policy")
            .and_then(|node| self.policy(node, &of("policy")));
        let fallback_keys = self.texts_of(map, "fallback_keys", path);
        if let Some(node) = map.get("fallback_keys") {
            let count = fallback_keys.len();
            self.at_most(
                MOST_FALLBACK_KEYS,
                count,
                node.span,
                &of("fallback_keys"),
                "keys",
            );
        }
        Some(Cache {
            key: key?,
            paths: self.texts_of(map, "paths", path),
            untracked: self.flag_of(map, "untracked", path),
            when: self.when_of(map, path),
            policy: policy.unwrap_or_default(),
            fallback_keys,
        })
    }

    fn cache_key(&mut self, node: &Node, path: &str) -> Option<CacheKey> {
        let Some(map) = node.as_map() else {
            let text = self.scalar(node, path);
            if text.is_empty() {
                return Some(CacheKey::default());
            }
            return self
                .key_can_be_used(&text, node.span, path)
                .then_some(CacheKey::Text(text));
        };
        self.check_keywords(map, &CACHE_KEY, path);
        let prefix = map
            .get("prefix")
            .map(|node| (self.scalar(node, &format!("{path}:prefix")), node.span));
        let (key, node, by) = match (map.get("files"), map.get("files_commits")) {
            (Some(files), None) => ("files", files, KeyBy::Content),
            (None, Some(files)) => ("files_commits", files, KeyBy::Commit),
            (files, _) => {
                let problem = if files.is_some() {
                    let message = format!("`{path}` has both `files` and `files_commits`");
                    self.at(ProblemKind::Conflict, node.span, message)
                        .label("one of them is enough")
                } else {
                    let message = format!("`{path}` has no `files`");
                    self.at(ProblemKind::Missing, node.span, message)
                        .label("which files?")
                };
                self.report(problem);
                return None;
            }
        };
        let path = format!("{path}:{key}");
        let files = self.texts(node, &path);
        self.at_most(MOST_KEY_FILES, files.len(), node.span, &path, "files");
        if files.is_empty() {
            let problem = self
                .at(
                    ProblemKind::Missing,
                    node.span,
                    format!("`{path}` is empty"),
                )
                .label("which files?");
            self.report(problem);
            return None;
        }
        let (prefix, span) = prefix.unwrap_or((String::new(), node.span));
        if !prefix.is_empty() && !self.key_can_be_used(&prefix, span, &path) {
            return None;
        }
        Some(CacheKey::Files(KeyFiles { files, by, prefix }))
    }

    /// Refuses what GitLab does (local-pipelines D4).
    fn key_can_be_used(&mut self, key: &str, span: Span, path: &str) -> bool {
        let plain = key.to_lowercase().replace("%2e", ".");
        let message = if plain.contains('/') || plain.contains("%2f") {
            format!("`{path}` holds a `/`, which no key may")
        } else if plain.chars().all(|letter| letter == '.') {
            format!("`{path}` is of dots alone, which no key may be")
        } else {
            return true;
        };
        let problem = self.at(ProblemKind::Reserved, span, message);
        self.report(problem.label("this key").help("use `-` instead"));
        false
    }

    fn policy(&mut self, node: &Node, path: &str) -> Option<String> {
        if node.is_null() {
            return None;
        }
        let policy = self.text(node, path)?;
        let known = ["pull-push", "pull", "push"];
        if policy.contains('$') || known.contains(&policy.as_str()) {
            return Some(policy);
        }
        self.no_such_word(node, path, &policy, known);
        None
    }

    /// `when` of artifacts or of a cache.
    fn when_of(&mut self, map: &Map, path: &str) -> When {
        let Some(node) = map.get("when").filter(|node| !node.is_null()) else {
            return When::default();
        };
        let path = format!("{path}:when");
        let Some(text) = self.text(node, &path) else {
            return When::default();
        };
        let when = When::ALL.into_iter().find(|when| when.as_str() == text);
        when.unwrap_or_else(|| {
            self.no_such_word(node, &path, &text, When::ALL.map(When::as_str));
            When::default()
        })
    }

    /// A word that is none of those that may stand there.
    pub(super) fn no_such_word<const N: usize>(
        &mut self,
        node: &Node,
        path: &str,
        word: &str,
        words: [&'static str; N],
    ) {
        let help = match nearest(word, words) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of {}", words.join(", ")),
        };
        let problem = self
            .at(
                ProblemKind::Undefined,
                node.span,
                format!("`{path}` cannot be `{word}`"),
            )
            .label("unknown")
            .help(help);
        self.report(problem);
    }

    /// A problem if there are more than `most`.
    pub(super) fn at_most(&mut self, most: usize, count: usize, span: Span, path: &str, of: &str) {
        if count > most {
            let message =
                format!("`{path}` has {count} {of}, more than the {most} that GitLab allows");
            let problem = self.at(ProblemKind::Limit, span, message);
            self.report(problem.label("too many"));
        }
    }

    fn map_or_nothing<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a Map> {
        if !node.is_null() && node.as_map().is_none() {
            self.wrong_type(node, path, "a map");
        }
        node.as_map()
    }

    fn texts_of(&mut self, map: &Map, key: &str, path: &str) -> Vec<String> {
        map.get(key)
            .map(|node| self.texts(node, &format!("{path}:{key}")))
            .unwrap_or_default()
    }

    pub(super) fn flag_of(&mut self, map: &Map, key: &str, path: &str) -> bool {
        match map.get(key).map(|node| &node.value) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(_) => {
                if let Some(node) = map.get(key) {
                    self.wrong_type(node, &format!("{path}:{key}"), "a boolean");
                }
                false
            }
        }
    }

    /// Text, or a number or boolean as text; null is empty.
    fn scalar(&mut self, node: &Node, path: &str) -> String {
        node.to_text().unwrap_or_else(|| {
            self.wrong_type(node, path, "text");
            String::new()
        })
    }
}
