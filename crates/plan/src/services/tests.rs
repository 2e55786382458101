use gantry_config::ServiceConfig;
use gantry_job::Variable;
use rstest::rstest;

use crate::{
    Plan,
    fixture::{Fixture, image, masked, public, service, short_labels, strings, values},
};

const RUN: &str = "runner-tok-project-7-concurrent-0-00010203040506ff";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn plan(services: &[(&str, &str)]) -> Plan {
    let fixture = Fixture::new();
    services
        .iter()
        .fold(fixture, |fixture, (name, alias)| {
            fixture.service(service(name, alias))
        })
        .plan()
}

// docker-executor §5.3
#[rstest]
#[case("mysql", "", &["mysql"], "mysql", "mysql:latest", "latest")]
#[case("mysql:5.7", "", &["mysql"], "mysql", "mysql:5.7", "5.7")]
#[case("tutum/wordpress:latest", "", &["tutum__wordpress", "tutum-wordpress"], "tutum__wordpress", "tutum/wordpress:latest", "latest")]
#[case("registry.gitlab-wp.com:4999/tutum/wordpress", "", &["registry.gitlab-wp.com__tutum__wordpress", "registry.gitlab-wp.com-tutum-wordpress"], "registry.gitlab-wp.com__tutum__wordpress", "registry.gitlab-wp.com:4999/tutum/wordpress:latest", "latest")]
#[case("reg:4999/a/b", "db,web", &["reg__a__b", "reg-a-b", "db", "web"], "reg__a__b", "reg:4999/a/b:latest", "latest")]
#[case("redis", "a b\tc ,, d", &["redis", "a", "b", "c", "d"], "redis", "redis:latest", "latest")]
#[case("$IMAGE:$TAG", "$NAME", &["postgres", "db"], "postgres", "postgres:16", "16")]
fn a_service_answers_to_its_image_and_its_aliases(
    #[case] name: &str,
    #[case] alias: &str,
    #[case] aliases: &[&str],
    #[case] part: &str,
    #[case] reference: &str,
    #[case] version: &str,
) {
    let plan = Fixture::new()
        .variable("IMAGE", "postgres")
        .variable("TAG", "16")
        .variable("NAME", "db")
        .service(service(name, alias))
        .plan();
    let service = &plan.services[0];
    assert_eq!(service.aliases, aliases);
    assert_eq!(service.container.name, format!("{RUN}-{part}-0"));
    assert_eq!(service.container.image.reference, reference);
    assert!(service.warnings.is_empty());
    let labels = short_labels(&service.container.spec.labels);
    let path = part.replace("__", "/");
    assert_eq!(
        (labels["service"], labels["service.version"]),
        (path.as_str(), version)
    );
    assert_eq!(service.title, format!("{path}:{version}"));
}

#[test]
fn a_digest_is_the_version() {
    let plan = plan(&[(&format!("domain.tld/ns/svc@{DIGEST}"), "")]);
    let service = &plan.services[0];
    assert_eq!(
        service.aliases,
        ["domain.tld__ns__svc", "domain.tld-ns-svc"]
    );
    assert_eq!(service.title, format!("domain.tld/ns/svc@{DIGEST}"));
    assert_eq!(
        service.container.image.reference,
        format!("domain.tld/ns/svc@{DIGEST}")
    );
    let labels = short_labels(&service.container.spec.labels);
    assert_eq!(labels["service.version"], format!("@{DIGEST}"));
}

#[test]
fn identical_services_are_both_started_and_the_second_has_no_name_left() {
    let plan = plan(&[("redis", ""), ("redis", "")]);
    assert_eq!(plan.services[0].container.name, format!("{RUN}-redis-0"));
    assert_eq!(plan.services[1].container.name, format!("{RUN}-redis-1"));
    assert_eq!(plan.services[0].aliases, ["redis"]);
    assert!(plan.services[1].aliases.is_empty());
    assert_eq!(
        plan.services[1].warnings,
        [
            r#"Skipping alias "redis" for service "redis" (services[1]): alias is already in use by another service."#
        ]
    );
}

