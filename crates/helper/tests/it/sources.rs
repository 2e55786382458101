//! `get_sources` over `file://`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use gantry_agent::{
    ClearWorktreeRequest, FileVariable, GitStrategy, ObjectFormat, SourcesRequest, StageRequest,
    TlsFiles, Variable,
};

use crate::support::{Agent, Repository};

const GREEN: &str = "\x1b[32;1m";
const RESET: &str = "\x1b[0;m\n";

fn request(agent: &Agent, repository: &Repository) -> SourcesRequest {
    SourcesRequest {
        repo_url: repository.url(),
        sha: repository.head(),
        refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
        token: "glcbt-s3cret".into(),
        ..agent.request()
    }
}

fn content(agent: &Agent) -> String {
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
fn hook_scripts_run_around_the_fetch_and_what_they_export_reaches_git() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let wanted = SourcesRequest {
        repo_url: "file:///elsewhere.git".into(),
        variables: vec![
            Variable {
                key: "WORD".into(),
                value: "one".into(),
            },
            Variable {
                key: "WORD".into(),
                value: "two words".into(),
            },
            Variable {
                key: "KEY_FILE".into(),
                value: "FILE".into(),
            },
        ],
        files: vec![FileVariable {
            path: agent.tmp().join("KEY_FILE"),
            content: "key\n".into(),
        }],
        pre_get_sources: vec![
            "echo \"$WORD\"".into(),
            String::new(),
            format!(
                "cat <<E\n$(cat {})\nE",
                agent.tmp().join("KEY_FILE").display()
            ),
            // Sends git elsewhere, by the environment alone.
            format!(
                "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0='url.{}.insteadOf' GIT_CONFIG_VALUE_0=file:///elsewhere.git",
                repository.url()
            ),
            "cat".into(),
        ],
        post_get_sources: vec!["pwd; cat file; echo $GIT_CONFIG_COUNT".into()],
        ..request(&agent, &repository)
    };
    let done = agent.sources("1", wanted).ok();
    let out = done.out();
    assert!(
        out.starts_with(&format!(
            "{GREEN}$ echo \"$WORD\"{RESET}two words\n\n{GREEN}$ cat <<E # collapsed"
        )),
        "{out}"
    );
    assert!(out.contains("command\x1b[0;m\nkey\n"), "{out}");
    assert!(
        out.ends_with(&format!("{RESET}{}\n3\n1\n", agent.project().display())),
        "{out}"
    );
    let mode = fs::metadata(agent.tmp().join("KEY_FILE"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666);
}

#[test]
fn failing_hook_scripts_end_the_stage_with_their_status() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let pre = SourcesRequest {
        pre_get_sources: vec!["false | cat".into(), "(exit 7)".into()],
        ..request(&agent, &repository)
    };
    let done = agent.sources("1", pre);
    assert_eq!(
        done.clone().failed(1).error.unwrap(),
        "pre_get_sources_script exited with status 1"
    );
    assert!(
        !done.out().contains("exit 7"),
        "pipefail and errexit are on"
    );
    let post = SourcesRequest {
        post_get_sources: vec!["exit 7".into()],
        ..request(&agent, &repository)
    };
    let done = agent.sources("2", post).failed(7);
    assert_eq!(
        done.error.unwrap(),
        "post_get_sources_script exited with status 7"
    );
}

#[test]
fn a_script_that_exits_ends_the_stage_with_a_word() {
    let agent = Agent::start();
    let done = agent.sources("1", agent.script("echo bye")).ok();
    assert!(done.out().contains(
        "\x1b[0;33mpre_get_sources_script ended the stage before the sources were fetched"
    ));
    assert!(!agent.project().exists());
}

