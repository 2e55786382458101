//! Docker's client configuration, as far as credentials go.

use std::collections::BTreeMap;

use base64::Engine as _;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    CredentialError, CredentialHelper, Entry, HelperError, Login, TOKEN_USER, credential_path,
};

/// `config.json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    auths: Option<BTreeMap<String, Option<Auth>>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<SecretString>,
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// Says where, never what: the text holds secrets.
    #[error("invalid JSON at line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("the auth entry for {0:?} is not base64 of user:password")]
    Auth(String),
    #[error(transparent)]
    Helper(#[from] HelperError),
}

impl ConfigError {
    /// The text itself is at fault.
    pub(super) fn malformed(&self) -> bool {
        !matches!(self, Self::Helper(_))
    }
}

/// The registry paths of a configuration: `credHelpers` over `credsStore` over `auths`.
pub(super) async fn entries(
    text: &str,
    helper: &dyn CredentialHelper,
) -> Result<Result<BTreeMap<String, Entry>, ConfigError>, CredentialError> {
    let config = match read(text) {
        Ok(config) => config,
        Err(error) => return Ok(Err(error)),
    };
    let names = config
        .store
        .iter()
        .chain(config.helpers.iter().flatten().map(|(_, name)| name));
    if let Some(bad) = names.into_iter().find(|name| name.contains(['/', '\\'])) {
        return Err(CredentialError::PathTraversal(bad.clone()));
    }
    let mut entries = BTreeMap::new();
    for (registry, auth) in config.auths.unwrap_or_default() {
        match login(&registry, auth.unwrap_or_default()) {
            Ok(Some(login)) => {
                entries.insert(credential_path(&registry), Entry::Login(login));
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    if let Some(program) = config.store.filter(|program| !program.is_empty()) {
        let registries = match helper.list(&program).await {
            Ok(registries) => registries,
            Err(error) => return Ok(Err(error.into())),
        };
        for registry in registries {
            let program = program.clone();
            entries.insert(
                credential_path(&registry),
                Entry::Helper { program, registry },
            );
        }
    }
    for (registry, program) in config.helpers.unwrap_or_default() {
        entries.insert(
            credential_path(&registry),
            Entry::Helper { program, registry },
        );
    }
    Ok(Ok(entries))
}

/// A `config.json`, or the older form that is the table of `auths` itself.
fn read(text: &str) -> Result<Config, ConfigError> {
    let error = |error: serde_json::Error| ConfigError::Json {
        line: error.line(),
        column: error.column(),
    };
    let whole: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).map_err(error)?;
    let modern = ["auths", "credsStore", "credHelpers"]
        .iter()
        .any(|key| whole.contains_key(*key));
    let legacy = !modern
        && whole
            .values()
            .any(|value| value.get("auth").is_some_and(serde_json::Value::is_string));
    if legacy {
        let auths = serde_json::from_str(text).map_err(error)?;
        return Ok(Config {
            auths: Some(auths),
            ..Config::default()
        });
    }
    serde_json::from_str(text).map_err(error)
}

/// `None` for an entry that holds nothing (as beside a credential store).
fn login(registry: &str, auth: Auth) -> Result<Option<Login>, ConfigError> {
    let made = |username: String, password: SecretString| {
        Ok(Some(Login {
            registry: registry.to_owned(),
            username,
            password,
        }))
    };
    let filled = |secret: &SecretString| !secret.expose_secret().is_empty();
    if let Some(token) = auth.identity_token.filter(filled) {
        return made(TOKEN_USER.to_owned(), token);
    }
    if let Some(encoded) = auth.auth.filter(filled) {
        let bad = || ConfigError::Auth(registry.to_owned());
        let text = encoded.expose_secret().trim();
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(text)
            .or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(text))
            .map_err(|_| bad())?;
        let decoded = String::from_utf8(decoded).map_err(|_| bad())?;
        let (username, password) = decoded.split_once(':').ok_or_else(bad)?;
        return made(username.to_owned(), password.trim_end_matches('\0').into());
    }
    match (auth.username, auth.password) {
        (Some(username), Some(password)) if !username.is_empty() => made(username, password),
        _ => Ok(None),
    }
}
