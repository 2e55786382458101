use rstest::rstest;

use super::*;
use crate::{
    Plan,
    fixture::{Fixture, step, strings},
};

fn names(plan: &Plan) -> Vec<String> {
    plan.stages
        .iter()
        .map(|stage| stage.stage.section_name().into_owned())
        .collect()
}

fn work<'a>(plan: &'a Plan, name: &str) -> &'a StageWork {
    let stage = plan
        .stages
        .iter()
        .find(|stage| stage.stage.section_name() == name);
    &stage.unwrap_or_else(|| panic!("no stage {name}")).work
}

fn script<'a>(plan: &'a Plan, name: &str) -> &'a ScriptWork {
    match work(plan, name) {
        StageWork::Script(script) => script,
        _ => panic!("{name} is no script"),
    }
}

fn lines<'a>(plan: &'a Plan, name: &str) -> &'a [String] {
    match work(plan, name) {
        StageWork::Lines(lines) => lines,
        _ => panic!("{name} is more than lines"),
    }
}

#[test]
fn a_plain_job_has_no_empty_stages() {
    assert_eq!(
        names(&Fixture::new().plan()),
        [
            "prepare_script",
            "get_sources",
            "step_script",
            "cleanup_file_variables"
        ]
    );
}

#[test]
fn steps_keep_their_order_and_after_script_is_last() {
    let plan = Fixture::new()
        .with(|it| {
            it.payload.steps = vec![
                step("after_script", &["echo after"]),
                step("script", &[]),
                step("Release", &["release-cli"]),
            ];
        })
        .plan();
    assert_eq!(
        names(&plan),
        [
            "prepare_script",
            "get_sources",
            "step_script",
            "step_release",
            "after_script",
            "cleanup_file_variables"
        ]
    );
    assert_eq!(script(&plan, "after_script").lines, ["echo after"]);
    assert!(script(&plan, "step_script").lines.is_empty());
}

#[rstest]
#[case::no_steps(&[])]
#[case::empty_after_script(&["after_script"])]
fn without_anything_to_run_there_is_no_step(#[case] steps: &[&str]) {
    let fixture = Fixture::new()
        .with(|it| it.payload.steps = steps.iter().map(|name| step(name, &[])).collect());
    assert_eq!(
        names(&fixture.plan()),
        ["prepare_script", "get_sources", "cleanup_file_variables"]
    );
}

#[test]
fn only_lines_of_the_release_step_are_expanded() {
    let lines = &["release $TAG ${TAG}", "$$TAG"];
    let plan = Fixture::new()
        .variable("TAG", "v1")
        .with(|it| {
            it.payload.steps = ["script", "release", "after_script"]
                .map(|name| step(name, lines))
                .into();
        })
        .plan();
    assert_eq!(
        script(&plan, "step_release").lines,
        ["release v1 v1", "$TAG"]
    );
    assert_eq!(script(&plan, "step_script").lines, strings(lines));
    assert_eq!(script(&plan, "after_script").lines, strings(lines));
}

#[test]
fn scripts_of_the_config_go_around_every_step_but_after_script() {
    let plan = Fixture::new()
        .with(|it| {
            it.payload.steps = ["script", "other", "after_script"]
                .map(|name| step(name, &["true"]))
                .into();
            it.runner.pre_build_script = "pre $X".to_owned();
            it.runner.post_build_script = "post".to_owned();
        })
        .plan();
    for name in ["step_script", "step_other"] {
        let script = script(&plan, name);
        assert_eq!(
            (
                script.pre_build_script.as_str(),
                script.post_build_script.as_str()
            ),
            ("pre $X", "post")
        );
    }
    let after = script(&plan, "after_script");
    assert_eq!(
        (
            after.pre_build_script.as_str(),
            after.post_build_script.as_str()
        ),
        ("", "")
    );
}

#[test]
fn the_greeting_names_the_container_and_the_runners_host() {
    let plan = Fixture::new().plan();
    assert_eq!(
        lines(&plan, "prepare_script"),
        ["Running on runner-tok-project-7-concurrent-0 via host1..."]
    );
}

// job-lifecycle §4.2
#[rstest]
#[case("none", "Skipping Git repository setup")]
#[case(
    "empty",
    "Skipping Git repository setup and creating an empty build directory"
)]
fn without_repository_and_kept_storage_no_helper_is_needed(
    #[case] strategy: &str,
    #[case] first: &str,
) {
    let plan = Fixture::new().variable("GIT_STRATEGY", strategy).plan();
    let green = |text: &str| format!("\u{1b}[32;1m{text}\u{1b}[0;m");
    assert_eq!(
        lines(&plan, "get_sources"),
        [
            green(first),
            green("Skipping Git checkout"),
            green("Skipping Git submodules setup")
        ]
    );
    assert!(lines(&plan, "cleanup_file_variables").is_empty());
    assert!(plan.helper.is_none());
    assert!(plan.script.create_project_dir);
}

#[rstest]
#[case::fetch("fetch", &[])]
#[case::clone("clone", &[])]
#[case::kept_builds("none", &["/builds"])]
#[case::builds_on_the_host("empty", &["/srv:/builds"])]
fn a_repository_or_kept_storage_needs_the_helper(#[case] strategy: &str, #[case] volumes: &[&str]) {
    let plan = Fixture::new()
        .variable("GIT_STRATEGY", strategy)
        .volumes(volumes)
        .plan();
    assert!(matches!(work(&plan, "get_sources"), StageWork::Sources(_)));
    assert!(matches!(
        work(&plan, "cleanup_file_variables"),
        StageWork::Cleanup(_)
    ));
    assert!(plan.helper.is_some());
    assert!(!plan.script.create_project_dir);
}

#[rstest]
#[case("fetch")]
#[case("none")]
fn a_local_run_uses_its_tree_and_no_helper(#[case] strategy: &str) {
    let plan = Fixture::new()
        .variable("GIT_STRATEGY", strategy)
        .with(|it| it.sources = Sources::WorkingTree)
        .plan();
    assert_eq!(
        lines(&plan, "get_sources"),
        ["\u{1b}[32;1mUsing the working tree as it is\u{1b}[0;m"]
    );
    assert!(plan.helper.is_none());
}

#[rstest]
#[case("GET_SOURCES_ATTEMPTS", "3", [1, 3, 1, 1, 1])]
#[case("EXECUTOR_JOB_SECTION_ATTEMPTS", "4", [1, 1, 4, 4, 1])]
#[case("GET_SOURCES_ATTEMPTS", "0", [1, 1, 1, 1, 1])]
#[case("GET_SOURCES_ATTEMPTS", "99", [1, 10, 1, 1, 1])]
#[case("GET_SOURCES_ATTEMPTS", "x", [1, 1, 1, 1, 1])]
fn attempts_are_those_of_the_job_within_bounds(
    #[case] key: &str,
    #[case] value: &str,
    #[case] attempts: [u32; 5],
) {
    let plan = Fixture::new()
        .variable(key, value)
        .with(|it| {
            it.payload.steps = ["script", "after_script"]
                .map(|name| step(name, &["true"]))
                .into();
        })
        .plan();
    let found: Vec<_> = plan.stages.iter().map(|stage| stage.attempts).collect();
    assert_eq!(found, attempts);
}
