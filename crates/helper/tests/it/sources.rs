//! `get_sources` over `file://`.

use std::{fs, os::unix::fs::PermissionsExt};

use gantry_agent::{ClearWorktreeRequest, GitStrategy, ObjectFormat, SourcesRequest, StageRequest};

use crate::support::{Agent, Repository};

pub(crate) const GREEN: &str = "\x1b[32;1m";
pub(crate) const RESET: &str = "\x1b[0;m\n";

pub(crate) fn request(agent: &Agent, repository: &Repository) -> SourcesRequest {
    SourcesRequest {
        repo_url: repository.url(),
        sha: repository.head(),
        refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
        token: "glcbt-s3cret".into(),
        ..agent.request()
    }
}

pub(crate) fn content(agent: &Agent) -> String {
    fs::read_to_string(agent.project().join("file")).unwrap()
}

fn git(agent: &Agent, args: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(args)
        .current_dir(agent.project())
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_first_fetch_prints_what_the_peer_prints() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let wanted = SourcesRequest {
        depth: 20,
        correlation_id: Some("01KKDQ7P".into()),
        lfs_skip: true,
        ..request(&agent, &repository)
    };
    let done = agent.sources("get_sources/1", wanted).ok();
    let dir = agent.project();
    let sha = &repository.head()[..8];
    let expected = format!(
        "{GREEN}Gitaly correlation ID: 01KKDQ7P{RESET}{GREEN}Fetching changes with git depth set to 20...{RESET}\
         Initialized empty Git repository in {}/.git/\n{GREEN}Created fresh repository.{RESET}\
         {GREEN}Checking out {sha} as detached HEAD (ref is main)...{RESET}{GREEN}Skipping Git submodules setup{RESET}",
        dir.display()
    );
    assert_eq!(done.out(), expected);
    assert_eq!(done.err(), "");
    assert_eq!(content(&agent), "3\n");
    assert_eq!(git(&agent, &["rev-parse", "HEAD"]), repository.head());
    assert_eq!(
        git(&agent, &["config", "--get-all", "remote.origin.fetch"]),
        "+refs/heads/*:refs/remotes/origin/*"
    );
    let mode = fs::metadata(dir.join("file")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "the build container's user may write");
}

#[test]
fn a_second_fetch_keeps_the_repository_and_cleans_the_tree() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    fs::write(agent.project().join("untracked"), "x").unwrap();
    fs::write(agent.project().join("file"), "changed").unwrap();
    repository.commit("file", "4\n");
    let done = agent.sources("2", request(&agent, &repository)).ok();
    assert!(
        done.out()
            .contains("Reinitialized existing Git repository in ")
    );
    assert!(done.out().contains("Created fresh repository."));
    assert!(done.out().contains("Removing untracked\n"));
    assert_eq!(content(&agent), "4\n");
}

