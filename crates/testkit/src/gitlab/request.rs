//! What came over the wire.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use serde_json::Value;

/// The calls the stand-in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST jobs/request`
    RequestJob,
    /// `PUT jobs/:id`
    UpdateJob,
    /// `PATCH jobs/:id/trace`
    PatchTrace,
    /// `POST jobs/:id/artifacts`
    UploadArtifacts,
    /// `GET jobs/:id/artifacts`
    DownloadArtifacts,
    /// `GET` of an object that a direct download was sent to.
    Object,
    /// `POST runners`
    RegisterRunner,
    /// `POST runners/verify`
    VerifyRunner,
    /// `DELETE runners`
    UnregisterRunner,
    /// `DELETE runners/managers`
    UnregisterManager,
    /// `POST runners/reset_authentication_token`, also with a runner's id before it
    ResetToken,
    /// Anything else; answered with 404.
    Other,
}

impl Endpoint {
    /// Endpoint and job id of a request to `path` (below the server's root).
    pub(super) fn of(method: &Method, path: &str) -> (Self, Option<i64>) {
        if method.as_str() == "GET" && path.starts_with(super::artifacts::OBJECTS) {
            return (Self::Object, None);
        }
        let Some(path) = path.strip_prefix("/api/v4/") else {
            return (Self::Other, None);
        };
        let segments: Vec<&str> = path.split('/').collect();
        match (method.as_str(), segments.as_slice()) {
            ("POST", ["jobs", "request"]) => (Self::RequestJob, None),
            ("PUT", ["jobs", id]) => (Self::UpdateJob, id.parse().ok()),
            ("PATCH", ["jobs", id, "trace"]) => (Self::PatchTrace, id.parse().ok()),
            ("POST", ["jobs", id, "artifacts"]) => (Self::UploadArtifacts, id.parse().ok()),
            ("GET", ["jobs", id, "artifacts"]) => (Self::DownloadArtifacts, id.parse().ok()),
            ("POST", ["runners"]) => (Self::RegisterRunner, None),
            ("POST", ["runners", "verify"]) => (Self::VerifyRunner, None),
            ("DELETE", ["runners"]) => (Self::UnregisterRunner, None),
            ("DELETE", ["runners", "managers"]) => (Self::UnregisterManager, None),
            (
                "POST",
                ["runners", "reset_authentication_token"]
                | ["runners", _, "reset_authentication_token"],
            ) => (Self::ResetToken, None),
            (_, ["jobs", id, ..]) => (Self::Other, id.parse().ok()),
            _ => (Self::Other, None),
        }
    }
}

/// One request, kept for ever.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// Its place among all requests, from 0.
    pub number: usize,
    /// When its head was read.
    pub at: SystemTime,
    /// The same on the steady clock.
    pub instant: Instant,
    /// Where it came from; requests of one connection have the same.
    pub peer: SocketAddr,
    /// What it asked for.
    pub endpoint: Endpoint,
    /// Job id in the path.
    pub job: Option<i64>,
    /// HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body; empty if the connection was dropped before, or bodies are not kept.
    pub body: Bytes,
    /// Status answered; `None` while unanswered, or if the answer was lost on purpose.
    pub status: Option<u16>,
}

impl RecordedRequest {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON, `null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `Content-Range` of a trace patch: first byte and offset behind the last.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        let (start, end) = self.header("content-range")?.split_once('-')?;
        Some((start.parse().ok()?, end.parse::<u64>().ok()? + 1))
    }
}
