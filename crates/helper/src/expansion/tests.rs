use rstest::rstest;

use super::*;

fn look(name: &str) -> Option<String> {
    let value = match name {
        "A" => "a/b.tar.gz",
        "EMPTY" => "",
        "N" => "7",
        "CI_JOB_NAME" => "build",
        _ => return None,
    };
    Some(value.into())
}

#[rstest]
#[case("plain/*.txt", "plain/*.txt")]
#[case("$A|${A}|$NONE|${NONE}", "a/b.tar.gz|a/b.tar.gz||")]
#[case("a/$CI_JOB_NAME-${X:-y}", "a/build-y")]
#[case(
    "${EMPTY:-x}|${EMPTY-x}|${NONE-x}|${NONE:=x}|${A:-x}",
    "x||x|x|a/b.tar.gz"
)]
#[case("${A:+set}|${EMPTY:+set}|${EMPTY+set}|${NONE+set}", "set||set|")]
#[case(
    "${A#*/}|${A##*.}|${A%.*}|${A%%.*}|${A#none}",
    "b.tar.gz|gz|a/b.tar|a/b|a/b.tar.gz"
)]
#[case("${A/./-}|${A//./-}|${A/b*}", "a/b-tar.gz|a/b-tar-gz|a/")]
#[case(
    "${A//[a-b]?/<>}|${A/*}|${A//t*r}|${A#?/}|${A%%[.]*}",
    "<><>t<>.gz||a/b..gz|b.tar.gz|a/b"
)]
#[case("${A:2}|${A:2:1}|${A: -2}|${A:2:-3}", "b.tar.gz|b|gz|b.tar")]
#[case("${CI_JOB_NAME^}|${CI_JOB_NAME^^}|${#A}", "Build|BUILD|10")]
#[case("$((1+1))|$((2*(N-3)))|$(( 7 % 4 ))|$((NONE))", "2|8|3|0")]
#[case(r"\$A|\\|\*|\{", r"$A|\|\*|\{")]
#[case("$|$ |a$", "$|$ |a$")]
#[case("$1$@$#x", "x")]
#[case("${X:-${Y:-$N}}", "7")]
#[case("naïve-${X:-é}", "naïve-é")]
fn words_are_expanded_as_in_a_here_document(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(expand(text, &look).as_deref(), Ok(expected));
}

#[rstest]
#[case("$(id)", "command substitution is not supported")]
#[case("`id`", "command substitution is not supported")]
#[case("${A", "reached the end without closing `${`")]
#[case("$((1", "reached the end without closing `$((`")]
#[case("${}", "not a valid parameter expansion: ${}")]
#[case("${A@Q}", "not a valid parameter expansion: ${A@Q}")]
#[case("${NONE:?is missing}", "NONE: is missing")]
#[case("$((1/0))", "not a valid arithmetic expression: 1/0")]
fn what_cannot_be_expanded_says_why(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(expand(text, &look).unwrap_err().to_string(), expected);
}

#[test]
fn deep_nesting_ends_with_an_error() {
    let text = "${X:-".repeat(500) + &"}".repeat(500);
    assert_eq!(expand(&text, &look), Err(ExpansionError::Depth));
    let sum = format!("$(({}1{}))", "(".repeat(500), ")".repeat(500));
    assert!(expand(&sum, &look).is_err());
}

#[test]
fn long_values_are_searched_in_no_more_than_a_moment() {
    // With the longest value that there can be, each of these took hours when all parts of the value were tried one by one.
    let long = "ab/".repeat(40_000);
    let look = |_: &str| Some(long.clone());
    for (text, len) in [
        ("${A//x/y}", 120_000),
        ("${A//b/yy}", 160_000),
        ("${A/*x/y}", 120_000),
        ("${A%%x*}", 120_000),
        ("${A##*x}", 120_000),
        ("${A##*a}", 2),
    ] {
        assert_eq!(expand(text, &look).unwrap().len(), len, "{text}");
    }
}
