//! A new `[[runners]]` entry: flags, under them a template, laid out as the peer lays it out. Pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::NewToken;
use super::document::{find_key, time};
use crate::config::RunnerConfig;
use crate::duration::GoDuration;
use crate::flags::{Flag, runner_flags, runners};
use crate::keys::{Kind, Section};
use crate::load::{Placeholders, parse};
use crate::problem::ConfigError;

/// Why an entry cannot be made of what was given. Messages name the flag.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The text of a flag is no value it takes.
    #[error("--{flag}: {reason}")]
    Value {
        /// Which flag.
        flag: String,
        /// What is wrong.
        reason: String,
    },
    /// The template is no TOML.
    #[error("couldn't load configuration template file: {0}")]
    Template(#[source] ConfigError),
    /// The template has none or several entries.
    #[error("configuration template must contain exactly one [[runners]] entry, and has {count}")]
    TemplateEntries {
        /// How many.
        count: usize,
    },
}

/// What a new `[[runners]]` entry says. `Debug` shows nothing of it: it may hold secrets.
#[derive(Clone, Default)]
pub struct RunnerEntry {
    table: Table,
}

impl std::fmt::Debug for RunnerEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerEntry").finish_non_exhaustive()
    }
}

impl RunnerEntry {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a flag's values as given; several only for lists and maps.
    ///
    /// # Errors
    /// The text is no value the key takes.
    pub fn set_flag(&mut self, flag: &Flag, given: &[String]) -> Result<(), EntryError> {
        let value = value(flag.key.kind, given).map_err(|reason| EntryError::Value {
            flag: flag.long.clone(),
            reason,
        })?;
        if let Some(value) = value {
            self.put(&flag.path, value);
        }
        Ok(())
    }

    /// Sets a text; `path` ends in the key.
    pub fn set_text(&mut self, path: &[&str], text: &str) {
        self.put(path, text.into());
    }

    /// Sets the token.
    pub fn set_token(&mut self, token: &SecretString) {
        self.put(&["token"], token.expose_secret().into());
    }

    /// A text of the entry, if it is there and not empty.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        self.get(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// A whole number of the entry; 0 if it is not there.
    #[must_use]
    pub fn int(&self, path: &[&str]) -> i64 {
        self.get(path).and_then(Item::as_integer).unwrap_or(0)
    }

    /// Who the runner is: id and token as GitLab gave them.
    pub fn set_identity(&mut self, id: i64, token: &NewToken) {
        self.put(&["id"], id.into());
        self.put(&["token"], token.token.expose_secret().into());
        self.put(&["token_obtained_at"], time(Some(token.obtained_at)));
        self.put(&["token_expires_at"], time(token.expires_at));
    }

    /// Adds the cache volume that a docker runner gets, unless there is one or caches are off (cli §2 "register").
    pub fn add_cache_volume(&mut self) {
        let off = self
            .get(&["docker", "disable_cache"])
            .and_then(Item::as_bool);
        let volumes = self.get(&["docker", "volumes"]).and_then(Item::as_array);
        let is_cache = |volume: &Value| {
            let last = volume.as_str().and_then(|volume| volume.rsplit(':').next());
            last == Some("/cache")
        };
        if off == Some(true) || volumes.is_some_and(|volumes| volumes.iter().any(is_cache)) {
            return;
        }
        let mut volumes = volumes.cloned().unwrap_or_default();
        volumes.push("/cache");
        self.put(&["docker", "volumes"], volumes.into());
    }

