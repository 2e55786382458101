use jiff::Timestamp;
use tokio::time::Instant;

/// 2025-01-01T00:00:00Z in unix seconds: where the fake's time starts.
const BASE: u64 = 1_735_689_600;

/// The fake's clock: tokio's time since the engine was made, on a fixed date. Two stamps are never equal, so that "started
/// again" can always be seen.
pub(super) struct Clock {
    origin: Option<Instant>,
    last: u128,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            origin: None,
            last: 0,
        }
    }

    fn nanos(&mut self) -> u128 {
        // Taken at first use: the engine may be made outside a runtime, whose clock may then be paused.
        let origin = *self.origin.get_or_insert_with(Instant::now);
        let nanos = origin.elapsed().as_nanos().max(self.last + 1);
        self.last = nanos;
        nanos
    }

    /// Unix seconds.
    pub(super) fn unix(&mut self) -> i64 {
        i64::try_from(u128::from(BASE) + self.nanos() / 1_000_000_000).unwrap_or(i64::MAX)
    }

    /// RFC 3339 with nanoseconds, as engines print it.
    pub(super) fn stamp(&mut self) -> String {
        let nanos = u128::from(BASE) * 1_000_000_000 + self.nanos();
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let time = Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::MAX);
        format!("{time:.9}")
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn stamps_are_those_of_engines_and_never_equal() {
        let mut clock = Clock::new();
        let (first, second) = (clock.stamp(), clock.stamp());
        assert!(first.starts_with("2025-01-01T00:00:0"), "{first}");
        assert_eq!(first.len(), "2025-01-01T00:00:00.000000001Z".len());
        assert!(first < second);
    }
}
