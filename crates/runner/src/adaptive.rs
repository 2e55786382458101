//! How many job requests a runner may have in flight (coordinator-api §14, `FF_USE_ADAPTIVE_REQUEST_CONCURRENCY`).

/// Limit that follows what requests bring: up with jobs, down without, halved when the server is under load.
#[derive(Debug, Clone)]
pub(crate) struct AdaptiveConcurrency {
    value: f64,
}

/// What a request brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    Job,
    Nothing,
    /// A retryable status was met.
    Throttled,
}

impl Default for AdaptiveConcurrency {
    fn default() -> Self {
        Self { value: 1.0 }
    }
}

impl AdaptiveConcurrency {
    pub(crate) fn limit(&self, hard: usize) -> usize {
        (self.value.ceil() as usize).clamp(1, hard.max(1))
    }

    pub(crate) fn record(&mut self, brought: Brought, hard: usize) {
        let factor = match brought {
            Brought::Throttled => 0.5,
            Brought::Job => 1.1,
            Brought::Nothing => 0.95,
        };
        self.value = (self.value * factor).clamp(1.0, hard.max(1) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_raise_the_limit_and_load_halves_it() {
        let mut adaptive = AdaptiveConcurrency::default();
        assert_eq!(adaptive.limit(10), 1);
        adaptive.record(Brought::Job, 10);
        assert_eq!(adaptive.limit(10), 2);
        for _ in 0..30 {
            adaptive.record(Brought::Job, 10);
        }
        assert_eq!(adaptive.limit(10), 10);
        adaptive.record(Brought::Throttled, 10);
        assert_eq!(adaptive.limit(10), 5);
        for _ in 0..100 {
            adaptive.record(Brought::Nothing, 10);
        }
        assert_eq!(adaptive.limit(10), 1);
    }

    #[test]
    fn with_a_hard_limit_of_one_nothing_changes() {
        let mut adaptive = AdaptiveConcurrency::default();
        adaptive.record(Brought::Job, 1);
        assert_eq!(adaptive.limit(1), 1);
    }
}
