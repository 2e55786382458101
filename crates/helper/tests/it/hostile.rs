//! What a former job or the repository itself may have prepared.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use gantry_agent::{FileVariable, SourcesRequest};

use crate::support::{Agent, Repository};

fn request(agent: &Agent, repository: &Repository) -> SourcesRequest {
    SourcesRequest {
        repo_url: repository.url(),
        sha: repository.head(),
        refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
        ..agent.request()
    }
}

/// A program that leaves a mark when it runs.
fn trap(agent: &Agent) -> String {
    let path = agent.path("trap.sh");
    fs::write(
        &path,
        format!("#!/bin/sh\ntouch {}\n", agent.path("sprung").display()),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn config(trap: &str) -> String {
    format!(
        "[core]\n\tfsmonitor = {trap}\n\tsshCommand = {trap}\n\tpager = {trap}\n[diff]\n\texternal = {trap}\n"
    )
}

fn copy_hook(trap: &str, hooks: &Path) {
    fs::create_dir_all(hooks).unwrap();
    for name in [
        "post-checkout",
        "reference-transaction",
        "post-index-change",
        "pre-auto-gc",
    ] {
        fs::copy(trap, hooks.join(name)).unwrap();
    }
}

fn assert_harmless(agent: &Agent, repository: &Repository, id: &str) {
    agent.sources(id, request(agent, repository)).ok();
    assert!(!agent.path("sprung").exists(), "planted code ran");
    assert_eq!(
        fs::read_to_string(agent.project().join("file")).unwrap(),
        "3\n"
    );
}

#[test]
fn the_trap_works_when_nothing_is_cleaned() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    fs::write(agent.project().join(".git/config"), config(&trap(&agent))).unwrap();
    agent.sources(
        "2",
        SourcesRequest {
            clean_git_config: false,
            ..request(&agent, &repository)
        },
    );
    assert!(
        agent.path("sprung").exists(),
        "or the other tests could not fail"
    );
}

#[test]
fn planted_configuration_hooks_and_templates_have_no_effect() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    let trap = trap(&agent);
    let git = agent.project().join(".git");
    fs::write(git.join("config"), config(&trap)).unwrap();
    copy_hook(&trap, &git.join("hooks"));
    let template = agent.tmp().join("git-template");
    copy_hook(&trap, &template.join("hooks"));
    fs::write(template.join("config"), config(&trap)).unwrap();
    fs::write(template.join("commondir"), "../evil").unwrap();
    assert_harmless(&agent, &repository, "2");
    assert!(!git.join("hooks").exists() && !git.join("commondir").exists());
}

#[test]
fn configuration_elsewhere_is_not_reached() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    let trap = trap(&agent);
    let git = agent.project().join(".git");

    // A common directory with a configuration of its own.
    let evil = agent.path("builds/evil");
    fs::create_dir_all(evil.join("objects")).unwrap();
    fs::create_dir_all(evil.join("refs")).unwrap();
    fs::write(evil.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(evil.join("config"), config(&trap)).unwrap();
    copy_hook(&trap, &evil.join("hooks"));
    fs::write(git.join("commondir"), evil.display().to_string()).unwrap();
    fs::write(git.join("config.worktree"), config(&trap)).unwrap();
    assert_harmless(&agent, &repository, "2");

    fs::remove_dir_all(&git).unwrap();
    symlink(&evil, &git).unwrap();
    assert_harmless(&agent, &repository, "3");

    fs::remove_dir_all(&git).unwrap();
    fs::write(&git, format!("gitdir: {}\n", evil.display())).unwrap();
    assert_harmless(&agent, &repository, "4");
    assert_eq!(
        fs::read_to_string(evil.join("config")).unwrap(),
        config(&trap),
        "and what it names is left alone"
    );
}

#[test]
fn locks_of_a_killed_job_do_not_stop_the_next() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    let git = agent.project().join(".git");
    for name in [
        "index.lock",
        "shallow.lock",
        "HEAD.lock",
        "config.lock",
        "packed-refs.lock",
        "refs/remotes/origin/main.lock",
        "FETCH_HEAD.lock",
    ] {
        fs::write(git.join(name), "").unwrap();
    }
    repository.commit("other", "x");
    agent
        .sources(
            "2",
            SourcesRequest {
                depth: 1,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert!(agent.project().join("other").exists());
}

#[test]
fn links_in_place_of_directories_are_replaced_and_their_targets_kept() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let outside = agent.path("outside");
    fs::create_dir_all(outside.join("git-template")).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    fs::create_dir_all(agent.path("builds/group")).unwrap();
    symlink(&outside, agent.project()).unwrap();
    symlink(&outside, agent.tmp()).unwrap();
    let files = vec![FileVariable {
        path: agent.tmp().join("SECRET"),
        content: "s3cret".into(),
    }];
    agent
        .sources(
            "1",
            SourcesRequest {
                files,
                ..request(&agent, &repository)
            },
        )
        .ok();
    let left: Vec<_> = fs::read_dir(&outside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(
        fs::read_dir(outside.join("git-template")).unwrap().count(),
        0
    );
    assert!(agent.project().join("file").exists());
}

#[test]
fn links_in_place_of_files_are_replaced_and_their_targets_kept() {
    let (agent, repository) = (Agent::start(), Repository::new());
    agent.sources("1", request(&agent, &repository)).ok();
    let precious = agent.path("precious");
    fs::write(&precious, "precious").unwrap();
    let tmp = agent.tmp();
    for link in [
        tmp.join(".gitlab-runner.ext.conf"),
        tmp.join("git-template/config"),
        tmp.join("SECRET"),
        agent.project().join(".git/config"),
        agent.project().join(".git/index.lock"),
    ] {
        if link.exists() {
            fs::remove_file(&link).unwrap();
        }
        symlink(&precious, link).unwrap();
    }
    let files = vec![FileVariable {
        path: tmp.join("SECRET"),
        content: "s3cret".into(),
    }];
    agent
        .sources(
            "2",
            SourcesRequest {
                files,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn a_repository_that_holds_links_is_checked_out_as_links() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let outside = agent.path("outside");
    fs::create_dir(&outside).unwrap();
    repository.commit_link("link", &outside);
    agent.sources("1", request(&agent, &repository)).ok();
    fs::write(outside.join("x"), "x").unwrap();
    agent
        .sources(
            "2",
            SourcesRequest {
                strategy: gantry_agent::GitStrategy::Clone,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert!(outside.join("x").exists(), "removal does not follow links");
    assert_eq!(
        fs::read_link(agent.project().join("link")).unwrap(),
        outside
    );
}
