//! Numbers as text, the way Ruby writes them.

/// Ruby's `Float#to_s`: the shortest digits that give the same number, always with a point, and
/// an exponent below 1e-4 and from 1e16 on.
pub(super) fn float_to_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{value:?}");
    }
    // `1e20` or `1.5e-7` in Rust; `1.0e+20` and `1.5e-07` in Ruby.
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}{point}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Expected: Ruby 3.1.
    #[rstest]
    #[case(0.0, "0.0")]
    #[case(-0.0, "-0.0")]
    #[case(1.0, "1.0")]
    #[case(1.1, "1.1")]
    #[case(1000.5, "1000.5")]
    #[case(0.0001, "0.0001")]
    #[case(0.00001, "1.0e-05")]
    #[case(1.5e-7, "1.5e-07")]
    #[case(1e15, "1000000000000000.0")]
    #[case(1e16, "1.0e+16")]
    #[case(1.25e100, "1.25e+100")]
    #[case(-1e20, "-1.0e+20")]
    #[case(f64::INFINITY, "Infinity")]
    #[case(f64::NEG_INFINITY, "-Infinity")]
    #[case(f64::NAN, "NaN")]
    fn floats_are_written_as_ruby_does(#[case] value: f64, #[case] expected: &str) {
        assert_eq!(float_to_text(value), expected);
    }
}