    /// Fills what is not said from the one entry of a template; its token is left out. Keys nobody knows and comments come along.
    ///
    /// # Errors
    /// The text is no configuration with exactly one entry.
    pub fn merge_template(
        &mut self,
        text: &[u8],
        path: &Path,
        placeholders: &Placeholders,
    ) -> Result<(), EntryError> {
        let loaded = parse(text, path, placeholders).map_err(EntryError::Template)?;
        let count = loaded.config.runners.len();
        if count != 1 {
            return Err(EntryError::TemplateEntries { count });
        }
        let text = String::from_utf8_lossy(text);
        let mut toml: DocumentMut = text
            .trim_start_matches('\u{feff}')
            .parse()
            .unwrap_or_default();
        let entry = find_key(toml.as_table(), "runners")
            .and_then(|key| toml.remove(&key))
            .and_then(|item| item.into_array_of_tables().ok())
            .and_then(|tables| tables.into_iter().next());
        if let Some(mut entry) = entry {
            for key in ["token", "token_obtained_at", "token_expires_at", "id"] {
                if let Some(key) = find_key(&entry, key) {
                    entry.remove(&key);
                }
            }
            merge(&mut self.table, entry, runners());
        }
        Ok(())
    }

    /// Whether this would load as an entry, seen by itself.
    ///
    /// # Errors
    /// What is wrong with it, by flag.
    pub fn check(&self) -> Result<(), EntryError> {
        let mut table = self.table.clone();
        // Values of an entry for another executor are nobody's concern, but these flags are Gantry's.
        table.insert("executor", "docker".into());
        let checked = parse(alone(table), Path::new("runner"), &Placeholders::new());
        let Err(error) = checked else {
            return Ok(());
        };
        let problem = error.problems().first();
        let key = problem.map_or("", |problem| problem.key.trim_start_matches("runners[0]."));
        let flag = runner_flags().iter().find(|flag| {
            key == flag.path.join(".") || key.starts_with(&(flag.path.join(".") + "["))
        });
        Err(EntryError::Value {
            flag: flag.map_or_else(|| key.to_owned(), |flag| flag.long.clone()),
            reason: problem.map_or_else(|| error.to_string(), |problem| problem.message.clone()),
        })
    }

    /// The entry as the rest of the program sees one, by itself.
    ///
    /// # Errors
    /// It would not load.
    pub fn resolve(&self, placeholders: &Placeholders) -> Result<Arc<RunnerConfig>, ConfigError> {
        let text = alone(self.table.clone());
        let mut loaded = parse(text, Path::new("runner"), placeholders)?;
        Ok(loaded.config.runners.pop().unwrap_or_default())
    }

    /// The entry with what the peer always writes, in order, indented by table.
    pub(super) fn into_table(mut self) -> Table {
        let docker = self.text(&["executor"]) == Some("docker");
        self.or_put(&["cache", "MaxUploadedArchiveSize"], 0.into());
        for empty in ["s3", "gcs", "azure"] {
            if let Some(cache) = sub_table(&mut self.table, "cache") {
                sub_table(cache, empty);
            }
        }
        if docker {
            for off in [
                "tls_verify",
                "privileged",
                "disable_entrypoint_overwrite",
                "oom_kill_disable",
                "disable_cache",
            ] {
                self.or_put(&["docker", off], false.into());
            }
            for zero in ["shm_size", "network_mtu"] {
                self.or_put(&["docker", zero], 0.into());
            }
        }
        lay_out(&mut self.table, runners(), 1);
        self.table
    }

    fn get(&self, path: &[&str]) -> Option<&Item> {
        let (key, tables) = path.split_last()?;
        let mut at: &dyn TableLike = &self.table;
        for name in tables {
            at = at.get(&find_key(at, name)?)?.as_table_like()?;
        }
        at.get(&find_key(at, key)?)
    }

    pub(super) fn put(&mut self, path: &[&str], value: Value) {
        let Some((key, tables)) = path.split_last() else {
            return;
        };
        let mut at = Some(&mut self.table);
        for name in tables {
            at = at.and_then(|table| sub_table(table, name));
        }
        if let Some(table) = at {
            let key = find_key(table, key).unwrap_or_else(|| (*key).to_owned());
            table.insert(&key, Item::Value(value));
        }
    }

