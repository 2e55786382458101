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

struct State {
    current: usize,
    waiting: Vec<Vec<(String, Level, String)>>,
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
            for (key, level, text) in waiting {
                self.trace.line_once(&key, level, &text);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// A line that is written once in the life of the job; `key` tells lines of one lane apart.
    pub(crate) fn line(&self, key: &str, level: Level, text: &str) {
        let key = format!("lane{}:{key}", self.number);
        let mut state = self.lanes.lock();
        if state.current == self.number {
            self.lanes.trace.line_once(&key, level, text);
        } else {
            state.waiting[self.number].push((key, level, text.to_owned()));
        }
    }

    /// No more lines in this lane; the next one's turn.
    pub(crate) fn close(&self) {
        self.lanes.close(self.number);
    }
}
