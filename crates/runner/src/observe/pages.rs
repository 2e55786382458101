//! What is answered to whom (cli §6): the peer's pages, and the status for the owner.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use prometheus::TextEncoder;
use tracing::error;

use super::{gauges::Host, status};
use crate::{About, shared::Shared};

const PLAIN: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The pages.
pub(crate) struct Pages {
    shared: Arc<Shared>,
    about: About,
    /// The metrics as they were made last.
    last: Mutex<Option<Made>>,
}

/// A text, and what it cost.
struct Made {
    text: Bytes,
    at: Instant,
    took: Duration,
}

impl Made {
    /// Whether it will do: callers who ask without pause cost at most a tenth of a processor, and share one text.
    fn is_fresh(took: Duration, age: Duration) -> bool {
        age < took * 10
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// Whoever reaches the metrics port.
    Anybody,
    /// The owner of the process.
    Owner,
}

impl Pages {
    pub(crate) fn new(shared: Arc<Shared>, about: About) -> Self {
        Self {
            shared,
            about,
            last: Mutex::default(),
        }
    }

    /// The answer to a request.
    pub(crate) fn answer<B>(
        &self,
        request: &Request<B>,
        visitor: Visitor,
    ) -> Response<Full<Bytes>> {
        let (method, path) = (request.method(), request.uri().path());
        let page: fn(&Self) -> Page = match path {
            "/metrics" => Self::metrics,
            "/debug/jobs/list" => Self::jobs,
            "/debug/process/state" => Self::process_state,
            "/health/ready" => Self::ready,
            "/status" if visitor == Visitor::Owner => Self::status,
            _ => |_| Page::plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        let page = if *method == Method::GET || *method == Method::HEAD {
            page(self)
        } else {
            let mut page = Page::plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            page.headers.insert(ALLOW, allowed);
            page
        };
        page.into_response()
    }

    fn metrics(&self) -> Page {
        let Some(metrics) = &self.shared.observer.metrics else {
            let text = "metrics are not counted: listen_address is not set\n";
            return Page::plain(StatusCode::NOT_FOUND, text);
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*last
            && Made::is_fresh(made.took, made.at.elapsed())
        {
            return Page::new(StatusCode::OK, EXPOSITION, made.text.clone());
        }
        let began = Instant::now();
        let host = Host {
            slots: self.shared.slots.limit(),
            used: self.shared.slots.used(),
            free_bytes: self.shared.state.free_bytes(),
        };
        let families = metrics
            .gauges
            .refreshed(&self.shared.observer.board, host, || {
                metrics.registry.gather()
            });
        match TextEncoder::new().encode_to_string(&families) {
            Ok(text) => {
                let text = Bytes::from(text);
                *last = Some(Made {
                    text: text.clone(),
                    at: Instant::now(),
                    took: began.elapsed(),
                });
                Page::new(StatusCode::OK, EXPOSITION, text)
            }
            Err(error) => {
                error!(%error, "metrics cannot be written");
                Page::plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "metrics cannot be written\n",
                )
            }
        }
    }

    fn jobs(&self) -> Page {
        let mut text = String::new();
        for job in self.shared.observer.board.lock().jobs.values() {
            let duration = gantry_job::duration::format(job.facts.age());
            // Writing to a string cannot fail.
            writeln!(
                text,
                "url={} state={} stage={} executor_stage={} duration={duration}",
                job.facts.url, job.state, job.stage, job.executor_stage
            )
            .ok();
        }
        let mut page = Page::new(StatusCode::OK, "text/plain", text.into());
        let version = HeaderValue::from_static("2");
        page.headers.insert("x-list-version", version);
        page
    }

    fn process_state(&self) -> Page {
        let state = self.shared.observer.board.lock().process_state();
        Page::plain(StatusCode::OK, &format!("{state}\n"))
    }

    fn ready(&self) -> Page {
        if self.shared.observer.board.lock().ready {
            Page::plain(StatusCode::OK, "ready\n")
        } else {
            Page::plain(StatusCode::SERVICE_UNAVAILABLE, "boot-verify pending\n")
        }
    }

    fn status(&self) -> Page {
        let report = status::report(&self.shared, &self.about);
        match serde_json::to_string(&report) {
            Ok(text) => Page::new(StatusCode::OK, "application/json", (text + "\n").into()),
            Err(error) => {
                error!(%error, "the status cannot be written");
                Page::plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the status cannot be written\n",
                )
            }
        }
    }
}

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: Bytes,
}

impl Page {
    fn new(status: StatusCode, kind: &'static str, text: Bytes) -> Self {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Self {
            status,
            headers: headers.into_iter().collect(),
            text,
        }
    }

    fn plain(status: StatusCode, text: &str) -> Self {
        Self::new(status, PLAIN, text.to_owned().into())
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.text));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1, 9, true)]
    #[case(1, 10, false)]
    #[case(100, 999, true)]
    #[case(100, 1000, false)]
    fn a_text_will_do_for_ten_times_as_long_as_it_took(
        #[case] took: u64,
        #[case] age: u64,
        #[case] fresh: bool,
    ) {
        let (took, age) = (Duration::from_millis(took), Duration::from_millis(age));
        assert_eq!(Made::is_fresh(took, age), fresh);
    }
}
