//! Lines of things that happen side by side, in the order of a job that does one thing after the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_trace::{JobTrace, Level};

/// A fixed number of lanes; the lines of lane *n* reach the log once lanes 0 to *n*−1 are closed, and live from then on.
#[derive(Clone)]
pub(crate) struct Lanes {
    trace: JobTrace,
    state: Arc<Mutex<State>>,
}

/// One lane. Dropping it does nothing: what is dropped with a job that is left behind must not write into its log.
pub(crate) struct Lane {
    lanes: Lanes,
    number: usize,
}

/// What is written.
enum What {
    Line(Level, String),
    Raw(String),
}

struct State {
    current: usize,
    waiting: Vec<Vec<(String, What)>>,
    closed: Vec<bool>,
}

impl Lanes {
    pub(crate) fn new(trace: JobTrace, count: usize) -> Self {
        let state = State {
            current: 0,
            waiting: (0..count).map(|_| Vec::new()).collect(),
            closed: vec![false; count],
        };
        Self {
            trace,
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn lane(&self, number: usize) -> Lane {
        Lane {
            lanes: self.clone(),
            number,
        }
    }
}

impl Lanes {
    /// Closes all, so that every line is in the log.
    pub(crate) fn close_all(&self) {
        let count = self.lock().closed.len();
        (0..count).for_each(|number| self.close(number));
    }

    fn close(&self, number: usize) {
        let mut state = self.lock();
        state.closed[number] = true;
        while state.current < state.closed.len() && state.closed[state.current] {
            state.current += 1;
            let next = state.current;
            let waiting = state
                .waiting
                .get_mut(next)
                .map(std::mem::take)
                .unwrap_or_default();
            for (key, what) in waiting {
                self.write(&key, &what);
            }
        }
    }

    fn write(&self, key: &str, what: &What) {
        match what {
            What::Line(level, text) => self.trace.line_once(key, *level, text),
            What::Raw(text) => self.trace.raw_once(key, text.as_bytes()),
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// A line that is written once in the life of the job; `key` tells lines of one lane apart.
    pub(crate) fn line(&self, key: &str, level: Level, text: &str) {
        self.write(key, What::Line(level, text.to_owned()));
    }

    /// As [`Self::line`], for text that is written as it is.
    pub(crate) fn raw(&self, key: &str, text: &str) {
        self.write(key, What::Raw(text.to_owned()));
    }

    fn write(&self, key: &str, what: What) {
        let key = format!("lane{}:{key}", self.number);
        let mut state = self.lanes.lock();
        if state.current == self.number {
            self.lanes.write(&key, &what);
        } else {
            state.waiting[self.number].push((key, what));
        }
    }

    /// No more lines in this lane; the next one's turn.
    pub(crate) fn close(&self) {
        self.lanes.close(self.number);
    }
}
