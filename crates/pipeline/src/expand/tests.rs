use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// `A=x` is a variable, `A:=x` a raw one.
fn variables(entries: &[&str]) -> Vec<Variable> {
    entries
        .iter()
        .map(|entry| {
            let (key, value) = entry.split_once('=').unwrap();
            match key.strip_suffix(':') {
                Some(key) => Variable {
                    raw: true,
                    ..Variable::new(key, value)
                },
                None => Variable::new(key, value),
            }
        })
        .collect()
}

fn values(entries: &[&str]) -> Result<Vec<String>, ExpandError> {
    expand(variables(entries)).map(|list| list.into_iter().map(|one| one.value).collect())
}

#[rstest]
#[case::in_any_order(&["C=1", "B=$C-b", "A=${B}-a"], &["1", "1-b", "1-b-a"])]
#[case::also_backwards(&["A=${B}-a", "B=$C-b", "C=1"], &["1-b-a", "1-b", "1"])]
#[case::percent(&["A=1", "B=%A%x"], &["1", "1x"])]
#[case::unknown_stays(&["A=$X ${X} %X%"], &["$X ${X} %X%"])]
#[case::dollars_stay(&["A=1", "B=$$A", "C=$B"], &["1", "$$A", "$$A"])]
#[case::percents_stay(&["A=1", "B=%%A%"], &["1", "%%A%"])]
#[case::self_reference_stays(&["PATH=$PATH:/x"], &["$PATH:/x"])]
#[case::own_key_twice(&["A=1", "A=$A-2", "B=$A"], &["1", "$A-2", "$A-2"])]
#[case::last_wins(&["A=1", "B=$A", "A=2"], &["1", "2", "2"])]
#[case::raw_is_left_for_the_runner(&["Y:=y$R", "R=r", "Z=z$Y %Y%"], &["y$R", "r", "z${Y} ${Y}"])]
#[case::nested_names(&["A_x=1", "B=x", "C=${A_${B}}"], &["1", "x", "${A_x}"])]
#[case::no_names(&["A=1", "B=$ ${} $1 ${1} % %% %1% $"], &["1", "$ ${} $1 ${1} % %% %1% $"])]
#[case::open_brace(&["A=1", "B=${A $A"], &["1", "${A 1"])]
#[case::dates(&["B=+%Y-%m-%d"], &["+%Y-%m-%d"])]
#[case::text_around(&["A=1", "B=a$A.b${A}c"], &["1", "a1.b1c"])]
#[case::unicode(&["A=ü", "B=é$A→${A}"], &["ü", "éü→ü"])]
fn references_are_resolved_as_a_server_does(#[case] given: &[&str], #[case] expected: &[&str]) {
    assert_eq!(values(given).unwrap(), expected);
}

#[rstest]
#[case(&["A=$B", "B=$A"], &["A", "B"])]
#[case(&["X=$B", "A=${B}", "B=%C%", "C=$A", "D=1"], &["A", "B", "C"])]
fn a_circle_is_an_error_that_names_it(#[case] given: &[&str], #[case] names: &[&str]) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let error = values(given).unwrap_err();
    assert_eq!(error, ExpandError::Circular { names });
    assert!(
        error
            .to_string()
            .starts_with("circular variable reference detected: [\"A\", \"B\"")
    );
}

#[test]
fn a_raw_variable_closes_no_circle() {
    assert_eq!(values(&["A:=$B", "B=$A"]).unwrap(), ["$B", "${A}"]);
}

#[test]
fn doubling_values_end_at_a_limit() {
    let mut list = vec![Variable::new("V0", "x".repeat(100))];
    for n in 1..60 {
        list.push(Variable::new(format!("V{n}"), format!("$V{0}$V{0}", n - 1)));
    }
    assert!(matches!(expand(list), Err(ExpandError::TooLong { .. })));
}

#[test]
fn a_long_chain_needs_no_stack() {
    let mut list: Vec<Variable> = (0..50_000)
        .map(|n| Variable::new(format!("V{n}"), format!("$V{}", n + 1)))
        .collect();
    list.push(Variable::new("V50000", "end"));
    assert!(
        expand(list)
            .unwrap()
            .iter()
            .all(|variable| variable.value == "end")
    );
}

proptest! {
    #[test]
    fn arbitrary_values_never_panic(values in proptest::collection::vec("[$%{}A-Cé1 ]{0,12}", 0..6)) {
        let list = values
            .into_iter()
            .zip(["A", "B", "C", "A", "B", "C"])
            .map(|(value, key)| Variable::new(key, value))
            .collect();
        if let Err(ExpandError::TooLong { .. }) = expand(list) {
            prop_assert!(false, "six short values grew too long");
        }
    }

    #[test]
    fn pieces_put_together_are_the_value(value in "[$%{}A-Cé1 ]{0,30}") {
        let together: String = pieces(&value)
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Reference { written, .. } => written,
            })
            .collect();
        prop_assert_eq!(together, value);
    }
}
