//! Calls: connections from a small pool, deadlines, answers and their errors. Bodies never reach a log.

use std::{
    error::Error as _,
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use super::{
    answer::{Answer, causes, failure},
    pool::Pool,
    transport::{ConnectError, Connection, Connector, ReadSide, Timeouts, WriteSide},
};
use crate::{Archive, EngineError, endpoint::Endpoint};

/// What requests carry.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Longest answer of a plain call that is read.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Calls that make things, at the same time. More than that an engine only queues, and each queued call holds a connection
/// with 25 kB of buffers: fifty jobs that begin together would need megabytes for it.
const TURNS: usize = 12;

/// How long a call waits for its turn: calls that hang must not hold up other jobs.
const LONGEST_TURN: Duration = Duration::from_secs(2);

/// What must run for a connection to live.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes calls to one engine.
pub(super) struct Client {
    pub(super) host: Arc<str>,
    pub(super) timeouts: Timeouts,
    connector: Connector,
    base_path: String,
    pool: Arc<Pool>,
    turns: Semaphore,
}

/// One request.
pub(super) struct Call {
    /// For messages, e.g. `inspect container x`.
    pub(super) what: String,
    pub(super) method: Method,
    /// Path with query, API prefix included.
    pub(super) path: String,
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    pub(super) payload: Payload,
}

/// What a request carries.
pub(super) enum Payload {
    None,
    Json(Bytes),
    Tar(Archive),
}

/// Both directions of a hijacked connection.
pub(super) struct Hijacked {
    pub(super) read: ReadSide,
    pub(super) write: WriteSide,
    /// What came right behind the headers.
    pub(super) early: Bytes,
    /// Content type of the answer.
    pub(super) content_type: String,
}

impl Call {
    pub(super) fn new(what: String, method: Method, path: String) -> Self {
        Self {
            what,
            method,
            path,
            header: None,
            payload: Payload::None,
        }
    }

    pub(super) fn json(mut self, body: &impl serde::Serialize) -> Result<Self, EngineError> {
        let body =
            serde_json::to_vec(body).map_err(|error| EngineError::Setup(error.to_string()))?;
        self.payload = Payload::Json(body.into());
        Ok(self)
    }

    pub(super) fn tar(mut self, archive: Archive) -> Self {
        self.payload = Payload::Tar(archive);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Self, EngineError> {
        Ok(Self {
            host: endpoint.display.as_str().into(),
            timeouts,
            connector: Connector::new(endpoint)?,
            base_path: endpoint.base_path.clone(),
            pool: Pool::new(timeouts.idle),
            turns: Semaphore::new(TURNS),
        })
    }

    /// A plain call: the whole answer, whatever its status, within the time for answers.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, EngineError> {
        let limit = match call.payload {
            Payload::Tar(_) => self.timeouts.upload,
            _ => self.timeouts.answer,
        };
        self.ask_within(call, limit).await
    }

    /// As [`Self::ask`] for what makes or starts something: few of them run at once.
    pub(super) async fn ask_in_turn(&self, call: Call) -> Result<Answer, EngineError> {
        let turn = tokio::time::timeout(LONGEST_TURN, self.turns.acquire()).await;
        let answer = self.ask(call).await;
        drop(turn);
        answer
    }

    /// As [`Self::ask`] with a limit of its own.
    pub(super) async fn ask_within(
        &self,
        call: Call,
        limit: Duration,
    ) -> Result<Answer, EngineError> {
        let what = call.what.clone();
        let asked = async {
            let (response, sender) = self.send(call, true).await?;
            let (parts, body) = response.into_parts();
            let body = self.collect(&what, body).await?;
            self.pool.put(sender);
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(EngineError::TimedOut {
                what,
                seconds: limit.as_secs(),
            }),
        }
    }

    /// A call whose answer is a stream; `limit` bounds the wait for its headers.
    pub(super) async fn stream(
        &self,
        call: Call,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>, EngineError> {
        let what = call.what.clone();
        let sent = async { self.send(call, false).await.map(|(response, _)| response) };
        let response = self.within(&what, limit, sent).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(&what, response).await)
    }

    /// As [`Self::stream`] without limit, for an answer of very many small pieces (an engine sends a log line by line): the
    /// connection is not a task of its own but is driven by whoever reads, which saves two task switches a piece.
    pub(super) async fn stream_inline(
        &self,
        call: Call,
    ) -> Result<(Incoming, Option<Driver>), EngineError> {
        let what = call.what.clone();
        let request = self.request(call)?;
        let (mut sender, driver) = self.open(&what).await?;
        let mut driver = Some(driver);
        let response = {
            let mut sent = pin!(sender.send_request(request));
            std::future::poll_fn(|cx| {
                if driver
                    .as_mut()
                    .is_some_and(|driver| driver.as_mut().poll(cx).is_ready())
                {
                    driver = None;
                }
                sent.as_mut().poll(cx)
            })
            .await
            .map_err(|error| self.unsent(&what, &error))?
        };
        if response.status().is_success() {
            return Ok((response.into_body(), driver));
        }
        driver.map(tokio::spawn);
        Err(self.refused(&what, response).await)
    }

    /// A call that takes the connection over.
    pub(super) async fn hijack(
        &self,
        mut call: Call,
        limit: Option<Duration>,
    ) -> Result<Hijacked, EngineError> {
        let what = call.what.clone();
        call.header = Some((UPGRADE, HeaderValue::from_static("tcp")));
        let sent = async { self.send(call, false).await.map(|(response, _)| response) };
        let mut response = self.within(&what, limit, sent).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            if response.status().is_success() {
                return Err(EngineError::Garbled {
                    what,
                    message: format!("status {} in place of 101", response.status().as_u16()),
                });
            }
            return Err(self.refused(&what, response).await);
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let content_type = content_type.to_owned();
        let upgraded = hyper::upgrade::on(&mut response).await;
        let upgraded = upgraded.map_err(|error| self.unreachable(&what, &causes(&error)))?;
        // Always our own type: nothing else is ever handed to hyper.
        let parts = Upgraded::downcast::<TokioIo<Connection>>(upgraded).map_err(|_| {
            EngineError::Garbled {
                what,
                message: "the connection cannot be taken over".to_owned(),
            }
        })?;
        let (read, write) = parts.io.into_inner().split();
        Ok(Hijacked {
            read,
            write,
            early: parts.read_buf,
            content_type,
        })
    }

    /// The error an answer with a bad status stands for.
    pub(super) async fn refused(&self, what: &str, response: Response<Incoming>) -> EngineError {
        let (parts, body) = response.into_parts();
        let limit = self.timeouts.answer;
        match self
            .within(what, Some(limit), self.collect(what, body))
            .await
        {
            Ok(body) => failure(what, parts.status, &body),
            Err(error) => error,
        }
    }

    async fn within<T>(
        &self,
        what: &str,
        limit: Option<Duration>,
        future: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let Some(limit) = limit else {
            return future.await;
        };
        match tokio::time::timeout(limit, future).await {
            Ok(result) => result,
            Err(_) => Err(EngineError::TimedOut {
                what: what.to_owned(),
                seconds: limit.as_secs(),
            }),
        }
    }

    /// Sends a request, over a kept connection if `pooled` and there is one.
    async fn send(
        &self,
        call: Call,
        pooled: bool,
    ) -> Result<(Response<Incoming>, SendRequest<Body>), EngineError> {
        let what = call.what.clone();
        let mut request = self.request(call)?;
        if pooled {
            while let Some(mut sender) = self.pool.take() {
                if sender.ready().await.is_err() {
                    continue;
                }
                match sender.try_send_request(request).await {
                    Ok(response) => return Ok((response, sender)),
                    // The engine closed the kept connection before the request left: a fresh one.
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err(self.unsent(&what, error.error())),
                    },
                }
            }
        }
        let (mut sender, driver) = self.open(&what).await?;
        tokio::spawn(driver);
        match sender.send_request(request).await {
            Ok(response) => Ok((response, sender)),
            Err(error) => Err(self.unsent(&what, &error)),
        }
    }

    /// Opens a connection: what sends requests over it, and what must run for it to live.
    async fn open(&self, what: &str) -> Result<(SendRequest<Body>, Driver), EngineError> {
        let connection = match self.connector.connect(&self.timeouts).await {
            Ok(connection) => connection,
            Err(ConnectError::Io(error)) => return Err(self.unreachable(what, &error)),
            Err(ConnectError::TimedOut(limit)) => {
                return Err(EngineError::TimedOut {
                    what: what.to_owned(),
                    seconds: limit.as_secs(),
                });
            }
        };
        let handshake = http1::handshake(TokioIo::new(connection)).await;
        let (sender, driver) =
            handshake.map_err(|error| self.unreachable(what, &causes(&error)))?;
        let driver = async move {
            // Its errors reach the caller through the answer.
            drop(driver.with_upgrades().await);
        };
        Ok((sender, Box::pin(driver)))
    }

    fn request(&self, call: Call) -> Result<Request<Body>, EngineError> {
        let uri = format!("{}{}", self.base_path, call.path);
        // The host name means nothing to an engine, but HTTP/1.1 wants one.
        let mut builder = Request::builder()
            .method(call.method)
            .uri(uri)
            .header(HOST, "docker");
        if let Some((name, value)) = call.header {
            if name == UPGRADE {
                builder = builder.header(CONNECTION, "Upgrade");
            }
            builder = builder.header(name, value);
        }
        let body = match call.payload {
            Payload::None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Payload::Json(bytes) => {
                builder = builder.header(CONTENT_TYPE, "application/json");
                Full::new(bytes)
                    .map_err(|never| match never {})
                    .boxed_unsync()
            }
            Payload::Tar(archive) => {
                builder = builder.header(CONTENT_TYPE, "application/x-tar");
                let stream = tokio_util::io::ReaderStream::with_capacity(archive, 64 * 1024);
                let frames = futures_util::StreamExt::map(stream, |read| {
                    read.map(Frame::data)
                        .map_err(|error| std::io::Error::other(ArchiveError(error)))
                });
                StreamBody::new(frames).boxed_unsync()
            }
        };
        builder.body(body).map_err(|error| EngineError::BadRequest {
            what: call.what,
            message: error.to_string(),
        })
    }

    /// Reads an answer's body to its end.
    pub(super) async fn collect(
        &self,
        what: &str,
        mut body: Incoming,
    ) -> Result<Bytes, EngineError> {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unreachable(what, &causes(&error)))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if whole.len() + data.len() > LONGEST_ANSWER {
                return Err(EngineError::Garbled {
                    what: what.to_owned(),
                    message: format!("longer than {LONGEST_ANSWER} bytes"),
                });
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    pub(super) fn unreachable(&self, what: &str, cause: &dyn fmt::Display) -> EngineError {
        EngineError::Unreachable {
            what: what.to_owned(),
            host: self.host.to_string(),
            message: cause.to_string(),
        }
    }

    /// A failed send: the archive that could not be read, or the engine.
    fn unsent(&self, what: &str, error: &hyper::Error) -> EngineError {
        let mut cause = error.source();
        while let Some(inner) = cause {
            let io = inner.downcast_ref::<std::io::Error>();
            let archive = io
                .and_then(std::io::Error::get_ref)
                .and_then(|e| e.downcast_ref());
            if let Some(ArchiveError(error)) = archive {
                return EngineError::Setup(format!("{what}: reading the archive: {error}"));
            }
            cause = inner.source();
        }
        self.unreachable(what, &causes(error))
    }
}

/// Marks an error of the archive, to tell it from one of the connection.
#[derive(Debug)]
struct ArchiveError(std::io::Error);

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ArchiveError {}
