//! What is said about files that load.

use super::{RUNNER, loaded, section_at, with_docker, with_runner};
use crate::config::Skip;
use crate::keys::{Kind, Support};
use crate::load::Loaded;
use crate::problem::WarningKind;
use rstest::rstest;

fn said(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

fn places(loaded: &Loaded) -> Vec<(&str, usize)> {
    loaded
        .warnings
        .iter()
        .map(|warning| (warning.key.as_str(), warning.line))
        .collect()
}

#[test]
fn a_docker_key_that_does_nothing_yet_names_runner_key_and_line() {
    let loaded = loaded(&with_docker(
        "image = 'alpine'\ncap_add = ['NET_ADMIN']\nallowed_images = ['ruby:*']",
    ));
    assert_eq!(
        said(&loaded),
        [
            "line 8: runners[0].docker.cap_add (runner \"host1\"): not supported yet: ignored",
            "line 9: runners[0].docker.allowed_images (runner \"host1\"): not supported yet: ignored (jobs may use any image)",
        ]
    );
    assert!(
        loaded
            .warnings
            .iter()
            .all(|warning| warning.kind == WarningKind::NotSupportedYet)
    );
}

/// A value of the key's kind that says something.
fn telling_value(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true",
        Kind::Int | Kind::Count | Kind::Bytes => "7",
        Kind::List | Kind::FilledList => "['x']",
        Kind::Numbers => "[1]",
        Kind::Texts => "{ a = 'b' }",
        Kind::Flags => "{ a = true }",
        Kind::Lists => "{ a = ['b'] }",
        Kind::Policies | Kind::PolicyList => "['never']",
        Kind::Duration => "'7m'",
        Kind::Tables(_) | Kind::AnyTables => "[{ name = 'x' }]",
        Kind::Table(_) | Kind::AnyTable => "{ name = 'x' }",
        Kind::Time => "2030-01-01T00:00:00Z",
        _ => "'7'",
    }
}

#[test]
fn every_docker_key_acts_or_is_warned_about() {
    for key in section_at("runners.docker").keys {
        let loaded = loaded(&with_docker(&format!(
            "{} = {}",
            key.name,
            telling_value(key.kind)
        )));
        let path = format!("runners[0].docker.{}", key.name);
        let acts = matches!(key.support, Support::Since(_) | Support::With(_));
        let expected = if acts {
            vec![]
        } else {
            vec![(path.as_str(), 7)]
        };
        assert_eq!(places(&loaded), expected);
        assert_eq!(loaded.unknown_keys, [], "{}", key.name);
    }
}

#[rstest]
#[case("sentry_dsn = 'https://k@sentry'", "sentry_dsn")]
#[case(
    "experimental = { usage_logger = { enabled = true } }",
    "experimental.usage_logger.enabled"
)]
fn global_keys_that_do_nothing_are_named(#[case] line: &str, #[case] key: &str) {
    let loaded = loaded(line);
    assert_eq!(places(&loaded), [(key, 1)]);
    assert_eq!(loaded.warnings[0].runner, None);
    assert!(!said(&loaded)[0].contains("k@sentry"), "values stay unsaid");
}

#[rstest]
#[case(
    "referees = { metrics = { prometheus_address = 'x' } }",
    "runners[0].referees.metrics"
)]
#[case("autoscaler = { plugin = 'aws' }", "runners[0].autoscaler")]
#[case("proxy_exec = true", "runners[0].proxy_exec")]
#[case("step_runner_image = 'x'", "runners[0].step_runner_image")]
#[case("use_slot_cgroups = true", "runners[0].use_slot_cgroups")]
#[case("shell = 'pwsh'", "runners[0].shell")]
#[case(
    "experimental = { boot_verify = { enabled = true } }",
    "runners[0].experimental.boot_verify.enabled"
)]
#[case("prepare_timeout = '-1s'", "runners[0].prepare_timeout")]
#[case("environment = ['A=b', 'novalue']", "runners[0].environment")]
fn runner_keys_that_do_nothing_or_not_what_they_seem_are_named(
    #[case] line: &str,
    #[case] key: &str,
) {
    let loaded = loaded(&with_runner(line));
    assert_eq!(places(&loaded), [(key, 6)]);
    assert_eq!(loaded.warnings[0].runner.as_deref(), Some("host1"));
    assert!(
        !said(&loaded)[0].contains("novalue"),
        "values of the environment stay unsaid"
    );
}

