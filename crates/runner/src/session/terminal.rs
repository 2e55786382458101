//! An open terminal: what is typed goes to a shell in the build container, what that shows goes back.
//!
//! The shell ends with its container's run. The connection goes on as long as another stage is to run there, and gets a new shell
//! then; the peer's ends with the stage it was opened in (docker-executor §13 row 21).

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    Sink, SinkExt as _, Stream, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use gantry_engine::{ExecStream, SharedEngine, TerminalCommand};
use gantry_executor::{TerminalContainer, TerminalPlace};
use rand::Rng as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    time::{Instant, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    serve::{Connected, start_shell},
    wire::{Input, Wire},
};

/// How often a client is asked whether it is there, as the peer does.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A client that says nothing for so long, not even that it is there, is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(95);
/// How long a message may take to a client that does not read.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// How long the last output of a shell may take after its container ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// How long the end of a container may take after that of a shell which was killed.
const KILLED_LIMIT: Duration = Duration::from_secs(5);
/// How long a client may take to say good-bye.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How long telling a shell that its terminal is gone may take.
const HANG_UP_LIMIT: Duration = Duration::from_secs(10);
/// Exit code of a process that was killed, as one is whose container ends.
const KILLED: i64 = 137;

/// Size of a terminal: the subprotocols know none (docker-executor §7.7).
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// Says HUP to every process of a shell whose terminal is gone. They are known by a variable of theirs: the engine tells process
/// ids of the host only.
const HANG_UP: &str = r#"for p in /proc/[0-9]*; do
if tr '\000' '\n' < "$p/environ" | grep -qx "$1"; then kill -s HUP "${p#/proc/}"; fi
done 2>/dev/null"#;

/// What is said when the container of a terminal ends (docker-executor §7.7).
const CONTAINER_EXITED: &str = "build container exited";

/// A shell in a container.
pub(super) struct Shell {
    pub(super) container: TerminalContainer,
    pub(super) streams: ExecStream,
    /// What its processes are known by.
    pub(super) mark: String,
}

/// A terminal about to be served.
pub(super) struct Terminal {
    pub(super) wire: Wire,
    pub(super) place: watch::Receiver<TerminalPlace>,
    pub(super) connected: Connected,
}

/// Why a terminal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The client is gone.
    Left,
    /// The client is there no more, or does not read.
    Silent,
    /// The user ended the shell.
    ShellExited,
    /// Nothing more runs in the container.
    ContainerExited,
    /// The job wants it so.
    Dismissed(String),
    /// What the client sends is no message of the subprotocol.
    Garbled(&'static str),
    /// The engine gives no shell.
    NoShell(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("the client left"),
            Self::Silent => f.write_str("the client does not answer"),
            Self::ShellExited => f.write_str("the shell exited"),
            Self::ContainerExited => f.write_str(CONTAINER_EXITED),
            Self::Dismissed(reason) => f.write_str(reason),
            Self::Garbled(why) => f.write_str(why),
            Self::NoShell(error) => write!(f, "no shell: {error}"),
        }
    }
}

impl End {
    fn code(&self) -> CloseCode {
        match self {
            Self::Left
            | Self::Silent
            | Self::ShellExited
            | Self::ContainerExited
            | Self::Dismissed(_) => CloseCode::Normal,
            Self::Garbled(_) => CloseCode::Invalid,
            Self::NoShell(_) => CloseCode::Error,
        }
    }

    /// The shell may be at work still.
    fn leaves_shell(&self) -> bool {
        matches!(
            self,
            Self::Left | Self::Silent | Self::Dismissed(_) | Self::Garbled(_)
        )
    }
}

/// The command of a terminal in this container, and what its processes are known by.
pub(super) fn command(container: &TerminalContainer) -> (TerminalCommand, String) {
    let mark = format!("GANTRY_TERMINAL={:016x}", rand::rng().random::<u64>());
    let command = TerminalCommand {
        cmd: container.cmd.clone(),
        env: vec![mark.clone()],
        columns: COLUMNS,
        rows: ROWS,
    };
    (command, mark)
}

