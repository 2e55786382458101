//! The raw streams of a job's log.

use serde::{Deserialize, Serialize};

/// The source key of the runner's own lines.
pub const RUNNER_SOURCE: &str = "runner";

/// One raw stream of a source (a container, or the runner itself).
///
/// Raw bytes are counted per source and stream. The log shows a stream by a two-digit id and `O`
/// or `E` (coordinator-api §11); both streams of a service share `0fO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stream {
    /// The runner's own lines, `00O`.
    #[serde(rename = "x")]
    Executor,
    /// Standard output of a stage, `01O`.
    #[serde(rename = "o")]
    Stdout,
    /// Standard error of a stage, `01E`.
    #[serde(rename = "e")]
    Stderr,
    /// Standard output of a service container, `0fO`.
    #[serde(rename = "so")]
    ServiceStdout,
    /// Standard error of a service container, `0fO` as the peer.
    #[serde(rename = "se")]
    ServiceStderr,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 5] = [
        Self::Executor,
        Self::Stdout,
        Self::Stderr,
        Self::ServiceStdout,
        Self::ServiceStderr,
    ];

    /// The three characters that name the stream in a timestamped line, such as `01O`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Executor => "00O",
            Self::Stdout => "01O",
            Self::Stderr => "01E",
            Self::ServiceStdout | Self::ServiceStderr => "0fO",
        }
    }
}