    fn or_put(&mut self, path: &[&str], value: Value) {
        if self.get(path).is_none() {
            self.put(path, value);
        }
    }
}

/// A file with one entry.
fn alone(table: Table) -> String {
    let mut toml = DocumentMut::new();
    let mut tables = toml_edit::ArrayOfTables::new();
    tables.push(table);
    toml.insert("runners", Item::ArrayOfTables(tables));
    toml.to_string()
}

/// The table of this name, made if need be, and of one with a header: an inline one is opened up.
fn sub_table<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    let key = find_key(table, name).unwrap_or_else(|| name.to_owned());
    let item = table
        .entry(&key)
        .or_insert_with(|| Item::Table(Table::new()));
    if let Item::Value(Value::InlineTable(inline)) = item {
        *item = Item::Table(std::mem::take(inline).into_table());
    }
    item.as_table_mut()
}

/// Lays `under` below `table`: only what is missing or empty is taken.
fn merge(table: &mut Table, under: Table, section: Option<&'static Section>) {
    for (key, below) in under {
        let written = find_key(table, &key);
        let known = section.and_then(|section| section.find(&key));
        let Some(written) = written else {
            table.insert(&key, below);
            continue;
        };
        let Some(item) = table.get_mut(&written) else {
            continue;
        };
        let keeps_zero = known.is_some_and(|key| key.zero_counts);
        match (item, below) {
            (Item::Table(over), Item::Table(below)) => {
                let inner = known.and_then(|key| match key.kind {
                    Kind::Table(section) => Some(section),
                    _ => None,
                });
                merge(over, below, inner);
            }
            (item, below) if is_empty(item) && !keeps_zero => *item = below,
            _ => {}
        }
    }
}

/// Whether a value counts as not given (as the peer's merge has it: zero, false, nothing).
fn is_empty(item: &Item) -> bool {
    match item {
        Item::Value(Value::String(text)) => text.value().is_empty(),
        Item::Value(Value::Integer(number)) => *number.value() == 0,
        Item::Value(Value::Boolean(value)) => !value.value(),
        Item::Value(Value::Array(array)) => array.is_empty(),
        Item::Value(Value::InlineTable(table)) => table.is_empty(),
        Item::Table(table) => table.is_empty(),
        Item::None => true,
        Item::Value(_) | Item::ArrayOfTables(_) => false,
    }
}

/// Order of the table of keys, two blanks for each table around. What has comments keeps them where they are.
fn lay_out(table: &mut Table, section: Option<&'static Section>, depth: usize) {
    let place = |name: &str| {
        let keys = section.map_or(&[][..], |section| section.keys);
        keys.iter()
            .position(|key| key.name.eq_ignore_ascii_case(name))
            .unwrap_or(usize::MAX)
    };
    table.sort_values_by(|one, _, other, _| place(one.get()).cmp(&place(other.get())));
    let indent = "  ".repeat(depth);
    let has_comment = |prefix: Option<&toml_edit::RawString>| {
        prefix
            .and_then(toml_edit::RawString::as_str)
            .is_some_and(|text| text.contains('#'))
    };
    table.set_position(None);
    for (mut key, item) in table.iter_mut() {
        match item {
            Item::Value(_) => {
                if !has_comment(key.leaf_decor().prefix()) {
                    key.leaf_decor_mut().set_prefix(indent.as_str());
                }
            }
            Item::Table(inner) => {
                if !has_comment(inner.decor().prefix()) {
                    inner.decor_mut().set_prefix(indent.as_str());
                }
                inner.set_implicit(false);
                let known = section.and_then(|section| section.find(key.get()));
                let inner_section = known.and_then(|key| match key.kind {
                    Kind::Table(section) => Some(section),
                    _ => None,
                });
                lay_out(inner, inner_section, depth + 1);
            }
            Item::ArrayOfTables(tables) => {
                for inner in tables.iter_mut() {
                    inner.set_position(None);
                }
            }
            Item::None => {}
        }
    }
}

