use std::path::PathBuf;

use gantry_job::payload::Hook;
use rstest::rstest;

use super::*;
use crate::{
    StageWork,
    fixture::{Fixture, JOB_TOKEN, file, masked, strings},
};

fn sources(fixture: &Fixture) -> SourcesRequest {
    super::sources(&fixture.inputs(), &fixture.resolved())
}

fn cleanup(fixture: &Fixture) -> CleanupRequest {
    super::cleanup(&fixture.inputs(), &fixture.resolved())
}

fn repository(url: &str) -> Fixture {
    Fixture::new().with(|it| it.payload.git_info.repo_url = url.into())
}

#[test]
fn the_request_says_what_the_job_says() {
    let request = sources(&Fixture::new());
    assert_eq!(request.strategy, AgentStrategy::Fetch);
    assert_eq!(request.builds_dir, PathBuf::from("/builds"));
    assert_eq!(request.project_dir, PathBuf::from("/builds/group/project"));
    assert_eq!(request.tmp_dir, PathBuf::from("/builds/group/project.tmp"));
    assert_eq!(request.git_ref, "main");
    assert_eq!(request.sha, "265c14cf0a1b2c3d4e5f60718293a4b5c6d7e8f9");
    assert_eq!(
        request.refspecs,
        ["+refs/heads/main:refs/remotes/origin/main"]
    );
    assert_eq!(request.depth, 20);
    assert_eq!(request.object_format, ObjectFormat::Sha1);
    assert_eq!(request.clean_flags, Some(strings(&["-ffdx"])));
    assert_eq!(request.fetch_flags, ["--prune", "--quiet"]);
    assert_eq!(request.user_agent, "gitlab-runner 19.4.0 linux/amd64");
    assert_eq!(request.correlation_id.as_deref(), Some("01CORRELATION"));
    assert!(request.checkout && request.clean_git_config && request.safe_directory);
    assert!(request.bundle_uri && !request.proactive_auth && !request.lfs_skip);
    assert!(request.pre_get_sources.is_empty() && request.post_get_sources.is_empty());
    assert_eq!(
        request.stale_files,
        ["gitlab_runner_env", "masking.db"]
            .map(|name| PathBuf::from(format!("/builds/group/project.tmp/{name}")))
    );
}

#[test]
fn settings_of_job_and_config_reach_the_request() {
    let fixture = Fixture::new()
        .variable("GIT_STRATEGY", "clone")
        .variable("GIT_CHECKOUT", "false")
        .variable("GIT_CLEAN_FLAGS", "none")
        .variable("GIT_FETCH_EXTRA_FLAGS", "--tags  -v")
        .variable("GIT_LFS_SKIP_SMUDGE", "1")
        .flag("FF_USE_GIT_BUNDLE_URIS", false)
        .flag("FF_USE_GITALY_CORRELATION_ID", false)
        .flag("FF_USE_GIT_PROACTIVE_AUTH", true)
        .with(|it| {
            it.payload.git_info.repo_object_format = "sha256".to_owned();
            it.runner.safe_directory_checkout = Some(false);
            it.runner.clean_git_config = Some(false);
            it.runner.pre_get_sources_script = "echo pre\necho 2".to_owned();
            it.runner.post_get_sources_script = "echo post".to_owned();
        });
    let request = sources(&fixture);
    assert_eq!(request.strategy, AgentStrategy::Clone);
    assert_eq!(request.object_format, ObjectFormat::Sha256);
    assert_eq!(request.clean_flags, None);
    assert_eq!(request.fetch_flags, ["--tags", "-v"]);
    assert_eq!(request.correlation_id, None);
    assert!(!request.checkout && !request.safe_directory && !request.clean_git_config);
    assert!(!request.bundle_uri && request.proactive_auth && request.lfs_skip);
    assert_eq!(request.pre_get_sources, ["echo pre\necho 2"]);
    assert_eq!(request.post_get_sources, ["echo post"]);
}

#[rstest]
#[case(-5, 0)]
#[case(0, 0)]
#[case(1, 1)]
#[case(i64::MAX, 0x7fff_ffff)]
fn the_depth_is_one_that_git_takes(#[case] depth: i64, #[case] expected: u32) {
    let fixture = Fixture::new().with(|it| it.payload.git_info.depth = depth);
    assert_eq!(sources(&fixture).depth, expected);
}

