//! One job.

use std::collections::HashMap;

use super::Reader;
use super::global::Globals;
use super::order::EntryJob;
use super::variables::VariablesOf;
use crate::keywords::{ALLOW_FAILURE, JOB};
use crate::pipeline::{AllowFailure, DEFAULT_STAGE, PipelineJob, Variable, When};
use crate::problem::ProblemKind;
use crate::suggest::did_you_mean;
use crate::yaml::{Entry, Map, Node, Value};

/// Keywords that may bring a `script`, or stand for one.
const OTHER_SCRIPTS: [&str; 3] = ["extends", "run", "trigger"];

impl Reader<'_> {
    /// A job with what it inherits. None only if there is a problem.
    ///
    /// A keyword of the job replaces the inherited one whole, also when it is null or empty
    /// (local-pipelines A1 step 8).
    pub(super) fn job(
        &mut self,
        entry: &Entry,
        name: &str,
        map: &Map,
        globals: &Globals,
    ) -> Option<EntryJob> {
        let owner = format!("jobs:{name}");
        let path = |key: &str| format!("{owner}:{key}");
        self.check_keywords(map, &JOB, &owner);
        let image = match map.get("image") {
            Some(node) => self.image(node, &path("image")),
            None => globals.image.clone(),
        };
        let services = match map.get("services") {
            Some(node) => self.services(node, &path("services")),
            None => globals.services.clone(),
        };
        let before_script = match map.get("before_script") {
            Some(node) => self.script(node, &path("before_script")),
            None => globals.before_script.clone(),
        };
        let after_script = match map.get("after_script") {
            Some(node) => self.script(node, &path("after_script")),
            None => globals.after_script.clone(),
        };
        let own = map.get("variables").map_or_else(Vec::new, |node| {
            self.variables(node, &path("variables"), VariablesOf::Job)
        });
        let allow_failure = map.get("allow_failure").map_or(AllowFailure::No, |node| {
            self.allow_failure(node, &path("allow_failure"))
        });
        let when = map
            .get("when")
            .map_or(When::OnSuccess, |node| self.job_when(node, &path("when")));
        let artifacts = match map.get("artifacts") {
            Some(node) => self.artifacts(node, &path("artifacts")),
            None => globals.artifacts.clone(),
        };
        let cache = match map.get("cache") {
            Some(node) => self.caches(node, &path("cache")),
            None => globals.cache.clone(),
        };
        let needs = map
            .get("needs")
            .and_then(|node| self.needs(node, &path("needs")));
        let dependencies = map
            .get("dependencies")
            .and_then(|node| self.dependencies(node, &path("dependencies")));
        let cells = map
            .get("parallel")
            .and_then(|node| self.parallel(node, &path("parallel")));
        let secrets = map
            .get("secrets")
            .map_or_else(Vec::new, |node| self.secrets(node, &path("secrets")));
        let script = self.job_script(entry, name, map, &path("script"));
        let stage = self.stage(entry, name, map.get("stage").map(|node| &**node), globals);
        let job = PipelineJob {
            name: name.to_owned(),
            stage: stage?,
            image,
            services,
            variables: over(&globals.variables, own),
            secrets,
            before_script,
            script,
            after_script,
            allow_failure,
            when,
            needs: None,
            dependencies: None,
            receives: Vec::new(),
            artifacts,
            cache,
            node: None,
            span: entry.key.span,
        };
        Some(EntryJob {
            job,
            cells,
            needs,
            dependencies,
        })
    }

    fn job_script(&mut self, entry: &Entry, name: &str, map: &Map, path: &str) -> Vec<String> {
        let Some(script) = map.entry("script") else {
            if !OTHER_SCRIPTS.iter().any(|key| map.entry(key).is_some()) {
                let near = map
                    .entries()
                    .iter()
                    .filter_map(|entry| entry.key.as_str())
                    .filter(|key| JOB.get(key).is_none())
                    .any(|key| did_you_mean(key, ["script"]).is_some());
                // A misspelt `script` is reported as such already.
                if !near {
                    let problem = self
                        .at(
                            ProblemKind::Missing,
                            entry.key.span,
                            format!("the job `{name}` has no `script`"),
                        )
                        .label("this job")
                        .help("add a `script`");
                    self.report(problem);
                }
            }
            return Vec::new();
        };
        let before = self.problems.len();
        let lines = self.script(&script.value, path);
        let blank = match &script.value.value {
            Value::Str(text) => text.trim().is_empty(),
            _ => lines.is_empty(),
        };
        let reference = script.value.as_seq().is_some_and(|items| !items.is_empty());
        if blank && !reference && self.problems.len() == before {
            let problem = self
                .at(
                    ProblemKind::Missing,
                    script.key.span,
                    format!("`{path}` is empty"),
                )
                .label("no line to run");
            self.report(problem);
        }
        lines
    }

    fn stage(
        &mut self,
        entry: &Entry,
        name: &str,
        node: Option<&Node>,
        globals: &Globals,
    ) -> Option<String> {
        let (stage, span) = match node {
            Some(node) if !node.is_null() => {
                (self.text(node, &format!("jobs:{name}:stage"))?, node.span)
            }
            _ => (DEFAULT_STAGE.to_owned(), entry.key.span),
        };
        // `stages` itself was wrong: what it would have held is unknown.
        let stages = globals.stages.as_ref()?;
        if stages.known.contains(&stage) {
            return Some(stage);
        }
        let available = format!("stages: {}", stages.names.join(", "));
        let help = match did_you_mean(&stage, stages.names.iter().map(String::as_str)) {
            Some(suggestion) => format!("{suggestion} ({available})"),
            None => available,
        };
        let message = if node.is_some() {
            format!("the job `{name}` is in the stage `{stage}`, which does not exist")
        } else {
            format!("the job `{name}` is in the stage `{stage}` by default, which does not exist")
        };
        let problem = self
            .at(ProblemKind::Undefined, span, message)
            .label("no such stage")
            .help(help);
        self.report(problem);
        None
    }

    fn allow_failure(&mut self, node: &Node, path: &str) -> AllowFailure {
        match &node.value {
            Value::Null | Value::Bool(false) => AllowFailure::No,
            Value::Bool(true) => AllowFailure::Yes,
            Value::Map(map) => {
                self.check_keywords(map, &ALLOW_FAILURE, path);
                match map.get("exit_codes") {
                    Some(codes) => self.exit_codes(codes, &format!("{path}:exit_codes")),
                    None => AllowFailure::No,
                }
            }
            _ => {
                self.wrong_type(node, path, "a boolean or a map with `exit_codes`");
                AllowFailure::No
            }
        }
    }

    fn exit_codes(&mut self, node: &Node, path: &str) -> AllowFailure {
        match &node.value {
            Value::Null => AllowFailure::No,
            Value::Int(code) => AllowFailure::ExitCodes(vec![*code]),
            Value::Seq(items) => {
                let mut codes = Vec::with_capacity(items.len());
                for item in items {
                    match item.value {
                        Value::Int(code) => codes.push(code),
                        _ => {
                            self.wrong_type(item, path, "a number or a list of numbers");
                        }
                    }
                }
                AllowFailure::ExitCodes(codes)
            }
            _ => {
                self.wrong_type(node, path, "a number or a list of numbers");
                AllowFailure::No
            }
        }
    }
}

/// Variables with the stronger ones in their places, then the other stronger ones: of the file and
/// a job, of a job and a cell.
pub(super) fn over(globals: &[Variable], own: Vec<Variable>) -> Vec<Variable> {
    let mut own: Vec<Option<Variable>> = own.into_iter().map(Some).collect();
    let places: HashMap<String, usize> = own
        .iter()
        .enumerate()
        .filter_map(|(place, variable)| Some((variable.as_ref()?.key.clone(), place)))
        .collect();
    let mut variables: Vec<Variable> = globals
        .iter()
        .map(|global| {
            let place = places.get(&global.key);
            place
                .and_then(|&place| own.get_mut(place)?.take())
                .unwrap_or_else(|| global.clone())
        })
        .collect();
    variables.extend(own.into_iter().flatten());
    variables
}
