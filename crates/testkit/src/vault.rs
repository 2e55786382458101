//! A stand-in for HashiCorp Vault and OpenBao: the JSON web token login and the key-value engines, as their public API documents
//! them, with what a real one does not do on demand: refuse, hang, redirect. For a real one see [`OpenBao`](crate::OpenBao).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::http::{Body, Handler, Hangup, Server, full, server_tls, set_header};
use crate::{Identity, TestCa};

/// A server of secrets. Runs until its last handle is dropped.
#[derive(Clone)]
pub struct FakeVault {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    state: Arc<State>,
    url: String,
}

struct State {
    book: Mutex<Book>,
    gate: watch::Sender<bool>,
}

#[derive(Default)]
struct Book {
    /// Namespace of all that is here.
    namespace: String,
    /// Path below `/v1/` of a secret, to its `data` as the engine answers it.
    secrets: BTreeMap<String, Value>,
    /// Mounts of the login, to the tokens they take.
    logins: BTreeMap<String, Vec<String>>,
    lease_seconds: u64,
    /// Requests a login is good for; 0: any number.
    uses: u64,
    /// Logins given out, and the uses left of each.
    given: BTreeMap<String, u64>,
    refusing: Option<(u32, u16, String)>,
    redirecting: Option<String>,
    requests: Vec<VaultRequest>,
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct VaultRequest {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// `X-Vault-Token`.
    pub token: Option<String>,
    /// Body, if it is JSON.
    pub body: Value,
    /// Status answered.
    pub status: u16,
}

impl FakeVault {
    /// An empty server on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same with TLS; its certificate is for `127.0.0.1`.
    pub async fn start_tls(ca: &TestCa) -> Self {
        Self::start_with(Some(ca.issue(&["127.0.0.1"]))).await
    }

    async fn start_with(identity: Option<Identity>) -> Self {
        let state = Arc::new(State {
            book: Mutex::new(Book {
                lease_seconds: 3600,
                ..Book::default()
            }),
            gate: watch::Sender::new(true),
        });
        let tls = identity.as_ref().map(|identity| server_tls(identity, None));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start(addr, tls, Arc::clone(&state))
            .await
            .expect("a free port");
        let url = format!("{scheme}://{}", server.addr());
        Self {
            inner: Arc::new(Inner { server, state, url }),
        }
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Takes this JSON web token at `auth/<mount>/login`, for any role.
    pub fn accept(&self, mount: &str, jwt: &str) {
        let mut book = self.book();
        book.logins
            .entry(mount.to_owned())
            .or_default()
            .push(jwt.to_owned());
    }

    /// Keeps a secret in a `kv-v2` engine.
    pub fn put_v2(&self, mount: &str, path: &str, fields: &Value) {
        let data = json!({"data": fields, "metadata": {"version": 1, "deletion_time": ""}});
        let path = format!("{mount}/data/{path}");
        self.book().secrets.insert(path, data);
    }

    /// Keeps a secret in a `kv-v1` or generic engine.
    pub fn put_v1(&self, mount: &str, path: &str, fields: &Value) {
        let path = format!("{mount}/{path}");
        self.book().secrets.insert(path, fields.clone());
    }

    /// All of it is in this namespace.
    pub fn set_namespace(&self, namespace: &str) {
        namespace.clone_into(&mut self.book().namespace);
    }

    /// What later logins are good for: this long, so many requests (0: any number).
    pub fn limit_logins(&self, lease_seconds: u64, uses: u64) {
        let mut book = self.book();
        (book.lease_seconds, book.uses) = (lease_seconds, uses);
    }

    /// Logins given out so far are good for nothing any more.
    pub fn revoke_logins(&self) {
        self.book().given.clear();
    }

    /// Answers the next `times` requests with this status and error.
    pub fn refuse(&self, times: u32, status: u16, error: &str) {
        self.book().refusing = Some((times, status, error.to_owned()));
    }

    /// Sends all callers to this base URL, as a standby node does.
    pub fn redirect_to(&self, url: &str) {
        self.book().redirecting = Some(url.to_owned());
    }

    /// Requests are taken and not answered until [`open`](Self::open).
    pub fn hang(&self) {
        self.inner.state.gate.send_replace(false);
    }

    /// Answers again.
    pub fn open(&self) {
        self.inner.state.gate.send_replace(true);
    }

    /// Refuses connections.
    pub async fn down(&self) {
        self.inner.server.down().await;
    }

    /// Takes connections again, on the same port.
    pub async fn up(&self) {
        self.inner.server.up().await;
    }

    /// Requests so far, those that hang too, with status 0.
    #[must_use]
    pub fn requests(&self) -> Vec<VaultRequest> {
        self.book().requests.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.state.book()
    }
}

impl State {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for State {
    async fn handle(
        self: Arc<Self>,
        _peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let mut seen = VaultRequest {
            method: request.method().to_string(),
            path: request.uri().to_string(),
            namespace: header("x-vault-namespace"),
            token: header("x-vault-token"),
            body: Value::Null,
            status: 0,
        };
        let body = request.into_body().collect().await.map_err(|_| Hangup)?;
        seen.body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let number = {
            let mut book = self.book();
            book.requests.push(seen.clone());
            book.requests.len() - 1
        };
        let mut gate = self.gate.subscribe();
        gate.wait_for(|open| *open).await.map_err(|_| Hangup)?;
        let mut book = self.book();
        let (status, body, location) = book.answer(&seen);
        book.requests[number].status = status;
        drop(book);
        let mut response = Response::new(full(body.to_string()));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        set_header(&mut response, "content-type", "application/json");
        if let Some(location) = location {
            set_header(&mut response, "location", &location);
        }
        Ok(response)
    }
}

impl Book {
    fn answer(&mut self, request: &VaultRequest) -> (u16, Value, Option<String>) {
        let error = |status, text: &str| (status, json!({"errors": [text]}), None);
        if let Some((times, status, text)) = &mut self.refusing
            && *times > 0
        {
            *times -= 1;
            return error(*status, text);
        }
        if let Some(base) = &self.redirecting {
            return (307, Value::Null, Some(format!("{base}{}", request.path)));
        }
        let Some(path) = request.path.strip_prefix("/v1/") else {
            return error(404, "unsupported path");
        };
        if request.namespace.as_deref().unwrap_or("") != self.namespace {
            return error(403, "permission denied");
        }
        let mount = path
            .strip_prefix("auth/")
            .and_then(|path| path.strip_suffix("/login"));
        if let Some(mount) = mount {
            let Some(tokens) = self.logins.get(mount) else {
                return error(403, "permission denied");
            };
            let jwt = request.body["jwt"].as_str().unwrap_or("");
            if jwt.is_empty() {
                return error(400, "missing token");
            }
            if !tokens.iter().any(|token| token == jwt) {
                return error(400, "error validating token: invalid signature");
            }
            let token = format!("hvs.{}", self.requests.len());
            self.given.insert(token.clone(), self.uses);
            let auth = json!({
                "client_token": token, "lease_duration": self.lease_seconds, "num_uses": self.uses,
                "renewable": true, "policies": ["default"],
            });
            return (200, json!({"auth": auth, "data": null}), None);
        }
        let token = request.token.as_deref().unwrap_or("");
        match self.given.get_mut(token) {
            None => return error(403, "permission denied"),
            Some(0) => {}
            Some(1) => {
                self.given.remove(token);
            }
            Some(left) => *left -= 1,
        }
        match self.secrets.get(path) {
            Some(data) => (200, json!({"data": data, "auth": null}), None),
            None => (404, json!({"errors": []}), None),
        }
    }
}
