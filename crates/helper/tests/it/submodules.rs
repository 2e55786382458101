//! Submodules in `get_sources`, over HTTP with a password (job-lifecycle §4.6).

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use gantry_agent::{BaseUrl, CleanupRequest, SourcesRequest, StageRequest, Submodules};

use crate::{
    sources::{GREEN, RESET},
    support::{Agent, GitServer, Repository, assert_nowhere},
};

const TOKEN: &str = "glcbt-64_s3cretTokenOfTheJob";

struct Setup {
    agent: Agent,
    repository: Repository,
    server: GitServer,
}

impl Setup {
    fn new() -> Self {
        let repository = Repository::new();
        let server = GitServer::start(repository.root(), "gitlab-ci-token", TOKEN);
        Self {
            agent: Agent::start(),
            repository,
            server,
        }
    }

    /// The project has a submodule `lib`, which has a submodule `inner`.
    fn nested() -> Self {
        let setup = Self::new();
        let inner = setup.repository.beside("inner");
        setup.repository.beside("lib");
        let lib = setup
            .repository
            .commit_submodules_beside("lib", &[("inner", "../inner.git", &inner)]);
        setup
            .repository
            .commit_submodules(&[("lib", "../lib.git", &lib)]);
        setup
    }

    fn request(&self) -> SourcesRequest {
        SourcesRequest {
            repo_url: self.server.url(),
            token: TOKEN.into(),
            sha: self.repository.head(),
            refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
            depth: 20,
            submodules: Some(Submodules {
                depth: 20,
                ..Submodules::default()
            }),
            ..self.agent.request()
        }
    }

    fn recursive(&self) -> SourcesRequest {
        self.with(|submodules| submodules.recursive = true)
    }

    fn with(&self, change: impl FnOnce(&mut Submodules)) -> SourcesRequest {
        let mut request = self.request();
        change(request.submodules.as_mut().unwrap());
        request
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.agent.project().join(path)).ok()
    }
}

#[test]
fn relative_urls_lead_beside_the_project_and_the_token_is_in_no_file() {
    let setup = Setup::new();
    let lib = setup.repository.beside("lib");
    setup
        .repository
        .commit_submodules(&[("deps/lib", "../lib.git", &lib)]);
    let done = setup.agent.sources("1", setup.request()).ok();
    let said =
        format!("{GREEN}Updating/initializing submodules with git depth set to 20...{RESET}");
    assert!(done.out().contains(&said), "{}", done.out());
    for line in [
        "Updated submodules",
        "Configuring submodules to use parent git credentials...",
    ] {
        assert!(done.out().contains(&format!("{GREEN}{line}{RESET}")));
    }
    assert!(!done.out().contains("Skipping Git submodules setup"));
    assert_eq!(setup.read("deps/lib/file").as_deref(), Some("lib\n"));
    assert_nowhere(setup.agent.dir.path(), TOKEN);
    assert!(!done.out().contains(TOKEN) && !done.err().contains(TOKEN));

    // Again, with a new commit of the submodule and something left behind in it.
    let lib = setup.repository.commit_beside("lib", "file", "newer\n");
    setup
        .repository
        .commit_submodules(&[("deps/lib", "../lib.git", &lib)]);
    fs::write(setup.agent.project().join("deps/lib/left"), "x").unwrap();
    setup.agent.sources("2", setup.request()).ok();
    assert_eq!(setup.read("deps/lib/file").as_deref(), Some("newer\n"));
    assert_eq!(setup.read("deps/lib/left"), None);
}

#[test]
fn submodules_of_submodules_are_fetched_only_if_recursion_is_asked_for() {
    let setup = Setup::nested();
    setup.agent.sources("1", setup.request()).ok();
    assert_eq!(setup.read("lib/file").as_deref(), Some("lib\n"));
    assert_eq!(setup.read("lib/inner/file"), None);
    let done = setup.agent.sources("2", setup.recursive()).ok();
    assert!(done.out().contains("submodules recursively with git depth"));
    assert_eq!(setup.read("lib/inner/file").as_deref(), Some("inner\n"));
    // Without recursion what is left of the nested one is in nobody's way.
    setup.agent.sources("2 again", setup.request()).ok();
    // Recursively once more.
    setup.agent.sources("3", setup.recursive()).ok();
    assert_eq!(setup.read("lib/inner/file").as_deref(), Some("inner\n"));
}

