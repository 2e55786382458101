//! Values of expressions.

use std::cmp::Ordering;
use std::fmt;

/// A value, and whether it is secret or was made from a secret. `Debug` shows the kind alone.
#[derive(Clone, PartialEq)]
pub struct Value {
    pub(super) data: Data,
    sensitive: bool,
}

#[derive(Clone, PartialEq)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Value>),
    /// In order.
    Object(Vec<(String, Value)>),
}

/// The kinds of values, in the order in which values of different kinds compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`, `false`
    Bool,
    /// A number of double precision.
    Number,
    /// Text.
    String,
    /// A list.
    Array,
    /// Values by name.
    Object,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        })
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.kind())
    }
}

impl From<Data> for Value {
    fn from(data: Data) -> Self {
        Self {
            data,
            sensitive: false,
        }
    }
}

impl Value {
    /// A string.
    pub fn string(text: impl Into<String>) -> Self {
        Data::String(text.into()).into()
    }

    /// An object of these entries.
    pub fn object(entries: Vec<(String, Self)>) -> Self {
        Data::Object(entries).into()
    }

    /// The value of a JSON document.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Data::Null.into(),
            serde_json::Value::Bool(on) => Data::Bool(*on).into(),
            serde_json::Value::Number(number) => {
                Data::Number(number.as_f64().unwrap_or(f64::NAN)).into()
            }
            serde_json::Value::String(text) => Self::string(text),
            serde_json::Value::Array(items) => {
                Data::Array(items.iter().map(Self::from_json).collect()).into()
            }
            serde_json::Value::Object(fields) => Self::object(
                fields
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::from_json(value)))
                    .collect(),
            ),
        }
    }

    /// Marks it as secret.
    #[must_use]
    pub fn sensitive(mut self, sensitive: bool) -> Self {
        self.sensitive |= sensitive;
        self
    }

    /// Whether it is secret as a whole.
    pub(super) fn is_marked(&self) -> bool {
        self.sensitive
    }

    /// Whether it, or anything in it, is secret.
    pub fn is_sensitive(&self) -> bool {
        self.sensitive
            || match &self.data {
                Data::Array(items) => items.iter().any(Self::is_sensitive),
                Data::Object(entries) => entries.iter().any(|(_, value)| value.is_sensitive()),
                _ => false,
            }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.data {
            Data::Null => Kind::Null,
            Data::Bool(_) => Kind::Bool,
            Data::Number(_) => Kind::Number,
            Data::String(_) => Kind::String,
            Data::Array(_) => Kind::Array,
            Data::Object(_) => Kind::Object,
        }
    }

    pub(super) fn is_truthy(&self) -> bool {
        match &self.data {
            Data::Null => false,
            Data::Bool(on) => *on,
            Data::Number(number) => *number != 0.0,
            Data::String(text) => !text.is_empty(),
            Data::Array(items) => !items.is_empty(),
            Data::Object(entries) => !entries.is_empty(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.data {
            Data::Object(entries) => entries
                .iter()
                .rev()
                .find_map(|(name, value)| (name == key).then_some(value)),
            _ => None,
        }
    }

    /// Kinds first; objects by length, then keys, then values, whatever their order.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (&self.data, &other.data) {
            (Data::Bool(one), Data::Bool(two)) => one.cmp(two),
            (Data::Number(one), Data::Number(two)) => {
                one.partial_cmp(two).unwrap_or_else(|| one.total_cmp(two))
            }
            (Data::String(one), Data::String(two)) => one.as_bytes().cmp(two.as_bytes()),
            (Data::Array(one), Data::Array(two)) => {
                let differing = one
                    .iter()
                    .zip(two)
                    .map(|(one, two)| one.compare(two))
                    .find(|order| order.is_ne());
                differing.unwrap_or_else(|| one.len().cmp(&two.len()))
            }
            (Data::Object(one), Data::Object(two)) => {
                let (one, two) = (sorted(one), sorted(two));
                let keys = |entries: &[(&str, &Self)]| -> Vec<String> {
                    entries.iter().map(|(key, _)| (*key).to_owned()).collect()
                };
                one.len()
                    .cmp(&two.len())
                    .then_with(|| keys(&one).cmp(&keys(&two)))
                    .then_with(|| {
                        one.iter()
                            .zip(&two)
                            .map(|((_, one), (_, two))| one.compare(two))
                            .find(|order| order.is_ne())
                            .unwrap_or(Ordering::Equal)
                    })
            }
            _ => self.kind().cmp(&other.kind()),
        }
    }

    /// As `str()` gives it.
    pub fn text(&self) -> String {
        match &self.data {
            Data::Null => "<null>".to_owned(),
            Data::Bool(on) => on.to_string(),
            Data::Number(number) => number.to_string(),
            Data::String(text) => text.clone(),
            Data::Array(_) | Data::Object(_) => self.to_json().to_string(),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        match &self.data {
            Data::Null => serde_json::Value::Null,
            Data::Bool(on) => (*on).into(),
            Data::Number(number) => {
                // Whole numbers without a point.
                serde_json::from_str(&number.to_string()).unwrap_or_else(|_| (*number).into())
            }
            Data::String(text) => text.as_str().into(),
            Data::Array(items) => items.iter().map(Self::to_json).collect(),
            Data::Object(entries) => entries
                .iter()
                .map(|(key, value)| (key.clone(), value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

fn sorted(entries: &[(String, Value)]) -> Vec<(&str, &Value)> {
    let mut entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}
