//! JSON kept unread.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A JSON value that is carried along but not read yet; `Debug` shows only whether there is one,
/// for it may hold credentials.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(pub serde_json::Value);

impl Opaque {
    /// Whether the field was missing, `null` or an empty object.
    pub fn is_absent(&self) -> bool {
        match &self.0 {
            serde_json::Value::Null => true,
            serde_json::Value::Object(fields) => fields.is_empty(),
            _ => false,
        }
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_absent() {
            "[absent]"
        } else {
            "[opaque]"
        })
    }
}
