//! A tap in the line to the engine: sees requests, and can cut the line.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What a client sent over one connection.
type Recording = Arc<Mutex<Vec<u8>>>;

/// A socket of its own, behind which the engine's is. Goes with its last handle.
pub(crate) struct Tap {
    path: PathBuf,
    engine: String,
    seen: Arc<Mutex<Vec<Recording>>>,
    task: Option<JoinHandle<()>>,
}

/// A request of the program to the engine.
#[derive(Debug, Clone)]
pub(crate) struct EngineRequest {
    /// Method and path without version, e.g. `POST /containers/create?name=x`.
    pub(crate) line: String,
    /// Its body, if that is JSON.
    pub(crate) body: Value,
}

impl Tap {
    /// A tap in this folder, in front of an engine at a unix socket; `None` if it is elsewhere.
    pub(crate) async fn start(folder: &Path, engine: &str) -> Option<Self> {
        let engine = engine.strip_prefix("unix://")?.to_owned();
        let mut tap = Self {
            path: folder.join("engine.sock"),
            engine,
            seen: Arc::default(),
            task: None,
        };
        tap.up();
        Some(tap)
    }

    /// `host` for a configuration.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Cuts all connections and refuses new ones.
    pub(crate) async fn down(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            task.await.ok();
        }
        std::fs::remove_file(&self.path).ok();
    }

    /// Listens (again).
    pub(crate) fn up(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("a socket in a temporary folder");
        let (seen, engine) = (Arc::clone(&self.seen), self.engine.clone());
        self.task = Some(tokio::spawn(async move {
            // Connections end with the set.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let record = Arc::new(Mutex::new(Vec::new()));
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Arc::clone(&record));
                let engine = engine.clone();
                connections.spawn(async move {
                    if let Ok(server) = UnixStream::connect(engine).await {
                        let (from_client, to_client) = client.into_split();
                        let (from_server, to_server) = server.into_split();
                        tokio::join!(
                            pass(from_client, to_server, Some(record)),
                            pass(from_server, to_client, None)
                        );
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// All requests whose line begins so, in no particular order between connections.
    pub(crate) fn requests(&self, begin: &str) -> Vec<EngineRequest> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for bytes in seen.iter() {
            requests_of(
                &bytes.lock().unwrap_or_else(PoisonError::into_inner),
                &mut found,
            );
        }
        found.retain(|request| request.line.starts_with(begin));
        found
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, record: Option<Recording>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if let Some(record) = &record {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.extend_from_slice(&buffer[..length]);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
}

/// Takes the requests of one connection apart; ends where it stops being plain HTTP.
fn requests_of(mut bytes: &[u8], found: &mut Vec<EngineRequest>) {
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let header = |name: &str| {
            head.split("\r\n").find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let mut body = Vec::new();
        if let Some(length) = header("content-length").and_then(|text| text.parse().ok()) {
            let length = usize::min(length, bytes.len());
            body.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
        } else if header("transfer-encoding").is_some() {
            while let Some(end) = find(bytes, b"\r\n") {
                let size = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
                let from = (end + 2).min(bytes.len());
                let to = (from + size).min(bytes.len());
                body.extend_from_slice(&bytes[from..to]);
                bytes = &bytes[(to + 2).min(bytes.len())..];
                if size == 0 {
                    break;
                }
            }
        }
        let (method, path) = line.split_once(' ').unwrap_or_default();
        let path = path.split(' ').next().unwrap_or_default();
        // `/v1.41/containers/…`
        let path = match path
            .strip_prefix("/v")
            .and_then(|rest| rest.split_once('/'))
        {
            Some((version, rest)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
                format!("/{rest}")
            }
            _ => path.to_owned(),
        };
        found.push(EngineRequest {
            line: format!("{method} {path}"),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        });
        if header("upgrade").is_some() {
            return;
        }
    }
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|found| found == word)
}
