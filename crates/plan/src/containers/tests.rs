use std::collections::BTreeMap;

use gantry_job::Variable;
use rstest::rstest;

use super::*;
use crate::fixture::{Fixture, file, image, masked, public, short_labels, strings, values};

const RUN: &str = "runner-tok-project-7-concurrent-0-00010203040506ff";

#[test]
fn names_and_host_names_are_the_peers() {
    let plan = Fixture::new().plan();
    assert_eq!(
        plan.names.project_unique,
        "runner-tok-project-7-concurrent-0"
    );
    assert_eq!(plan.names.run, RUN);
    assert_eq!(plan.build.name, format!("{RUN}-build"));
    assert_eq!(
        plan.build.spec.hostname.as_deref(),
        Some("runner-tok-project-7-concurrent-0")
    );
    let helper = plan.helper.as_ref().unwrap();
    assert_eq!(helper.name, format!("{RUN}-predefined"));
    assert_eq!(helper.spec.hostname, plan.build.spec.hostname);
    assert_eq!(plan.carrier_name(), format!("{RUN}-carrier"));
}

#[rstest]
#[case("glrt-t3_AbC_dEfGhIjk", 3, "runner-abcdefgh-project-7-concurrent-3")]
#[case("glrt-abcdefghijk", 0, "runner-abcdefghi-project-7-concurrent-0")]
fn the_unique_name_is_made_of_nine_characters_of_the_token(
    #[case] token: &str,
    #[case] n: u32,
    #[case] name: &str,
) {
    let fixture = Fixture::new().with(|it| {
        it.runner.token = token.into();
        it.numbers.concurrent_project = n;
    });
    assert_eq!(fixture.plan().names.project_unique, name);
}

#[test]
fn the_build_container_reads_its_script_with_the_first_shell_found() {
    let spec = Fixture::new().plan().build.spec;
    assert_eq!(spec.cmd.unwrap(), ["sh", "-c", DETECT_SHELL]);
    assert!(spec.interactive);
    assert_eq!(spec.entrypoint, None);
    assert_eq!(spec.working_dir, None);
    assert!(!spec.host.read_only_rootfs);
}

#[rstest]
#[case::kept(&[], None)]
#[case::cleared(&[""], Some(&[""][..]))]
#[case::own(&["/bin/sh", "-c", "echo $X"], Some(&["/bin/sh", "-c", "echo $X"][..]))]
fn the_entrypoint_is_the_images_unless_the_job_gives_one(
    #[case] given: &[&str],
    #[case] expected: Option<&[&str]>,
) {
    let fixture = Fixture::new()
        .variable("X", "not expanded")
        .with(|it| it.payload.image.as_mut().unwrap().entrypoint = strings(given));
    assert_eq!(fixture.plan().build.spec.entrypoint, expected.map(strings));
}

#[test]
fn options_of_an_image_hold_also_when_its_name_expands_to_nothing() {
    let plan = Fixture::new()
        .docker(|docker| docker.image = Some("alpine".to_owned()))
        .with(|it| {
            let mut image = image("$NOTHING");
            image.entrypoint = strings(&[""]);
            image.executor_opts.docker.user = "squid".to_owned();
            it.payload.image = Some(image);
        })
        .plan();
    assert_eq!(plan.image_name, "alpine");
    assert_eq!(plan.build.spec.entrypoint, Some(strings(&[""])));
    assert_eq!(plan.build.spec.user.as_deref(), Some("squid"));
}

// docker-executor §7.3
#[rstest]
#[case::nobody("", None, None)]
#[case::of_the_job("squid", None, Some("squid"))]
#[case::of_the_job_expanded("$WHO:${WHO}", None, Some("1000:1000"))]
#[case::of_the_config("", Some("root"), Some("root"))]
#[case::the_config_wins("squid", Some("root"), Some("root"))]
#[case::config_as_written("", Some("$WHO"), Some("$WHO"))]
#[case::expanded_to_nothing("$NOTHING", None, None)]
fn the_user_is_the_configs_else_the_jobs(
    #[case] job: &str,
    #[case] config: Option<&str>,
    #[case] expected: Option<&str>,
) {
    let plan = Fixture::new()
        .variable("WHO", "1000")
        .docker(|docker| docker.user = config.map(str::to_owned))
        .with(|it| it.payload.image.as_mut().unwrap().executor_opts.docker.user = job.to_owned())
        .plan();
    assert_eq!(plan.build.spec.user.as_deref(), expected);
    // The helper's work is root's.
    assert_eq!(plan.helper.unwrap().spec.user.as_deref(), Some("0:0"));
}