/// Tells a shell that its terminal is gone. Engines let it run on otherwise.
pub(super) async fn hang_up(shell: Shell) {
    let Shell {
        container: TerminalContainer { engine, id, .. },
        mark,
        streams,
    } = shell;
    drop(streams);
    let command = ["sh", "-c", HANG_UP, "sh", &mark].map(str::to_owned);
    let told = async {
        let mut exec = engine.exec(&id, &command, None).await?;
        while exec.output.next().await.transpose()?.is_some() {}
        Ok::<_, gantry_engine::EngineError>(())
    };
    match timeout(HANG_UP_LIMIT, told).await {
        Ok(Ok(())) | Err(_) => {}
        // Ended with its container.
        Ok(Err(error)) => {
            tracing::debug!(container = id, %error, "a terminal's shell is left alone");
        }
    }
}

impl Terminal {
    /// Serves it to its end.
    pub(super) async fn serve<S>(self, socket: WebSocketStream<S>, first: Shell) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (sink, source) = socket.split();
        let mut talk = Talk {
            sink,
            source,
            wire: self.wire,
            heard: Heard::default(),
        };
        let mut place = self.place;
        let mut shell = Some(first);
        let end = tokio::select! {
            biased;
            reason = self.connected.connection.dismissed() => End::Dismissed(reason),
            end = talk.through_shells(&mut place, &mut shell) => end,
        };
        if let Some(shell) = shell.filter(|_| end.leaves_shell()) {
            hang_up(shell).await;
        }
        // Before the good-bye: who hears that may be back at once.
        drop(self.connected);
        talk.close(&end).await;
        end
    }
}

/// When the client was heard last.
struct Heard(Mutex<Instant>);

impl Default for Heard {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Heard {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}

/// A connection with a client.
struct Talk<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    source: SplitStream<WebSocketStream<S>>,
    wire: Wire,
    heard: Heard,
}

/// Why a turn of a conversation ended.
enum Turn {
    /// The connection ends.
    End(End),
    /// The shell shows nothing more.
    ShellOver,
    /// The container is elsewhere on its way.
    Moved,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn through_shells(
        &mut self,
        place: &mut watch::Receiver<TerminalPlace>,
        shell: &mut Option<Shell>,
    ) -> End {
        loop {
            match self
                .turn(place, shell.as_mut().map(|shell| &mut shell.streams))
                .await
            {
                Turn::End(end) => return end,
                Turn::ShellOver => {
                    let ended = shell.as_ref().map(|shell| {
                        let id = shell.streams.id.clone();
                        (SharedEngine::clone(&shell.container.engine), id)
                    });
                    if let Some((engine, id)) = ended
                        && !was_killed(&engine, &id, place).await
                    {
                        return End::ShellExited;
                    }
                }
                Turn::Moved => {}
            }
            if let Some(mut ended) = shell.take()
                && let Err(end) = self.last_words(&mut ended.streams).await
            {
                return end;
            }
            match self.next_shell(place).await {
                Ok(next) => *shell = next,
                Err(end) => return end,
            }
        }
    }

    /// What the place of now has for the terminal: a shell, or nothing yet.
    async fn next_shell(
        &mut self,
        place: &mut watch::Receiver<TerminalPlace>,
    ) -> Result<Option<Shell>, End> {
        let now = place.borrow_and_update().clone();
        match now {
            TerminalPlace::Over => Err(End::ContainerExited),
            TerminalPlace::NotYet | TerminalPlace::Between => Ok(None),
            TerminalPlace::Running(container) => match start_shell(container).await {
                Ok(shell) => Ok(Some(shell)),
                // It ended again already; the place says what is next.
                Err(_) if place.has_changed().unwrap_or(false) => Ok(None),
                Err(error) => Err(End::NoShell(error.to_string())),
            },
        }
    }

