use rstest::rstest;
use serde_json::json;

use super::*;

fn root() -> Value {
    let inputs = json!({
        "suite": "fast", "empty": "", "count": 3, "ratio": 0.5, "on": true, "off": false,
        "list": ["one", "two"], "place": {"line-1": "a street", "n": {"deep": "x"}}, "nothing": null
    });
    let mut inputs = vec![("inputs".to_owned(), Value::from_json(&inputs))];
    let secret = Value::object(vec![(
        "key".to_owned(),
        Value::string("hush").sensitive(true),
    )]);
    inputs.push(("secret".to_owned(), secret));
    Value::object(vec![("job".to_owned(), Value::object(inputs))])
}

fn text(template: &str) -> String {
    evaluate(template, &root())
        .unwrap_or_else(|error| panic!("{template}: {error}"))
        .text()
}

#[rstest]
#[case("plain", "plain")]
#[case("$ ${HOME} $$ {{ }} ${ {", "$ ${HOME} $$ {{ }} ${ {")]
#[case("${{ job.inputs.suite }}", "fast")]
#[case("${{job.inputs.suite}}", "fast")]
#[case(
    "a ${{ job.inputs.suite }} b ${{ job.inputs.list[1] }}",
    "a fast b two"
)]
#[case("$${{ job.inputs.suite }}}}", "$fast}}")]
#[case(r"\${{ not.evaluated }}", "${{ not.evaluated }}")]
#[case("n=${{ str(job.inputs.count) }}", "n=3")]
#[case("${{ job.inputs.count }}", "3")]
#[case("${{ job.inputs.on }}", "true")]
#[case("${{ null }}", "<null>")]
#[case("${{ job.inputs[\"place\"]['line-1'] }}", "a street")]
#[case("${{ job.inputs.place.n.deep }}", "x")]
#[case("${{ job.inputs.list }}", "[\"one\",\"two\"]")]
#[case(
    "${{ [1, 2.5, {a: null, \"b\": true,},] }}",
    "[1,2.5,{\"a\":null,\"b\":true}]"
)]
#[case("${{ {(job.inputs.suite): 1} }}", "{\"fast\":1}")]
#[case("${{\n  \"a\" +\n 'b'\t}}", "ab")]
fn templates(#[case] template: &str, #[case] expected: &str) {
    assert_eq!(text(template), expected);
}

#[rstest]
#[case("1 + 2 * 3", "7")]
#[case("(1 + 2) * 3", "9")]
#[case("10 - 4 - 3", "3")]
#[case("10 / 4", "2.5")]
#[case("10 % 3", "1")]
#[case("-10 % 3", "-1")]
#[case("--5", "5")]
#[case("+5", "5")]
#[case("1.5e3", "1500")]
#[case("2E-1", "0.2")]
#[case("1 == 1 && 2 > 1", "true")]
#[case("1 == \"1\"", "false")]
#[case("1 < \"1\"", "true")]
#[case("\"a\" < \"b\"", "true")]
#[case("[1, 2] < [1, 3]", "true")]
#[case("[1] < [1, 0]", "true")]
#[case("{a: 1, b: 2} == {b: 2, a: 1}", "true")]
#[case("{a: 1} != {a: 2}", "true")]
#[case("null == null", "true")]
#[case("false < true", "true")]
#[case("!1 == false", "true")]
#[case("job.inputs.empty || \"default\"", "default")]
#[case("job.inputs.suite || missing", "fast")]
#[case("0 && missing", "0")]
#[case("job.inputs.on && \"-v\" || \"\"", "-v")]
#[case("job.inputs.off && \"-v\" || \"\"", "")]
#[case("job.inputs.suite == \"fast\" && \"a:1\" || \"b:1\"", "a:1")]
#[case("num(\"3.14\") + num(1)", "4.140000000000001")]
#[case("bool(\"x\")", "true")]
#[case("bool({})", "false")]
#[case("str(true) + str(null)", "true<null>")]
#[case(r#""tab\tquote\"\u00e9\ud83e\udd80\/""#, "tab\tquote\"é🦀/")]
#[case(r#""in ${{ job.inputs.suite }} text""#, "in fast text")]
#[case(r#""\${{ x }}""#, "${{ x }}")]
#[case(r"'It\'s \\ ${{ raw }}'", r"It's \ ${{ raw }}")]
fn expressions(#[case] expression: &str, #[case] expected: &str) {
    assert_eq!(text(&format!("${{{{ {expression} }}}}")), expected);
}

