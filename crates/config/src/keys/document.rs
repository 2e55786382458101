//! The table of keys as a document: `docs/config.md`.

use std::fmt::Write as _;

use super::{Key, Kind, ROOT, Reload, Section, Support, Variable};

const HEAD: &str = "\
# config.toml

<!-- Made from the table of keys in crates/config/src/keys; a test compares. After a change there:
     GANTRY_WRITE_DOCS=1 cargo test -p gantry-config --test document -->

The file is GitLab Runner's, unchanged; `[gantry]` holds what GitLab Runner has no key for, and it ignores that table.

* `gantry config explain` shows each value in effect, and the line, variable or default it comes from; `gantry config explain KEY`
  one key or table of this page. `gantry config check` looks for mistakes.
* Keys are matched exactly, then in any case. Zero, `\"\"` and `[]` count as unset unless the key says otherwise.
* A changed file is read again within 3 s, or at once on `SIGHUP`. Running jobs keep what they started with. A file with a mistake
  is not used: the old one stays active, and the log names the line. Keys marked *(restart)* take effect at the next start.
* Durations are texts like `1h30m` or `300ms`; a bare number is nanoseconds.
* `$NAME` and `${NAME}` in `url` and `token` are taken from the process' environment.

";

/// The whole page, Markdown.
#[must_use]
pub fn document() -> String {
    let mut page = HEAD.to_owned();
    section(&ROOT, &mut page);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn section(of: &'static Section, page: &mut String) {
    let title = match of.path {
        "" => "Top level".to_owned(),
        path if is_array(path) => format!("`[[{path}]]`"),
        path => format!("`[{path}]`"),
    };
    write!(page, "## {title}\n\n{}.\n\n", capitalised(of.what)).ok();
    let rows: Vec<&Key> = of
        .keys
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Table(_) | Kind::Tables(_)))
        .collect();
    if !rows.is_empty() {
        page.push_str("| Key | Values | Default | What it does |\n|---|---|---|---|\n");
        for key in rows {
            let default = if key.default.is_empty() {
                String::new()
            } else {
                format!("`{}`", key.default)
            };
            let kind = cell(&key.kind.describe());
            let what = cell(&sentence(key));
            writeln!(page, "| `{}` | {kind} | {default} | {what} |", key.name).ok();
        }
        page.push('\n');
    }
    for inner in of.tables() {
        section(inner, page);
    }
}

fn is_array(path: &str) -> bool {
    super::all()
        .iter()
        .any(|(_, key)| matches!(key.kind, Kind::Tables(inner) if inner.path == path))
}

/// What the key does, and all that limits it.
fn sentence(key: &Key) -> String {
    let mut text = capitalised(key.what);
    match key.variable {
        Some(Variable::Over(name)) => write!(text, "; `${name}` wins").ok(),
        // The words of the key name the variable where others follow it.
        Some(Variable::Under(name)) if !key.what.contains(name) => {
            write!(text, "; else `${name}`").ok()
        }
        _ => None,
    };
    text.push('.');
    if let Some(mark) = key.support.mark() {
        write!(text, " **{}**.", capitalised(&mark)).ok();
    }
    if key.reload == Reload::Restart && matches!(key.support, Support::Since(_)) {
        text.push_str(" *(restart)*");
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    // `$VAR`, `KEY=value` and names stay as they are.
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

impl Support {
    /// What is to be said of a key that does not act; `None` for one that does.
    #[must_use]
    pub fn mark(self) -> Option<String> {
        let with = |what: &str, why: &str| {
            if why.is_empty() {
                what.to_owned()
            } else {
                format!("{what}: {why}")
            }
        };
        match self {
            Self::Since(_) => None,
            Self::NotYet(why) => Some(with("not supported yet", why)),
            Self::NoEffect(why) => Some(with("has no effect", why)),
            Self::With(key) => Some(format!("acts only with {key}")),
            Self::Foreign => Some("for another executor, not read".to_owned()),
        }
    }
}

impl Kind {
    /// What values it takes, in a few words.
    #[must_use]
    pub fn describe(self) -> String {
        let words = match self {
            Self::Bool => "true or false",
            Self::Int => "whole number",
            Self::Count => "whole number from 1",
            Self::Text => "text",
            Self::Time => "date and time",
            Self::Duration => "duration",
            Self::List | Self::FilledList => "list of texts",
            Self::Numbers => "list of numbers",
            Self::Texts => "table of texts",
            Self::Flags => "table of true or false",
            Self::Lists => "table of lists of texts",
            Self::Size => "size such as 512m",
            Self::Cpus => "number of CPUs, as text",
            Self::Bytes => "bytes, a whole number",
            Self::Policies => "one or a list of always, if-not-present, never",
            Self::PolicyList => "list of always, if-not-present, never",
            Self::OneOf(names) | Self::OneOfAnyCase(names) => return names.join(", "),
            Self::Keywords => "true, false or a list of texts",
            Self::Version => "release number of three parts",
            Self::Table(_) | Self::AnyTable => "table",
            Self::Tables(_) | Self::AnyTables => "tables",
        };
        words.to_owned()
    }
}