// job-lifecycle §4.4
#[rstest]
#[case::usual(
    "https://gitlab-ci-token:pw@h/g/p.git",
    "https://h/g/p.git",
    "gitlab-ci-token",
    "pw"
)]
#[case::other_user("https://me:pw@h:8443/g/p.git", "https://h:8443/g/p.git", "me", "pw")]
#[case::encoded("https://me:p%40w@h/g/p.git", "https://h/g/p.git", "me", "p@w")]
#[case::without("http://h/g/p.git", "http://h/g/p.git", "gitlab-ci-token", JOB_TOKEN)]
#[case::ssh(
    "ssh://git@h:22/g/p.git",
    "ssh://git@h:22/g/p.git",
    "gitlab-ci-token",
    JOB_TOKEN
)]
#[case::ssh_without_user("ssh://h/g/p.git", "ssh://h/g/p.git", "gitlab-ci-token", JOB_TOKEN)]
#[case::no_url("git@h:g/p.git", "git@h:g/p.git", "gitlab-ci-token", JOB_TOKEN)]
#[case::local("/srv/git/p", "/srv/git/p", "gitlab-ci-token", JOB_TOKEN)]
fn the_remote_and_its_credentials_are_told_apart(
    #[case] url: &str,
    #[case] remote: &str,
    #[case] username: &str,
    #[case] password: &str,
) {
    let request = sources(&repository(url));
    assert_eq!(request.repo_url, remote);
    assert_eq!(request.username, username);
    assert_eq!(request.token.expose(), password);
    assert!(request.base_urls.is_empty());
    // Submodules may be named by the server's own address.
    assert_eq!(request.credential_hosts, ["https://gitlab.example.com"]);
}

#[rstest]
#[case::plain(
    "https://internal:8443",
    "https://internal:8443/group/project.git",
    Some("https://internal:8443/")
)]
#[case::with_folder(
    "https://internal/base/",
    "https://internal/base/group/project.git",
    Some("https://internal/base/")
)]
#[case::with_credentials(
    "http://u:p@internal",
    "http://internal/group/project.git",
    Some("http://internal/")
)]
#[case::same_origin(
    "https://gitlab.example.com",
    "https://gitlab.example.com/group/project.git",
    None
)]
fn clone_url_replaces_the_address_of_the_server(
    #[case] clone_url: &str,
    #[case] remote: &str,
    #[case] rewritten: Option<&str>,
) {
    let fixture = Fixture::new().with(|it| it.runner.clone_url = Some(clone_url.to_owned()));
    let request = sources(&fixture);
    assert_eq!(request.repo_url, remote);
    assert_eq!(request.username, "gitlab-ci-token");
    assert_eq!(request.token.expose(), JOB_TOKEN);
    let rewrites: Vec<_> = request
        .base_urls
        .iter()
        .map(|base| (base.url.as_str(), base.instead_of.as_str()))
        .collect();
    let expected: Vec<_> = rewritten
        .into_iter()
        .map(|url| (url, "https://gitlab.example.com/"))
        .collect();
    assert_eq!(rewrites, expected);
}

// A server may live in a folder, and the address for clones in none or in another.
#[rstest]
#[case("https://internal", "https://internal/")]
#[case("https://internal/base", "https://internal/base/")]
fn clone_url_replaces_the_folder_of_the_server_too(
    #[case] clone_url: &str,
    #[case] rewritten: &str,
) {
    let fixture = repository("https://t:x@gitlab.example.com/git/lab/group/project.git")
        .variable("CI_PROJECT_PATH", "group/project")
        .with(|it| it.runner.clone_url = Some(clone_url.to_owned()));
    let request = sources(&fixture);
    assert_eq!(request.repo_url, format!("{rewritten}group/project.git"));
    let rewrites: Vec<_> = request
        .base_urls
        .iter()
        .map(|base| (base.url.as_str(), base.instead_of.as_str()))
        .collect();
    assert_eq!(
        rewrites,
        [(rewritten, "https://gitlab.example.com/git/lab/")]
    );
}

#[rstest]
#[case("ssh://internal:2222", "ssh://git@internal:2222/group/project.git")]
#[case("ssh://me@internal/base", "ssh://me@internal/base/group/project.git")]
fn an_ssh_clone_url_has_a_user_and_no_token(#[case] clone_url: &str, #[case] remote: &str) {
    let fixture = Fixture::new().with(|it| it.runner.clone_url = Some(clone_url.to_owned()));
    let request = sources(&fixture);
    assert_eq!(request.repo_url, remote);
    assert!(request.token.is_empty());
    assert!(request.base_urls.is_empty());
}

#[test]
fn below_clone_url_the_project_is_named_by_its_variable() {
    let fixture = Fixture::new()
        .variable("CI_PROJECT_PATH", "other/path")
        .with(|it| it.runner.clone_url = Some("https://internal".to_owned()));
    assert_eq!(
        sources(&fixture).repo_url,
        "https://internal/other/path.git"
    );
}

