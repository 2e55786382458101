//! An engine of a few lines: what it says is scripted.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::{Endpoint, EngineError, HttpEngine, StdStream, Timeouts};

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: String,
    pub(super) body: String,
}

/// What the stub does with a request.
pub(super) enum Say {
    /// An answer with this status, content type and body.
    Answer(u16, &'static str, Vec<u8>),
    /// These bytes, then the connection closes.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Nothing,
}

pub(super) fn json(status: u16, body: &str) -> Say {
    Say::Answer(status, "application/json", body.as_bytes().to_vec())
}

/// A chunked answer, cut before its end if `whole` is false.
pub(super) fn chunks(pieces: &[&[u8]], whole: bool) -> Say {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend(*piece);
        bytes.extend(b"\r\n");
    }
    if whole {
        bytes.extend(b"0\r\n\r\n");
    }
    Say::Raw(bytes)
}

/// The answer to a hijack, with what the container says.
pub(super) fn hijacked(content_type: &str, output: &[u8]) -> Say {
    let head = format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    Say::Raw([head.as_bytes(), output].concat())
}

pub(super) struct Stub {
    pub(super) engine: HttpEngine,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    pub(super) directory: tempfile::TempDir,
}

impl Stub {
    /// Docker with API 1.41 that answers `say` to everything but pings.
    pub(super) fn docker(say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        Self::with("Api-Version: 1.41\r\n", say)
    }

    pub(super) fn podman(say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        Self::with("Api-Version: 1.41\r\nLibpod-API-Version: 4.3.1\r\n", say)
    }

    pub(super) fn with(
        ping: &'static str,
        say: impl Fn(&str) -> Say + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, say) = (Arc::clone(&seen), Arc::new(say));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, ping, Arc::clone(&say), Arc::clone(&noted)));
            }
        });
        let host = format!("unix://{}", socket.display());
        let endpoint = Endpoint::resolve(&host, false, "", |_| None).unwrap();
        let timeouts = Timeouts {
            answer: Duration::from_secs(20),
            ..Timeouts::default()
        };
        let engine = HttpEngine::with_timeouts(endpoint, timeouts).unwrap();
        Self {
            engine,
            seen,
            directory,
        }
    }

    /// The last request that was no ping.
    pub(super) fn last(&self) -> Seen {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .rev()
            .find(|seen| !seen.line.contains("_ping"))
            .unwrap()
            .clone()
    }

    /// The last request's body, parsed.
    pub(super) fn sent(&self) -> serde_json::Value {
        serde_json::from_str(&self.last().body).unwrap()
    }
}

async fn serve(
    mut client: UnixStream,
    ping: &'static str,
    say: Arc<impl Fn(&str) -> Say>,
    noted: Arc<Mutex<Vec<Seen>>>,
) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if client.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let headers = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let length = headers.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().unwrap())
        });
        let chunked = headers
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        let end = loop {
            let last = buffer[head..]
                .windows(5)
                .position(|window| window == b"0\r\n\r\n");
            match (chunked, last) {
                (true, Some(at)) => break head + at + 5,
                (false, _) if buffer.len() >= head + length.unwrap_or(0) => {
                    break head + length.unwrap_or(0);
                }
                _ => {}
            }
            if client.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let body = String::from_utf8_lossy(&buffer[head..end]).into_owned();
        buffer.drain(..end);
        let line = headers.lines().next().unwrap().to_owned();
        let answer = if line.starts_with("GET /_ping ") {
            format!("HTTP/1.1 200 OK\r\n{ping}Content-Length: 2\r\n\r\nOK").into_bytes()
        } else {
            let said = say(&line);
            noted.lock().unwrap().push(Seen {
                line,
                headers,
                body,
            });
            match said {
                Say::Nothing => std::future::pending().await,
                Say::Raw(bytes) => {
                    drop(client.write_all(&bytes).await);
                    return;
                }
                Say::Answer(status, kind, body) => {
                    let mut answer = format!(
                        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    )
                    .into_bytes();
                    answer.extend(body);
                    answer
                }
            }
        };
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

pub(super) async fn text(mut output: crate::OutputStream) -> (String, Option<EngineError>) {
    let mut all = String::new();
    while let Some(item) = output.next().await {
        match item {
            Ok(chunk) => {
                let mark = if chunk.stream == StdStream::Stdout {
                    '1'
                } else {
                    '2'
                };
                all.push(mark);
                all.push_str(&String::from_utf8_lossy(&chunk.bytes));
            }
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}
