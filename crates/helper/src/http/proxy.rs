//! Which proxy is used, by the environment, as the peer's HTTP library reads it.

use std::net::IpAddr;

/// The address of the proxy for a request, if there is one.
pub(super) fn of(url: &str, look: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = split_port(authority);
    let port = port.unwrap_or(if scheme == "https" { "443" } else { "80" });
    let host = host.to_ascii_lowercase();
    let address: Option<IpAddr> = address(&host);
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return None;
    }
    let find = |name: &str| {
        [name.to_ascii_uppercase(), name.to_owned()]
            .iter()
            .find_map(|name| look(name).filter(|value| !value.is_empty()))
    };
    let proxy = find(&format!("{scheme}_proxy")).or_else(|| find("all_proxy"))?;
    let direct = find("no_proxy").unwrap_or_default().to_ascii_lowercase();
    let is_direct = direct
        .split(',')
        .any(|entry| covers(entry.trim(), &host, port, address));
    (!is_direct).then(|| whole(&proxy))
}

/// An address with its scheme. Who names a SOCKS proxy lets it find the names: often nobody else can.
fn whole(proxy: &str) -> String {
    let proxy = proxy.trim();
    match proxy.split_once("://") {
        None => format!("http://{proxy}"),
        Some(("socks5" | "socks", rest)) => format!("socks5h://{rest}"),
        Some(_) => proxy.to_owned(),
    }
}

/// Host, without brackets, and port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some(rest) = authority.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => (rest, None),
        };
    }
    match authority.split_once(':') {
        // More colons make it an address.
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical())
}

/// Whether an entry of `no_proxy` means a host: `*`, a name with all below it, `.name` for only those, an address, a network.
/// All but networks may say a port.
fn covers(entry: &str, host: &str, port: &str, at: Option<IpAddr>) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let (Some(network), Ok(bits), Some(at)) = (address(network), bits.parse::<u32>(), at)
        else {
            return false;
        };
        let (a, b, len) = match (network, at) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        return bits <= len && (bits == 0 || a >> (len - bits) == b >> (len - bits));
    }
    let (name, wanted) = split_port(entry);
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Some(meant) = address(name) {
        return at == Some(meant);
    }
    let name = match name.strip_prefix('*') {
        Some(below) if below.starts_with('.') => below,
        _ => name,
    };
    if name.is_empty() {
        return false;
    }
    if name.starts_with('.') {
        return host.ends_with(name);
    }
    host.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://h/x", &[("http_proxy", "http://p")], Some("http://p"))]
    #[case("https://h/x", &[("http_proxy", "http://p")], None)]
    #[case("https://h/x", &[("HTTPS_PROXY", "http://s"), ("https_proxy", "http://t")], Some("http://s"))]
    #[case("https://h/x", &[("all_proxy", "socks5://a")], Some("socks5h://a"))]
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
    #[case("HTTP://h/", &[("http_proxy", "http://p")], Some("http://p"))]
    #[case("http://h/", &[("http_proxy", "p:3128")], Some("http://p:3128"))]
    #[case("http://h/", &[("http_proxy", "u:w@p")], Some("http://u:w@p"))]
    #[case("https://h/", &[("https_proxy", "socks5://u:w@p:1080")], Some("socks5h://u:w@p:1080"))]
    #[case("http://h/x", &[("http_proxy", "http://p"), ("no_proxy", "h:80")], None)]
    #[case("https://h/x", &[("https_proxy", "http://p"), ("no_proxy", "h:443")], None)]
    #[case("https://h/x", &[("https_proxy", "http://p"), ("no_proxy", "h:80")], Some("http://p"))]
    #[case("http://x.h:8/x", &[("http_proxy", "http://p"), ("no_proxy", ".h:8")], None)]
    #[case("http://xh/x", &[("http_proxy", "http://p"), ("no_proxy", "*h")], Some("http://p"))]
    #[case("http://H/x", &[("http_proxy", "http://p"), ("no_proxy", "h,")], None)]
    #[case("http://10.1.2.3:8/", &[("http_proxy", "http://p"), ("no_proxy", "10.1.2.3:9,10.1.2.3:8")], None)]
    #[case("http://1.10.1.2.3/", &[("http_proxy", "http://p"), ("no_proxy", "10.1.2.3")], Some("http://p"))]
    #[case("http://[2001:db8::5:6]/", &[("http_proxy", "http://p"), ("no_proxy", "2001:db8:0::5:6")], None)]
    #[case("http://[2001:db8::5:6]:8/", &[("http_proxy", "http://p"), ("no_proxy", "[2001:db8::5:6]:8")], None)]
    #[case("http://[2001:db8::5:6]/", &[("http_proxy", "http://p"), ("no_proxy", "2001:db8::/32")], None)]
    #[case("http://[2001:db8::5:6]/", &[("http_proxy", "http://p"), ("no_proxy", "2001:db9::/32, 10.0.0.0/0, x/y, :80, [")], Some("http://p"))]
    #[case("http://[::ffff:127.0.0.1]/", &[("http_proxy", "http://p")], None)]
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
