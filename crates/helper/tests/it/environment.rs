//! What surrounds the fetch: scripts, variables, files, and what the image has.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use gantry_agent::{FileVariable, GitStrategy, SourcesRequest, TlsFiles, Variable};

use crate::{
    sources::{GREEN, RESET, content, request},
    support::{Agent, Repository},
};

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
    // Later stages and the script begin there.
    assert_eq!(agent.project().read_dir().unwrap().count(), 0);
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
    let done = agent.sources("0", request(&agent, &repository)).ok();
    assert!(!done.out().contains("lfs"), "no attributes name it");
    repository.commit(".gitattributes", "*.bin filter=lfs\n");
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
