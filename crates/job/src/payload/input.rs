//! What of a job input is checked when a payload is read (job-lifecycle §1.6).

use serde::Deserialize;

use super::lenient::{null_as_default, object};
use super::{JobInput, JobInputValue};
use crate::moa::{Kind, Value};

/// A job input as a server sends it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireInput {
    #[serde(deserialize_with = "null_as_default")]
    key: String,
    #[serde(deserialize_with = "object")]
    value: JobInputValue,
}

impl TryFrom<WireInput> for JobInput {
    type Error = String;

    /// The peer's sentences.
    fn try_from(WireInput { key, value }: WireInput) -> Result<Self, String> {
        if key.is_empty() {
            return Err("input without key".to_owned());
        }
        let found = Value::from_json(&value.content.0).kind();
        if found == Kind::Null {
            return Err(format!("input {key:?} is null, must have valid value"));
        }
        let announced = match value.kind.as_str() {
            "string" => Kind::String,
            "number" => Kind::Number,
            "boolean" => Kind::Bool,
            "array" => Kind::Array,
            "struct" => Kind::Object,
            // What does not look like the name of a type may be a value that landed in the wrong field.
            unknown if unknown.bytes().all(|byte| byte.is_ascii_lowercase()) => {
                return Err(format!(
                    "invalid type {unknown:?} for input {key:?}: type is unknown"
                ));
            }
            _ => return Err(format!("invalid type for input {key:?}: type is unknown")),
        };
        if announced != found {
            return Err(format!(
                "mismatching type of input {key:?}. Announced \"{announced}\", but got \"{found}\""
            ));
        }
        Ok(Self { key, value })
    }
}
