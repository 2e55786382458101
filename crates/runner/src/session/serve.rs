//! Listens for terminals. The port may be open to the world: whoever cannot name a session and its token gets one answer, within
//! bounds of time, size and number, and jobs do not notice him.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gantry_engine::{EngineError, ExecStream};
use gantry_executor::{TerminalConnection, TerminalContainer, TerminalPlace};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};
use tracing::{debug, error, info, warn};

use super::{
    Session, SessionServer, Sessions,
    request::{self, Handshake, Place},
    terminal::{self, Shell, Terminal},
};

/// Callers at once that have not shown a token; further ones wait in the backlog of the system.
const STRANGERS: usize = 32;
/// TLS must be agreed on within this time, and a request's head be there within as much again.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// What a caller without a token gets of everything.
const STRANGER_LIMIT: Duration = Duration::from_secs(20);
/// Size and number of request headers.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// What is read of a body that nobody wants.
const BODY_BYTES: usize = 64 * 1024;
/// How long a caller waits for the job's container (cli §9).
const CONTAINER_LIMIT: Duration = Duration::from_secs(60);
/// How long the engine may take for a shell.
const SHELL_LIMIT: Duration = Duration::from_secs(30);
/// Pause after a failed accept: too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Longest message of a client: a paste.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes read from a client at once.
const READ_BYTES: usize = 8 * 1024;

