//! Flags as the peer's programs take them: one or two dashes, `--name value` or `--name=value`, `--on` or `--on=false`.

use std::{collections::BTreeMap, ffi::OsString};

use super::Failed;
use crate::selection::variable;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value; the last one counts.
    Value,
    /// Any number of values.
    List,
    /// Nothing, or `=true` and `=false`.
    Bool,
}

/// The flags of a command line.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: BTreeMap<&'static str, Vec<String>>,
    variables: BTreeMap<&'static str, &'static str>,
    /// What is no flag.
    pub(super) rest: Vec<String>,
    pub(super) help: bool,
}

impl Flags {
    pub(super) fn parse(
        command: &str,
        spec: &[(&'static str, Kind, &'static str)],
        args: Vec<OsString>,
    ) -> Result<Self, Failed> {
        let mut flags = Self::default();
        for (name, _, variable) in spec {
            flags.variables.insert(name, variable);
        }
        let mut args = args.into_iter().map(|arg| {
            arg.into_string().map_err(|arg| {
                Failed::from(format!("{command}: {} is no UTF-8", arg.to_string_lossy()))
            })
        });
        while let Some(arg) = args.next() {
            let arg = arg?;
            if arg == "--" {
                flags.rest.extend(args.collect::<Result<Vec<_>, _>>()?);
                break;
            }
            let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
                flags.rest.push(arg);
                continue;
            };
            let body = body.strip_prefix('-').unwrap_or(body);
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            if matches!(name, "help" | "h") {
                flags.help = true;
                continue;
            }
            let Some(&(name, kind, _)) = spec.iter().find(|(known, ..)| *known == name) else {
                return Err(format!("{command}: flag provided but not defined: -{name}").into());
            };
            let value = match (kind, value) {
                (Kind::Bool, None) => "true".to_owned(),
                (_, Some(value)) => value,
                (_, None) => args.next().ok_or_else(|| {
                    Failed::from(format!("{command}: flag needs an argument: -{name}"))
                })??,
            };
            if kind == Kind::Bool && boolean(&value).is_none() {
                return Err(format!(
                    "{command}: invalid boolean value {value:?} for -{name}: true or false is needed"
                )
                .into());
            }
            let values = flags.given.entry(name).or_default();
            if kind != Kind::List {
                values.clear();
            }
            values.push(value);
        }
        Ok(flags)
    }

    /// The value of a flag, or of the variable that stands in for it.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        if let Some(values) = self.given.get(name) {
            return values.last().cloned();
        }
        let standing_in = self.variables.get(name).filter(|name| !name.is_empty())?;
        variable(standing_in)
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.given.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn on(&self, name: &str) -> bool {
        self.value(name)
            .is_some_and(|value| boolean(&value) == Some(true))
    }

    /// A number that is not negative.
    pub(super) fn number(&self, name: &str, default: u64) -> Result<u64, Failed> {
        match self.value(name) {
            None => Ok(default),
            Some(text) if text.is_empty() => Ok(default),
            Some(text) => text.parse().map_err(|_| {
                format!("invalid value {text:?} for flag -{name}: a number of at least 0 is needed")
                    .into()
            }),
        }
    }

    /// A duration such as `1h0m0s`, in whole seconds.
    pub(super) fn seconds(&self, name: &str, default: u64) -> Result<u64, Failed> {
        match self.value(name) {
            None => Ok(default),
            Some(text) if text.is_empty() => Ok(default),
            Some(text) => seconds(&text).ok_or_else(|| {
                format!(
                    "invalid value {text:?} for flag -{name}: a duration such as 1h30m is needed"
                )
                .into()
            }),
        }
    }
}

/// Units of durations in seconds; those that begin like another one come first.
const UNITS: [(&str, f64); 7] = [
    ("ms", 1e-3),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// The words that the peer's flags take for yes and no.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn seconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (factor, unit) = UNITS
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))
            .map(|(unit, factor)| (factor, unit))?;
        total += number * factor;
        rest = &rest[unit.len()..];
    }
    // Rounded up: a duration that is not nothing does not become nothing.
    (!text.is_empty() && total < 1e12).then_some(f64::ceil(total) as u64)
}

/// Text of `--help`.
pub(super) fn help(command: &str, spec: &[(&'static str, Kind, &'static str)]) -> String {
    let mut text = format!("usage: gantry-helper {command} [flags]\n\n");
    for (name, kind, variable) in spec {
        let value = match kind {
            Kind::Value => " VALUE",
            Kind::List => " VALUE …",
            Kind::Bool => "",
        };
        let variable = match *variable {
            "" => String::new(),
            variable => format!("   [${variable}]"),
        };
        text.extend(["  --", *name, value, &variable, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Flags, Failed> {
        let spec = vec![
            ("url", Kind::Value, ""),
            ("path", Kind::List, ""),
            ("untracked", Kind::Bool, ""),
            ("timeout", Kind::Value, ""),
        ];
        Flags::parse("x", &spec, args.iter().map(OsString::from).collect())
    }

    #[test]
    fn flags_are_taken_in_every_form() {
        let Ok(flags) = parsed(&[
            "-url",
            "a",
            "--url=b",
            "--path",
            "p",
            "--path=-q",
            "--untracked",
            "rest",
            "--timeout",
            "1h0m30s",
        ]) else {
            panic!()
        };
        assert_eq!(flags.value("url").as_deref(), Some("b"));
        assert_eq!(flags.list("path"), ["p", "-q"]);
        assert!(flags.on("untracked"));
        assert_eq!(flags.rest, ["rest"]);
        assert_eq!(flags.seconds("timeout", 0).ok(), Some(3630));
        assert!(parsed(&["--untracked=false"]).is_ok_and(|flags| !flags.on("untracked")));
    }

    #[test]
    fn what_is_no_flag_is_named() {
        let text = |args: &[&str]| parsed(args).err().and_then(|Failed(text)| text).unwrap();
        assert_eq!(text(&["--nope"]), "x: flag provided but not defined: -nope");
        assert_eq!(text(&["--url"]), "x: flag needs an argument: -url");
        assert_eq!(
            text(&["--untracked=maybe"]),
            "x: invalid boolean value \"maybe\" for -untracked: true or false is needed"
        );
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(seconds("1h0m0s"), Some(3600));
        assert_eq!(seconds("1.5s"), Some(2));
        assert_eq!(seconds("500ms"), Some(1));
        assert_eq!(seconds("1s5us5µs5ns"), Some(2));
        assert_eq!(seconds("5"), None);
        assert_eq!(seconds(""), None);
    }
}
