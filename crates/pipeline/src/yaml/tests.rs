use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::problem::{Problem, ProblemKind};
use crate::source::{Source, SourceId};

mod scalars;

fn read(text: &str) -> (Source, Composed) {
    let source = Source::new(SourceId(0), "f.yml", text);
    let composed = compose(&source, &Limits::default());
    (source, composed)
}

fn good(text: &str) -> Arc<Node> {
    let (_, composed) = read(text);
    assert!(
        composed.problems.is_empty(),
        "{:?}",
        lines(&composed.problems)
    );
    Arc::clone(&composed.documents[0].root)
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::line).collect()
}

/// A tree in one line: text bare, anything else with its type.
fn show(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(_) | Value::BigInt(_) => format!("int {}", node.to_text().unwrap()),
        Value::Float(_) => format!("float {}", node.to_text().unwrap()),
        Value::Str(text) => text.clone(),
        Value::Seq(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(|item| show(item))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        Value::Map(map) => {
            let entry = |entry: &Entry| format!("{}: {}", show(&entry.key), show(&entry.value));
            format!(
                "{{{}}}",
                map.entries()
                    .iter()
                    .map(entry)
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
    }
}

// Expected: Psych 4.0.3.
#[rstest]
#[case("{a: x, <<: {a: y}}", "{a: y}")]
#[case("{<<: {a: y}, a: x}", "{a: x}")]
#[case("{\"<<\": {a: y}}", "{a: y}")]
#[case("{<<: [{a: x, b: x}, {a: y, c: y}]}", "{a: x, c: y, b: x}")]
#[case("{<<: foo}", "{<<: foo}")]
#[case("{<<: [z, {a: x}]}", "{<<: [z, {a: x}]}")]
#[case("{a: x, <<: }", "{a: x, <<: null}")]
#[case("<<: &x {a: y}\nb: *x", "{a: y, b: {a: y}}")]
#[case("l: &l [{a: x}]\nm: {<<: *l}", "{l: [{a: x}], m: {<<: [{a: x}]}}")]
#[case(
    "x: &x {a: 1}\ny: &y {b: 2}\nm: {<<: [*x, *y], c: 3}",
    "{x: {a: int 1}, y: {b: int 2}, m: {b: int 2, a: int 1, c: int 3}}"
)]
#[case("{<<: {a: x}, <<: {b: y}}", "{a: x, b: y}")]
#[case("{a: x, b: y, a: z}", "{a: z, b: y}")]
#[case("{a: x, 'a': z}", "{a: z}")]
#[case("{1: x, '1': y, 0x1: z}", "{int 1: z, 1: y}")]
#[case("1: a\ntrue: b\n~: c", "{int 1: a, true: b, null: c}")]
fn merge_keys_and_repeated_keys_come_out_as_in_gitlab(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(show(&good(text)), expected);
}

#[rstest]
#[case("!!str 1", "1")]
#[case("!str 1", "1")]
#[case("!foo 1", "int 1")]
#[case("!foo 'x'", "x")]
#[case("!!int '12'", "int 12")]
#[case("! 12", "int 12")]
#[case("!!float 1", "float 1.0")]
#[case("'yes'", "yes")]
#[case("\"~\"", "~")]
#[case("''", "")]
#[case("|\n  x\n", "x\n")]
#[case("|\n  x", "x")]
#[case("|-\n  1\n", "1")]
#[case(">\n  a\n  b\n\n  c\n", "a b\nc\n")]
#[case("plain\n  goes on", "plain goes on")]
#[case("!reference [b, c]", "[b, c]")]
fn tags_and_styles_decide_the_type(#[case] value: &str, #[case] expected: &str) {
    assert_eq!(
        show(&good(&format!("a: {value}"))),
        format!("{{a: {expected}}}")
    );
}

#[test]
fn tags_are_kept_with_their_place() {
    let root = good("a: !reference [b, c]\nb: !!str 1\nc: !my\n  d: e\n");
    let map = root.as_map().unwrap();
    let tag = |key: &str| {
        let tag = map.get(key).unwrap().tag.clone().unwrap();
        (tag.name, tag.span.start.line, tag.span.start.column)
    };
    assert_eq!(tag("a"), ("!reference".to_owned(), 1, 4));
    assert_eq!(tag("b"), ("tag:yaml.org,2002:str".to_owned(), 2, 4));
    assert_eq!(tag("c"), ("!my".to_owned(), 3, 4));
}

