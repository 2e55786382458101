//! Listens for those who look: metrics over TCP, status over a socket in the state folder. Whoever calls gets one answer a
//! connection, within bounds of time, size and number, so that a hostile caller costs little and stops nothing.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    ListenAddress,
    pages::Visitor,
    status::{STATUS_SOCKET, SocketPlace},
};

/// Connections at once on one listener; further ones wait in the backlog of the system.
const CONNECTIONS: usize = 32;
/// A request's head must be there within this time.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// The same on this machine: `gantry status` shall not wait long behind others.
const LOCAL_HEAD_LIMIT: Duration = Duration::from_secs(1);
/// A connection from its begin to its last byte.
const CONNECTION_LIMIT: Duration = Duration::from_secs(20);
/// Size and number of request headers.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// What is read of a body that nobody wants.
const BODY_BYTES: usize = 64 * 1024;
/// How long the rest of what a caller sends is read after the answer: a connection closed before is a reset, which may eat the
/// answer.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a failed accept: too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where the service is asked how things stand. Without any nothing listens and nothing is counted.
#[derive(Debug, Default)]
pub struct Listeners {
    metrics: Option<TcpListener>,
    status: Option<StatusListener>,
}

impl Listeners {
    /// Serves metrics on this address, too.
    ///
    /// # Errors
    /// The address is in use, is none of this machine, or its name is unknown.
    pub async fn with_metrics(mut self, address: &ListenAddress) -> io::Result<Self> {
        self.metrics = Some(address.bind().await?);
        Ok(self)
    }

    /// Serves the status on this socket, too.
    #[must_use]
    pub fn with_status(mut self, status: StatusListener) -> Self {
        self.status = Some(status);
        self
    }

    /// Where metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }
}

/// The socket of the state folder. Gone from the folder when dropped.
#[derive(Debug)]
pub struct StatusListener {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for StatusListener {
    fn drop(&mut self) {
        // Nobody is hurt by one that stays: the next start replaces it.
        fs::remove_file(&self.path).ok();
    }
}

/// Makes the socket in a state folder that is locked by this process (0600; the folder is 0700). Call inside a runtime.
///
/// # Errors
/// The file system takes no sockets, or is full.
pub fn bind_status(state_folder: &Path) -> io::Result<StatusListener> {
    let path = state_folder.join(STATUS_SOCKET);
    // The lock says that nobody listens on what an earlier process left.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let place = SocketPlace::of(state_folder)?;
    let listener = UnixListener::bind(place.path())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(StatusListener { listener, path })
}

/// Gives the answer to a request.
pub(crate) type Answer =
    Arc<dyn Fn(&Request<Incoming>, Visitor) -> Response<Full<Bytes>> + Send + Sync>;

/// One of them.
enum Listener {
    Metrics(TcpListener),
    Status(StatusListener),
}

/// What a caller speaks through.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Listener {
    /// The next caller; `None` is one that was turned away.
    async fn accept(&self) -> io::Result<Option<Box<dyn Stream>>> {
        match self {
            Self::Metrics(listener) => Ok(Some(Box::new(listener.accept().await?.0))),
            Self::Status(status) => {
                let (stream, _) = status.listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                if uid == 0 || uid == rustix::process::geteuid().as_raw() {
                    return Ok(Some(Box::new(stream)));
                }
                // Not louder: how often is the stranger's choice.
                debug!(uid, "a stranger was turned away from the status socket");
                Ok(None)
            }
        }
    }

    fn visitor(&self) -> Visitor {
        match self {
            Self::Metrics(_) => Visitor::Anybody,
            Self::Status(_) => Visitor::Owner,
        }
    }
}

/// Answers on all listeners until dropped.
pub(crate) async fn serve(listeners: Listeners, answer: Answer) {
    let Listeners { metrics, status } = listeners;
    let metrics = metrics.map(Listener::Metrics);
    let status = status.map(Listener::Status);
    let both = [metrics, status].into_iter().flatten();
    join_all(both.map(|listener| take_callers(listener, Arc::clone(&answer)))).await;
}

async fn take_callers(listener: Listener, answer: Answer) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(Some(stream)) => {
                let (answer, visitor) = (Arc::clone(&answer), listener.visitor());
                tokio::spawn(async move {
                    converse(stream, &answer, visitor).await;
                    drop(place);
                });
            }
            Ok(None) => {}
            Err(error) => {
                debug!(%error, "a caller cannot be heard");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request, one answer, within bounds.
async fn converse(mut stream: Box<dyn Stream>, answer: &Answer, visitor: Visitor) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, visitor);
        async move {
            // Unread, a body would turn the end of the connection into a reset.
            let body = Limited::new(request.into_body(), BODY_BYTES);
            body.collect().await.ok();
            Ok::<_, Infallible>(response)
        }
    });
    let head_limit = match visitor {
        Visitor::Anybody => HEAD_LIMIT,
        Visitor::Owner => LOCAL_HEAD_LIMIT,
    };
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_limit)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(&mut stream), service);
    match timeout(CONNECTION_LIMIT, conversation).await {
        Ok(Ok(())) => {}
        // Said nothing in time, and is owed nothing.
        Ok(Err(error)) if error.is_timeout() => return,
        Ok(Err(error)) => debug!(%error, "a caller was not understood"),
        Err(_) => debug!("a caller was too slow"),
    }
    timeout(LINGER, async {
        stream.shutdown().await.ok();
        let mut rest = [0; 4096];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    })
    .await
    .ok();
}

#[cfg(test)]
mod tests;
