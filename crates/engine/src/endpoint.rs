//! Where an engine is reached, from the runner's settings and its environment (docker-executor §1.1).

use std::path::{Path, PathBuf};

use crate::EngineError;

#[cfg(test)]
mod tests;

/// Socket of a platform's own engine.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// An engine's address with all that is needed to connect to it. Made by [`Endpoint::resolve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) display: String,
    pub(crate) address: Address,
    /// Prefix of all request paths, for an engine behind a proxy; empty or `/path`.
    pub(crate) base_path: String,
    /// API version asked for by `DOCKER_API_VERSION`.
    pub(crate) pinned: Option<String>,
}

/// How the connection is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: Tls },
}

/// What protects a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    /// The roots of this machine (`https://` without `tls_verify`).
    SystemRoots,
    /// `ca.pem`, `cert.pem` and `key.pem` of this directory.
    Directory(PathBuf),
}

impl Endpoint {
    /// Finds the endpoint from `host`, `tls_verify` and `tls_cert_path` of a runner and the process environment.
    ///
    /// An empty `host` means `DOCKER_HOST`, else the platform's socket. `DOCKER_CERT_PATH` and `DOCKER_TLS_VERIFY` fill in
    /// settings that are not given, and only when `host` is empty; given ones are honoured also then (the peer drops them:
    /// docker-executor §13, row 30). `DOCKER_API_VERSION` pins the API version in any case. `env` looks a variable up.
    pub fn resolve(
        host: &str,
        tls_verify: bool,
        tls_cert_path: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, EngineError> {
        let from_env = |name: &str| env(name).filter(|value| !value.is_empty());
        let pinned = from_env("DOCKER_API_VERSION");
        if !host.is_empty() {
            return Self::new(host, tls_verify, tls_cert_path, pinned);
        }
        let host = from_env("DOCKER_HOST").unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let verify = tls_verify || from_env("DOCKER_TLS_VERIFY").is_some_and(|text| go_bool(&text));
        let cert_path = match tls_cert_path {
            "" => from_env("DOCKER_CERT_PATH").unwrap_or_default(),
            given => given.to_owned(),
        };
        Self::new(&host, verify, &cert_path, pinned)
    }

    /// The endpoint for messages, e.g. `unix:///var/run/docker.sock`.
    pub fn display(&self) -> &str {
        &self.display
    }

    fn new(
        host: &str,
        verify: bool,
        cert_path: &str,
        pinned: Option<String>,
    ) -> Result<Self, EngineError> {
        let setup = |message: String| Err(EngineError::Setup(message));
        let Some((scheme, rest)) = host.split_once("://") else {
            return setup(format!(
                "docker host {host:?}: a scheme is missing; write e.g. unix:///var/run/docker.sock or tcp://host:2376"
            ));
        };
        let made = |address, base_path: &str| {
            Ok(Self {
                display: host.to_owned(),
                address,
                base_path: base_path.trim_end_matches('/').to_owned(),
                pinned,
            })
        };
        match scheme {
            "unix" if rest.is_empty() => setup(format!(
                "docker host {host:?}: the path of the socket is missing"
            )),
            "unix" => made(Address::Unix(PathBuf::from(rest)), ""),
            "tcp" | "http" | "https" => {
                let secure = scheme == "https";
                let tls = if verify {
                    if cert_path.is_empty() {
                        return setup(format!(
                            "docker host {host:?}: tls_verify is set but tls_cert_path is empty; name the directory with ca.pem, cert.pem and key.pem"
                        ));
                    }
                    Tls::Directory(Path::new(cert_path).to_owned())
                } else if secure {
                    Tls::SystemRoots
                } else {
                    Tls::Off
                };
                let port = match (scheme, &tls) {
                    ("http", _) => 80,
                    ("https", _) => 443,
                    (_, Tls::Off) => 2375,
                    _ => 2376,
                };
                let (authority, path) = match rest.find('/') {
                    Some(slash) => rest.split_at(slash),
                    None => (rest, ""),
                };
                match split_port(authority, port) {
                    Some((host, port)) => made(Address::Tcp { host, port, tls }, path),
                    None => setup(format!(
                        "docker host {host:?}: {authority:?} is not a host with an optional port"
                    )),
                }
            }
            "npipe" => setup(format!(
                "docker host {host:?}: named pipes exist on Windows only; use unix:// or tcp://"
            )),
            other => setup(format!(
                "docker host {host:?}: scheme {other:?} is not supported; use unix://, tcp://, http:// or https://"
            )),
        }
    }
}

/// Host and port; an IPv6 address stands in brackets, which are removed.
fn split_port(authority: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        (
            host,
            if after.is_empty() {
                None
            } else {
                Some(after.strip_prefix(':')?)
            },
        )
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port = port.map_or(Some(default), |port| port.parse().ok())?;
    let valid = !host.is_empty() && !host.contains(['@', '?', '#', ' ']);
    valid.then(|| (host.to_owned(), port))
}

/// What Go's `strconv.ParseBool` takes for true; anything else is false.
fn go_bool(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
