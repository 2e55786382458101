use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture};
use gantry_container::{
    ContainerSpec, ContainerState, EngineFacts, ImageInfo, Labels, NetworkSpec, VolumeSpec,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::EngineError;

/// An engine shared by all jobs that use the same endpoint.
pub type SharedEngine = Arc<dyn Engine>;

/// Which of a container's output streams bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StdStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a container's output; pieces may be any part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Stream.
    pub stream: StdStream,
    /// Bytes exactly as written by the container.
    pub bytes: Bytes,
}

/// Output pieces in order. The end of the stream says only that the stream ended, never that the container did; a cut connection is an `Err`.
pub type OutputStream = Pin<Box<dyn Stream<Item = Result<LogChunk, EngineError>> + Send>>;

/// Where engines cut long lines of a log.
pub const LOG_PIECE: usize = 16 * 1024;

/// Name under which attach output is passed.
pub type AttachOutput = OutputStream;
/// Name under which log replays are passed.
pub type LogStream = OutputStream;
/// Write side of an attach; `shutdown` half-closes it, which closes the container's stdin.
pub type AttachStdin = Pin<Box<dyn AsyncWrite + Send>>;
/// A tar archive to upload, pulled as the engine takes it.
pub type Archive = Pin<Box<dyn AsyncRead + Send>>;

/// Both ends of an attach made before the start of a container.
pub struct Attached {
    /// Write side.
    pub stdin: AttachStdin,
    /// Demultiplexed output.
    pub output: AttachOutput,
}

/// Byte streams of an exec: stdin and demultiplexed output.
pub struct ExecStream {
    /// Exec ID, for [`Engine::exec_exit_code`].
    pub id: String,
    /// Write side.
    pub stdin: AttachStdin,
    /// Demultiplexed output.
    pub output: OutputStream,
}

/// A command on a terminal of its own, for [`Engine::exec_terminal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalCommand {
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// `NAME=value` besides the container's own; the engine sets `TERM`.
    pub env: Vec<String>,
    /// Width in characters.
    pub columns: u16,
    /// Height in lines.
    pub rows: u16,
}

/// How a container ended, from `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitResult {
    /// Exit code.
    pub exit_code: i64,
}

/// A `wait` in force; resolves when the container's next run ends. An `Err` says nothing about the container: inspect decides.
pub type WaitHandle = BoxFuture<'static, Result<WaitResult, EngineError>>;

/// What happened to a container, from the engine's event stream. A speed-up, never the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// Kind.
    pub kind: EventKind,
    /// Container ID.
    pub container_id: String,
    /// Container name.
    pub container_name: String,
    /// Exit code, with [`EventKind::Die`].
    pub exit_code: Option<i64>,
}

/// Kinds of events the executor uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The container's process ended.
    Die,
    /// A process of the container was killed for memory.
    Oom,
    /// The container was removed.
    Destroy,
}

/// One line of pull progress.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// Layer ID, empty for lines about the whole image.
    pub id: String,
    /// E.g. `Downloading`.
    pub status: String,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all, 0 if unknown.
    pub total: u64,
}

/// Credentials for one registry. `Debug` shows the user name only.
#[derive(Clone)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// Registry address.
    pub server_address: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Which objects a listing returns: all labels must match (empty value: any value).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListFilter {
    /// Label key → value; an empty value matches any.
    pub labels: BTreeMap<String, String>,
    /// Name filter (networks: exact match is done by the caller).
    pub name: Option<String>,
}

