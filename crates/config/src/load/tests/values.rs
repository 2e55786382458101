//! What values become.

use super::{MINIMAL, RUNNER, loaded, with_docker, with_runner};
use crate::config::{
    DockerConfig, HostPort, IgnoreUnsupported, LogDriver, LogFormat, LogLevel, Naming, OnStop,
    PullPolicy, RunnerConfig,
};
use crate::load::{Placeholders, parse};
use crate::{Device, GpuRequest, ServiceConfig, ServiceLimits};
use rstest::rstest;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

fn runner(lines: &str) -> Arc<RunnerConfig> {
    Arc::clone(&loaded(&with_runner(lines)).config.runners[0])
}

fn docker(lines: &str) -> DockerConfig {
    loaded(&with_docker(lines)).config.runners[0].docker.clone()
}

#[test]
fn the_minimal_file_loads_without_a_word() {
    let loaded = loaded(MINIMAL);
    assert_eq!((loaded.warnings, loaded.unknown_keys), (vec![], vec![]));
    let config = loaded.config;
    assert_eq!(
        (
            config.concurrent,
            config.check_interval.as_secs(),
            config.shutdown_timeout.as_secs()
        ),
        (4, 3, 30)
    );
    let runner = &config.runners[0];
    assert_eq!(
        (
            runner.name.as_str(),
            runner.url.as_str(),
            runner.id,
            runner.line
        ),
        ("host1", "https://gitlab.example.com", 12, 6)
    );
    assert_eq!(
        (runner.token.expose_secret(), runner.short_token()),
        ("glrt-XXXXXXXXXXXXXXXXXXXX", "XXXXXXXXX")
    );
    assert_eq!(runner.unique_id(), "https://gitlab.example.comXXXXXXXXX");
    assert_eq!(
        runner.token_obtained_at,
        Some(UNIX_EPOCH + Duration::from_secs(1_767_323_045))
    );
    assert_eq!((runner.token_expires_at, &runner.skip), (None, &None));
    assert_eq!(
        runner.feature_flags,
        BTreeMap::from([("FF_NETWORK_PER_BUILD".to_owned(), true)])
    );
    assert_eq!(runner.docker.image.as_deref(), Some("alpine:3.20"));
    assert_eq!(runner.docker.volumes, ["/cache"]);
}

#[test]
fn unset_keys_have_the_defaults_of_the_peer() {
    let loaded = loaded(RUNNER);
    let config = &loaded.config;
    assert_eq!(
        (config.concurrent, config.log_level, config.log_format),
        (1, LogLevel::Info, LogFormat::Runner)
    );
    assert_eq!(
        (
            config.check_interval.as_secs(),
            config.shutdown_timeout.as_secs()
        ),
        (3, 30)
    );
    assert_eq!(config.connection_max_age, Some(Duration::from_secs(900)));
    let runner = &config.runners[0];
    assert_eq!(
        (
            runner.limit,
            runner.request_concurrency,
            runner.output_limit
        ),
        (None, 1, 4 << 20)
    );
    assert_eq!(
        (
            runner.unhealthy_requests_limit,
            runner.unhealthy_interval.as_secs()
        ),
        (3, 3600)
    );
    assert_eq!(
        (
            runner.job_status_final_update_retry_limit,
            runner.prepare_timeout,
            runner.get_sources_timeout
        ),
        (10, None, None)
    );
    assert_eq!(
        (
            runner.builds_dir.as_str(),
            runner.cache_dir.as_str(),
            runner.shell.as_deref()
        ),
        ("/builds", "/cache", None)
    );
    assert_eq!(
        (
            runner.safe_directory_checkout,
            runner.clean_git_config,
            runner.custom_build_dir_enabled()
        ),
        (None, None, true)
    );
    assert_eq!(
        (
            runner.artifact_upload_timeout.as_secs(),
            runner.artifact_response_header_timeout.as_secs()
        ),
        (3600, 600)
    );
    assert_eq!(runner.docker, DockerConfig::default());
    assert_eq!(runner.docker.pull_policies(), [PullPolicy::Always]);
    assert_eq!(
        runner.docker.wait_for_services_timeout,
        Some(Duration::from_secs(30))
    );
}

