//! What the transfers of caches and artifacts tell: notices as a stage script prints them, and log lines as the peer's helper does
//! (job-lifecycle §8): the message padded to 50 columns with its prefix, then fields.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::OnceLock,
};

use gantry_agent::{Line, LineKind};

use crate::order;

const RESET: &str = "\x1b[0;m";
const YELLOW: &str = "\x1b[0;33m";
const RED: &str = "\x1b[31;1m";
const GREEN: &str = "\x1b[32;1m";
const WIDTH: usize = 50;

/// How a line is meant; what matters more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Info,
    Warning,
    Error,
    /// Why something ended.
    Fatal,
}

/// Fields of a line, shown sorted by name.
pub(crate) type Fields<'a> = &'a [(&'a str, String)];

/// What matters less is not told.
static LEAST: OnceLock<Level> = OnceLock::new();

impl Level {
    /// By the name that `--log-level` has for it. Nothing here is told at the level of debugging.
    pub(crate) fn named(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" | "debug" | "info" => Self::Info,
            "warn" | "warning" => Self::Warning,
            "error" => Self::Error,
            "fatal" | "panic" => Self::Fatal,
            _ => return None,
        })
    }
}

/// From now on only lines are told that matter so much. Once.
pub(crate) fn tell_from(least: Level) {
    // A process has one command line.
    LEAST.set(least).ok();
}

/// A log line.
pub(crate) fn line(level: Level, message: &str, fields: Fields<'_>) {
    if LEAST.get().is_none_or(|&least| level >= least) {
        order::turn(io::stderr(), io::stdout());
        emit(&mut io::stderr(), &formatted(level, message, fields));
    }
}

pub(crate) fn info(message: &str) {
    line(Level::Info, message, &[]);
}

pub(crate) fn warning(message: &str) {
    line(Level::Warning, message, &[]);
}

/// A notice of the stage: bold green.
pub(crate) fn notice(text: &str) {
    plain(&format!("{GREEN}{text}{RESET}\n"));
}

/// Something that went wrong and does not matter to the job: yellow.
pub(crate) fn yellow(text: &str) {
    plain(&format!("{YELLOW}{text}{RESET}\n"));
}

/// A line that the runner prepared.
pub(crate) fn prepared(line: &Line) {
    match line.kind {
        LineKind::Notice => notice(&line.text),
        LineKind::Warning => yellow(&line.text),
    }
}

/// As it is.
pub(crate) fn plain(text: &str) {
    order::turn(io::stdout(), io::stderr());
    emit(&mut io::stdout(), text);
}

fn emit(to: &mut impl Write, text: &str) {
    // In one piece, so that lines of several threads do not mix. If nobody reads, nobody can be told.
    to.write_all(text.as_bytes()).ok();
    to.flush().ok();
}

fn formatted(level: Level, message: &str, fields: Fields<'_>) -> String {
    let (color, prefix) = match level {
        Level::Info => ("", ""),
        Level::Warning => (YELLOW, "WARNING: "),
        Level::Error => (RED, "ERROR: "),
        Level::Fatal => (RED, "FATAL: "),
    };
    let width = WIDTH - prefix.len();
    let mut text = format!("{color}{prefix}{message:<width$}{RESET} ");
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort();
    for (name, value) in fields {
        // Writing to a string does not fail.
        write!(text, " {color}{name}{RESET}={value}").ok();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_padded_and_coloured_as_the_peer_s() {
        assert_eq!(
            formatted(Level::Warning, "Cache file does not exist", &[]),
            "\x1b[0;33mWARNING: Cache file does not exist                \x1b[0;m \n"
        );
        assert_eq!(
            formatted(
                Level::Info,
                "Downloading artifacts from coordinator... ok",
                &[("id", "5".into()), ("host", "x".into())]
            ),
            "Downloading artifacts from coordinator... ok      \x1b[0;m  host\x1b[0;m=x id\x1b[0;m=5\n"
        );
        assert!(
            formatted(Level::Fatal, "permission denied", &[])
                .starts_with("\x1b[31;1mFATAL: permission denied ")
        );
    }
}
