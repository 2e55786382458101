use gantry_job::{JobStatus, Stage, payload::Credential};
use rstest::rstest;

use super::*;
use crate::{
    LogPlan, StageWork,
    fixture::{Fixture, file, image, masked, service, step},
};

#[rstest]
#[case("windows")]
#[case("freebsd")]
#[case("")]
fn engines_of_other_systems_are_refused(#[case] os: &str) {
    let fixture = Fixture::new().with(|it| it.engine.os = os.to_owned());
    let cause = fixture.try_plan().err().unwrap();
    assert_eq!(
        cause.message(),
        format!(
            "reading the engine's facts: unsupported os type: {os} (only engines with Linux containers are supported)"
        )
    );
}

#[rstest]
#[case(None, Some((false, false)))]
#[case(Some("bash"), Some((false, false)))]
#[case(Some("sh"), Some((true, false)))]
#[case(Some("pwsh"), Some((false, true)))]
#[case(Some("zsh"), None)]
fn scripts_are_for_shells_of_the_list(
    #[case] shell: Option<&str>,
    #[case] expected: Option<(bool, bool)>,
) {
    let fixture = Fixture::new().with(|it| it.runner.shell = shell.map(str::to_owned));
    match expected {
        Some((sh, pwsh)) => {
            let plan = fixture.plan();
            assert_eq!((plan.script.sh, plan.script.pwsh), (sh, pwsh));
            let program = plan.build.spec.cmd.unwrap().remove(0);
            assert_eq!(program, if pwsh { "pwsh" } else { "sh" });
        }
        None => assert_eq!(
            fixture.mistake(),
            format!(
                "shell {:?} is not supported: set `shell` in [[runners]] to \"bash\", \"sh\" or \"pwsh\", or leave it out",
                shell.unwrap()
            )
        ),
    }
}

#[rstest]
#[case("FF_USE_NATIVE_CONTAINER_STOP", true, true)]
#[case("FF_USE_NATIVE_CONTAINER_STOP", false, false)]
fn the_flag_for_native_stop_is_planned(#[case] flag: &str, #[case] on: bool, #[case] native: bool) {
    assert_eq!(Fixture::new().flag(flag, on).plan().native_stop, native);
}

#[rstest]
#[case("", true)]
#[case("true", true)]
#[case("false", false)]
#[case("x", true)]
fn errors_of_after_script_are_ignored_unless_the_job_says_otherwise(
    #[case] value: &str,
    #[case] ignored: bool,
) {
    let plan = Fixture::new()
        .variable("AFTER_SCRIPT_IGNORE_ERRORS", value)
        .plan();
    assert_eq!(plan.after_script_ignore_errors, ignored);
}

#[test]
fn credentials_are_those_of_variable_and_payload() {
    let credential = |kind: &str, url: &str| Credential {
        kind: kind.to_owned(),
        url: url.to_owned(),
        username: "user".to_owned(),
        password: "password".into(),
    };
    let plan = Fixture::new()
        .push(masked("DOCKER_AUTH_CONFIG", "{}"))
        .with(|it| {
            it.payload.credentials =
                vec![credential("registry", "reg/ns"), credential("other", "x")];
        })
        .plan();
    assert_eq!(plan.credentials.docker_auth_config.as_deref(), Some("{}"));
    let expected = (
        "reg/ns".to_owned(),
        "user".to_owned(),
        "password".to_owned(),
    );
    assert_eq!(plan.credentials.payload, [expected]);
    let plan = Fixture::new().plan();
    assert_eq!(plan.credentials.docker_auth_config, None);
    assert!(plan.credentials.payload.is_empty());
}

#[test]
fn names_are_made_anew_from_each_seed_and_from_nothing_else() {
    let fixture = Fixture::new().service(image("redis"));
    let (first, again) = (fixture.plan(), fixture.plan());
    assert_eq!(
        serde_json::to_value(&first).unwrap(),
        serde_json::to_value(&again).unwrap()
    );
    let other = crate::plan(&Inputs {
        seed: [9; 8],
        ..fixture.inputs()
    })
    .unwrap_or_else(|_| panic!("planned"));
    assert_eq!(
        other.names.run,
        "runner-tok-project-7-concurrent-0-0909090909090909"
    );
    assert_ne!(first.build.name, other.build.name);
    assert_ne!(
        first.services[0].container.name,
        other.services[0].container.name
    );
    // Storage for later jobs has the same name.
    assert_eq!(first.volumes[0].spec.name, other.volumes[0].spec.name);
}

/// A plan with every part.
fn full() -> Fixture {
    Fixture::new()
        .volumes(&["/cache", "/srv:/srv:ro"])
        .flag("FF_NETWORK_PER_BUILD", true)
        .flag("FF_ENABLE_JOB_CLEANUP", true)
        .push(masked("DOCKER_AUTH_CONFIG", "{\"auths\":{}}"))
        .push(file("FILE", "content\nwith lines"))
        .variable("RUNNER_SCRIPT_TIMEOUT", "5s")
        .variable("GIT_CHECKOUT", "x")
        .service(service("postgres:16", "db db"))
        .docker(|docker| docker.helper_image = Some("helper:1".to_owned()))
        .with(|it| {
            it.payload.steps = ["script", "release", "after_script"]
                .map(|name| step(name, &["a", "b"]))
                .into();
            it.runner.prepare_timeout = Some(std::time::Duration::from_millis(1500));
            it.tls.key = Some("KEY".into());
        })
}

#[test]
fn a_plan_is_read_back_from_a_journal() {
    let mut local = full();
    local.sources = Sources::WorkingTree;
    for fixture in [
        full(),
        local,
        Fixture::new().variable("GIT_STRATEGY", "none"),
    ] {
        let plan = fixture.plan();
        let json = serde_json::to_string(&plan).unwrap();
        let back: Plan = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
        assert_eq!(back.variables, plan.variables);
        assert_eq!(back.build.spec, plan.build.spec);
        assert_eq!(back.limits.prepare, plan.limits.prepare);
    }
}

#[test]
fn a_script_says_its_mark_first_and_sees_how_the_job_stands() {
    let plan = full().plan();
    let work = |name: &str| {
        let stage = plan
            .stages
            .iter()
            .find(|stage| stage.stage.section_name() == name)
            .unwrap();
        match &stage.work {
            StageWork::Script(work) => work.clone(),
            _ => panic!("{name} is no script"),
        }
    };
    let script = plan
        .script(&work("step_script"), false, JobStatus::Failed, "mark-1")
        .script;
    assert!(script.contains("mark-1"));
    assert!(script.contains("CI_JOB_STATUS=running"));
    let after = plan
        .script(&work("after_script"), true, JobStatus::Failed, "mark-2")
        .script;
    assert!(after.contains("CI_JOB_STATUS=failed"));
    assert!(
        plan.stages
            .iter()
            .any(|stage| stage.stage == Stage::AfterScript)
    );
}

#[test]
fn the_log_and_the_plan_agree_on_what_is_secret() {
    let fixture = full().push(masked("LATE", "in $CI_PROJECT_DIR with $DB"));
    let LogPlan { masks, .. } = fixture.log_plan();
    let variables = fixture.plan().variables;
    for variable in variables.iter().filter(|variable| variable.masked) {
        assert!(
            masks
                .phrases
                .iter()
                .any(|phrase| phrase == variable.value.trim()),
            "{}",
            variable.key
        );
    }
}