/// Every node's span, cut out of the text.
fn cuts(text: &str) -> Vec<String> {
    let root = good(text);
    let mut cuts = Vec::new();
    let mut open = vec![&*root];
    while let Some(node) = open.pop() {
        cuts.push(text[node.span.start.byte..node.span.end.byte].to_owned());
        match &node.value {
            Value::Seq(items) => open.extend(items.iter().rev().map(|item| &**item)),
            Value::Map(map) => open.extend(
                map.entries()
                    .iter()
                    .rev()
                    .flat_map(|entry| [&*entry.value, &*entry.key]),
            ),
            _ => {}
        }
    }
    cuts
}

#[test]
fn every_node_knows_its_bytes() {
    assert_eq!(
        cuts(
            "job: # c\n  script:\n    - \"a b\"\n    - |\n      one\n      two\n\n  n: [1, {é: x}]\n"
        ),
        [
            "job: # c\n  script:\n    - \"a b\"\n    - |\n      one\n      two\n\n  n: [1, {é: x}]",
            "job",
            "script:\n    - \"a b\"\n    - |\n      one\n      two\n\n  n: [1, {é: x}]",
            "script",
            "- \"a b\"\n    - |\n      one\n      two",
            "\"a b\"",
            "one\n      two",
            "n",
            "[1, {é: x}]",
            "1",
            "{é: x}",
            "é",
            "x",
        ]
    );
}

#[test]
fn lines_and_columns_count_from_one_and_survive_crlf_and_a_byte_order_mark() {
    let root = good("\u{FEFF}a: x\r\nbé:\r\n  - y\r\n");
    let map = root.as_map().unwrap();
    let at = |node: &Node| (node.span.start.line, node.span.start.column);
    assert_eq!(at(&map.entry("bé").unwrap().key), (2, 1));
    assert_eq!(at(&map.get("bé").unwrap().as_seq().unwrap()[0]), (3, 5));
    assert_eq!(show(&root), "{a: x, bé: [y]}");
}

#[test]
fn an_alias_shares_its_target() {
    let root = good("a: &x {k: [v]}\nb: *x\n");
    let map = root.as_map().unwrap();
    assert!(Arc::ptr_eq(map.get("a").unwrap(), map.get("b").unwrap()));
    // The map, two keys, and twice: a map, its key, a list, an item.
    assert_eq!(root.size(), 1 + 2 + 2 * 4);
    assert_eq!(root.depth(), 3);
}

#[test]
fn merged_entries_name_the_key_that_brought_them() {
    let root = good("x: &x {a: 1}\ny:\n  <<: *x\n  b: 2\n");
    let y = root.as_map().unwrap().get("y").unwrap().as_map().unwrap();
    assert_eq!(y.entry("a").unwrap().merged_at.unwrap().start.line, 3);
    assert_eq!(y.entry("b").unwrap().merged_at, None);
}

#[rstest]
#[case("a: 1\nb: 2\na: 3\n", &["f.yml:3:1: `a` is given twice"])]
#[case("x: &x {a: 1, b: 1}\ny:\n  a: 2\n  b: 2\n  <<: *x\n",
    &["f.yml:5:3: `<<` overwrites `a`, `b` that stands before it"])]
#[case("x: &x {a: 1}\ny:\n  <<: *x\n  a: 2\n", &[])]
#[case("x: &x {a: 1}\nz: {<<: [*x, *x], <<: *x}\n", &[])]
fn what_a_key_replaces_is_a_warning(#[case] text: &str, #[case] expected: &[&str]) {
    let (_, composed) = read(text);
    assert_eq!(lines(&composed.problems), Vec::<String>::new());
    assert_eq!(lines(&composed.warnings), expected);
}