    /// Both directions at once, until something else is to be done. Without a shell what is typed is lost.
    async fn turn(
        &mut self,
        place: &mut watch::Receiver<TerminalPlace>,
        shell: Option<&mut ExecStream>,
    ) -> Turn {
        let Self {
            sink,
            source,
            wire,
            heard,
        } = self;
        let (stdin, output) = match shell {
            Some(ExecStream { stdin, output, .. }) => (Some(stdin), Some(output)),
            None => (None, None),
        };
        tokio::select! {
            biased;
            // Also where nobody is left to tell: the job's task is gone.
            _ = place.changed() => Turn::Moved,
            end = from_client(source, stdin, *wire, heard) => Turn::End(end),
            turn = to_client(sink, output, *wire, heard) => turn,
        }
    }

    /// The rest of what a shell showed before its container ended, and that it did.
    async fn last_words(&mut self, streams: &mut ExecStream) -> Result<(), End> {
        let by = Instant::now() + DRAIN_LIMIT;
        while let Ok(Some(Ok(chunk))) = tokio::time::timeout_at(by, streams.output.next()).await {
            self.show(chunk.bytes).await?;
        }
        self.show(format!("\r\n{CONTAINER_EXITED}\r\n").into())
            .await
    }

    async fn show(&mut self, bytes: Bytes) -> Result<(), End> {
        send(&mut self.sink, self.wire.output(bytes)).await
    }

    /// Says why it ends, and good-bye.
    async fn close(&mut self, end: &End) {
        if matches!(end, End::Left) {
            // Answers a good-bye.
            timeout(CLOSE_LIMIT, self.sink.close()).await.ok();
            return;
        }
        let mut reason = end.to_string();
        if let End::Dismissed(_) | End::NoShell(_) = end {
            self.show(format!("\r\n{reason}\r\n").into()).await.ok();
        }
        // A control frame holds no more.
        reason.truncate(reason.floor_char_boundary(120));
        let frame = CloseFrame {
            code: end.code(),
            reason: reason.into(),
        };
        let bye = async {
            self.sink.send(Message::Close(Some(frame))).await?;
            while self.source.next().await.transpose()?.is_some() {}
            Ok::<_, Error>(())
        };
        timeout(CLOSE_LIMIT, bye).await.ok();
    }
}

/// Whether the shell ended because its container did. Waits for word of that.
async fn was_killed(
    engine: &SharedEngine,
    id: &str,
    place: &mut watch::Receiver<TerminalPlace>,
) -> bool {
    let code = engine.exec_exit_code(id).await;
    if let Ok(Some(code)) = code
        && code != KILLED
    {
        return false;
    }
    timeout(KILLED_LIMIT, place.changed()).await.is_ok()
}

/// What is typed goes to the shell, until the client leaves.
async fn from_client(
    source: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    mut stdin: Option<&mut (impl AsyncWrite + Unpin)>,
    wire: Wire,
    heard: &Heard,
) -> End {
    while let Some(Ok(message)) = source.next().await {
        heard.now();
        let bytes = match wire.input(message) {
            Input::Bytes(bytes) => bytes,
            Input::Nothing => continue,
            Input::Left => return End::Left,
            Input::Garbled(why) => return End::Garbled(why),
        };
        if let Some(stdin) = &mut stdin {
            // A shell that reads no more shows in its output's end.
            if stdin.write_all(&bytes).await.is_ok() {
                stdin.flush().await.ok();
            }
            // However long it took.
            heard.now();
        }
    }
    End::Left
}

/// What the shell shows goes to the client, and now and then a question whether it is there.
async fn to_client(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    mut output: Option<&mut gantry_engine::OutputStream>,
    wire: Wire,
    heard: &Heard,
) -> Turn {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    loop {
        let next = async {
            match &mut output {
                Some(output) => output.next().await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            chunk = next => match chunk {
                Some(Ok(chunk)) => wire.output(chunk.bytes),
                Some(Err(_)) | None => return Turn::ShellOver,
            },
            _ = pings.tick() => {
                if heard.silence() > SILENCE_LIMIT {
                    return Turn::End(End::Silent);
                }
                Message::Ping(Bytes::new())
            }
        };
        if let Err(end) = send(sink, message).await {
            return Turn::End(end);
        }
    }
}

async fn send(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    message: Message,
) -> Result<(), End> {
    match timeout(SEND_LIMIT, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left),
        Err(_) => Err(End::Silent),
    }
}
