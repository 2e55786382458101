//! The expansion of variables that a GitLab server does before it sends a job (local-pipelines
//! C2): references in values are resolved in the order of their dependencies, whatever the order
//! of their definition. The runner expands what is left once more.

use std::collections::HashMap;

use gantry_job::Variable;
use gantry_job::variable::{MAX_EXPANDED_BYTES, MAX_EXPANDED_SET_BYTES};

#[cfg(test)]
mod tests;

/// Why variables cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Variables that refer to each other in a circle.
    #[error("circular variable reference detected: {names:?}")]
    Circular {
        /// The circle, from its first variable on.
        names: Vec<String>,
    },
    /// A value or all values together grow too long.
    #[error("the variable {key} expands to more than {limit} bytes")]
    TooLong {
        /// The variable at which it was noticed.
        key: String,
        /// The limit.
        limit: usize,
    },
}

/// Resolves references between variables. The last variable of a key is the one referred to.
///
/// * `$X`, `${X}` and `%X%` are references; `$$` and `%%` are not, and stay for the runner.
/// * An unknown name stays as text, and so does a reference of a variable to itself.
/// * A raw variable is not expanded, and a reference to one stays for the runner, so that its text
///   is not expanded after all.
///
/// # Errors
/// When two or more variables refer to each other in a circle, or when values grow beyond all use.
pub fn expand(mut variables: Vec<Variable>) -> Result<Vec<Variable>, ExpandError> {
    let by_key: HashMap<String, usize> = variables
        .iter()
        .enumerate()
        .map(|(index, variable)| (variable.key.clone(), index))
        .collect();
    let needs: Vec<Vec<usize>> = variables
        .iter()
        .map(|variable| {
            let target = |name: &str| by_key.get(name).copied();
            let mut needs: Vec<usize> = if variable.raw {
                Vec::new()
            } else {
                references(&variable.value).filter_map(target).collect()
            };
            needs.retain(|&need| variables[need].key != variable.key && !variables[need].raw);
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect();
    let mut budget = MAX_EXPANDED_SET_BYTES;
    for index in order(&variables, &needs)? {
        if variables[index].raw || !variables[index].value.contains(['$', '%']) {
            continue;
        }
        let limit = MAX_EXPANDED_BYTES.min(budget);
        let value = substitute(&variables[index], &variables, &by_key, limit)?;
        budget -= value.len();
        variables[index].value = value;
    }
    Ok(variables)
}

/// Indexes such that what a variable needs comes before it.
fn order(variables: &[Variable], needs: &[Vec<usize>]) -> Result<Vec<usize>, ExpandError> {
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut wanted_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (index, needs) in needs.iter().enumerate() {
        for &need in needs {
            wanted_by[need].push(index);
        }
    }
    let mut order: Vec<usize> = (0..needs.len())
        .filter(|&index| missing[index] == 0)
        .collect();
    let mut next = 0;
    while let Some(&done) = order.get(next) {
        next += 1;
        for &waiting in &wanted_by[done] {
            missing[waiting] -= 1;
            if missing[waiting] == 0 {
                order.push(waiting);
            }
        }
    }
    match missing.iter().position(|&count| count > 0) {
        None => Ok(order),
        Some(stuck) => Err(circle(variables, needs, &missing, stuck)),
    }
}

/// The circle behind a variable that could not be put in order.
fn circle(
    variables: &[Variable],
    needs: &[Vec<usize>],
    missing: &[usize],
    stuck: usize,
) -> ExpandError {
    // Each stuck variable needs a stuck one, so the walk comes back to where it was.
    let mut walk = vec![stuck];
    let mut at = stuck;
    while let Some(&next) = needs[at].iter().find(|&&need| missing[need] > 0) {
        if let Some(begin) = walk.iter().position(|&seen| seen == next) {
            walk.drain(..begin);
            break;
        }
        walk.push(next);
        at = next;
    }
    // From the first in the file on.
    let first = walk
        .iter()
        .enumerate()
        .min_by_key(|(_, index)| **index)
        .map_or(0, |(at, _)| at);
    walk.rotate_left(first);
    ExpandError::Circular {
        names: walk
            .into_iter()
            .map(|index| variables[index].key.clone())
            .collect(),
    }
}

/// A piece of a value.
enum Piece<'a> {
    Text(&'a str),
    Reference { name: &'a str, written: &'a str },
}

/// Splits a value into text and references.
fn pieces(value: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find(['$', '%']) else {
            return Some(Piece::Text(std::mem::take(&mut rest)));
        };
        if at > 0 {
            let (text, tail) = rest.split_at(at);
            rest = tail;
            return Some(Piece::Text(text));
        }
        let (name, length) = reference(rest);
        let (written, tail) = rest.split_at(length);
        rest = tail;
        Some(match name {
            Some(name) => Piece::Reference { name, written },
            None => Piece::Text(written),
        })
    })
}

/// The name at the start of a text that begins with `$` or `%`, and the bytes it takes.
fn reference(text: &str) -> (Option<&str>, usize) {
    let (sign, rest) = text.split_at(1);
    if rest.starts_with(sign) {
        return (None, 2);
    }
    let (open, close) = match (sign, rest.starts_with('{')) {
        ("$", true) => (1, "}"),
        ("$", false) => (0, ""),
        _ => (0, "%"),
    };
    let name = &rest[open..];
    let length = name
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count();
    let (name, tail) = name.split_at(length);
    if name.is_empty()
        || name.starts_with(|digit: char| digit.is_ascii_digit())
        || !tail.starts_with(close)
    {
        return (None, 1);
    }
    (Some(name), 1 + open + length + close.len())
}

fn references(value: &str) -> impl Iterator<Item = &str> {
    pieces(value).filter_map(|piece| match piece {
        Piece::Reference { name, .. } => Some(name),
        Piece::Text(_) => None,
    })
}

fn substitute(
    variable: &Variable,
    variables: &[Variable],
    by_key: &HashMap<String, usize>,
    limit: usize,
) -> Result<String, ExpandError> {
    let mut value = String::with_capacity(variable.value.len());
    for piece in pieces(&variable.value) {
        match piece {
            Piece::Text(text) => value.push_str(text),
            Piece::Reference { name, written } => {
                match by_key.get(name).map(|&at| &variables[at]) {
                    None => value.push_str(written),
                    Some(target) if target.key == variable.key => value.push_str(written),
                    // The runner knows no `%X%`.
                    Some(target) if target.raw || target.file => {
                        value.extend(["${", name, "}"]);
                    }
                    Some(target) => value.push_str(&target.value),
                }
            }
        }
        if value.len() > limit {
            return Err(ExpandError::TooLong {
                key: variable.key.clone(),
                limit,
            });
        }
    }
    Ok(value)
}
