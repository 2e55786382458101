//! Problems as a terminal shows them.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

use crate::{parse, parse_bytes};

pub(super) fn render(problem: &dyn Diagnostic) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_context_lines(1);
    let mut text = String::new();
    handler.render_report(&mut text, problem).unwrap();
    // Blanks at the ends of lines do not survive editors.
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

fn of(text: &str) -> String {
    render(&parse(".gitlab-ci.yml", text).unwrap_err())
}

#[test]
fn unsupported_keywords() {
    insta::assert_snapshot!(of(
        "include: other.yml\n\njob:\n  script: make\n  rules:\n    - if: $CI\n"
    ));
}

#[test]
fn misspelt_keyword_of_a_job() {
    insta::assert_snapshot!(of("job:\n  script: make\n  befor_script:\n    - true\n"));
}

#[test]
fn unknown_keyword_without_a_near_one() {
    insta::assert_snapshot!(of(
        "image:\n  name: alpine\n  colour: red\njob:\n  script: make\n"
    ));
}

#[test]
fn misspelt_keyword_at_the_top() {
    insta::assert_snapshot!(of("stage:\n  - build\njob:\n  script: make\n"));
}

#[test]
fn unknown_stage() {
    insta::assert_snapshot!(of(
        "stages: [build, test]\njob:\n  stage: biuld\n  script: make\n"
    ));
}

#[test]
fn missing_script() {
    insta::assert_snapshot!(of("job:\n  image: alpine\n"));
}

#[test]
fn line_that_is_a_map() {
    insta::assert_snapshot!(of(
        "job:\n  script:\n    - echo \"colon: here\"\n    - echo colon: here\n"
    ));
}

#[test]
fn tab_as_indentation() {
    insta::assert_snapshot!(of("job:\n\tscript: make\n"));
}

#[test]
fn colon_in_a_plain_text() {
    insta::assert_snapshot!(of("job:\n  script: echo a: b\n"));
}

#[test]
fn unclosed_bracket() {
    insta::assert_snapshot!(of("job:\n  script: [make, test\nother:\n  script: x\n"));
}

#[test]
fn wrong_indentation() {
    insta::assert_snapshot!(of("job:\n  script: make\n image: x\n"));
}

#[test]
fn unclosed_quote() {
    insta::assert_snapshot!(of("job:\n  script: \"make\n"));
}

#[test]
fn unknown_alias() {
    insta::assert_snapshot!(of(
        ".base: &base\n  image: x\njob:\n  <<: *bsae\n  script: make\n"
    ));
}

#[test]
fn date_without_quotes() {
    insta::assert_snapshot!(of(
        "variables:\n  SINCE: 2024-01-31\njob:\n  script: make\n"
    ));
}

#[test]
fn alias_bomb() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (from, to) in ["ab", "bc", "cd", "de", "ef", "fg"].map(|pair| pair.split_at(1)) {
        let list = vec![format!("*{from}"); 10].join(", ");
        text.extend([format!("{to}: &{to} [{list}]\n")]);
    }
    insta::assert_snapshot!(of(&text));
}

#[test]
fn file_that_is_not_utf8() {
    let error = parse_bytes(".gitlab-ci.yml", b"job:\n  script: \"caf\xE9\"\n").unwrap_err();
    insta::assert_snapshot!(render(&error));
}

#[test]
fn empty_file() {
    insta::assert_snapshot!(of(""));
}

#[test]
fn no_visible_job() {
    insta::assert_snapshot!(of("stages: [build]\n.build:\n  script: make\n"));
}

#[test]
fn value_of_several_lines() {
    insta::assert_snapshot!(of("job:\n  script: make\n  image:\n    - one\n    - two\n"));
}

#[test]
fn windows_line_ends() {
    insta::assert_snapshot!(of("job:\r\n  script: make\r\n  only: [main]\r\n"));
}

#[test]
fn warning_about_a_repeated_key() {
    let pipeline = parse(".gitlab-ci.yml", "a:\n  script: x\na:\n  script: y\n").unwrap();
    insta::assert_snapshot!(render(&pipeline.warnings[0]));
}

#[test]
fn warning_about_a_number() {
    let pipeline = parse(
        ".gitlab-ci.yml",
        "variables:\n  VERSION: 3.10\na:\n  script: x\n",
    )
    .unwrap();
    insta::assert_snapshot!(render(&pipeline.warnings[0]));
}
