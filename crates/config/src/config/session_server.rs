//! `[session_server]` (config-toml §3).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

/// Where interactive terminals are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionServerConfig {
    /// `listen_address`, with a port; `None`: jobs have no terminal.
    pub listen_address: Option<HostPort>,
    /// `advertise_address`: what GitLab connects to, if not `listen_address`.
    pub advertise_address: Option<HostPort>,
    /// `session_timeout`: how long a terminal may keep a job that is over.
    pub session_timeout: Duration,
}

impl Default for SessionServerConfig {
    fn default() -> Self {
        Self {
            listen_address: None,
            advertise_address: None,
            session_timeout: Duration::from_secs(1800),
        }
    }
}

/// `host:port`, `[IPv6]:port`, or one of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets; may be empty.
    pub host: String,
    /// Port, if there is one.
    pub port: Option<u16>,
}

impl FromStr for HostPort {
    /// What is wrong, in words.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("missing ']'")?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| "no IPv6 address in the brackets")?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => return Err("text after ']'"),
            }
        } else {
            match text.split_once(':') {
                None => (text, ""),
                Some((_, rest)) if rest.contains(':') => {
                    return Err("too many colons; an IPv6 address stands in brackets");
                }
                Some(both) => both,
            }
        };
        let no_name = |c: char| c.is_control() || c.is_whitespace() || "/@]?#".contains(c);
        if host.contains(no_name) {
            return Err("the host is no name");
        }
        let port = match port {
            "" => None,
            port => Some(
                port.parse()
                    .map_err(|_| "the port is no number from 0 to 65535")?,
            ),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]")?;
        } else {
            f.write_str(host)?;
        }
        match port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
