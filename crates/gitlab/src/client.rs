//! The HTTP client of one server: connections, their age, TLS files that change, headers, limits on what is read.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use crate::answer::error_message;
use crate::base_url::{api_base, clean};
use crate::retry::{self, Answered, Retried, server_wait};
use crate::tls::{self, TlsSetup};
use crate::{
    CallFailure, CallObserver, CallRecord, ClientError, Endpoint, Product, TlsData, TlsFiles,
};

const DIAL: Duration = Duration::from_secs(30);
const RESPONSE_HEADER: Duration = Duration::from_secs(600);
const WHOLE_CALL: Duration = Duration::from_secs(3600);
const IDLE_CONNECTION: Duration = Duration::from_secs(90);
/// Most that is read of an answer that nobody parses.
const SHORT_BODY: usize = 64 * 1024;
/// Most that is read of a payload; larger ones are no jobs.
const LONG_BODY: usize = 64 * 1024 * 1024;

/// How to reach a server as one runner.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `[[runners]].url`.
    pub url: String,
    /// `[[runners]].token`.
    pub token: SecretString,
    /// `tls-*-file`, after discovery.
    pub tls: TlsFiles,
    /// `connection_max_age`; `None`: connections may grow old. Default 15 min.
    pub max_age: Option<Duration>,
    /// `FF_RESOLVE_FULL_TLS_CHAIN`: jobs are told the chain up to the root, though the server leaves parts out.
    pub full_chain: bool,
    /// What the runner is called in [`CallRecord`]s: its short token. No part of the client's identity.
    pub runner: Arc<str>,
}

impl Connection {
    /// A connection with the default age and no TLS files.
    #[must_use]
    pub fn new(url: impl Into<String>, token: SecretString) -> Self {
        Self {
            url: url.into(),
            token,
            tls: TlsFiles::default(),
            max_age: Some(Duration::from_secs(15 * 60)),
            full_chain: false,
            runner: Arc::default(),
        }
    }

    /// Same client (coordinator-api §1 "Client identity").
    pub(crate) fn same_client(&self, other: &Self) -> bool {
        self.url == other.url
            && self.token.expose_secret() == other.token.expose_secret()
            && self.tls == other.tls
            && self.max_age == other.max_age
            && self.full_chain == other.full_chain
    }
}

/// What one call sends.
pub(crate) struct Request {
    pub(crate) endpoint: Endpoint,
    /// Below `/api/v4/`, with query.
    pub(crate) path: String,
    /// `RUNNER-TOKEN` or `JOB-TOKEN`.
    pub(crate) auth: (&'static str, HeaderValue),
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// A body is expected with this status; of others only the begin is read.
    pub(crate) body_on: Option<u16>,
    pub(crate) attempts: u32,
}

/// The last answer of a call.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// As in the logs of the server.
    pub(crate) correlation_id: String,
    pub(crate) url: String,
}

impl Answered for Response {
    fn status(&self) -> u16 {
        self.status
    }
    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl Response {
    /// This answer as a failure.
    pub(crate) fn failure(&self, endpoint: Endpoint) -> CallFailure {
        CallFailure::Status {
            method: endpoint.method(),
            url: self.url.clone(),
            status: self.status,
            message: error_message(&self.headers, &self.body),
            wait: server_wait(&self.headers, Timestamp::now()),
        }
    }

    /// This answer as a failure: the status is right, the media type is not.
    pub(crate) fn wrong_type(&self, endpoint: Endpoint) -> CallFailure {
        let found = self.headers.get(CONTENT_TYPE);
        CallFailure::ContentType {
            method: endpoint.method(),
            url: self.url.clone(),
            status: self.status,
            found: found
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .unwrap_or_default(),
        }
    }

    /// This answer as a failure: it is JSON, but does not say what it must.
    pub(crate) fn unreadable(&self, endpoint: Endpoint, reason: &'static str) -> CallFailure {
        CallFailure::Unreadable {
            method: endpoint.method(),
            url: self.url.clone(),
            status: self.status,
            reason,
        }
    }
}

pub(crate) struct HttpClient {
    base: Url,
    user_agent: HeaderValue,
    files: TlsFiles,
    max_age: Option<Duration>,
    full_chain: bool,
    runner: Arc<str>,
    roots: Arc<RootCertStore>,
    observer: Option<Arc<dyn CallObserver>>,
    state: Mutex<State>,
}

/// What is replaced when connections grow old or TLS files change.
struct State {
    client: reqwest::Client,
    created: Instant,
    stamp: [Option<SystemTime>; 3],
    tls: Arc<TlsSetup>,
    chain: Option<KnownChain>,
}

/// What jobs are told of a chain.
#[derive(Clone)]
struct KnownChain {
    presented: Arc<[CertificateDer<'static>]>,
    pem: Arc<str>,
}

impl HttpClient {
    pub(crate) fn new(
        connection: &Connection,
        product: &Product,
        roots: Arc<RootCertStore>,
        observer: Option<Arc<dyn CallObserver>>,
    ) -> Result<Self, ClientError> {
        let base = api_base(&connection.url)?;
        let stamp = connection.tls.stamp();
        let tls =
            Arc::new(TlsSetup::new(&connection.tls, &roots).map_err(|error| at(error, &base))?);
        let client = build(&base, &tls)?;
        let user_agent =
            HeaderValue::from_str(&product.user_agent()).map_err(|error| ClientError::Build {
                url: clean(&base),
                reason: format!("product name or version: {error}"),
            })?;
        Ok(Self {
            base,
            user_agent,
            files: connection.tls.clone(),
            max_age: connection.max_age,
            full_chain: connection.full_chain,
            runner: Arc::clone(&connection.runner),
            roots,
            observer,
            state: Mutex::new(State {
                client,
                created: Instant::now(),
                stamp,
                tls,
                chain: None,
            }),
        })
    }