#[test]
fn paths_choose_submodules_and_flags_reach_git() {
    let setup = Setup::new();
    let commits: Vec<_> = ["a", "b", "c"]
        .map(|name| setup.repository.beside(name))
        .into();
    setup.repository.commit_submodules(&[
        ("a", "../a.git", &commits[0]),
        ("b", "../b.git", &commits[1]),
        ("c", "../c.git", &commits[2]),
    ]);
    let tip = setup.repository.commit_beside("a", "file", "tip\n");
    assert_ne!(tip, commits[0]);
    let some = setup.with(|submodules| {
        submodules.paths = [":(exclude)b", ":(exclude)c"].map(String::from).into();
    });
    setup.agent.sources("1", some).ok();
    assert_eq!(setup.read("a/file").as_deref(), Some("a\n"));
    assert_eq!(setup.read("b/file"), None);
    let remote = setup.with(|submodules| {
        submodules.paths = vec!["a".into()];
        submodules.update_flags = vec!["--remote".into()];
    });
    // Of the first job's submodules one is left out now.
    let without = setup.with(|submodules| submodules.paths = vec![":(exclude)a".into()]);
    setup.agent.sources("without", without).ok();
    assert_eq!(setup.read("b/file").as_deref(), Some("b\n"));
    setup.agent.sources("2", remote).ok();
    assert_eq!(setup.read("a/file").as_deref(), Some("tip\n"));
    let invalid = setup.with(|submodules| {
        submodules.paths = [":(exclude)", "b"].map(String::from).into();
    });
    let done = setup.agent.sources("3", invalid).failed(1);
    assert!(
        done.err()
            .contains("GIT_SUBMODULE_PATHS: invalid submodule pathspec [\":(exclude)\" \"b\"]"),
        "{}",
        done.err()
    );
}

#[test]
fn ssh_addresses_of_the_server_are_fetched_by_http() {
    let setup = Setup::new();
    let lib = setup.repository.beside("lib");
    setup.repository.commit_submodules(&[
        ("scp", "git@gitlab.invalid:group/lib.git", &lib),
        ("ssh", "ssh://git@gitlab.invalid/group/lib.git", &lib),
    ]);
    let mut request = setup.request();
    let host = setup.server.host();
    request.base_urls = vec![
        BaseUrl {
            url: format!("{host}/"),
            instead_of: "git@gitlab.invalid:".into(),
        },
        BaseUrl {
            url: host,
            instead_of: "ssh://git@gitlab.invalid".into(),
        },
    ];
    setup.agent.sources("1", request).ok();
    assert_eq!(setup.read("scp/file").as_deref(), Some("lib\n"));
    assert_eq!(setup.read("ssh/file").as_deref(), Some("lib\n"));
}

#[test]
fn a_submodule_at_the_server_s_other_address_takes_the_token_too() {
    let setup = Setup::new();
    let lib = setup.repository.beside("lib");
    let other = setup.server.host().replace("127.0.0.1", "localhost");
    let url = format!("{other}/group/lib.git");
    setup.repository.commit_submodules(&[("lib", &url, &lib)]);
    let mut request = setup.request();
    setup.agent.sources("1", request.clone()).failed(1);
    request.credential_hosts = vec![other];
    setup.agent.sources("2", request).ok();
    assert_eq!(setup.read("lib/file").as_deref(), Some("lib\n"));
}

#[test]
fn a_submodule_that_cannot_be_fetched_is_tried_again_and_fails_the_stage() {
    let setup = Setup::new();
    setup
        .repository
        .commit_submodules(&[("gone", "../gone.git", &"1".repeat(40))]);
    let done = setup.agent.sources("1", setup.request());
    assert!(
        done.out()
            .contains("\x1b[0;33mUpdating submodules failed. Retrying...\x1b[0;m\n"),
        "{}",
        done.out()
    );
    assert!(done.error.as_ref().unwrap().starts_with("git submodule"));
    assert!(done.err().contains("gone"), "{}", done.err());
}

#[test]
fn one_submodule_that_cannot_be_fetched_is_named_and_the_next_job_gets_all_of_them() {
    let setup = Setup::new();
    let lib = setup.repository.beside("lib");
    let other = setup.repository.beside("other");
    let gone = "1".repeat(40);
    setup.repository.commit_submodules(&[
        ("lib", "../lib.git", &lib),
        ("other", "../other.git", &gone),
        ("third", "../lib.git", &lib),
    ]);
    let done = setup.agent.sources("1", setup.request());
    assert!(
        done.error.is_some() && done.err().contains("'other'"),
        "{}",
        done.err()
    );
    fs::write(setup.agent.project().join("lib/file"), "left dirty").ok();
    setup.repository.commit_submodules(&[
        ("lib", "../lib.git", &lib),
        ("other", "../other.git", &other),
        ("third", "../lib.git", &lib),
    ]);
    setup.agent.sources("2", setup.request()).ok();
    for (file, content) in [("lib", "lib\n"), ("other", "other\n"), ("third", "lib\n")] {
        let read = setup.read(&format!("{file}/file"));
        assert_eq!(read.as_deref(), Some(content), "{file}");
    }
}