#[rstest]
#[case(
    "proxy_exec = false\nuse_slot_cgroups = false\nstep_runner_image = ''\nautoscaler = {}\nmonitoring = {}"
)]
#[case(
    "ssh = { user = 'x', port = 'any', nested = [{ a = 1 }] }\nkubernetes = { pod_spec = [{ patch = 'x' }] }\ncustom = { run_exec = 'x' }"
)]
#[case(
    "machine = { IdleCount = 1, autoscaling = [{ Periods = ['* *'] }] }\nparallels = {}\nvirtualbox = {}\ninstance = { allowed_images = ['x'] }"
)]
#[case("cache = { Path = 'p', Shared = true, s3 = { SecretKey = 'x' } }")]
#[case(
    "docker = { tls_verify = false, privileged = false, disable_entrypoint_overwrite = false, oom_kill_disable = false, disable_cache = false, volumes = ['/cache'], shm_size = 0, network_mtu = 0, services_limit = -1, cap_add = [], services = [], helper_image_flavor = 'alpine' }"
)]
fn unset_values_and_tables_of_other_executors_are_silent(#[case] lines: &str) {
    let loaded = loaded(&with_runner(lines));
    assert_eq!((said(&loaded), loaded.unknown_keys), (vec![], vec![]));
}

#[rstest]
#[test]
fn a_variable_of_a_service_without_a_value_is_named() {
    let line = "services = [{ name = 'a' }, { name = 'b', environment = ['secret'] }]";
    let loaded = loaded(&with_docker(line));
    assert_eq!(
        places(&loaded),
        [("runners[0].docker.services[1].environment", 7)]
    );
    assert!(!said(&loaded)[0].contains("secret"));
}

#[test]
fn a_runner_of_another_executor_is_kept_and_skipped_with_one_warning() {
    let text = format!(
        "[[runners]]\nname = \"k8s\"\nurl = \"https://x\"\ntoken = \"glrt-t\"\nexecutor = \"kubernetes\"\nshell = \"pwsh\"\n\
         [runners.kubernetes]\nimage = 7\n[runners.docker]\nmemory = \"nonsense\"\ncap_add = [\"x\"]\n[runners.cache]\nType = \"s3\"\n{RUNNER}"
    );
    let loaded = loaded(&text);
    let warning = "line 5: runners[0].executor (runner \"k8s\"): \"kubernetes\" is not supported, only \"docker\" is: runner skipped";
    assert_eq!(said(&loaded), [warning]);
    let runners = &loaded.config.runners;
    assert_eq!(
        (runners.len(), &runners[0].skip, &runners[1].skip),
        (2, &Some(Skip::OtherExecutor), &None)
    );
    let usable: Vec<_> = loaded
        .config
        .usable_runners()
        .map(|runner| runner.name.as_str())
        .collect();
    assert_eq!(usable, ["host1"]);
    assert_eq!(
        (
            runners[0].name.as_str(),
            runners[0].executor.to_string().as_str()
        ),
        ("k8s", "kubernetes")
    );
}

#[rstest]
#[case::no_executor(
    "executor = \"docker\"",
    "",
    Skip::OtherExecutor,
    "line 1: runners[0].executor",
    "no executor is set: runner skipped (set executor = \"docker\")"
)]
#[case::blank_token(
    "glrt-abcdefghijkl",
    " ",
    Skip::BlankToken,
    "line 4: runners[0].token",
    "the token is blank: runner skipped"
)]
#[case::token_not_set(
    "glrt-abcdefghijkl",
    "$CI_TOKEN",
    Skip::BlankToken,
    "line 4: runners[0].token",
    "the token is blank (not set: $CI_TOKEN): runner skipped"
)]
#[case::blank_url(
    "https://gitlab.example.com",
    "",
    Skip::UnusableUrl,
    "line 3: runners[0].url",
    "expected an http or https URL: runner skipped"
)]
#[case::no_scheme(
    "https://",
    "",
    Skip::UnusableUrl,
    "line 3: runners[0].url",
    "expected an http or https URL: runner skipped"
)]
fn a_runner_that_cannot_ask_for_jobs_is_skipped(
    #[case] from: &str,
    #[case] to: &str,
    #[case] skip: Skip,
    #[case] place: &str,
    #[case] message: &str,
) {
    let loaded = loaded(&RUNNER.replace(from, to));
    assert_eq!(loaded.config.runners[0].skip, Some(skip));
    let said = said(&loaded);
    assert!(
        said.len() == 1 && said[0].starts_with(place) && said[0].ends_with(message),
        "{said:?}"
    );
    assert_eq!(loaded.warnings[0].kind, WarningKind::RunnerSkipped);
}

