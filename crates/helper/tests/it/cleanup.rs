//! `cleanup_file_variables`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use gantry_agent::{
    CleanupRequest, GitStrategy, JobCleanup, ObjectFormat, SourcesRequest, StageRequest,
};

use crate::support::{Agent, Finished, Repository};

fn request(agent: &Agent) -> CleanupRequest {
    CleanupRequest {
        builds_dir: agent.path("builds"),
        project_dir: agent.project(),
        tmp_dir: agent.tmp(),
        clean_git_config: true,
        ..CleanupRequest::default()
    }
}

fn run(agent: &Agent, request: CleanupRequest) -> Finished {
    agent.connect().run(
        "cleanup_file_variables/1",
        StageRequest::Cleanup(Box::new(request)),
    )
}

fn sources(agent: &Agent, repository: &Repository, object_format: ObjectFormat) {
    let wanted = SourcesRequest {
        repo_url: repository.url(),
        sha: repository.head(),
        refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
        object_format,
        ..agent.request()
    };
    agent.sources("get_sources/1", wanted).ok();
}

fn cleanup(agent: &Agent, strategy: GitStrategy, object_format: ObjectFormat) -> Finished {
    let job_cleanup = JobCleanup {
        strategy,
        clean_flags: Some(vec!["-ffdx".into()]),
        object_format,
    };
    run(
        agent,
        CleanupRequest {
            job_cleanup: Some(job_cleanup),
            ..request(agent)
        },
    )
}

#[test]
fn secrets_and_git_configuration_go_and_the_rest_stays() {
    let (agent, repository) = (Agent::start(), Repository::new());
    sources(&agent, &repository, ObjectFormat::Sha1);
    let gone = [
        "KEY",
        "gitlab_runner_env",
        "masking.db",
        ".glr.gconf",
        ".gitlab-runner.ext.conf",
    ];
    for name in gone {
        fs::write(agent.tmp().join(name), "x").unwrap();
    }
    fs::write(agent.tmp().join("mine"), "x").unwrap();
    fs::write(agent.path("builds/.gitlab-build-uid-gid"), "x").unwrap();
    let files = vec![agent.tmp().join("KEY"), agent.tmp().join("ABSENT")];
    let done = run(
        &agent,
        CleanupRequest {
            files,
            ..request(&agent)
        },
    )
    .ok();
    assert_eq!(done.out() + &done.err(), "");
    let left: Vec<_> = fs::read_dir(agent.tmp())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["mine"]);
    assert!(!agent.path("builds/.gitlab-build-uid-gid").exists());
    assert!(!agent.project().join(".git/config").exists());
    assert!(agent.project().join("file").exists());
}

#[test]
fn nothing_to_clean_up_is_fine_and_links_are_not_followed() {
    let agent = Agent::start();
    run(&agent, request(&agent)).ok();
    let outside = agent.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("KEY"), "x").unwrap();
    fs::create_dir_all(agent.path("builds/group")).unwrap();
    symlink(&outside, agent.tmp()).unwrap();
    let files = vec![agent.tmp().join("KEY")];
    let wanted = StageRequest::Cleanup(Box::new(CleanupRequest {
        files,
        ..request(&agent)
    }));
    agent.connect().run("2", wanted).ok();
    assert!(outside.join("KEY").exists() && !agent.tmp().exists());
}

#[test]
fn job_cleanup_resets_a_fetched_tree_without_running_what_the_job_planted() {
    for (format, name) in [
        (ObjectFormat::Sha1, "sha1"),
        (ObjectFormat::Sha256, "sha256"),
    ] {
        let (agent, repository) = (Agent::start(), Repository::with_format(name));
        sources(&agent, &repository, format);
        let project = agent.project();
        fs::write(project.join("file"), "changed").unwrap();
        fs::write(project.join("untracked"), "x").unwrap();
        let trap = agent.path("trap.sh");
        fs::write(
            &trap,
            format!("#!/bin/sh\ntouch {}\n", agent.path("sprung").display()),
        )
        .unwrap();
        fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            project.join(".git/config"),
            format!("[core]\nfsmonitor = {}\n", trap.display()),
        )
        .unwrap();
        cleanup(&agent, GitStrategy::Fetch, format).ok();
        assert_eq!(
            fs::read_to_string(project.join("file")).unwrap(),
            "3\n",
            "{name}"
        );
        assert!(!project.join("untracked").exists() && !agent.path("sprung").exists());
    }
}

#[test]
fn job_cleanup_removes_a_cloned_tree_and_skips_one_that_is_not_ours() {
    let (agent, repository) = (Agent::start(), Repository::new());
    sources(&agent, &repository, ObjectFormat::Sha1);
    let done = cleanup(&agent, GitStrategy::None, ObjectFormat::Sha1).ok();
    assert_eq!(
        done.out(),
        "\x1b[32;1mSkipping build directory cleanup step\x1b[0;m\n"
    );
    assert!(agent.project().join("file").exists());
    let job_cleanup = JobCleanup {
        strategy: GitStrategy::Clone,
        ..JobCleanup::default()
    };
    let wanted = CleanupRequest {
        job_cleanup: Some(job_cleanup),
        ..request(&agent)
    };
    agent
        .connect()
        .run("2", StageRequest::Cleanup(Box::new(wanted)))
        .ok();
    assert!(!agent.project().exists());
}

#[test]
fn a_failure_is_named_and_the_other_steps_are_done() {
    let agent = Agent::start();
    fs::create_dir_all(agent.tmp()).unwrap();
    fs::write(agent.tmp().join("KEY"), "x").unwrap();
    let files = vec!["/proc/self/status".into(), agent.tmp().join("KEY")];
    let done = run(
        &agent,
        CleanupRequest {
            files,
            ..request(&agent)
        },
    )
    .failed(1);
    assert!(
        done.error
            .unwrap()
            .starts_with("cannot remove /proc/self/status: ")
    );
    assert!(!agent.tmp().join("KEY").exists());
}
