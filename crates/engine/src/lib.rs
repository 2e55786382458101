//! The Docker and Podman Engine API behind one trait, in our own types.
//!
//! [`Engine`] is the seam: the HTTP client talks to a real engine, the scripted fake plays one in tests. No type of an HTTP or
//! engine library crosses it. Request bodies hold `Env` and are therefore never logged.
//!
//! * [`HttpEngine`] talks to an engine at an [`Endpoint`]; it hides the differences between Docker and Podman.
//! * [`events::EventHub`] shares one event stream among all jobs of an engine.
//! * [`credentials`] finds what a pull logs in with.
//! * `fake` (feature `fake`, tests only) is the scripted engine.

pub mod credentials;
mod endpoint;
mod error;
pub mod events;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod http;
mod interface;

pub use endpoint::Endpoint;
pub use error::EngineError;
pub use http::{HttpEngine, Timeouts};
pub use interface::{
    Archive, AttachOutput, AttachStdin, Attached, ContainerSummary, Engine, EngineEvent, EventKind,
    ExecStream, LOG_PIECE, ListFilter, LogChunk, LogStream, NetworkState, OutputStream,
    PullProgress, RegistryAuth, SharedEngine, StdStream, TerminalCommand, VolumeState, WaitHandle,
    WaitResult,
};
