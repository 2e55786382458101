//! YAML as GitLab reads it: a tree with a place for every node.
//!
//! Syntax comes from `granit-parser`. This module makes the tree of its events: it resolves
//! anchors and merge keys, types plain scalars by the YAML 1.1 rules of GitLab's parser (Psych),
//! keeps tags and styles, and bounds what a file may cost.
//!
//! Facts of that parser that a pipeline can see, each measured with Psych 4.0:
//! * a duplicate key: the last value wins, at the first one's place (here with a warning);
//! * `<<` overwrites keys that stand before it and is overwritten by keys behind it; of a list of
//!   maps the earlier one wins; what is no map stays an ordinary key `<<`;
//! * dates and times are refused, for they are no text, number or boolean;
//! * a scalar with a tag other than `!!str` is typed even in quotes; local tags are ignored.
//!
//! Aliases share their target: a tree is never larger than its file, and [`Node::size`] counts
//! what it would be if it were written out.

use std::sync::Arc;

use crate::source::Span;

mod compose;
mod number;
mod scalar;

#[cfg(test)]
mod tests;

pub use compose::{Composed, compose};

/// What a file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text. GitLab's bound of 2 MB (`max_yaml_size_bytes`) is on memory; a file of this
    /// size never fits there.
    pub bytes: usize,
    /// Nesting, aliases expanded (GitLab: `max_yaml_depth`, 100).
    pub depth: usize,
    /// Nodes, aliases and merge keys expanded.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 4 * 1024 * 1024,
            depth: 100,
            nodes: 500_000,
        }
    }
}

/// A node of the tree. Aliases of an anchor are the same node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it holds.
    pub value: Value,
    /// Explicit tag, e.g. `!reference`.
    pub tag: Option<Tag>,
    /// Where it stands, without its tag and anchor, and a block scalar without its `|` or `>`. An
    /// alias stands where its anchor does.
    pub span: Span,
    /// How it was written.
    pub style: Style,
    size: usize,
    depth: usize,
}

impl Node {
    /// A node. The size and depth are those of its children.
    pub fn new(value: Value, tag: Option<Tag>, span: Span, style: Style) -> Self {
        let (size, depth) = match &value {
            Value::Seq(items) => grown(items.iter().map(Arc::as_ref)),
            Value::Map(map) => grown(
                map.entries()
                    .iter()
                    .flat_map(|entry| [&*entry.key, &*entry.value]),
            ),
            _ => (1, 0),
        };
        Self {
            value,
            tag,
            span,
            style,
            size,
            depth,
        }
    }

    /// Nodes in it, itself included, with aliases written out; saturates.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Collections one in another, itself included; 0 for a scalar.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_seq(&self) -> Option<&[Arc<Self>]> {
        match &self.value {
            Value::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// The map.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Whether it is null (also when nothing was written).
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// A scalar as Ruby's `to_s` gives it, which is what a job sees of it: `1_000` is `1000`,
    /// `1.10` is `1.1`, `yes` is `true`, null is empty. None for a collection.
    pub fn to_text(&self) -> Option<String> {
        match &self.value {
            Value::Null => Some(String::new()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::BigInt(digits) => Some(digits.clone()),
            Value::Float(value) => Some(number::float_to_text(*value)),
            Value::Str(text) => Some(text.clone()),
            Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// The name of a tag, e.g. `!reference`.
    pub fn tag_name(&self) -> Option<&str> {
        self.tag.as_ref().map(|tag| tag.name.as_str())
    }

    /// What it is, for messages: `a map`, `a number`, ….
    pub fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::BigInt(_) | Value::Float(_) => "a number",
            Value::Str(_) => "text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Size and depth of a collection with these children.
fn grown<'a>(children: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    children.fold((1, 1), |(size, depth), child| {
        (
            usize::saturating_add(size, child.size),
            usize::max(depth, child.depth + 1),
        )
    })
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `~`, `null`, or nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that does not fit, as decimal digits with sign.
    BigInt(String),
    /// Another number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Arc<Node>>),
    /// A map.
    Map(Map),
}

/// A map in the order of its keys, each once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

/// Key and value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key: a scalar.
    pub key: Arc<Node>,
    /// The value.
    pub value: Arc<Node>,
    /// The `<<` that brought the entry here from another map.
    pub merged_at: Option<Span>,
}

impl Map {
    /// A map of these entries, in which no key may occur twice.
    pub(crate) fn from_unique(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// All entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a text key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.key.as_str() == Some(key))
    }

    /// The value of a text key.
    pub fn get(&self, key: &str) -> Option<&Arc<Node>> {
        self.entry(key).map(|entry| &entry.value)
    }
}

/// An explicit tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// `!reference`, or a full URI as `tag:yaml.org,2002:str`.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// How a node was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// A scalar without quotes: the only one whose text decides its type.
    Plain,
    /// A scalar in single quotes.
    SingleQuoted,
    /// A scalar in double quotes.
    DoubleQuoted,
    /// A scalar after `|`.
    Literal,
    /// A scalar after `>`.
    Folded,
    /// A collection by indentation.
    Block,
    /// A collection in brackets.
    Flow,
}

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its content.
    pub root: Arc<Node>,
    /// Where it begins: its `---`, or its first content.
    pub span: Span,
}