/// One container of a listing, stopped ones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    /// ID.
    pub id: String,
    /// Name without leading slash.
    pub name: String,
    /// State word of the engine, e.g. `running`.
    pub state: String,
    /// Creation time, unix seconds.
    pub created: i64,
    /// Labels.
    pub labels: Labels,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeState {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Creation time by the engine's clock, unix seconds; `None` if it does not say.
    pub created: Option<i64>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkState {
    /// ID.
    pub id: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Creation time by the engine's clock, unix seconds; `None` if it does not say.
    pub created: Option<i64>,
    /// Containers attached (only inspect fills it): ID → name.
    pub containers: BTreeMap<String, String>,
}

/// The engine as jobs see it. Calls are safe to repeat; cancellation by dropping the future is safe but its effect unknown.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Endpoint for messages, e.g. `unix:///var/run/docker.sock`.
    fn host(&self) -> &str;
    /// Asks `_ping`; `Ok` when the engine answers. Cheap (0.1 ms).
    async fn ping(&self) -> Result<(), EngineError>;
    /// What the engine's own clock says, unix seconds: ages of its objects are told by it, not by the clock of this machine.
    async fn time(&self) -> Result<i64, EngineError>;
    /// Facts of the engine, asked once per connection and kept; re-asked after the engine was away.
    async fn facts(&self) -> Result<EngineFacts, EngineError>;

    /// Image by reference or ID; `None` when not present.
    async fn image_inspect(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError>;
    /// Pulls to the end of the progress stream. `progress` is called for each line and must not block.
    async fn image_pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        auth: Option<&RegistryAuth>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError>;
    /// Loads an image archive (`docker save` form); returns the loaded references or IDs.
    async fn image_load(&self, archive: Archive) -> Result<Vec<String>, EngineError>;
    /// Adds a name to an image.
    async fn image_tag(&self, image: &str, repo: &str, tag: &str) -> Result<(), EngineError>;

    /// Creates a volume or returns the existing one of that name.
    async fn volume_create(&self, spec: &VolumeSpec) -> Result<VolumeState, EngineError>;
    /// Volume by name; `None` when absent.
    async fn volume_inspect(&self, name: &str) -> Result<Option<VolumeState>, EngineError>;
    /// Volumes that match.
    async fn volume_list(&self, filter: &ListFilter) -> Result<Vec<VolumeState>, EngineError>;
    /// Removes a volume; absent is fine.
    async fn volume_remove(&self, name: &str, force: bool) -> Result<(), EngineError>;

    /// Creates a network and returns its ID. Names are not unique; where they are (Podman, Docker since API 1.44) one that is
    /// taken is [`EngineError::Conflict`].
    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError>;
    /// Network by ID or name with its containers; `None` when absent.
    async fn network_inspect(&self, id: &str) -> Result<Option<NetworkState>, EngineError>;
    /// Networks that match.
    async fn network_list(&self, filter: &ListFilter) -> Result<Vec<NetworkState>, EngineError>;
    /// Removes a network; absent is fine.
    async fn network_remove(&self, id: &str) -> Result<(), EngineError>;

    /// Creates a container and returns its ID; a name in use is [`EngineError::Conflict`].
    async fn container_create(
        &self,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError>;
    /// Container by ID or name; `None` when absent.
    async fn container_inspect(&self, id: &str) -> Result<Option<ContainerState>, EngineError>;
    /// Starts a container; already running is fine.
    async fn container_start(&self, id: &str) -> Result<(), EngineError>;
    /// Attaches stdin, stdout, stderr; call before start. Never asks for old logs.
    ///
    /// An attach made before the start and dropped again spoils the container: its stdin is closed and the next run reads an
    /// empty script (measured on Docker 20.10). A container of whose attach nothing is known must be made anew.
    async fn container_attach(&self, id: &str) -> Result<Attached, EngineError>;
    /// Puts a `wait?condition=next-exit` in force and returns it. On Docker the registration is confirmed before this returns,
    /// on Podman it cannot be (engine-mechanics §g). Register before start; never on an exited container.
    async fn container_wait(&self, id: &str) -> Result<WaitHandle, EngineError>;
    /// Output since the container was created, all runs, exact per stream (repaired where the log driver loses newlines,
    /// engine-mechanics §c); with `follow` goes on until the container ends.
    async fn container_logs(&self, id: &str, follow: bool) -> Result<LogStream, EngineError>;
    /// The same log entry by entry, as the engine keeps it: each chunk is `<RFC 3339 time> <text>`. Of a line longer than
    /// [`LOG_PIECE`] each piece is an entry, and all but the last have that length at least and no line break.
    async fn container_log_entries(&self, id: &str, follow: bool)
    -> Result<LogStream, EngineError>;
    /// Stops: TERM, grace, KILL. `None`: the container's own grace (10 s). Stopped already or absent is fine.
    async fn container_stop(&self, id: &str, grace: Option<Duration>) -> Result<(), EngineError>;
    /// Sends a signal by name, e.g. `KILL`; not running is [`EngineError::Conflict`], absent is fine.
    async fn container_kill(&self, id: &str, signal: &str) -> Result<(), EngineError>;
    /// Removes by force with anonymous volumes; absent or already being removed is fine.
    async fn container_remove(&self, id: &str) -> Result<(), EngineError>;
    /// Containers that match, stopped ones included.
    async fn container_list(
        &self,
        filter: &ListFilter,
    ) -> Result<Vec<ContainerSummary>, EngineError>;

    /// Unpacks a tar below `path` in the container, never replacing a directory by a file.
    async fn archive_put(&self, id: &str, path: &str, archive: Archive) -> Result<(), EngineError>;
    /// A path of the container as a tar, whose names begin with the last part of the path; `None` when it does not exist. The stream
    /// fails if the engine ends it early.
    async fn archive_get(&self, id: &str, path: &str) -> Result<Option<Archive>, EngineError>;
    /// Mode bits (Go's `os.FileMode` permission part, 0o7777) of a path in a container; `None` when it does not exist.
    async fn archive_mode(&self, id: &str, path: &str) -> Result<Option<u32>, EngineError>;

    /// Starts a command in a running container with its own streams.
    async fn exec(
        &self,
        id: &str,
        cmd: &[String],
        user: Option<&str>,
    ) -> Result<ExecStream, EngineError>;
    /// Starts a command on a terminal of its own in a running container, as the container's user. Its output is what the terminal
    /// shows, byte for byte, all of it [`StdStream::Stdout`].
    ///
    /// Dropping the streams does not end the command (measured on Docker 20.10): whoever leaves it behind must end it.
    async fn exec_terminal(
        &self,
        id: &str,
        command: &TerminalCommand,
    ) -> Result<ExecStream, EngineError>;
    /// Exit code of an exec, `None` while it runs.
    async fn exec_exit_code(&self, exec_id: &str) -> Result<Option<i64>, EngineError>;

    /// Container events of objects carrying the given label; ends or fails when the engine goes away.
    async fn events(
        &self,
        filter: &ListFilter,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<EngineEvent, EngineError>> + Send>>, EngineError>;
}
