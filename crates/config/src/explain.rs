//! Each value in effect, and where it comes from: what `gantry config explain` prints.
//!
//! The rows are those of the table of keys, in its order. A value is taken from the file, a variable of the environment or the
//! table, by the very rules of reading: all of them written out read as the same configuration, which a test holds it to.

use std::path::Path;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::check::counts_as_unset;
use crate::excerpt::Lines;
use crate::expand::expand;
use crate::keys::{Key, Kind, ROOT, Section, Variable};
use crate::load::{Placeholders, parse};
use crate::problem::ConfigError;

/// Stands for a value that is not shown.
const MASKED: &str = "[MASKED]";

/// One key with its value.
#[derive(Clone, Debug)]
pub struct Explained {
    /// With indexes: `runners[0].docker.memory`; without, where the file has no such entry.
    pub path: String,
    /// Its table.
    pub section: &'static Section,
    /// Its row.
    pub key: &'static Key,
    /// The runner entry it belongs to.
    pub runner: Option<Entry>,
    /// The value in effect, secrets replaced; `Null`: unset.
    pub value: Value,
    /// Who says so.
    pub from: Origin,
    /// Variables of the environment that stand in the text (`$TOKEN`).
    pub placeholders: Vec<String>,
    /// The file names the key, and says nothing by it (`check_interval = 0`): on this line.
    pub unset_at: Option<usize>,
}

/// A runner entry of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 0.
    pub index: usize,
    /// Its `name`, possibly empty.
    pub name: String,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This line of the file.
    File {
        /// From 1.
        line: usize,
    },
    /// This variable of the process environment.
    Variable(&'static str),
    /// Nobody says anything: the default, if there is one.
    Default,
}

/// All keys of a file with their values. An empty `text` stands for a file that is not there.
///
/// # Errors
/// The file cannot be used.
pub fn explain(
    text: &str,
    path: &Path,
    environment: &Placeholders,
) -> Result<Vec<Explained>, ConfigError> {
    parse(text, path, environment)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, _) = DeTable::parse_recoverable(text);
    let mut walk = Walk {
        lines: Lines::new(text),
        environment,
        labels: Map::new(),
        rows: Vec::new(),
    };
    walk.section(&ROOT, Some(table.get_ref()), "", None);
    Ok(walk.rows)
}

struct Walk<'a> {
    lines: Lines<'a>,
    environment: &'a Placeholders,
    /// Labels of all runners.
    labels: Map<String, Value>,
    rows: Vec<Explained>,
}

