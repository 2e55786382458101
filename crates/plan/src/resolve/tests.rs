use rstest::rstest;

use super::*;
use crate::fixture::{Fixture, file};

fn warnings(fixture: &Fixture) -> Vec<String> {
    fixture.plan().warnings
}

#[test]
fn a_job_without_mistakes_has_no_warnings() {
    assert!(warnings(&Fixture::new()).is_empty());
}

#[test]
fn warnings_stand_in_order_of_flags_settings_and_variables_each_once() {
    let fixture = Fixture::new()
        .environment(&[("FF_TIMESTAMPS", "maybe")])
        .variable("GIT_STRATEGY", "copy")
        .variable("GIT_CHECKOUT", "perhaps")
        .variable("GET_SOURCES_ATTEMPTS", "11")
        .variable("GIT_STRATEGY", "copy")
        .variable("", "first")
        .variable("A", "b")
        .variable("", "second")
        .variable("RUNNER_SCRIPT_TIMEOUT", "soon");
    assert_eq!(
        warnings(&fixture),
        [
            "FF_TIMESTAMPS: could not parse feature flag, expected bool, got maybe",
            "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got \"copy\", using default value 'fetch'",
            "GIT_CHECKOUT: expected bool got \"perhaps\", using default value: true",
            "GET_SOURCES_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 10",
            "a job variable without a key is ignored",
        ]
    );
    assert_eq!(
        fixture.plan().script_warnings,
        ["Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: soon"]
    );
}

#[rstest]
#[case("nested")]
#[case("Normal")]
fn an_unknown_submodule_strategy_fails_the_job(#[case] strategy: &str) {
    let fixture = Fixture::new().variable("GIT_SUBMODULE_STRATEGY", strategy);
    assert_eq!(
        fixture.mistake(),
        format!("unknown GIT_SUBMODULE_STRATEGY {strategy:?}: write normal, recursive or none")
    );
    // Nobody asks for it where there is no repository.
    assert!(fixture.variable("GIT_STRATEGY", "none").try_plan().is_ok());
}

#[test]
fn late_variables_are_in_the_values_of_others() {
    let plan = Fixture::new()
        .flag("FF_NETWORK_PER_BUILD", true)
        .variable("WHERE", "$CI_PROJECT_DIR in $CI_BUILD_NETWORK_NAME")
        .variable("TMP", "$RUNNER_TEMP_PROJECT_DIR/x")
        .plan();
    assert_eq!(
        plan.variables.value("WHERE"),
        "/builds/group/project in runner-tok-7-0-42"
    );
    assert_eq!(plan.variables.value("TMP"), "/builds/group/project.tmp/x");
}

#[test]
fn the_runners_own_variables_win_where_the_peers_do() {
    let plan = Fixture::new()
        .variable("CI_PROJECT_DIR", "/elsewhere")
        .variable("CI_RUNNER_VERSION", "1")
        .variable("RUNNER_TEMP_PROJECT_DIR", "/elsewhere.tmp")
        .plan();
    let of = |key| plan.variables.value(key).to_owned();
    assert_eq!(of("CI_PROJECT_DIR"), "/elsewhere");
    assert_eq!(of("CI_RUNNER_VERSION"), "19.4.0");
    assert_eq!(of("RUNNER_TEMP_PROJECT_DIR"), "/builds/group/project.tmp");
    // The layout is not a job's to change.
    assert_eq!(plan.directories.project, "/builds/group/project");
    assert_eq!(plan.directories.temporary, "/builds/group/project.tmp");
}

#[test]
fn the_config_beats_variables_in_flags() {
    let plan = Fixture::new()
        .flag("FF_TIMESTAMPS", false)
        .variable("FF_TIMESTAMPS", "true")
        .plan();
    assert_eq!(plan.variables.value("FF_TIMESTAMPS"), "false");
    assert!(!plan.script.flags.is_on(FeatureFlag::Timestamps));
}

#[test]
fn certificates_are_file_variables() {
    let fixture = Fixture::new().with(|it| {
        it.tls.ca = Some("CA".to_owned());
        it.tls.key = Some("KEY".into());
    });
    let variables = fixture.plan().variables;
    let ca = variables.get("CI_SERVER_TLS_CA_FILE").unwrap();
    assert!(ca.file && ca.public);
    let key = variables.get("CI_SERVER_TLS_KEY_FILE").unwrap();
    assert!(key.file && !key.public);
    assert!(variables.get("CI_SERVER_TLS_CERT_FILE").is_none());
}

#[test]
fn settings_read_the_content_of_file_variables() {
    let fixture = Fixture::new().push(file("DOCKER_AUTH_CONFIG", "{\"auths\":{}}"));
    assert_eq!(
        fixture.plan().credentials.docker_auth_config.as_deref(),
        Some("{\"auths\":{}}")
    );
}
