use std::{fmt::Write as _, path::Path, process::ExitCode};

use gantry_config::{
    explain::{Explained, Origin, explain, toml_text},
    keys::{Found, Key, Kind, Reload, Section, Support, Variable, look_up},
};
use serde_json::{Value, json};

use super::{FileArgs, print, print_json, read};
use crate::{cli::OutputFormat, error::CliError, host};

/// Arguments of `config explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// A key (`concurrent`, `runners.docker.memory`, `memory`) or a table (`runners.docker`); everything if not given
    key: Option<String>,
    #[command(flatten)]
    of: FileArgs,
    /// Only the `[[runners]]` entries of this name
    #[arg(short, long, value_name = "NAME")]
    runner: Option<String>,
    /// Keys that are not set and do nothing here, too
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode, CliError> {
    let path = args.of.path();
    let bytes = read(&path)?;
    let there = bytes.is_some();
    let found = look_up(args.key.as_deref().unwrap_or_default()).map_err(|unknown| {
        CliError::new(unknown.to_string())
            .hint("`gantry config explain --all` and docs/config.md list all keys")
    })?;
    let rows = rows(&bytes.unwrap_or_default(), &path)?;
    if let Some(name) = &args.runner
        && !rows
            .iter()
            .any(|row| row.runner.as_ref().is_some_and(|entry| entry.name == *name))
    {
        let message = format!("{} has no [[runners]] entry named {name:?}", path.display());
        return Err(CliError::new(message));
    }
    let of_runner = |row: &Explained| match (&args.runner, &row.runner) {
        (Some(name), Some(entry)) => entry.name == *name,
        _ => true,
    };
    let index = wanted_index(args.key.as_deref().unwrap_or_default());
    let of_index = |row: &Explained| match (index, &row.runner) {
        (Some(index), Some(entry)) => entry.index == index,
        (Some(_), None) => false,
        (None, _) => true,
    };
    let wanted: Vec<&Explained> = rows
        .iter()
        .filter(|row| of_runner(row) && of_index(row) && fits(row, &found))
        .collect();
    if wanted.is_empty() {
        let message = format!("{} has no such entry", path.display());
        return Err(CliError::new(message));
    }
    if args.of.format == OutputFormat::Json {
        let keys: Vec<_> = wanted.iter().map(|row| as_json(row, &path)).collect();
        print_json(&json!({"file": path, "exists": there, "keys": keys}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    if !there {
        writeln!(text, "# {} does not exist: defaults", path.display()).ok();
    }
    match found {
        Found::Keys(_) => {
            for row in wanted {
                one(row, &path, &mut text);
            }
        }
        Found::Section(_) => table(&wanted, &path, args.all, &mut text),
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn rows(bytes: &[u8], path: &Path) -> Result<Vec<Explained>, CliError> {
    let environment = host::placeholders();
    // A file that is no text is refused by the same words as at load.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => match gantry_config::parse(bytes, path, &environment) {
            Err(error) => return Err(CliError::new(error.to_string())),
            Ok(_) => "",
        },
    };
    explain(text, path, &environment).map_err(|error| CliError::new(error.to_string()))
}

fn fits(row: &Explained, found: &Found) -> bool {
    match found {
        Found::Section(section) => {
            let (own, wanted) = (row.section.path, section.path);
            wanted.is_empty()
                || own == wanted
                || own
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.starts_with('.'))
        }
        Found::Keys(keys) => keys.iter().any(|(section, key)| {
            std::ptr::eq::<Section>(*section, row.section) && std::ptr::eq::<Key>(*key, row.key)
        }),
    }
}

/// `runners[2].…` asks for one entry.
fn wanted_index(key: &str) -> Option<usize> {
    let rest = key.trim().strip_prefix("runners[")?;
    rest.split_once(']')?.0.parse().ok()
}

/// Whether a listing names it without being asked for everything.
fn is_of_interest(row: &Explained) -> bool {
    row.from != Origin::Default
        || row.unset_at.is_some()
        || matches!(row.key.support, Support::Since(_))
}

/// All rows, table by table, a line each.
fn table(rows: &[&Explained], path: &Path, all: bool, text: &mut String) {
    let mut rest = rows;
    let mut left_out = 0;
    while let Some(first) = rest.first() {
        let parent = |row: &Explained| {
            let (table, _) = row.path.rsplit_once('.').unwrap_or(("", ""));
            table.to_owned()
        };
        let table = parent(first);
        let count = rest.iter().take_while(|row| parent(row) == table).count();
        let (these, others) = rest.split_at(count);
        rest = others;
        let shown: Vec<_> = these
            .iter()
            .filter(|row| all || is_of_interest(row))
            .collect();
        left_out += these.len() - shown.len();
        if shown.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        if !table.is_empty() {
            let entry = first.runner.as_ref().filter(|entry| !entry.name.is_empty());
            let name = entry.map_or_else(String::new, |entry| format!("  # {}", entry.name));
            writeln!(text, "[{table}]{name}").ok();
        }
        let cells: Vec<_> = shown
            .iter()
            .map(|row| [assignment(row), origin(row, path, false), remark(row)])
            .collect();
        let width = |column: usize, most: usize| {
            let widths = cells.iter().map(|cells| cells[column].chars().count());
            widths.filter(|width| *width <= most).max().unwrap_or(0)
        };
        let (first, second) = (width(0, 44), width(1, 32));
        for [value, from, remark] in &cells {
            writeln!(text, "{value:first$}  {from:second$}  {remark}").ok();
        }
    }
    if left_out > 0 {
        writeln!(
            text,
            "\n{left_out} keys that are not set and do nothing here are left out: --all shows them"
        )
        .ok();
    }
}

/// `key = value` as in the file.
fn assignment(row: &Explained) -> String {
    let value = toml_text(&row.value);
    if value.is_empty() {
        format!("{} (unset)", row.key.name)
    } else {
        format!("{} = {value}", row.key.name)
    }
}

/// Who says so.
fn origin(row: &Explained, path: &Path, whole: bool) -> String {
    let place = |line: usize| {
        if whole {
            return format!("{}:{line}", path.display());
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        format!("{file}:{line}")
    };
    let mut text = match row.from {
        Origin::File { line } => place(line),
        Origin::Variable(name) => format!("environment ${name}"),
        Origin::Default => "default".to_owned(),
    };
    for name in &row.placeholders {
        write!(text, ", environment ${name}").ok();
    }
    if let Some(line) = row.unset_at {
        write!(text, " (unset at {})", place(line)).ok();
    }
    text
}

fn remark(row: &Explained) -> String {
    match row.key.support.mark() {
        Some(mark) => format!("{} ({mark})", row.key.what),
        None => row.key.what.to_owned(),
    }
}

/// All there is to say about one key.
fn one(row: &Explained, path: &Path, text: &mut String) {
    if !text.is_empty() {
        text.push('\n');
    }
    let value = toml_text(&row.value);
    if value.is_empty() {
        writeln!(text, "{} is not set", row.path).ok();
    } else {
        writeln!(text, "{} = {value}", row.path).ok();
    }
    let mut line = |name: &str, words: &str| writeln!(text, "  {name:<8} {words}").ok();
    line("what", row.key.what);
    if let Some(entry) = row.runner.as_ref().filter(|entry| !entry.name.is_empty()) {
        line("runner", &entry.name);
    }
    line("from", &origin(row, path, true));
    let default = if row.key.default.is_empty() {
        "none"
    } else {
        row.key.default
    };
    line("default", default);
    line("values", &row.key.kind.describe());
    match row.key.variable {
        Some(Variable::Over(name)) => line("variable", &format!("${name} beats the file")),
        Some(Variable::Under(name)) => line(
            "variable",
            &format!("${name} counts where the file says nothing"),
        ),
        None => None,
    };
    if let Some(mark) = row.key.support.mark() {
        line("support", &mark);
    } else {
        line("changed", when(row.key));
    }
}

/// When a change takes effect.
fn when(key: &Key) -> &'static str {
    match key.reload {
        Reload::AtOnce => "takes effect when the file is read again (within 3 s, or by SIGHUP)",
        Reload::Restart => "takes effect at the next start",
    }
}

fn as_json(row: &Explained, path: &Path) -> Value {
    let mut from = match row.from {
        Origin::File { line } => json!({"source": "file", "file": path, "line": line}),
        Origin::Variable(name) => json!({"source": "environment", "variable": name}),
        Origin::Default => json!({"source": "default"}),
    };
    if !row.placeholders.is_empty() {
        from["placeholders"] = json!(row.placeholders);
    }
    if let Some(line) = row.unset_at {
        from["unset_at"] = json!(line);
    }
    let default = match row.key.default {
        "" => Value::Null,
        text => match row.key.kind {
            Kind::Bool | Kind::Int | Kind::Count | Kind::Bytes | Kind::Keywords => {
                serde_json::from_str(text).unwrap_or(Value::Null)
            }
            _ => json!(text),
        },
    };
    json!({
        "key": row.section.path_of(row.key),
        "path": row.path,
        "runner": row.runner.as_ref().map(|entry| &entry.name),
        "value": row.value,
        "from": from,
        "default": default,
        "values": row.key.kind.describe(),
        "what": row.key.what,
        "secret": row.key.secret,
        "supported": matches!(row.key.support, Support::Since(_)),
        "remark": row.key.support.mark(),
        "reload": row.key.reload == Reload::AtOnce,
    })
}
