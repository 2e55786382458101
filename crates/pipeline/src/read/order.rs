//! `when`, `needs` and `dependencies`: which job comes after which (local-pipelines A5, A9, D1).

use std::collections::{HashMap, HashSet};

use super::Reader;
use super::parallel::Cell;
use crate::keywords::{NEED, PARALLEL};
use crate::pipeline::{Need, PipelineJob, When};
use crate::problem::ProblemKind;
use crate::source::Span;
use crate::suggest::did_you_mean;
use crate::yaml::Node;

/// Jobs that one job may need.
const MOST_NEEDS: usize = 50;

/// An entry of the file on its way to jobs.
pub(super) struct EntryJob {
    pub(super) job: PipelineJob,
    pub(super) cells: Option<Vec<Cell>>,
    pub(super) needs: Option<Vec<NamedNeed>>,
    pub(super) dependencies: Option<Vec<(String, Span)>>,
}

impl EntryJob {
    /// Items of all copies that its cells are, but for the first.
    pub(super) fn copied(&self) -> usize {
        let job = &self.job;
        let one = job.variables.len()
            + job.before_script.len()
            + job.script.len()
            + job.after_script.len()
            + job.services.len()
            + job.artifacts.paths.len();
        let copies = self.cells.as_ref().map_or(0, |cells| cells.len() - 1);
        one.saturating_mul(copies)
    }
}

/// A need as it is written.
pub(super) struct NamedNeed {
    name: String,
    span: Span,
    artifacts: bool,
    optional: bool,
    cells: Option<Vec<Cell>>,
}

/// What a name in `needs` or `dependencies` stands for.
struct Named {
    /// Jobs, one for each cell.
    jobs: Vec<String>,
    /// Place of their stage.
    stage: usize,
}

