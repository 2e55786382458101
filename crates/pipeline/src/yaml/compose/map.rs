//! Maps in the making: keys that come twice, and what `<<` brings in.

use std::collections::HashMap;
use std::sync::Arc;

use super::Finished;
use crate::yaml::{Entry, Map, Node, Value};

/// A map whose end has not come.
#[derive(Default)]
pub(super) struct MapBuilder {
    pub(super) entries: Vec<Entry>,
    /// Where a key stands in `entries`.
    index: HashMap<KeyId, usize>,
    /// The key whose value comes next.
    pub(super) key: Option<Arc<Node>>,
}

/// A scalar as a Ruby hash tells keys apart.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum KeyId {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
}

impl KeyId {
    pub(super) fn of(node: &Node) -> Option<Self> {
        Some(match &node.value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(_) | Value::BigInt(_) | Value::Float(_) => Self::Number(node.to_text()?),
            Value::Str(text) => Self::Text(text.clone()),
            Value::Seq(_) | Value::Map(_) => return None,
        })
    }
}

impl MapBuilder {
    /// Sets a key, at the place of an entry that has it already. Gives that entry.
    pub(super) fn set(&mut self, entry: Entry) -> Option<Entry> {
        let id = KeyId::of(&entry.key)?;
        match self.index.get(&id) {
            Some(&place) => {
                let slot = self.entries.get_mut(place)?;
                Some(std::mem::replace(slot, entry))
            }
            None => {
                self.index.insert(id, self.entries.len());
                self.entries.push(entry);
                None
            }
        }
    }
}

/// The maps that a `<<` with this value brings in; none if it is an ordinary key. An alias of a
/// list is one, a list of aliases is not (Psych).
pub(super) fn merge_sources(value: &Finished) -> Option<Vec<&Map>> {
    match &value.node.value {
        Value::Map(map) => Some(vec![map]),
        Value::Seq(items) if !value.alias => items.iter().map(|item| item.as_map()).collect(),
        _ => None,
    }
}
