//! `listen_address` (config-toml §2): `host:port`, a missing port is 9252, a missing host all addresses of the machine.

use std::{fmt, net::Ipv6Addr, str::FromStr};

/// Port of the metrics endpoint where none is given.
const DEFAULT_PORT: u16 = 9252;

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// Name or address without brackets; empty: all addresses.
    host: String,
    port: u16,
}

/// The text is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("listen_address {text:?} is no address: {why}; expected host:port, :port or host")]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl ListenAddress {
    /// Host and port for binding, in the order of trying: all addresses are those of IPv6, which hear IPv4 too, else those of IPv4.
    pub(crate) fn candidates(&self) -> Vec<(String, u16)> {
        let hosts = match self.host.as_str() {
            "" => vec!["::".to_owned(), "0.0.0.0".to_owned()],
            host => vec![host.to_owned()],
        };
        hosts.into_iter().map(|host| (host, self.port)).collect()
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |why| AddressError {
            text: text.to_owned(),
            why,
        };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(wrong("missing ']'"))?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| wrong("no IPv6 address in the brackets"))?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => return Err(wrong("text after ']'")),
            }
        } else {
            match text.split_once(':') {
                None => (text, ""),
                Some((_, rest)) if rest.contains(':') => {
                    return Err(wrong("too many colons; an IPv6 address stands in brackets"));
                }
                Some(both) => both,
            }
        };
        if host.contains(['/', '@', ' ', ']']) {
            return Err(wrong("the host is no name"));
        }
        let port = if port.is_empty() {
            DEFAULT_PORT
        } else {
            port.parse()
                .map_err(|_| wrong("the port is no number from 0 to 65535"))?
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(":9252", ":9252")]
    #[case("localhost:9300", "localhost:9300")]
    #[case("0.0.0.0", "0.0.0.0:9252")]
    #[case("localhost", "localhost:9252")]
    #[case("127.0.0.1:", "127.0.0.1:9252")]
    #[case("[::1]:80", "[::1]:80")]
    #[case("[::1]", "[::1]:9252")]
    #[case("127.0.0.1:0", "127.0.0.1:0")]
    fn an_address_without_a_port_has_the_peers(#[case] text: &str, #[case] read: &str) {
        assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), read);
    }

    #[rstest]
    #[case("::1", "too many colons")]
    #[case("a:b:1", "too many colons")]
    #[case("[::1", "missing ']'")]
    #[case("[nonsense]:1", "no IPv6 address")]
    #[case("[::1]80", "text after ']'")]
    #[case("localhost:http", "the port is no number")]
    #[case("localhost:70000", "the port is no number")]
    #[case("http://localhost", "the port is no number")]
    #[case("a/b", "the host is no name")]
    fn what_is_no_address_is_named(#[case] text: &str, #[case] why: &str) {
        let error = text.parse::<ListenAddress>().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(text), "{error}");
    }

    #[test]
    fn no_host_is_every_address() {
        let all = ":1".parse::<ListenAddress>().unwrap().candidates();
        assert_eq!(all, [("::".to_owned(), 1), ("0.0.0.0".to_owned(), 1)]);
    }
}