/// The value of a flag; `None`: given and empty, which is the same as not given.
fn value(kind: Kind, given: &[String]) -> Result<Option<Value>, String> {
    let last = given.last().map_or("", |text| text.as_str());
    let value = match kind {
        Kind::List | Kind::FilledList | Kind::PolicyList => {
            let items: Array = given.iter().filter(|item| !item.is_empty()).collect();
            if items.is_empty() {
                return Ok(None);
            }
            items.into()
        }
        Kind::Policies => match given {
            [one] if one.is_empty() => return Ok(None),
            [one] => one.as_str().into(),
            several => several.iter().collect::<Array>().into(),
        },
        Kind::Texts | Kind::Flags | Kind::Lists => {
            let mut table = InlineTable::new();
            for text in given.iter().filter(|text| !text.trim().is_empty()) {
                table.extend(map(kind, text)?);
            }
            if table.is_empty() {
                return Ok(None);
            }
            table.into()
        }
        _ if last.is_empty() => return Ok(None),
        Kind::Bool => boolean(last)
            .ok_or_else(|| format!("{last:?} is neither true nor false"))?
            .into(),
        Kind::Int | Kind::Count | Kind::Bytes => last
            .parse::<i64>()
            .map_err(|_| format!("{last:?} is no whole number"))?
            .into(),
        Kind::Duration => {
            if let Ok(nanoseconds) = last.parse::<i64>() {
                nanoseconds.into()
            } else {
                GoDuration::parse(last)
                    .map_err(|_| format!("{last:?} is no duration such as 90s or 1h30m"))?;
                last.into()
            }
        }
        Kind::Text
        | Kind::Time
        | Kind::Numbers
        | Kind::Size
        | Kind::Cpus
        | Kind::OneOf(_)
        | Kind::OneOfAnyCase(_)
        | Kind::Keywords
        | Kind::Version
        | Kind::Table(_)
        | Kind::Tables(_)
        | Kind::AnyTable
        | Kind::AnyTables => last.into(),
    };
    Ok(Some(value))
}

/// What Go takes for a boolean.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Names and values: JSON, an inline table of TOML, or `name=value` pairs between commas.
fn map(kind: Kind, text: &str) -> Result<BTreeMap<String, Value>, String> {
    let text = text.trim();
    if !text.starts_with('{') {
        return text
            .split(',')
            .map(|pair| {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("{pair:?} is no name=value"))?;
                let value: Value = match kind {
                    Kind::Flags => boolean(value)
                        .ok_or_else(|| format!("{name}: {value:?} is neither true nor false"))?
                        .into(),
                    Kind::Lists => value.split(';').collect::<Array>().into(),
                    _ => value.into(),
                };
                Ok((name.trim().to_owned(), value))
            })
            .collect();
    }
    if let Ok(json) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text) {
        return json
            .into_iter()
            .map(|(name, value)| {
                let value = of_json(value)
                    .ok_or_else(|| format!("{name}: null and nested objects are no values"))?;
                Ok((name, value))
            })
            .collect();
    }
    let toml: DocumentMut = format!("map = {text}")
        .parse()
        .map_err(|_| "neither JSON nor an inline table of TOML".to_owned())?;
    let table = toml.get("map").and_then(Item::as_inline_table);
    let pairs = table.into_iter().flat_map(InlineTable::iter);
    Ok(pairs
        .map(|(name, value)| {
            let mut value = value.clone();
            value.decor_mut().clear();
            (name.to_owned(), value)
        })
        .collect())
}

fn of_json(value: serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::Number(number) => number.as_i64()?.into(),
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(items) => items
            .into_iter()
            .map(of_json)
            .collect::<Option<Array>>()?
            .into(),
        serde_json::Value::Null | serde_json::Value::Object(_) => return None,
    })
}