    /// Makes the call, with its retries. Dropping the future aborts it.
    pub(crate) async fn call(&self, request: &Request) -> Retried<Response> {
        let correlation_id = correlation_id(rand::random());
        let start = Instant::now();
        let retried = match self.client() {
            Ok(client) => {
                retry::repeat(request.attempts, || {
                    self.attempt(&client, request, &correlation_id)
                })
                .await
            }
            Err(error) => Retried {
                result: Err(error.into()),
                attempts: 0,
                throttled: false,
            },
        };
        if let Some(observer) = &self.observer {
            observer.call_ended(&CallRecord {
                runner: Arc::clone(&self.runner),
                endpoint: request.endpoint,
                status: match &retried.result {
                    Ok(response) => Some(response.status),
                    Err(failure) => failure.status(),
                },
                attempts: retried.attempts,
                duration: start.elapsed(),
                correlation_id: match &retried.result {
                    Ok(response) => response.correlation_id.clone(),
                    Err(_) => correlation_id,
                },
            });
        }
        retried
    }

    async fn attempt(
        &self,
        client: &reqwest::Client,
        request: &Request,
        correlation_id: &str,
    ) -> Result<Response, CallFailure> {
        let method = request.endpoint.method();
        let url = self
            .base
            .join(&request.path)
            .map_err(|error| CallFailure::Transport {
                method,
                url: clean(&self.base),
                reason: error.to_string(),
            })?;
        let shown = clean(&url);
        let failed = |reason: String| CallFailure::Transport {
            method,
            url: shown.clone(),
            reason,
        };
        let verb = reqwest::Method::from_bytes(method.as_bytes())
            .map_err(|error| failed(error.to_string()))?;
        let mut headers = request.headers.clone();
        headers.insert(reqwest::header::USER_AGENT, self.user_agent.clone());
        let (name, token) = &request.auth;
        headers.insert(HeaderName::from_static(name), token.clone());
        if let Ok(id) = HeaderValue::from_str(correlation_id) {
            headers.insert(REQUEST_ID, id);
        }
        let sending = client
            .request(verb, url)
            .headers(headers)
            .body(request.body.clone())
            .send();
        let response = timeout(RESPONSE_HEADER, sending)
            .await
            .map_err(|_| failed(format!("no answer within {} s", RESPONSE_HEADER.as_secs())))?
            .map_err(|error| failed(causes(error)))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let wanted = request.body_on == Some(status);
        let body = read(response, wanted).await.map_err(failed)?;
        let correlation_id = headers
            .get(REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .filter(|id| !id.is_empty())
            .unwrap_or(correlation_id)
            .to_owned();
        Ok(Response {
            status,
            headers,
            body,
            correlation_id,
            url: shown,
        })
    }

    /// The client to use now: a new one, without the old connections, when they are too old or a TLS file has changed.
    fn client(&self) -> Result<reqwest::Client, ClientError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.files.stamp();
        if stamp != state.stamp {
            let tls =
                TlsSetup::new(&self.files, &self.roots).map_err(|error| at(error, &self.base))?;
            let tls = Arc::new(tls);
            state.client = build(&self.base, &tls)?;
            state.tls = tls;
            state.stamp = stamp;
            state.chain = None;
            state.created = Instant::now();
        } else if self
            .max_age
            .is_some_and(|age| !age.is_zero() && state.created.elapsed() > age)
        {
            state.client = build(&self.base, &state.tls)?;
            state.created = Instant::now();
        }
        Ok(state.client.clone())
    }