#[test]
fn the_first_service_with_an_alias_has_it() {
    let plan = plan(&[
        ("redis:1", "a"),
        ("tutum/redis", "b redis a"),
        ("redis:2", "b,c"),
    ]);
    let aliases: Vec<_> = plan
        .services
        .iter()
        .map(|service| service.aliases.join(" "))
        .collect();
    assert_eq!(aliases, ["redis a", "tutum__redis tutum-redis b", "c"]);
    let skipped: Vec<_> = plan
        .services
        .iter()
        .flat_map(|service| &service.warnings)
        .collect();
    assert_eq!(
        skipped,
        [
            r#"Skipping alias "redis" for service "tutum/redis" (services[1]): alias is already in use by another service."#,
            r#"Skipping alias "a" for service "tutum/redis" (services[1]): alias is already in use by another service."#,
            r#"Skipping alias "redis" for service "redis:2" (services[2]): alias is already in use by another service."#,
            r#"Skipping alias "b" for service "redis:2" (services[2]): alias is already in use by another service."#,
        ]
    );
}

#[test]
fn on_a_network_with_a_name_server_a_service_keeps_its_taken_aliases() {
    let plan = Fixture::new()
        .flag("FF_NETWORK_PER_BUILD", true)
        .service(service("redis", "a"))
        .service(service("redis", "b a b"))
        .plan();
    let endpoint = &plan.services[1].container.spec.endpoints["runner-tok-7-0-42"];
    assert_eq!(endpoint.aliases, ["redis", "b", "a"]);
    assert_eq!(plan.services[1].aliases, ["b"]);
    assert_eq!(plan.services[1].warnings.len(), 3);
}

#[rstest]
#[case::default("", false, true, true)]
#[case::bridge("bridge", true, true, true)]
#[case::switched_off("", false, false, false)]
#[case::network_of_the_job("", true, true, false)]
#[case::host("host", false, true, false)]
#[case::none("none", false, true, false)]
#[case::other_network("mine", false, true, false)]
#[case::of_a_container("container:web", false, true, false)]
fn services_are_linked_on_the_default_bridge_only(
    #[case] mode: &str,
    #[case] own_network: bool,
    #[case] setting: bool,
    #[case] linked: bool,
) {
    let plan = Fixture::new()
        .flag("FF_NETWORK_PER_BUILD", own_network)
        .service(service("redis", "a"))
        .with(|fixture| {
            fixture.host.link_variables = setting;
            fixture.runner.docker.network_mode = Some(mode.to_owned());
        })
        .plan();
    assert_eq!(plan.services[0].linked, linked);
}

#[rstest]
#[case("", "db", "invalid service image name:  (services[0] of the job)")]
#[case("", "", "invalid service image name:  (services[0] of the job)")]
#[case(
    "$NOTHING",
    "db",
    "invalid service image name:  (services[0] of the job)"
)]
#[case(
    "Not an image",
    "db",
    "invalid service image name: Not an image (services[0] of the job)"
)]
#[case(
    "redis",
    "a:b",
    "services[0] of the job: alias \"a:b\" cannot be a host name, it holds a ':'"
)]
fn a_service_that_cannot_be_named_fails_the_job(
    #[case] name: &str,
    #[case] alias: &str,
    #[case] message: &str,
) {
    assert_eq!(
        Fixture::new().service(service(name, alias)).mistake(),
        message
    );
}

