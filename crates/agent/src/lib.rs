//! The messages between the executor and the helper agent, and how they look on the wire.
//!
//! The agent runs in the helper container from its start to the end of the job and does one *stage* (sources, cleanup, …) per
//! [`Run`]. The executor reaches it through an engine `exec` of `gantry-helper connect`, which joins its stdio with the agent's
//! unix socket (engine-mechanics §e). Connections are cheap and may break at any byte; stages and their output outlive them:
//!
//! * A connection begins with [`ToAgent::Hello`]; the agent answers [`ToRunner::Welcome`] or [`ToRunner::Refused`]. The highest
//!   generation is served, older connections are closed. Among equal ones the last to come wins.
//! * Everything is idempotent by the id of the stage attempt. [`ToAgent::Run`] of a known id only attaches.
//! * Output is two byte streams counted from 0. The agent keeps every byte until it is acknowledged ([`ToAgent::Ack`]); an attached
//!   connection gets all output from the offsets it named, in the order in which it was written, then [`StageState::Done`].
//! * Both sides speak their own version and the one before; [`negotiate`] picks.
//!
//! A whole exchange:
//! ```text
//! runner → Hello{protocol 1, oldest 1, generation 7}     agent → Welcome{protocol 1, hostname, …}
//! runner → Run{id "get_sources/1", from 0/0, request}    agent → State{id, running}, Output{id, stdout, 0, …}, …
//! runner → Ack{id, stdout, 512}                          agent → Output{…}, State{id, done{0, output 900/20}}
//! ```
//!
//! [`encode`] and [`Decoder`] do no I/O, so that the async executor and the threaded helper share them. This crate owns no state.

mod archives;
mod codec;
mod message;
mod protocol;
mod request;
mod secret;

pub use archives::{
    ArchiveCacheEntry, ArchiveCacheRequest, ArtifactEntry, Coordinator, Dependency,
    DownloadArtifactsRequest, EntryOutcome, EntryResult, Header, Line, LineKind, MultipartUpload,
    Provenance, RemoteSource, RestoreCacheRequest, RestoreCandidate, RestoreEntry, Selection,
    SignedUrl, UploadArtifactsRequest, UploadPart,
};
pub use codec::{CodecError, Decoder, Message, encode, encode_into, fuzz_decoder};
pub use message::{Hello, Offsets, Run, StageState, Stream, ToAgent, ToRunner, Welcome};
pub use protocol::{Incompatible, OLDEST_PROTOCOL, PROTOCOL, negotiate};
pub use request::{
    BaseUrl, ChangeOwnerRequest, CleanupRequest, ClearWorktreeRequest, FileVariable, GitStrategy,
    JobCleanup, ObjectFormat, SourcesRequest, StageRequest, Submodules, TlsFiles, Variable,
};
pub use secret::Secret;
