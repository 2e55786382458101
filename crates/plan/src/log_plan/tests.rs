use rstest::rstest;

use super::*;
use crate::fixture::{Fixture, JOB_TOKEN, file, masked};

#[test]
fn the_header_names_runner_and_version() {
    let log = Fixture::new()
        .with(|it| it.runner.token = "glrt-aBcDeFgHiJk".into())
        .log_plan();
    assert_eq!(
        log.header,
        [
            "Running with gitlab-runner 19.4.0 (abcdef12)",
            "  on host1 aBcDeFgHi, system ID: sys",
        ]
    );
}

#[test]
fn flags_that_differ_from_their_default_are_in_the_header() {
    let log = Fixture::new()
        .flag("FF_NETWORK_PER_BUILD", true)
        .flag("FF_USE_FASTZIP", true)
        .environment(&[("FF_TIMESTAMPS", "0")])
        .variable("FF_SCRIPT_SECTIONS", "1")
        .log_plan();
    assert_eq!(
        log.header[2],
        "  feature flags: FF_NETWORK_PER_BUILD:true, FF_SCRIPT_SECTIONS:true, FF_TIMESTAMPS:false"
    );
    assert!(!log.timestamps);
}

#[rstest]
#[case(true)]
#[case(false)]
fn form_and_limit_are_those_of_server_and_config(#[case] on: bool) {
    let log = Fixture::new()
        .with(|it| {
            it.payload.features.trace_sections = on;
            it.runner.output_limit = 12_345;
        })
        .log_plan();
    assert_eq!(log.sections, on);
    assert_eq!(log.limit_bytes, 12_345);
    assert!(log.timestamps);
}

#[test]
fn masked_values_are_masked_as_scripts_see_them() {
    let log = Fixture::new()
        .push(masked("A", "secret in $CI_PROJECT_DIR"))
        .push(masked("B", "secret in $RUNNER_TEMP_PROJECT_DIR"))
        .push(masked("C", "secret for $CI_JOB_IMAGE"))
        .push(masked("D", "$OTHER"))
        .variable("OTHER", "other secret")
        .push(gantry_job::Variable {
            masked: true,
            ..file("F", "file secret")
        })
        .with(|it| it.payload.image = Some(crate::fixture::image("app:$TAG")))
        .variable("TAG", "1")
        .log_plan();
    for phrase in [
        "secret in /builds/group/project",
        "secret in /builds/group/project.tmp",
        "secret for app:1",
        "other secret",
        "file secret",
        JOB_TOKEN,
    ] {
        assert!(
            log.masks.phrases.iter().any(|found| found == phrase),
            "{phrase}"
        );
    }
}

#[test]
fn a_job_that_cannot_be_planned_is_masked_all_the_same() {
    let fixture = Fixture::new()
        .push(masked("A", "secret $B"))
        .variable("B", "expanded")
        .variable("CI_DEBUG_TRACE", "true")
        .with(|it| it.runner.builds_dir = "relative".to_owned());
    assert!(fixture.try_plan().is_err());
    let log = fixture.log_plan();
    assert!(log.masks.phrases.contains(&"secret expanded".to_owned()));
    assert!(log.masks.phrases.contains(&JOB_TOKEN.to_owned()));
    assert_eq!(log.header.len(), 2);
    assert!(!log.debug_trace);
}

#[rstest]
#[case("true", false, true)]
#[case("1", false, true)]
#[case("false", false, false)]
#[case("true", true, false)]
fn debug_trace_is_told_to_the_server_when_it_is_in_effect(
    #[case] value: &str,
    #[case] forbidden: bool,
    #[case] on: bool,
) {
    let fixture = Fixture::new()
        .variable("CI_DEBUG_TRACE", value)
        .with(|it| it.runner.debug_trace_disabled = forbidden);
    assert_eq!(fixture.log_plan().debug_trace, on);
    let plan = fixture.plan();
    assert_eq!(plan.script.debug_trace, on);
    let sentence = "CI_DEBUG_TRACE: usage is disabled on this Runner";
    assert_eq!(plan.warnings.contains(&sentence.to_owned()), forbidden);
}