#[test]
fn a_clone_url_without_scheme_is_no_url() {
    let fixture = Fixture::new().with(|it| it.runner.clone_url = Some("internal:8443".to_owned()));
    assert_eq!(
        sources(&fixture).repo_url,
        "https://gitlab.example.com/group/project.git"
    );
}

#[test]
fn variables_are_what_programs_see_and_files_hold_the_last_content() {
    let fixture = Fixture::new()
        .push(masked("SECRET", "s3cret"))
        .push(file("FILE", "first"))
        .push(file("FILE", "last"))
        .push(file("../../etc/passwd", "evil"))
        .push(file("A.B", "no name of a variable, but of a file"));
    let request = sources(&fixture);
    let value = |key: &str| {
        let variable = request
            .variables
            .iter()
            .rev()
            .find(|variable| variable.key == key);
        variable.map(|variable| variable.value.expose())
    };
    assert_eq!(value("SECRET"), Some("s3cret"));
    assert_eq!(value("FILE"), Some("/builds/group/project.tmp/FILE"));
    assert_eq!(
        value("GITLAB_ENV"),
        Some("/builds/group/project.tmp/gitlab_runner_env")
    );
    assert_eq!(
        request.variables.len(),
        fixture.resolved().variables.len() + 1
    );
    let files: Vec<_> = request
        .files
        .iter()
        .map(|file| (file.path.to_str().unwrap(), file.content.expose()))
        .collect();
    assert_eq!(
        files,
        [
            ("/builds/group/project.tmp/FILE", "last"),
            (
                "/builds/group/project.tmp/A.B",
                "no name of a variable, but of a file"
            ),
        ]
    );
    assert_eq!(
        cleanup(&fixture).files,
        ["FILE", "A.B"].map(|name| PathBuf::from("/builds/group/project.tmp").join(name))
    );
}

#[test]
fn certificates_go_to_git_and_into_files() {
    let fixture = Fixture::new().with(|it| {
        it.tls.ca = Some("CA".to_owned());
        it.tls.cert = Some("CERT".to_owned());
        it.tls.key = Some("KEY".into());
    });
    let request = sources(&fixture);
    assert_eq!(request.tls.ca.as_deref(), Some("CA"));
    assert_eq!(request.tls.cert.as_deref(), Some("CERT"));
    assert_eq!(request.tls.key.unwrap().expose(), "KEY");
    let files: Vec<_> = request
        .files
        .iter()
        .map(|file| file.path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "CI_SERVER_TLS_CA_FILE",
            "CI_SERVER_TLS_CERT_FILE",
            "CI_SERVER_TLS_KEY_FILE"
        ]
    );
}

#[rstest]
#[case("fetch", None, true)]
#[case("empty", None, true)]
#[case("none", None, false)]
#[case("none", Some(true), true)]
#[case("fetch", Some(false), false)]
fn git_configuration_is_cleaned_unless_the_directory_is_left_alone(
    #[case] strategy: &str,
    #[case] setting: Option<bool>,
    #[case] expected: bool,
) {
    let fixture = Fixture::new()
        .variable("GIT_STRATEGY", strategy)
        .with(|it| it.runner.clean_git_config = setting);
    assert_eq!(sources(&fixture).clean_git_config, expected);
    assert_eq!(cleanup(&fixture).clean_git_config, expected);
}

#[rstest]
#[case("fetch", AgentStrategy::Fetch)]
#[case("clone", AgentStrategy::Clone)]
#[case("none", AgentStrategy::None)]
#[case("empty", AgentStrategy::Empty)]
fn the_flag_for_job_cleanup_asks_by_strategy(
    #[case] strategy: &str,
    #[case] expected: AgentStrategy,
) {
    let fixture = Fixture::new().variable("GIT_STRATEGY", strategy);
    assert_eq!(cleanup(&fixture).job_cleanup, None);
    let asked = cleanup(&fixture.flag("FF_ENABLE_JOB_CLEANUP", true))
        .job_cleanup
        .unwrap();
    assert_eq!(asked.strategy, expected);
    assert_eq!(asked.clean_flags, Some(strings(&["-ffdx"])));
}

#[test]
fn no_debug_form_shows_a_token() {
    let plan = Fixture::new().plan();
    for stage in &plan.stages {
        if let StageWork::Sources(request) = &stage.work {
            assert!(!format!("{request:?}").contains(JOB_TOKEN));
        }
    }
}

