//! What a request asks for: whose session, and whether it opens a WebSocket (RFC 6455 §4.2.1).

use hyper::{
    HeaderMap, Method, StatusCode, Version,
    header::{
        AsHeaderName, CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::wire::Wire;

/// A place below a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `/exec`: the terminal.
    Terminal,
    /// `/proxy/…`: services, of other executors only.
    Proxy,
    /// Nothing.
    Other,
}

/// Session and place of `/session/<id>/<place>`.
pub(super) fn place(path: &str) -> Option<(&str, Place)> {
    let (id, rest) = path.strip_prefix("/session/")?.split_once('/')?;
    let place = match rest {
        "exec" => Place::Terminal,
        _ if rest.starts_with("proxy/") => Place::Proxy,
        _ => Place::Other,
    };
    Some((id, place))
}

/// A request that opens a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    /// `Sec-WebSocket-Accept`.
    pub(super) accept: String,
    /// What is spoken.
    pub(super) wire: Wire,
}

/// Reads the handshake, or says what is wrong with it.
pub(super) fn handshake(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<Handshake, (StatusCode, &'static str)> {
    let asks =
        has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket");
    if method != Method::GET || !asks {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            "a terminal is a WebSocket: this request opens none",
        ));
    }
    let wrong = |why| (StatusCode::BAD_REQUEST, why);
    if version != Version::HTTP_11 {
        return Err(wrong("a WebSocket is opened over HTTP/1.1"));
    }
    let value = |name| headers.get(name).map(|value| value.as_bytes().trim_ascii());
    if value(SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(wrong("Sec-WebSocket-Version is not 13"));
    }
    // 16 bytes in base64.
    let key = value(SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == 24 && key.ends_with(b"=="))
        .ok_or(wrong("Sec-WebSocket-Key is missing or wrong"))?;
    let offered = tokens(headers, SEC_WEBSOCKET_PROTOCOL);
    Ok(Handshake {
        accept: derive_accept_key(key),
        wire: Wire::choose(offered),
    })
}

/// Values of a header that is a list.
fn tokens(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/session/abc/exec", Some(("abc", Place::Terminal)))]
    #[case("/session/abc/proxy/web/80/", Some(("abc", Place::Proxy)))]
    #[case("/session/abc/exec/", Some(("abc", Place::Other)))]
    #[case("/session/abc/", Some(("abc", Place::Other)))]
    #[case("/session//exec", Some(("", Place::Terminal)))]
    #[case("/session/abc", None)]
    #[case("/session/", None)]
    #[case("/sessions/abc/exec", None)]
    #[case("//session/abc/exec", None)]
    #[case("/", None)]
    #[case("*", None)]
    fn a_path_names_a_session_and_a_place(
        #[case] path: &str,
        #[case] found: Option<(&str, Place)>,
    ) {
        assert_eq!(place(path), found);
    }

    const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

    fn read(method: &str, version: Version, lines: &[&str]) -> Result<Handshake, u16> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            );
        }
        let method = method.parse().unwrap();
        handshake(&method, version, &headers).map_err(|(status, _)| status.as_u16())
    }

    #[rstest]
    #[case::as_a_browser(&["connection: keep-alive, Upgrade", "upgrade: WebSocket", "sec-websocket-version: 13", KEY], Ok(Wire::Plain))]
    #[case::binary(&["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", KEY, "sec-websocket-protocol: terminal.gitlab.com"], Ok(Wire::Binary))]
    #[case::base64(&["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", KEY, "sec-websocket-protocol: channel.k8s.io, base64.terminal.gitlab.com", "sec-websocket-protocol: terminal.gitlab.com"], Ok(Wire::Base64))]
    #[case::unknown_protocol(&["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", KEY, "sec-websocket-protocol: chat"], Ok(Wire::Plain))]
    #[case::no_upgrade(&[], Err(405))]
    #[case::another_upgrade(&["connection: upgrade", "upgrade: h2c"], Err(405))]
    #[case::half_an_upgrade(&["upgrade: websocket", "sec-websocket-version: 13", KEY], Err(405))]
    #[case::an_old_version(&["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 8", KEY], Err(400))]
    #[case::no_version(&["connection: upgrade", "upgrade: websocket", KEY], Err(400))]
    #[case::no_key(&["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"], Err(400))]
    #[case::a_short_key(&["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: abcd"], Err(400))]
    fn a_handshake_opens_a_websocket_or_says_why_not(
        #[case] lines: &[&str],
        #[case] expected: Result<Wire, u16>,
    ) {
        let found = read("GET", Version::HTTP_11, lines);
        let found = found.map(|handshake| {
            // The example of RFC 6455 §1.3.
            assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            handshake.wire
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn only_a_get_of_http_1_1_opens_a_websocket() {
        let lines = [
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            KEY,
        ];
        assert_eq!(read("POST", Version::HTTP_11, &lines), Err(405));
        assert_eq!(read("GET", Version::HTTP_10, &lines), Err(400));
    }
}
