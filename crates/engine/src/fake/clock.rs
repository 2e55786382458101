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
        let nanos = self.nanos();
        let seconds = BASE + u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX / 2);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let fraction = nanos % 1_000_000_000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
    }
}

/// Days since 1970-01-01 → year, month, day.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates_over_leap_years() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_089), (2025, 1, 1));
        assert_eq!(civil(20_453), (2025, 12, 31));
    }
}
