use rstest::rstest;

use super::*;
use crate::parse;

const FILE: &str = "
stages: [one, two, three]
.base: {script: x}
b: {stage: two, script: x}
a: {stage: one, script: x}
c: {stage: two, script: x}
last: {stage: .post, script: x}
first: {stage: .pre, script: x}
";

fn order(pipeline: &Pipeline) -> Vec<String> {
    pipeline
        .stages
        .iter()
        .map(|stage| {
            let jobs: Vec<&str> = pipeline
                .jobs_of(stage)
                .map(|job| job.name.as_str())
                .collect();
            format!("{}: {}", stage.name, jobs.join(" "))
        })
        .collect()
}

#[test]
fn jobs_run_in_the_order_of_stages_and_then_of_the_file() {
    let pipeline = parse("f", FILE).unwrap();
    assert_eq!(
        order(&pipeline),
        [".pre: first", "one: a", "two: b c", ".post: last"]
    );
    assert_eq!(
        pipeline.stage_names,
        [".pre", "one", "two", "three", ".post"]
    );
    assert_eq!(pipeline.hidden, [".base"]);
}

#[rstest]
#[case(&[], &[".pre: first", "one: a", "two: b c", ".post: last"])]
#[case(&["c"], &["two: c"])]
#[case(&["c", "a", "c"], &["one: a", "two: c"])]
#[case(&["last"], &[".post: last"])]
fn selected_jobs_keep_the_order_of_stages(#[case] names: &[&str], #[case] expected: &[&str]) {
    let pipeline = parse("f", FILE).unwrap().select(names).unwrap();
    assert_eq!(order(&pipeline), expected);
}

#[test]
fn a_job_that_does_not_exist_is_named_with_the_nearest_one() {
    let pipeline = parse("f", FILE).unwrap();
    let error = pipeline
        .select(&["a", "lsat", ".base", "zzzzzz"])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no job `lsat`, did you mean `last`?; \
         no job `.base` (names that begin with a dot are templates, not jobs); \
         no job `zzzzzz` (jobs: b, a, c, last, first)"
    );
}

#[rstest]
#[case(AllowFailure::No, Some(1), false)]
#[case(AllowFailure::Yes, Some(1), true)]
#[case(AllowFailure::Yes, None, true)]
#[case(AllowFailure::ExitCodes(vec![3, 42]), Some(42), true)]
#[case(AllowFailure::ExitCodes(vec![3, 42]), Some(1), false)]
#[case(AllowFailure::ExitCodes(vec![3, 42]), None, false)]
fn only_the_listed_exit_codes_are_allowed(
    #[case] allow_failure: AllowFailure,
    #[case] exit_code: Option<i64>,
    #[case] allowed: bool,
) {
    assert_eq!(allow_failure.allows(exit_code), allowed);
}
