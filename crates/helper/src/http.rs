//! Requests of the helper: blocking, one connection each, redirects in the hands of the caller.
//!
//! A server may answer slowly, shortly, or with something else: each gives an [`HttpError`] that names the address without its query,
//! which may be a permission.

mod forward;
mod limits;
mod proxy;
pub(crate) mod retry;

use std::{
    io::{self, Read},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::crypto::ring;
use ureq::{
    Agent, ProxyProtocol, SendBody,
    http::{HeaderMap, Method, Request, header},
    tls::{
        Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
    },
};

pub(crate) use limits::Limits;

/// Longest text of an answer that is read for its message.
const LONGEST_MESSAGE: u64 = 64 << 10;
/// Redirects in a row.
pub(crate) const MOST_REDIRECTS: u32 = 10;

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url}: {problem}")]
pub(crate) struct HttpError {
    method: Method,
    url: String,
    problem: String,
}

impl HttpError {
    fn new(method: &Method, url: &str, problem: String) -> Self {
        Self {
            method: method.clone(),
            url: clean_url(url),
            problem,
        }
    }
}

/// How a client connects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Certificates that are trusted besides those of the system, PEM.
    pub(crate) ca: Option<String>,
    /// Client certificate and its key, PEM.
    pub(crate) identity: Option<(String, String)>,
    /// `User-Agent`.
    pub(crate) user_agent: String,
    pub(crate) limits: Limits,
}

/// Makes requests.
pub(crate) struct Client {
    settings: Settings,
    tls: OnceLock<Result<TlsConfig, String>>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// As it may be shown.
    url: String,
    limits: Limits,
    body: ureq::Body,
    /// The beginning of the body, if it was looked at.
    begun: Vec<u8>,
}

/// What is sent.
pub(crate) enum Body<'a> {
    None,
    /// With a length that is known, or in chunks.
    Reader(&'a mut dyn Read, Option<u64>),
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            tls: OnceLock::new(),
        }
    }

    /// Sends a request. Any status is an answer.
    pub(crate) fn send(
        &self,
        method: &Method,
        url: &str,
        headers: &[(String, String)],
        body: Body<'_>,
    ) -> Result<Answer, HttpError> {
        let proxy = proxy::of(url, &|name| std::env::var(name).ok());
        let fail = |problem: String| {
            let problem = match &proxy {
                Some(proxy) => format!("by the proxy {}: {problem}", clean_url(proxy)),
                None => problem,
            };
            HttpError::new(method, url, problem)
        };
        let agent = self.agent(url, proxy.as_deref()).map_err(fail)?;
        let mut request = Request::builder().method(method.clone()).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // An address that cannot be one is told without it.
        let unfit = |error: ureq::http::Error| fail(error.to_string());
        let answer = match body {
            Body::None => agent.run(request.body(()).map_err(unfit)?),
            Body::Reader(reader, length) => {
                if let Some(length) = length {
                    request = request.header(header::CONTENT_LENGTH, length);
                }
                let body = SendBody::from_reader(reader);
                agent.run(request.body(body).map_err(unfit)?)
            }
        };
        let limits = self.settings.limits;
        let answer = answer.map_err(|error| fail(limits.explain(&error)))?;
        let (head, body) = answer.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            url: clean_url(url),
            limits,
            body,
            begun: Vec::new(),
        })
    }

    /// Sends a request without a body, and follows redirects. `own` headers go to the server of the address only.
    pub(crate) fn follow(
        &self,
        method: &Method,
        url: &str,
        own: &[(String, String)],
        headers: &[(String, String)],
    ) -> Result<Answer, HttpError> {
        let mut to = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let mut all = headers.to_vec();
            if origin(&to) == origin(url) {
                all.extend_from_slice(own);
            }
            let answer = self.send(method, &to, &all, Body::None)?;
            match redirected(&to, &answer) {
                None => return Ok(answer),
                Some(Ok(next)) => to = next,
                Some(Err(problem)) => return Err(HttpError::new(method, &to, problem)),
            }
        }
        Err(HttpError::new(method, &to, too_many_redirects()))
    }

    fn agent(&self, url: &str, proxy: Option<&str>) -> Result<Agent, String> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(&self.settings.user_agent)
            .accept_encoding("")
            .timeout_connect(Some(limits::CONNECT))
            .timeout_await_100(Some(Duration::from_secs(1)))
            .timeout_recv_response(self.settings.limits.head)
            .timeout_global(self.settings.limits.whole)
            .output_buffer_size(256 << 10)
            .input_buffer_size(256 << 10)
            .proxy(None);
        let encrypted = |address: &str| scheme_of(address).eq_ignore_ascii_case("https");
        if encrypted(url) || proxy.is_some_and(encrypted) {
            let tls = self.tls.get_or_init(|| tls(&self.settings));
            config = config.tls_config(tls.clone()?);
        }
        let Some(proxy) = proxy else {
            return Ok(config.build().into());
        };
        let proxy = ureq::Proxy::new(proxy).map_err(|_| "that is no address".to_owned())?;
        match proxy.protocol() {
            // It gets the whole address. Tunnels to such servers are often refused.
            ProxyProtocol::Http | ProxyProtocol::Https if !encrypted(url) => {
                Ok(forward::agent(config.build(), &proxy))
            }
            _ => Ok(config.proxy(Some(proxy)).build().into()),
        }
    }
}

