use rstest::rstest;

use crate::parse;

/// Two jobs that build, one that hands on nothing, one of a second stage, and `job`, of a third.
fn receives(job: &str) -> Vec<String> {
    let file = format!(
        "
stages: [one, two, three]
late: {{stage: two, script: x, artifacts: {{paths: [l]}}}}
b: {{stage: one, script: x, artifacts: {{paths: [b]}}}}
a: {{stage: one, script: x, artifacts: {{reports: {{dotenv: e}}}}}}
plain: {{stage: one, script: x}}
many: {{stage: one, script: x, parallel: 2, artifacts: {{untracked: true}}}}
cells: {{stage: one, script: x, parallel: {{matrix: [{{V: [p, q]}}]}}, artifacts: {{paths: [c]}}}}
same: {{stage: three, script: x, artifacts: {{paths: [s]}}}}
job: {{stage: three, script: x{job}}}
"
    );
    let pipeline = parse("f.yml", &file).unwrap();
    pipeline.job("job").unwrap().receives.clone()
}

// local-pipelines D3, G 59.
#[rstest]
#[case::all_of_earlier_stages_in_their_order(
    "",
    &["b", "a", "many 1/2", "many 2/2", "cells: [p]", "cells: [q]", "late"]
)]
#[case::no_dependencies(", dependencies: []", &[])]
#[case::named(", dependencies: [late, b]", &["b", "late"])]
#[case::one_that_hands_on_nothing(", dependencies: [plain]", &[])]
#[case::all_jobs_of_a_parallel_one(", dependencies: [many]", &["many 1/2", "many 2/2"])]
#[case::one_cell(", dependencies: ['cells: [q]']", &["cells: [q]"])]
#[case::nothing_needed(", needs: []", &[])]
#[case::needed(", needs: [late, a]", &["a", "late"])]
#[case::needed_of_the_same_stage(", needs: [same]", &["same"])]
#[case::needed_without_artifacts(", needs: [{job: a, artifacts: false}, b]", &["b"])]
#[case::needed_and_absent(", needs: [{job: gone, optional: true}, b]", &["b"])]
#[case::needed_cells(", needs: [{job: cells, parallel: {matrix: [{V: q}]}}]", &["cells: [q]"])]
#[case::needed_parallel(", needs: [many]", &["many 1/2", "many 2/2"])]
#[case::needed_and_chosen(", needs: [a, b], dependencies: [b]", &["b"])]
#[case::needed_and_none_chosen(", needs: [a, b], dependencies: []", &[])]
fn a_job_gets_the_artifacts_of(#[case] job: &str, #[case] expected: &[&str]) {
    assert_eq!(receives(job), expected);
}

#[test]
fn a_job_that_is_run_alone_still_knows_whose_artifacts_it_gets() {
    let file = "stages: [one, two]\na: {stage: one, script: x, artifacts: {paths: [a]}}\nb: {stage: two, script: x}";
    let pipeline = parse("f.yml", file).unwrap().select(&["b"]).unwrap();
    assert_eq!(pipeline.jobs[0].receives, ["a"]);
}