#[rstest]
#[case("concurrent = 10", "10 3 info 30 Some(900)")]
#[case("check_interval = 7", "1 7 info 30 Some(900)")]
#[case("check_interval = -7", "1 3 info 30 Some(900)")]
#[case("log_level = 'WARNING'", "1 3 warn 30 Some(900)")]
#[case("log_level = 'trace'", "1 3 trace 30 Some(900)")]
#[case("shutdown_timeout = 90", "1 3 info 90 Some(900)")]
#[case("shutdown_timeout = -1", "1 3 info 30 Some(900)")]
#[case("connection_max_age = '1m'", "1 3 info 30 Some(60)")]
#[case("connection_max_age = 0", "1 3 info 30 None")]
#[case("connection_max_age = '-1s'", "1 3 info 30 None")]
#[case("Concurrent = 10\nCHECK_INTERVAL = 7", "10 7 info 30 Some(900)")]
fn global_keys_are_read(#[case] text: &str, #[case] expected: &str) {
    let config = loaded(text).config;
    let read = format!(
        "{} {} {} {} {:?}",
        config.concurrent,
        config.check_interval.as_secs(),
        format!("{:?}", config.log_level).to_lowercase(),
        config.shutdown_timeout.as_secs(),
        config.connection_max_age.map(|age| age.as_secs())
    );
    assert_eq!(read, expected);
}

#[test]
fn every_runner_key_is_read() {
    let runner = runner(
        r#"
        id = 7
        tls-ca-file = "/ca.pem"
        tls-cert-file = "/cert.pem"
        tls-key-file = "/key.pem"
        clone_url = "http://inner.example"
        limit = 5
        request_concurrency = 3
        strict_check_interval = true
        output_limit = 1
        unhealthy_requests_limit = 9
        unhealthy_interval = "2m"
        job_status_final_update_retry_limit = 4
        prepare_timeout = "10m"
        get_sources_timeout = 60000000000
        builds_dir = "/b"
        cache_dir = "/c"
        environment = ["A=1", "B=x=y", "C="]
        shell = "bash"
        pre_get_sources_script = "pre get"
        post_get_sources_script = "post get"
        pre_build_script = "pre build"
        post_build_script = "post build"
        debug_trace_disabled = true
        safe_directory_checkout = false
        clean_git_config = false
        custom_build_dir = { enabled = false }
        artifact = { upload_timeout = "5m", response_header_timeout = "6m" }
        "#,
    );
    let paths = [
        &runner.tls_ca_file,
        &runner.tls_cert_file,
        &runner.tls_key_file,
    ]
    .map(|path| path.clone().unwrap().display().to_string());
    assert_eq!(paths, ["/ca.pem", "/cert.pem", "/key.pem"]);
    assert_eq!(
        (runner.id, runner.clone_url.as_deref(), runner.limit),
        (7, Some("http://inner.example"), Some(5))
    );
    assert_eq!(
        (
            runner.request_concurrency,
            runner.strict_check_interval,
            runner.output_limit
        ),
        (3, true, 1024)
    );
    assert_eq!(
        (
            runner.unhealthy_requests_limit,
            runner.unhealthy_interval.as_secs()
        ),
        (9, 120)
    );
    assert_eq!(runner.job_status_final_update_retry_limit, 4);
    assert_eq!(
        (runner.prepare_timeout, runner.get_sources_timeout),
        (
            Some(Duration::from_secs(600)),
            Some(Duration::from_secs(60))
        )
    );
    assert_eq!(
        (
            runner.builds_dir.as_str(),
            runner.cache_dir.as_str(),
            runner.shell.as_deref()
        ),
        ("/b", "/c", Some("bash"))
    );
    assert_eq!(
        runner.environment.iter().collect::<Vec<_>>(),
        [("A", "1"), ("B", "x=y"), ("C", "")]
    );
    assert_eq!(
        (
            runner.pre_get_sources_script.as_str(),
            runner.post_get_sources_script.as_str()
        ),
        ("pre get", "post get")
    );
    assert_eq!(
        (
            runner.pre_build_script.as_str(),
            runner.post_build_script.as_str()
        ),
        ("pre build", "post build")
    );
    assert!(runner.debug_trace_disabled && !runner.custom_build_dir_enabled());
    assert_eq!(
        (runner.safe_directory_checkout, runner.clean_git_config),
        (Some(false), Some(false))
    );
    assert_eq!(
        (
            runner.artifact_upload_timeout.as_secs(),
            runner.artifact_response_header_timeout.as_secs()
        ),
        (300, 360)
    );
}

#[test]
fn numbers_below_their_least_are_the_default() {
    let runner = runner(
        "limit = -1\nrequest_concurrency = 0\noutput_limit = 0\nunhealthy_requests_limit = -3\njob_status_final_update_retry_limit = 0",
    );
    assert_eq!(
        (
            runner.limit,
            runner.request_concurrency,
            runner.output_limit
        ),
        (None, 1, 4 << 20)
    );
    assert_eq!(
        (
            runner.unhealthy_requests_limit,
            runner.job_status_final_update_retry_limit
        ),
        (3, 10)
    );
}

