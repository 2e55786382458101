//! Output streams over a connection or an answer's body.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::{Body, Incoming};
use tokio::sync::Notify;

use super::{
    client::Driver,
    frames::{Demux, FrameError, HEADER, next_entry},
    repair::{LineRepair, split_timestamp},
    transport::ReadSide,
};
use crate::{EngineError, LogChunk, StdStream};

/// Bytes read at once: little while a stream trickles, much while it pours.
const SMALL: usize = 4 * 1024;
const LARGE: usize = 64 * 1024;
/// Longest log entry taken; engines cut lines at 16 KiB.
const LONGEST_ENTRY: usize = 4 * 1024 * 1024;

/// Where bytes come from.
pub(super) enum Source {
    /// A hijacked connection; the bytes that came with the headers are in the buffer already.
    Connection(ReadSide),
    /// A streaming answer, and its connection, which runs when it is read.
    Body(Incoming, Option<Driver>),
}

/// How bytes become chunks.
pub(super) enum Codec {
    /// Frames.
    Framed(Demux),
    /// Bytes of a terminal, all stdout.
    Raw,
    /// Frames that are log entries with timestamps, each a chunk.
    Stamped,
    /// Frames that are log entries with timestamps, to be repaired.
    Entries {
        stdout: LineRepair,
        stderr: LineRepair,
    },
}

/// An output stream: [`LogChunk`]s until the end, at most one `Err`, which is the last item.
pub(super) struct Output {
    pub(super) source: Source,
    pub(super) codec: Codec,
    pub(super) buffer: BytesMut,
    pub(super) what: String,
    pub(super) host: Arc<str>,
    /// Told when the stream is over.
    pub(super) ended: Option<Arc<Notify>>,
    state: State,
    step: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source is at its end; what the codec holds back is still to come.
    Drained,
    Over,
}

impl Output {
    pub(super) fn new(
        source: Source,
        codec: Codec,
        early: Bytes,
        what: String,
        host: Arc<str>,
    ) -> Self {
        let buffer = BytesMut::from(early);
        Self {
            source,
            codec,
            buffer,
            what,
            host,
            ended: None,
            state: State::Open,
            step: SMALL,
        }
    }

    fn error(&self, error: &FrameError) -> EngineError {
        let what = self.what.clone();
        match error {
            FrameError::Header(_) => EngineError::Garbled {
                what,
                message: error.to_string(),
            },
            FrameError::Engine(_) => EngineError::Failed {
                what,
                status: 200,
                message: error.to_string(),
            },
            FrameError::Cut => self.broken(&error),
        }
    }

    fn broken(&self, cause: &dyn std::fmt::Display) -> EngineError {
        EngineError::Unreachable {
            what: self.what.clone(),
            host: self.host.to_string(),
            message: cause.to_string(),
        }
    }

    /// The next chunk of what is in the buffer.
    fn decode(&mut self) -> Result<Option<LogChunk>, FrameError> {
        match &mut self.codec {
            Codec::Framed(demux) => demux.next(&mut self.buffer),
            Codec::Raw if self.buffer.is_empty() => Ok(None),
            Codec::Raw => {
                let bytes = self.buffer.split().freeze();
                Ok(Some(LogChunk {
                    stream: StdStream::Stdout,
                    bytes,
                }))
            }
            Codec::Stamped => {
                let Some((stream, entry)) = next_entry(&self.buffer, LONGEST_ENTRY)? else {
                    return Ok(None);
                };
                let length = entry.len();
                self.buffer.advance(HEADER);
                let bytes = self.buffer.split_to(length).freeze();
                Ok(Some(LogChunk { stream, bytes }))
            }
            Codec::Entries { stdout, stderr } => entries(&mut self.buffer, stdout, stderr),
        }
    }