#[test]
fn a_service_gets_public_and_runner_made_variables_and_its_own_after_them() {
    let mut db = image("postgres");
    db.variables = vec![
        public("OWN", "own"),
        public("SHOWN", "replaced"),
        public("FROM_JOB", "<$SHOWN>"),
        public("FROM_SECRET", "<$SECRET>"),
        public("FROM_OWN", "<$OWN>"),
        public("CHAIN", "$FROM_OWN"),
        public("SELF", "$SELF"),
        public("", "without a name"),
        Variable {
            raw: true,
            ..public("RAW", "$OWN")
        },
    ];
    let plan = Fixture::new()
        .environment(&[("RUNNER_OWN", "r")])
        .variable("SHOWN", "shown")
        .push(masked("SECRET", "s3cret"))
        .push(Variable::new("PRIVATE", "private"))
        .push(Variable {
            file: true,
            ..public("FILE", "content")
        })
        .service(db)
        .service(image("redis"))
        .plan();
    let env = &plan.services[0].container.spec.env;
    assert_eq!(values(env, "RUNNER_OWN"), ["r"]);
    assert_eq!(values(env, "SHOWN"), ["shown", "replaced"]);
    assert_eq!(values(env, "FILE"), ["/builds/group/project.tmp/FILE"]);
    assert_eq!(values(env, "CI_PROJECT_DIR"), ["/builds/group/project"]);
    assert_eq!(values(env, "FF_TIMESTAMPS"), ["true"]);
    for hidden in ["SECRET", "PRIVATE"] {
        assert!(values(env, hidden).is_empty(), "{hidden}");
    }
    // Its own: references to all variables, resolved once.
    let own: Vec<_> = env
        .0
        .iter()
        .rev()
        .take(8)
        .rev()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        own,
        [
            "OWN=own",
            "SHOWN=replaced",
            "FROM_JOB=<replaced>",
            "FROM_SECRET=<s3cret>",
            "FROM_OWN=<own>",
            "CHAIN=<$OWN>",
            "SELF=$SELF",
            "RAW=$OWN",
        ]
    );
    // Of others nothing.
    let env = &plan.services[1].container.spec.env;
    assert!(values(env, "OWN").is_empty());
    assert!(!format!("{:?}", env.0).contains("s3cret"));
}

#[test]
fn a_variable_of_a_service_that_is_too_long_is_named() {
    let mut redis = image("redis");
    redis.variables = vec![public("BIG", &"x".repeat(1 << 17))];
    assert_eq!(
        Fixture::new().service(redis).mistake(),
        "variable \"BIG\" is too long for a container's environment (limit 128 KiB); make it a file variable"
    );
}

#[test]
fn command_entrypoint_and_user_are_those_of_the_job() {
    let mut redis = image("redis");
    redis.command = strings(&["--port", "$X"]);
    redis.entrypoint = strings(&["redis-server"]);
    redis.executor_opts.docker.user = "$X".to_owned();
    let plan = Fixture::new()
        .variable("X", "1")
        .docker(|docker| docker.user = Some("only for the build container".to_owned()))
        .service(redis)
        .service(image("mysql"))
        .plan();
    let spec = &plan.services[0].container.spec;
    assert_eq!(spec.cmd, Some(strings(&["--port", "$X"])));
    assert_eq!(spec.entrypoint, Some(strings(&["redis-server"])));
    assert_eq!(spec.user.as_deref(), Some("1"));
    let spec = &plan.services[1].container.spec;
    assert_eq!(
        (&spec.cmd, &spec.entrypoint, &spec.user),
        (&None, &None, &None)
    );
    assert!(!spec.interactive);
}

