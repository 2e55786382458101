//! A small HTTP/1.1 server that can also misbehave: drop connections, hang, be switched off and on again.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{Identity, TestCa};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Ends the connection without an answer.
#[derive(Debug)]
pub(crate) struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection dropped on purpose")
    }
}

impl std::error::Error for Hangup {}

/// Answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(
        self: Arc<Self>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Hangup>> + Send;
}

/// A server that runs until dropped.
pub(crate) struct Server {
    addr: SocketAddr,
    tls: Arc<Mutex<Option<Arc<ServerConfig>>>>,
    up: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

/// What the accept loop shall do; a sender of `done` is used up when it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Up,
    Down,
}

impl Server {
    /// Listens on `addr` (port 0: any).
    pub(crate) async fn start<H: Handler>(
        addr: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        handler: Arc<H>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let tls = Arc::new(Mutex::new(tls));
        let (up, wanted) = watch::channel(Wanted::Up);
        let task = tokio::spawn(accept(listener, addr, wanted, Arc::clone(&tls), handler));
        Ok(Self {
            addr,
            tls,
            up,
            task,
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Shows another certificate to new connections.
    pub(crate) fn set_tls(&self, tls: Arc<ServerConfig>) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    /// Closes all connections and refuses new ones.
    pub(crate) async fn down(&self) {
        self.up.send_replace(Wanted::Down);
        // Closed when nobody can connect any more.
        while tokio::net::TcpStream::connect(self.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Listens again on the same port.
    pub(crate) async fn up(&self) {
        self.up.send_replace(Wanted::Up);
        while tokio::net::TcpStream::connect(self.addr).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<H: Handler>(
    listener: TcpListener,
    addr: SocketAddr,
    mut wanted: watch::Receiver<Wanted>,
    tls: Arc<Mutex<Option<Arc<ServerConfig>>>>,
    handler: Arc<H>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let Some(open) = &listener else {
            if wanted
                .wait_for(|wanted| *wanted == Wanted::Up)
                .await
                .is_err()
            {
                return;
            }
            listener = TcpListener::bind(addr).await.ok();
            tokio::task::yield_now().await;
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                let Ok((stream, peer)) = accepted else { continue };
                // Answers are small and measured by the millisecond.
                stream.set_nodelay(true).ok();
                let tls = tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let handler = Arc::clone(&handler);
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, peer, handler).await,
                        Some(tls) => {
                            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, peer, handler).await;
                            }
                        }
                    }
                });
            }
            down = goes_down(&mut wanted) => {
                if !down {
                    return;
                }
                listener = None;
                connections.shutdown().await;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// False when nobody holds the server any more.
async fn goes_down(wanted: &mut watch::Receiver<Wanted>) -> bool {
    wanted
        .wait_for(|wanted| *wanted == Wanted::Down)
        .await
        .is_ok()
}

async fn serve<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    handler: Arc<H>,
) {
    let service = service_fn(move |request| Arc::clone(&handler).handle(peer, request));
    // An error here is a client that went away, or a hang-up on purpose.
    hyper::server::conn::http1::Builder::new()
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

/// A body of known bytes.
pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// The first bytes of a longer body, then the connection ends.
pub(crate) fn cut(body: Bytes) -> Body {
    let frames = stream::iter([Ok(Frame::data(body))]).chain(stream::once(async {
        // Let the frame leave before the error ends the connection.
        tokio::task::yield_now().await;
        Err(io::Error::other("cut on purpose"))
    }));
    StreamBody::new(frames).boxed_unsync()
}

/// An answer without body.
pub(crate) fn empty(status: u16) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    response
}

/// Adds a header, replacing one of that name.
pub(crate) fn set_header(response: &mut Response<Body>, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
    let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
    response.headers_mut().insert(name, value);
}

/// TLS of a server; with `clients`, a certificate by that authority is demanded.
pub(crate) fn server_tls(identity: &Identity, clients: Option<&TestCa>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("protocol versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("an authority");
            roots.add(ca).expect("an authority");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let mut config = builder.with_single_cert(chain, key).expect("an identity");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