    /// TLS material for a job that came over this client.
    pub(crate) async fn tls_data(&self) -> TlsData {
        if self.base.scheme() != "https" {
            return TlsData::default();
        }
        let (http, setup, known) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (
                state.client.clone(),
                Arc::clone(&state.tls),
                state.chain.clone(),
            )
        };
        let ca_chain = match &setup.ca {
            Some(ca) => Some(Arc::clone(ca)),
            None => self.chain(&http, &setup, known).await,
        };
        let (client_certificate, client_key) = setup.identity.clone().unzip();
        TlsData {
            ca_chain,
            client_certificate,
            client_key,
        }
    }

    /// The chain of the last handshake up to its root, computed once per chain.
    async fn chain(
        &self,
        http: &reqwest::Client,
        setup: &TlsSetup,
        known: Option<KnownChain>,
    ) -> Option<Arc<str>> {
        let host = self.base.host_str()?.trim_matches(['[', ']']);
        let presented = setup.verifier.chain_of(host)?;
        if let Some(known) = known
            && known.presented == presented
        {
            return Some(known.pem);
        }
        let roots = rustls_native_certs::load_native_certs().certs;
        let mut chain = tls::chain(&presented, &roots);
        if self.full_chain {
            tls::complete(&mut chain, &roots, http).await;
        }
        let pem: Arc<str> = tls::pem(&chain).into();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.chain = Some(KnownChain {
            presented,
            pem: Arc::clone(&pem),
        });
        Some(pem)
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of a call with a JSON body.
pub(crate) fn json_headers(answer_expected: bool) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::new();
    if answer_expected {
        headers.insert(ACCEPT, json.clone());
    }
    headers.insert(CONTENT_TYPE, json);
    headers
}

fn build(base: &Url, tls: &TlsSetup) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.config.clone())
        .redirect(Policy::custom(follow))
        .referer(false)
        .connect_timeout(DIAL)
        .timeout(WHOLE_CALL)
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(4)
        .tcp_nodelay(true)
        // A held poll on a dead connection would otherwise be waited for until the header timeout.
        .tcp_keepalive(Duration::from_secs(30))
        .tcp_keepalive_interval(Duration::from_secs(10))
        .tcp_keepalive_retries(3)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(20));
    if is_loopback(base) {
        // The peer never uses a proxy for the machine itself.
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| ClientError::Build {
        url: clean(base),
        reason: causes(error),
    })
}

/// At most 10 redirects, and none that would show tokens to the wire.
fn follow(attempt: Attempt) -> reqwest::redirect::Action {
    let from_https = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() >= 10 {
        attempt.error("stopped after 10 redirects")
    } else if from_https && attempt.url().scheme() == "http" {
        attempt.error("redirect from https to http refused, it would send the token in the clear")
    } else {
        attempt.follow()
    }
}

fn is_loopback(base: &Url) -> bool {
    match base.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    }
}

/// Reads a body: all of a wanted one within a bound, else its begin; a short rest is read, too, which keeps the connection.
async fn read(mut response: reqwest::Response, wanted: bool) -> Result<Bytes, String> {
    let limit = if wanted { LONG_BODY } else { SHORT_BODY };
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(Some(_)) if wanted => return Err(format!("answer longer than {limit} bytes")),
            Ok(Some(_)) | Ok(None) => return Ok(body.freeze()),
            Err(error) if wanted => return Err(causes(error)),
            // The status stands, whatever happened to the words.
            Err(_) => return Ok(body.freeze()),
        }
    }
}

/// The error with all its causes, without the URL (it is named already, and may hold secrets).
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn at(error: ClientError, base: &Url) -> ClientError {
    match error {
        ClientError::Build { reason, .. } => ClientError::Build {
            url: clean(base),
            reason,
        },
        other => other,
    }
}

/// `UUIDv4` without dashes.
fn correlation_id(random: u128) -> String {
    let version = random & !(0xf << 76) | (0x4 << 76);
    let variant = version & !(0b11 << 62) | (0b10 << 62);
    format!("{variant:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correlation_id_is_a_uuid_of_version_4_without_dashes() {
        for random in [0, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let id = correlation_id(random);
            assert_eq!(id.len(), 32);
            assert_eq!(&id[12..13], "4");
            assert!("89ab".contains(&id[16..17]), "{id}");
        }
    }

    #[test]
    fn the_own_machine_is_reached_without_a_proxy() {
        for (url, loopback) in [
            ("http://localhost:80/", true),
            ("http://127.0.0.2/", true),
            ("http://[::1]/", true),
            ("http://gitlab.example.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
