//! Amounts written as text: memory sizes and CPU shares (docker-executor §1.3).

/// Reads a size as the peer's library does: a number, a blank if you like, and a unit of powers of 1024 (`b`, `k`, `m`, `g`, `t`,
/// `p`, each also as `kb` or `kib`, in any case). Bytes; a fraction of a byte is cut off.
pub(crate) fn size(text: &str) -> Option<u64> {
    let unit_at = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.as_bytes() {
        [] | [b'b'] => 0,
        [letter] | [letter, b'b'] | [letter, b'i', b'b'] => {
            1 + b"kmgtp".iter().position(|known| known == letter)?
        }
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(i32::try_from(power).ok()?);
    // The engine counts in signed 64-bit numbers; the comparison also refuses what is no number.
    (0.0..9_223_372_036_854_775_808.0)
        .contains(&bytes)
        .then_some(bytes as u64)
}

/// Reads a number of CPUs, `1.5`, `2` or `1/3`, in billionths, cut off as the peer does. Not negative.
pub(crate) fn nano_cpus(text: &str) -> Option<u64> {
    const BILLION: u128 = 1_000_000_000;
    let (numerator, denominator) = match text.split_once('/') {
        Some((above, below)) => (whole(above)?, whole(below)?),
        None => decimal(text)?,
    };
    let nanos = numerator.checked_mul(BILLION)?.checked_div(denominator)?;
    u64::try_from(nanos)
        .ok()
        .filter(|nanos| i64::try_from(*nanos).is_ok())
}

/// Digits only, not too many.
fn whole(text: &str) -> Option<u128> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (!digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// `12.5` as 125 / 10.
fn decimal(text: &str) -> Option<(u128, u128)> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (before, after) = text.split_once('.').unwrap_or((text, ""));
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let digits = format!("{before}{after}");
    Some((
        whole(&digits)?,
        10_u128.pow(u32::try_from(after.len()).ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::{nano_cpus, size};
    use rstest::rstest;

    #[rstest]
    #[case("0", Some(0))]
    #[case("128", Some(128))]
    #[case("128b", Some(128))]
    #[case("128B", Some(128))]
    #[case("1k", Some(1024))]
    #[case("512m", Some(512 << 20))]
    #[case("512 m", Some(512 << 20))]
    #[case("512M", Some(512 << 20))]
    #[case("1GiB", Some(1 << 30))]
    #[case("1gb", Some(1 << 30))]
    #[case("1.5g", Some(3 << 29))]
    #[case("2t", Some(2 << 40))]
    #[case("1p", Some(1 << 50))]
    #[case("0.4", Some(0))]
    #[case("", None)]
    #[case("lots", None)]
    #[case("-1", None)]
    #[case("-1m", None)]
    #[case("12bb", None)]
    #[case("12bib", None)]
    #[case("12mbit", None)]
    #[case("12x", None)]
    #[case("12 mm", None)]
    #[case("1.2.3m", None)]
    #[case("9999999p", None)]
    #[case("1e400", None)]
    #[case(" 12m", None)]
    #[case("12ｍ", None)]
    fn size_is_read_in_powers_of_1024(#[case] text: &str, #[case] bytes: Option<u64>) {
        assert_eq!(size(text), bytes);
    }

    #[rstest]
    #[case("1", Some(1_000_000_000))]
    #[case("0.5", Some(500_000_000))]
    #[case(".5", Some(500_000_000))]
    #[case("2.", Some(2_000_000_000))]
    #[case("1/3", Some(333_333_333))]
    #[case("3/2", Some(1_500_000_000))]
    #[case("0.0000000019", Some(1))]
    #[case("0", Some(0))]
    #[case("", None)]
    #[case(".", None)]
    #[case("1/0", None)]
    #[case("1/", None)]
    #[case("1/2/3", None)]
    #[case("0.5/2", None)]
    #[case("-1", None)]
    #[case("half", None)]
    #[case("1 ", None)]
    #[case("99999999999999999999", None)]
    #[case("999999999999999999", None)]
    fn cpus_are_read_as_a_fraction(#[case] text: &str, #[case] nanos: Option<u64>) {
        assert_eq!(nano_cpus(text), nanos);
    }
}