impl Answer {
    /// A header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `201 Created`, `299`.
    pub(crate) fn status_text(&self) -> String {
        status_text(self.status)
    }

    /// The address that it came from, as it may be shown.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The body, to its end. What is wrong is told in the words of [`HttpError`].
    pub(crate) fn into_reader(self) -> impl Read {
        let rest = self.limits.on(self.body.into_reader());
        io::Cursor::new(self.begun).chain(rest)
    }

    /// The first bytes of the body; what is read later has them, too.
    pub(crate) fn beginning(&mut self, most: u64) -> &[u8] {
        if self.begun.is_empty() {
            // What cannot be read is not there.
            self.body
                .as_reader()
                .take(most)
                .read_to_end(&mut self.begun)
                .ok();
        }
        &self.begun
    }

    /// What the body says of a failure: the message of a JSON or XML text, or the beginning of a plain one.
    pub(crate) fn message(self) -> String {
        let mut text = Vec::new();
        self.into_reader()
            .take(LONGEST_MESSAGE)
            .read_to_end(&mut text)
            .ok();
        message(&String::from_utf8_lossy(&text))
    }
}

pub(crate) fn status_text(status: u16) -> String {
    match ureq::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
    {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

/// An address without credentials, query and fragment.
pub(crate) fn clean_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = &url[..end];
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = match rest.find('/') {
                Some(end) => rest.split_at(end),
                None => (rest, ""),
            };
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

fn scheme_of(url: &str) -> &str {
    url.split("://").next().unwrap_or_default()
}

/// Scheme, host and port of an address.
pub(crate) fn origin(url: &str) -> String {
    let clean = clean_url(url);
    let end = clean
        .find("://")
        .and_then(|start| clean[start + 3..].find('/').map(|end| start + 3 + end));
    clean[..end.unwrap_or(clean.len())].to_ascii_lowercase()
}

/// Where a redirect leads: absolute, or on the same server.
pub(crate) fn redirect(from: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}://{rest}", scheme_of(from)));
    }
    location
        .starts_with('/')
        .then(|| format!("{}{location}", origin(from)))
}

/// Where an answer leads; `None`: it is no redirect.
pub(crate) fn redirected(from: &str, answer: &Answer) -> Option<Result<String, String>> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let to = answer
        .header("location")
        .and_then(|location| redirect(from, location));
    Some(match to {
        // What may be read on the way is not asked for where it was not.
        Some(to) if from.starts_with("https:") && !to.starts_with("https:") => {
            Err(format!("redirected without encryption to {}", origin(&to)))
        }
        Some(to) => Ok(to),
        None => Err(redirected_to_nowhere(from, answer)),
    })
}

/// What is said of a redirect that leads to no address: who sent it, and what it named, without what may be secret in either.
pub(crate) fn redirected_to_nowhere(from: &str, answer: &Answer) -> String {
    let from = clean_url(from);
    match answer.header("location") {
        Some(target) => {
            let target = shown(&clean_url(target));
            let target = target.rsplit('@').next().unwrap_or_default();
            format!("redirected to nowhere: {from} names `{target}`, which is no http address")
        }
        None => format!("redirected to nowhere: {from} names no address"),
    }
}

pub(crate) fn too_many_redirects() -> String {
    format!("stopped after {MOST_REDIRECTS} redirects")
}

