//! The coordinator protocol: how a runner speaks with a GitLab server.
//!
//! [`Coordinators`] makes [`Coordinator`]s, which ask for jobs ([`Coordinator::request_job`]) and make the calls of a running
//! job ([`JobCalls`]), and speak for the runner itself ([`Coordinator::verify_runner`] and its like). On top of those two calls [`TraceUpload`] delivers a job's log and final state, and hears from the
//! server whether the job shall go on. Everything that decides is pure and has tests as tables: what an answer means
//! (`answer`), when to repeat a call (`retry`), what to send next ([`Delivery`]), whether to poll at all ([`RunnerHealth`]).
//!
//! | Module | Owns |
//! |---|---|
//! | `coordinator`, `registration` | the calls, their bodies, the peer's log lines |
//! | `client`, `tls`, `base_url` | connections, trust, the address |
//! | `answer`, `retry` | pure: status and headers to outcome; pauses |
//! | `job_calls`, `job_request`, `call`, `info`, `product` | the types on the seam |
//! | `trace_upload` | one job's delivery |
//! | `health` | the pause of a refused runner |
//!
//! Peer behaviour: coordinator-api §1, §3 to §8, §12, §13. Deviations are named where they are made.

mod answer;
mod base_url;
mod call;
mod client;
mod coordinator;
mod health;
mod info;
mod job_calls;
mod job_request;
mod outside;
mod product;
mod registration;
mod retry;
mod tls;
mod trace_upload;

pub use call::{CallFailure, CallObserver, CallRecord, ClientError, Endpoint};
pub use client::Connection;
pub use coordinator::{Coordinator, Coordinators};
pub use health::{HealthSettings, Poll, RunnerHealth};
pub use info::{Features, InfoConfig, RunnerInfo};
pub use job_calls::{
    AbortReason, JobCalls, JobCredentials, JobReply, JobUpdate, PatchAnswer, Retry, TraceExtent,
    TracePatch, UpdateAnswer, Verdict,
};
pub use job_request::{
    JobRequest, JobRequestAnswer, JobRequestReply, Payload, ReceivedJob, SessionInfo, TlsData,
    UnreadableJob,
};
pub use outside::{outside_client, outside_client_trusting};
pub use product::Product;
pub use registration::{RegisteredRunner, RegistrationSettings, Verified, is_created_token};
pub use tls::TlsFiles;
pub use trace_upload::{
    Delivery, FinalOutcome, FinalPolicy, NextPatch, RunEnd, ServerWish, TraceSource, TraceUpload,
    UploadBudget, UploadSettings,
};
