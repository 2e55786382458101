//! A proxy before the engine's socket that records and breaks things.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
};

pub(crate) struct Proxy {
    pub(crate) path: PathBuf,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

struct State {
    engine: PathBuf,
    requests: Mutex<Vec<u8>>,
    connections: AtomicUsize,
    /// Connections that are open now.
    open: AtomicUsize,
    /// Takes requests and passes nothing on.
    hang: AtomicBool,
    /// Cuts each answer after so many bytes.
    cut_after: AtomicUsize,
    /// Cuts all open connections when it changes.
    cut: watch::Sender<u32>,
}

impl Proxy {
    pub(crate) fn new(engine: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let state = Arc::new(State {
            engine: engine.to_owned(),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            hang: AtomicBool::new(false),
            cut_after: AtomicUsize::new(usize::MAX),
            cut: watch::Sender::new(0),
        });
        let accepting = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                let state = Arc::clone(&accepting);
                tokio::spawn(async move {
                    state.open.fetch_add(1, Ordering::Relaxed);
                    pass(client, Arc::clone(&state)).await;
                    state.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            path,
            state,
            task,
            _directory: directory,
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// First lines of all requests so far.
    pub(crate) fn request_lines(&self) -> Vec<String> {
        let bytes = self.state.requests.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        text.lines()
            .filter(|line| line.ends_with(" HTTP/1.1"))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Waits until no more than so many connections are open.
    pub(crate) async fn until_open(&self, most: usize) {
        while self.state.open.load(Ordering::Relaxed) > most {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn hang(&self, hang: bool) {
        self.state.hang.store(hang, Ordering::Relaxed);
    }

    pub(crate) fn cut_after(&self, bytes: usize) {
        self.state.cut_after.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn cut_all(&self) {
        self.state.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: UnixStream, state: Arc<State>) {
    let mut cut = state.cut.subscribe();
    cut.mark_unchanged();
    let engine = UnixStream::connect(&state.engine).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            state
                .requests
                .lock()
                .unwrap()
                .extend_from_slice(&buffer[..read]);
            if state.hang.load(Ordering::Relaxed) {
                continue;
            }
            if to_engine.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
        drop(to_engine.shutdown().await);
    };
    let down = async {
        let mut passed = 0;
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_engine.read(&mut buffer).await {
            let limit = state.cut_after.load(Ordering::Relaxed);
            let here = read.min(limit.saturating_sub(passed));
            passed += here;
            if to_client.write_all(&buffer[..here]).await.is_err() || here < read {
                return;
            }
        }
        drop(to_client.shutdown().await);
    };
    tokio::select! {
        // The engine's end is the end; the client's only closes one direction.
        () = down => {}
        () = async { up.await; std::future::pending().await } => {}
        _ = cut.changed() => {}
    }
}
