//! `parallel`: one entry of the file, several jobs (local-pipelines A8).

use super::Reader;
use crate::keywords::PARALLEL;
use crate::pipeline::{PipelineJob, Variable};
use crate::problem::ProblemKind;
use crate::yaml::{Map, Node, Value};

/// Jobs that one entry may become.
const MOST_JOBS: usize = 200;

/// The jobs of one entry: what is put behind its name, and their variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) suffix: String,
    pub(super) variables: Vec<Variable>,
}

impl Cell {
    /// Name of the cell's job.
    pub(super) fn name(&self, entry: &str) -> String {
        format!("{entry}{}", self.suffix)
    }
}

impl Reader<'_> {
    /// The cells of `parallel`; none where the job stays one.
    pub(super) fn parallel(&mut self, node: &Node, path: &str) -> Option<Vec<Cell>> {
        match &node.value {
            Value::Null => None,
            Value::Int(count) => {
                let count = usize::try_from(*count).unwrap_or_default();
                if count == 0 || count > MOST_JOBS {
                    let message = format!("`{path}` should be a number from 1 to {MOST_JOBS}");
                    let problem = self.at(ProblemKind::Limit, node.span, message);
                    self.report(problem.label("this number"));
                    return None;
                }
                let cells = (1..=count).map(|index| Cell {
                    suffix: format!(" {index}/{count}"),
                    variables: Vec::new(),
                });
                Some(cells.collect())
            }
            Value::Map(map) => {
                self.check_keywords(map, &PARALLEL, path);
                match map.get("matrix") {
                    Some(matrix) => self.matrix(matrix, &format!("{path}:matrix")),
                    None => {
                        let message = format!("`{path}` has no `matrix`");
                        let problem = self.at(ProblemKind::Missing, node.span, message);
                        self.report(problem.label("a map without it"));
                        None
                    }
                }
            }
            _ => {
                self.wrong_type(node, path, "a number or a map with `matrix`");
                None
            }
        }
    }

    /// Rows of variables with one value or several: every combination of a row is a cell.
    pub(super) fn matrix(&mut self, node: &Node, path: &str) -> Option<Vec<Cell>> {
        let Some(rows) = node.as_seq().filter(|_| !super::is_reference(node)) else {
            self.wrong_type(node, path, "a list of maps");
            return None;
        };
        let before = self.problems.len();
        let mut cells = Vec::new();
        for row in rows {
            match row.as_map() {
                Some(row) => self.matrix_row(row, path, &mut cells),
                None => {
                    self.wrong_type(row, path, "a list of maps");
                }
            }
            if cells.len() > MOST_JOBS {
                break;
            }
        }
        if self.problems.len() > before {
            return None;
        }
        let message = if cells.is_empty() {
            format!("`{path}` makes no job")
        } else if cells.len() > MOST_JOBS {
            format!("`{path}` makes more than the {MOST_JOBS} jobs that GitLab allows")
        } else {
            return Some(cells);
        };
        let problem = self.at(ProblemKind::Limit, node.span, message);
        self.report(problem.label("this matrix"));
        None
    }

    fn matrix_row(&mut self, row: &Map, path: &str, cells: &mut Vec<Cell>) {
        let mut combinations: Vec<Vec<Variable>> = vec![Vec::new()];
        for entry in row.entries() {
            let key = entry.key.to_text().unwrap_or_default();
            let path = format!("{path}:{key}");
            let wanted = "text, a number, or a list of them";
            let nodes = match &entry.value.value {
                Value::Seq(items) => items.iter().map(|item| &**item).collect(),
                _ => vec![&*entry.value],
            };
            let mut values = Vec::with_capacity(nodes.len());
            for node in nodes {
                match &node.value {
                    // GitLab leaves these out (local-pipelines A8).
                    Value::Null => {}
                    Value::Seq(_) | Value::Map(_) => {
                        self.wrong_type(node, &path, wanted);
                    }
                    _ => values.extend(node.to_text()),
                }
            }
            if combinations.len().saturating_mul(values.len().max(1)) > MOST_JOBS * 2 {
                // Too many whatever follows; not to fill the memory.
                cells.resize(
                    MOST_JOBS + 1,
                    Cell {
                        suffix: String::new(),
                        variables: Vec::new(),
                    },
                );
                return;
            }
            if values.is_empty() {
                continue;
            }
            combinations = combinations
                .into_iter()
                .flat_map(|combination| {
                    values.iter().map({
                        let key = &key;
                        move |value| {
                            let mut more = combination.clone();
                            more.push(Variable {
                                key: key.clone(),
                                value: value.clone(),
                                expand: true,
                                description: None,
                                options: Vec::new(),
                            });
                            more
                        }
                    })
                })
                .collect();
        }
        cells.extend(
            combinations
                .into_iter()
                .filter(|cell| !cell.is_empty())
                .map(|variables| {
                    let values: Vec<&str> =
                        variables.iter().map(|one| one.value.as_str()).collect();
                    Cell {
                        suffix: format!(": [{}]", values.join(", ")),
                        variables,
                    }
                }),
        );
    }
}

/// The jobs that an entry becomes.
pub(super) fn expand(job: PipelineJob, cells: Option<&[Cell]>) -> Vec<PipelineJob> {
    let Some(cells) = cells else {
        return vec![job];
    };
    let count = cells.len();
    cells
        .iter()
        .enumerate()
        .map(|(index, cell)| PipelineJob {
            name: cell.name(&job.name),
            variables: super::job::over(&job.variables, cell.variables.clone()),
            node: Some((index + 1, count)),
            ..job.clone()
        })
        .collect()
}
