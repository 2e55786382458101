//! The calls themselves: from a runner's question to the server's answer as a type.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use gantry_job::{FailureReason, JobPayload, Secret};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use rustls::RootCertStore;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use tracing::{debug, error, info, warn};

use crate::answer::{error_message, is_json, job_status, patch_reply, update_reply};
use crate::client::{Connection, HttpClient, Request, Response, json_headers};
use crate::retry::ATTEMPTS;
use crate::tls::system_roots;
use crate::{
    CallFailure, CallObserver, ClientError, Endpoint, JobCalls, JobCredentials, JobReply,
    JobRequest, JobRequestAnswer, JobRequestReply, JobUpdate, PatchAnswer, Payload, Product,
    ReceivedJob, Retry, RunnerInfo, SessionInfo, TracePatch, UnreadableJob, UpdateAnswer,
};

/// Makes clients, one per url, token and TLS files (coordinator-api §1): entries and jobs of the same server share
/// connections and the server's `last_update`. A client lives as long as somebody holds it.
pub struct Coordinators {
    product: Product,
    observer: Option<Arc<dyn CallObserver>>,
    roots: OnceLock<Arc<RootCertStore>>,
    clients: Mutex<Vec<(Connection, Weak<Inner>)>>,
}

impl Coordinators {
    /// No clients yet. Every call of theirs will be told to `observer`.
    #[must_use]
    pub fn new(product: Product, observer: Option<Arc<dyn CallObserver>>) -> Self {
        Self {
            product,
            observer,
            roots: OnceLock::new(),
            clients: Mutex::default(),
        }
    }

    /// The client for `connection`, shared with all who asked for the same. Opens nothing yet, but reads TLS files.
    ///
    /// # Errors
    /// The URL cannot be used, or the HTTP stack refuses its settings. Counts against the runner's health.
    pub fn get(&self, connection: &Connection) -> Result<Coordinator, ClientError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|(_, client)| client.strong_count() > 0);
        let known = clients
            .iter()
            .find(|(of, _)| of.same_client(connection))
            .and_then(|(_, client)| client.upgrade());
        if let Some(inner) = known {
            return Ok(Coordinator { inner });
        }
        let roots = Arc::clone(self.roots.get_or_init(system_roots));
        let observer = self.observer.clone();
        let inner = Arc::new(Inner {
            http: HttpClient::new(connection, &self.product, roots, observer)?,
            connection: connection.clone(),
            token: connection.token.clone(),
            runner: Arc::clone(&connection.runner),
            last_update: Mutex::default(),
        });
        clients.push((connection.clone(), Arc::downgrade(&inner)));
        Ok(Coordinator { inner })
    }
}

/// Client of one GitLab server for one runner token. Cheap to clone; clones share everything.
///
/// Every call can be aborted, in its waits too, by dropping its future.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    http: HttpClient,
    connection: Connection,
    token: SecretString,
    runner: Arc<str>,
    last_update: Mutex<Option<String>>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").finish_non_exhaustive()
    }
}

impl Coordinator {
    /// The token it speaks with.
    pub(crate) fn token(&self) -> &str {
        self.inner.token.expose_secret()
    }

    /// The part of the token that may be shown.
    pub(crate) fn short_token(&self) -> &str {
        &self.inner.runner
    }