#[test]
fn clean_flags_keep_files_or_skip_cleaning() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    let keep = agent.project().join("keep");
    fs::create_dir(&keep).unwrap();
    fs::write(keep.join("x"), "x").unwrap();
    fs::write(agent.project().join("other"), "x").unwrap();
    let none = SourcesRequest {
        clean_flags: None,
        ..request(&agent, &repository)
    };
    agent.sources("2", none).ok();
    assert!(keep.exists() && agent.project().join("other").exists());
    let flags = Some(["-ffdx", "-e", "keep/"].map(String::from).to_vec());
    agent
        .sources(
            "3",
            SourcesRequest {
                clean_flags: flags,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert!(keep.exists() && !agent.project().join("other").exists());
}

#[test]
fn depth_limits_history_and_no_depth_brings_it_back() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent
        .sources(
            "1",
            SourcesRequest {
                depth: 1,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert_eq!(git(&agent, &["rev-list", "--count", "HEAD"]), "1");
    let done = agent.sources("2", request(&agent, &repository)).ok();
    assert!(
        done.out()
            .contains(&format!("{GREEN}Fetching changes...{RESET}"))
    );
    assert_eq!(git(&agent, &["rev-list", "--count", "HEAD"]), "3");
    assert!(!agent.project().join(".git/shallow").exists());
}

#[test]
fn a_commit_other_than_the_branch_s_is_checked_out_by_its_sha() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let wanted = SourcesRequest {
        sha: repository.parent(),
        ..request(&agent, &repository)
    };
    agent.sources("1", wanted).ok();
    assert_eq!(git(&agent, &["rev-parse", "HEAD"]), repository.parent());
    assert_eq!(content(&agent), "2\n");
}

#[test]
fn only_the_refs_of_the_payload_are_fetched() {
    let (agent, repository) = (Agent::start(), Repository::new());
    repository.git(&["update-ref", "refs/pipelines/7", "main"]);
    repository.git(&["update-ref", "refs/heads/other", "main"]);
    let refspecs = vec!["+refs/pipelines/7:refs/pipelines/7".into()];
    agent
        .sources(
            "1",
            SourcesRequest {
                refspecs,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert_eq!(
        git(&agent, &["for-each-ref", "--format=%(refname)"]),
        "refs/pipelines/7"
    );
}

#[test]
fn a_ref_that_is_gone_fails_with_git_s_words_and_status() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let refspecs = vec!["+refs/pipelines/9:refs/pipelines/9".into()];
    let done = agent
        .sources(
            "1",
            SourcesRequest {
                refspecs,
                ..request(&agent, &repository)
            },
        )
        .failed(128);
    assert_eq!(
        done.error.as_deref(),
        Some("git fetch exited with status 128")
    );
    assert!(
        done.err()
            .contains("fatal: couldn't find remote ref refs/pipelines/9"),
        "{}",
        done.err()
    );
    assert!(!done.out().contains("Checking out"));
}

#[test]
fn a_commit_that_is_gone_fails_the_checkout() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let done = agent.sources(
        "1",
        SourcesRequest {
            sha: "1".repeat(40),
            ..request(&agent, &repository)
        },
    );
    assert_eq!(
        done.failed(128).error.as_deref(),
        Some("git checkout exited with status 128")
    );
}

#[test]
fn without_checkout_the_tree_stays_as_it_is() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let done = agent
        .sources(
            "1",
            SourcesRequest {
                checkout: false,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert!(done.out().contains("Skipping Git checkout"));
    assert!(!agent.project().join("file").exists());
    assert_eq!(
        git(&agent, &["rev-parse", "origin/main"]),
        repository.head()
    );
}

#[test]
fn clone_begins_with_nothing() {
    let (agent, repository) = (Agent::start(), Repository::new());
    fs::create_dir_all(agent.project().join("closed")).unwrap();
    fs::write(agent.project().join("closed/file"), "x").unwrap();
    fs::set_permissions(
        agent.project().join("closed"),
        fs::Permissions::from_mode(0o500),
    )
    .unwrap();
    let wanted = SourcesRequest {
        strategy: GitStrategy::Clone,
        clean_flags: None,
        ..request(&agent, &repository)
    };
    let done = agent.sources("1", wanted.clone()).ok();
    assert!(done.out().contains("Initialized empty Git repository"));
    assert!(!agent.project().join("closed").exists());
    let again = agent.sources("2", wanted).ok();
    assert!(again.out().contains("Initialized empty Git repository"));
}

#[test]
fn none_leaves_everything_and_runs_no_hooks() {
    let agent = Agent::start();
    fs::create_dir_all(agent.project()).unwrap();
    fs::write(agent.project().join("mine"), "x").unwrap();
    let wanted = SourcesRequest {
        strategy: GitStrategy::None,
        pre_get_sources: vec!["echo hook".into()],
        post_get_sources: vec!["echo hook".into()],
        ..agent.request()
    };
    let done = agent.sources("1", wanted).ok();
    let expected = [
        "Skipping Git repository setup",
        "Skipping Git checkout",
        "Skipping Git submodules setup",
    ];
    assert_eq!(
        done.out(),
        expected
            .map(|line| format!("{GREEN}{line}{RESET}"))
            .concat()
    );
    assert!(agent.project().join("mine").exists());
}

#[test]
fn empty_makes_an_empty_directory() {
    let agent = Agent::start();
    fs::create_dir_all(agent.project().join("sub")).unwrap();
    let done = agent
        .sources(
            "1",
            SourcesRequest {
                strategy: GitStrategy::Empty,
                ..agent.request()
            },
        )
        .ok();
    assert!(done.out().starts_with(&format!(
        "{GREEN}Skipping Git repository setup and creating an empty build directory{RESET}"
    )));
    assert_eq!(fs::read_dir(agent.project()).unwrap().count(), 0);
    let mode = fs::metadata(agent.project()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
}

#[test]
fn a_sha256_repository_works_on_a_fresh_and_on_a_used_directory() {
    let (agent, repository) = (Agent::start(), Repository::with_format("sha256"));
    let wanted = || SourcesRequest {
        object_format: ObjectFormat::Sha256,
        depth: 2,
        ..request(&agent, &repository)
    };
    agent.sources("1", wanted()).ok();
    repository.commit("file", "4\n");
    let done = agent.sources("2", wanted()).ok();
    assert!(done.out().contains("Reinitialized existing"));
    assert_eq!(git(&agent, &["rev-parse", "HEAD"]), repository.head());
    assert_eq!(repository.head().len(), 64);

    let sha1 = Repository::new();
    let done = agent.sources("3", request(&agent, &sha1)).ok();
    assert!(
        done.out().contains("Initialized empty"),
        "a repository of another hash is of no use"
    );
    assert_eq!(content(&agent), "3\n");
}

#[test]
fn a_kept_configuration_is_pointed_at_the_remote() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    git(&agent, &["config", "my.setting", "kept"]);
    git(
        &agent,
        &["remote", "set-url", "origin", "file:///elsewhere"],
    );
    git(&agent, &["config", "--unset", "include.path"]);
    let wanted = SourcesRequest {
        clean_git_config: false,
        ..request(&agent, &repository)
    };
    let done = agent.sources("2", wanted).ok();
    assert!(!done.out().contains("Created fresh repository."));
    assert_eq!(git(&agent, &["config", "my.setting"]), "kept");
    assert_eq!(
        git(
            &agent,
            &["config", "--file", ".git/config", "remote.origin.url"]
        ),
        repository.url()
    );
    let external = agent.tmp().join(".gitlab-runner.ext.conf");
    assert_eq!(
        git(&agent, &["config", "--file", ".git/config", "include.path"]),
        external.to_str().unwrap()
    );
}

#[test]
fn the_worktree_is_cleared_without_git_and_the_next_attempt_works() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    fs::write(agent.project().join("untracked"), "x").unwrap();
    let clear = || {
        StageRequest::ClearWorktree(ClearWorktreeRequest {
            project_dir: agent.project(),
        })
    };
    let done = agent.connect().run("clear_worktree/1", clear()).ok();
    assert_eq!(
        done.out(),
        format!("{GREEN}Deleting tracked and untracked files...{RESET}")
    );
    let left: Vec<_> = fs::read_dir(agent.project())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".git"]);
    agent.sources("2", request(&agent, &repository)).ok();
    assert_eq!(content(&agent), "3\n");
    fs::remove_dir_all(agent.project()).unwrap();
    agent.connect().run("clear_worktree/2", clear()).ok();
}

#[test]
fn requests_that_lead_nowhere_are_refused_before_anything_is_touched() {
    let agent = Agent::start();
    let base = agent.request();
    for (n, (wanted, text)) in [
        (
            SourcesRequest {
                project_dir: "relative".into(),
                ..base.clone()
            },
            "project directory relative",
        ),
        (
            SourcesRequest {
                tmp_dir: "/".into(),
                ..base.clone()
            },
            "temporary directory /",
        ),
        (
            SourcesRequest {
                refspecs: vec!["--upload-pack=x".into()],
                ..base.clone()
            },
            "begins with a dash",
        ),
        (
            SourcesRequest {
                sha: "-x".into(),
                ..base.clone()
            },
            "cannot be checked out",
        ),
        (
            SourcesRequest {
                sha: String::new(),
                ..base.clone()
            },
            "cannot be checked out",
        ),
        (
            SourcesRequest {
                repo_url: String::new(),
                ..base.clone()
            },
            "no usable URL",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let done = agent.sources(&n.to_string(), wanted).failed(1);
        assert!(done.err().contains(text), "{text}: {}", done.err());
    }
    assert!(!agent.tmp().exists());
}