#[test]
fn a_submodule_may_change_its_address_go_and_be_a_folder_in_between() {
    let setup = Setup::new();
    let commits: Vec<_> = ["a", "b", "c"]
        .map(|name| setup.repository.beside(name))
        .into();
    let a = ("a", "../a.git", commits[0].as_str());
    let b = ("b", "../b.git", commits[1].as_str());
    setup.repository.commit_submodules(&[a, b]);
    setup.agent.sources("1", setup.recursive()).ok();
    assert_eq!(setup.read("b/file").as_deref(), Some("b\n"));

    // Another address and a commit that only it has.
    let moved = ("a", "../c.git", commits[2].as_str());
    setup.repository.commit_submodules(&[moved, b]);
    setup.agent.sources("2", setup.recursive()).ok();
    assert_eq!(setup.read("a/file").as_deref(), Some("c\n"));

    setup.repository.commit_submodules(&[moved]);
    setup.agent.sources("3", setup.recursive()).ok();
    assert!(!setup.agent.project().join("b").exists());

    setup.repository.commit_submodules(&[moved, b]);
    setup.agent.sources("4", setup.recursive()).ok();
    assert_eq!(setup.read("b/file").as_deref(), Some("b\n"));

    setup.repository.commit_submodules(&[moved]);
    setup.repository.commit("b/plain", "plain\n");
    setup.repository.commit_submodules(&[moved]);
    setup.agent.sources("5", setup.recursive()).ok();
    assert_eq!(setup.read("b/plain").as_deref(), Some("plain\n"));
    assert_eq!(setup.read("b/file"), None);
    assert!(
        !setup.agent.project().join("b/.git").exists(),
        "scripts in the folder would see the submodule's repository"
    );

    setup.repository.git_work(&["rm", "-r", "-q", "b"]);
    setup.repository.commit_submodules(&[moved, b]);
    setup.agent.sources("6", setup.recursive()).ok();
    assert_eq!(setup.read("b/file").as_deref(), Some("b\n"));
    assert_eq!(setup.read("b/plain"), None);
}

#[test]
fn scripts_can_fetch_in_a_submodule_with_the_token_of_their_environment() {
    let setup = Setup::new();
    let lib = setup.repository.beside("lib");
    setup
        .repository
        .commit_submodules(&[("lib", "../lib.git", &lib)]);
    setup.agent.sources("1", setup.request()).ok();
    let fetch = |token: Option<&str>| {
        let mut command = std::process::Command::new("git");
        command
            .args(["-c", "safe.directory=*", "fetch", "-q", "origin", "main"])
            .current_dir(setup.agent.project().join("lib"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent")
            .env("GIT_TERMINAL_PROMPT", "0")
            .envs(token.map(|token| ("CI_JOB_TOKEN", token)));
        command.output().unwrap().status.success()
    };
    assert!(!fetch(None));
    assert!(fetch(Some(TOKEN)));
}

/// job-lifecycle scenario 49
#[test]
fn what_a_former_job_planted_in_submodules_does_not_run() {
    let setup = Setup::nested();
    let witness = setup.agent.path("witness");
    let planted = setup.agent.path("planted");
    fs::write(
        &planted,
        format!("#!/bin/sh\necho ran >> {}\n", witness.display()),
    )
    .unwrap();
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o755)).unwrap();
    let plant = |git: &Path| {
        fs::create_dir_all(git.join("hooks")).unwrap();
        for hook in ["post-checkout", "pre-commit", "post-index-change"] {
            fs::copy(&planted, git.join("hooks").join(hook)).unwrap();
        }
        let config = format!(
            "[core]\n\tfsmonitor = {0}\n\tsshCommand = {0}\n[filter \"x\"]\n\tsmudge = {0}\n[alias]\n\tclean = !{0}\n",
            planted.display()
        );
        let old = fs::read_to_string(git.join("config")).unwrap_or_default();
        fs::write(git.join("config"), old + &config).unwrap();
        fs::create_dir_all(git.join("info")).unwrap();
        fs::write(git.join("info/attributes"), "* filter=x\n").unwrap();
        fs::write(git.join("index.lock"), "").unwrap();
    };
    setup.agent.sources("1", setup.recursive()).ok();
    let project = setup.agent.project();
    plant(&project.join(".git/modules/lib"));
    plant(&project.join(".git/modules/lib/modules/inner"));
    setup.agent.sources("2", setup.recursive()).ok();
    assert!(!witness.exists());
    assert_eq!(setup.read("lib/inner/file").as_deref(), Some("inner\n"));

    // A repository of the job's own in place of the submodule's, and a way to one elsewhere.
    let elsewhere = setup.agent.path("elsewhere");
    let evil = |at: &Path| {
        let output = std::process::Command::new("git")
            .args(["init", "-q"])
            .arg(at)
            .output()
            .unwrap();
        assert!(output.status.success());
        plant(&at.join(".git"));
    };
    evil(&elsewhere);
    fs::remove_file(project.join("lib/.git")).unwrap();
    evil(&project.join("lib"));
    fs::write(
        project.join("lib/inner/.git"),
        format!("gitdir: {}/.git\n", elsewhere.display()),
    )
    .unwrap();
    fs::write(project.join("lib/file"), "changed").unwrap();
    setup.agent.sources("3", setup.recursive()).ok();
    assert!(!witness.exists());
    assert_eq!(setup.read("lib/file").as_deref(), Some("lib\n"));
    assert_eq!(setup.read("lib/inner/file").as_deref(), Some("inner\n"));

    let cleanup = CleanupRequest {
        builds_dir: setup.agent.path("builds"),
        project_dir: project.clone(),
        tmp_dir: setup.agent.tmp(),
        clean_git_config: true,
        ..CleanupRequest::default()
    };
    setup
        .agent
        .connect()
        .run("cleanup", StageRequest::Cleanup(Box::new(cleanup)))
        .ok();
    assert!(!project.join(".git/modules/lib/config").exists());
}

