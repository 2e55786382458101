//! Connections: a unix socket, TCP or TLS, one type for all.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, tcp, unix},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    EngineError,
    endpoint::{Address, Endpoint, Tls},
};

/// How long the steps of a call may take. Unix sockets have no limits of their own but the last two.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// TCP connect.
    pub connect: Duration,
    /// TLS handshake.
    pub handshake: Duration,
    /// From request to the end of the answer of a plain call, and to the headers of a stream that an engine answers at once.
    pub answer: Duration,
    /// Uploads of archives and images as a whole.
    pub upload: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// docker-executor §1.1.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(300),
            handshake: Duration::from_secs(60),
            answer: Duration::from_secs(120),
            upload: Duration::from_secs(1800),
            idle: Duration::from_secs(10),
        }
    }
}

/// TCP keep-alive probes start and repeat after this time.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Makes connections to one endpoint.
pub(super) struct Connector {
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection to an engine.
pub(super) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Read side of a hijacked connection.
pub(super) enum ReadSide {
    Unix(unix::OwnedReadHalf),
    Tcp(tcp::OwnedReadHalf),
    Tls(tokio::io::ReadHalf<Box<TlsStream<TcpStream>>>),
}

/// Write side of a hijacked connection; its shutdown half-closes the connection.
pub(super) enum WriteSide {
    Unix(unix::OwnedWriteHalf),
    Tcp(tcp::OwnedWriteHalf),
    Tls(tokio::io::WriteHalf<Box<TlsStream<TcpStream>>>),
}

/// Why there is no connection.
pub(super) enum ConnectError {
    Io(io::Error),
    TimedOut(Duration),
}

impl Connector {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, EngineError> {
        let tls = match &endpoint.address {
            Address::Unix(_) | Address::Tcp { tls: Tls::Off, .. } => None,
            Address::Tcp { host, tls, .. } => {
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    EngineError::Setup(format!(
                        "docker host {:?}: {host:?} is not a name that a certificate can hold",
                        endpoint.display
                    ))
                })?;
                let config = match tls {
                    Tls::Directory(directory) => directory_config(directory)?,
                    _ => system_config()?,
                };
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        Ok(Self {
            address: endpoint.address.clone(),
            tls,
        })
    }

    pub(super) async fn connect(&self, timeouts: &Timeouts) -> Result<Connection, ConnectError> {
        let within = |limit: Duration| move |_| ConnectError::TimedOut(limit);
        let (host, port) = match &self.address {
            Address::Unix(path) => {
                let stream = tokio::time::timeout(timeouts.answer, UnixStream::connect(path))
                    .await
                    .map_err(within(timeouts.answer))?;
                return stream.map(Connection::Unix).map_err(ConnectError::Io);
            }
            Address::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let stream = tokio::time::timeout(timeouts.connect, TcpStream::connect((host, port)))
            .await
            .map_err(within(timeouts.connect))?
            .map_err(ConnectError::Io)?;
        // Best effort: without them the connection works, it only notices a dead peer late.
        drop(stream.set_nodelay(true));
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEP_ALIVE);
        let _ = rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEP_ALIVE);
        let Some((connector, name)) = &self.tls else {
            return Ok(Connection::Tcp(stream));
        };
        let stream =
            tokio::time::timeout(timeouts.handshake, connector.connect(name.clone(), stream))
                .await
                .map_err(within(timeouts.handshake))?
                .map_err(ConnectError::Io)?;
        Ok(Connection::Tls(Box::new(stream)))
    }
}

fn config_builder()
-> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, EngineError> {
    // The provider is named here, so that no process-wide default is needed. TLS 1.2 is the oldest version rustls has.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EngineError::Setup(format!("setting up TLS: {error}")))
}

/// Trust in `ca.pem` alone, proof by `cert.pem` and `key.pem`.
fn directory_config(directory: &Path) -> Result<ClientConfig, EngineError> {
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        EngineError::Setup(format!("TLS file {}: {error}", path.display()))
    };
    let (ca, cert, key) = (
        directory.join("ca.pem"),
        directory.join("cert.pem"),
        directory.join("key.pem"),
    );
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, EngineError> {
        let found = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(path, &error))?;
        if found.is_empty() {
            return Err(unusable(path, &"holds no certificate"));
        }
        Ok(found)
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(&ca)? {
        roots.add(root).map_err(|error| unusable(&ca, &error))?;
    }
    let chain = certificates(&cert)?;
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| unusable(&key, &error))?;
    config_builder()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, secret)
        .map_err(|error| unusable(&cert, &format_args!("{error} (with key.pem beside it)")))
}

fn system_config() -> Result<ClientConfig, EngineError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    Ok(config_builder()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl Connection {
    /// The two directions, without a lock between them where the transport allows it.
    pub(super) fn split(self) -> (ReadSide, WriteSide) {
        match self {
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadSide::Unix(read), WriteSide::Unix(write))
            }
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadSide::Tcp(read), WriteSide::Tcp(write))
            }
            Self::Tls(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadSide::Tls(read), WriteSide::Tls(write))
            }
        }
    }
}

macro_rules! forward_read {
    ($type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
                    Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
                    Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
                }
            }
        }
    };
}

macro_rules! forward_write {
    ($type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
                    Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
                    Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
                    Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
                    Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
                }
            }
        }
    };
}

forward_read!(Connection);
forward_write!(Connection);
forward_read!(ReadSide);
forward_write!(WriteSide);
