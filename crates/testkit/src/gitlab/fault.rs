//! What goes wrong, where, and at which call.

use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use bytes::Bytes;

use super::{Endpoint, RecordedRequest};

/// A fault: which calls it hits, and what happens to them.
///
/// Calls are counted per fault from the moment it is set, from 1, over the requests it matches. Without
/// [`calls`](Self::calls) it hits all of them until [`FakeGitLab::heal`](super::FakeGitLab::heal).
#[derive(Debug, Clone)]
pub struct Fault {
    endpoint: Endpoint,
    job: Option<i64>,
    state: Option<String>,
    first: u64,
    last: u64,
    seen: u64,
    pub(super) delay: Duration,
    pub(super) effect: Effect,
}

/// What happens to a call that is hit.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Nothing but the delay.
    Handle,
    /// This answer; the server does nothing.
    Instead(Answer),
    /// The server acts, but this is answered.
    AfterAll(Answer),
    /// The server acts and answers with these headers besides.
    AddHeaders(Vec<(String, String)>),
    /// The connection ends before the body is read.
    DropBeforeBody,
    /// The connection ends after the body was read; the server does nothing.
    DropUnhandled,
    /// The server acts; the connection ends instead of the answer.
    LoseAnswer,
    /// The server acts; the answer's body ends after so many bytes.
    CutAnswer(usize),
    /// No answer ever.
    Hang,
}

/// A made-up answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    /// An answer with an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets body and content type.
    #[must_use]
    pub fn body(self, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut answer = self.header("content-type", content_type);
        answer.body = body.into();
        answer
    }
}

impl Fault {
    /// A fault of this endpoint, so far without effect.
    #[must_use]
    pub fn on(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            job: None,
            state: None,
            first: 1,
            last: u64::MAX,
            seen: 0,
            delay: Duration::ZERO,
            effect: Effect::Handle,
        }
    }

    /// Only calls of this job.
    #[must_use]
    pub fn job(mut self, id: i64) -> Self {
        self.job = Some(id);
        self
    }

    /// Only updates with this `state` (`running`, `success`, `failed`; `final` means either of the last two).
    #[must_use]
    pub fn state(mut self, state: &str) -> Self {
        self.state = Some(state.to_owned());
        self
    }

    /// Only these calls, from 1: `.calls(2..=3)`, `.calls(..=4)`.
    #[must_use]
    pub fn calls(mut self, calls: impl RangeBounds<u64>) -> Self {
        self.first = match calls.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 1,
        };
        self.last = match calls.end_bound() {
            Bound::Included(last) => *last,
            Bound::Excluded(behind) => behind.saturating_sub(1),
            Bound::Unbounded => u64::MAX,
        };
        self
    }

    /// Only the `n`th call, from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        self.calls(n..=n)
    }

    /// Wait so long before anything else.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// This answer; the server does nothing. A 412 also forgets the trace, as a server that asks for it again must.
    #[must_use]
    pub fn answer(self, answer: Answer) -> Self {
        self.effect(Effect::Instead(answer))
    }

    /// This status with an empty body; the server does nothing.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        self.answer(Answer::status(status))
    }

    /// The server acts, but this is answered.
    #[must_use]
    pub fn answer_after_all(self, answer: Answer) -> Self {
        self.effect(Effect::AfterAll(answer))
    }

    /// The server's own answer with one more header.
    #[must_use]
    pub fn add_header(mut self, name: &str, value: &str) -> Self {
        let header = (name.to_owned(), value.to_owned());
        if let Effect::AddHeaders(headers) = &mut self.effect {
            headers.push(header);
            return self;
        }
        self.effect(Effect::AddHeaders(vec![header]))
    }

    /// The connection ends before the body is read.
    #[must_use]
    pub fn drop_before_body(self) -> Self {
        self.effect(Effect::DropBeforeBody)
    }

    /// The connection ends after the body was read; the server does nothing.
    #[must_use]
    pub fn drop_unhandled(self) -> Self {
        self.effect(Effect::DropUnhandled)
    }

    /// The server acts, but its answer is lost.
    #[must_use]
    pub fn lose_answer(self) -> Self {
        self.effect(Effect::LoseAnswer)
    }

    /// The server acts; its answer ends after so many bytes of the body.
    #[must_use]
    pub fn cut_answer(self, bytes: usize) -> Self {
        self.effect(Effect::CutAnswer(bytes))
    }

    /// No answer ever; ends with the connection.
    #[must_use]
    pub fn hang(self) -> Self {
        self.effect(Effect::Hang)
    }

    fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Whether the decision needs the body.
    pub(super) fn looks_at_body(&self) -> bool {
        self.state.is_some()
    }

    /// Counts the request if it matches, and says whether this is a call to hit.
    pub(super) fn hits(&mut self, request: &RecordedRequest) -> bool {
        if self.endpoint != request.endpoint || self.job.is_some_and(|job| Some(job) != request.job)
        {
            return false;
        }
        if let Some(wanted) = &self.state {
            let body = request.json();
            let state = body["state"].as_str().unwrap_or_default();
            let matches = match wanted.as_str() {
                "final" => matches!(state, "success" | "failed"),
                wanted => state == wanted,
            };
            if !matches {
                return false;
            }
        }
        self.seen += 1;
        (self.first..=self.last).contains(&self.seen)
    }
}
