//! Durations as the peer writes and reads them: `1h30m`, `5m0s`, `1.5s`.

use std::time::Duration;

/// A duration with a sign, for settings that must refuse negative ones by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// Zero or more.
    Positive(Duration),
    /// Less than zero.
    Negative(Duration),
}

/// The text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a duration (write e.g. 90s, 5m or 1h30m)")]
pub struct NotADuration;

/// Reads `[+-]` and one or more of decimal number and unit (`ns us µs ms s m h`), or `0`.
pub fn parse(text: &str) -> Result<Signed, NotADuration> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let mut nanos: u128 = 0;
    if rest.is_empty() {
        return Err(NotADuration);
    }
    if rest != "0" {
        while !rest.is_empty() {
            let (part, after) = component(rest)?;
            nanos = nanos.checked_add(part).ok_or(NotADuration)?;
            rest = after;
        }
    }
    // The peer's type holds 63 bits of nanoseconds (292 years).
    let nanos = u64::try_from(nanos)
        .ok()
        .filter(|nanos| i64::try_from(*nanos).is_ok());
    let duration = Duration::from_nanos(nanos.ok_or(NotADuration)?);
    Ok(if negative && !duration.is_zero() {
        Signed::Negative(duration)
    } else {
        Signed::Positive(duration)
    })
}

/// One number with its unit, in nanoseconds, and the text after it.
fn component(text: &str) -> Result<(u128, &str), NotADuration> {
    let number_end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit() && byte != b'.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest
        .bytes()
        .position(|byte| byte.is_ascii_digit() || byte == b'.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(NotADuration),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(NotADuration);
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| NotADuration)?
    };
    let mut nanos = whole.checked_mul(scale).ok_or(NotADuration)?;
    let mut digit_scale = scale;
    for digit in fraction.bytes() {
        digit_scale /= 10;
        nanos = nanos
            .checked_add(u128::from(digit - b'0') * digit_scale)
            .ok_or(NotADuration)?;
    }
    Ok((nanos, rest))
}

/// Writes a duration as the peer does: `1h0m0s`, `5m0s`, `1.5s`, `300ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, scale) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{unit}", decimal(nanos, scale));
    }
    let total_seconds = duration.as_secs();
    let (hours, minutes) = (total_seconds / 3600, total_seconds / 60 % 60);
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / scale` without trailing zeros; `scale` is a power of ten.
fn decimal(value: u128, scale: u128) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = scale.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", 0)]
    #[case("+5s", 5_000)]
    #[case("1h30m", 5_400_000)]
    #[case("1.5s", 1_500)]
    #[case(".5s", 500)]
    #[case("5.s", 5_000)]
    #[case("300ms", 300)]
    #[case("1m0.25s", 60_250)]
    fn durations_are_read(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(
            parse(text),
            Ok(Signed::Positive(Duration::from_millis(millis)))
        );
    }

    #[rstest]
    #[case::empty("")]
    #[case::sign("-")]
    #[case::no_unit("5")]
    #[case::unknown_unit("5d")]
    #[case::word("abc")]
    #[case::two_dots("1.2.3s")]
    #[case::dot(".s")]
    #[case::blank("5 s")]
    #[case::too_long("9999999h")]
    #[case::far_too_long("99999999999999999999999999999999999999999999h")]
    #[case::not_ascii("5é")]
    fn other_text_is_no_duration(#[case] text: &str) {
        assert_eq!(parse(text), Err(NotADuration));
    }

    #[test]
    fn negative_durations_are_told_apart() {
        assert_eq!(parse("-5s"), Ok(Signed::Negative(Duration::from_secs(5))));
        assert_eq!(parse("-0s"), Ok(Signed::Positive(Duration::ZERO)));
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(10_000, "10s")]
    #[case(300_000, "5m0s")]
    #[case(3_600_000, "1h0m0s")]
    #[case(7_265_500, "2h1m5.5s")]
    #[case(250, "250ms")]
    fn durations_are_written_as_the_peer_writes_them(#[case] millis: u64, #[case] text: &str) {
        assert_eq!(format(Duration::from_millis(millis)), text);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0..i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(parse(&format(duration)), Ok(Signed::Positive(duration)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = parse(&text);
        }
    }
}
