//! Git repositories over HTTP with a password, as a GitLab server offers them to jobs.
//!
//! The protocol is git's own (`git http-backend`); this module only checks the password, keeps a record and can be told to
//! fail. Needs the `git` program.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tempfile::TempDir;

use crate::http::{Body, Handler, Hangup, Server, empty, full, server_tls, set_header};
use crate::{Identity, TestCa};

mod backend;
mod lfs;
mod repository;
#[cfg(test)]
mod tests;

pub use lfs::{LfsServer, pointer as lfs_pointer};
pub use repository::{Repository, RepositoryBuilder};

/// A git server. Runs until its last handle is dropped; its repositories go with it.
#[derive(Clone)]
pub struct GitHttp {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    state: Arc<State>,
    url: String,
}

struct State {
    root: TempDir,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    requests: Vec<GitRequest>,
    /// Job tokens start with `glcbt-`; with a token here only that one is taken.
    only_token: Option<String>,
    failing: Option<(u32, u16)>,
    /// Address and port of the LFS server.
    lfs: Option<(String, u16)>,
}

/// One request to the git server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// Path and query, e.g. `/acme/widget.git/info/refs?service=git-upload-pack`.
    pub path: String,
    /// User and password, if any were sent.
    pub credentials: Option<(String, String)>,
    /// Status answered.
    pub status: u16,
}

impl GitHttp {
    /// A server on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None).await
    }

    /// A server on `addr`, known to its clients as `host` (for containers: an address of the engine's bridge).
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub async fn start_on(addr: SocketAddr, host: Option<&str>) -> Self {
        Self::start_with(addr, host, None).await
    }

    /// The same over TLS; with `clients`, a certificate by that authority is demanded.
    ///
    /// # Panics
    /// As [`start_on`](Self::start_on).
    pub async fn start_tls(
        addr: SocketAddr,
        host: Option<&str>,
        identity: &Identity,
        clients: Option<&TestCa>,
    ) -> Self {
        Self::start_with(addr, host, Some(server_tls(identity, clients))).await
    }

    async fn start_with(
        addr: SocketAddr,
        host: Option<&str>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State {
            root: tempfile::Builder::new()
                .prefix("gantry-testkit-git-")
                .tempdir()
                .expect("a folder for repositories"),
            log: Mutex::default(),
        });
        let server = Server::start(addr, tls, Arc::clone(&state))
            .await
            .expect("a free address");
        let addr = server.addr();
        let host = host.map_or_else(
            || match addr.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
            str::to_owned,
        );
        let url = format!("{scheme}://{host}:{}", addr.port());
        Self {
            inner: Arc::new(Inner { server, state, url }),
        }
    }

    /// Base URL without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.inner.server.addr()
    }

    /// Begins a repository at this project path, e.g. `acme/tools/widget`.
    #[must_use]
    pub fn repository(&self, path: &str) -> RepositoryBuilder {
        RepositoryBuilder::new(self.root(), self.url(), path)
    }

    /// Accepts only this password from now on. Without, any job token (`glcbt-…`) is good.
    pub fn only_token(&self, token: &str) {
        self.log().only_token = Some(token.to_owned());
    }

    /// Answers the next `times` requests with this status.
    pub fn fail_next(&self, times: u32, status: u16) {
        self.log().failing = Some((times, status));
    }

    /// LFS files of all projects are asked for at this server, which has to live as long.
    pub fn lfs_at(&self, server: &LfsServer) {
        self.log().lfs = Some((server.authority(), server.port()));
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<GitRequest> {
        self.log().requests.clone()
    }

    /// Closes all connections and refuses new ones.
    pub async fn go_down(&self) {
        self.inner.server.down().await;
    }

    /// Listens again on the same port.
    pub async fn come_back(&self) {
        self.inner.server.up().await;
    }

    fn root(&self) -> &Path {
        self.inner.state.root.path()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.inner.state.log()
    }
}

impl State {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to answer without asking git.
    fn refuse(&self, credentials: Option<&(String, String)>) -> Option<u16> {
        let mut log = self.log();
        if let Some((left, status)) = &mut log.failing
            && *left > 0
        {
            *left -= 1;
            return Some(*status);
        }
        let good = credentials.is_some_and(|(_, password)| match &log.only_token {
            Some(token) => password == token,
            None => password.starts_with("glcbt-"),
        });
        (!good).then_some(401)
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let lfs = self.log().lfs.clone();
        if let Some((authority, port)) = lfs
            && request.uri().path().contains(lfs::PLACE)
        {
            return lfs::forward(&authority, port, request).await;
        }
        let answer = backend::answer(self.root.path(), request).await;
        Ok(answer.unwrap_or_else(|error| {
            let mut response = empty(500);
            *response.body_mut() = full(error.to_string());
            response
        }))
    }
}

impl Handler for State {
    async fn handle(
        self: Arc<Self>,
        _: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        let credentials = basic_credentials(&request);
        let path = request
            .uri()
            .path_and_query()
            .map_or_else(String::new, ToString::to_string);
        let response = match self.refuse(credentials.as_ref()) {
            Some(status) => {
                let mut response = empty(status);
                if status == 401 {
                    set_header(&mut response, "www-authenticate", "Basic realm=\"GitLab\"");
                    *response.body_mut() = full("HTTP Basic: Access denied\n");
                }
                response
            }
            None => self.answer(request).await?,
        };
        let status = response.status().as_u16();
        self.log().requests.push(GitRequest {
            path,
            credentials,
            status,
        });
        Ok(response)
    }
}

fn basic_credentials(request: &Request<Incoming>) -> Option<(String, String)> {
    let header = request.headers().get("authorization")?.to_str().ok()?;
    let decoded = STANDARD
        .decode(header.strip_prefix("Basic ")?.trim())
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// `git` cut off from the user's and the machine's settings.
fn git(folder: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("git");
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}

fn failed(what: &str, output: &std::process::Output) -> io::Error {
    io::Error::other(format!(
        "{what}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
