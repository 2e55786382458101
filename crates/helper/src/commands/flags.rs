//! Flags as the peer's programs take them (cli §1): one or two dashes, `--name value` or `--name=value`, `--on` or `--on=false`. A
//! variable of the environment may stand in for a flag; the flag counts for more.

use std::{collections::BTreeMap, ffi::OsString};

use super::{
    Failed,
    spec::{Command, Flag, Kind},
};

/// A command line, all values of which have been looked at.
#[derive(Debug)]
pub(super) struct Flags {
    command: &'static Command,
    given: BTreeMap<&'static str, Vec<String>>,
    /// What came by variables.
    stood_in: BTreeMap<&'static str, String>,
    /// What is no flag.
    pub(super) rest: Vec<OsString>,
    pub(super) help: bool,
    /// To be told before the command does anything.
    pub(super) warnings: Vec<String>,
}

impl Flags {
    /// Reads the arguments of a command. `variable` gives the environment. Fails with what is wrong, on which flag or variable.
    pub(super) fn parse(
        command: &'static Command,
        args: Vec<OsString>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failed> {
        let mut flags = Self {
            command,
            given: BTreeMap::new(),
            stood_in: BTreeMap::new(),
            rest: Vec::new(),
            help: false,
            warnings: Vec::new(),
        };
        flags.take(args)?;
        flags.stand_in(variable)?;
        if !flags.rest.is_empty() && command.arguments.is_empty() {
            let words: Vec<_> = flags.rest.iter().map(|word| format!("{word:?}")).collect();
            flags.warnings.push(format!(
                "{}: ignored, since no flag takes it: {} (each value needs its flag before it)",
                command.name,
                words.join(" ")
            ));
        }
        Ok(flags)
    }

    fn take(&mut self, args: Vec<OsString>) -> Result<(), Failed> {
        let name_of_command = self.command.name;
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next() {
            if arg == "--" {
                break;
            }
            if !arg.as_encoded_bytes().starts_with(b"-") || arg == "-" {
                self.rest.push(arg);
                if self.command.runs_another {
                    break;
                }
                continue;
            }
            let arg = utf8(name_of_command, arg)?;
            let (name, value) = split(&arg);
            if matches!(name, "help" | "h") {
                self.help = true;
                continue;
            }
            let Some(flag) = self.command.flag(name) else {
                return Err(format!(
                    "{name_of_command}: flag provided but not defined: -{name}; \
                     {name_of_command} --help lists what is"
                )
                .into());
            };
            let value = match (flag.kind, value) {
                (_, Some(value)) => value.to_owned(),
                (Kind::Bool, None) => match args.next_if(is_lone_boolean) {
                    None => "true".to_owned(),
                    Some(apart) => {
                        let apart = apart.to_string_lossy().to_lowercase();
                        self.warnings.push(boolean_apart(&arg, &apart));
                        apart
                    }
                },
                (_, None) => match args.next() {
                    Some(value) => utf8(name_of_command, value)?,
                    None => {
                        return Err(
                            format!("{name_of_command}: flag needs an argument: -{name}").into(),
                        );
                    }
                },
            };
            if let Some(needed) = flag.kind.refuses(&value) {
                return Err(format!(
                    "{name_of_command}: invalid value {value:?} for flag -{name}: {needed} is needed"
                )
                .into());
            }
            let values = self.given.entry(flag.name).or_default();
            if !flag.kind.takes_many() {
                values.clear();
            }
            values.push(value);
        }
        self.rest.extend(args);
        Ok(())
    }

    /// Looks at the variables of flags that are not given. One that is empty is one that is not there.
    fn stand_in(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Failed> {
        for flag in self.command.flags() {
            let name = flag.variable;
            if name.is_empty() || self.given.contains_key(flag.name) {
                continue;
            }
            let Some(value) = variable(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            match flag.kind.refuses(&value) {
                None => {
                    self.stood_in.insert(flag.name, value);
                }
                // A job's switches are read so by the runner, too.
                Some(needed) if flag.kind == Kind::Bool => self.warnings.push(format!(
                    "{name}: {value:?} counts as false: {needed} is needed"
                )),
                Some(needed) => {
                    return Err(format!(
                        "{}: invalid value {value:?} of the variable {name} for flag -{}: {needed} is needed",
                        self.command.name, flag.name
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    /// What the flag says, else its variable.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        match self.given.get(name) {
            Some(values) => values.last(),
            None => self.stood_in.get(name),
        }
        .map(String::as_str)
    }

    /// The value of a flag, which may be the one that it usually has.
    pub(super) fn text(&self, name: &str) -> &str {
        self.given(name).unwrap_or_else(|| {
            self.command
                .flag(name)
                .map_or("", |flag: &Flag| flag.default)
        })
    }

    /// The value of a flag that is not empty.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.given.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn on(&self, name: &str) -> bool {
        boolean(self.text(name)) == Some(true)
    }

    /// A whole number; 0 if there is none.
    pub(super) fn integer(&self, name: &str) -> i64 {
        // What cannot be read has been refused.
        self.text(name).parse().unwrap_or_default()
    }

    /// A number of at least 0; 0 if there is none.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A duration in whole seconds; 0 if there is none.
    pub(super) fn seconds(&self, name: &str) -> u64 {
        seconds(self.text(name)).unwrap_or_default()
    }

    /// What was said by flags of which others read the variable.
    pub(super) fn for_variables(&self) -> BTreeMap<&'static str, String> {
        let flags = self
            .command
            .flags()
            .filter(|flag| !flag.variable.is_empty());
        flags
            .filter_map(|flag| {
                let value = self.given.get(flag.name)?.last()?;
                Some((flag.variable, value.clone()))
            })
            .collect()
    }
}

/// Name and value of a flag.
pub(crate) fn split(arg: &str) -> (&str, Option<&str>) {
    let body = arg.strip_prefix('-').unwrap_or(arg);
    let body = body.strip_prefix('-').unwrap_or(body);
    match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    }
}

/// What the peer says of `--untracked true` (cli §1), where it goes on to lose the rest.
pub(crate) fn boolean_apart(flag: &str, value: &str) -> String {
    format!("boolean parameters must be passed in the command line with {flag}={value}")
}

/// `true` or `false` on its own.
pub(crate) fn is_lone_boolean(arg: &OsString) -> bool {
    arg.eq_ignore_ascii_case("true") || arg.eq_ignore_ascii_case("false")
}

fn utf8(command: &str, arg: OsString) -> Result<String, Failed> {
    arg.into_string()
        .map_err(|arg| format!("{command}: {} is no UTF-8", arg.to_string_lossy()).into())
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

/// A duration such as `1h0m0s`.
pub(super) fn seconds(text: &str) -> Option<u64> {
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

#[cfg(test)]
mod tests;
