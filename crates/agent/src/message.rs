//! What the two sides say to each other.

use serde::{Deserialize, Serialize};

use crate::{
    archives::EntryResult,
    protocol::{OLDEST_PROTOCOL, PROTOCOL},
    request::StageRequest,
};

/// One of the two output streams of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Byte counts of the two streams of a stage, from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Offsets {
    /// Bytes of standard output.
    #[serde(default)]
    pub stdout: u64,
    /// Bytes of standard error.
    #[serde(default)]
    pub stderr: u64,
}

impl Offsets {
    /// The count of one stream.
    pub fn get(self, stream: Stream) -> u64 {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    /// Sets the count of one stream.
    pub fn set(&mut self, stream: Stream, offset: u64) {
        match stream {
            Stream::Stdout => self.stdout = offset,
            Stream::Stderr => self.stderr = offset,
        }
    }
}

/// How far a stage attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StageState {
    /// The agent never heard of this id: nothing of the attempt has been done by this agent.
    Unknown,
    /// It runs.
    Running,
    /// It is over.
    Done {
        /// 0, the status of the command that failed, 128 + signal of a killed one, or 1 where the helper itself failed.
        exit_code: i32,
        /// What failed, for people: names the command or file. `None` exactly if all went well. Failures of the helper itself
        /// were also printed to the stage's stderr; of a failing command its own output is what the log shows.
        #[serde(default)]
        error: Option<String>,
        /// Total length of the output. An attached connection has been sent all of it before this message.
        #[serde(default)]
        output: Offsets,
        /// What became of the entries of a stage that has such; at most the first 40.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<EntryResult>,
    },
}

/// The first message of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Newest protocol version of the runner.
    pub protocol: u32,
    /// Oldest protocol version of the runner.
    pub oldest: u32,
    /// Grows with every runner process (and may grow with every connection) of a job. A connection with a lower number than one
    /// seen before is refused; otherwise it takes over and older connections are closed.
    pub generation: u64,
}

impl Hello {
    /// The hello of this build.
    pub fn new(generation: u64) -> Self {
        Self {
            protocol: PROTOCOL,
            oldest: OLDEST_PROTOCOL,
            generation,
        }
    }
}

/// Starts a stage attempt, or attaches to it if its id is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Stage and attempt, such as `get_sources/2`. Unique in the job.
    pub id: String,
    /// What the runner already holds; output is sent from there.
    #[serde(default)]
    pub from: Offsets,
    /// What to do.
    pub request: StageRequest,
}

/// From the runner to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    /// Must come first. Answered by [`ToRunner::Welcome`] or [`ToRunner::Refused`].
    Hello(Hello),
    /// Start or attach. Answered by the state, then output as it comes, then [`StageState::Done`].
    Run(Box<Run>),
    /// Attach without a request: what [`ToAgent::Run`] does for a known id. An unknown one is answered by
    /// [`StageState::Unknown`], and nothing is started.
    Attach {
        /// Stage attempt.
        id: String,
        /// What the runner already holds.
        #[serde(default)]
        from: Offsets,
    },
    /// Ask for the state only; answered at once. (Of a stage that is attached here and over, [`StageState::Done`] comes once, after
    /// the output.)
    Query {
        /// Stage attempt.
        id: String,
    },
    /// The runner holds the output up to here (durably) and will never ask for it again. Offsets may only grow; lower ones and
    /// ones beyond the output are ignored.
    Ack {
        /// Stage attempt.
        id: String,
        /// Stream.
        stream: Stream,
        /// Bytes held, from the start of the stage.
        offset: u64,
    },
    /// End a running stage: TERM to the process group of its command, KILL 5 s later; no further command is begun. Answered by
    /// the state; an attached connection gets [`StageState::Done`] when it is over.
    Cancel {
        /// Stage attempt.
        id: String,
    },
    /// End all stages and then the agent.
    Shutdown,
}

/// What the agent tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both will speak from here on.
    pub protocol: u32,
    /// Version of the helper program.
    pub helper_version: String,
    /// Host name inside the helper container (`Running on <hostname> via …`).
    pub hostname: String,
    /// What `git --version` says (`git version 2.39.5`); `None` if there is no git or it did not answer yet.
    #[serde(default)]
    pub git_version: Option<String>,
}

/// From the agent to the runner.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToRunner {
    /// The connection is served.
    Welcome(Welcome),
    /// Part of a stage's output. Consecutive per stream: `offset` continues where the one before ended, and the first one begins
    /// at the offset asked for (or later, if that much had been acknowledged).
    Output {
        /// Stage attempt.
        id: String,
        /// Stream.
        stream: Stream,
        /// Place of the first byte, from the start of the stage.
        offset: u64,
        /// The bytes, raw on the wire. At most 64 KiB.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
    /// State of a stage.
    State {
        /// Stage attempt.
        id: String,
        /// State.
        #[serde(flatten)]
        state: StageState,
    },
    /// The connection is not served, and closed after this.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

impl std::fmt::Debug for ToRunner {
    /// Output shows its length only: it is not masked yet.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Welcome(welcome) => welcome.fmt(f),
            Self::Output {
                id,
                stream,
                offset,
                bytes,
            } => {
                write!(
                    f,
                    "Output {{ id: {id:?}, stream: {stream:?}, offset: {offset}, {} bytes }}",
                    bytes.len()
                )
            }
            Self::State { id, state } => f
                .debug_struct("State")
                .field("id", id)
                .field("state", state)
                .finish(),
            Self::Refused { reason } => f.debug_struct("Refused").field("reason", reason).finish(),
        }
    }
}
