//! `when`, `needs`, `dependencies` and `parallel`.

use super::*;
use crate::pipeline::When;

fn names(text: &str) -> Vec<String> {
    let pipeline = parse("f.yml", text).unwrap();
    pipeline.jobs.into_iter().map(|job| job.name).collect()
}

// local-pipelines G 29 to 31.
#[rstest]
#[case("2", &["a 1/2", "a 2/2"])]
#[case("1", &["a 1/1"])]
#[case("~", &["a"])]
#[case("{matrix: [{OS: [lin, win], V: ['1', 2]}]}",
    &["a: [lin, 1]", "a: [lin, 2]", "a: [win, 1]", "a: [win, 2]"])]
#[case("{matrix: [{A: [p, q]}, {B: r}]}", &["a: [p]", "a: [q]", "a: [r]"])]
#[case("{matrix: [{A: p, B: ~}]}", &["a: [p]"])]
fn a_parallel_job_is_several(#[case] parallel: &str, #[case] expected: &[&str]) {
    assert_eq!(
        names(&format!("a: {{script: x, parallel: {parallel}}}")),
        expected
    );
}

#[test]
fn cells_know_their_place_and_their_variables_win_over_those_of_the_job() {
    let pipeline = parse(
        "f",
        "a: {script: x, variables: {V: j, W: j}, parallel: {matrix: [{V: [p, q]}]}}",
    )
    .unwrap();
    let second = &pipeline.jobs[1];
    let list: Vec<(&str, &str)> = second
        .variables
        .iter()
        .map(|one| (one.key.as_str(), one.value.as_str()))
        .collect();
    assert_eq!(list, [("V", "q"), ("W", "j")]);
    assert_eq!(second.node, Some((2, 2)));
}

#[rstest]
#[case("", When::OnSuccess)]
#[case(", when: on_failure", When::OnFailure)]
#[case(", when: always", When::Always)]
#[case(", when: ~", When::OnSuccess)]
fn a_job_runs_when_it_says(#[case] when: &str, #[case] expected: When) {
    assert_eq!(job(&format!("a: {{script: x{when}}}")).when, expected);
}

fn needs(text: &str) -> Vec<String> {
    let file = format!(
        "stages: [one, two]\n\
         p: {{stage: one, script: x}}\n\
         m: {{stage: one, script: x, parallel: {{matrix: [{{A: [1, 2]}}]}}}}\n\
         a: {{stage: two, script: x, needs: {text}}}"
    );
    let pipeline = parse("f", &file).unwrap();
    let needs = pipeline.job("a").unwrap().needs.clone();
    needs
        .expect("needs were given")
        .into_iter()
        .map(|need| format!("{}{}", need.job, if need.artifacts { "" } else { "!" }))
        .collect()
}

// local-pipelines G 24, 26, 32.
#[rstest]
#[case("[]", &[])]
#[case("[p]", &["p"])]
#[case("[{job: p, artifacts: false}]", &["p!"])]
#[case("[m]", &["m: [1]", "m: [2]"])]
#[case("['m: [2]']", &["m: [2]"])]
#[case("[{job: m, parallel: {matrix: [{A: 1}]}}]", &["m: [1]"])]
#[case("[{job: gone, optional: true}]", &[])]
fn needs_are_jobs(#[case] text: &str, #[case] expected: &[&str]) {
    assert_eq!(needs(text), expected);
}

#[rstest]
// local-pipelines G 25, 27, 28.
#[case("a: {stage: deploy, script: x}\nb: {stage: build, script: x, needs: [a]}",
    &["2:38: the job `b` needs `a`, which is in a later stage"])]
#[case("a: {script: x, needs: [b]}\nb: {script: x, needs: [a]}",
    &["1:1: these jobs need each other in a circle: `a` needs `b` needs `a`"])]
#[case("a: {script: x, needs: [a]}",
    &["1:1: these jobs need each other in a circle: `a` needs `a`"])]
#[case("a: {script: x, needs: [zzz]}",
    &["1:24: `jobs:a:needs` names `zzz`, which is no job of this file"])]
#[case("a: {script: x, needs: b}",
    &["1:23: `jobs:a:needs` should be a list of texts or maps with `job`, not text"])]
#[case("a: {script: x, needs: [{artifacts: true}]}",
    &["1:24: `jobs:a:needs` has an item without `job`"])]
#[case("a: {script: x, needs: [{project: g/p, job: b, ref: main}]}",
    &["1:25: `project` is not supported yet (line 1 in jobs:a:needs)",
      "1:47: `ref` is not supported yet (line 1 in jobs:a:needs)"])]
#[case("a: {script: x, dependencies: [b]}\nb: {script: x}",
    &["1:31: `jobs:a:dependencies` names `b`, which is in no earlier stage"])]
#[case("a: {script: x, dependencies: [b]}",
    &["1:31: `jobs:a:dependencies` names `b`, which is no job of this file"])]
#[case("a: {stage: build, script: x}\nc: {stage: build, script: x}\nb: {script: x, needs: [a], dependencies: [c]}",
    &["3:43: `jobs:b:dependencies` names `c`, which is not in `needs`"])]
#[case("a: {script: x, parallel: 201}", &["1:26: `jobs:a:parallel` should be a number from 1 to 200"])]
#[case("a: {script: x, parallel: {matrix: [{A: [[b]]}]}}",
    &["1:41: `jobs:a:parallel:matrix:A` should be text, a number, or a list of them, not a list"])]
#[case("a: {script: x, parallel: {matrix: []}}", &["1:35: `jobs:a:parallel:matrix` makes no job"])]
#[case("a: {script: x, parallel: 2}\na 1/2: {script: x}", &["2:1: two jobs are called `a 1/2`"])]
#[case("a: {script: x, when: never}", &["1:22: `jobs:a:when` cannot be `never`, which only a rule may say"])]
#[case("a: {script: x, when: manual}", &["1:22: `when: manual` is not supported yet (line 1 in jobs:a:when)"])]
#[case("a: {script: x, when: on_sucess}", &["1:22: `jobs:a:when` cannot be `on_sucess`"])]
fn what_cannot_be_put_in_order_is_refused(#[case] text: &str, #[case] expected: &[&str]) {
    assert_eq!(problems(text), expected);
}

#[test]
fn a_matrix_of_very_many_cells_is_refused_and_not_made() {
    let values = vec!["x"; 200].join(",");
    let row = (0..50).map(|key| format!("V{key}: [{values}]"));
    let row = row.collect::<Vec<_>>().join(", ");
    let found = problems(&format!(
        "a: {{script: x, parallel: {{matrix: [{{{row}}}]}}}}"
    ));
    assert!(found[0].contains("more than the 200 jobs"), "{found:?}");
}