#[rstest]
#[case(
    "n=${{ job.inputs.count }}",
    "cannot put a number into text: convert it by str() (at character 17)"
)]
#[case("on: ${{ job.inputs.on }}", "cannot put a bool into text")]
#[case("all: ${{ job.inputs.list }}", "cannot put an array into text")]
#[case("${{ job.inputs.missing }}", "attribute \"missing\" not found")]
#[case("${{ missing }}", "unknown identifier \"missing\" (at character 5)")]
#[case(
    "${{ job.inputs.list[2] }}",
    "index 2 is not in an array of 2 elements"
)]
#[case("${{ job.inputs.list[-1] }}", "index -1 is not in an array")]
#[case("${{ job.inputs.list.x }}", "array requires number index not string")]
#[case("${{ job.inputs.suite.x }}", "a string has no attributes")]
#[case("${{ job[1] }}", "object requires string key not number")]
#[case(
    "${{ \"hello\" + 42 }}",
    "operator + does not take a string and a number (at character 13)"
)]
#[case("${{ 1 / 0 }}", "division by zero")]
#[case("${{ -\"x\" }}", "a sign needs a number, not a string")]
#[case("${{ num(\"x\") }}", "num() of a string that is no number")]
#[case("${{ num([]) }}", "num() takes a string, not a array")]
#[case("${{ str() }}", "str() takes one argument, not 0")]
#[case("${{ lower(\"x\") }}", "unknown function \"lower\"")]
#[case("${{ {(1): 2} }}", "an object needs a string as key, not a number")]
#[case("${{", "expected an expression, found the end (at character 4)")]
#[case("${{ }}", "expected an expression, found '}'")]
#[case("${{ job.inputs.suite", "expected \"}}\", found the end")]
#[case("${{ job.inputs.suite }", "expected \"}}\", found '}'")]
#[case("${{ a b }}", "expected \"}}\", found 'b'")]
#[case("${{ \"open }}", "expected a closing quote")]
#[case("${{ 'open }}", "expected a closing quote")]
#[case(r#"${{ "\q" }}"#, "\\q is no escape")]
#[case(r#"${{ "\u12" }}"#, "four hexadecimal digits")]
#[case(r#"${{ "\ud800" }}"#, "no such character")]
#[case("${{ if }}", "\"if\" is a reserved word (at character 5)")]
#[case("${{ job. }}", "expected the name of an attribute")]
#[case("${{ 1e999 }}", "the number is too large")]
#[case("é ${{ x }}", "unknown identifier \"x\" (at character 7)")]
fn mistakes_are_told_with_their_place(#[case] template: &str, #[case] message: &str) {
    let error = evaluate(template, &root()).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

#[rstest]
#[case("${{ job.secret.key }}", true)]
#[case("a ${{ job.secret.key + \"x\" }}", true)]
#[case("${{ str(job.secret) }}", true)]
#[case("${{ job.secret.key == \"hush\" }}", true)]
#[case("${{ job.secret.key && \"x\" }}", true)]
#[case("${{ [job.secret.key] }}", true)]
#[case("${{ job.inputs.suite }}", false)]
#[case("${{ job.inputs.suite || job.secret.key }}", false)]
fn whatever_is_made_from_a_secret_is_one(#[case] template: &str, #[case] sensitive: bool) {
    let value = evaluate(template, &root()).unwrap();
    assert_eq!(value.is_sensitive(), sensitive);
    assert!(!format!("{value:?}").contains("hush"));
}

#[test]
fn hostile_expressions_are_refused() {
    for text in [
        "(".repeat(100_000),
        "-".repeat(100_000),
        "[".repeat(100_000),
        format!("job{}", ".a".repeat(100_000)),
        format!("1{}", "+1".repeat(100_000)),
        "\"${{ ".repeat(10_000),
        "!".repeat(100_000),
    ] {
        assert!(evaluate(&format!("${{{{ {text} }}}}"), &root()).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\$\\{\\}a-c\"'\\\\ .+\\-*/()\\[\\]<>=!&|0-9:,é]{0,60}") {
        drop(evaluate(&text, &root()));
        drop(evaluate(&format!("${{{{ {text} }}}}"), &root()));
    }

    #[test]
    fn text_without_expressions_stays(text in "[^\\\\$]{0,60}") {
        proptest::prop_assert_eq!(evaluate(&text, &root()).unwrap().text(), text);
    }
}