// docker-executor §6.5
#[rstest]
#[case::bridge("", false, Some(false))]
#[case::network_of_the_job("", true, Some(false))]
#[case::named("mine", false, Some(false))]
#[case::of_the_host("host", false, Some(true))]
#[case::of_a_container("container:vpn", true, Some(true))]
#[case::nothing_reaches_it("none", false, None)]
fn services_are_looked_at_from_the_network_they_are_on(
    #[case] mode: &str,
    #[case] own: bool,
    #[case] loopback: Option<bool>,
) {
    let fixture = Fixture::new()
        .docker(|docker| {
            docker.network_mode = Some(mode.to_owned()).filter(|mode| !mode.is_empty());
            docker.privileged = true;
        })
        .flag("FF_NETWORK_PER_BUILD", own)
        .service(image("redis"));
    let plan = fixture.plan();
    let found = plan.service_check.as_ref();
    assert_eq!(found.map(|check| check.loopback), loopback);
    let Some(check) = found else { return };
    assert_eq!(check.name, format!("{RUN}-wait-for-services"));
    let host = &check.spec.host;
    assert_eq!(host.network_mode, plan.build.spec.host.network_mode);
    assert!(host.binds.is_empty() && !host.privileged);
    assert!(check.spec.env.0.is_empty());
    assert_eq!(short_labels(&check.spec.labels)["type"], "wait");
}

#[test]
fn services_are_not_looked_at_where_there_are_none_or_none_are_waited_for() {
    assert!(Fixture::new().plan().service_check.is_none());
    let fixture = Fixture::new()
        .service(image("redis"))
        .docker(|docker| docker.wait_for_services_timeout = None);
    assert!(fixture.plan().service_check.is_none());
}

/// A runner with one service of its own, `mysql` of a version by variable.
fn with_a_service_of_the_runner() -> Fixture {
    Fixture::new().variable("V", "8").docker(|docker| {
        docker.services.push(ServiceConfig {
            name: "mysql:$V".to_owned(),
            alias: "db,$V".to_owned(),
            command: strings(&["--x"]),
            entrypoint: strings(&["/e"]),
            environment: [("VERSION".to_owned(), "is $V".to_owned())]
                .into_iter()
                .collect(),
        });
    })
}

// docker-executor §6.1
#[test]
fn services_of_the_runner_come_before_those_of_the_job() {
    let plan = with_a_service_of_the_runner()
        .service(service("redis", "db"))
        .plan();
    let titles: Vec<_> = plan.services.iter().map(|one| one.title.as_str()).collect();
    assert_eq!(titles, ["mysql:8", "redis:latest"]);
    let own = &plan.services[0];
    assert_eq!(own.aliases, ["mysql", "db", "8"]);
    assert_eq!(own.container.name, format!("{RUN}-mysql-0"));
    assert_eq!(plan.services[1].container.name, format!("{RUN}-redis-1"));
    assert_eq!(plan.services[1].warnings.len(), 1);
    let spec = &own.container.spec;
    assert_eq!(spec.cmd, Some(strings(&["--x"])));
    assert_eq!(spec.entrypoint, Some(strings(&["/e"])));
    assert_eq!(values(&spec.env, "VERSION"), ["is 8"]);
    assert!(values(&plan.build.spec.env, "VERSION").is_empty());
}

#[test]
fn a_service_of_the_runner_that_cannot_be_named_is_told_with_its_place() {
    let fixture = Fixture::new().docker(|docker| docker.services.push(ServiceConfig::default()));
    let message = fixture.mistake();
    assert!(
        message.contains("invalid service image name:  (services[0] in [runners.docker])"),
        "{message}"
    );
}

// docker-executor §14 row 60
#[rstest]
#[case(None, 3, None)]
#[case(Some(3), 3, None)]
#[case(Some(1), 2, Some("too many services requested: 2, only 1 allowed"))]
#[case(Some(0), 1, Some("too many services requested: 1, only 0 allowed"))]
#[case(Some(0), 0, None)]
fn there_may_be_so_many_services(
    #[case] limit: Option<u64>,
    #[case] count: usize,
    #[case] refused: Option<&str>,
) {
    let fixture = Fixture::new().docker(|docker| docker.services_limit = limit);
    let fixture = (0..count).fold(fixture, |fixture, _| fixture.service(image("redis")));
    match refused {
        None => assert_eq!(fixture.plan().services.len(), count),
        Some(refused) => assert!(fixture.mistake().starts_with(refused)),
    }
}

