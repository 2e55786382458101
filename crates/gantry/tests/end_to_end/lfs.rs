//! Files of git LFS (job-lifecycle §4), from a real LFS server.

use gantry_testkit::git::{LfsServer, lfs_pointer};
use gantry_testkit::{GitHttp, ServerJobState};
use rstest::rstest;
use serde_json::json;

use crate::harness::{Config, Docker, Host, job, skipped};

/// An image with git and git-lfs in it.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));
const ATTRIBUTES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
/// Projects of the first level: the permissions that this server gives out are for no others.
const WIDGET: &str = "acme/widget";
const LIB: &str = "acme/lib";

/// A host with a git server whose LFS files come from a real server.
async fn with_lfs() -> Option<(Host, GitHttp, LfsServer)> {
    let Some(docker) = Docker::of_environment() else {
        skipped("GANTRY_TEST_ENGINE names no engine");
        return None;
    };
    let started = LfsServer::start(&docker.bridge().await).await;
    let server = started.inspect_err(|why| skipped(why)).ok()?;
    let host = Host::new(&Config::new()).await?;
    let git = host.git().await;
    git.lfs_at(&server);
    Some((host, git, server))
}

/// Bytes that no compression makes less of.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_project_and_submodule_come_with_the_jobs_token_unless_they_are_not_wanted() {
    let Some((host, git, lfs)) = with_lfs().await else {
        return;
    };
    let large = noise(20 << 20);
    let lib = git
        .repository(LIB)
        .file(".gitattributes", ATTRIBUTES)
        .file("sub.bin", lfs.keep(LIB, b"of the submodule\n"))
        .commit("one")
        .build();
    let widget = git
        .repository(WIDGET)
        .file(".gitattributes", ATTRIBUTES)
        .file("small.bin", lfs.keep(WIDGET, b"of the project\n"))
        .file("large.bin", lfs.keep(WIDGET, &large))
        .submodule("lib", "../lib.git", lib.sha("main"))
        .commit("one")
        .build();
    let script = [
        "cat small.bin lib/sub.bin",
        "wc -c < large.bin",
        "git lfs ls-files",
        "git status --porcelain; git config --list --show-origin | grep -c glcbt- || echo no token",
    ];
    let work = job(script)
        .image(GIT)
        .git(&widget, "main")
        .variable("GIT_SUBMODULE_STRATEGY", "recursive");

    let skipping = work.clone().variable("GIT_LFS_SKIP_SMUDGE", "1");
    let (done, log) = host.run(&skipping).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("version https://git-lfs.github.com/spec/v1");
    let asked = |git: &GitHttp| {
        let requests = git.requests().into_iter();
        requests
            .filter(|it| it.path.contains("/info/lfs/"))
            .collect::<Vec<_>>()
    };
    assert!(asked(&git).is_empty(), "{:?}", asked(&git));

    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("of the project");
    log.assert_prints("of the submodule");
    log.assert_prints(&large.len().to_string());
    log.assert_prints("no token");
    let asked = asked(&git);
    for project in [WIDGET, LIB] {
        let path = format!("/{project}.git/info/lfs/objects/batch");
        assert!(
            asked.iter().any(|it| it.path == path && it.status == 200),
            "{asked:?}"
        );
    }
    let users = asked.iter().filter_map(|it| it.credentials.as_ref());
    assert!(users.clone().count() > 0);
    assert!(
        users
            .clone()
            .all(|(user, token)| user == "gitlab-ci-token" && *token == done.token)
    );
    assert!(lfs.log().contains("/objects/storage/"), "{}", lfs.log());
}

/// Who is meant by the `lfs.url` of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    AnotherProject,
    AnotherServer,
}

#[rstest]
#[case::of_another_project(At::AnotherProject)]
#[case::of_another_server(At::AnotherServer)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_from_where_the_project_says(#[case] at: At) {
    let Some((host, git, lfs)) = with_lfs().await else {
        return;
    };
    const ASSETS: &str = "acme/assets";
    let url = match at {
        At::AnotherProject => format!("{}/{ASSETS}.git/info/lfs", git.url()),
        At::AnotherServer => lfs.url(ASSETS),
    };
    let widget = git
        .repository(WIDGET)
        .file(".gitattributes", ATTRIBUTES)
        .file(".lfsconfig", format!("[lfs]\n\turl = {url}\n"))
        .file("data.bin", lfs.keep(ASSETS, b"of the assets\n"))
        .commit("one")
        .build();
    let work = job(["cat data.bin"]).image(GIT).git(&widget, "main");
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("of the assets");
    let by_us = git
        .requests()
        .iter()
        .any(|it| it.path.contains("/info/lfs/"));
    assert_eq!(by_us, at == At::AnotherProject);
}

/// Who says which files are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Project,
    Variables,
    Hook,
}

#[rstest]
#[case::by_the_project(Says::Project)]
#[case::by_variables(Says::Variables)]
#[case::by_a_script_before(Says::Hook)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_may_be_left_out(#[case] says: Says) {
    let Some((host, git, lfs)) = with_lfs().await else {
        return;
    };
    let own = match says {
        Says::Project => "[lfs]\n\tfetchexclude = large.bin\n",
        Says::Variables | Says::Hook => "",
    };
    let widget = git
        .repository(WIDGET)
        .file(".gitattributes", ATTRIBUTES)
        .file(".lfsconfig", own)
        .file("small.bin", lfs.keep(WIDGET, b"of the project\n"))
        // Nobody has it, so that asking for it fails the job.
        .file("large.bin", lfs_pointer(b"never sent"))
        .commit("one")
        .build();
    let mut work = job(["cat small.bin", "head -n 1 large.bin"])
        .image(GIT)
        .git(&widget, "main");
    match says {
        Says::Project => {}
        Says::Variables => {
            work = work
                .variable("GIT_CONFIG_COUNT", "1")
                .variable("GIT_CONFIG_KEY_0", "lfs.fetchinclude")
                .variable("GIT_CONFIG_VALUE_0", "small.bin");
        }
        Says::Hook => {
            let line = "git config --global lfs.fetchexclude large.bin";
            let hooks = json!([{"name": "pre_get_sources_script", "script": [line]}]);
            work = work.set("/hooks", hooks);
        }
    }
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("of the project");
    log.assert_prints("version https://git-lfs.github.com/spec/v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_server_lacks_fails_the_job_with_the_servers_words() {
    let Some((host, git, _lfs)) = with_lfs().await else {
        return;
    };
    let widget = git
        .repository(WIDGET)
        .file(".gitattributes", ATTRIBUTES)
        .file("lost.bin", lfs_pointer(b"never sent"))
        .commit("one")
        .build();
    let work = job(["echo begun > /witness/script"])
        .image(GIT)
        .git(&widget, "main");
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Failed, "{}", log.text());
    log.assert_says("batch response: 404 Not Found: Cannot find any of the requested objects");
    log.assert_says("Failed to fetch some objects from");
    assert!(host.witnessed("script").is_empty());
}
