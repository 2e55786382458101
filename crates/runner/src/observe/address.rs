//! `listen_address` (config-toml §2): `host:port`, a missing port is 9252, a missing host all addresses of the machine.

use std::{fmt, io, str::FromStr};

use gantry_config::HostPort;
use tokio::net::TcpListener;

/// Port of the metrics endpoint where none is given.
const DEFAULT_PORT: u16 = 9252;

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress(HostPort);

/// The text is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("listen_address {text:?} is no address: {why}; expected host:port, :port or host")]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut address: HostPort = text.parse().map_err(|why| AddressError {
            text: text.to_owned(),
            why,
        })?;
        address.port.get_or_insert(DEFAULT_PORT);
        Ok(Self(address))
    }
}

impl ListenAddress {
    /// Listens there.
    pub(crate) async fn bind(&self) -> io::Result<TcpListener> {
        bind(&self.0).await
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Listens on the address; without a host on all of the machine.
pub(crate) async fn bind(address: &HostPort) -> io::Result<TcpListener> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for (host, port) in candidates(address) {
        result = TcpListener::bind((host, port)).await;
        match &result {
            // A machine without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    result
}

/// Host and port for binding, in the order of trying: all addresses are those of IPv6, which hear IPv4 too, else those of IPv4.
fn candidates(address: &HostPort) -> Vec<(&str, u16)> {
    let hosts = match address.host.as_str() {
        "" => vec!["::", "0.0.0.0"],
        host => vec![host],
    };
    let port = address.port.unwrap_or_default();
    hosts.into_iter().map(|host| (host, port)).collect()
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
        let all = ":1".parse::<HostPort>().unwrap();
        assert_eq!(candidates(&all), [("::", 1), ("0.0.0.0", 1)]);
    }
}