#[rstest]
#[case("", 0)]
#[case("# only a comment\n", 0)]
#[case("---\n", 1)]
#[case("a: 1\n", 1)]
#[case("spec:\n  inputs: {}\n---\na: 1\n", 2)]
#[case("a: 1\n...\n---\nb: 2\n---\nc: 3\n", 3)]
fn documents_are_told_apart(#[case] text: &str, #[case] count: usize) {
    assert_eq!(read(text).1.documents.len(), count);
}

#[test]
fn anchors_do_not_reach_into_the_next_document() {
    let (_, composed) = read("a: &x 1\n---\nb: *x\n");
    assert_eq!(lines(&composed.problems), ["f.yml:3:4: unknown alias `*x`"]);
}

#[rstest]
#[case("a: *nmae\nb: &name 1\nc: *nmae\n",
    &["f.yml:1:4: unknown alias `*nmae`", "f.yml:3:4: unknown alias `*nmae`"])]
#[case("a: &x [*x]\n", &["f.yml:1:8: an alias stands inside the anchor it refers to"])]
#[case("? [a]\n: b\n", &["f.yml:1:3: a key must be text, not a list"])]
#[case("{a: b}: c\n", &["f.yml:1:1: a key must be text, not a map"])]
#[case(": a\n", &["f.yml:1:1: not YAML: a key is missing before the colon"])]
#[case("a: 2024-01-01\nb: 2024-01-01 10:00:00\n",
    &["f.yml:1:4: `2024-01-01` is a date, which GitLab refuses",
      "f.yml:2:4: `2024-01-01 10:00:00` is a time, which GitLab refuses"])]
#[case("a: !!float x\n", &["f.yml:1:12: `x` is no number, which GitLab refuses"])]
#[case("a: !!binary aGk=\nb: !!set {a}\nc: !ruby/object:X {}\n",
    &["f.yml:1:4: the tag `!!binary` is not allowed",
      "f.yml:2:4: the tag `!!set` is not allowed",
      "f.yml:3:4: the tag `!ruby/object:X` is not allowed"])]
#[case("\ta: b\n", &["f.yml:1:1: not YAML: a tab in the indentation"])]
#[case("a:\n  - \tb\n", &["f.yml:2:5: not YAML: a tab in the indentation"])]
#[case("a:\n  - b\n\t- c\n", &["f.yml:2:5: not YAML: while scanning a plain scalar, found a tab"])]
#[case("a: [b\n", &["f.yml:1:4: not YAML: unclosed bracket '['"])]
#[case("a: b: c\n", &["f.yml:1:5: not YAML: mapping values are not allowed in this context"])]
fn what_cannot_be_read_has_a_place(#[case] text: &str, #[case] expected: &[&str]) {
    assert_eq!(lines(&read(text).1.problems), expected);
}

/// Ten levels, each ten times the one before: 10^10 nodes when written out.
fn bomb(list: impl Fn(&str) -> String) -> String {
    let mut text = "a0: &a0 {k: v}\n".to_owned();
    for level in 1..=10 {
        let target = format!("*a{}", level - 1);
        text.extend([format!("a{level}: &a{level} {}\n", list(&target))]);
    }
    text
}

#[rstest]
#[case::aliases(bomb(|target| format!("[{}]", [target; 10].join(", "))))]
#[case::keys(bomb(|target| {
    format!("{{{}}}", (0..10).map(|n| format!("k{n}: {target}")).collect::<Vec<_>>().join(", "))
}))]
fn an_alias_bomb_is_a_limit_and_not_a_catastrophe(#[case] text: String) {
    let (_, composed) = read(&text);
    assert_eq!(
        composed.problems.len(),
        1,
        "{:?}",
        lines(&composed.problems)
    );
    assert_eq!(composed.problems[0].kind(), ProblemKind::Limit);
}

#[test]
fn merge_keys_cannot_multiply_a_map_without_end() {
    let keys: String = (0..1000).map(|n| format!("k{n}: v, ")).collect();
    let mut text = format!("big: &big {{{keys}}}\n");
    for n in 0..1000 {
        text.extend([format!("m{n}: {{<<: *big}}\n")]);
    }
    let (_, composed) = read(&text);
    assert_eq!(composed.problems.len(), 1);
    assert_eq!(composed.problems[0].kind(), ProblemKind::Limit);
    assert_eq!(composed.problems[0].to_string(), "merge keys copy too much");
}

