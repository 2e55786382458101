//! The URL of a git remote.

use std::fmt;

/// What a remote URL says about the server and the project. Never holds credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    /// `https` or `http` if the URL is one of them.
    pub web_scheme: Option<&'static str>,
    /// Host name.
    pub host: String,
    /// Port, if the URL names one.
    pub port: Option<u16>,
    /// Path of the project without slashes at its ends and without `.git`.
    pub path: String,
}

impl RemoteUrl {
    /// Reads `https://host/group/project.git`, `ssh://git@host:22/group/project.git` and
    /// `git@host:group/project.git`. None for a path of this machine and for what has no project.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, url),
        };
        let web_scheme = match scheme.as_deref() {
            Some("https") => Some("https"),
            Some("http") => Some("http"),
            Some("ssh" | "git+ssh" | "git") | None => None,
            Some(_) => return None,
        };
        let (authority, path) = match scheme {
            Some(_) => rest.split_once('/')?,
            // `host:path`; a slash before the colon makes it a path of this machine.
            None => rest
                .split_once(':')
                .filter(|(host, _)| !host.contains('/'))?,
        };
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port.parse().ok()?)),
            _ => (host, None),
        };
        let path = path.split(['?', '#']).next()?.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_matches('/');
        // One letter is a drive.
        if host.len() < 2 || path.is_empty() || path.split('/').any(|part| part == "..") {
            return None;
        }
        Some(Self {
            web_scheme,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// `https`, unless the URL says `http`.
    pub fn protocol(&self) -> &'static str {
        self.web_scheme.unwrap_or("https")
    }

    /// Port of the web server: that of an http URL, else the protocol's.
    pub fn web_port(&self) -> u16 {
        let own = self.port.filter(|_| self.web_scheme.is_some());
        own.unwrap_or(if self.protocol() == "http" { 80 } else { 443 })
    }

    /// Port of the SSH server: that of an ssh URL, else 22.
    pub fn ssh_port(&self) -> u16 {
        self.port
            .filter(|_| self.web_scheme.is_none())
            .unwrap_or(22)
    }

    /// Host, with the port where an http URL names one.
    pub fn fqdn(&self) -> String {
        match self.port.filter(|_| self.web_scheme.is_some()) {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

/// The web address of the server.
impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol(), self.fqdn())
    }
}
