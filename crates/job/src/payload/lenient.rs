//! Field readers that take what real servers send.

use serde::{Deserialize, Deserializer};

use crate::variable::Variable;

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
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
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
    let wire: Vec<WireVariable> = null_free_list(deserializer)?;
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
