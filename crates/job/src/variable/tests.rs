use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn set(pairs: &[(&str, &str)]) -> Variables {
    pairs
        .iter()
        .map(|(key, value)| Variable::new(*key, *value))
        .collect()
}

/// Set of the tables below.
fn table_set() -> Variables {
    let mut variables = set(&[
        ("A", "first"),
        ("A", "value"),
        ("B", "$A"),
        ("HOME", "/root"),
        ("1", "one"),
        ("@", "at"),
        ("A:-b", "odd key"),
        ("ü", "umlaut"),
        (TMP_DIR_VARIABLE, "/builds/g/p.tmp"),
    ]);
    variables.push(Variable {
        file: true,
        ..Variable::new("KEY", "content")
    });
    variables
}

#[rstest]
#[case::name("$A", "value")]
#[case::name_ends_at_other_bytes("$A-x$A.y/$A", "value-x" .to_owned() + "value.y/value")]
#[case::longest_name("$A_", "")]
#[case::unknown("[$NO]", "[]")]
#[case::braces("${A}b", "valueb")]
#[case::anything_in_braces_is_a_key("${A:-b}", "odd key")]
#[case::default_form_is_no_default("${HOME:-x}", "")]
#[case::key_of_other_letters("${ü}", "umlaut")]
#[case::dollar("$$HOME", "$HOME")]
#[case::dollar_in_braces("${$}A", "$A")]
#[case::digit_is_a_whole_name("$1abc", "abc")]
#[case::special_names_are_empty("[$@$*$#$?$!$-${@}${1}]", "[]")]
#[case::text_after_dollar("$/x $ $(cmd) $. $", "$/x $ $(cmd) $. $")]
#[case::other_letters_are_no_name("$ü", "$ü")]
#[case::empty_braces("a${}b", "ab")]
#[case::open_brace("${HOME", "HOME")]
#[case::open_brace_with_reference("${x$A", "xvalue")]
#[case::many_open_braces("${${${A", "A")]
#[case::brace_closed_far_away("${${A}", "")]
#[case::other_syntaxes("%A% `A` \\$A", "%A% `A` \\value")]
#[case::substituted_text_is_not_scanned("$B", "$A")]
#[case::file_variable_is_its_path("$KEY ${KEY}", "/builds/g/p.tmp/KEY /builds/g/p.tmp/KEY")]
#[case::no_reference("plain é", "plain é")]
#[case::empty("", "")]
fn text_is_expanded(#[case] text: &str, #[case] expanded: impl AsRef<str>) {
    let variables = table_set();
    assert_eq!(variables.expand(text), expanded.as_ref());
    let mut whole = variables.clone();
    whole.push(Variable::new("TEXT", text));
    assert_eq!(
        whole.expanded().value("TEXT"),
        expanded.as_ref(),
        "in a set"
    );
}

#[test]
fn set_is_expanded_once_against_the_unexpanded_set() {
    let expanded = set(&[
        ("A", "$B"),
        ("B", "$C"),
        ("C", "x"),
        ("PATH", "/bin"),
        ("PATH", "$PATH:/x"),
    ])
    .expanded();
    let values: Vec<_> = expanded
        .iter()
        .map(|variable| variable.value.as_str())
        .collect();
    assert_eq!(values, ["$C", "x", "x", "/bin", "$PATH:/x:/x"]);
}

#[rstest]
#[case("$$HOME", "$HOME")]
#[case("100%", "100%")]
#[case("%PATH%", "%PATH%")]
#[case("${B:-d}", "")]
#[case("${B", "B")]
fn values_of_scenario_25(#[case] value: &str, #[case] expanded: &str) {
    assert_eq!(set(&[("A", value)]).expanded().value("A"), expanded);
}

#[test]
fn raw_value_stays_and_is_inserted_as_it_is() {
    let mut variables = set(&[("C", "[$A]"), ("B", "b")]);
    variables.push(Variable {
        raw: true,
        ..Variable::new("A", "$B")
    });
    let expanded = variables.expanded();
    assert_eq!((expanded.value("A"), expanded.value("C")), ("$B", "[$B]"));
}

#[test]
fn last_entry_of_a_key_wins() {
    let variables = set(&[("A", "1"), ("B", "2"), ("A", "3")]);
    assert_eq!(variables.value("A"), "3");
    assert_eq!(variables.value("NO"), "");
    assert_eq!(variables.get("NO"), None);
    assert_eq!(variables.container_env(), ["A=1", "B=2", "A=3"]);
}

#[test]
fn file_variable_is_content_for_settings_and_path_for_programs() {
    let variables = table_set();
    assert_eq!(variables.value("KEY"), "content");
    assert_eq!(variables.lookup("KEY"), "/builds/g/p.tmp/KEY");
    assert!(
        variables
            .container_env()
            .contains(&"KEY=/builds/g/p.tmp/KEY".to_owned())
    );
}

#[rstest]
#[case("/builds/p.tmp", "/builds/p.tmp/K")]
#[case("/builds/p.tmp/", "/builds/p.tmp/K")]
#[case("/", "/K")]
#[case("", "K")]
fn file_path_is_joined(#[case] tmp_dir: &str, #[case] path: &str) {
    assert_eq!(file_path(tmp_dir, "K"), path);
}

#[test]
fn services_see_public_and_internal_entries_only() {
    let mut variables = set(&[("PRIVATE", "1")]);
    variables.push(Variable {
        public: true,
        ..Variable::new("PUBLIC", "2")
    });
    variables.push(Variable {
        internal: true,
        ..Variable::new("INTERNAL", "3")
    });
    assert_eq!(variables.service_env(), ["PUBLIC=2", "INTERNAL=3"]);
}