impl Reader<'_> {
    /// `when` of a job.
    pub(super) fn job_when(&mut self, node: &Node, path: &str) -> When {
        if node.is_null() {
            return When::default();
        }
        let Some(text) = self.text(node, path) else {
            return When::default();
        };
        if let Some(when) = When::ALL.into_iter().find(|when| when.as_str() == text) {
            return when;
        }
        match text.as_str() {
            "manual" | "delayed" => self.not_supported(&format!("when: {text}"), node.span, path),
            "never" => {
                let message = format!("`{path}` cannot be `never`, which only a rule may say");
                let problem = self.at(ProblemKind::Conflict, node.span, message);
                self.report(problem.label("not outside of `rules`"));
            }
            _ => self.no_such_word(node, path, &text, When::ALL.map(When::as_str)),
        }
        When::default()
    }

    /// `needs`; null is as if it were not there.
    pub(super) fn needs(&mut self, node: &Node, path: &str) -> Option<Vec<NamedNeed>> {
        if node.is_null() {
            return None;
        }
        let Some(items) = node.as_seq().filter(|_| !super::is_reference(node)) else {
            self.wrong_type(node, path, "a list of texts or maps with `job`");
            return None;
        };
        self.at_most(MOST_NEEDS, items.len(), node.span, path, "jobs");
        Some(
            items
                .iter()
                .filter_map(|item| self.need(item, path))
                .collect(),
        )
    }

    fn need(&mut self, node: &Node, path: &str) -> Option<NamedNeed> {
        let Some(map) = node.as_map() else {
            if node.as_str().is_none() {
                self.wrong_type(node, path, "a list of texts or maps with `job`");
                return None;
            }
            return Some(NamedNeed {
                name: self.text(node, path)?,
                span: node.span,
                artifacts: true,
                optional: false,
                cells: None,
            });
        };
        if !self.check_keywords(map, &NEED, path) {
            return None;
        }
        let Some(name) = map.get("job") else {
            let message = format!("`{path}` has an item without `job`");
            let problem = self.at(ProblemKind::Missing, node.span, message);
            self.report(problem.label("needs what?"));
            return None;
        };
        let artifacts = match map.get("artifacts") {
            Some(_) => self.flag_of(map, "artifacts", path),
            None => true,
        };
        let cells = map.get("parallel").and_then(|node| {
            let path = format!("{path}:parallel");
            let Some(map) = node.as_map() else {
                self.wrong_type(node, &path, "a map with `matrix`");
                return None;
            };
            self.check_keywords(map, &PARALLEL, &path);
            let matrix = map.get("matrix")?;
            if self.source.text()[matrix.span.start.byte..matrix.span.end.byte].contains("$[[") {
                self.not_supported("$[[ matrix ]]", matrix.span, &path);
                return None;
            }
            self.matrix(matrix, &format!("{path}:matrix"))
        });
        Some(NamedNeed {
            name: self.text(name, &format!("{path}:job"))?,
            span: name.span,
            artifacts,
            optional: self.flag_of(map, "optional", path),
            cells,
        })
    }

    /// `dependencies`; null is as if it were not there.
    pub(super) fn dependencies(&mut self, node: &Node, path: &str) -> Option<Vec<(String, Span)>> {
        if node.is_null() {
            return None;
        }
        let Some(items) = node.as_seq().filter(|_| !super::is_reference(node)) else {
            self.wrong_type(node, path, "a list of texts");
            return None;
        };
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            if item.as_str().is_some() {
                names.extend(self.text(item, path).map(|name| (name, item.span)));
            } else {
                self.wrong_type(item, path, "a list of texts");
            }
        }
        Some(names)
    }

    /// Makes jobs of entries: cells are jobs of their own, and names in `needs` and
    /// `dependencies` become names of jobs.
    pub(super) fn jobs_of(
        &mut self,
        entries: Vec<EntryJob>,
        stages: &[String],
    ) -> Vec<PipelineJob> {
        let places: HashMap<&str, usize> = stages
            .iter()
            .enumerate()
            .map(|(place, name)| (name.as_str(), place))
            .collect();
        let named = names_of(&entries, &places);
        let mut jobs = Vec::with_capacity(entries.len());
        for entry in entries {
            let EntryJob {
                mut job,
                cells,
                needs,
                dependencies,
            } = entry;
            let place = places.get(job.stage.as_str()).copied().unwrap_or_default();
            if let Some(needs) = &needs {
                job.needs = Some(self.resolved_needs(&job, place, needs, &named));
            }
            if let Some(names) = &dependencies {
                job.dependencies = Some(self.resolved_dependencies(&job, place, names, &named));
            }
            jobs.extend(super::parallel::expand(job, cells.as_deref()));
        }
        self.refuse_twins(&jobs);
        self.refuse_circles(&jobs);
        jobs
    }

    fn resolved_needs(
        &mut self,
        job: &PipelineJob,
        place: usize,
        needs: &[NamedNeed],
        named: &HashMap<String, Named>,
    ) -> Vec<Need> {
        let path = format!("jobs:{}:needs", job.name);
        let mut resolved = Vec::with_capacity(needs.len());
        for need in needs {
            let names: Vec<String> = match &need.cells {
                Some(cells) => cells.iter().map(|cell| cell.name(&need.name)).collect(),
                None => vec![need.name.clone()],
            };
            for name in names {
                let Some(found) = named.get(&name) else {
                    if !need.optional {
                        self.undefined_job(&name, need.span, &path, named);
                    }
                    continue;
                };
                if found.stage > place {
                    let message = format!(
                        "the job `{}` needs `{name}`, which is in a later stage",
                        job.name
                    );
                    let problem = self.at(ProblemKind::Conflict, need.span, message);
                    self.report(problem.label("not in this stage or an earlier one"));
                    continue;
                }
                resolved.extend(found.jobs.iter().map(|job| Need {
                    job: job.clone(),
                    artifacts: need.artifacts,
                }));
            }
        }
        resolved
    }

    fn resolved_dependencies(
        &mut self,
        job: &PipelineJob,
        place: usize,
        names: &[(String, Span)],
        named: &HashMap<String, Named>,
    ) -> Vec<String> {
        let path = format!("jobs:{}:dependencies", job.name);
        let needed: Option<HashSet<&str>> = job
            .needs
            .as_ref()
            .map(|needs| needs.iter().map(|need| need.job.as_str()).collect());
        let mut resolved = Vec::with_capacity(names.len());
        for (name, span) in names {
            let Some(found) = named.get(name) else {
                self.undefined_job(name, *span, &path, named);
                continue;
            };
            let problem = match &needed {
                Some(needed) if !found.jobs.iter().all(|job| needed.contains(job.as_str())) => (
                    format!("`{path}` names `{name}`, which is not in `needs`"),
                    "not needed",
                ),
                None if found.stage >= place => (
                    format!("`{path}` names `{name}`, which is in no earlier stage"),
                    "not in an earlier stage",
                ),
                _ => {
                    resolved.extend(found.jobs.iter().cloned());
                    continue;
                }
            };
            let (message, label) = problem;
            let problem = self.at(ProblemKind::Conflict, *span, message);
            self.report(problem.label(label));
        }
        resolved
    }

    fn undefined_job(
        &mut self,
        name: &str,
        span: Span,
        path: &str,
        named: &HashMap<String, Named>,
    ) {
        let mut names: Vec<&str> = named.keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut problem = self
            .at(
                ProblemKind::Undefined,
                span,
                format!("`{path}` names `{name}`, which is no job of this file"),
            )
            .label("no such job");
        if let Some(help) = did_you_mean(name, names) {
            problem = problem.help(help);
        }
        self.report(problem);
    }

    /// A cell may have the name of another job.
    fn refuse_twins(&mut self, jobs: &[PipelineJob]) {
        let mut seen = HashSet::new();
        for job in jobs {
            if !seen.insert(job.name.as_str()) {
                let message = format!("two jobs are called `{}`", job.name);
                let problem = self.at(ProblemKind::Duplicate, job.span, message);
                self.report(problem.label("one of them"));
            }
        }
    }

    /// Jobs that wait for each other for ever. Each circle is told at one of its jobs.
    fn refuse_circles(&mut self, jobs: &[PipelineJob]) {
        let places: HashMap<&str, usize> = jobs
            .iter()
            .enumerate()
            .map(|(place, job)| (job.name.as_str(), place))
            .collect();
        let needs: Vec<Vec<usize>> = jobs
            .iter()
            .map(|job| {
                let needs = job.needs.iter().flatten();
                needs
                    .filter_map(|need| places.get(need.job.as_str()).copied())
                    .collect()
            })
            .collect();
        // What can run is taken away; what is left waits for itself.
        let mut left: HashSet<usize> = (0..jobs.len()).collect();
        loop {
            let before = left.len();
            let free: Vec<usize> = left
                .iter()
                .copied()
                .filter(|&job| needs[job].iter().all(|need| !left.contains(need)))
                .collect();
            for job in free {
                left.remove(&job);
            }
            if left.len() == before {
                break;
            }
        }
        let mut told = HashSet::new();
        let mut starts: Vec<usize> = left.iter().copied().collect();
        starts.sort_unstable();
        for start in starts {
            let mut walk: Vec<usize> = Vec::new();
            let mut at = start;
            while !walk.contains(&at) && !told.contains(&at) {
                walk.push(at);
                match needs[at].iter().find(|need| left.contains(need)) {
                    Some(&next) => at = next,
                    None => break,
                }
            }
            if let Some(begin) = walk.iter().position(|&seen| seen == at) {
                let names: Vec<String> = walk[begin..]
                    .iter()
                    .chain([&at])
                    .map(|&job| format!("`{}`", jobs[job].name))
                    .collect();
                let message = format!(
                    "these jobs need each other in a circle: {}",
                    names.join(" needs ")
                );
                let problem = self.at(ProblemKind::Conflict, jobs[at].span, message);
                self.report(problem.label("one of them"));
            }
            told.extend(walk);
        }
    }
}

/// Names that may be needed: of entries, which stand for all their cells, and of cells.
fn names_of(entries: &[EntryJob], places: &HashMap<&str, usize>) -> HashMap<String, Named> {
    let mut named = HashMap::new();
    for entry in entries {
        let name = &entry.job.name;
        let stage = places
            .get(entry.job.stage.as_str())
            .copied()
            .unwrap_or_default();
        let jobs = match &entry.cells {
            None => vec![name.clone()],
            Some(cells) => cells.iter().map(|cell| cell.name(name)).collect(),
        };
        if entry.cells.is_some() {
            for job in &jobs {
                named.insert(
                    job.clone(),
                    Named {
                        jobs: vec![job.clone()],
                        stage,
                    },
                );
            }
        }
        named.insert(name.clone(), Named { jobs, stage });
    }
    named
}
