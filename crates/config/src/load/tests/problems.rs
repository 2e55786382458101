//! What is said about files that do not load.

use super::{RUNNER, try_parse, with_docker, with_runner};
use crate::problem::{ConfigError, Problem, ProblemKind};
use rstest::rstest;

fn refused(text: &str) -> ConfigError {
    match try_parse(text) {
        Err(error) => error,
        Ok(_) => panic!("must not load:\n{text}"),
    }
}

fn the_problem(text: &str) -> Problem {
    let error = refused(text);
    assert_eq!(error.problems().len(), 1, "{error}");
    error.problems()[0].clone()
}

#[test]
fn a_problem_names_file_place_key_and_shows_the_line() {
    let error = refused(&with_docker("image = 'alpine'\nmemory = \"lots\""));
    assert_eq!(
        error.to_string(),
        "/etc/gitlab-runner/config.toml:8:10: runners[0].docker.memory: expected a memory size such as \"512m\" or \"1GiB\", found \"lots\"\n  |\n\
         8 | memory = \"lots\"\n  |          ^"
    );
}

#[test]
fn several_problems_come_together_in_file_order() {
    let error = refused(&format!(
        "check_interval = 'x'\n{}[gantry]\non_stop = 'never'",
        with_docker("privileged = 'yes'\ncpus = 'many'")
    ));
    let keys: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "check_interval",
            "runners[0].docker.privileged",
            "runners[0].docker.cpus",
            "gantry.on_stop"
        ]
    );
}

#[rstest]
#[case(
    "concurrent = '4'",
    "concurrent",
    "expected an integer, found a string"
)]
#[case("concurrent = 4.0", "concurrent", "expected an integer, found a float")]
#[case(
    "concurrent = 9223372036854775808",
    "concurrent",
    "an integer has at most 64 bits"
)]
#[case("log_level = 3", "log_level", "expected a string, found an integer")]
#[case(
    "log_level = 'loud'",
    "log_level",
    "expected one of panic, fatal, error, warn, warning, info, debug, trace, found \"loud\""
)]
#[case(
    "log_level = ''",
    "log_level",
    "expected one of panic, fatal, error, warn, warning, info, debug, trace, found \"\""
)]
#[case(
    "log_format = 'xml'",
    "log_format",
    "expected one of runner, text, json, found \"xml\""
)]
#[case(
    "connection_max_age = '5'",
    "connection_max_age",
    "missing unit: write for instance \"30s\"; units are ns, us, ms, s, m, h, found \"5\""
)]
#[case(
    "connection_max_age = true",
    "connection_max_age",
    "expected a duration such as \"1h30m\" (or an integer of nanoseconds), found a boolean"
)]
#[case(
    "session_server = 'x'",
    "session_server",
    "expected a table, found a string"
)]
#[case(
    "session_server = { listen_address = '10.0.0.1' }",
    "session_server.listen_address",
    "\"10.0.0.1\" has no port; expected host:port or :port"
)]
#[case(
    "session_server = { listen_address = '::1:8093' }",
    "session_server.listen_address",
    "\"::1:8093\" is no address: too many colons; an IPv6 address stands in brackets; expected host:port or :port"
)]
#[case(
    "session_server = { listen_address = ':8093' }",
    "session_server.listen_address",
    "\":8093\" names no host that GitLab could connect to: set session_server.advertise_address"
)]
#[case(
    "session_server = { listen_address = ':8093', advertise_address = 'https://ci.example.com:8093' }",
    "session_server.advertise_address",
    "\"https://ci.example.com:8093\" has a scheme; expected host:port, GitLab always connects by https"
)]
#[case(
    "session_server = { listen_address = ':8093', advertise_address = ':9093' }",
    "session_server.advertise_address",
    "\":9093\" names no host that GitLab could connect to"
)]
#[case(
    "session_server = { listen_address = ':8093', advertise_address = 'ci.example.com/x' }",
    "session_server.advertise_address",
    "\"ci.example.com/x\" is no address: the host is no name; expected host:port"
)]
#[case("machine = 'x'", "machine", "expected a table, found a string")]
#[case(
    "runners = {}",
    "runners",
    "expected an array of tables, found a table"
)]
#[case(
    "runners = 'x'",
    "runners",
    "expected an array of tables, found a string"
)]
#[case("runners = ['x']", "runners[0]", "expected a table, found a string")]
#[case(
    "labels = 'x'",
    "labels",
    "expected a table of strings, found a string"
)]
#[case("gantry = []", "gantry", "expected a table, found an array")]
#[case(
    "gantry = { compatible_version = '19' }",
    "gantry.compatible_version",
    "expected a release such as \"19.4.0\", found \"19\""
)]
#[case(
    "gantry = { ignore_unsupported = 'cache' }",
    "gantry.ignore_unsupported",
    "expected true, false or an array of keywords, found a string"
)]
fn global_keys_refuse_what_they_cannot_hold(
    #[case] line: &str,
    #[case] key: &str,
    #[case] message: &str,
) {
    let problem = the_problem(line);
    assert_eq!(
        (problem.key.as_str(), problem.message.as_str(), problem.line),
        (key, message, 1)
    );
}

