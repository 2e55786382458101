//! Which proxy is used, by the environment, as the peer's HTTP library reads it.

use std::net::IpAddr;

/// The address of the proxy for a request, if there is one.
pub(super) fn of(url: &str, look: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = split_port(authority);
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return None;
    }
    let find = |name: &str| {
        [name.to_ascii_uppercase(), name.to_owned()]
            .iter()
            .find_map(|name| look(name).filter(|value| !value.is_empty()))
    };
    let proxy = find(&format!("{scheme}_proxy")).or_else(|| find("all_proxy"))?;
    let direct = find("no_proxy").unwrap_or_default();
    let is_direct = direct
        .split(',')
        .any(|entry| covers(entry.trim(), &host, port, address));
    (!is_direct).then_some(proxy)
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') =>
        {
            (host, Some(port))
        }
        _ => (authority, None),
    }
}

/// Whether an entry of `no_proxy` means a host: `*`, a name with all below it, `.name` for only those, an address, a network.
fn covers(entry: &str, host: &str, port: Option<&str>, address: Option<IpAddr>) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
            return false;
        };
        let (a, b, len) = match (network, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        return bits <= len && (bits == 0 || a >> (len - bits) == b >> (len - bits));
    }
    let (name, wanted) = split_port(entry);
    if wanted.is_some() && wanted != port {
        return false;
    }
    let name = name.trim_matches(['[', ']']).to_ascii_lowercase();
    let name = name.strip_prefix('*').unwrap_or(&name);
    if name.is_empty() {
        return false;
    }
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => {
            host == name
                || host
                    .strip_suffix(name)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://h/x", &[("http_proxy", "http://p")], Some("http://p"))]
    #[case("https://h/x", &[("http_proxy", "http://p")], None)]
    #[case("https://h/x", &[("HTTPS_PROXY", "http://s"), ("https_proxy", "http://t")], Some("http://s"))]
    #[case("https://h/x", &[("all_proxy", "socks5://a")], Some("socks5://a"))]
    #[case("http://localhost:1/", &[("http_proxy", "http://p")], None)]
    #[case("http://127.0.0.2/", &[("http_proxy", "http://p")], None)]
    #[case("http://[::1]:8/", &[("http_proxy", "http://p")], None)]
    #[case("http://h/x", &[("http_proxy", "http://p"), ("no_proxy", "a, h")], None)]
    #[case("http://x.h/x", &[("http_proxy", "http://p"), ("no_proxy", "h")], None)]
    #[case("http://xh/x", &[("http_proxy", "http://p"), ("no_proxy", "h")], Some("http://p"))]
    #[case("http://h/x", &[("http_proxy", "http://p"), ("no_proxy", ".h")], Some("http://p"))]
    #[case("http://x.h/x", &[("http_proxy", "http://p"), ("no_proxy", "*.h")], None)]
    #[case("http://h:8/x", &[("http_proxy", "http://p"), ("no_proxy", "h:9")], Some("http://p"))]
    #[case("http://10.1.2.3/", &[("http_proxy", "http://p"), ("NO_PROXY", "10.0.0.0/8")], None)]
    #[case("http://11.1.2.3/", &[("http_proxy", "http://p"), ("NO_PROXY", "10.0.0.0/8")], Some("http://p"))]
    #[case("http://h/", &[("http_proxy", "http://p"), ("no_proxy", "*")], None)]
    #[case("http://h/", &[("http_proxy", "")], None)]
    fn the_environment_names_the_proxy(
        #[case] url: &str,
        #[case] environment: &[(&str, &str)],
        #[case] expected: Option<&str>,
    ) {
        let look = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(of(url, &look).as_deref(), expected);
    }
}