#[test]
fn huge_numbers_do_not_wrap() {
    let runner = runner(
        "output_limit = 9223372036854775807\nunhealthy_requests_limit = 9223372036854775807",
    );
    assert_eq!(
        (runner.output_limit, runner.unhealthy_requests_limit),
        (u64::MAX, u32::MAX)
    );
}

#[test]
fn every_docker_key_of_this_version_is_read() {
    let docker = docker(
        r#"
        host = "tcp://engine:2376"
        tls_verify = true
        tls_cert_path = "/certs"
        image = "alpine"
        pull_policy = ["if-not-present", "always"]
        helper_image = "helper:${CI_RUNNER_VERSION}"
        volumes = ["/cache", "/srv:/srv:ro"]
        disable_cache = true
        cache_dir = "/srv/ci"
        disable_entrypoint_overwrite = true
        network_mode = "host"
        privileged = true
        user = "1000"
        memory = "1.5GiB"
        cpus = "1/3"
        extra_hosts = ["db:10.0.0.1"]
        shm_size = 67108864
        wait_for_services_timeout = 12
        services_privileged = false
        allowed_privileged_services = ["docker:*-dind-rootless"]
        allowed_services = ["postgres:*"]
        services_limit = 0
        service_memory = "512m"
        service_memory_swap = "1g"
        service_memory_reservation = "128m"
        service_cpus = "0.5"
        service_cpu_shares = 512
        service_cpuset_cpus = "0-1"
        service_cgroup_parent = "ci"
        services_tmpfs = { "/var/lib/mysql" = "rw,noexec" }
        services_security_opt = ["label:disable"]
        services_devices = { "alpine:*" = ["/dev/a:/dev/b:r"], "redis" = [] }
        service_gpus = "all"
        services = [{ name = "mysql:$V", alias = "db", command = ["--x"], entrypoint = ["/e"], environment = ["A=b", "no"] }, { name = "redis" }]
        "#,
    );
    let expected = DockerConfig {
        host: Some("tcp://engine:2376".to_owned()),
        tls_verify: true,
        tls_cert_path: Some("/certs".into()),
        image: Some("alpine".to_owned()),
        pull_policy: vec![PullPolicy::IfNotPresent, PullPolicy::Always],
        helper_image: Some("helper:${CI_RUNNER_VERSION}".to_owned()),
        volumes: vec!["/cache".to_owned(), "/srv:/srv:ro".to_owned()],
        disable_cache: true,
        cache_dir: Some("/srv/ci".to_owned()),
        disable_entrypoint_overwrite: true,
        network_mode: Some("host".to_owned()),
        privileged: true,
        user: Some("1000".to_owned()),
        memory: Some(3 << 29),
        nano_cpus: Some(333_333_333),
        extra_hosts: vec!["db:10.0.0.1".to_owned()],
        shm_size: Some(64 << 20),
        wait_for_services_timeout: Some(Duration::from_secs(12)),
        services_privileged: Some(false),
        allowed_privileged_services: vec!["docker:*-dind-rootless".to_owned()],
        allowed_services: vec!["postgres:*".to_owned()],
        services_limit: Some(0),
        service_limits: ServiceLimits {
            memory: Some(512 << 20),
            memory_swap: Some(1 << 30),
            memory_reservation: Some(128 << 20),
            nano_cpus: Some(500_000_000),
            cpu_shares: 512,
            cpuset_cpus: "0-1".to_owned(),
            cgroup_parent: "ci".to_owned(),
        },
        services_tmpfs: [("/var/lib/mysql".to_owned(), "rw,noexec".to_owned())].into(),
        services_security_opt: vec!["label:disable".to_owned()],
        services_devices: [
            (
                "alpine:*".to_owned(),
                vec![Device::parse("/dev/a:/dev/b:r").unwrap()],
            ),
            ("redis".to_owned(), Vec::new()),
        ]
        .into(),
        service_gpus: GpuRequest::parse("all").unwrap(),
        services: vec![
            ServiceConfig {
                name: "mysql:$V".to_owned(),
                alias: "db".to_owned(),
                command: vec!["--x".to_owned()],
                entrypoint: vec!["/e".to_owned()],
                environment: [("A".to_owned(), "b".to_owned())].into_iter().collect(),
            },
            ServiceConfig {
                name: "redis".to_owned(),
                ..ServiceConfig::default()
            },
        ],
    };
    assert_eq!(docker, expected);
}

