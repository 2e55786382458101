//! What the runner itself writes into the log (coordinator-api §11; job-lifecycle §8).

use jiff::Timestamp;

use super::Level;

/// One thing the runner has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Line { level: Level, text: &'a str },
    SectionStart { name: &'a str, title: &'a str },
    SectionEnd { name: &'a str },
    Raw(&'a [u8]),
}

impl Entry<'_> {
    /// The pieces of this entry as they are written one after another. A section marker is a piece
    /// of its own: with timestamps the title then stands on a `+` line of its own, as the peer's.
    pub(crate) fn pieces(&self, sections: bool, now: Timestamp) -> Vec<Vec<u8>> {
        match *self {
            Self::Line { level, text } => vec![line(level, text)],
            Self::Raw(bytes) => vec![bytes.to_vec()],
            Self::SectionStart { name, title } => {
                let title = line(Level::Print, &format!("\x1b[36;1m{title}\x1b[0;m"));
                if sections {
                    vec![marker("start", name, now), title]
                } else {
                    vec![title]
                }
            }
            Self::SectionEnd { name } if sections => vec![marker("end", name, now)],
            Self::SectionEnd { .. } => Vec::new(),
        }
    }
}

fn line(level: Level, text: &str) -> Vec<u8> {
    let start = match level {
        Level::Print => "\x1b[0K",
        Level::Info => "\x1b[32;1m",
        Level::Warning => "\x1b[0;33mWARNING: ",
        Level::Error => "\x1b[31;1mERROR: ",
    };
    format!("{start}{text}\x1b[0;m\n").into_bytes()
}

fn marker(what: &str, name: &str, now: Timestamp) -> Vec<u8> {
    format!("section_{what}:{}:{name}\r\x1b[0K", now.as_second()).into_bytes()
}