    /// One call and its answer, whatever it says.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, CallFailure> {
        self.inner.http.call(request).await.result
    }

    /// Whether [`Coordinators::get`] would give this one for `connection`, as long as somebody holds it.
    #[must_use]
    pub fn is_for(&self, connection: &Connection) -> bool {
        self.inner.connection.same_client(connection)
    }

    /// `POST jobs/request`. May take as long as the server holds it (about 50 s), so race it with whatever ends the wait.
    ///
    /// If the future is dropped while a job is on its way, the job is never confirmed and the server takes it back.
    pub async fn request_job(&self, request: &JobRequest) -> JobRequestReply {
        const ENDPOINT: Endpoint = Endpoint::RequestJob;
        let last_update = if request.echo_last_update {
            self.last_update()
        } else {
            None
        };
        let body = JobRequestBody {
            info: &request.info,
            token: self.inner.token.expose_secret(),
            system_id: &request.system_id,
            last_update,
            session: request.session.as_ref(),
        };
        let call = Request {
            endpoint: ENDPOINT,
            path: "jobs/request".to_owned(),
            auth: (
                "runner-token",
                token_header(self.inner.token.expose_secret()),
            ),
            headers: json_headers(true),
            body: json(&body),
            body_on: Some(201),
            attempts: ATTEMPTS,
        };
        let retried = self.inner.http.call(&call).await;
        let answer = match retried.result {
            Ok(response) => {
                self.remember_last_update(&response.headers);
                self.job_answer(ENDPOINT, response).await
            }
            Err(failure) => JobRequestAnswer::Failed(failure),
        };
        log_job_answer(&answer);
        JobRequestReply {
            answer,
            throttled: retried.throttled,
        }
    }

    async fn job_answer(&self, endpoint: Endpoint, response: Response) -> JobRequestAnswer {
        match response.status {
            201 if !is_json(&response.headers) => {
                JobRequestAnswer::Failed(response.wrong_type(endpoint))
            }
            201 => match JobPayload::from_slice(&response.body) {
                Ok(job) => JobRequestAnswer::Job(Box::new(ReceivedJob {
                    job,
                    payload: Payload(response.body),
                    correlation_id: response.correlation_id,
                    tls: self.inner.http.tls_data().await,
                })),
                Err(error) => JobRequestAnswer::Unreadable(Box::new(UnreadableJob {
                    credentials: credentials(&response.body),
                    error: error.to_string(),
                    correlation_id: response.correlation_id,
                })),
            },
            204 => JobRequestAnswer::NoJob,
            403 => JobRequestAnswer::Forbidden {
                message: error_message(&response.headers, &response.body),
            },
            503 => JobRequestAnswer::Unavailable,
            _ => JobRequestAnswer::Failed(response.failure(endpoint)),
        }
    }

    fn last_update(&self) -> Option<String> {
        let last = &self.inner.last_update;
        last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember_last_update(&self, headers: &HeaderMap) {
        let value = headers
            .get("x-gitlab-last-update")
            .and_then(|value| value.to_str().ok())
            .filter(|value| !value.is_empty());
        if let Some(value) = value {
            let last = &self.inner.last_update;
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.to_owned());
        }
    }
}

impl JobCalls for Coordinator {
    async fn update_job(&self, job: &JobCredentials, update: &JobUpdate) -> JobReply<UpdateAnswer> {
        const ENDPOINT: Endpoint = Endpoint::UpdateJob;
        let quiet = update.retry == Retry::Never;
        if !quiet {
            info!(
                job = job.id,
                state = update.state.as_str(),
                "Updating job..."
            );
        }
        let checksum = update.output.map(|output| output.checksum());
        let body = JobUpdateBody {
            info: &job.info,
            token: job.token.expose(),
            state: update.state.as_str(),
            failure_reason: update.failure_reason.map_or("", FailureReason::as_str),
            checksum: checksum.as_deref().unwrap_or(""),
            output: OutputBody {
                checksum: checksum.as_deref().unwrap_or(""),
                bytesize: update.output.map_or(0, |output| output.len),
            },
            exit_code: update.exit_code,
        };
        let call = Request {
            endpoint: ENDPOINT,
            path: format!("jobs/{}", job.id),
            auth: ("job-token", token_header(job.token.expose())),
            headers: json_headers(false),
            body: json(&body),
            body_on: None,
            attempts: if quiet { 1 } else { ATTEMPTS },
        };
        let reply = match self.inner.http.call(&call).await.result {
            Ok(response) => {
                self.remember_last_update(&response.headers);
                update_reply(response.status, &response.headers, || {
                    response.failure(ENDPOINT)
                })
            }
            Err(failure) => JobReply::plain(UpdateAnswer::Failed(failure)),
        };
        log_update(job.id, quiet, &reply);
        reply
    }

    async fn patch_trace(&self, job: &JobCredentials, patch: TracePatch) -> JobReply<PatchAnswer> {
        const ENDPOINT: Endpoint = Endpoint::PatchTrace;
        if patch.bytes.is_empty() {
            return JobReply::plain(PatchAnswer::Accepted { next: patch.offset });
        }
        let range = patch.content_range();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if let Ok(range) = HeaderValue::from_str(&range) {
            headers.insert(CONTENT_RANGE, range);
        }
        let end = patch.end();
        let call = Request {
            endpoint: ENDPOINT,
            path: format!("jobs/{}/trace?debug_trace={}", job.id, patch.debug_trace),
            auth: ("job-token", token_header(job.token.expose())),
            headers,
            body: patch.bytes,
            body_on: None,
            attempts: ATTEMPTS,
        };
        match self.inner.http.call(&call).await.result {
            Ok(response) => {
                let reply = patch_reply(response.status, &response.headers, end, || {
                    response.failure(ENDPOINT)
                });
                log_patch(job.id, &range, &response, &reply);
                reply
            }
            Err(failure) => {
                warn!(job = job.id, "sent-log" = range, error = %failure, "Appending trace to coordinator... failed");
                JobReply::plain(PatchAnswer::Failed(failure))
            }
        }
    }
}