fn message(text: &str) -> String {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        let told = json.get("message").or_else(|| json.get("error"));
        return told.map(json_message).unwrap_or_default();
    }
    if let (Some(code), Some(message)) = (element(text, "Code"), element(text, "Message")) {
        return format!("Request failed with code: {code}, message: {message}");
    }
    if let Some(code) = element(text, "Code") {
        return format!("Request failed with code: {code}");
    }
    if text.trim_start().starts_with('<') {
        return String::new();
    }
    let line = text.trim().lines().next().unwrap_or_default();
    shown(line)
}

/// Text, or a map of lists (coordinator-api §1).
fn json_message(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::String(text) => shown(text),
        Value::Object(map) => {
            let parts: Vec<String> = map
                .iter()
                .map(|(field, texts)| {
                    let texts = match texts {
                        Value::Array(texts) => texts
                            .iter()
                            .filter_map(Value::as_str)
                            .collect::<Vec<_>>()
                            .join("; "),
                        other => other.as_str().unwrap_or_default().to_owned(),
                    };
                    shown(&format!("{field}: {texts}"))
                })
                .collect();
            parts.join(", ")
        }
        _ => String::new(),
    }
}

pub(crate) fn element(text: &str, name: &str) -> Option<String> {
    let start = text.find(&format!("<{name}>"))? + name.len() + 2;
    let end = text[start..].find(&format!("</{name}>"))?;
    Some(shown(&text[start..start + end]))
}

/// Fit for a log: one line, not long.
pub(crate) fn shown(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(300)
        .collect();
    text.trim().to_owned()
}

fn tls(settings: &Settings) -> Result<TlsConfig, String> {
    let pem = |what: &str, text: &str| {
        parse_pem(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("{what} is no PEM text: {error}"))
    };
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    if let Some(text) = &settings.ca {
        for item in pem("the CA certificate", text)? {
            if let PemItem::Certificate(certificate) = item {
                roots.push(certificate);
            }
        }
    }
    let native = rustls_native_certs::load_native_certs().certs;
    if native.is_empty() {
        // Images without certificates of their own.
        roots.extend(
            webpki_root_certs::TLS_SERVER_ROOT_CERTS
                .iter()
                .map(|certificate| Certificate::from_der(certificate).to_owned()),
        );
    } else {
        roots.extend(
            native
                .iter()
                .map(|certificate| Certificate::from_der(certificate).to_owned()),
        );
    }
    let mut identity = None;
    if let Some((cert, key)) = &settings.identity {
        let chain: Vec<Certificate<'static>> = pem("the client certificate", cert)?
            .into_iter()
            .filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            })
            .collect();
        let key = PrivateKey::from_pem(key.as_bytes())
            .map_err(|_| "the key of the client certificate is no PEM text".to_owned())?;
        identity = Some(ClientCert::new_with_certs(&chain, key));
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::from(roots))
        .client_cert(identity)
        .build())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "https://u:p@h:8/a/b?X-Amz-Signature=s#f",
        "https://h:8/a/b",
        "https://h:8"
    )]
    #[case("http://h?x=1", "http://h", "http://h")]
    #[case("http://H/", "http://H/", "http://h")]
    fn addresses_are_shown_without_secrets(
        #[case] url: &str,
        #[case] clean: &str,
        #[case] from: &str,
    ) {
        assert_eq!(clean_url(url), clean);
        assert_eq!(origin(url), from);
    }

    #[rstest]
    #[case("/x?y", Some("https://h:8/x?y"))]
    #[case("http://o/x", Some("http://o/x"))]
    #[case("//o/x", Some("https://o/x"))]
    #[case("x", None)]
    #[case("file:///etc/passwd", None)]
    fn redirects_lead_to_an_address(#[case] location: &str, #[case] to: Option<&str>) {
        assert_eq!(redirect("https://h:8/a", location).as_deref(), to);
    }

    #[rstest]
    #[case(r#"{"message":"403 Forbidden"}"#, "403 Forbidden")]
    #[case(
        r#"{"message":{"base":["a","b"],"file":["c"]}}"#,
        "base: a; b, file: c"
    )]
    #[case(r#"{"error":"no"}"#, "no")]
    #[case(
        "<?xml?><Error><Code>AccessDenied</Code><Message>Access\nDenied</Message></Error>",
        "Request failed with code: AccessDenied, message: Access Denied"
    )]
    #[case(
        "<Error><Code>SignatureDoesNotMatch</Code></Error>",
        "Request failed with code: SignatureDoesNotMatch"
    )]
    #[case("<html>long page</html>", "")]
    #[case("plain\nsecond", "plain")]
    #[case("", "")]
    fn the_message_of_an_answer_is_found(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(message(text), expected);
    }
}
