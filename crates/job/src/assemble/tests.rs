use std::collections::BTreeMap;

use super::*;
use crate::payload::Image;

fn input() -> AssembleInput {
    AssembleInput {
        flags: FeatureFlags::default(),
        runner_short_token: "abcdefghi".into(),
        environment: vec![
            "X=1".into(),
            "NO_SIGN".into(),
            "EQ=a=b".into(),
            "=x".into(),
            "FF_CONCRETE=1".into(),
        ],
        builds_dir: "/builds".into(),
        project_dir: "/builds/g/p".into(),
        tmp_dir: "/builds/g/p.tmp".into(),
        concurrent_id: 2,
        concurrent_project_id: 1,
        timeout: Duration::from_millis(3_600_900),
        tls: TlsFiles {
            ca: Some("CA".into()),
            cert: Some("CERT".into()),
            key: Some("PRIVATE".into()),
        },
        runner_version: "19.4.0".into(),
        runner_revision: "abcdef12".into(),
        executable_arch: "linux/amd64".into(),
        secrets: vec![Variable {
            masked: true,
            raw: true,
            file: true,
            ..Variable::new("VAULT", "v")
        }],
        network_name: Some("net".into()),
        nested: false,
    }
}

fn payload(variables: &[(&str, &str)]) -> JobPayload {
    JobPayload {
        image: Some(Image {
            name: "ruby:$RUBY".into(),
            ..Image::default()
        }),
        variables: variables
            .iter()
            .map(|(key, value)| Variable::new(*key, *value))
            .collect(),
        ..JobPayload::default()
    }
}

fn keys(variables: &Variables) -> Vec<&str> {
    variables
        .iter()
        .map(|variable| variable.key.as_str())
        .collect()
}

#[test]
fn entries_stand_in_the_peers_order() {
    let assembled = assemble(
        &payload(&[("RUBY", "3.3"), ("FF_TIMESTAMPS", "no"), ("RUBY", "3.4")]),
        &input(),
    );
    let keys = keys(&assembled.unexpanded);
    let (flags, rest) = keys.split_at(FeatureFlag::ALL.len());
    assert!(flags.iter().all(|key| key.starts_with("FF_")));
    assert_eq!(
        rest,
        [
            "CI_JOB_IMAGE",
            "CI_RUNNER_SHORT_TOKEN",
            "X",
            "EQ",
            "CI_BUILDS_DIR",
            "CI_PROJECT_DIR",
            "CI_CONCURRENT_ID",
            "CI_CONCURRENT_PROJECT_ID",
            "CI_SERVER",
            "CI_JOB_STATUS",
            "CI_JOB_TIMEOUT",
            "CI_SERVER_TLS_CA_FILE",
            "CI_SERVER_TLS_CERT_FILE",
            "CI_SERVER_TLS_KEY_FILE",
            "RUBY",
            "RUBY",
            "CI_DISPOSABLE_ENVIRONMENT",
            "CI_RUNNER_VERSION",
            "CI_RUNNER_REVISION",
            "CI_RUNNER_EXECUTABLE_ARCH",
            "VAULT",
            "RUNNER_TEMP_PROJECT_DIR",
            "CI_BUILD_NETWORK_NAME",
        ]
    );
    assert_eq!(keys.len(), assembled.expanded.len());
}

#[test]
fn values_and_flags_are_those_of_the_reference() {
    let expanded = assemble(&payload(&[("RUBY", "3.3")]), &input()).expanded;
    assert_eq!(expanded.value("CI_JOB_IMAGE"), "ruby:3.3");
    assert_eq!(expanded.value("CI_JOB_TIMEOUT"), "3600");
    assert_eq!(expanded.value("CI_SERVER"), "yes");
    assert_eq!(expanded.value("CI_CONCURRENT_ID"), "2");
    assert_eq!(expanded.value("EQ"), "a=b");
    assert_eq!(expanded.value("FF_TIMESTAMPS"), "true");
    assert_eq!(expanded.value("CI_SERVER_TLS_KEY_FILE"), "PRIVATE");
    assert_eq!(
        expanded.lookup("CI_SERVER_TLS_KEY_FILE"),
        "/builds/g/p.tmp/CI_SERVER_TLS_KEY_FILE"
    );
    let flags = |key| {
        let variable = expanded.get(key).unwrap();
        (variable.public, variable.internal, variable.file)
    };
    assert_eq!(flags("CI_RUNNER_SHORT_TOKEN"), (false, true, false));
    assert_eq!(flags("X"), (false, true, false));
    assert_eq!(flags("CI_PROJECT_DIR"), (true, true, false));
    assert_eq!(flags("CI_SERVER_TLS_CA_FILE"), (true, true, true));
    assert_eq!(flags("CI_SERVER_TLS_KEY_FILE"), (false, true, true));
    assert_eq!(flags("RUBY"), (false, false, false));
}

