use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use gantry_container::ContainerSpec;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc,
};

use crate::{StdStream, TerminalCommand};

/// What a container does when it runs: from a [`Run`] to an exit code.
#[derive(Clone)]
pub struct Program(pub(super) Arc<dyn Fn(Run) -> BoxFuture<'static, i64> + Send + Sync>);

/// One step of a program given as data.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads stdin to its end.
    ReadStdin,
    /// Writes to stdout.
    Stdout(Bytes),
    /// Writes to stderr.
    Stderr(Bytes),
    /// Lets time pass (tokio's clock).
    Sleep(Duration),
    /// Waits for any signal but `KILL` and goes on.
    AwaitSignal,
    /// Waits for ever; only `KILL` ends it.
    Hang,
    /// A process of the container is killed for memory.
    OomKill,
    /// Ends with this exit code; a program without it ends with 0.
    Exit(i64),
}

impl Program {
    /// From an async closure.
    pub fn new<F, Fut>(body: F) -> Self
    where
        F: Fn(Run) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = i64> + Send + 'static,
    {
        Self(Arc::new(move |run| Box::pin(body(run))))
    }

    /// Reads stdin to its end and exits.
    pub fn exit(code: i64) -> Self {
        Self::steps(vec![Step::ReadStdin, Step::Exit(code)])
    }

    /// Reads stdin to its end, prints to stdout and exits.
    pub fn print(text: &str, code: i64) -> Self {
        let text = Bytes::copy_from_slice(text.as_bytes());
        Self::steps(vec![Step::ReadStdin, Step::Stdout(text), Step::Exit(code)])
    }

    /// Runs until a signal comes; `TERM` ends it with 143 at once.
    pub fn serve() -> Self {
        Self::new(|mut run| async move {
            let signal = run.signal().await;
            if signal == "INT" { 130 } else { 143 }
        })
    }

    /// Runs for ever and ignores `TERM`, as a shell as PID 1 does; only `KILL` ends it (137).
    pub fn deaf() -> Self {
        Self::steps(vec![Step::Hang])
    }

    /// From data.
    pub fn steps(steps: Vec<Step>) -> Self {
        let steps = Arc::new(steps);
        Self::new(move |mut run| {
            let steps = Arc::clone(&steps);
            async move {
                for step in steps.iter() {
                    match step {
                        Step::ReadStdin => drop(run.read_stdin().await),
                        Step::Stdout(bytes) => run.stdout(bytes),
                        Step::Stderr(bytes) => run.stderr(bytes),
                        Step::Sleep(time) => tokio::time::sleep(*time).await,
                        Step::AwaitSignal => drop(run.signal().await),
                        Step::Hang => std::future::pending().await,
                        Step::OomKill => run.oom_kill(),
                        Step::Exit(code) => return *code,
                    }
                }
                0
            }
        })
    }

    /// One program per run of the container; the last one repeats.
    pub fn runs(programs: Vec<Self>) -> Self {
        Self(Arc::new(move |run| {
            let nth = (run.number as usize)
                .saturating_sub(1)
                .min(programs.len().saturating_sub(1));
            match programs.get(nth) {
                Some(program) => (program.0)(run),
                None => Box::pin(async { 0 }),
            }
        }))
    }
}

/// One run of a container, as its program sees it.
pub struct Run {
    /// Container name.
    pub name: String,
    /// Container ID.
    pub id: String,
    /// Which run of this container, from 1.
    pub number: u32,
    /// What it was created from, `Env` included.
    pub spec: ContainerSpec,
    pub(super) stdin: Stdin,
    pub(super) output: Output,
    pub(super) signals: mpsc::UnboundedReceiver<String>,
    pub(super) oom: Arc<dyn Fn() + Send + Sync>,
}

impl Run {
    /// Reads stdin to its end. A container that nobody attaches to waits; one that is not interactive gets nothing.
    pub async fn read_stdin(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read_stdin_chunk().await {
            all.extend_from_slice(&bytes);
        }
        all
    }

    /// The next piece of stdin; `None` at its end.
    pub async fn read_stdin_chunk(&mut self) -> Option<Bytes> {
        self.stdin.chunk().await
    }