// docker-executor §14 row 18
#[rstest]
#[case("postgres:9.4", true)]
#[case("postgres:9.5", false)]
#[case("mysql:8", true)]
fn a_job_may_use_the_services_that_are_allowed_and_those_of_the_runner(
    #[case] name: &str,
    #[case] good: bool,
) {
    let fixture = with_a_service_of_the_runner()
        .docker(|docker| docker.allowed_services = strings(&["postgres:9.4"]))
        .service(image(name));
    if good {
        assert_eq!(fixture.plan().services.len(), 2);
    } else {
        let message = fixture.mistake();
        assert!(
            message.starts_with(&format!(
                "disallowed image: The {name:?} image (services[0] of the job) is not present on list of allowed services: postgres:9.4"
            )),
            "{message}"
        );
    }
}

// docker-executor §6.7, §14 row 70
#[rstest]
#[case::as_all(true, None, &[], "docker:dind", true)]
#[case::only_services(false, Some(true), &[], "docker:dind", true)]
#[case::all_but_services(true, Some(false), &[], "docker:dind", false)]
#[case::allowed(false, Some(true), &["docker:dind-rootless"], "docker:dind-rootless", true)]
#[case::not_allowed(false, Some(true), &["docker:dind-rootless"], "docker:dind", false)]
#[case::allowed_as_all(true, None, &["docker:*"], "docker:dind", true)]
#[case::as_written(true, None, &["docker:*"], "docker.io/library/docker:dind", false)]
fn services_are_privileged_as_the_runner_says(
    #[case] all: bool,
    #[case] services: Option<bool>,
    #[case] allowed: &[&str],
    #[case] name: &str,
    #[case] expected: bool,
) {
    let plan = Fixture::new()
        .docker(|docker| {
            docker.privileged = all;
            docker.services_privileged = services;
            docker.allowed_privileged_services = strings(allowed);
        })
        .service(image(name))
        .plan();
    assert_eq!(plan.services[0].container.spec.host.privileged, expected);
    assert_eq!(plan.build.spec.host.privileged, all);
}

#[test]
fn services_have_limits_of_their_own() {
    let plan = Fixture::new()
        .docker(|docker| {
            docker.memory = Some(1);
            docker.service_limits.memory = Some(512);
            docker.service_limits.memory_swap = Some(1024);
            docker.service_limits.memory_reservation = Some(128);
            docker.service_limits.nano_cpus = Some(500);
            docker.service_limits.cpu_shares = 2;
            "0-1".clone_into(&mut docker.service_limits.cpuset_cpus);
            "ci".clone_into(&mut docker.service_limits.cgroup_parent);
            docker.services_tmpfs = [("/data".to_owned(), "rw".to_owned())].into();
        })
        .service(image("redis"))
        .plan();
    let host = &plan.services[0].container.spec.host;
    assert_eq!(
        (host.memory, host.memory_swap, host.memory_reservation),
        (512, 1024, 128)
    );
    assert_eq!((host.nano_cpus, host.cpu_shares), (500, 2));
    assert_eq!(
        (host.cpuset_cpus.as_str(), host.cgroup_parent.as_str()),
        ("0-1", "ci")
    );
    assert_eq!(host.tmpfs["/data"], "rw");
    let build = &plan.build.spec.host;
    assert_eq!((build.memory, build.cpu_shares), (1, 0));
    assert!(build.tmpfs.is_empty());
}