#[test]
fn logs_of_services_are_told_to_the_server_as_a_debug_trace() {
    let fixture = Fixture::new().variable("CI_DEBUG_SERVICES", "true");
    assert!(fixture.log_plan().debug_trace);
    assert!(fixture.plan().debug_services && !fixture.plan().script.debug_trace);
    let fixture = fixture.with(|it| it.runner.debug_trace_disabled = true);
    assert!(!fixture.log_plan().debug_trace);
    assert!(!fixture.plan().debug_services);
    let sentence = "CI_DEBUG_SERVICES: usage is disabled on this Runner";
    assert!(fixture.plan().warnings.contains(&sentence.to_owned()));
    let fixture = Fixture::new().variable("CI_DEBUG_SERVICES", "perhaps");
    let sentence = r#"CI_DEBUG_SERVICES: expected bool got "perhaps", using default value: false"#;
    assert_eq!(fixture.plan().warnings, [sentence]);
    assert!(!fixture.plan().debug_services);
}

#[test]
fn token_prefixes_follow_server_and_flag() {
    let fixture =
        Fixture::new().with(|it| it.payload.features.token_mask_prefixes = vec!["own-".to_owned()]);
    let all = fixture.log_plan().masks.token_prefixes;
    assert!(all.contains(&"glcbt-".to_owned()) && all.contains(&"own-".to_owned()));
    let few = fixture
        .flag("FF_MASK_ALL_DEFAULT_TOKENS", false)
        .log_plan()
        .masks
        .token_prefixes;
    assert_eq!(few, ["glpat-", "own-"]);
}

#[test]
fn a_log_plan_is_read_back_from_a_journal() {
    let log = Fixture::new().push(masked("A", "secret")).log_plan();
    let json = serde_json::to_value(&log).unwrap();
    let back: LogPlan = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), json);
    assert_eq!(back.masks, log.masks);
}

#[test]
fn a_masked_value_is_masked_in_its_final_and_in_its_encoded_forms() {
    let fixture = Fixture::new().push(masked("SECRET", "$CI_PROJECT_DIR:s3cret"));
    let phrases = fixture.log_plan().masks.phrases;
    for phrase in [
        "/builds/group/project:s3cret",
        "%2Fbuilds%2Fgroup%2Fproject%3As3cret",
        "L2J1aWxkcy9ncm91cC9wcm9qZWN0OnMzY3Jld",
    ] {
        assert!(phrases.iter().any(|found| found == phrase), "{phrases:?}");
    }
    let plain = fixture.with(|it| it.host.mask_encoded = false);
    let phrases = plain.log_plan().masks.phrases;
    assert!(
        !phrases.iter().any(|found| found.contains("%2F")),
        "{phrases:?}"
    );
}

#[test]
fn nothing_but_the_error_is_printed_of_a_job_whose_inputs_cannot_be_used() {
    let input = gantry_job::payload::JobInput {
        key: "n".to_owned(),
        value: gantry_job::payload::JobInputValue {
            kind: "number".to_owned(),
            content: gantry_job::payload::Opaque(3.into()),
            sensitive: false,
        },
    };
    let with = |line: &str| {
        let input = input.clone();
        Fixture::new().with(|it| {
            it.payload.inputs = vec![input];
            it.payload.steps = vec![crate::fixture::step("script", &[line])];
        })
    };
    let bad = with("echo ${{ job.inputs.n }}");
    assert!(bad.log_plan().header.is_empty());
    assert!(
        bad.mistake()
            .starts_with("failed to interpolate job inputs: cannot put a number into text")
    );
    let good = with("echo ${{ str(job.inputs.n) }}");
    assert!(!good.log_plan().header.is_empty());
    let stage = |stage: &crate::PlannedStage| match &stage.work {
        crate::StageWork::Script(work) => Some(work.lines.clone()),
        _ => None,
    };
    let lines: Vec<_> = good.plan().stages.iter().filter_map(stage).collect();
    assert_eq!(lines, [["echo 3"]]);
}