/// Enough that a client that works side by side does.
const MANY: usize = 10;

/// The project gets many submodules, all of them at one commit.
fn commit_many(repository: &Repository, commit: &str) {
    let submodules: Vec<_> = (0..MANY)
        .map(|n| (format!("lib{n}"), format!("../lib{n}.git")))
        .collect();
    let submodules: Vec<_> = submodules
        .iter()
        .map(|(path, url)| (path.as_str(), url.as_str(), commit))
        .collect();
    repository.commit_submodules(&submodules);
}

#[test]
fn many_submodules_are_fetched_side_by_side_at_first_and_when_they_have_changed() {
    let setup = Setup::new();
    let first = setup.repository.beside("lib");
    let group = setup.repository.root().join("group");
    for n in 0..MANY {
        std::os::unix::fs::symlink("lib.git", group.join(format!("lib{n}.git"))).unwrap();
    }
    commit_many(&setup.repository, &first);
    let read = |content: &str| {
        for n in 0..MANY {
            let file = setup.read(&format!("lib{n}/file"));
            assert_eq!(file.as_deref(), Some(content));
        }
    };
    setup.server.answer_only_together(2, "lib");
    setup.agent.sources("1", setup.request()).ok();
    assert!(setup.server.was_asked_together());
    read("lib\n");

    let second = setup.repository.commit_beside("lib", "file", "changed\n");
    commit_many(&setup.repository, &second);
    setup.server.answer_only_together(2, "lib");
    setup.agent.sources("2", setup.request()).ok();
    assert!(setup.server.was_asked_together());
    read("changed\n");

    // Nothing has changed: nobody is asked.
    let asked = || {
        let requests = setup.server.requests();
        let of_libraries = requests
            .iter()
            .filter(|request| request["path"].contains("lib"));
        of_libraries.count()
    };
    let before = asked();
    setup.agent.sources("3", setup.request()).ok();
    assert_eq!(asked(), before);
}

#[test]
fn a_project_without_submodules_is_none_the_worse() {
    let setup = Setup::new();
    let done = setup.agent.sources("1", setup.recursive()).ok();
    assert!(done.out().contains("Updated submodules"));
}

#[test]
fn submodules_that_are_damaged_are_fetched_anew_and_told() {
    let setup = Setup::nested();
    setup.agent.sources("1", setup.recursive()).ok();
    let modules = setup.agent.project().join(".git/modules/lib");
    for (n, damaged) in [&modules, &modules.join("modules/inner")]
        .into_iter()
        .enumerate()
    {
        fs::remove_dir_all(damaged.join("objects")).unwrap();
        fs::create_dir(damaged.join("objects")).unwrap();
        let second = setup.agent.sources(&format!("{n}/2"), setup.recursive());
        let told = "The submodules left by an earlier job are damaged (";
        let second = second.ok();
        assert!(second.out().contains(told), "{}", second.out());
        assert_eq!(setup.read("lib/file").as_deref(), Some("lib\n"));
        assert_eq!(setup.read("lib/inner/file").as_deref(), Some("inner\n"));
        let third = setup.agent.sources(&format!("{n}/3"), setup.recursive());
        assert!(!third.ok().out().contains(told));
    }
}