#[rstest]
#[case(
    "pull_policy = 'sometimes'",
    "pull_policy",
    15,
    "expected always, if-not-present or never, found \"sometimes\""
)]
#[case(
    "pull_policy = ['always', 'x']",
    "pull_policy",
    26,
    "expected always, if-not-present or never, found \"x\""
)]
#[case(
    "pull_policy = 3",
    "pull_policy",
    15,
    "expected a string or an array of strings, found an integer"
)]
#[case(
    "pull_policy = ['always', 3]",
    "pull_policy[1]",
    26,
    "expected a string, found an integer"
)]
#[case(
    "allowed_pull_policies = 'always'",
    "allowed_pull_policies",
    25,
    "expected an array of strings, found a string"
)]
#[case("volumes = ['/cache', '']", "volumes", 22, "item 1 is empty")]
#[case(
    "volumes = '/cache'",
    "volumes",
    11,
    "expected an array of strings, found a string"
)]
#[case(
    "memory = 512",
    "memory",
    10,
    "expected a memory size such as \"512m\" or \"1GiB\", found an integer"
)]
#[case(
    "service_memory = 'x'",
    "service_memory",
    18,
    "expected a memory size such as \"512m\" or \"1GiB\", found \"x\""
)]
#[case(
    "cpus = '1/0'",
    "cpus",
    8,
    "expected a number of CPUs such as \"1.5\" or \"1/3\", found \"1/0\""
)]
#[case(
    "shm_size = -1",
    "shm_size",
    12,
    "expected a number of bytes, not less than 0"
)]
#[case(
    "shm_size = '64m'",
    "shm_size",
    12,
    "expected a number of bytes (an integer without quotes), found a string"
)]
#[case(
    "cap_add = 'x'",
    "cap_add",
    11,
    "expected an array of strings, found a string"
)]
#[case(
    "tmpfs = { '/x' = 1 }",
    "tmpfs./x",
    18,
    "expected a string, found an integer"
)]
#[case(
    "services = [{ name = 1 }]",
    "services[0].name",
    22,
    "expected a string, found an integer"
)]
#[case(
    "services_devices = { a = 'b' }",
    "services_devices.a",
    26,
    "expected an array of strings, found a string"
)]
#[case(
    "privileged = 1",
    "privileged",
    14,
    "expected true or false, found an integer"
)]
fn docker_keys_refuse_what_they_cannot_hold(
    #[case] line: &str,
    #[case] key: &str,
    #[case] column: usize,
    #[case] message: &str,
) {
    let problem = the_problem(&with_docker(line));
    let expected = (format!("runners[0].docker.{key}"), 7, column, message);
    assert_eq!(
        (
            problem.key,
            problem.line,
            problem.column,
            problem.message.as_str()
        ),
        expected
    );
}

#[rstest]
#[case("limit = '3'", "limit")]
#[case("environment = 'A=b'", "environment")]
#[case("environment = [1]", "environment[0]")]
#[case("feature_flags = { FF_X = 'true' }", "feature_flags.FF_X")]
#[case("token_obtained_at = 'yesterday'", "token_obtained_at")]
#[case("token_obtained_at = 10:00:00", "token_obtained_at")]
#[case("unhealthy_interval = '1 hour'", "unhealthy_interval")]
#[case("custom_build_dir = true", "custom_build_dir")]
#[case("cache = { s3 = { Insecure = 'no' } }", "cache.s3.Insecure")]
#[case("cache = { S3 = { insecure = 'no' } }", "cache.s3.Insecure")]
#[case("kubernetes = []", "kubernetes")]
#[case(
    "monitoring = { job_queuing_durations = [1] }",
    "monitoring.job_queuing_durations[0]"
)]
fn runner_keys_refuse_what_they_cannot_hold(#[case] line: &str, #[case] key: &str) {
    let problem = the_problem(&with_runner(line));
    assert_eq!(
        (problem.key, problem.line),
        (format!("runners[0].{key}"), 6)
    );
}