// docker-executor §1.3: the image is held against the pattern with its tag
#[rstest]
#[case("alpine", &["/dev/c", "/dev/a"])]
#[case("alpine:latest", &["/dev/c", "/dev/a"])]
#[case("alpine:3.20", &["/dev/b"])]
#[case("registry.example.com:5000/alpine", &["/dev/d"])]
#[case("$IMAGE", &["/dev/b"])]
#[case("redis", &[])]
fn services_get_the_devices_of_all_patterns_that_match_their_image(
    #[case] name: &str,
    #[case] devices: &[&str],
) {
    let patterns = [
        ("alpine:latest", "/dev/a"),
        ("alpine:3*", "/dev/b"),
        ("alpine:l*", "/dev/c"),
        ("registry.example.com:5000/*:latest", "/dev/d"),
    ];
    let plan = Fixture::new()
        .variable("IMAGE", "alpine:3.20")
        .service(image(name))
        .docker(|docker| {
            docker.services_devices = patterns
                .map(|(pattern, device)| {
                    let device = gantry_config::Device::parse(&format!("{device}:/dev/x:r"));
                    (pattern.to_owned(), vec![device.unwrap()])
                })
                .into();
        })
        .plan();
    let found = &plan.services[0].container.spec.host.devices;
    let hosts: Vec<_> = found.iter().map(|device| &*device.on_host).collect();
    assert_eq!(hosts, devices);
    assert!(
        found
            .iter()
            .all(|device| (&*device.in_container, &*device.permissions) == ("/dev/x", "r"))
    );
    assert!(plan.build.spec.host.devices.is_empty());
}

#[test]
fn a_pattern_of_devices_that_is_none_is_told() {
    let message = Fixture::new()
        .service(image("redis"))
        .docker(|docker| docker.services_devices = [("[".to_owned(), Vec::new())].into())
        .mistake();
    assert!(
        message.starts_with("invalid service device image pattern: [: ")
            && message.ends_with(" (services_devices in [runners.docker])"),
        "{message}"
    );
}

#[test]
fn services_have_gpus_and_security_options_of_their_own() {
    let plan = Fixture::new()
        .service(image("redis"))
        .docker(|docker| {
            docker.services_security_opt = strings(&["label:disable"]);
            docker.service_gpus = gantry_config::GpuRequest::parse("all").unwrap();
        })
        .plan();
    let service = &plan.services[0].container.spec.host;
    assert_eq!(service.security_opt, ["label:disable"]);
    assert_eq!(
        service.device_requests,
        [gantry_container::DeviceRequestSpec {
            count: -1,
            capabilities: vec![strings(&["gpu"])],
            ..Default::default()
        }]
    );
    let others = [&plan.build, plan.helper.as_ref().unwrap()].map(|it| &it.spec.host);
    for host in others {
        assert!(host.security_opt.is_empty() && host.device_requests.is_empty());
    }
}

#[test]
fn entrypoints_of_jobs_can_be_forbidden_and_those_who_ask_for_one_are_told() {
    let with_entrypoint = |name: &str| gantry_job::payload::Image {
        entrypoint: strings(&["/bin/sh", "-c"]),
        ..image(name)
    };
    let fixture = |disabled: bool| {
        Fixture::new()
            .with(|it| it.payload.image = Some(with_entrypoint("ruby")))
            .service(with_entrypoint("redis"))
            .service(image("postgres"))
            .docker(|docker| docker.disable_entrypoint_overwrite = disabled)
    };
    let plan = fixture(false).plan();
    let wanted = Some(strings(&["/bin/sh", "-c"]));
    assert_eq!(plan.build.spec.entrypoint, wanted);
    assert_eq!(plan.services[0].container.spec.entrypoint, wanted);
    assert!(plan.warnings.is_empty() && plan.services[0].warnings.is_empty());

    let plan = fixture(true).plan();
    let said = ["Entrypoint override disabled"];
    assert_eq!(plan.build.spec.entrypoint, None);
    assert_eq!(plan.services[0].container.spec.entrypoint, None);
    assert_eq!(plan.warnings, said);
    assert_eq!(plan.services[0].warnings, said);
    assert!(plan.services[1].warnings.is_empty());
    let quiet = fixture(true).with(|it| it.payload.image = Some(image("ruby")));
    assert!(quiet.plan().warnings.is_empty());
}
