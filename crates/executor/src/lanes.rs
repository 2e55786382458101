//! Lines of things that happen side by side, in the order of a job that does one thing after the other.

use std::sync::{Arc, Mutex, PoisonError};

use gantry_trace::{JobTrace, Level};

/// A fixed number of lanes; the lines of lane *n* reach the log once lanes 0 to *n*−1 are closed, and live from then on.
#[derive(Clone)]
pub(crate) struct Lanes {
    trace: JobTrace,
    state: Arc<Mutex<State>>,
}

/// One lane. Dropping it closes it.
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

impl Lane {
    /// A line that is written once in the life of the job; `key` tells lines of one lane apart.
    pub(crate) fn line(&self, key: &str, level: Level, text: &str) {
        let key = format!("lane{}:{key}", self.number);
        let mut state = self
            .lanes
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.current == self.number {
            self.lanes.trace.line_once(&key, level, text);
        } else {
            state.waiting[self.number].push((key, level, text.to_owned()));
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self
            .lanes
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.closed[self.number] = true;
        while state.current < state.closed.len() && state.closed[state.current] {
            state.current += 1;
            let next = state.current;
            let waiting = state
                .waiting
                .get_mut(next)
                .map(std::mem::take)
                .unwrap_or_default();
            for (key, level, text) in waiting {
                self.lanes.trace.line_once(&key, level, &text);
            }
        }
    }
}
