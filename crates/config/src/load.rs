//! From a file or a text to a [`Config`].

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::str::Utf8Error;
use std::{fs, io};

use toml::de::DeTable;

use crate::config::Config;
use crate::excerpt::{Lines, Shown};
use crate::findings::Findings;
use crate::problem::{ConfigError, ProblemKind, UnknownKey, Warning};
use crate::stamp::FileStamp;
use crate::{check, read};

/// What `$VAR` and `${VAR}` in `token` and `url` may refer to: the environment of the process, handed in by its owner. A name that
/// is not there expands to nothing, as in the peer.
pub type Placeholders = BTreeMap<String, String>;

/// A usable configuration and what is to be said about it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// To be logged once per load, in file order.
    pub warnings: Vec<Warning>,
    /// Keys nobody knows: for a debug note and for `lint`, in file order.
    pub unknown_keys: Vec<UnknownKey>,
    /// State of the file, taken before it was read, so that a change in between is seen by the next check; `None`: there is no file
    /// (or [`parse`] was used).
    pub stamp: Option<FileStamp>,
}

/// Reads and checks `path`.
///
/// A missing file is an empty configuration with `stamp: None` (config-toml §1 "Missing file").
///
/// # Errors
/// [`ConfigError::Read`] when the file cannot be read, [`ConfigError::Invalid`] when it is wrong.
pub fn load(path: &Path, placeholders: &Placeholders) -> Result<Loaded, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let stamp = match FileStamp::of(path) {
        Ok(stamp) => stamp,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(read(error)),
    };
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(read(error)),
    };
    let mut loaded = parse(&bytes, path, placeholders)?;
    loaded.stamp = Some(stamp);
    Ok(loaded)
}

/// Longest file that is read: a thousand runners need half a megabyte.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Reads a file; what never ends, such as a device, is an error.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("more than {} MB, which is no configuration", LONGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Checks a text; `path` is only for messages.
///
/// # Errors
/// [`ConfigError::Invalid`] with every problem found.
pub fn parse(
    text: impl AsRef<[u8]>,
    path: &Path,
    placeholders: &Placeholders,
) -> Result<Loaded, ConfigError> {
    let bytes = text.as_ref();
    let mut findings = Findings::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Err(not_utf8(bytes, &error, findings, path)),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        findings.problem(
            ProblemKind::Syntax,
            at,
            String::new(),
            Shown::Doubtful,
            format!("not valid TOML: {}", error.message()),
        );
    }
    // What a broken file means would be a guess: its mistakes of form come first.
    let config = if findings.any_problem() {
        Config::default()
    } else {
        let tree = check::file(table.get_ref(), &mut findings);
        read::config(&tree, text, placeholders, &mut findings)
    };
    let (warnings, unknown_keys) = findings.finish(text, path)?;
    Ok(Loaded {
        config,
        warnings,
        unknown_keys,
        stamp: None,
    })
}

fn not_utf8(bytes: &[u8], error: &Utf8Error, mut findings: Findings, path: &Path) -> ConfigError {
    let (before, _) = bytes.split_at(error.valid_up_to());
    let before = String::from_utf8_lossy(before);
    findings.problem(
        ProblemKind::Syntax,
        before.len(),
        String::new(),
        Shown::Doubtful,
        "not valid UTF-8",
    );
    findings.into_error(&Lines::new(&before), path)
}

#[cfg(test)]
mod tests;
