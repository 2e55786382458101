//! A token that GitLab has given and that could not be saved: without it the runner is lost, so it is put where its owner finds it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::NewToken;
use super::document::time;
use crate::config::RunnerConfig;

/// Writes the token into a new file of the state folder, for its owner alone, or of the system's temporary folder if that fails.
/// Returns the file, to be named in the error. The file says what to do with it.
///
/// # Errors
/// Neither could be written.
pub fn keep_unsaved_token(
    state_folder: &Path,
    runner: &RunnerConfig,
    new: &NewToken,
) -> io::Result<PathBuf> {
    let text = format!(
        "# The new token of runner {name:?} (id {id}, {url}), which could not be saved in the configuration.\n\
         # Put these lines into its [[runners]] entry in place of the old ones, then delete this file.\n\
         token = {token}\n\
         token_obtained_at = {obtained}\n\
         token_expires_at = {expires}\n",
        name = runner.name,
        id = runner.id,
        url = runner.url,
        token = toml_edit::Value::from(new.token.expose_secret()),
        obtained = time(Some(new.obtained_at)),
        expires = time(new.expires_at),
    );
    write(state_folder, &text).or_else(|_| write(&std::env::temp_dir(), &text))
}

fn write(folder: &Path, text: &str) -> io::Result<PathBuf> {
    if !folder.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let path = folder.join(format!("unsaved-token-{:016x}.toml", rand::random::<u64>()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(path)
}