#[test]
fn a_url_that_ends_in_ci_works_and_is_named() {
    let loaded = loaded(&RUNNER.replace("example.com", "example.com/ci"));
    assert_eq!(
        said(&loaded),
        [
            "line 3: runners[0].url (runner \"host1\"): the /ci at its end is no longer needed: left out"
        ]
    );
    assert_eq!(loaded.config.runners[0].skip, None);
}

#[test]
fn a_clone_url_that_is_no_url_is_named() {
    let text = RUNNER.replace("token =", "clone_url = \"internal:8443\"\ntoken =");
    let loaded = loaded(&text);
    assert_eq!(
        said(&loaded),
        [
            "line 4: runners[0].clone_url (runner \"host1\"): expected a URL with a scheme, such as https://: ignored"
        ]
    );
    assert_eq!(loaded.config.runners[0].skip, None);
}

#[test]
fn a_placeholder_that_is_not_set_is_named() {
    let loaded = loaded(&RUNNER.replace("glrt-abcdefghijkl", "glrt-${PART}x"));
    assert_eq!(
        said(&loaded),
        ["line 4: runners[0].token (runner \"host1\"): $PART not set: replaced by nothing"]
    );
}

#[test]
fn an_unknown_key_of_our_own_table_is_a_warning_with_a_hint() {
    let loaded = loaded("[gantry]\nstatedir = '/x'\ncolour = 'blue'");
    let expected = [
        "line 2: gantry.statedir: unknown key: ignored; did you mean state_dir?",
        "line 3: gantry.colour: unknown key: ignored",
    ];
    assert_eq!(said(&loaded), expected);
    assert_eq!(loaded.unknown_keys, []);
}

#[test]
fn unknown_keys_elsewhere_load_and_are_listed() {
    let loaded = loaded(&format!(
        "concurent = 3\n{}",
        with_docker("imgae = 'x'\nhelper_image_autoset_arch_and_os = true")
    ));
    assert_eq!(loaded.warnings, []);
    let keys: Vec<_> = loaded
        .unknown_keys
        .iter()
        .map(|key| (key.key.as_str(), key.line, key.did_you_mean))
        .collect();
    let expected = [
        ("concurent", 1, Some("concurrent")),
        ("runners[0].docker.imgae", 8, Some("image")),
        (
            "runners[0].docker.helper_image_autoset_arch_and_os",
            9,
            None,
        ),
    ];
    assert_eq!(keys, expected);
}

#[test]
fn a_key_written_twice_in_different_case_is_named() {
    let loaded = loaded("concurrent = 2\nConcurrent = 3");
    assert_eq!(
        said(&loaded),
        ["line 2: Concurrent: the same key as concurrent, which counts: ignored"]
    );
    assert_eq!(loaded.config.concurrent, 2);
}

const NOBODY: &str = "none of them holds cache_dir (/cache): local caches go with their job, and shared_local_cache has no effect; add \"/cache\"";

#[rstest]
#[case::none("", &[("runners[0].docker.volumes", NOBODY)])]
#[case::others("volumes = ['/data', '/srv/cache', '/cached']", &[("runners[0].docker.volumes", NOBODY)])]
#[case::dynamic("volumes = ['/data', '/cache:rw']", &[])]
#[case::host("volumes = ['/srv/ci:/cache']", &[])]
#[case::parent("volumes = ['/']", &[])]
#[case::maybe("volumes = ['/$WHERE']", &[])]
#[case::disabled("volumes = ['/cache']\ndisable_cache = true", &[("runners[0].docker.disable_cache", "volumes go with their job: shared_local_cache has no effect")])]
fn a_shared_local_cache_without_a_volume_to_share_is_told(
    #[case] docker: &str,
    #[case] expected: &[(&str, &str)],
) {
    let text = with_docker(docker);
    assert_eq!(said(&loaded(&text)), [""; 0]);
    let loaded = loaded(&format!("{text}\n[gantry]\nshared_local_cache = true"));
    let found: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| (&*warning.key, &*warning.message))
        .collect();
    assert_eq!(found, expected);
}
