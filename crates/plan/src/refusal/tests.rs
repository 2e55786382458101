use gantry_job::payload::{Opaque, SecretSource};
use rstest::rstest;

use super::*;
use crate::fixture::{Fixture, strings};

fn message(fixture: &Fixture, ignores: &[&str]) -> Option<String> {
    refusal(&fixture.payload, |keyword| ignores.contains(&keyword)).map(|cause| cause.message())
}

fn demanding() -> Fixture {
    Fixture::new().with(|it| {
        let source = SecretSource {
            gcp_secret_manager: Opaque(serde_json::json!({"name": "db"})),
            ..SecretSource::default()
        };
        let secret = ("DB".to_owned(), source);
        it.payload.secrets = [secret].into();
        it.payload.run = Some("[{}]".to_owned());
        it.payload.suspend_options.suspend_on_success = true;
    })
}

#[test]
fn a_job_that_asks_for_nothing_new_may_run() {
    assert_eq!(message(&Fixture::new(), &[]), None);
}

#[test]
fn what_cannot_be_done_is_named_with_place_and_setting() {
    assert_eq!(
        message(&demanding(), &[]).unwrap(),
        "this version of Gantry does not do `secrets` (secret \"DB\" of gcp_secret_manager), `run`, `suspend_options`; remove what needs it, send the job to another runner, or set `ignore_unsupported` in [gantry] to run without"
    );
}

#[rstest]
#[case(&["secrets"], &["suspend_options", "run"])]
#[case(&["secrets", "run", "suspend_options"], &[])]
#[case(&["nothing"], &["suspend_options", "secrets", "run"])]
fn ignored_keywords_refuse_nothing(#[case] ignores: &[&str], #[case] named: &[&str]) {
    let Some(message) = message(&demanding(), ignores) else {
        assert!(named.is_empty());
        return;
    };
    for keyword in ["secrets", "run", "suspend_options"] {
        assert_eq!(
            message.contains(&format!("`{keyword}`")),
            named.contains(&keyword),
            "{message}"
        );
    }
}

#[test]
fn unknown_options_of_an_image_are_refused_whatever_the_config_ignores() {
    let fixture = Fixture::new().with(|it| {
        it.payload
            .image
            .as_mut()
            .unwrap()
            .executor_opts
            .docker
            .unknown = strings(&["foo"]);
    });
    let expected = "Unsupported \"image\" options [foo] for \"docker executor\"; supported options are [platform user]";
    assert_eq!(
        message(&fixture, &["image", "foo", "executor_opts"]).as_deref(),
        Some(expected)
    );
}

#[test]
fn what_is_ignored_is_said_in_the_log_once() {
    let expected = [
        "`secrets` (secret \"DB\" of gcp_secret_manager)",
        "`run`",
        "`suspend_options`",
    ]
    .map(|keyword| {
        format!("This job runs without {keyword}, which this version of Gantry does not do (`ignore_unsupported` in [gantry])")
    });
    assert_eq!(demanding().plan().warnings, expected);
}

#[rstest]
#[case::umask("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", "fetch", None)]
#[case::native_clone("FF_USE_GIT_NATIVE_CLONE", "clone", None)]
#[case::without_difference("FF_TEST_FEATURE", "fetch", None)]
#[case::of_another_executor("FF_PRINT_POD_EVENTS", "fetch", None)]
#[case::steps(
    "FF_CONCRETE",
    "fetch",
    Some("has no effect in Gantry: scripts run in a shell")
)]
#[case::migration(
    "FF_SCRIPT_TO_STEP_MIGRATION",
    "fetch",
    Some("has no effect in Gantry: scripts run in a shell")
)]
#[case::router(
    "FF_USE_JOB_ROUTER",
    "fetch",
    Some("has no effect in Gantry: jobs are asked for at the server itself")
)]
#[case::old_s3(
    "FF_USE_LEGACY_S3_CACHE_ADAPTER",
    "fetch",
    Some("has no effect in Gantry: there is one way to reach S3")
)]
fn a_flag_whose_lack_jobs_can_see_is_said(
    #[case] flag: &str,
    #[case] strategy: &str,
    #[case] sentence: Option<&str>,
) {
    let fixture = Fixture::new().variable("GIT_STRATEGY", strategy);
    assert!(fixture.plan().warnings.is_empty());
    let expected: Vec<_> = sentence
        .map(|sentence| format!("{flag}: {sentence}"))
        .into_iter()
        .collect();
    assert_eq!(fixture.flag(flag, true).plan().warnings, expected);
}

#[rstest]
#[case("recursive")]
#[case("nonsense")]
fn a_local_run_has_its_submodules_as_they_are(#[case] strategy: &str) {
    let plan = Fixture::new()
        .variable("GIT_SUBMODULE_STRATEGY", strategy)
        .with(|it| it.sources = crate::Sources::WorkingTree)
        .plan();
    assert!(
        !plan
            .warnings
            .iter()
            .any(|warning| warning.contains("runs without"))
    );
}

#[test]
fn the_umask_flag_is_said_to_mean_nothing_in_a_local_run_alone() {
    let flag = "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR";
    let fixture = Fixture::new().flag(flag, true);
    let plan = fixture.plan();
    assert!(plan.give_to_image_user && plan.warnings.is_empty());
    let local = fixture
        .with(|it| it.sources = crate::Sources::WorkingTree)
        .plan();
    assert!(!local.give_to_image_user);
    assert_eq!(
        local.warnings,
        [format!(
            "{flag}: has no effect in Gantry: a local run leaves the modes of the working tree as they are"
        )]
    );
}

#[test]
fn a_default_that_was_switched_off_in_vain_is_said() {
    let plan = Fixture::new().flag("FF_USE_FASTZIP", false).plan();
    assert_eq!(
        plan.warnings,
        [
            "FF_USE_FASTZIP: has no effect in Gantry: archives are made in parallel in the same format"
        ]
    );
}

#[test]
fn files_that_are_given_away_need_the_helper_also_where_nothing_is_fetched() {
    let fixture = Fixture::new().variable("GIT_STRATEGY", "none");
    assert!(fixture.plan().helper.is_none());
    let plan = fixture
        .flag("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", true)
        .plan();
    assert!(plan.helper.is_some());
}
