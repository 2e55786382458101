//! Stand-ins for the world around a runner; for tests and benches only.
//!
//! * [`FakeGitLab`]: a GitLab server as a runner sees it. It behaves like a real one (two-phase hand-out, range checks,
//!   checksum validation, cancel states, long poll), keeps every request and every byte of log, and does wrong what a test
//!   tells it to ([`Fault`]).
//! * [`JobBuilder`]: complete job payloads.
//! * [`GitHttp`]: bare repositories over HTTP with a password, and a builder for small ones.
//! * [`FakeVault`]: a server of secrets.
//! * `s3::S3Server` (feature `s3`): a bucket for caches that checks signatures.
//! * [`Proxy`]: a forward proxy that keeps what it was asked for.
//! * [`TestCa`]: certificates for servers and clients.
//! * [`Podman`]: an engine of a test's own.
//! * [`ForeignServer`]: other people's servers, [`OpenBao`], [`Azurite`] and [`git::LfsServer`] among them.
//!
//! Nothing in here shares types with the code under test: payloads are JSON, answers are bytes. What a test reads here is
//! what went over the wire. Waiting is for facts ([`FakeGitLab::wait_for`]), never for time.
//!
//! The program `gantry-testkit` runs a [`FakeGitLab`] alone, for benches.

mod azurite;
mod certificates;
mod foreign;
pub mod git;
pub mod gitlab;
mod http;
mod job_builder;
mod openbao;
mod podman;
mod proxy;
#[cfg(feature = "s3")]
pub mod s3;
mod vault;

pub use azurite::Azurite;
pub use certificates::{Identity, TestCa};
pub use foreign::ForeignServer;
pub use git::{GitHttp, Repository, RepositoryBuilder};
pub use gitlab::{
    Answer, Endpoint, FakeGitLab, FakeGitLabBuilder, Fault, JobRecord, RecordedRequest,
    RecordedUpdate, ServerJobState, StoredArtifact,
};
pub use job_builder::{JobBuilder, ServiceBuilder};
pub use openbao::OpenBao;
pub use podman::Podman;
pub use proxy::Proxy;
pub use vault::{FakeVault, VaultRequest};
