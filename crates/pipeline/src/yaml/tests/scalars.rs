//! What GitLab's YAML parser makes of scalars without quotes. The answers were given by Psych
//! 4.0.3 (Ruby 3.1) with the classes that GitLab permits.

use super::*;
use crate::yaml::scalar::{Typed, resolve};

/// The scalar and what it is: `text` if it stays as it is, else the type and its text.
const ANSWERS: &[(&str, &str)] = &[
    ("~", "null"),
    ("null", "null"),
    ("Null", "null"),
    ("NULL", "null"),
    ("nUlL", "null"),
    ("yes", "true"),
    ("Yes", "true"),
    ("YES", "true"),
    ("no", "false"),
    ("No", "false"),
    ("on", "true"),
    ("On", "true"),
    ("OFF", "false"),
    ("off", "false"),
    ("true", "true"),
    ("TRUE", "true"),
    ("tRuE", "true"),
    ("False", "false"),
    ("y", "text"),
    ("n", "text"),
    ("Y", "text"),
    ("N", "text"),
    ("0", "int 0"),
    ("1", "int 1"),
    ("-1", "int -1"),
    ("+1", "int 1"),
    ("00", "int 0"),
    ("01", "int 1"),
    ("014", "int 12"),
    ("08", "text"),
    ("019", "text"),
    ("0_7", "int 7"),
    ("0o14", "text"),
    ("0x1F", "int 31"),
    ("0X1F", "text"),
    ("0xg", "text"),
    ("-0x10", "int -16"),
    ("0b101", "int 5"),
    ("0b2", "text"),
    ("1_000", "int 1000"),
    ("1__0", "text"),
    ("1_", "text"),
    ("_1", "text"),
    ("1,000", "int 1000"),
    ("1,000.5", "float 1000.5"),
    ("12:30", "int 45000"),
    ("12:30:45", "int 45045"),
    ("1:2", "int 3720"),
    ("1:60", "text"),
    ("-1:30", "int -1800"),
    ("190:20:30", "int 685230"),
    ("190:20:30.15", "float 685230.15"),
    ("1:30.5", "float 5430.0"),
    ("1:2:3:4", "text"),
    (".", "text"),
    ("..", "text"),
    ("...", "text"),
    (".5", "float 0.5"),
    ("5.", "float 5.0"),
    ("-.5", "float -0.5"),
    ("1.5", "float 1.5"),
    ("1.50", "float 1.5"),
    ("3.10", "float 3.1"),
    ("1e3", "text"),
    ("1e+3", "text"),
    ("1.e+3", "float 1000.0"),
    ("1.5e3", "text"),
    ("1.5e+3", "float 1500.0"),
    ("1.5E-3", "float 0.0015"),
    ("1.2.3", "text"),
    (".inf", "float Infinity"),
    (".INF", "float Infinity"),
    ("-.inf", "float -Infinity"),
    ("+.inf", "float Infinity"),
    (".nan", "float NaN"),
    (".NaN", "float NaN"),
    ("nan", "text"),
    ("inf", "text"),
    ("2024-01-01", "date"),
    ("2024-1-1", "date"),
    ("2024-13-01", "text"),
    ("2024-00-00", "date"),
    ("2024-01-32", "text"),
    ("24-01-01", "text"),
    ("2024-01-01T10:00:00Z", "time"),
    ("2024-01-01t10:00:00", "time"),
    ("2024-01-01T1:00:00.5+01:00", "time"),
    ("2024-01-01T10:00", "text"),
    ("10:00:00", "int 36000"),
    (":a", "text a"),
    (r#":"a""#, "text a"),
    ("a:b", "text"),
    ("http://x", "text"),
    ("=", "text"),
    ("<<", "text"),
    ("-a", "text"),
    ("+a", "text"),
    ("1a", "text"),
    ("0.0", "float 0.0"),
    ("-0.0", "float -0.0"),
    ("-0", "int 0"),
    ("1.0e+16", "float 1.0e+16"),
    (
        "123456789012345678901234567890",
        "int 123456789012345678901234567890",
    ),
    (
        "-123456789012345678901234567890",
        "int -123456789012345678901234567890",
    ),
    ("9223372036854775807", "int 9223372036854775807"),
    ("9223372036854775808", "int 9223372036854775808"),
    ("0xffffffffffffffff", "int 18446744073709551615"),
    ("100000.0", "float 100000.0"),
    ("0.00001", "float 1.0e-05"),
    ("v1.2", "text"),
    ("1-2", "text"),
    ("50%", "text"),
    ("$X", "text"),
    ("007", "int 7"),
    ("0777", "int 511"),
    ("1:08", "int 4080"),
    ("6.02e+23", "float 6.02e+23"),
    ("null1", "text"),
    ("yess", "text"),
    ("é", "text"),
    ("0x", "text"),
    ("0b", "text"),
    ("+", "text"),
    ("_", "text"),
];

fn answer(text: &str) -> String {
    match resolve(text) {
        Typed::Date => "date".to_owned(),
        Typed::Time => "time".to_owned(),
        Typed::Value(Value::Str(value)) if value == text => "text".to_owned(),
        Typed::Value(Value::Str(value)) => format!("text {value}"),
        Typed::Value(value) => show(&Node::new(
            value,
            None,
            crate::source::Span::default(),
            Style::Plain,
        )),
    }
}

#[test]
fn plain_scalars_have_the_types_that_gitlab_gives_them() {
    let wrong: Vec<String> = ANSWERS
        .iter()
        .filter(|(text, expected)| answer(text) != *expected)
        .map(|(text, expected)| format!("{text}: {}, expected {expected}", answer(text)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(ANSWERS.len() > 120);
}

#[test]
fn numbers_too_long_to_mean_one_stay_text() {
    assert_eq!(
        answer(&"1".repeat(1024)),
        format!("int {}", "1".repeat(1024))
    );
    assert_eq!(answer(&"1".repeat(1025)), "text");
    assert_eq!(answer("0xfffffffffffffffffffffffffffffffffff"), "text");
}

// Where Psych itself fails with an error of its own, the scalar stays text.
#[rstest]
#[case("0b_")]
#[case(".e+3")]
fn scalars_that_break_the_parser_of_gitlab_stay_text(#[case] text: &str) {
    assert_eq!(answer(text), "text");
}
