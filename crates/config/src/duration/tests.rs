use super::{DurationError, GoDuration};
use proptest::prelude::*;
use rstest::rstest;
use std::time::Duration;

const S: i64 = 1_000_000_000;

#[rstest]
#[case("0", 0)]
#[case("-0", 0)]
#[case("0s", 0)]
#[case("5s", 5 * S)]
#[case("+5s", 5 * S)]
#[case("-5s", -5 * S)]
#[case("1h30m", 5400 * S)]
#[case("30m1h", 5400 * S)]
#[case("1h0m0s", 3600 * S)]
#[case("1.5h", 5400 * S)]
#[case(".5s", S / 2)]
#[case("5.s", 5 * S)]
#[case("300ms", 300_000_000)]
#[case("10us", 10_000)]
#[case("10µs", 10_000)]
#[case("10μs", 10_000)]
#[case("7ns", 7)]
#[case("1.9ns", 1)]
#[case("0.3333333333333333333h", 1_199_999_999_999)]
#[case("9223372036854775807ns", i64::MAX)]
#[case("-9223372036854775808ns", i64::MIN)]
fn duration_reads_go_syntax(#[case] text: &str, #[case] nanos: i64) {
    assert_eq!(GoDuration::parse(text), Ok(GoDuration(nanos)));
}

#[rstest]
#[case("", DurationError::Form)]
#[case("-", DurationError::Form)]
#[case("s", DurationError::Form)]
#[case(".s", DurationError::Form)]
#[case("1h ", DurationError::UnknownUnit)]
#[case(" 1h", DurationError::Form)]
#[case("1 h", DurationError::UnknownUnit)]
#[case("30", DurationError::MissingUnit)]
#[case("1h30", DurationError::MissingUnit)]
#[case("2d", DurationError::UnknownUnit)]
#[case("1H", DurationError::UnknownUnit)]
#[case("1h-5m", DurationError::UnknownUnit)]
#[case("9223372036854775808ns", DurationError::TooLong)]
#[case("3000000h", DurationError::TooLong)]
#[case("99999999999999999999s", DurationError::TooLong)]
fn duration_refuses_what_go_refuses(#[case] text: &str, #[case] error: DurationError) {
    assert_eq!(GoDuration::parse(text), Err(error));
}

#[rstest]
#[case(0, "0s")]
#[case(1, "1ns")]
#[case(1_100, "1.1µs")]
#[case(300_000_000, "300ms")]
#[case(2_200_000, "2.2ms")]
#[case(S, "1s")]
#[case(90 * S + S / 2, "1m30.5s")]
#[case(60 * S, "1m0s")]
#[case(3600 * S, "1h0m0s")]
#[case(90_061 * S + 1, "25h1m1.000000001s")]
#[case(-90 * S, "-1m30s")]
#[case(i64::MIN, "-2562047h47m16.854775808s")]
fn duration_is_shown_as_go_shows_it(#[case] nanos: i64, #[case] text: &str) {
    assert_eq!(GoDuration(nanos).to_string(), text);
}

#[test]
fn only_more_than_zero_is_a_time_limit() {
    assert_eq!(GoDuration(0).positive(), None);
    assert_eq!(GoDuration(-1).positive(), None);
    assert_eq!(GoDuration(1).positive(), Some(Duration::from_nanos(1)));
    assert_eq!(
        GoDuration::from(Duration::from_secs(90)).to_string(),
        "1m30s"
    );
    assert_eq!(GoDuration::from(Duration::MAX), GoDuration(i64::MAX));
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(nanos: i64) {
        prop_assert_eq!(GoDuration::parse(&GoDuration(nanos).to_string()), Ok(GoDuration(nanos)));
    }

    #[test]
    fn any_text_is_a_duration_or_an_error(text in "[-+0-9.hmsuµn ]{0,12}|.{0,12}") {
        let _ = GoDuration::parse(&text);
    }
}