impl Walk<'_> {
    fn section(
        &mut self,
        section: &'static Section,
        table: Option<&DeTable<'_>>,
        path: &str,
        runner: Option<&Entry>,
    ) {
        for key in section.keys {
            if !matches!(key.kind, Kind::Table(_) | Kind::Tables(_)) {
                self.key(section, key, table, path, runner);
            }
        }
        for key in section.keys {
            let value = table.and_then(|table| written(table, key));
            let path = join(path, key.name);
            match (key.kind, value.map(|(_, value)| value)) {
                (Kind::Table(inner), value) => {
                    let table = value.and_then(DeValue::as_table);
                    self.section(inner, table, &path, runner);
                }
                (Kind::Tables(inner), Some(DeValue::Array(array))) => {
                    for (index, item) in array.iter().enumerate() {
                        let Some(table) = item.get_ref().as_table() else {
                            continue;
                        };
                        let entry = Entry {
                            index,
                            name: name_of(table),
                        };
                        let runner = runner.or((inner.path == "runners").then_some(&entry));
                        self.section(inner, Some(table), &format!("{path}[{index}]"), runner);
                    }
                    if array.is_empty() {
                        self.section(inner, None, &path, runner);
                    }
                }
                (Kind::Tables(inner), _) => self.section(inner, None, &path, runner),
                _ => {}
            }
        }
    }

    fn key(
        &mut self,
        section: &'static Section,
        key: &'static Key,
        table: Option<&DeTable<'_>>,
        path: &str,
        runner: Option<&Entry>,
    ) {
        let mut row = Explained {
            path: join(path, key.name),
            section,
            key,
            runner: runner.cloned(),
            value: default_of(key),
            from: Origin::Default,
            placeholders: Vec::new(),
            unset_at: None,
        };
        if let Some((at, raw)) = table.and_then(|table| written(table, key)) {
            let line = self.lines.line(at);
            if counts_as_unset(key, raw) {
                row.unset_at = Some(line);
            } else {
                row.from = Origin::File { line };
                row.value = self.shown(section, key, raw, &mut row.placeholders);
            }
        }
        let variable = match key.variable {
            Some(Variable::Over(name)) => Some(name),
            Some(Variable::Under(name)) if row.from == Origin::Default => Some(name),
            _ => None,
        };
        let set = variable.and_then(|name| {
            let value = self.environment.get(name)?;
            (!value.is_empty()).then_some((name, value))
        });
        if let Some((name, value)) = set {
            row.from = Origin::Variable(name);
            row.value = Value::String(if key.secret {
                MASKED.to_owned()
            } else {
                without_credentials(value)
            });
        }
        if key.name == "labels" {
            self.labels(section, &mut row);
        }
        self.rows.push(row);
    }

    /// Labels of a runner are the global ones with its own over them.
    fn labels(&mut self, section: &'static Section, row: &mut Explained) {
        let own = match &row.value {
            Value::Object(own) => own.clone(),
            _ => Map::new(),
        };
        match section.path {
            "" => self.labels = own,
            "runners" if !self.labels.is_empty() => {
                let mut all = self.labels.clone();
                all.extend(own);
                row.value = Value::Object(all);
            }
            _ => {}
        }
    }

    /// A value as it may be shown.
    fn shown(
        &self,
        section: &Section,
        key: &Key,
        raw: &DeValue<'_>,
        placeholders: &mut Vec<String>,
    ) -> Value {
        let expands = section.path == "runners" && matches!(key.name, "url" | "token");
        if let (true, DeValue::String(text)) = (expands, raw) {
            *placeholders = expand(text, &Placeholders::new()).unset;
            let value = expand(text, self.environment).text;
            return Value::String(if key.secret {
                MASKED.to_owned()
            } else {
                without_credentials(&value)
            });
        }
        let value = json(key.kind, raw);
        if key.secret { masked(&value) } else { value }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Offset and value of a key: the exact name wins, then the first that differs in case only.
fn written<'a, 'i>(table: &'a DeTable<'i>, key: &Key) -> Option<(usize, &'a DeValue<'i>)> {
    let exact = |name: &str| name == key.name;
    let any_case = |name: &str| name.eq_ignore_ascii_case(key.name);
    let find = |fits: &dyn Fn(&str) -> bool| {
        table
            .iter()
            .find(|(name, _)| fits(name.get_ref()))
            .map(|(name, value)| (name.span().start, value.get_ref()))
    };
    find(&exact).or_else(|| find(&any_case))
}

fn name_of(table: &DeTable<'_>) -> String {
    table
        .iter()
        .find(|(name, _)| name.get_ref().eq_ignore_ascii_case("name"))
        .and_then(|(_, value)| value.get_ref().as_str())
        .unwrap_or_default()
        .to_owned()
}

fn default_of(key: &Key) -> Value {
    let text = key.default;
    match key.kind {
        _ if text.is_empty() => Value::Null,
        Kind::Bool | Kind::Keywords => Value::Bool(text == "true"),
        Kind::Int | Kind::Count | Kind::Bytes => {
            text.parse::<i64>().map_or(Value::Null, Value::from)
        }
        _ => Value::String(text.to_owned()),
    }
}

fn json(kind: Kind, raw: &DeValue<'_>) -> Value {
    match raw {
        // Not looked at, so nobody knows what in it is secret.
        DeValue::Table(table) if matches!(kind, Kind::AnyTable) => {
            Value::String(format!("a table of {} keys", table.len()))
        }
        DeValue::Array(array) if matches!(kind, Kind::AnyTables) => {
            Value::String(format!("{} tables", array.len()))
        }
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::String(number.to_string()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or(Value::Null, Value::from),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(array) => array
            .iter()
            .map(|item| json(kind, item.get_ref()))
            .collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(name, value)| (name.get_ref().to_string(), json(kind, value.get_ref())))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Names of variables stay, what they hold does not.
fn masked(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(masked_item).collect(),
        _ => Value::String(MASKED.to_owned()),
    }
}

fn masked_item(item: &Value) -> Value {
    let name = item.as_str().and_then(|text| text.split_once('='));
    Value::String(name.map_or_else(|| MASKED.to_owned(), |(name, _)| format!("{name}={MASKED}")))
}

/// A URL may hold a password.
fn without_credentials(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            match rest[..authority].rfind('@') {
                Some(at) => format!("{scheme}://{MASKED}{}", &rest[at..]),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

/// A value as TOML in one line; empty for `Null`.
#[must_use]
pub fn toml_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(toml_text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(name, value)| format!("{} = {}", toml_key(name), toml_text(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        // TOML's basic strings, numbers and booleans are those of JSON, but for one letter.
        other => other.to_string().replace('\u{7f}', "\\u007f"),
    }
}

fn toml_key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        toml_text(&Value::String(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
