//! Durations as Go writes and reads them (`1h30m`, `300ms`), which is how config files and messages of the peer hold them.

use std::fmt;
use std::time::Duration;

/// Whole nanoseconds, with sign, as Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub i64);

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Empty, no digits, or a stray character.
    #[error("expected a duration such as \"1h30m\" or \"300ms\"")]
    Form,
    /// A number with no unit after it.
    #[error("missing unit: write for instance \"30s\"; units are ns, us, ms, s, m, h")]
    MissingUnit,
    /// A unit Go does not know (there are no days).
    #[error("unknown unit: units are ns, us, ms, s, m, h")]
    UnknownUnit,
    /// More than about 292 years.
    #[error("longer than 292 years")]
    TooLong,
}

/// Nanoseconds of each unit, longest first.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

impl GoDuration {
    /// Reads a text as Go's `time.ParseDuration`: an optional sign, then numbers (fractions allowed) each with a unit, in any order;
    /// `0` alone needs no unit.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(DurationError::Form);
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (nanos, after) = leading_term(rest)?;
            total = total
                .checked_add(nanos)
                .filter(|sum| *sum <= 1 << 63)
                .ok_or(DurationError::TooLong)?;
            rest = after;
        }
        // The most negative value has no positive twin, as in Go.
        match (negative, i64::try_from(total)) {
            (false, Ok(nanos)) => Ok(Self(nanos)),
            (true, Ok(nanos)) => Ok(Self(-nanos)),
            (true, Err(_)) => Ok(Self(i64::MIN)),
            (false, Err(_)) => Err(DurationError::TooLong),
        }
    }

    /// The duration where it is more than zero.
    #[must_use]
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos)
    }
}

/// One number and its unit in nanoseconds, and what follows.
fn leading_term(text: &str) -> Result<(u64, &str), DurationError> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole_len = digits(text);
    let (whole, mut rest) = text.split_at(whole_len);
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let len = digits(after);
        (fraction, rest) = after.split_at(len);
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Form);
    }
    let unit_len = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    if unit.is_empty() {
        return Err(DurationError::MissingUnit);
    }
    let (_, scale) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::UnknownUnit)?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| DurationError::TooLong)?
    };
    let nanos = whole.checked_mul(*scale).ok_or(DurationError::TooLong)?;
    Ok((
        nanos
            .checked_add(fraction_of(fraction, *scale))
            .ok_or(DurationError::TooLong)?,
        rest,
    ))
}

/// `0.<digits>` × `scale`, cut to whole nanoseconds. Eighteen digits are more than any unit can show.
fn fraction_of(digits: &str, scale: u64) -> u64 {
    let shown = &digits[..digits.len().min(18)];
    let (value, power) = shown
        .bytes()
        .fold((0_u128, 1_u128), |(value, power), digit| {
            (value * 10 + u128::from(digit - b'0'), power * 10)
        });
    u64::try_from(value * u128::from(scale) / power).unwrap_or(u64::MAX)
}

impl From<Duration> for GoDuration {
    /// Cut at the greatest Go can hold (292 years).
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for GoDuration {
    /// Go's form: `1h0m0s`, `1m30.5s`, `300ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000_000;
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(
                f,
                "{}µs",
                Decimal {
                    value: nanos,
                    scale: 1_000
                }
            ),
            1_000_000..SECOND => write!(
                f,
                "{}ms",
                Decimal {
                    value: nanos,
                    scale: 1_000_000
                }
            ),
            _ => {
                let minutes = nanos / (60 * SECOND);
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes >= 1 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(
                    f,
                    "{}s",
                    Decimal {
                        value: nanos % (60 * SECOND),
                        scale: SECOND
                    }
                )
            }
        }
    }
}

/// `value / scale` with as many decimals as it needs; `scale` is a power of ten.
struct Decimal {
    value: u64,
    scale: u64,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value / self.scale)?;
        let rest = self.value % self.scale;
        if rest > 0 {
            let digits = format!("{:0width$}", rest, width = self.scale.ilog10() as usize);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