/// Answers until dropped.
pub(crate) async fn serve(server: SessionServer, sessions: Arc<Sessions>) {
    let SessionServer { listener, tls, .. } = server;
    let tls = TlsAcceptor::from(tls);
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (tls, sessions) = (tls.clone(), Arc::clone(&sessions));
                // Keys that are typed leave one by one.
                stream.set_nodelay(true).ok();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &tls, &sessions, place).await {
                        // Not louder: how often is the caller's choice.
                        debug!(%error, "a caller of the session server was not understood");
                    }
                });
            }
            Err(error) => {
                debug!(%error, "a caller of the session server cannot be heard");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A caller, as far as it is known.
struct Caller {
    /// Its place among the strangers, until it shows a token.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    known: AtomicBool,
}

impl Caller {
    fn shows_token(&self) {
        self.known.store(true, Ordering::Relaxed);
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        drop(place.take());
    }
}

/// One request, one answer, and a terminal if it comes to that.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    tls: &TlsAcceptor,
    sessions: &Arc<Sessions>,
    place: OwnedSemaphorePermit,
) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream = timeout(HELLO_LIMIT, tls.accept(stream))
        .await
        .map_err(late)??;
    let caller = Arc::new(Caller {
        place: Mutex::new(Some(place)),
        known: AtomicBool::new(false),
    });
    let service = service_fn(|request: Request<Incoming>| {
        let (sessions, caller) = (Arc::clone(sessions), Arc::clone(&caller));
        async move { Ok::<_, Infallible>(answer(request, &sessions, &caller).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HELLO_LIMIT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS);
    let conversation = http.serve_connection(TokioIo::new(stream), service);
    let mut conversation = std::pin::pin!(conversation.with_upgrades());
    let said = match timeout(STRANGER_LIMIT, &mut conversation).await {
        Ok(said) => said,
        Err(_) if caller.known.load(Ordering::Relaxed) => conversation.await,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    said.map_err(io::Error::other)
}

/// The answer to a request, in the peer's order but for what is known before the wait.
async fn answer(
    request: Request<Incoming>,
    sessions: &Sessions,
    caller: &Caller,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let found = request::place(parts.uri.path()).and_then(|(id, place)| {
        let known = matches!(place, Place::Terminal | Place::Proxy);
        known.then(|| Some((sessions.find(id)?, place))).flatten()
    });
    let refusal = match &found {
        None => (
            StatusCode::NOT_FOUND,
            "no running job has this session; sessions end with their job, and with the runner's process",
        ),
        Some((session, place)) => {
            let token = parts.headers.get(AUTHORIZATION);
            if session.admits(token.map(HeaderValue::as_bytes)) {
                caller.shows_token();
                if *place == Place::Terminal {
                    let handshake =
                        request::handshake(&parts.method, parts.version, &parts.headers);
                    match handshake {
                        Ok(handshake) => {
                            let request = Request::from_parts(parts, body);
                            return open(request, handshake, session).await;
                        }
                        Err(refusal) => refusal,
                    }
                } else {
                    (StatusCode::NOT_FOUND, "services are not proxied")
                }
            } else {
                // Who knows the address was told it by GitLab, so that this is no stranger's to say at will.
                warn!(
                    job = session.job,
                    "a terminal was asked for without the session's token"
                );
                (
                    StatusCode::UNAUTHORIZED,
                    "the Authorization header is not the session's token",
                )
            }
        }
    };
    // Unread, a body would turn the end of the connection into a reset.
    Limited::new(body, BODY_BYTES).collect().await.ok();
    refused(refusal.0, refusal.1)
}

/// Opens a terminal for who may have one.
async fn open(
    mut request: Request<Incoming>,
    handshake: Handshake,
    session: &Arc<Session>,
) -> Response<Full<Bytes>> {
    let job = session.job;
    let Some(connection) = session.port.connect() else {
        warn!(job, "Terminal already connected, revoking connection");
        return refused(
            StatusCode::LOCKED,
            "another terminal of this job is connected",
        );
    };
    let mut place = session.port.place();
    let shell = match timeout(CONTAINER_LIMIT, first_shell(&mut place)).await {
        Ok(Ok(Some(shell))) => shell,
        Ok(Ok(None)) => {
            return refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "Service Unavailable: the job has no more to run in its container",
            );
        }
        Ok(Err(error)) => {
            error!(job, %error, "Failed to create exec container for terminal");
            return refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed to create exec for build container",
            );
        }
        Err(_) => {
            return refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "Service Unavailable: the job's container does not run yet",
            );
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let wire = handshake.wire;
    let session = Arc::clone(session);
    tokio::spawn(async move {
        let connected = Connected::new(&session, connection);
        match upgrade.await {
            Ok(upgraded) => {
                let socket = WebSocketStream::from_raw_socket(
                    TokioIo::new(upgraded),
                    Role::Server,
                    Some(limits()),
                )
                .await;
                let terminal = Terminal {
                    wire,
                    place,
                    connected,
                };
                let reason = terminal.serve(socket, shell).await;
                info!(job, %reason, "Terminal disconnected");
            }
            Err(error) => {
                debug!(job, %error, "a terminal's caller left before it was opened");
                terminal::hang_up(shell).await;
            }
        }
    });
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, handshake.accept);
    if let Some(name) = wire.name() {
        response = response.header(SEC_WEBSOCKET_PROTOCOL, name);
    }
    response
        .body(Full::default())
        .unwrap_or_else(|_| refused(StatusCode::INTERNAL_SERVER_ERROR, "no answer"))
}

/// Who is connected, as the job and the status see it.
pub(super) struct Connected {
    session: Arc<Session>,
    pub(super) connection: TerminalConnection,
}

impl Connected {
    fn new(session: &Arc<Session>, connection: TerminalConnection) -> Self {
        info!(job = session.job, "Terminal connected");
        session.tell(true);
        Self {
            session: Arc::clone(session),
            connection,
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.session.tell(false);
    }
}

/// A shell in the build container, once that runs; `None` if it will not run any more.
async fn first_shell(
    place: &mut watch::Receiver<TerminalPlace>,
) -> Result<Option<Shell>, EngineError> {
    loop {
        let now = place.borrow_and_update().clone();
        match now {
            TerminalPlace::Over => return Ok(None),
            TerminalPlace::Running(container) => match start_shell(container).await {
                // It ended just now.
                Err(error)
                    if error.is_not_found() || matches!(error, EngineError::Conflict { .. }) => {}
                other => return other.map(Some),
            },
            TerminalPlace::NotYet | TerminalPlace::Between => {}
        }
        if place.changed().await.is_err() {
            return Ok(None);
        }
    }
}

/// A shell in a container that runs.
pub(super) async fn start_shell(container: TerminalContainer) -> Result<Shell, EngineError> {
    let (command, mark) = terminal::command(&container);
    let start = container.engine.exec_terminal(&container.id, &command);
    let streams: ExecStream = match timeout(SHELL_LIMIT, start).await {
        Ok(started) => started?,
        Err(_) => {
            return Err(EngineError::TimedOut {
                what: "start a shell for a terminal".to_owned(),
                seconds: SHELL_LIMIT.as_secs(),
            });
        }
    };
    Ok(Shell {
        container,
        streams,
        mark,
    })
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MESSAGE_BYTES)
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES))
}

fn refused(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{why}\n")));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    // Not by a setting of the connection: that would say so in a 101, too.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}
