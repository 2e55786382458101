//! Rows by name, as people write names.

use super::{Key, Kind, ROOT, Section};
use crate::nearest::nearest;

/// What a name stands for.
#[derive(Debug)]
pub enum Found {
    /// A table, its own tables included.
    Section(&'static Section),
    /// One key, or several of the same name in different tables.
    Keys(Vec<(&'static Section, &'static Key)>),
}

/// A name nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key {name:?}{}", .nearest.as_ref().map_or_else(String::new, |nearest| format!("; did you mean {nearest}?")))]
pub struct Unknown {
    /// As asked.
    pub name: String,
    /// The dotted name it most looks like.
    pub nearest: Option<String>,
}

/// All rows with their sections, tables before what is in them, in the order of the table of keys.
pub fn all() -> Vec<(&'static Section, &'static Key)> {
    let mut rows = Vec::new();
    push(&ROOT, &mut rows);
    rows
}

fn push(section: &'static Section, rows: &mut Vec<(&'static Section, &'static Key)>) {
    rows.extend(section.keys.iter().map(|key| (section, key)));
    for inner in section.tables() {
        push(inner, rows);
    }
}

impl Section {
    /// The tables directly below.
    pub fn tables(&'static self) -> impl Iterator<Item = &'static Section> {
        self.keys.iter().filter_map(|key| match key.kind {
            Kind::Table(inner) | Kind::Tables(inner) => Some(inner),
            _ => None,
        })
    }

    /// Dotted name of one of its keys: `runners.docker.memory`.
    #[must_use]
    pub fn path_of(&self, key: &Key) -> String {
        if self.path.is_empty() {
            key.name.to_owned()
        } else {
            format!("{}.{}", self.path, key.name)
        }
    }
}

/// Finds what `name` means: a dotted name (`runners.docker.memory`, `runners[0].docker.memory`), a table (`runners.docker`), the end
/// of a name (`docker.memory`, `memory`), or an entry of a free table (`runners.feature_flags.FF_TIMESTAMPS`). Case does not count.
///
/// # Errors
/// Nothing has that name; with the one it most looks like.
pub fn look_up(name: &str) -> Result<Found, Unknown> {
    let wanted = plain(name);
    if wanted.is_empty() {
        return Ok(Found::Section(&ROOT));
    }
    let rows = all();
    let ends = |path: &str| {
        path.strip_suffix(&wanted)
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let matching = |fits: &dyn Fn(&str) -> bool| -> Vec<_> {
        rows.iter()
            .copied()
            .filter(|(section, key)| fits(&section.path_of(key).to_ascii_lowercase()))
            .collect()
    };
    let exact = matching(&|path| path == wanted);
    let found = if exact.is_empty() {
        matching(&ends)
    } else {
        exact
    };
    match found.as_slice() {
        [] => {}
        [(_, key)] => {
            return Ok(match key.kind {
                Kind::Table(inner) | Kind::Tables(inner) => Found::Section(inner),
                _ => Found::Keys(found),
            });
        }
        _ => return Ok(Found::Keys(found)),
    }
    // An entry of a table whose keys are free.
    if let Some((table, _)) = wanted.rsplit_once('.') {
        let tables = matching(&|path| path == table || path.ends_with(&format!(".{table}")));
        let free: Vec<_> = tables
            .into_iter()
            .filter(|(_, key)| matches!(key.kind, Kind::Texts | Kind::Flags | Kind::Lists))
            .collect();
        if !free.is_empty() {
            return Ok(Found::Keys(free));
        }
    }
    let paths: Vec<String> = rows
        .iter()
        .map(|(section, key)| section.path_of(key))
        .collect();
    let whole = nearest(&wanted, paths.iter().map(String::as_str));
    let last = wanted.rsplit('.').next().unwrap_or_default();
    let looks_like = whole.map(ToOwned::to_owned).or_else(|| {
        let name = nearest(last, rows.iter().map(|(_, key)| key.name))?;
        rows.iter()
            .find(|(_, key)| key.name == name)
            .map(|(section, key)| section.path_of(key))
    });
    Err(Unknown {
        name: name.to_owned(),
        nearest: looks_like,
    })
}

/// Lower case, without indexes, brackets of headers and blanks.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    let mut rest = name.trim().trim_matches(['[', ']']);
    while let Some(open) = rest.find('[') {
        plain.push_str(&rest[..open]);
        rest = rest[open..].split_once(']').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain.trim_matches('.').to_ascii_lowercase()
}

/// What a key does, for help texts of options that mirror it. Empty for a name that no key has, which the tests of its users see.
#[must_use]
pub fn what(path: &str) -> &'static str {
    all()
        .into_iter()
        .find(|(section, key)| section.path_of(key) == path)
        .map_or("", |(_, key)| key.what)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn found(name: &str) -> String {
        match look_up(name) {
            Ok(Found::Section(section)) => format!("[{}]", section.path),
            Ok(Found::Keys(keys)) => keys
                .iter()
                .map(|(section, key)| section.path_of(key))
                .collect::<Vec<_>>()
                .join(" "),
            Err(unknown) => unknown.to_string(),
        }
    }

    #[rstest]
    #[case("concurrent", "concurrent")]
    #[case("Concurrent", "concurrent")]
    #[case("runners.docker.memory", "runners.docker.memory")]
    #[case("runners[3].docker.memory", "runners.docker.memory")]
    #[case("docker.memory", "runners.docker.memory")]
    #[case("memory", "runners.docker.memory")]
    #[case("limit", "runners.limit")]
    #[case("cache_dir", "runners.cache_dir runners.docker.cache_dir")]
    #[case("labels", "labels")]
    #[case("runners", "[runners]")]
    #[case("[[runners]]", "[runners]")]
    #[case("[runners.docker]", "[runners.docker]")]
    #[case("docker", "[runners.docker]")]
    #[case("gantry", "[gantry]")]
    #[case("", "[]")]
    #[case("runners.cache.s3", "[runners.cache.s3]")]
    #[case("cache.type", "runners.cache.Type")]
    #[case("runners.feature_flags.FF_TIMESTAMPS", "runners.feature_flags")]
    #[case("concurent", "there is no key \"concurent\"; did you mean concurrent?")]
    #[case(
        "runners.docker.memori",
        "there is no key \"runners.docker.memori\"; did you mean runners.docker.memory?"
    )]
    #[case(
        "pull-policy",
        "there is no key \"pull-policy\"; did you mean runners.docker.pull_policy?"
    )]
    #[case("zzzzzzzz", "there is no key \"zzzzzzzz\"")]
    #[case("runners[", "[runners]")]
    fn a_name_means_what_people_mean_by_it(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(found(name), expected);
    }

    #[test]
    fn what_a_key_does_is_known_by_its_dotted_name() {
        assert_eq!(what("concurrent"), "job slots of the whole process");
        assert_eq!(what("nonsense"), "");
    }
}
