//! Holds a parsed file against the table of keys: types, values, unknown and unsupported keys. Gives a [`Tree`].
//!
//! Own code rather than serde: the peer matches keys case-insensitively at every level, several problems are to be reported at
//! once, and each needs its place, also those of keys that have no field yet. The table of keys has all that is needed for it.

mod value;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::excerpt::Shown;
use crate::findings::Findings;
use crate::keys::{Key, Kind, ROOT, Section, Support};
use crate::nearest::nearest;
use crate::problem::{ProblemKind, WarningKind};
use crate::tree::{Tree, Value};

/// Checks a whole file.
pub(crate) fn file(table: &DeTable<'_>, findings: &mut Findings) -> Tree {
    section(&ROOT, table, 0, &Path::Root, findings)
}

/// Where a value is, as a chain up to the root; written out only for findings.
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(crate) fn show(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(Path::Root, key) => (*key).to_owned(),
            Self::Key(parent, key) => format!("{}.{key}", parent.show()),
            Self::Index(parent, index) => format!("{}[{index}]", parent.show()),
        }
    }
}

/// One entry of a table with the row it belongs to.
struct Claim<'a, 'i> {
    key: &'static Key,
    written: &'a Spanned<std::borrow::Cow<'i, str>>,
    value: &'a Spanned<DeValue<'i>>,
}

fn section(
    section: &'static Section,
    table: &DeTable<'_>,
    at: usize,
    path: &Path<'_>,
    findings: &mut Findings,
) -> Tree {
    let mut tree = Tree::new(section, at);
    for claim in claims(section, table, path, findings) {
        let path = Path::Key(path, claim.key.name);
        let at = claim.written.span().start;
        if let Some(value) = typed(claim.key, claim.value, &path, findings) {
            speak_up(claim.key, &value, at, &path, findings);
            tree.insert(claim.key.name, value, at);
        }
    }
    tree
}

/// Gives each entry its row: the exact name wins, then the first that differs in case only.
fn claims<'a, 'i>(
    section: &'static Section,
    table: &'a DeTable<'i>,
    path: &Path<'_>,
    findings: &mut Findings,
) -> Vec<Claim<'a, 'i>> {
    let mut claims: Vec<Claim<'a, 'i>> = Vec::with_capacity(table.len());
    for (written, value) in table {
        let name: &str = written.get_ref();
        let Some(key) = section.find(name) else {
            unknown(section, name, written.span().start, path, findings);
            continue;
        };
        let claim = Claim {
            key,
            written,
            value,
        };
        let Some(other) = claims.iter_mut().find(|claim| std::ptr::eq(claim.key, key)) else {
            claims.push(claim);
            continue;
        };
        let loser = if name == key.name {
            std::mem::replace(other, claim)
        } else {
            claim
        };
        let message = format!("the same key as {}, which counts: ignored", key.name);
        findings.warn(
            WarningKind::DoubleKey,
            loser.written.span().start,
            Path::Key(path, loser.written.get_ref()).show(),
            message,
        );
    }
    claims
}

/// An unknown key loads. In our own table it is a mistake worth a word.
fn unknown(
    section: &'static Section,
    name: &str,
    at: usize,
    path: &Path<'_>,
    findings: &mut Findings,
) {
    let did_you_mean = || nearest(name, section.keys.iter().map(|key| key.name));
    let path = Path::Key(path, name).show();
    if section.path == "gantry" {
        let hint =
            did_you_mean().map_or_else(String::new, |known| format!("; did you mean {known}?"));
        findings.warn(
            WarningKind::UnknownKey,
            at,
            path,
            format!("unknown key: ignored{hint}"),
        );
    } else {
        findings.unknown(at, path, did_you_mean);
    }
}

/// A set key that does nothing is named, never passed over in silence.
fn speak_up(key: &'static Key, value: &Value, at: usize, path: &Path<'_>, findings: &mut Findings) {
    let (kind, what, why) = match key.support {
        Support::NotYet(consequence) => (
            WarningKind::NotSupportedYet,
            "not supported yet",
            consequence,
        ),
        Support::NoEffect(why) => (WarningKind::NoEffect, "has no effect", why),
        Support::Since(_) | Support::With(_) | Support::Foreign => return,
    };
    let unset = value.is_default(key.default) || (value.is_nothing() && !key.zero_counts);
    if unset {
        return;
    }
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(" ({why})")
    };
    findings.warn(kind, at, path.show(), format!("{what}: ignored{why}"));
}

