//! Field readers that take what real servers send.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use crate::variable::Variable;

/// A struct that is read from an object and from nothing else. What serde derives would take a
/// list as well, field by field in order of declaration.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(ObjectDeserializer(deserializer)).map(Self)
    }
}

struct ObjectDeserializer<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectDeserializer<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(ObjectVisitor(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct ObjectVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for ObjectVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }
}

/// `null` reads as the struct's default.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(optional_object(deserializer)?.unwrap_or_default())
}

/// `null` reads as absent.
pub(super) fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.map(|Object(value)| value))
}

/// `null` reads as an empty list, and `null` elements are left out.
pub(super) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let elements: Vec<Object<T>> = null_free_list(deserializer)?;
    Ok(elements.into_iter().map(|Object(value)| value).collect())
}

/// `null` reads as an empty map, and `null` values as the struct's default.
pub(super) fn named_objects<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let entries: Option<BTreeMap<String, Option<Object<T>>>> = Option::deserialize(deserializer)?;
    let value = |value: Option<Object<T>>| value.map(|Object(value)| value).unwrap_or_default();
    Ok(entries
        .unwrap_or_default()
        .into_iter()
        .map(|(key, entry)| (key, value(entry)))
        .collect())
}

/// `null` reads as the type's default.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `null` reads as an empty list, and `null` elements are left out.
pub(super) fn null_free_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let elements: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
    Ok(elements.unwrap_or_default().into_iter().flatten().collect())
}

/// `null` and the empty string read as absent.
pub(super) fn present_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.filter(|text: &String| !text.is_empty()))
}

/// A variable as servers send it. `internal` is not among the fields on purpose: no payload can
/// claim a variable to be the runner's own.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WireVariable {
    #[serde(deserialize_with = "null_as_default")]
    key: String,
    #[serde(deserialize_with = "null_as_default")]
    value: String,
    #[serde(deserialize_with = "null_as_default")]
    public: bool,
    #[serde(deserialize_with = "null_as_default")]
    file: bool,
    #[serde(deserialize_with = "null_as_default")]
    masked: bool,
    #[serde(deserialize_with = "null_as_default")]
    raw: bool,
}

/// Variables of a payload.
pub(super) fn wire_variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Variable>, D::Error> {
    let wire: Vec<WireVariable> = objects(deserializer)?;
    Ok(wire
        .into_iter()
        .map(|variable| Variable {
            key: variable.key,
            value: variable.value,
            public: variable.public,
            file: variable.file,
            masked: variable.masked,
            raw: variable.raw,
            internal: false,
        })
        .collect())
}
