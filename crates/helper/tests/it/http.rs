//! `get_sources` over HTTP with a password.

use std::fs;

use gantry_agent::{BaseUrl, CleanupRequest, SourcesRequest, StageRequest};

use crate::support::{Agent, GitServer, Repository, assert_nowhere};

const TOKEN: &str = "glcbt-64_s3cretTokenOfTheJob";

fn request(agent: &Agent, repository: &Repository, url: String) -> SourcesRequest {
    SourcesRequest {
        repo_url: url,
        token: TOKEN.into(),
        sha: repository.head(),
        refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
        depth: 20,
        user_agent: "gitlab-runner 19.4.0 linux/amd64".into(),
        correlation_id: Some("01KKDQ7P6TRW7Z6P2PWG5808EK".into()),
        ..agent.request()
    }
}

#[test]
fn the_token_opens_the_repository_and_is_in_no_file_and_no_output() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let server = GitServer::start(repository.root(), "gitlab-ci-token", TOKEN);
    for id in ["1", "2"] {
        let done = agent
            .sources(id, request(&agent, &repository, server.url()))
            .ok();
        assert!(!done.out().contains(TOKEN));
        assert_eq!(done.err(), "");
        assert_nowhere(agent.dir.path(), TOKEN);
        repository.commit("file", id);
    }
    assert!(agent.project().join("file").exists());

    let requests = server.requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request["user-agent"], "gitlab-runner 19.4.0 linux/amd64");
        assert_eq!(
            request["x-gitaly-correlation-id"],
            "01KKDQ7P6TRW7Z6P2PWG5808EK"
        );
    }
}

#[test]
fn credentials_in_the_url_are_cut_off() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let server = GitServer::start(repository.root(), "gitlab-ci-token", TOKEN);
    let url = server
        .url()
        .replace("http://", &format!("http://gitlab-ci-token:{TOKEN}@"));
    agent.sources("1", request(&agent, &repository, url)).ok();
    assert_nowhere(agent.dir.path(), TOKEN);
    let config = fs::read_to_string(agent.project().join(".git/config")).unwrap();
    assert!(config.contains(&server.url()), "{config}");
}

#[test]
fn a_wrong_token_fails_with_git_s_status_and_asks_nobody() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let server = GitServer::start(repository.root(), "gitlab-ci-token", "another");
    let done = agent
        .sources("1", request(&agent, &repository, server.url()))
        .failed(128);
    assert!(
        done.err().contains("Authentication failed"),
        "{}",
        done.err()
    );
    assert!(!done.err().contains(TOKEN) && !done.error.unwrap().contains(TOKEN));
}

#[test]
fn scripts_of_the_job_can_fetch_with_the_token_of_their_environment() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let server = GitServer::start(repository.root(), "gitlab-ci-token", TOKEN);
    agent
        .sources("1", request(&agent, &repository, server.url()))
        .ok();
    let tip = repository.commit("file", "new\n");
    // As in the build container: only the job's variables and the shared volume.
    let fetch = |token: Option<&str>| {
        let mut command = std::process::Command::new("git");
        command
            .args(["-c", "safe.directory=*", "fetch", "-q", "origin"])
            .current_dir(agent.project());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent");
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .envs(token.map(|token| ("CI_JOB_TOKEN", token)));
        command.output().unwrap()
    };
    assert!(!fetch(None).status.success());
    let output = fetch(Some(TOKEN));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let fetched = fs::read_to_string(agent.project().join(".git/FETCH_HEAD")).unwrap();
    assert!(fetched.starts_with(&tip), "{fetched}");

    let cleanup = CleanupRequest {
        builds_dir: agent.path("builds"),
        project_dir: agent.project(),
        tmp_dir: agent.tmp(),
        clean_git_config: true,
        ..CleanupRequest::default()
    };
    agent
        .connect()
        .run("cleanup", StageRequest::Cleanup(Box::new(cleanup)))
        .ok();
    assert!(
        !fetch(Some(TOKEN)).status.success(),
        "nothing is left that would use it"
    );
}

#[test]
fn other_urls_of_the_server_are_rewritten_and_authenticated_too() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let server = GitServer::start(repository.root(), "gitlab-ci-token", TOKEN);
    let wanted = SourcesRequest {
        base_urls: vec![BaseUrl {
            url: format!("{}/", server.host()),
            instead_of: "git@gitlab.invalid:".into(),
        }],
        post_get_sources: vec!["git ls-remote git@gitlab.invalid:group/project.git main".into()],
        ..request(&agent, &repository, server.url())
    };
    let done = agent.sources("1", wanted).ok();
    assert!(
        done.out()
            .contains(&format!("{}\trefs/heads/main", repository.head())),
        "{}",
        done.out()
    );
}