#[test]
fn job_status_is_set_in_the_first_entry_so_that_one_of_the_server_hides_it() {
    let mut variables = set(&[("CI_JOB_STATUS", "running")]);
    variables.set_job_status(JobStatus::Failed);
    assert_eq!(variables.value("CI_JOB_STATUS"), "failed");
    variables.push(Variable::new("CI_JOB_STATUS", "mine"));
    variables.set_job_status(JobStatus::TimedOut);
    assert_eq!(variables.as_slice()[0].value, "timedout");
    assert_eq!(variables.value("CI_JOB_STATUS"), "mine");
}

#[rstest]
#[case("A", true)]
#[case("_a1", true)]
#[case("1A", false)]
#[case("A.B", false)]
#[case("A-B", false)]
#[case("Ä", false)]
#[case("", false)]
fn identifiers_are_told_from_other_keys(#[case] key: &str, #[case] is: bool) {
    assert_eq!(Variable::new(key, "").key_is_identifier(), is);
}

#[rstest]
#[case("KEY", true)]
#[case("1.KEY of é", true)]
#[case("a..b", true)]
#[case("", false)]
#[case(".", false)]
#[case("..", false)]
#[case(".glr.gconf", false)]
#[case("../x", false)]
#[case("x/y", false)]
#[case("x\0", false)]
#[case(&"x".repeat(256), false)]
fn file_variables_have_files_where_their_key_is_a_name(#[case] key: &str, #[case] is: bool) {
    assert_eq!(Variable::new(key, "").key_is_file_name(), is);
}

#[rstest]
#[case("1", Some(true))]
#[case("TRUE", Some(true))]
#[case("f", Some(false))]
#[case("yes", None)]
#[case("tRue", None)]
#[case(" true", None)]
#[case("", None)]
fn booleans_have_the_peers_forms(#[case] text: &str, #[case] value: Option<bool>) {
    assert_eq!(parse_bool(text), value);
}

#[test]
fn entries_too_long_for_any_program_are_named() {
    let long = "x".repeat(MAX_ENV_ENTRY_BYTES - 5);
    let mut variables = set(&[
        ("OVER", &long),
        ("FITS", &long[1..]),
        ("LATER", &long),
        ("LATER", "short"),
    ]);
    variables.push(Variable {
        file: true,
        ..Variable::new("FILE", "x".repeat(1 << 20))
    });
    assert_eq!("OVER=".len() + long.len(), MAX_ENV_ENTRY_BYTES);
    assert_eq!(variables.too_long_for_env(), Vec::<&str>::new());
    variables.push(Variable::new("OVER", long + "x"));
    assert_eq!(variables.too_long_for_env(), ["OVER"]);
}

#[test]
fn references_cannot_fill_the_memory() {
    let big = "x".repeat(1 << 20);
    let bomb = "$BIG".repeat(1 << 10);
    let mut list = vec![Variable::new("BIG", big)];
    list.extend((0..40).map(|n| Variable::new(format!("BOMB{n}"), bomb.clone())));
    let (expanded, problems) = Variables::from(list).expanded_reporting();
    let total: usize = expanded.iter().map(|variable| variable.value.len()).sum();
    assert!(total < MAX_EXPANDED_SET_BYTES + (8 << 20), "{total}");
    assert_eq!(problems.len(), 40);
    assert!(problems[0].starts_with("BOMB0: value expands to more than 4194304 bytes"));
    assert!(expanded.value("BOMB0").ends_with("$BIG"));
}

#[test]
fn many_open_braces_and_many_variables_are_fast_enough() {
    // Quadratic behaviour would take minutes here.
    let text = "${".repeat(1 << 20);
    assert_eq!(Variables::new().expand(&text), "");
    let many: Variables = (0..50_000)
        .map(|n| Variable::new(format!("V{n}"), format!("$V{}", n / 2)))
        .collect();
    assert_eq!(many.expanded().value("V49999"), "$V12499");
}

#[test]
fn debug_shows_no_value() {
    let variable = Variable {
        masked: true,
        ..Variable::new("KEY", "hush")
    };
    assert_eq!(format!("{variable:?}"), "KEY=[4 bytes] masked");
    assert!(!format!("{:?}", Variables::from(vec![variable])).contains("hush"));
}

proptest! {
    #[test]
    fn no_text_makes_expansion_panic(text in r"([${}A-C0-9@é\-]|.)*") {
        let variables = table_set();
        let alone = variables.expand(&text);
        let mut whole = variables;
        whole.push(Variable::new("TEXT", &text));
        let expanded = whole.expanded();
        prop_assert_eq!(expanded.value("TEXT"), alone);
    }

    #[test]
    fn text_without_a_dollar_is_unchanged(text in "[^$]*") {
        prop_assert_eq!(table_set().expand(&text), text);
    }

    #[test]
    fn concatenation_of_closed_texts_expands_piece_by_piece(
        pieces in prop::collection::vec(
            prop_oneof!["[a-z /.]{1,5}", Just("${A}".to_owned()), Just("$$".to_owned()), Just("${}".to_owned())],
            0..8,
        ),
    ) {
        let variables = table_set();
        let whole = variables.expand(&pieces.concat());
        let each: String = pieces.iter().map(|piece| variables.expand(piece)).collect();
        prop_assert_eq!(whole, each);
    }
}