#[test]
fn payload_overrides_what_comes_before_it_and_not_what_comes_after() {
    let expanded = assemble(
        &payload(&[
            ("X", "2"),
            ("CI_PROJECT_DIR", "/mine"),
            ("CI_RUNNER_VERSION", "0"),
            ("RUNNER_TEMP_PROJECT_DIR", "/mine.tmp"),
        ]),
        &input(),
    )
    .expanded;
    assert_eq!(expanded.value("X"), "2");
    assert_eq!(expanded.value("CI_PROJECT_DIR"), "/mine");
    assert_eq!(expanded.value("CI_RUNNER_VERSION"), "19.4.0");
    assert_eq!(expanded.value("RUNNER_TEMP_PROJECT_DIR"), "/builds/g/p.tmp");
}

#[test]
fn flags_are_exported_as_resolved_whatever_the_variables_say() {
    let payload = payload(&[("FF_TIMESTAMPS", "true")]);
    let mut input = input();
    input.environment = vec!["FF_CONCRETE=t".into()];
    let config = BTreeMap::from([("FF_TIMESTAMPS".to_owned(), false)]);
    let sources = flag_sources(&input.environment, &payload);
    (input.flags, _) = FeatureFlags::resolve(&config, &sources);
    let expanded = assemble(&payload, &input).expanded;
    assert_eq!(expanded.value("FF_TIMESTAMPS"), "false");
    assert_eq!(expanded.value("FF_CONCRETE"), "true");
    let count = |key| {
        expanded
            .iter()
            .filter(|variable| variable.key == key)
            .count()
    };
    assert_eq!((count("FF_TIMESTAMPS"), count("FF_CONCRETE")), (1, 1));
}

#[test]
fn job_beats_runner_environment_for_flags() {
    let payload = payload(&[("FF_CONCRETE", "0")]);
    let sources = flag_sources(&["FF_CONCRETE=1".into()], &payload);
    assert_eq!(sources.value("FF_CONCRETE"), "0");
}

#[test]
fn what_is_absent_makes_no_variable() {
    let input = AssembleInput {
        tls: TlsFiles::default(),
        network_name: None,
        ..input()
    };
    let unexpanded = assemble(&JobPayload::default(), &input).unexpanded;
    let keys = keys(&unexpanded);
    for key in [
        "CI_JOB_IMAGE",
        "CI_SERVER_TLS_CA_FILE",
        "CI_BUILD_NETWORK_NAME",
    ] {
        assert!(!keys.contains(&key), "{key}");
    }
}

#[test]
fn variable_without_a_key_is_left_out_and_reported_once() {
    let assembled = assemble(&payload(&[("", "a"), ("", "b")]), &input());
    assert_eq!(
        assembled.problems,
        ["a job variable without a key is ignored"]
    );
    assert!(
        assembled
            .expanded
            .iter()
            .all(|variable| !variable.key.is_empty())
    );
}

#[test]
fn secret_is_raw_and_reaches_other_variables_as_its_file() {
    let expanded = assemble(&payload(&[("REF", "$VAULT")]), &input()).expanded;
    assert_eq!(expanded.value("REF"), "/builds/g/p.tmp/VAULT");
}

#[test]
fn references_are_expanded_once_unless_all_of_them_are_wanted() {
    let payload = JobPayload {
        variables: vec![
            Variable::new("A", "$B"),
            Variable::new("B", "$CI_PROJECT_DIR/x"),
        ],
        ..JobPayload::default()
    };
    assert_eq!(
        assemble(&payload, &input()).expanded.value("A"),
        "$CI_PROJECT_DIR/x"
    );
    let nested = AssembleInput {
        nested: true,
        ..input()
    };
    assert_eq!(
        assemble(&payload, &nested).expanded.value("A"),
        "/builds/g/p/x"
    );
}
