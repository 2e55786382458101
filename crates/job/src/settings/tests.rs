use rstest::rstest;

use super::*;
use crate::variable::Variable;

const CONTEXT: SettingsContext = SettingsContext {
    allow_git_fetch: true,
    depth: 20,
    debug_trace_disabled: false,
};

fn read_in(context: SettingsContext, pairs: &[(&str, &str)]) -> JobSettings {
    let variables = pairs
        .iter()
        .map(|(key, value)| Variable::new(*key, *value))
        .collect();
    JobSettings::read(&variables, &context)
}

fn read(pairs: &[(&str, &str)]) -> JobSettings {
    read_in(CONTEXT, pairs)
}

#[test]
fn defaults_stand_where_nothing_is_set() {
    let settings = read(&[]);
    assert_eq!(
        settings,
        read(&[("GIT_STRATEGY", ""), ("GET_SOURCES_ATTEMPTS", "")]),
        "empty is unset"
    );
    assert_eq!(
        settings,
        JobSettings {
            debug_trace: false,
            debug_services: false,
            git_strategy: GitStrategy::Fetch,
            git_checkout: true,
            git_depth: 20,
            git_clone_path: None,
            git_clean_flags: Some(vec!["-ffdx".to_owned()]),
            git_clone_extra_flags: vec![],
            git_fetch_extra_flags: vec!["--prune".to_owned(), "--quiet".to_owned()],
            git_submodule_strategy: SubmoduleStrategy::None,
            git_submodule_paths: vec![],
            git_submodule_depth: 20,
            git_submodule_update_flags: vec![],
            git_submodule_force_https: false,
            git_lfs_skip_smudge: false,
            get_sources_attempts: 1,
            restore_cache_attempts: 1,
            artifact_download_attempts: 1,
            executor_job_section_attempts: 1,
            secrets_retrieval_attempts: 1,
            after_script_ignore_errors: true,
            cache_request_timeout_minutes: 10,
            docker_auth_config: None,
            script_timeout: String::new(),
            after_script_timeout: String::new(),
            problems: vec![],
        }
    );
}

#[test]
fn without_git_fetch_the_default_strategy_is_clone() {
    let context = SettingsContext {
        allow_git_fetch: false,
        ..CONTEXT
    };
    assert_eq!(read_in(context, &[]).git_strategy, GitStrategy::Clone);
}

#[rstest]
#[case("clone", GitStrategy::Clone)]
#[case("fetch", GitStrategy::Fetch)]
#[case("none", GitStrategy::None)]
#[case("empty", GitStrategy::Empty)]
fn strategy_is_read(#[case] word: &str, #[case] strategy: GitStrategy) {
    let settings = read(&[("GIT_STRATEGY", word)]);
    assert_eq!(settings.git_strategy, strategy);
    assert_eq!(strategy.as_str(), word);
    assert_eq!(settings.problems, Vec::<String>::new());
}

/// Sentences of config-toml §8 and job-lifecycle §2.7.
#[rstest]
#[case(
    "GIT_STRATEGY",
    "x",
    "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got \"x\", using default value 'fetch'"
)]
#[case(
    "GIT_STRATEGY",
    "Clone",
    "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got \"Clone\", using default value 'fetch'"
)]
#[case(
    "GIT_CHECKOUT",
    "yes",
    "GIT_CHECKOUT: expected bool got \"yes\", using default value: true"
)]
#[case(
    "CI_DEBUG_TRACE",
    "x",
    "CI_DEBUG_TRACE: expected bool got \"x\", using default value: false"
)]
#[case(
    "GET_SOURCES_ATTEMPTS",
    "0",
    "GET_SOURCES_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 1"
)]
#[case(
    "GET_SOURCES_ATTEMPTS",
    "11",
    "GET_SOURCES_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 10"
)]
#[case(
    "GET_SOURCES_ATTEMPTS",
    "x",
    "GET_SOURCES_ATTEMPTS: expected int got \"x\", using default value: 1"
)]
#[case(
    "GIT_SUBMODULE_DEPTH",
    "1.5",
    "GIT_SUBMODULE_DEPTH: expected int got \"1.5\", using default value: 20"
)]
#[case(
    "GIT_SUBMODULE_STRATEGY",
    "all",
    "GIT_SUBMODULE_STRATEGY: expected either 'normal', 'recursive' or 'none' got \"all\""
)]
#[case(
    "CACHE_REQUEST_TIMEOUT",
    "99999999999999999999",
    "CACHE_REQUEST_TIMEOUT: expected int got \"99999999999999999999\", using default value: 10"
)]
fn unusable_value_is_reported_once_in_the_peers_words(
    #[case] key: &str,
    #[case] value: &str,
    #[case] problem: &str,
) {
    let settings = read(&[(key, "1"), (key, value)]);
    assert_eq!(settings.problems, [problem]);
}

#[test]
fn unusable_values_leave_the_defaults() {
    let settings = read(&[
        ("GIT_CHECKOUT", "yes"),
        ("GET_SOURCES_ATTEMPTS", "99"),
        ("GIT_STRATEGY", "x"),
    ]);
    assert!(settings.git_checkout);
    assert_eq!(settings.get_sources_attempts, 10);
    assert_eq!(settings.git_strategy, GitStrategy::Fetch);
    assert_eq!(settings.problems.len(), 3);
}

