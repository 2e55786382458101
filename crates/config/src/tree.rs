//! A checked table: canonical key names, values of the type their key takes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::config::PullPolicy;
use crate::duration::GoDuration;
use crate::keys::Section;

/// Entries of one table. Keys without a valid value are not in it.
#[derive(Debug)]
pub(crate) struct Tree {
    section: &'static Section,
    /// Byte offset of the table's header or opening brace.
    pub(crate) at: usize,
    entries: BTreeMap<&'static str, Entry>,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    at: usize,
}

/// A value by the kind of its key.
#[derive(Debug)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
    /// `None`: the zero time, which stands for unset.
    Time(Option<SystemTime>),
    Duration(GoDuration),
    List(Vec<String>),
    Texts(BTreeMap<String, String>),
    Flags(BTreeMap<String, bool>),
    Lists(BTreeMap<String, Vec<String>>),
    Amount(u64),
    Policies(Vec<PullPolicy>),
    Table(Tree),
    Tables(Vec<Tree>),
    /// Checked and not used; whether it is empty.
    Opaque {
        empty: bool,
    },
}

impl Value {
    /// Whether the value is what an unset key is, too.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Text(value) => value.is_empty(),
            Self::Time(value) => value.is_none(),
            Self::Duration(value) => value.0 == 0,
            Self::List(value) => value.is_empty(),
            Self::Texts(value) => value.is_empty(),
            Self::Flags(value) => value.is_empty(),
            Self::Lists(value) => value.is_empty(),
            Self::Amount(value) => *value == 0,
            Self::Policies(value) => value.is_empty(),
            Self::Table(value) => value.entries.is_empty(),
            Self::Tables(value) => value.is_empty(),
            Self::Opaque { empty } => *empty,
        }
    }

    /// Whether the value is `default` as the table of keys writes it.
    pub(crate) fn is_default(&self, default: &str) -> bool {
        match self {
            Self::Bool(value) => default == if *value { "true" } else { "false" },
            Self::Int(value) => default.parse() == Ok(*value),
            Self::Text(value) => value == default,
            Self::Duration(value) => GoDuration::parse(default) == Ok(*value),
            _ => false,
        }
    }
}

impl Tree {
    pub(crate) fn new(section: &'static Section, at: usize) -> Self {
        Self {
            section,
            at,
            entries: BTreeMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, key: &'static str, value: Value, at: usize) {
        self.entries.insert(key, Entry { value, at });
    }

    fn value(&self, key: &str) -> Option<&Value> {
        debug_assert!(
            self.section.keys.iter().any(|known| known.name == key),
            "[{}] has no row for {key}",
            self.section.path
        );
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Byte offset of a key; of the table if it is not set.
    pub(crate) fn at(&self, key: &str) -> usize {
        self.entries.get(key).map_or(self.at, |entry| entry.at)
    }

    pub(crate) fn bool(&self, key: &str) -> Option<bool> {
        match self.value(key) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.bool(key).unwrap_or(false)
    }

    pub(crate) fn int(&self, key: &str) -> Option<i64> {
        match self.value(key) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// A number of at least 1; less counts as unset.
    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        self.int(key)
            .and_then(|value| u64::try_from(value).ok())
            .filter(|value| *value > 0)
    }

    /// A text as written; unset is empty.
    pub(crate) fn string(&self, key: &str) -> &str {
        match self.value(key) {
            Some(Value::Text(value)) => value,
            _ => "",
        }
    }

    /// A text; empty counts as unset.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        Some(self.string(key))
            .filter(|text| !text.is_empty())
            .map(ToOwned::to_owned)
    }

    pub(crate) fn time(&self, key: &str) -> Option<SystemTime> {
        match self.value(key) {
            Some(Value::Time(value)) => *value,
            _ => None,
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Option<GoDuration> {
        match self.value(key) {
            Some(Value::Duration(value)) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn list(&self, key: &str) -> &[String] {
        match self.value(key) {
            Some(Value::List(value)) => value,
            _ => &[],
        }
    }

    pub(crate) fn texts(&self, key: &str) -> BTreeMap<String, String> {
        match self.value(key) {
            Some(Value::Texts(value)) => value.clone(),
            _ => BTreeMap::new(),
        }
    }

    pub(crate) fn flags(&self, key: &str) -> BTreeMap<String, bool> {
        match self.value(key) {
            Some(Value::Flags(value)) => value.clone(),
            _ => BTreeMap::new(),
        }
    }

    pub(crate) fn lists(&self, key: &str) -> BTreeMap<String, Vec<String>> {
        match self.value(key) {
            Some(Value::Lists(value)) => value.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// A size, in its smallest unit; zero counts as unset.
    pub(crate) fn amount(&self, key: &str) -> Option<u64> {
        match self.value(key) {
            Some(Value::Amount(value)) => Some(*value).filter(|value| *value > 0),
            _ => None,
        }
    }

    pub(crate) fn policies(&self, key: &str) -> Vec<PullPolicy> {
        match self.value(key) {
            Some(Value::Policies(value)) => value.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn table(&self, key: &str) -> Option<&Tree> {
        match self.value(key) {
            Some(Value::Table(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn tables(&self, key: &str) -> &[Tree] {
        match self.value(key) {
            Some(Value::Tables(value)) => value,
            _ => &[],
        }
    }
}