#[rstest]
#[case("labels = { ab = 'x' }", "labels.ab", "a label name has 3 to 65")]
#[case("labels = { -abc = 'x' }", "labels.-abc", "a label name has 3 to 65")]
#[case(
    "labels = { 'a b c' = 'x' }",
    "labels.a b c",
    "a label name has 3 to 65"
)]
#[case("labels = { abc = '' }", "labels.abc", "a label value has 1 to 256")]
#[case("labels = { abc = 'x/y' }", "labels.abc", "a label value has 1 to 256")]
fn labels_follow_their_patterns(#[case] line: &str, #[case] key: &str, #[case] message: &str) {
    let problem = the_problem(line);
    assert!(
        problem.key == key && problem.message.starts_with(message),
        "{problem:?}"
    );
    let problem = the_problem(&with_runner(line));
    assert_eq!(
        (problem.key, problem.line),
        (format!("runners[0].{key}"), 6)
    );
}

#[test]
fn labels_are_at_most_32_after_merging() {
    let table = |prefix: &str, count: usize| {
        (0..count)
            .map(|n| format!("{prefix}{n} = 'x'\n"))
            .collect::<String>()
    };
    let file = |own: usize| {
        format!(
            "[labels]\n{}{RUNNER}[runners.labels]\n{}",
            table("glob", 20),
            table("own", own)
        )
    };
    assert!(try_parse(&file(12)).is_ok());
    let problem = the_problem(&file(13));
    assert_eq!(problem.key, "runners[0].labels");
    assert!(
        problem.message.starts_with("33 labels"),
        "{}",
        problem.message
    );
}

#[rstest]
#[case("concurrent = 0")]
#[case("concurrent = -1")]
fn no_job_slots_end_the_process(#[case] line: &str) {
    let error = refused(line);
    assert!(error.ends_the_process());
    assert!(
        error
            .to_string()
            .contains(&format!("'{line}' means that no jobs will be processed")),
        "{error}"
    );
    assert!(!refused("concurrent = 'x'").ends_the_process());
}

#[rstest]
#[case("concurrent = ", 1)]
#[case("[[runners]\n", 1)]
#[case("a = 1\nb = \"unclosed\nc = 2", 2)]
#[case("a = 1\na = 2", 2)]
#[case("[runners]\nx = 1\n[[runners]]\n", 3)]
#[case("just words", 1)]
fn bad_toml_names_its_line(#[case] text: &str, #[case] line: usize) {
    let error = refused(text);
    let problem = &error.problems()[0];
    assert_eq!(
        (problem.kind, problem.line),
        (ProblemKind::Syntax, line),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with(&format!("/etc/gitlab-runner/config.toml:{line}:")),
        "{error}"
    );
}

#[test]
fn bytes_that_are_no_text_name_their_line() {
    let error = crate::parse(
        b"a = 1\nb = '\xff'",
        std::path::Path::new("x"),
        &super::Placeholders::new(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string().lines().next(),
        Some("x:2:6: not valid UTF-8")
    );
}

#[test]
fn a_file_that_is_no_config_does_not_drown_the_log() {
    assert!(refused(&"[{(x\n".repeat(10_000)).problems().len() <= 50);
    let text: String = (0..1000)
        .map(|_| RUNNER.replace("name = ", "limit = "))
        .collect();
    assert_eq!(refused(&text).problems().len(), 50);
}

#[rstest]
#[case::wrong_type("token = ['glrt-hunter2']")]
#[case::no_quotes("token = hunter2")]
#[case::no_quotes_inside("[runners.cache.s3]\nSecretKey = hunter2")]
#[case::array("environment = ['A=hunter2', 3]")]
#[case::array_lines("environment = [\n'A=hunter2', 3\n]")]
#[case::script("pre_build_script = ['login hunter2']")]
#[case::inline("cache = { s3 = { SecretKey = ['hunter2'] } }")]
#[case::open_text("token = \"hunter2")]
fn problems_show_no_secret(#[case] lines: &str) {
    let text = format!("[[runners]]\nexecutor = 'docker'\n{lines}\n");
    let error = refused(&text);
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[rstest]
#[case(
    "services_devices = { 'alpine:*' = ['a:b:c:d'] }",
    "services_devices",
    "failed to parse device string \"a:b:c:d\": too many colons"
)]
#[case(
    "service_gpus = 'some'",
    "service_gpus",
    "parsing gpus string \"some\": \"some\" is no whole number"
)]
#[case(
    "services_security_opt = ['seccomp=/none/profile.json']",
    "services_security_opt",
    "failed to read seccomp profile from /none/profile.json: No such file or directory (os error 2)"
)]
fn what_services_cannot_be_given_is_a_problem_of_the_file(
    #[case] line: &str,
    #[case] key: &str,
    #[case] message: &str,
) {
    let problem = the_problem(&with_docker(line));
    assert_eq!(problem.key, format!("runners[0].docker.{key}"));
    assert_eq!((problem.line, problem.message.as_str()), (7, message));
}