#[test]
fn submodules_hooks_and_clone_flags_reach_the_request() {
    let request = sources(&Fixture::new());
    assert_eq!(request.submodules, None);
    assert!(
        request.credential_hosts.is_empty(),
        "one server, one address"
    );
    assert!(!request.native_clone && !request.global_credentials && !request.debug_trace);

    let hook = |name: &str, lines: &[&str]| Hook {
        name: name.to_owned(),
        script: strings(lines),
    };
    let fixture = Fixture::new()
        .variable("GIT_SUBMODULE_STRATEGY", "recursive")
        .variable("GIT_SUBMODULE_PATHS", "a :(exclude)b")
        .variable("GIT_SUBMODULE_DEPTH", "3")
        .variable("GIT_SUBMODULE_UPDATE_FLAGS", "--remote --jobs 4")
        .variable("GIT_CLONE_EXTRA_FLAGS", "--filter=blob:none")
        .variable("CI_DEBUG_TRACE", "true")
        .flag("FF_USE_GIT_NATIVE_CLONE", true)
        .flag("FF_GIT_URLS_WITHOUT_TOKENS", true)
        .with(|it| {
            it.runner.pre_get_sources_script = "echo config".to_owned();
            it.runner.post_get_sources_script = "echo config".to_owned();
            it.payload.hooks = vec![
                hook("post_get_sources_script", &["echo after"]),
                hook("pre_get_sources_script", &["echo 1", "echo 2"]),
                hook("of_tomorrow", &["false"]),
            ];
        });
    let request = sources(&fixture);
    assert_eq!(
        request.submodules,
        Some(Submodules {
            recursive: true,
            paths: strings(&["a", ":(exclude)b"]),
            depth: 3,
            update_flags: strings(&["--remote", "--jobs", "4"]),
        })
    );
    assert_eq!(request.pre_get_sources, ["echo config", "echo 1", "echo 2"]);
    assert_eq!(request.post_get_sources, ["echo after", "echo config"]);
    assert_eq!(request.clone_flags, ["--filter=blob:none"]);
    assert!(request.native_clone && request.global_credentials && request.debug_trace);
}

#[rstest]
#[case::normal("normal", "fetch", Some(false))]
#[case::recursive("recursive", "clone", Some(true))]
#[case::none("none", "fetch", None)]
#[case::without_repository("recursive", "none", None)]
#[case::empty("recursive", "empty", None)]
fn submodules_follow_their_strategy(
    #[case] submodules: &str,
    #[case] strategy: &str,
    #[case] recursive: Option<bool>,
) {
    let fixture = Fixture::new()
        .variable("GIT_SUBMODULE_STRATEGY", submodules)
        .variable("GIT_STRATEGY", strategy);
    let found = sources(&fixture).submodules;
    assert_eq!(found.as_ref().map(|found| found.recursive), recursive);
    assert!(found.is_none_or(|found| found.depth == 20 && found.paths.is_empty()));
}

// job-lifecycle §4.4
#[rstest]
#[case::usual("", None, &[("https://gitlab.example.com/", "git@h:"), ("https://gitlab.example.com", "ssh://git@h")])]
#[case::usual_port("22", None, &[("https://gitlab.example.com/", "git@h:"), ("https://gitlab.example.com", "ssh://git@h")])]
#[case::other_port("2222", None, &[("https://gitlab.example.com", "ssh://git@h:2222")])]
#[case::clone_url("2222", Some("https://internal/base/"), &[
    ("https://internal/base/", "https://gitlab.example.com/"), ("https://internal/base", "ssh://git@h:2222")])]
#[case::clone_url_by_ssh("", Some("ssh://internal"), &[])]
fn ssh_addresses_of_the_server_are_forced_to_https(
    #[case] port: &str,
    #[case] clone_url: Option<&str>,
    #[case] rewrites: &[(&str, &str)],
) {
    let fixture = Fixture::new()
        .variable("GIT_SUBMODULE_FORCE_HTTPS", "true")
        .variable("CI_SERVER_HOST", "h")
        .variable("CI_SERVER_SHELL_SSH_PORT", port)
        .with(|it| it.runner.clone_url = clone_url.map(str::to_owned));
    let request = sources(&fixture);
    let found: Vec<_> = request
        .base_urls
        .iter()
        .map(|base| (base.url.as_str(), base.instead_of.as_str()))
        .collect();
    assert_eq!(found, rewrites);
    let named = fixture.variable("CI_SERVER_SHELL_SSH_HOST", "ssh.h");
    assert!(
        sources(&named)
            .base_urls
            .iter()
            .skip(usize::from(clone_url.is_some()))
            .all(|base| base.instead_of.contains("@ssh.h"))
    );
}