#[test]
fn the_build_container_has_all_variables_in_order_and_duplicates() {
    let plan = Fixture::new()
        .environment(&[("DUP", "0"), ("RUNNER_OWN", "r")])
        .variable("DUP", "1")
        .push(masked("SECRET", "s3cret"))
        .push(file("FILE", "content"))
        .variable("DUP", "2")
        .variable("REF", "<$DUP>")
        .push(Variable {
            raw: true,
            ..public("RAW", "<$DUP>")
        })
        .plan();
    let env = &plan.build.spec.env;
    assert_eq!(values(env, "DUP"), ["0", "1", "2"]);
    assert_eq!(values(env, "RUNNER_OWN"), ["r"]);
    assert_eq!(values(env, "SECRET"), ["s3cret"]);
    assert_eq!(values(env, "FILE"), ["/builds/group/project.tmp/FILE"]);
    assert_eq!(values(env, "REF"), ["<2>"]);
    assert_eq!(values(env, "RAW"), ["<$DUP>"]);
    assert_eq!(values(env, "FF_TIMESTAMPS"), ["true"]);
    assert_eq!(values(env, "CI_JOB_STATUS"), ["running"]);
    assert_eq!(values(env, "CI_RUNNER_VERSION"), ["19.4.0"]);
    assert_eq!(values(env, "CI_CONCURRENT_PROJECT_ID"), ["0"]);
    assert_eq!(env.0.len(), plan.variables.len());
}

#[test]
fn the_helper_has_no_variables_and_no_privileges() {
    let plan = Fixture::new()
        .push(masked("SECRET", "s3cret"))
        .docker(|docker| docker.privileged = true)
        .flag("FF_USE_INIT_WITH_DOCKER_EXECUTOR", true)
        .plan();
    let helper = plan.helper.unwrap().spec;
    assert!(helper.env.0.is_empty());
    assert!(!helper.host.privileged);
    assert!(!helper.host.init);
    assert!(!helper.interactive);
}

#[rstest]
#[case::short(100 * 1024, true)]
#[case::longest(MAX_ENV_ENTRY_BYTES - "BIG=".len(), true)]
#[case::too_long(MAX_ENV_ENTRY_BYTES - "BIG=".len() + 1, false)]
fn a_value_no_program_can_be_started_with_is_refused_by_name(
    #[case] bytes: usize,
    #[case] fits: bool,
) {
    let big = "x".repeat(bytes);
    let fixture = Fixture::new().variable("BIG", &big);
    if fits {
        assert!(fixture.try_plan().is_ok());
    } else {
        assert_eq!(
            fixture.mistake(),
            "variable \"BIG\" is too long for a container's environment (limit 128 KiB); make it a file variable"
        );
        // A later value of the key replaces it, and a file has no limit.
        assert!(fixture.variable("BIG", "small").try_plan().is_ok());
        assert!(Fixture::new().push(file("BIG", &big)).try_plan().is_ok());
    }
}

#[rstest]
#[case("K", "a\0b", "K")]
#[case("K\0", "a", "K\\0")]
fn a_zero_byte_is_refused_by_name(#[case] key: &str, #[case] value: &str, #[case] shown: &str) {
    assert_eq!(
        Fixture::new().variable(key, value).mistake(),
        format!(
            "variable \"{shown}\" holds a zero byte, which no environment can; make it a file variable"
        )
    );
}