#[rstest]
#[case(100, true)]
#[case(101, false)]
#[case(5000, false)]
fn nesting_ends_at_a_hundred(#[case] levels: usize, #[case] allowed: bool) {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text = open.repeat(levels) + &close.repeat(levels);
        let (_, composed) = read(&text);
        assert_eq!(
            composed.problems.is_empty(),
            allowed,
            "{:?}",
            lines(&composed.problems)
        );
    }
    let block: String = (0..levels)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    assert_eq!(read(&block).1.problems.is_empty(), allowed);
}

#[test]
fn aliases_nest_no_deeper_than_what_is_written() {
    let half = |open: &str, close: &str| open.repeat(60) + close;
    let text = format!(
        "a: &a {}{}\nb: {}*a{}\n",
        half("[", "x"),
        "]".repeat(60),
        "[".repeat(60),
        "]".repeat(60)
    );
    let (_, composed) = read(&text);
    assert_eq!(composed.problems[0].kind(), ProblemKind::Limit);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let (_, composed) = read(&"#".repeat(Limits::default().bytes + 1));
    assert_eq!(composed.problems[0].kind(), ProblemKind::Limit);
}

#[test]
fn problems_without_end_are_cut() {
    let (_, composed) = read(&"- *x\n".repeat(100_000));
    assert_eq!(composed.problems.len(), 100);
}

/// Inputs near the limits: what matters is that they come to an end, and in linear time. A
/// quadratic step would take minutes here.
#[rstest]
#[case::one_scalar("a: ".to_owned() + &"x".repeat(1_000_000))]
#[case::one_number("a: ".to_owned() + &"7".repeat(1_000_000))]
#[case::one_hex_number("a: 0x".to_owned() + &"f".repeat(1_000_000))]
#[case::one_line_per_key((0..50_000).map(|n| format!("k{n}: v\n")).collect())]
#[case::the_same_key("k: v\n".repeat(50_000))]
#[case::block_scalar("a: |\n".to_owned() + &"  x\n".repeat(200_000))]
#[case::quoted("a: \"".to_owned() + &"\\n".repeat(300_000) + "\"")]
#[case::blank_lines("\n".repeat(1_000_000) + "a: b")]
#[case::anchors((0..100_000).map(|n| format!("- &a{n} *a{n}\n")).collect())]
#[case::brackets("[".repeat(1_000_000))]
#[case::question_marks("? ".repeat(1_000_000))]
#[case::dashes("- ".repeat(1_000_000))]
#[case::documents("---\n".repeat(200_000))]
#[case::tags("- !x y\n".repeat(300_000))]
#[case::controls((1..32).map(|code| char::from_u32(code).unwrap()).collect())]
#[case::nul("a: \0b".to_owned())]
fn nasty_inputs_come_to_an_end(#[case] text: String) {
    let (source, composed) = read(&text);
    for problem in composed.problems.iter().chain(&composed.warnings) {
        assert!(problem.span().end.byte <= source.text().len());
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        read(&text);
    }

    #[test]
    fn arbitrary_yaml_like_text_never_panics_and_spans_lie_in_the_text(
        text in "([a-z<>*&!|'\":{}\\[\\],#?%@~0-9.-]|  |\n|\t|: |- |é|\r\n|---\n){0,120}",
    ) {
        let (source, composed) = read(&text);
        let mut open: Vec<Arc<Node>> =
            composed.documents.iter().map(|document| Arc::clone(&document.root)).collect();
        while let Some(node) = open.pop() {
            let Span { start, end, .. } = node.span;
            prop_assert!(start.byte <= end.byte && end.byte <= source.text().len());
            prop_assert!(source.text().is_char_boundary(start.byte));
            prop_assert!(source.text().is_char_boundary(end.byte));
            match &node.value {
                Value::Seq(items) => open.extend(items.iter().cloned()),
                Value::Map(map) => open.extend(map.entries().iter().map(|entry| Arc::clone(&entry.value))),
                _ => {}
            }
        }
        for problem in composed.problems.iter().chain(&composed.warnings) {
            let at = problem.span().start;
            prop_assert_eq!(source.position(at.byte).line, at.line);
        }
    }
}
