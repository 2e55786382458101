//! The text form of metrics, read back.

use std::collections::BTreeMap;

/// Labels of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// All series of one scrape.
#[derive(Debug)]
pub(crate) struct Exposition {
    pub(crate) series: Vec<(String, Labels, f64)>,
    /// Type by family.
    pub(crate) types: BTreeMap<String, String>,
}

impl Exposition {
    #[track_caller]
    pub(crate) fn of(text: &str) -> Self {
        let mut series = Vec::new();
        let mut types = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                series.push(read(line).unwrap_or_else(|| panic!("no series: {line}")));
            }
        }
        Self { series, types }
    }

    /// Sum over all series of this name that have these labels; `None` without any.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |found: &Labels| {
            labels
                .iter()
                .all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        let values: Vec<f64> = self
            .series
            .iter()
            .filter(|(found, of, _)| found == name && fits(of))
            .map(|(_, _, value)| *value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Names of the labels that series of this name have.
    pub(crate) fn labels_of(&self, name: &str) -> Vec<&str> {
        let of_name = self.series.iter().filter(|(found, ..)| found == name);
        of_name
            .flat_map(|(_, labels, _)| labels.keys().map(String::as_str))
            .collect()
    }
}

fn read(line: &str) -> Option<(String, Labels, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().ok()?,
    };
    let Some((name, mut rest)) = series.split_once('{') else {
        return Some((series.to_owned(), Labels::new(), value));
    };
    let mut labels = Labels::new();
    rest = rest.strip_suffix('}')?;
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => text.push(other),
            }
        };
        labels.insert(key.trim_start_matches(',').to_owned(), text);
        rest = &after[end + 1..];
    }
    rest.is_empty().then(|| (name.to_owned(), labels, value))
}