#[test]
fn empty_docker_values_are_unset() {
    let docker = docker(
        "host = ''\nimage = ''\nmemory = ''\ncpus = ''\nuser = ''\nshm_size = 0\nvolumes = []\npull_policy = []",
    );
    assert_eq!(docker, DockerConfig::default());
}

#[rstest]
#[case("-1", None)]
#[case("0", Some(30))]
#[case("5", Some(5))]
fn services_are_waited_for_unless_negative(#[case] value: &str, #[case] seconds: Option<u64>) {
    assert_eq!(
        docker(&format!("wait_for_services_timeout = {value}")).wait_for_services_timeout,
        seconds.map(Duration::from_secs)
    );
}

#[test]
fn one_pull_policy_may_stand_alone() {
    assert_eq!(
        docker("pull_policy = 'never'").pull_policies(),
        [PullPolicy::Never]
    );
}

#[test]
fn keys_match_in_any_case_at_every_level() {
    let text = r#"
        CONCURRENT = 2
        [[Runners]]
        Name = "a"
        URL = "https://x"
        Token = "t"
        EXECUTOR = "docker"
        [Runners.Docker]
        Image = "alpine"
        [Runners.Cache]
        type = ""
        [Runners.Cache.S3]
        bucketname = "b"
        [GANTRY]
        On_Stop = "detach"
    "#;
    let loaded = loaded(text);
    assert_eq!((loaded.warnings, loaded.unknown_keys), (vec![], vec![]));
    assert_eq!(
        (loaded.config.concurrent, loaded.config.gantry.on_stop),
        (2, OnStop::Detach)
    );
    let runner = &loaded.config.runners[0];
    assert_eq!(
        (runner.name.as_str(), runner.docker.image.as_deref()),
        ("a", Some("alpine"))
    );
}

#[rstest]
#[case("Image = 'other'\nimage = 'exact'")]
#[case("image = 'exact'\nImage = 'other'")]
#[case("image = 'exact'\nIMAGE = 'other'\nImage = 'another'")]
fn the_exact_key_wins(#[case] lines: &str) {
    assert_eq!(docker(lines).image.as_deref(), Some("exact"));
}

#[test]
fn names_in_free_tables_keep_their_case() {
    let runner = runner("[runners.feature_flags]\nFF_x = true\nff_X = false");
    assert_eq!(
        runner.feature_flags,
        BTreeMap::from([("FF_x".to_owned(), true), ("ff_X".to_owned(), false)])
    );
}

#[test]
fn labels_of_the_runner_win_over_the_global_ones() {
    let text = format!(
        "labels = {{ env = 'prod', site = 'one' }}\n{}",
        with_runner("labels = { site = 'two', rack = '7-b' }")
    );
    let labels = loaded(&text).config.runners[0].labels.clone();
    let expected = [("env", "prod"), ("rack", "7-b"), ("site", "two")];
    assert_eq!(
        labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect::<Vec<_>>(),
        expected
    );
}

#[rstest]
#[case("https://gitlab.example.com/", "https://gitlab.example.com")]
#[case("https://gitlab.example.com/ci", "https://gitlab.example.com")]
#[case("https://gitlab.example.com/ci/", "https://gitlab.example.com")]
#[case("https://example.com/gitlab", "https://example.com/gitlab")]
#[case("https://$HOST/${SUB}x", "https://inner.example/gitx")]
#[case("HTTPS://example.com", "HTTPS://example.com")]
fn urls_are_expanded_and_trimmed(#[case] written: &str, #[case] url: &str) {
    let text = RUNNER.replace("https://gitlab.example.com", written);
    let values = Placeholders::from([
        ("HOST".to_owned(), "inner.example".to_owned()),
        ("SUB".to_owned(), "git".to_owned()),
    ]);
    let loaded = parse(&text, Path::new("config.toml"), &values).unwrap();
    assert_eq!(
        (
            loaded.config.runners[0].url.as_str(),
            &loaded.config.runners[0].skip
        ),
        (url, &None)
    );
}

#[test]
fn placeholders_are_expanded_in_token_and_url_only() {
    let text = with_docker("image = '$SECRET'\nuser = '${SECRET}'")
        .replace("glrt-abcdefghijkl", "glrt-$SECRET")
        .replace("host1", "$SECRET");
    let values = Placeholders::from([("SECRET".to_owned(), "hunter2".to_owned())]);
    let loaded = parse(&text, Path::new("config.toml"), &values).unwrap();
    let runner = &loaded.config.runners[0];
    assert_eq!(
        (runner.token.expose_secret(), runner.name.as_str()),
        ("glrt-hunter2", "$SECRET")
    );
    assert_eq!(
        (
            runner.docker.image.as_deref(),
            runner.docker.user.as_deref()
        ),
        (Some("$SECRET"), Some("${SECRET}"))
    );
}

