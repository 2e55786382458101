//! What the server knows and how it answers; no I/O.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};

use super::registration::Registrations;
use super::{Fault, JobRecord, RecordedRequest, RecordedUpdate, ServerJobState};
use crate::JobBuilder;

/// The server's memory.
pub(super) struct Book {
    pub(super) jobs: BTreeMap<i64, JobRecord>,
    pub(super) queue: VecDeque<i64>,
    pub(super) requests: Vec<RecordedRequest>,
    pub(super) faults: Vec<Fault>,
    pub(super) runner_tokens: HashSet<String>,
    pub(super) update_interval: Option<String>,
    pub(super) accept_final: u32,
    pub(super) keep_bodies: bool,
    pub(super) direct_download: bool,
    /// Opaque value of the queue; changes with it.
    pub(super) queue_version: u64,
    pub(super) url: String,
    pub(super) registrations: Registrations,
    next_id: i64,
}

/// An answer before it is put on the wire.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// JSON body.
    pub(super) body: Option<Bytes>,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: None,
        }
    }

    pub(super) fn message(status: u16, message: &str) -> Self {
        let body = json!({ "message": message }).to_string();
        Self {
            body: Some(body.into()),
            ..Self::new(status)
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Outcome of a job request.
pub(super) enum Asked {
    Answer(Reply),
    /// Nothing to do and the runner knows the queue: may be held.
    Hold,
}

impl Book {
    pub(super) fn new(runner_token: &str) -> Self {
        Self {
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            requests: Vec::new(),
            faults: Vec::new(),
            runner_tokens: HashSet::from([runner_token.to_owned()]),
            update_interval: None,
            accept_final: 0,
            keep_bodies: true,
            direct_download: false,
            queue_version: 1,
            url: String::new(),
            registrations: Registrations::default(),
            next_id: 8_812_345,
        }
    }

    pub(super) fn enqueue(&mut self, job: &JobBuilder) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        let token = format!("glcbt-64_testkitJobToken{id}");
        let payload = job.build(id, &token, &self.url);
        let payload = serde_json::to_vec(&payload).expect("a payload");
        self.enqueue_record(JobRecord::new(
            id,
            job.name().to_owned(),
            token,
            payload.into(),
        ))
    }

    pub(super) fn enqueue_raw(&mut self, id: i64, token: &str, payload: Bytes) -> i64 {
        self.next_id = self.next_id.max(id + 1);
        self.enqueue_record(JobRecord::new(id, String::new(), token.to_owned(), payload))
    }

    fn enqueue_record(&mut self, mut record: JobRecord) -> i64 {
        let id = record.id;
        record.accepts_left = self.accept_final;
        self.jobs.insert(id, record);
        self.queue.push_back(id);
        self.queue_version += 1;
        id
    }

    /// `POST jobs/request`.
    pub(super) fn request_job(&mut self, request: &RecordedRequest, body: &Bytes) -> Asked {
        let Ok(asked) = serde_json::from_slice::<Value>(body) else {
            return Asked::Answer(Reply::message(400, "400 Bad request - body is no JSON"));
        };
        let token = asked["token"].as_str().unwrap_or_default();
        if !self.runner_tokens.contains(token) || request.header("runner-token") != Some(token) {
            return Asked::Answer(Reply::message(403, "403 Forbidden"));
        }
        if request.header("content-type").map(media_type) != Some("application/json") {
            return Asked::Answer(Reply::message(415, "415 Unsupported Media Type"));
        }
        let Some(id) = self.queue.pop_front() else {
            if asked["last_update"].as_str() == Some(&self.queue_version.to_string()) {
                return Asked::Hold;
            }
            return Asked::Answer(self.no_job());
        };
        self.queue_version += 1;
        let version = self.queue_version;
        let Some(job) = self.jobs.get_mut(&id) else {
            return Asked::Answer(self.no_job());
        };
        job.handed_out_at = Some(SystemTime::now());
        let features = &asked["info"]["features"];
        job.state = if features["two_phase_job_commit"] == true {
            ServerJobState::HandedOut
        } else {
            job.running_at = job.handed_out_at;
            ServerJobState::Running
        };
        let mut reply = Reply::new(201).header("X-GitLab-Last-Update", version.to_string());
        reply.body = Some(job.payload.clone());
        Asked::Answer(reply)
    }

    pub(super) fn no_job(&self) -> Reply {
        Reply::new(204).header("X-GitLab-Last-Update", self.queue_version.to_string())
    }

    /// `PUT jobs/:id`.
    pub(super) fn update_job(&mut self, request: &RecordedRequest, body: &Bytes) -> Reply {
        let Ok(asked) = serde_json::from_slice::<Value>(body) else {
            return Reply::message(400, "400 Bad request - body is no JSON");
        };
        let interval = self.update_interval.clone();
        let Some(job) = request.job.and_then(|id| self.jobs.get_mut(&id)) else {
            return Reply::message(404, "404 Not found");
        };
        let token = asked["token"].as_str().unwrap_or_default();
        let reply = if token != job.token || request.header("job-token") != Some(token) {
            Reply::message(403, "403 Forbidden")
        } else {
            decide_update(job, &asked)
        };
        job.updates.push(RecordedUpdate {
            state: asked["state"].as_str().unwrap_or_default().to_owned(),
            status: reply.status,
            instant: Instant::now(),
            body: asked,
        });
        with_interval(reply, interval)
    }

    /// `PATCH jobs/:id/trace`.
    pub(super) fn patch_trace(&mut self, request: &RecordedRequest, body: &Bytes) -> Reply {
        let interval = self.update_interval.clone();
        let Some(job) = request.job.and_then(|id| self.jobs.get_mut(&id)) else {
            return Reply::message(404, "404 Not found");
        };
        with_interval(decide_patch(job, request, body), interval)
    }
}

fn with_interval(reply: Reply, interval: Option<String>) -> Reply {
    match interval {
        Some(interval) => reply.header("X-GitLab-Trace-Update-Interval", interval),
        None => reply,
    }
}

fn decide_update(job: &mut JobRecord, asked: &Value) -> Reply {
    use ServerJobState::{Canceled, Canceling, Failed, HandedOut, Pending, Running, Success};
    let wanted = match asked["state"].as_str() {
        Some("running") => Running,
        Some("success") => Success,
        Some("failed") => Failed,
        _ => return Reply::message(400, "state does not have a valid value"),
    };
    let status = match (job.state, wanted) {
        (Pending | Canceled | Success | Failed, _) => 403,
        (HandedOut, Running) => {
            job.state = Running;
            job.running_at = Some(SystemTime::now());
            200
        }
        (Running | Canceling, Running) => 200,
        (HandedOut | Running | Canceling, _) => {
            let output = &asked["output"];
            let validates = output["checksum"].as_str().is_none_or(|checksum| {
                let crc = crc32fast::hash(&job.trace);
                let size = output["bytesize"].as_u64().unwrap_or(0);
                checksum == format!("crc32:{crc:08x}") && size == job.trace.len() as u64
            });
            if !validates {
                job.trace.clear();
                job.resets += 1;
                412
            } else if job.accepts_left > 0 {
                job.accepts_left -= 1;
                202
            } else {
                job.failure_reason = asked["failure_reason"].as_str().map(str::to_owned);
                job.exit_code = asked["exit_code"].as_i64();
                let last = if job.state == Canceling {
                    Canceled
                } else {
                    wanted
                };
                job.finish(last);
                200
            }
        }
    };
    let mut reply = Reply::new(status);
    if status == 403 {
        reply = Reply::message(403, "403 Forbidden  - Job is not processing on runner");
    }
    reply.header("Job-Status", job.state.as_str())
}

fn decide_patch(job: &mut JobRecord, request: &RecordedRequest, body: &Bytes) -> Reply {
    if request.header("job-token") != Some(&job.token) {
        return Reply::message(403, "403 Forbidden");
    }
    let status = job.state.as_str();
    if !matches!(
        job.state,
        ServerJobState::Running | ServerJobState::Canceling
    ) {
        return Reply::message(403, "403 Forbidden  - Job is not processing on runner")
            .header("Job-Status", status);
    }
    if request.header("content-type").map(media_type) != Some("text/plain") {
        return Reply::message(400, "400 Bad request - content type must be text/plain");
    }
    let Some((start, end)) = request.range() else {
        return Reply::message(400, "400 Bad request - Missing header Content-Range");
    };
    if end.checked_sub(start) != Some(body.len() as u64) || body.is_empty() {
        return Reply::message(400, "400 Bad request - range and length differ");
    }
    let stored = job.trace.len() as u64;
    if start != stored {
        return Reply::new(416)
            .header("Range", format!("0-{stored}"))
            .header("Job-Status", status);
    }
    job.trace.extend_from_slice(body);
    job.patches += 1;
    Reply::new(202)
        .header("Range", format!("0-{end}"))
        .header("Job-Status", status)
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}