#[test]
fn tls_files_are_there_for_the_server_while_the_stage_runs_and_gone_after_it() {
    let agent = Agent::start();
    let wanted = SourcesRequest {
        tls: TlsFiles { ca: Some("CA".into()), cert: Some("CERT".into()), key: Some("KEY".into()) },
        pre_get_sources: vec![
            "for k in sslCAInfo sslCert sslKey; do cat \"$(git config http.https://gitlab.invalid.$k)\"; done; \
             git config --global user.name mine; exit 0"
                .into(),
        ],
        ..agent.request()
    };
    let done = agent.sources("1", wanted).ok();
    assert!(done.out().contains("CACERTKEY"), "{}", done.out());
    let global = fs::read_to_string(agent.path("home/.gitconfig")).unwrap();
    assert!(
        global.contains("mine") && !global.contains("ssl") && !global.contains("runner"),
        "{global}"
    );
    assert!(!agent.path("agent.sock.d/tls").exists());
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
fn an_image_without_git_is_told_from_a_failing_git() {
    let agent = Agent::start_with(|command| {
        command.env("PATH", "/nonexistent");
    });
    let repository = Repository::new();
    assert_eq!(agent.connect().welcome.unwrap().git_version, None);
    let done = agent.sources("1", request(&agent, &repository)).failed(127);
    let text = "there is no git in the helper image: it needs git and a shell; name another one with helper_image";
    assert!(done.error.as_ref().unwrap().contains(text));
    assert!(
        done.err().contains(&format!("\x1b[31;1mERROR: {text}")),
        "{}",
        done.err()
    );
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

#[test]
fn variables_too_long_for_a_process_are_left_out_with_a_warning() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let variables = vec![
        Variable {
            key: "BIG".into(),
            value: "x".repeat(200_000).into(),
        },
        Variable {
            key: "".into(),
            value: "x".into(),
        },
        Variable {
            key: "1.odd-NAME".into(),
            value: "x".into(),
        },
    ];
    let done = agent
        .sources(
            "1",
            SourcesRequest {
                variables,
                ..request(&agent, &repository)
            },
        )
        .ok();
    assert!(
        done.out()
            .contains("Variable \"BIG\" is left out of the environment of git"),
        "{}",
        done.out()
    );
    assert_eq!(content(&agent), "3\n");
}

#[test]
fn a_home_that_cannot_be_written_to_does_no_harm() {
    let agent = Agent::start_with(|command| {
        command.env("HOME", "/nonexistent/home");
    });
    let repository = Repository::new();
    agent.sources("1", request(&agent, &repository)).ok();
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn stale_files_of_a_former_job_are_removed_first() {
    let agent = Agent::start();
    fs::create_dir_all(agent.tmp()).unwrap();
    let stale = agent.tmp().join("gitlab_runner_env");
    fs::write(&stale, "x").unwrap();
    let wanted = SourcesRequest {
        strategy: GitStrategy::None,
        stale_files: vec![stale.clone(), agent.tmp().join("masking.db")],
        ..agent.request()
    };
    agent.sources("1", wanted).ok();
    assert!(!stale.exists());
}

#[test]
fn lfs_files_are_pulled_once_where_git_has_lfs() {
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("git-lfs");
    fs::write(
        &program,
        "#!/bin/sh\necho \"lfs $* $GIT_LFS_SKIP_SMUDGE\"\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = Agent::start_with(|command| {
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", bin.path().display()));
    });
    let repository = Repository::new();
    let done = agent.sources("1", request(&agent, &repository)).ok();
    assert!(done.out().contains("lfs pull 1\n\n"), "{}", done.out());
    let skipped = SourcesRequest {
        lfs_skip: true,
        ..request(&agent, &repository)
    };
    assert!(!agent.sources("2", skipped).ok().out().contains("lfs"));
}

#[test]
fn a_request_of_many_megabytes_and_variables_beyond_the_system_s_limit_are_handled() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let path = agent.tmp().join("BIG");
    let content = "x".repeat(8 << 20);
    let files = vec![FileVariable {
        path: path.clone(),
        content: content.as_str().into(),
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
    assert_eq!(fs::metadata(&path).unwrap().len(), 8 << 20);
    let variables = (0..100)
        .map(|n| Variable {
            key: format!("V{n}"),
            value: content[..100_000].into(),
        })
        .collect();
    let done = agent
        .sources(
            "2",
            SourcesRequest {
                variables,
                ..request(&agent, &repository)
            },
        )
        .failed(1);
    assert!(
        done.err()
            .contains("the job's variables are too long together"),
        "{}",
        done.err()
    );
}