#[test]
fn the_gantry_table_is_read() {
    let gantry = loaded(
        r#"
        [gantry]
        state_dir = "/srv/gantry"
        on_stop = "detach"
        ignore_unsupported = ["cache", "artifacts"]
        compatible_version = "18.2.1"
        compatible_revision = "abc123"
        log_driver = "json-file"
        link_variables = false
        naming = "compatible"
        shared_local_cache = true
        nested_variables = true
        mask_encoded = false
        s3_multipart = false
        helper_binary = { arm64 = "/opt/gantry-helper-arm64" }
        "#,
    )
    .config
    .gantry;
    assert_eq!(
        (
            gantry.state_dir.as_deref(),
            gantry.on_stop,
            gantry.log_driver,
            (
                gantry.link_variables,
                gantry.naming,
                gantry.shared_local_cache
            )
        ),
        (
            Some(Path::new("/srv/gantry")),
            OnStop::Detach,
            LogDriver::JsonFile,
            (false, Naming::Compatible, true)
        )
    );
    assert_eq!(
        (
            gantry.compatible_version.as_str(),
            gantry.compatible_revision.as_deref()
        ),
        ("18.2.1", Some("abc123"))
    );
    assert!(gantry.nested_variables && !gantry.mask_encoded && !gantry.s3_multipart);
    let unset = loaded("").config.gantry;
    assert!(!unset.nested_variables && unset.mask_encoded && unset.s3_multipart);
    assert!(
        gantry.ignore_unsupported.allows("cache") && !gantry.ignore_unsupported.allows("secrets")
    );
    assert_eq!(
        gantry
            .helper_binary
            .get("arm64")
            .map(std::path::PathBuf::as_path),
        Some(Path::new("/opt/gantry-helper-arm64"))
    );
}

#[rstest]
#[case("", IgnoreUnsupported::Nothing, false)]
#[case("ignore_unsupported = false", IgnoreUnsupported::Nothing, false)]
#[case("ignore_unsupported = []", IgnoreUnsupported::Nothing, false)]
#[case("ignore_unsupported = true", IgnoreUnsupported::Everything, true)]
fn what_may_be_ignored_is_a_switch_or_a_list(
    #[case] line: &str,
    #[case] expected: IgnoreUnsupported,
    #[case] cache: bool,
) {
    let read = loaded(&format!("[gantry]\n{line}"))
        .config
        .gantry
        .ignore_unsupported;
    assert_eq!((read.allows("cache"), read), (cache, expected));
}

#[test]
fn times_may_be_strings() {
    assert_eq!(
        runner("token_obtained_at = '2026-01-02T03:04:05Z'").token_obtained_at,
        Some(UNIX_EPOCH + Duration::from_secs(1_767_323_045))
    );
}

#[rstest]
#[case::off("session_timeout = 60", None, None, 60)]
#[case::empty_is_off(
    "listen_address = ''\nadvertise_address = 'https://not.looked.at'",
    None,
    None,
    1800
)]
#[case::listen_only("listen_address = '10.0.0.1:8093'", Some("10.0.0.1:8093"), None, 1800)]
#[case::any_host(
    "listen_address = '[::]:8093'\nadvertise_address = 'ci.example.com:443'",
    Some("[::]:8093"),
    Some("ci.example.com:443"),
    1800
)]
#[case::behind_a_proxy(
    "listen_address = ':8093'\nadvertise_address = 'ci.example.com'\nsession_timeout = 0",
    Some(":8093"),
    Some("ci.example.com"),
    1800
)]
fn the_session_server_has_an_address_to_listen_on_and_one_for_gitlab(
    #[case] lines: &str,
    #[case] listen: Option<&str>,
    #[case] advertise: Option<&str>,
    #[case] timeout: u64,
) {
    let loaded = loaded(&format!("[session_server]\n{lines}\n"));
    assert_eq!(loaded.warnings, []);
    let server = loaded.config.session_server;
    let shown = |address: &Option<HostPort>| address.as_ref().map(ToString::to_string);
    assert_eq!(shown(&server.listen_address).as_deref(), listen);
    assert_eq!(shown(&server.advertise_address).as_deref(), advertise);
    assert_eq!(server.session_timeout, Duration::from_secs(timeout));
}
