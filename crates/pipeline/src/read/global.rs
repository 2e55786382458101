//! The top of a file: global keywords, `default`, and what becomes of its entries.

use std::collections::HashSet;
use std::sync::Arc;

use super::order::EntryJob;
use super::variables::VariablesOf;
use super::{Reader, is_reference};
use crate::keywords::{DEFAULT, GLOBAL, JOB, RESERVED_JOB_NAMES, Support};
use crate::pipeline::{
    Artifacts, Cache, DEFAULT_STAGES, Image, POST_STAGE, PRE_STAGE, Pipeline, PipelineJob, Service,
    Variable,
};
use crate::problem::ProblemKind;
use crate::suggest::{did_you_mean, nearest};
use crate::yaml::{Entry, Map, Node};

/// Lines, variables and services that all jobs together may inherit. A file of thousands of jobs
/// and thousands of global variables would fill the memory.
const MOST_INHERITED: usize = 300_000;

/// Longest name of a job, in characters.
const LONGEST_JOB_NAME: usize = 255;

/// What jobs inherit.
#[derive(Default)]
pub(super) struct Globals {
    pub(super) image: Option<Image>,
    pub(super) services: Vec<Service>,
    pub(super) before_script: Vec<String>,
    pub(super) after_script: Vec<String>,
    pub(super) variables: Vec<Variable>,
    pub(super) artifacts: Artifacts,
    pub(super) cache: Vec<Cache>,
    /// None if `stages` is wrong.
    pub(super) stages: Option<Stages>,
}

/// All stages from `.pre` to `.post`.
pub(super) struct Stages {
    pub(super) names: Vec<String>,
    pub(super) known: HashSet<String>,
}

impl Stages {
    /// `.pre`, the names without repetition, `.post`; wherever the names list these two.
    fn with_edges<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut stages = Self {
            names: vec![PRE_STAGE.to_owned()],
            known: HashSet::new(),
        };
        stages
            .known
            .extend([PRE_STAGE.to_owned(), POST_STAGE.to_owned()]);
        for name in names {
            if stages.known.insert(name.to_owned()) {
                stages.names.push(name.to_owned());
            }
        }
        stages.names.push(POST_STAGE.to_owned());
        stages
    }
}

impl Globals {
    /// What one job inherits, in items.
    fn weight(&self) -> usize {
        self.variables.len()
            + self.before_script.len()
            + self.after_script.len()
            + self.services.len()
            + self.artifacts.paths.len()
            + self.artifacts.exclude.len()
            + self.artifacts.reports.len()
            + self
                .cache
                .iter()
                .map(|cache| cache.paths.len())
                .sum::<usize>()
    }
}