#[rstest]
#[case("", Some(vec!["-ffdx"]))]
#[case("none", None)]
#[case("-ffdx -e keep/", Some(vec!["-ffdx", "-e", "keep/"]))]
#[case(" -fd\t-x ", Some(vec!["-fd", "-x"]))]
#[case("none none", Some(vec!["none", "none"]))]
fn clean_flags_are_words(#[case] value: &str, #[case] flags: Option<Vec<&str>>) {
    let settings = read(&[("GIT_CLEAN_FLAGS", value)]);
    let flags = flags.map(|flags| flags.into_iter().map(str::to_owned).collect());
    assert_eq!(settings.git_clean_flags, flags);
}

#[test]
fn fetch_flags_may_be_none() {
    assert_eq!(
        read(&[("GIT_FETCH_EXTRA_FLAGS", "none")]).git_fetch_extra_flags,
        Vec::<String>::new()
    );
    assert_eq!(
        read(&[("GIT_FETCH_EXTRA_FLAGS", "-j 4")]).git_fetch_extra_flags,
        ["-j", "4"]
    );
}

#[test]
fn submodules_need_a_repository() {
    let strategy = |git| {
        read(&[
            ("GIT_SUBMODULE_STRATEGY", "recursive"),
            ("GIT_STRATEGY", git),
        ])
        .git_submodule_strategy
    };
    assert_eq!(strategy("clone"), SubmoduleStrategy::Recursive);
    assert_eq!(strategy("none"), SubmoduleStrategy::None);
    assert_eq!(strategy("empty"), SubmoduleStrategy::None);
    assert_eq!(
        read(&[("GIT_SUBMODULE_STRATEGY", "x")]).git_submodule_strategy,
        SubmoduleStrategy::Invalid
    );
}

#[test]
fn negative_depths_mean_all() {
    let context = SettingsContext {
        depth: -5,
        ..CONTEXT
    };
    assert_eq!(read_in(context, &[]).git_depth, 0);
    assert_eq!(
        read(&[("GIT_SUBMODULE_DEPTH", "-1")]).git_submodule_depth,
        0
    );
    assert_eq!(read(&[("GIT_SUBMODULE_DEPTH", "3")]).git_submodule_depth, 3);
}

#[rstest]
#[case("CI_DEBUG_TRACE")]
#[case("CI_DEBUG_SERVICES")]
fn runner_may_forbid_debugging(#[case] key: &str) {
    let context = SettingsContext {
        debug_trace_disabled: true,
        ..CONTEXT
    };
    let settings = read_in(context, &[(key, "true")]);
    assert!(!settings.debug_trace && !settings.debug_services);
    assert_eq!(
        settings.problems,
        [format!("{key}: usage is disabled on this Runner")]
    );
    assert_eq!(
        read_in(context, &[(key, "false")]).problems,
        Vec::<String>::new()
    );
    let allowed = read(&[(key, "true")]);
    assert!(allowed.debug_trace != allowed.debug_services);
}

#[test]
fn registry_login_is_not_shown() {
    let settings = read(&[("DOCKER_AUTH_CONFIG", "hush")]);
    assert_eq!(
        settings.docker_auth_config.as_ref().unwrap().expose(),
        "hush"
    );
    assert!(!format!("{settings:?}").contains("hush"));
}

#[test]
fn settings_survive_the_journal() {
    let settings = read(&[
        ("DOCKER_AUTH_CONFIG", "x"),
        ("GIT_STRATEGY", "y"),
        ("GIT_CLEAN_FLAGS", "none"),
    ]);
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(
        serde_json::from_str::<JobSettings>(&json).unwrap(),
        settings
    );
}

const HOUR: Duration = Duration::from_secs(3600);
const FIVE_MINUTES: Duration = Duration::from_secs(300);

#[rstest]
#[case::unset("", None, FIVE_MINUTES, None)]
#[case::zero("0", None, FIVE_MINUTES, None)]
#[case::set("90s", Some(90), Duration::from_secs(90), None)]
#[case::malformed(
    "abc",
    None,
    FIVE_MINUTES,
    Some("Ignoring malformed NAME timeout: abc")
)]
#[case::no_unit("30", None, FIVE_MINUTES, Some("Ignoring malformed NAME timeout: 30"))]
#[case::negative("-5s", None, FIVE_MINUTES, Some("Ignoring relative NAME timeout: -5s"))]
#[case::too_long(
    "99h",
    None,
    HOUR,
    Some("NAME timeout: 99h is longer than job timeout. Setting to job timeout")
)]
fn stage_timeouts_are_read(
    #[case] raw: &str,
    #[case] script_seconds: Option<u64>,
    #[case] after_script: Duration,
    #[case] warning: Option<&str>,
) {
    let settings = read(&[
        ("RUNNER_SCRIPT_TIMEOUT", raw),
        ("RUNNER_AFTER_SCRIPT_TIMEOUT", raw),
    ]);
    let timeouts = settings.stage_timeouts(HOUR);
    assert_eq!(timeouts.script, script_seconds.map(Duration::from_secs));
    assert_eq!(timeouts.after_script, after_script);
    let expected: Vec<String> = ["RUNNER_SCRIPT_TIMEOUT", "RUNNER_AFTER_SCRIPT_TIMEOUT"]
        .into_iter()
        .filter_map(|name| warning.map(|warning| warning.replace("NAME", name)))
        .collect();
    assert_eq!(timeouts.warnings, expected);
    assert_eq!(
        settings.problems,
        Vec::<String>::new(),
        "warned of when the scripts start"
    );
}