#[derive(Serialize)]
struct JobRequestBody<'a> {
    info: &'a RunnerInfo,
    token: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a SessionInfo>,
}

#[derive(Serialize)]
struct JobUpdateBody<'a> {
    info: &'a RunnerInfo,
    token: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    failure_reason: &'a str,
    /// Older servers read it here.
    #[serde(skip_serializing_if = "str::is_empty")]
    checksum: &'a str,
    output: OutputBody<'a>,
    #[serde(skip_serializing_if = "is_zero")]
    exit_code: i32,
}

#[derive(Serialize)]
struct OutputBody<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    checksum: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    bytesize: u64,
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// Our own types with string keys always serialise.
pub(crate) fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).unwrap_or_default().into()
}

/// A token as header. One with bytes that no header can carry is replaced by nothing: the server will refuse it by name.
pub(crate) fn token_header(token: &str) -> HeaderValue {
    let mut value =
        HeaderValue::from_bytes(token.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Id and token of a payload that is JSON but not a job.
fn credentials(body: &[u8]) -> Option<(i64, Secret)> {
    let body: BTreeMap<String, Value> = serde_json::from_slice(body).ok()?;
    let id = body.get("id")?.as_i64()?;
    let token = body.get("token")?.as_str()?;
    Some((id, Secret::from(token)))
}

fn log_job_answer(answer: &JobRequestAnswer) {
    match answer {
        JobRequestAnswer::Job(received) => {
            info!(
                job = received.job.id,
                correlation_id = received.correlation_id,
                "Checking for jobs... received"
            );
        }
        JobRequestAnswer::Unreadable(received) => {
            let job = received.credentials.as_ref().map(|(id, _)| *id);
            error!(
                job,
                correlation_id = received.correlation_id,
                error = received.error,
                "Checking for jobs... received a payload that cannot be read"
            );
        }
        JobRequestAnswer::NoJob => debug!("Checking for jobs... no content"),
        JobRequestAnswer::Forbidden { message } => {
            error!(error = message, "Checking for jobs... forbidden");
        }
        JobRequestAnswer::Unavailable => {
            warn!("Checking for jobs... GitLab instance currently unavailable");
        }
        JobRequestAnswer::Failed(CallFailure::Client(error)) => {
            error!(%error, "Checking for jobs... client error");
        }
        JobRequestAnswer::Failed(error) => warn!(%error, "Checking for jobs... failed"),
    }
}

fn log_update(job: i64, quiet: bool, reply: &JobReply<UpdateAnswer>) {
    match &reply.answer {
        UpdateAnswer::Ok if quiet => debug!(job, "Submitting job to coordinator...ok"),
        UpdateAnswer::Ok => info!(job, "Submitting job to coordinator...ok"),
        UpdateAnswer::Accepted => {
            info!(
                job,
                "Submitting job to coordinator...accepted, but not yet completed"
            );
        }
        UpdateAnswer::Rewind => {
            info!(
                job,
                "Submitting job to coordinator...trace validation failed, will be sent again"
            );
        }
        UpdateAnswer::Aborted(reason) => {
            warn!(job, %reason, "Submitting job to coordinator... job is over");
        }
        UpdateAnswer::Failed(error) if quiet => {
            debug!(job, %error, "Submitting job to coordinator... failed");
        }
        UpdateAnswer::Failed(error) => {
            warn!(job, %error, "Submitting job to coordinator... failed");
        }
    }
}

fn log_patch(job: i64, range: &str, response: &Response, reply: &JobReply<PatchAnswer>) {
    let code = response.status;
    let status = job_status(&response.headers).unwrap_or("");
    match &reply.answer {
        PatchAnswer::Accepted { .. } => info!(
            job,
            code,
            "job-status" = status,
            "sent-log" = range,
            "Appending trace to coordinator...ok"
        ),
        PatchAnswer::RangeMismatch { next } => warn!(
            job,
            code,
            "job-status" = status,
            "sent-log" = range,
            next,
            "Appending trace to coordinator... range mismatch"
        ),
        PatchAnswer::NotFound => warn!(
            job,
            code,
            "job-status" = status,
            "sent-log" = range,
            "Appending trace to coordinator... not-found"
        ),
        PatchAnswer::Aborted(_) => warn!(
            job,
            code,
            "job-status" = status,
            "sent-log" = range,
            "Appending trace to coordinator... aborted"
        ),
        PatchAnswer::Failed(error) => warn!(
            job, code, "job-status" = status, "sent-log" = range, %error,
            "Appending trace to coordinator... failed"
        ),
    }
}