impl Reader<'_> {
    /// The whole file. None only if there is a problem.
    pub(super) fn pipeline(&mut self, root: &Arc<Node>) -> Option<Pipeline> {
        let Some(map) = root.as_map() else {
            let message = format!(
                "a pipeline is a map of keywords and jobs, not {}",
                root.what()
            );
            let problem = self
                .at(ProblemKind::Type, root.span, message)
                .label(root.what())
                .help("a job is `name:` with an indented `script:` below");
            self.report(problem);
            return None;
        };
        let globals = self.globals(map);
        let mut entries = Vec::new();
        let mut hidden = Vec::new();
        let mut visible = false;
        let mut inherited = 0;
        for entry in map.entries() {
            match entry.key.as_str() {
                Some(name) if name.starts_with('.') => hidden.push(name.to_owned()),
                Some(name) if GLOBAL.get(name).is_some() => {}
                _ => {
                    visible = true;
                    let span = entry.key.span;
                    let entry = self.entry_job(entry, &globals);
                    inherited += globals.weight();
                    inherited += entry.as_ref().map_or(0, EntryJob::copied);
                    if inherited > MOST_INHERITED {
                        let message = "the jobs of this file together inherit too much";
                        let problem = self
                            .at(ProblemKind::Limit, span, message)
                            .label("one job too many")
                            .help("use fewer jobs or fewer global variables");
                        self.report(problem);
                        return None;
                    }
                    entries.extend(entry);
                }
            }
        }
        if !visible {
            let problem = self
                .at(
                    ProblemKind::NoJobs,
                    root.span,
                    "the file has no visible job",
                )
                .label("no job in this map")
                .help(match hidden.first() {
                    Some(name) => format!("`{name}` begins with a dot, so it is a template"),
                    None => "a job is `name:` with an indented `script:` below".to_owned(),
                });
            self.report(problem);
        }
        let stages = globals.stages?.names;
        // Names that a job with a mistake would have had are not missing.
        if !self.problems.is_empty() {
            return None;
        }
        let jobs = self.jobs_of(entries, &stages);
        if self.problems.is_empty() {
            self.check_a_stage_between(&jobs);
        }
        Some(Pipeline::new(stages, jobs, hidden, self.source))
    }

    fn globals(&mut self, map: &Map) -> Globals {
        let mut globals = Globals {
            stages: Some(Stages::with_edges(DEFAULT_STAGES)),
            ..Globals::default()
        };
        let default = map.entry("default").filter(|entry| !entry.value.is_null());
        for entry in map.entries() {
            let Some(name) = entry.key.as_str() else {
                continue;
            };
            match GLOBAL.get(name) {
                None => continue,
                Some(Support::NotYet) if name == "spec" => {
                    let problem = self
                        .at(
                            ProblemKind::Conflict,
                            entry.key.span,
                            "`spec` must be in a document of its own",
                        )
                        .label("not before `---`")
                        .help("end the header with a line `---`");
                    self.report(problem);
                    continue;
                }
                Some(Support::NotYet) => {
                    self.not_supported(name, entry.key.span, "");
                    continue;
                }
                Some(Support::Yes) => self.refuse_references(&entry.value),
            }
            match name {
                "stages" => globals.stages = self.stages(&entry.value),
                "variables" => {
                    globals.variables = self.variables(&entry.value, name, VariablesOf::Global);
                }
                "default" => self.default(&entry.value, &mut globals),
                _ => {
                    let twin = default.and_then(|default| default.value.as_map()?.entry(name));
                    if let Some(twin) = twin {
                        let problem = self
                            .at(
                                ProblemKind::Conflict,
                                entry.key.span,
                                format!("`{name}` is given at the top and in `default`"),
                            )
                            .label(format!("also in line {}", twin.key.span.start.line))
                            .help("keep the one in `default`");
                        self.report(problem);
                    }
                    self.inherited(entry, name, "", &mut globals);
                }
            }
        }
        globals
    }

    fn default(&mut self, node: &Node, globals: &mut Globals) {
        if node.is_null() {
            return;
        }
        let Some(map) = node.as_map() else {
            self.wrong_type(node, "default", "a map");
            return;
        };
        self.check_keywords(map, &DEFAULT, "default");
        for entry in map.entries() {
            if let Some(name) = entry.key.as_str() {
                self.inherited(entry, name, "default:", globals);
            }
        }
    }

    /// A keyword that jobs inherit. The top of the file stands for `default`.
    fn inherited(&mut self, entry: &Entry, name: &str, prefix: &str, globals: &mut Globals) {
        let path = format!("{prefix}{name}");
        match name {
            "image" => globals.image = self.image(&entry.value, &path),
            "services" => globals.services = self.services(&entry.value, &path),
            "before_script" => globals.before_script = self.script(&entry.value, &path),
            "after_script" => globals.after_script = self.script(&entry.value, &path),
            "artifacts" => globals.artifacts = self.artifacts(&entry.value, &path),
            "cache" => globals.cache = self.caches(&entry.value, &path),
            _ => {}
        }
    }

    fn stages(&mut self, node: &Node) -> Option<Stages> {
        if node.is_null() {
            return Some(Stages::with_edges(DEFAULT_STAGES));
        }
        let Some(items) = node.as_seq().filter(|_| !is_reference(node)) else {
            self.wrong_type(node, "stages", "a list of texts");
            return None;
        };
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            names.push(self.text(item, "stages")?);
        }
        Some(Stages::with_edges(names.iter().map(String::as_str)))
    }

    /// An entry that is neither hidden nor a global keyword: a job, or a mistake.
    fn entry_job(&mut self, entry: &Entry, globals: &Globals) -> Option<EntryJob> {
        let span = entry.key.span;
        let Some(name) = entry.key.as_str() else {
            let name = entry.key.to_text().unwrap_or_default();
            let written = self
                .source
                .text()
                .get(span.start.byte..span.end.byte)
                .unwrap_or(&name);
            let (message, help) = if entry.key.is_null() {
                (
                    "a job has no name".to_owned(),
                    "write a name before the colon".to_owned(),
                )
            } else {
                let message = format!("the name of a job should be text, not {}", entry.key.what());
                (message, format!("write \"{written}\""))
            };
            let problem = self
                .at(ProblemKind::Type, span, message)
                .label(entry.key.what())
                .help(help);
            self.report(problem);
            return None;
        };
        let map = entry.value.as_map();
        let looks_like_job = map.is_some_and(|map| {
            map.entries()
                .iter()
                .any(|entry| entry.key.as_str().is_some_and(|key| JOB.get(key).is_some()))
        });
        if !looks_like_job {
            return self.not_a_job(entry, name);
        }
        if !self.job_name(entry, name) {
            return None;
        }
        self.refuse_references(&entry.value);
        self.job(entry, name, map?, globals)
    }

    fn not_a_job(&mut self, entry: &Entry, name: &str) -> Option<EntryJob> {
        let span = entry.key.span;
        if name == "<<" {
            let problem = self
                .at(
                    ProblemKind::Type,
                    span,
                    "`<<` needs a map or a list of maps",
                )
                .label("merges nothing");
            self.report(problem);
            return None;
        }
        let (kind, message, label) = match nearest(name, GLOBAL.names()) {
            Some(_) => (
                ProblemKind::UnknownKeyword,
                format!("`{name}` is neither a keyword nor a job"),
                "unknown",
            ),
            None => (
                ProblemKind::Missing,
                format!("the job `{name}` has no `script`"),
                "a job of this name",
            ),
        };
        let help =
            did_you_mean(name, GLOBAL.names()).unwrap_or_else(|| match entry.value.as_map() {
                Some(map) => map
                    .entries()
                    .iter()
                    .filter_map(|entry| entry.key.as_str())
                    .find_map(|key| did_you_mean(key, JOB.names()))
                    .unwrap_or_else(|| "add a `script`".to_owned()),
                None => format!(
                    "a job is a map with a `script`; keywords at the top: {}",
                    GLOBAL.supported().join(", ")
                ),
            });
        let problem = self.at(kind, span, message).label(label).help(help);
        self.report(problem);
        None
    }

    fn job_name(&mut self, entry: &Entry, name: &str) -> bool {
        let (kind, message) = if name.trim().is_empty() {
            (ProblemKind::Missing, "a job has no name".to_owned())
        } else if name.chars().count() > LONGEST_JOB_NAME {
            (
                ProblemKind::Limit,
                format!("the name of a job is longer than {LONGEST_JOB_NAME} characters"),
            )
        } else if RESERVED_JOB_NAMES.contains(&name) {
            (
                ProblemKind::Reserved,
                format!("no job may be called `{name}`"),
            )
        } else {
            return true;
        };
        let problem = self.at(kind, entry.key.span, message).label("this name");
        self.report(problem);
        false
    }

    /// GitLab makes no pipeline of jobs in `.pre` and `.post` alone.
    fn check_a_stage_between(&mut self, jobs: &[PipelineJob]) {
        let edge = |job: &PipelineJob| job.stage == PRE_STAGE || job.stage == POST_STAGE;
        let Some(first) = jobs.first() else { return };
        if jobs.iter().all(edge) {
            let problem = self
                .at(
                    ProblemKind::NoJobs,
                    first.span,
                    "all jobs are in `.pre` or `.post`, of which GitLab makes no pipeline",
                )
                .label(format!("is in `{}`", first.stage))
                .help("put a job into another stage");
            self.report(problem);
        }
    }
}