    /// What is left when the source has ended: at most one chunk per stream.
    fn finish(&mut self) -> Result<Option<LogChunk>, FrameError> {
        match &mut self.codec {
            Codec::Framed(demux) => demux.finish(&self.buffer).map(|()| None),
            Codec::Raw => Ok(None),
            Codec::Stamped if self.buffer.is_empty() => Ok(None),
            Codec::Stamped => Err(FrameError::Cut),
            Codec::Entries { stdout, stderr } => {
                if !self.buffer.is_empty() {
                    return Err(FrameError::Cut);
                }
                for (stream, repair) in [(StdStream::Stdout, stdout), (StdStream::Stderr, stderr)] {
                    let mut out = BytesMut::new();
                    repair.finish(&mut out);
                    if !out.is_empty() {
                        return Ok(Some(LogChunk {
                            stream,
                            bytes: out.freeze(),
                        }));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Reads more into the buffer; 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.source {
            Source::Connection(read) => {
                if self.buffer.capacity() - self.buffer.len() < self.step / 2 {
                    self.buffer.reserve(self.step);
                }
                let polled = tokio_util::io::poll_read_buf(Pin::new(read), cx, &mut self.buffer);
                match &polled {
                    // A full read: there is more where that came from.
                    Poll::Ready(Ok(read)) if *read >= self.step / 2 => {
                        self.step = (self.step * 4).min(LARGE);
                    }
                    Poll::Ready(_) => {}
                    // Silence: give the large buffer back, jobs are silent most of the time.
                    Poll::Pending => {
                        self.step = SMALL;
                        if self.buffer.is_empty() && self.buffer.capacity() > SMALL {
                            self.buffer = BytesMut::new();
                        }
                    }
                }
                polled
            }
            Source::Body(body, driver) => {
                let mut gathered = 0;
                // An engine sends a log line by line: take all that is there.
                while gathered < LARGE {
                    match poll_body(body, driver, cx) {
                        Poll::Ready(Some(Ok(bytes))) => {
                            self.buffer.extend_from_slice(&bytes);
                            gathered += bytes.len();
                        }
                        _ if gathered > 0 => break,
                        Poll::Ready(Some(Err(error))) => {
                            return Poll::Ready(Err(io::Error::other(error)));
                        }
                        Poll::Ready(None) => return Poll::Ready(Ok(0)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Poll::Ready(Ok(gathered))
            }
        }
    }

    fn over(&mut self) {
        self.state = State::Over;
        if let Some(ended) = self.ended.take() {
            ended.notify_one();
        }
    }
}

impl Stream for Output {
    type Item = Result<LogChunk, EngineError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let decoded = match this.state {
                State::Over => return Poll::Ready(None),
                State::Open => this.decode(),
                State::Drained => this.finish(),
            };
            match decoded {
                Ok(Some(chunk)) => return Poll::Ready(Some(Ok(chunk))),
                Err(error) => {
                    let error = this.error(&error);
                    this.over();
                    return Poll::Ready(Some(Err(error)));
                }
                Ok(None) if this.state == State::Drained => {
                    this.over();
                    return Poll::Ready(None);
                }
                Ok(None) => {}
            }
            match ready!(this.poll_fill(cx)) {
                Ok(0) => this.state = State::Drained,
                Ok(_) => {}
                Err(error) => {
                    let error = this.broken(&super::answer::causes(&error));
                    this.over();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.over();
    }
}

/// The next piece of a body; drives the connection if that has not come yet.
fn poll_body(
    body: &mut Incoming,
    driver: &mut Option<Driver>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, hyper::Error>>> {
    let mut driven = false;
    loop {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                _ => {}
            },
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if driven => return Poll::Pending,
            Poll::Pending => {
                let Some(running) = driver else {
                    return Poll::Pending;
                };
                if running.as_mut().poll(cx).is_ready() {
                    *driver = None;
                }
                // It may just have handed over what was missing.
                driven = true;
            }
        }
    }
}

/// All whole log entries of one stream at the front of the buffer, repaired, as one chunk.
fn entries(
    buffer: &mut BytesMut,
    stdout: &mut LineRepair,
    stderr: &mut LineRepair,
) -> Result<Option<LogChunk>, FrameError> {
    let mut out = BytesMut::new();
    let mut of = None;
    let mut at = 0;
    while out.len() < LARGE {
        let next = match next_entry(&buffer[at..], LONGEST_ENTRY) {
            Ok(next) => next,
            // What is good goes out first; the bad entry waits for the next call.
            Err(_) if !out.is_empty() => break,
            Err(error) => return Err(error),
        };
        let Some((stream, entry)) = next else { break };
        // A chunk has one stream.
        if of != Some(stream) && !out.is_empty() {
            break;
        }
        let repair = match stream {
            StdStream::Stdout => &mut *stdout,
            StdStream::Stderr => &mut *stderr,
        };
        let Some((timestamp, bytes)) = split_timestamp(entry) else {
            if !out.is_empty() {
                break;
            }
            return Err(FrameError::Engine(
                "a log entry has no timestamp".to_owned(),
            ));
        };
        if out.capacity() == 0 {
            out.reserve(buffer.len() - at);
        }
        of = Some(stream);
        repair.entry(timestamp, bytes, &mut out);
        at += HEADER + entry.len();
    }
    buffer.advance(at);
    match of {
        Some(stream) if !out.is_empty() => Ok(Some(LogChunk {
            stream,
            bytes: out.freeze(),
        })),
        _ => Ok(None),
    }
}