    /// Writes to stdout.
    pub fn stdout(&self, bytes: impl AsRef<[u8]>) {
        self.output.write(StdStream::Stdout, bytes.as_ref());
    }

    /// Writes to stderr.
    pub fn stderr(&self, bytes: impl AsRef<[u8]>) {
        self.output.write(StdStream::Stderr, bytes.as_ref());
    }

    /// Waits for the next signal (without `SIG`); `KILL` never arrives here, it ends the run.
    pub async fn signal(&mut self) -> String {
        match self.signals.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Marks the run as one in which a process was killed for memory and sends the `oom` event.
    pub fn oom_kill(&self) {
        (self.oom)();
    }

    /// A handle to write output from another task.
    pub fn output(&self) -> Output {
        self.output.clone()
    }
}

/// Output of a run or an exec; writes to stdout as an [`AsyncWrite`], never blocks.
#[derive(Clone)]
pub struct Output {
    pub(super) sink: Arc<dyn Fn(StdStream, Bytes) + Send + Sync>,
}

impl Output {
    /// Writes to one of the streams.
    pub fn write(&self, stream: StdStream, bytes: &[u8]) {
        if !bytes.is_empty() {
            (self.sink)(stream, Bytes::copy_from_slice(bytes));
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(StdStream::Stdout, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Stdin of a run: the first attach that brings one; its end is the end (`StdinOnce`).
pub(super) struct Stdin {
    pub(super) offered: mpsc::UnboundedReceiver<DuplexStream>,
    pub(super) current: Option<DuplexStream>,
    pub(super) ended: bool,
}

impl Stdin {
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if self.current.is_none() {
            self.current = self.offered.recv().await;
        }
        if let Some(stream) = &mut self.current {
            let mut piece = vec![0; 16 * 1024];
            if let Ok(read @ 1..) = stream.read(&mut piece).await {
                piece.truncate(read);
                return Some(Bytes::from(piece));
            }
        }
        self.ended = true;
        self.current = None;
        None
    }
}

/// What happens on an exec: from an [`ExecRun`] to an exit code.
#[derive(Clone)]
pub struct ExecHandler(pub(super) Arc<dyn Fn(ExecRun) -> BoxFuture<'static, i64> + Send + Sync>);

impl ExecHandler {
    /// From an async closure.
    pub fn new<F, Fut>(body: F) -> Self
    where
        F: Fn(ExecRun) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = i64> + Send + 'static,
    {
        Self(Arc::new(move |run| Box::pin(body(run))))
    }

    /// Prints to stdout and exits.
    pub fn print(text: &str, code: i64) -> Self {
        let text = text.to_owned();
        Self::new(move |run| {
            run.stdout(&text);
            async move { code }
        })
    }
}

/// What an exec is asked for with.
pub(super) struct ExecCommand<'a> {
    pub(super) cmd: &'a [String],
    pub(super) user: Option<&'a str>,
    pub(super) terminal: Option<&'a TerminalCommand>,
}

/// One exec, as its handler sees it. It ends with the container at the latest.
pub struct ExecRun {
    /// Name of the container.
    pub container: String,
    /// ID of the container.
    pub container_id: String,
    /// Command.
    pub cmd: Vec<String>,
    /// User asked for.
    pub user: Option<String>,
    /// The terminal it was started on, if it was.
    pub terminal: Option<TerminalCommand>,
    pub(super) stdin: DuplexStream,
    pub(super) output: Output,
}

impl ExecRun {
    /// Writes to stdout.
    pub fn stdout(&self, bytes: impl AsRef<[u8]>) {
        self.output.write(StdStream::Stdout, bytes.as_ref());
    }

    /// Writes to stderr.
    pub fn stderr(&self, bytes: impl AsRef<[u8]>) {
        self.output.write(StdStream::Stderr, bytes.as_ref());
    }

    /// Stdin and stdout as the two halves of a byte stream, for code that speaks a protocol over it.
    pub fn into_io(self) -> (impl AsyncRead + Send + Unpin, Output) {
        (ExecStdin(self.stdin), self.output)
    }
}

/// Read side of an exec's stdin.
struct ExecStdin(DuplexStream);

impl AsyncRead for ExecStdin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncRead for ExecRun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_read(cx, buf)
    }
}
