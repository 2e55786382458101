//! The table of all keys: name, type, default, what it does, since when.
//!
//! One row per key drives the check of a file (type, "not supported yet"), and is what `gantry config explain`, help texts ([`what`])
//! and `docs/config.md` ([`document()`]) print.
//! A setting that starts to act changes its row here and gets a field in [`crate::config`]. The reader asks for keys by name; asking
//! for one that has no row fails in debug builds, and so in its tests.
//!
//! Sources: config-toml §2 to §7, docker-executor §1.

mod cache;
mod docker;
mod document;
mod gantry;
mod global;
mod lookup;
mod runner;

pub use document::document;
pub use global::ROOT;
pub use lookup::{Found, Unknown, all, look_up, what};

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// Dotted path as in headers (`runners.docker`); empty for the top level.
    pub path: &'static str,
    /// What it is for: one sentence.
    pub what: &'static str,
    /// Its keys, sub-tables included.
    pub keys: &'static [Key],
}

/// One key of a [`Section`].
#[derive(Debug)]
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Default as it would be written; empty: unset.
    pub default: &'static str,
    /// What it does: one sentence.
    pub what: &'static str,
    /// Whether Gantry acts on it.
    pub support: Support,
    /// The value is never shown.
    pub secret: bool,
    /// Zero, `false` and empty say something (else they count as unset).
    pub zero_counts: bool,
    /// Variable of the process environment that stands in for the file, or over it.
    pub variable: Option<Variable>,
    /// When a change in the file takes effect.
    pub reload: Reload,
}

/// A variable of the process environment that has a say in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Beats the file.
    Over(&'static str),
    /// Counts where the file says nothing.
    Under(&'static str),
}

/// When a change in the file takes effect in a running process (config-toml §1 "Hot reload").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// When the file is read again; running jobs keep what they started with.
    AtOnce,
    /// At the next start.
    Restart,
}

/// What values a key takes. Text of all kinds is a TOML string.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// A whole number; less than 1 counts as unset.
    Count,
    /// A string.
    Text,
    /// A TOML datetime, or a string that holds one.
    Time,
    /// A string in Go syntax, or a whole number of nanoseconds.
    Duration,
    /// An array of strings.
    List,
    /// An array of strings without empty ones.
    FilledList,
    /// An array of numbers.
    Numbers,
    /// A table of strings.
    Texts,
    /// A table of booleans.
    Flags,
    /// A table of arrays of strings.
    Lists,
    /// A size such as `512m`, in a string.
    Size,
    /// A number of CPUs such as `0.5` or `1/3`, in a string.
    Cpus,
    /// A whole number of bytes, not negative.
    Bytes,
    /// One pull policy or an array of them.
    Policies,
    /// An array of pull policies.
    PolicyList,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// One of these strings, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// A boolean or an array of strings.
    Keywords,
    /// A release number of three parts.
    Version,
    /// A table whose keys are known.
    Table(&'static Section),
    /// An array of tables whose keys are known.
    Tables(&'static Section),
    /// A table whose inside is not looked at.
    AnyTable,
    /// An array of tables whose inside is not looked at.
    AnyTables,
}

/// Whether Gantry acts on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Yes.
    Since(&'static str),
    /// Not yet: warned about when set. What that means for jobs, if it needs saying.
    NotYet(&'static str),
    /// It cannot mean anything here: warned about when set. Why.
    NoEffect(&'static str),
    /// Means something only together with another key, which speaks for both: silent.
    With(&'static str),
    /// Belongs to another executor: silent.
    Foreign,
}

impl Section {
    /// The row of exactly this key, else of the one that differs in case only, as the peer looks up.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name).or_else(|| {
            self.keys
                .iter()
                .find(|key| key.name.eq_ignore_ascii_case(name))
        })
    }
}

impl Key {
    /// A key that acts since the first release.
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        what: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            what,
            support: Support::Since("0.1"),
            secret: false,
            zero_counts: false,
            variable: None,
            reload: Reload::AtOnce,
        }
    }

    /// A variable has a say.
    const fn variable(mut self, variable: Variable) -> Self {
        self.variable = Some(variable);
        self
    }

    /// A change waits for the next start.
    const fn at_restart(mut self) -> Self {
        self.reload = Reload::Restart;
        self
    }

    /// Known, does not act yet; `consequence` may be empty.
    const fn not_yet(mut self, consequence: &'static str) -> Self {
        self.support = Support::NotYet(consequence);
        self
    }

    /// Accepted, will not act.
    const fn no_effect(mut self, why: &'static str) -> Self {
        self.support = Support::NoEffect(why);
        self
    }

    /// Acts only with another key.
    const fn with(mut self, other: &'static str) -> Self {
        self.support = Support::With(other);
        self
    }

    /// For another executor.
    const fn foreign(mut self) -> Self {
        self.support = Support::Foreign;
        self
    }

    /// Never shown.
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Zero and `false` differ from unset.
    const fn zero_counts(mut self) -> Self {
        self.zero_counts = true;
        self
    }
}

#[cfg(test)]
mod tests;