#[test]
fn limits_are_for_build_and_helper_and_the_rest_is_for_all() {
    let plan = Fixture::new()
        .service(image("redis"))
        .docker(|docker| {
            docker.memory = Some(134_217_728);
            docker.nano_cpus = Some(333_333_333);
            docker.shm_size = Some(1 << 20);
            docker.extra_hosts = strings(&["a:1.2.3.4", "$B:::1"]);
        })
        .plan();
    let helper = plan.helper.unwrap().spec.host;
    let service = &plan.services[0].container.spec.host;
    for host in [&plan.build.spec.host, &helper] {
        assert_eq!((host.memory, host.nano_cpus), (134_217_728, 333_333_333));
    }
    assert_eq!((service.memory, service.nano_cpus), (0, 0));
    for host in [&plan.build.spec.host, &helper, service] {
        assert_eq!(host.shm_size, 1 << 20);
        assert_eq!(host.extra_hosts, ["a:1.2.3.4", "$B:::1"]);
    }
}

#[test]
fn without_settings_the_engines_defaults_hold() {
    let host = Fixture::new().plan().build.spec.host;
    assert_eq!((host.memory, host.nano_cpus, host.shm_size), (0, 0, 0));
    assert!(host.extra_hosts.is_empty() && !host.privileged && !host.init);
    assert_eq!(host.network_mode, "");
}

#[test]
fn sizes_beyond_the_engines_numbers_are_its_greatest() {
    let fixture = Fixture::new().docker(|docker| docker.memory = Some(u64::MAX));
    assert_eq!(fixture.plan().build.spec.host.memory, i64::MAX);
}

#[rstest]
#[case("FF_USE_INIT_WITH_DOCKER_EXECUTOR", true)]
#[case("FF_USE_INIT_WITH_DOCKER_EXECUTOR", false)]
fn init_and_privileges_go_to_build_and_services(#[case] flag: &str, #[case] on: bool) {
    let plan = Fixture::new()
        .service(image("docker:dind"))
        .flag(flag, on)
        .docker(|docker| docker.privileged = on)
        .plan();
    for host in [&plan.build.spec.host, &plan.services[0].container.spec.host] {
        assert_eq!((host.init, host.privileged), (on, on));
    }
}

// engine-mechanics §c
#[rstest]
#[case(EngineFlavor::Docker, LogDriver::Auto, "local")]
#[case(EngineFlavor::Docker, LogDriver::Local, "local")]
#[case(EngineFlavor::Docker, LogDriver::JsonFile, "json-file")]
#[case(EngineFlavor::Podman, LogDriver::Auto, "json-file")]
#[case(EngineFlavor::Podman, LogDriver::Local, "json-file")]
#[case(EngineFlavor::Podman, LogDriver::JsonFile, "json-file")]
fn the_log_of_the_build_container_can_be_read_again(
    #[case] flavor: EngineFlavor,
    #[case] setting: LogDriver,
    #[case] driver: &str,
) {
    let plan = Fixture::new()
        .service(image("redis"))
        .with(|it| {
            it.engine.flavor = flavor;
            it.host.log_driver = setting;
        })
        .plan();
    let log = plan.build.spec.host.log.unwrap();
    assert_eq!(log.driver, driver);
    let options: &[(&str, &str)] = match driver {
        "local" => &[("compress", "false"), ("max-file", "1"), ("max-size", "1t")],
        _ => &[],
    };
    let expected: BTreeMap<_, _> = options
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    assert_eq!(log.options, expected);
    // The others keep the peer's.
    for container in [&plan.helper.unwrap(), &plan.services[0].container] {
        let log = container.spec.host.log.as_ref().unwrap();
        assert_eq!((log.driver.as_str(), log.options.len()), ("json-file", 0));
    }
}

#[test]
fn containers_are_told_apart_by_their_type() {
    let plan = Fixture::new().service(image("redis")).plan();
    let kind = |labels: &Labels| short_labels(labels)["type"].to_owned();
    assert_eq!(kind(&plan.build.spec.labels), "build");
    assert_eq!(kind(&plan.helper.unwrap().spec.labels), "predefined");
    assert_eq!(kind(&plan.services[0].container.spec.labels), "service");
}
