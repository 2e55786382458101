//! Which credentials a pull takes (docker-executor §3.6).
//!
//! Sources in their order make one list: a registry path that an earlier source has is kept from it; among all paths the longest
//! prefix of the image's path wins, so a more specific later source beats a general earlier one. What is read from files is
//! data ([`Source`]); credential helpers (`docker-credential-*`) are asked only for the path that won, through
//! [`CredentialHelper`], which [`HelperPrograms`] implements with processes.
//!
//! Better than the peer: a digest (`name@sha256:…`) is cut off before the path is compared (docker-executor §13, row 35), and a
//! helper that does not answer is given up after a time.

mod config;
mod helper;
mod paths;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use helper::{CredentialHelper, HelperError, HelperPrograms};
pub use paths::{credential_path, image_path};
use secrecy::{ExposeSecret, SecretString};

use crate::RegistryAuth;

/// User name that stands for a token in place of a password.
const TOKEN_USER: &str = "<token>";

/// One place where credentials come from. Earlier ones win on the same registry path.
#[derive(Debug, Clone)]
pub struct Source {
    /// For messages: `$DOCKER_AUTH_CONFIG`, a file path, `job payload (GitLab Registry)`.
    pub label: String,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// Text of a `config.json` or `.dockercfg`; `lenient`: a text that cannot be read is passed over without a word.
    Config {
        text: SecretString,
        lenient: bool,
    },
    Login(Login),
}

/// A user name and password for one registry.
#[derive(Debug, Clone)]
struct Login {
    registry: String,
    username: String,
    password: SecretString,
}

/// What was found, and what to say about it.
#[derive(Debug, Default)]
pub struct Resolution {
    /// Credentials for the image; `None`: pull as anyone.
    pub auth: Option<RegistryAuth>,
    /// Label of their source.
    pub source: Option<String>,
    /// Lines for the job log.
    pub warnings: Vec<String>,
    /// Lines for the process log.
    pub notes: Vec<String>,
}

/// Fails the pull; no fallback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The name of a credential helper would leave the search path.
    #[error("credential helper {0:?}: path traversal is not allowed")]
    PathTraversal(String),
}

/// What a source has for one registry path.
enum Entry {
    Login(Login),
    /// A helper to ask, and the address it knows the registry by.
    Helper {
        program: String,
        registry: String,
    },
}

impl Source {
    /// The variable `DOCKER_AUTH_CONFIG` (a file variable by its content).
    pub fn auth_config_variable(text: SecretString) -> Self {
        let content = Content::Config {
            text,
            lenient: false,
        };
        Self {
            label: "$DOCKER_AUTH_CONFIG".to_owned(),
            content,
        }
    }

    /// `~/.docker/config.json` or `~/.dockercfg`. As in the peer, a file that cannot be read is passed over.
    pub fn file(path: &str, text: SecretString) -> Self {
        Self {
            label: path.to_owned(),
            content: Content::Config {
                text,
                lenient: true,
            },
        }
    }

    /// A `credentials[]` entry of the job payload with `type == "registry"`.
    pub fn payload(registry: &str, username: &str, password: SecretString) -> Self {
        let (registry, username) = (registry.to_owned(), username.to_owned());
        let content = Content::Login(Login {
            registry,
            username,
            password,
        });
        Self {
            label: "job payload (GitLab Registry)".to_owned(),
            content,
        }
    }
}

/// Reads the first of `<home>/.docker/config.json` and `<home>/.dockercfg` that exists.
pub async fn home_source(home: &std::path::Path) -> Option<Source> {
    for name in [".docker/config.json", ".dockercfg"] {
        let path = home.join(name);
        if let Ok(text) = tokio::fs::read_to_string(&path).await {
            return Some(Source::file(&path.to_string_lossy(), text.into()));
        }
    }
    None
}

/// Finds the credentials for an image among the sources.
pub async fn resolve(
    image: &str,
    sources: &[Source],
    helper: &dyn CredentialHelper,
) -> Result<Resolution, CredentialError> {
    let mut resolution = Resolution::default();
    let mut broken: Vec<usize> = Vec::new();
    // A source whose helper fails is dropped and the rest decides anew.
    loop {
        let entries = collect(sources, &mut broken, helper, &mut resolution).await?;
        let path = image_path(image);
        let Some((index, entry)) = paths::prefixes(&path).find_map(|prefix| entries.get(prefix))
        else {
            resolution
                .notes
                .push(format!("No credentials found for {image}"));
            return Ok(resolution);
        };
        let label = &sources[*index].label;
        let login = match entry {
            Entry::Login(login) => Ok(login.clone()),
            Entry::Helper { program, registry } => {
                let asked = helper.get(program, registry).await;
                asked.map(|(username, password)| Login {
                    registry: registry.clone(),
                    username,
                    password,
                })
            }
        };
        match login {
            Ok(login) => {
                resolution.source = Some(label.clone());
                resolution.auth = Some(RegistryAuth {
                    username: login.username,
                    password: login.password.expose_secret().to_owned(),
                    server_address: login.registry,
                });
                return Ok(resolution);
            }
            Err(error) => {
                resolution.warnings.push(unusable(label, &error));
                broken.push(*index);
            }
        }
    }
}

fn unusable(label: &str, error: &dyn std::fmt::Display) -> String {
    format!(
        "Failed to resolve credentials from {label}: {error}. Credentials from this source will not be used."
    )
}

/// All registry paths with the source that has them.
async fn collect(
    sources: &[Source],
    broken: &mut Vec<usize>,
    helper: &dyn CredentialHelper,
    resolution: &mut Resolution,
) -> Result<BTreeMap<String, (usize, Entry)>, CredentialError> {
    let mut all: BTreeMap<String, (usize, Entry)> = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        if broken.contains(&index) {
            continue;
        }
        let found = match &source.content {
            Content::Login(login) => Ok(BTreeMap::from([(
                credential_path(&login.registry),
                Entry::Login(login.clone()),
            )])),
            Content::Config { text, .. } => config::entries(text.expose_secret(), helper).await?,
        };
        let entries = match (found, &source.content) {
            (Ok(entries), _) => entries,
            (Err(error), Content::Config { lenient: true, .. }) if error.malformed() => {
                broken.push(index);
                continue;
            }
            (Err(error), _) => {
                resolution.warnings.push(unusable(&source.label, &error));
                broken.push(index);
                continue;
            }
        };
        for (path, entry) in entries {
            if let Some((earlier, _)) = all.get(&path) {
                let note = format!(
                    "Not adding Docker credentials: credentials for {path:?} already set from {:?}, ignoring credentials from {:?}",
                    sources[*earlier].label, source.label
                );
                if !resolution.notes.contains(&note) {
                    resolution.notes.push(note);
                }
                continue;
            }
            all.insert(path, (index, entry));
        }
    }
    Ok(all)
}
