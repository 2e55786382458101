//! An LFS server beside the repositories: giftless, a real one. Who asks for files below a project's address must be known to us, as to
//! a GitLab; what the server answers leads to its own address, with a permission of its own, as an object storage's does.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::net::TcpStream;

use crate::ForeignServer;
use crate::http::{Body, Hangup};

/// Where projects' LFS files are asked for.
pub(super) const PLACE: &str = "/info/lfs/";

/// A real LFS server. Ends with the value.
#[derive(Debug)]
pub struct LfsServer {
    server: ForeignServer,
    host: String,
}

impl LfsServer {
    /// Starts it, known to its clients as `host`.
    ///
    /// # Errors
    /// That there is no such program here: the reason for a test to be skipped.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(host: &str) -> Result<Self, String> {
        let server = ForeignServer::start("GANTRY_TEST_GIFTLESS", 1, |command, _, ports| {
            let adapter = json!({
                "factory": "giftless.transfer.basic_streaming:factory",
                "options": {
                    "storage_class": "giftless.storage.local_storage:LocalStorage",
                    "storage_options": {"path": "objects"},
                },
            });
            let config = json!({
                // Reading is for everybody who reaches it; whoever comes by way of a project was asked for a password.
                "AUTH_PROVIDERS": ["giftless.auth.allow_anon:read_only"],
                "TRANSFER_ADAPTERS": {"basic": adapter},
                "LEGACY_ENDPOINTS": false,
            });
            command
                .args(["--app", "giftless.wsgi_entrypoint", "run"])
                .args(["--host", "0.0.0.0", "--port", &ports[0].to_string()])
                .env("GIFTLESS_CONFIG_STR", config.to_string());
        });
        Ok(Self {
            server: server.await?,
            host: host.to_owned(),
        })
    }

    /// `lfs.url` of a project for those who come without a password.
    #[must_use]
    pub fn url(&self, project: &str) -> String {
        format!(
            "http://{}:{}/{project}.git/info/lfs",
            self.host,
            self.server.port()
        )
    }

    /// Keeps a file for a project, and returns the pointer that stands for it in a commit.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn keep(&self, project: &str, content: &[u8]) -> String {
        let pointer = pointer(content);
        let folder: PathBuf = self.server.file("objects").join(project);
        std::fs::create_dir_all(&folder).expect("a folder in a temporary one");
        let oid = oid(content);
        std::fs::write(folder.join(oid), content).expect("a file in a temporary folder");
        pointer
    }

    /// What it printed: a line for each request.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port()
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port())
    }
}

/// The pointer that stands for a file in a commit.
#[must_use]
pub fn pointer(content: &[u8]) -> String {
    format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        oid(content),
        content.len()
    )
}

fn oid(content: &[u8]) -> String {
    let hash = digest(&SHA256, content);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Sends a request on to the server, without the password.
pub(super) async fn forward(
    authority: &str,
    port: u16,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Hangup> {
    let headers = request.headers_mut();
    headers.remove("authorization");
    headers.insert("host", authority.parse().expect("an address"));
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    let stream = TokioIo::new(stream.map_err(|_| Hangup)?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(|_| Hangup)?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|_| Hangup)?;
    Ok(answer.map(|body| body.map_err(std::io::Error::other).boxed_unsync()))
}
