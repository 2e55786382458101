//! From the wire to the book and back, with faults in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::{Request, Response};
use tokio::time::{sleep, sleep_until};

use super::book::{Asked, Reply};
use super::fault::{Answer, Effect};
use super::{Endpoint, RecordedRequest, State};
use crate::http::{Body, Handler, Hangup, cut, empty, full, set_header};

impl Handler for State {
    async fn handle(
        self: Arc<Self>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        let (head, body) = request.into_parts();
        let (endpoint, job) = Endpoint::of(&head.method, head.uri.path());
        let mut record = RecordedRequest {
            number: 0,
            at: SystemTime::now(),
            instant: Instant::now(),
            peer,
            endpoint,
            job,
            method: head.method,
            path: head
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            headers: head.headers,
            body: Bytes::new(),
            status: None,
        };
        // Most faults do not look at the body; the one that drops a connection before it must not have it read.
        let early = self.change(|book| {
            record.number = book.requests.len();
            book.requests.push(record.clone());
            let faults = &mut book.faults;
            let early = faults.iter_mut().filter(|fault| !fault.looks_at_body());
            first_hit(early, &record)
        });
        if let Some(fault) = &early {
            sleep(fault.delay).await;
            if matches!(fault.effect, Effect::DropBeforeBody) {
                return Err(Hangup);
            }
        }
        let body = body.collect().await.map_err(|_| Hangup)?.to_bytes();
        record.body = body;
        let fault = self.change(|book| {
            if book.keep_bodies {
                book.requests[record.number].body = record.body.clone();
            }
            let faults = &mut book.faults;
            let late = faults.iter_mut().filter(|fault| fault.looks_at_body());
            let late = first_hit(late, &record);
            if early.is_none()
                && let Some(fault) = late
            {
                return Some((fault, true));
            }
            early.map(|fault| (fault, false))
        });
        let effect = match fault {
            Some((fault, late)) => {
                if late {
                    sleep(fault.delay).await;
                }
                fault.effect
            }
            None => Effect::Handle,
        };
        self.apply(effect, &record).await
    }
}

fn first_hit<'a>(
    faults: impl Iterator<Item = &'a mut super::Fault>,
    record: &RecordedRequest,
) -> Option<super::Fault> {
    let mut hit = None;
    for fault in faults {
        if fault.hits(record) && hit.is_none() {
            hit = Some(fault.clone());
        }
    }
    hit
}

impl State {
    async fn apply(
        &self,
        effect: Effect,
        record: &RecordedRequest,
    ) -> Result<Response<Body>, Hangup> {
        let response = match effect {
            Effect::Handle => self.act(record).await,
            Effect::Instead(answer) => {
                if answer.status == 412 {
                    self.forget_trace(record);
                }
                made_up(answer)
            }
            Effect::AfterAll(answer) => {
                drop(self.act(record).await);
                made_up(answer)
            }
            Effect::AddHeaders(headers) => {
                let mut response = self.act(record).await;
                for (name, value) in &headers {
                    set_header(&mut response, name, value);
                }
                response
            }
            Effect::DropBeforeBody | Effect::DropUnhandled => return Err(Hangup),
            Effect::LoseAnswer => {
                drop(self.act(record).await);
                return Err(Hangup);
            }
            Effect::CutAnswer(bytes) => cut_answer(self.act(record).await, bytes).await,
            Effect::Hang => std::future::pending().await,
        };
        let status = response.status().as_u16();
        self.change(|book| book.requests[record.number].status = Some(status));
        Ok(response)
    }

    /// What a server that works does.
    async fn act(&self, record: &RecordedRequest) -> Response<Body> {
        let reply = match record.endpoint {
            Endpoint::RequestJob => self.request_job(record).await,
            Endpoint::UpdateJob => self.change(|book| book.update_job(record, &record.body)),
            Endpoint::PatchTrace => self.change(|book| book.patch_trace(record, &record.body)),
            Endpoint::UploadArtifacts => {
                return self.change(|book| book.upload_artifact(record));
            }
            Endpoint::DownloadArtifacts => return self.book().download_artifact(record),
            Endpoint::Object => return self.book().object(record),
            Endpoint::RegisterRunner => self.change(|book| book.register_runner(&record.body)),
            Endpoint::VerifyRunner => self.change(|book| book.verify_runner(record)),
            Endpoint::UnregisterRunner => self.change(|book| book.unregister_runner(record)),
            Endpoint::UnregisterManager => self.change(|book| book.unregister_manager(record)),
            Endpoint::ResetToken => self.change(|book| book.reset_token(record)),
            Endpoint::Other => {
                return made_up(
                    Answer::status(404).body("application/json", r#"{"message":"404 Not Found"}"#),
                );
            }
        };
        on_the_wire(reply)
    }

    async fn request_job(&self, record: &RecordedRequest) -> Reply {
        let until = self
            .long_poll
            .map(|longest| tokio::time::Instant::now() + longest);
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let asked = self.book().request_job(record, &record.body);
            if let Asked::Answer(reply) = &asked
                && reply.status == 201
            {
                // Only a job that leaves the queue is news; held requests would wake each other for ever otherwise.
                self.change(|_| ());
            }
            let Some(until) = until else {
                return match asked {
                    Asked::Answer(reply) => reply,
                    Asked::Hold => self.book().no_job(),
                };
            };
            match asked {
                Asked::Answer(reply) => return reply,
                Asked::Hold => tokio::select! {
                    () = sleep_until(until) => return self.book().no_job(),
                    _ = changed.changed() => {}
                },
            }
        }
    }

    fn forget_trace(&self, record: &RecordedRequest) {
        self.change(|book| {
            if let Some(job) = record.job.and_then(|id| book.jobs.get_mut(&id)) {
                job.trace.clear();
                job.resets += 1;
            }
        });
    }
}

fn on_the_wire(reply: Reply) -> Response<Body> {
    let mut response = empty(reply.status);
    for (name, value) in &reply.headers {
        set_header(&mut response, name, value);
    }
    if let Some(body) = reply.body {
        set_header(&mut response, "content-type", "application/json");
        *response.body_mut() = full(body);
    }
    response
}

fn made_up(answer: Answer) -> Response<Body> {
    let mut response = empty(answer.status);
    for (name, value) in &answer.headers {
        set_header(&mut response, name, value);
    }
    *response.body_mut() = full(answer.body);
    response
}

async fn cut_answer(mut response: Response<Body>, bytes: usize) -> Response<Body> {
    let body = std::mem::replace(response.body_mut(), full(Bytes::new()));
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, body.len().into());
    *response.body_mut() = cut(body.slice(..bytes.min(body.len())));
    response
}