/// Whether a written value is as good as none, by the rules of reading: `false` is a word, zero and empty are none unless the row
/// says otherwise.
pub(crate) fn counts_as_unset(key: &Key, raw: &DeValue<'_>) -> bool {
    match (value::of(key.kind, raw), key.kind) {
        (Err(_) | Ok(Value::Bool(_)), _) => false,
        (Ok(Value::Int(number)), Kind::Count) => number < 1,
        (Ok(Value::Duration(duration)), _) => !key.zero_counts && duration.0 <= 0,
        (Ok(value), _) => !key.zero_counts && value.is_nothing(),
    }
}

/// The value of a key, or `None` with a problem noted.
fn typed(
    key: &'static Key,
    value: &Spanned<DeValue<'_>>,
    path: &Path<'_>,
    findings: &mut Findings,
) -> Option<Value> {
    let at = value.span().start;
    match (key.kind, value.get_ref()) {
        (Kind::Table(inner), DeValue::Table(table)) => {
            Some(Value::Table(section(inner, table, at, path, findings)))
        }
        (Kind::Tables(inner), DeValue::Array(array)) => {
            let mut trees = Vec::with_capacity(array.len());
            for (index, item) in array.iter().enumerate() {
                let path = Path::Index(path, index);
                match item.get_ref() {
                    DeValue::Table(table) if inner.path == "runners" => {
                        trees.push(runner(inner, table, item.span().start, &path, findings));
                    }
                    DeValue::Table(table) => {
                        trees.push(section(inner, table, item.span().start, &path, findings));
                    }
                    other => wrong_type(key, "a table", other, item.span().start, &path, findings),
                }
            }
            Some(Value::Tables(trees))
        }
        (kind, raw) => match value::of(kind, raw) {
            Ok(value) => Some(value),
            Err(value::Refused::Type { expected, item }) => {
                let (found, at, path) = match item.and_then(|item| value::item(raw, item)) {
                    Some((name, item)) => (
                        item.get_ref(),
                        item.span().start,
                        format!("{}{name}", path.show()),
                    ),
                    None => (raw, at, path.show()),
                };
                findings.problem(
                    ProblemKind::Type,
                    at,
                    path,
                    shown(key),
                    format!("expected {expected}, found {}", value::type_name(found)),
                );
                None
            }
            Err(value::Refused::Value { message, item }) => {
                let at = item
                    .and_then(|item| value::item(raw, item))
                    .map_or(at, |(_, item)| item.span().start);
                findings.problem(ProblemKind::Value, at, path.show(), shown(key), message);
                None
            }
        },
    }
}

fn shown(key: &Key) -> Shown {
    if key.secret {
        Shown::Secret
    } else {
        Shown::Plain
    }
}

fn wrong_type(
    key: &'static Key,
    expected: &str,
    found: &DeValue<'_>,
    at: usize,
    path: &Path<'_>,
    findings: &mut Findings,
) {
    findings.problem(
        ProblemKind::Type,
        at,
        path.show(),
        shown(key),
        format!("expected {expected}, found {}", value::type_name(found)),
    );
}

/// A runner entry: findings carry its name. One for another executor is only decoded, as the peer would; it will be skipped, so
/// what its keys would do is nobody's concern.
fn runner(
    inner: &'static Section,
    table: &DeTable<'_>,
    at: usize,
    path: &Path<'_>,
    findings: &mut Findings,
) -> Tree {
    let mark = findings.mark();
    findings.runner = Some(written_name(table));
    let tree = section(inner, table, at, path, findings);
    if tree.string("executor") != "docker" {
        findings.forget_but_types(mark);
    }
    findings.runner = None;
    tree
}

/// `name` before it is checked: only a string will do.
fn written_name(table: &DeTable<'_>) -> String {
    let names = table
        .iter()
        .filter(|(key, _)| key.get_ref().eq_ignore_ascii_case("name"));
    names
        .filter_map(|(_, value)| value.get_ref().as_str())
        .next_back()
        .unwrap_or_default()
        .to_owned()
}
