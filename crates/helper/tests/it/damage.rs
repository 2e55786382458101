//! A kept directory that an earlier job, or a crash, has left in disorder must not fail a job that would pass in an empty one.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use gantry_agent::{ObjectFormat, SourcesRequest};
use rstest::rstest;

use crate::{
    sources::{content, request},
    support::{Agent, Finished, Repository},
};

const STARTED_ANEW: &str = "The repository left by an earlier job may be damaged (";
const INDEX_IS_USELESS: &str =
    "The index left by an earlier job cannot be used. Writing all files anew...";

/// An agent whose project directory has had one job, and a repository with a commit more.
fn used() -> (Agent, Repository) {
    let (agent, repository) = (Agent::start(), Repository::new());
    repository.commit("folder/old", "old\n");
    agent.sources("first", request(&agent, &repository)).ok();
    (agent, repository)
}

/// Runs a script of an earlier job in the project directory.
fn job(agent: &Agent, script: &str) {
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(agent.project())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", agent.path("nowhere"))
        .env("GIT_CONFIG_COUNT", "3")
        .envs([
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
        ])
        .envs([
            ("GIT_CONFIG_KEY_1", "user.name"),
            ("GIT_CONFIG_VALUE_1", "Test"),
        ])
        .envs([
            ("GIT_CONFIG_KEY_2", "user.email"),
            ("GIT_CONFIG_VALUE_2", "test@example.com"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

fn git(agent: &Agent, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(agent.project())
        .env("HOME", agent.path("nowhere"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The tree is that of the head, and git in scripts works.
fn assert_good(agent: &Agent, repository: &Repository, what: &str) {
    assert_eq!(
        git(agent, &["rev-parse", "HEAD"]),
        repository.head(),
        "{what}"
    );
    assert_eq!(
        git(agent, &["status", "--porcelain", "--ignored"]),
        "",
        "{what}"
    );
    git(agent, &["rev-list", "--objects", "--all", "--quiet"]);
    assert!(!agent.tmp().join("git-aside").exists(), "{what}");
}

fn says(done: &Finished, words: &str) -> bool {
    done.out().contains(words)
}

/// All of it is put right before git is run, and not worth a word.
#[rstest]
#[case::locks(
    "cd .git; mkdir -p refs/heads/x; touch index.lock shallow.lock HEAD.lock config.lock packed-refs.lock refs/heads/x/y.lock refs/remotes/origin/main.lock"
)]
#[case::head_cut_short(": > .git/HEAD")]
#[case::head_of_garbage("head -c 100 /dev/urandom > .git/HEAD")]
#[case::head_is_a_directory("rm .git/HEAD; mkdir .git/HEAD; : > .git/HEAD/x")]
#[case::configuration_of_garbage("echo '[[[' > .git/config")]
#[case::configuration_is_a_directory("rm .git/config; mkdir -p .git/config/x")]
#[case::hooks(
    "mkdir -p .git/hooks; for it in post-checkout reference-transaction; do printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/$it; chmod +x .git/hooks/$it; done"
)]
#[case::skipped("git update-index --skip-worktree file; echo mine > file")]
#[case::skipped_and_gone("git update-index --skip-worktree file; rm file")]
#[case::assumed("git update-index --assume-unchanged file; echo mine > file")]
#[case::sparse("git sparse-checkout set --no-cone /folder/; test ! -e file")]
#[case::added_in_part("echo x > x; git add -N x")]
#[case::replaced("git replace HEAD HEAD^^")]
#[case::replaced_and_packed("git replace HEAD HEAD^^; git pack-refs --all --prune")]
#[case::grafts("mkdir -p .git/info; git rev-parse HEAD > .git/info/grafts")]
#[case::branch_in_the_way(
    "git update-ref -d refs/remotes/origin/main; git update-ref refs/remotes/origin/main/x HEAD"
)]
#[case::packed_branch_in_the_way(
    "git update-ref -d refs/remotes/origin/main; git update-ref refs/remotes/origin/main/x HEAD; git pack-refs --all --prune"
)]
#[case::branch_above_in_the_way(
    "git update-ref -d refs/remotes/origin/main; rm -rf .git/refs/remotes/origin; git update-ref refs/remotes/origin HEAD"
)]
#[case::merge_begun(
    "git checkout -q -b side HEAD^; echo mine > folder/old || { mkdir folder; echo mine > folder/old; }; git add -A; git commit -q -m x; git merge origin/main >/dev/null || test -e .git/MERGE_HEAD"
)]
#[case::no_objects_directory_but_git("rm -rf .git/refs .git/info .git/logs")]
#[case::excluded(
    "echo '*' >> .git/info/exclude 2>/dev/null || { mkdir -p .git/info; echo '*' > .git/info/exclude; }; touch left"
)]
#[case::closed_directories(
    "mkdir -p a/b; touch a/b/c; chmod 0 a/b a/b/c; chmod 500 a folder; chmod 400 file .git/index; chmod 500 .git .git/objects .git/refs"
)]
fn what_a_job_leaves_is_put_right(#[case] script: &str) {
    let (agent, repository) = used();
    job(&agent, script);
    repository.commit("other", "x");
    let done = agent.sources("second", request(&agent, &repository)).ok();
    assert!(!says(&done, STARTED_ANEW), "{}{}", done.out(), done.err());
    assert!(!says(&done, INDEX_IS_USELESS), "{}", done.out());
    // Without a HEAD it is none to git, which keeps what is there all the same.
    let again = says(&done, "Reinitialized existing Git repository in ");
    assert_eq!(again, !script.contains("> .git/HEAD"), "{}", done.out());
    assert_eq!(done.err(), "");
    assert_eq!(content(&agent), "3\n");
    assert_good(&agent, &repository, script);
}

#[rstest]
#[case::empty(": > .git/index", true)]
#[case::cut_short("head -c 100 .git/index > x; mv x .git/index", true)]
#[case::garbage("head -c 1000 /dev/urandom > .git/index", true)]
#[case::directory("rm .git/index; mkdir .git/index", true)]
#[case::split("git update-index --split-index; rm .git/sharedindex.*", true)]
#[case::sparse("git sparse-checkout set --cone --sparse-index other", true)]
#[case::none("rm .git/index", false)]
fn a_damaged_index_costs_a_whole_checkout_and_no_more(#[case] script: &str, #[case] told: bool) {
    let (agent, repository) = used();
    job(&agent, script);
    job(&agent, "echo mine > file; touch untracked");
    repository.git_work(&["rm", "-q", "-r", "folder"]);
    repository.commit("other", "x");
    let wanted = SourcesRequest {
        // Files of the commit before go all the same.
        clean_flags: told.then(|| ["-ffdx", "-e", "folder"].map(String::from).to_vec()),
        ..request(&agent, &repository)
    };
    let done = agent.sources("second", wanted).ok();
    assert_eq!(says(&done, INDEX_IS_USELESS), told, "{}", done.out());
    assert!(!says(&done, STARTED_ANEW));
    assert_eq!(content(&agent), "3\n");
    assert!(agent.project().join("other").exists());
    assert_eq!(agent.project().join("folder").exists(), !told);
    assert_eq!(agent.project().join("untracked").exists(), !told);
}

/// Git fails, and is asked once more in an empty repository.
#[rstest]
#[case::empty_object(": > OBJECT", true)]
#[case::damaged_object("head -c 40 /dev/urandom > OBJECT", true)]
#[case::lost_commit("rm -f OBJECT", false)]
#[case::lost_blob(
    "rm -f \"$(git rev-parse HEAD:folder/old | sed 's#^..#.git/objects/&/#')\"; rm folder/old",
    true
)]
#[case::empty_blob(
    "at=\"$(git rev-parse HEAD:folder/old | sed 's#^..#.git/objects/&/#')\"; chmod +w $at; : > $at; rm folder/old",
    true
)]
#[case::damaged_pack(
    "git repack -q -a -d; pack=$(ls .git/objects/pack/*.pack); chmod +w $pack; head -c 100 $pack > x; mv x $pack; rm file folder/old",
    false
)]
#[case::lost_pack(
    "git repack -q -a -d; rm -f .git/objects/pack/*.pack; rm file folder/old",
    false
)]
#[case::objects_are_a_file("rm -rf .git/objects; touch .git/objects", true)]
#[case::refs_are_a_file("rm -rf .git/refs; touch .git/refs", false)]
#[case::packed_refs_of_garbage("printf 'garbage\\n\\n' > .git/packed-refs", true)]
#[case::ref_of_garbage("echo garbage > .git/refs/remotes/origin/main", true)]
#[case::empty_ref(": > .git/refs/remotes/origin/main", true)]
#[case::ref_to_nothing(
    "echo 1111111111111111111111111111111111111111 > .git/refs/remotes/origin/main",
    true
)]
#[case::shallow_of_garbage("echo garbage > .git/shallow", true)]
#[case::shallow_to_nothing("echo 1111111111111111111111111111111111111111 > .git/shallow", false)]
#[case::alternates_that_are_gone(
    "mkdir -p ../alternate/objects; git repack -q -a -d; mv .git/objects/pack ../alternate/objects/; mkdir -p .git/objects/info; echo \"$PWD/../alternate/objects\" > .git/objects/info/alternates; rm -rf ../alternate; rm file folder/old",
    false
)]
fn a_damaged_repository_is_replaced_within_the_attempt(
    #[case] script: &str,
    #[case] replaced: bool,
) {
    let (agent, repository) = used();
    let object = "\"$(git rev-parse HEAD | sed 's#^..#.git/objects/&/#')\"";
    let open = "chmod -R u+w .git; test -e .git/objects/pack/*.pack && { mv .git/objects/pack/*.pack ../p; for it in ../p; do git unpack-objects -q < $it; done; rm -f .git/objects/pack/*; }; chmod -R u+w .git; ";
    job(
        &agent,
        &format!("{open}{}", script.replace("OBJECT", object)),
    );
    fs::write(agent.project().join("untracked"), "x").unwrap();
    let done = agent.sources("second", request(&agent, &repository)).ok();
    assert_eq!(content(&agent), "3\n", "{}{}", done.out(), done.err());
    // What git passes over by itself needs no new repository.
    assert_eq!(
        says(&done, STARTED_ANEW),
        replaced,
        "{}{}",
        done.out(),
        done.err()
    );
    assert_eq!(
        says(&done, "Initialized empty Git repository in "),
        replaced
    );
    assert_good(&agent, &repository, script);
    // The next one is as any other.
    let third = agent.sources("third", request(&agent, &repository)).ok();
    assert!(!says(&third, STARTED_ANEW));
    assert!(!replaced || third.err().is_empty(), "{}", third.err());
}

#[test]
fn files_of_the_last_commit_go_with_a_damaged_repository_though_nothing_is_cleaned() {
    let (agent, repository) = used();
    job(&agent, "rm -rf .git/objects; touch .git/objects");
    repository.git_work(&["rm", "-q", "-r", "folder"]);
    repository.commit("other", "x");
    let wanted = SourcesRequest {
        clean_flags: None,
        ..request(&agent, &repository)
    };
    let done = agent.sources("second", wanted).ok();
    assert!(says(&done, STARTED_ANEW), "{}", done.out());
    assert!(!agent.project().join("folder").exists());
    assert_good(&agent, &repository, "none");
}

#[test]
fn a_sparse_checkout_stays_where_the_configuration_is_to_be_kept() {
    let (agent, repository) = used();
    let wanted = || SourcesRequest {
        clean_git_config: false,
        ..request(&agent, &repository)
    };
    agent.sources("kept", wanted()).ok();
    job(
        &agent,
        "git sparse-checkout set --cone --sparse-index other",
    );
    repository.commit("other/new", "x");
    let done = agent.sources("second", wanted()).ok();
    assert!(!says(&done, INDEX_IS_USELESS), "{}", done.out());
    assert!(agent.project().join("other/new").exists());
    assert!(!agent.project().join("folder").exists());
}

#[rstest]
#[case::configuration("echo '[[[' > .git/config")]
#[case::index(": > .git/index")]
fn what_is_damaged_of_a_kept_configuration_costs_the_repository(#[case] script: &str) {
    let (agent, repository) = used();
    job(&agent, script);
    let wanted = SourcesRequest {
        clean_git_config: false,
        ..request(&agent, &repository)
    };
    let done = agent.sources("second", wanted).ok();
    assert!(says(&done, STARTED_ANEW), "{}", done.out());
    assert_good(&agent, &repository, script);
}

/// The server's fault, or the payload's: the error is told once, and what is kept stays.
#[test]
fn a_failure_that_is_not_the_repositorys_costs_nothing_that_is_kept() {
    let (agent, repository) = used();
    job(&agent, "git update-ref refs/heads/mine HEAD");
    let good = || request(&agent, &repository);
    let gone = |name: &str| vec![format!("+refs/heads/{name}:refs/remotes/origin/{name}")];
    for (n, (wanted, words)) in [
        (
            SourcesRequest {
                refspecs: gone("none"),
                ..good()
            },
            "couldn't find remote ref refs/heads/none",
        ),
        (
            SourcesRequest {
                sha: "1".repeat(40),
                ..good()
            },
            "fatal: reference is not a tree: 1111",
        ),
        (
            SourcesRequest {
                repo_url: "file:///nowhere".into(),
                ..good()
            },
            "'/nowhere' does not appear to be a git repository",
        ),
        (
            SourcesRequest {
                fetch_flags: vec!["--nonsense".into()],
                ..good()
            },
            "git does not know what GIT_FETCH_EXTRA_FLAGS says; its own words are above",
        ),
        (
            SourcesRequest {
                clean_flags: Some(vec!["--nonsense".into()]),
                ..good()
            },
            "git does not know what GIT_CLEAN_FLAGS says; its own words are above",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let done = agent.sources(&n.to_string(), wanted);
        assert_ne!(done.exit_code, 0, "{words}");
        assert!(!says(&done, STARTED_ANEW), "{words}: {}", done.out());
        assert_eq!(
            done.err().matches(words).count(),
            1,
            "{words}: {}",
            done.err()
        );
        assert_eq!(
            git(&agent, &["rev-parse", "refs/heads/mine"]),
            repository.head()
        );
    }
    // A word that git takes for one of its own is only known to be wrong when it fails in an empty repository, too.
    let wanted = SourcesRequest {
        fetch_flags: vec!["--filter=nonsense".into()],
        ..good()
    };
    let done = agent.sources("filter", wanted).failed(128);
    assert!(says(&done, STARTED_ANEW), "{}", done.out());
    assert_eq!(
        git(&agent, &["rev-parse", "refs/heads/mine"]),
        repository.head()
    );
    assert!(!agent.tmp().join("git-aside").exists());
}

/// It is empty, as a new one: another attempt is for the attempts of the job.
#[test]
fn a_repository_of_an_attempt_that_fetched_nothing_is_not_suspected() {
    let (agent, repository) = (Agent::start(), Repository::new());
    let wanted = || SourcesRequest {
        // What the server has not is asked for by its hash, which no list of references tells.
        refspecs: vec![format!("+{}:refs/pipelines/1", "1".repeat(40))],
        ..request(&agent, &repository)
    };
    for id in ["1", "2"] {
        let done = agent.sources(id, wanted());
        assert_ne!(done.exit_code, 0);
        assert!(!says(&done, STARTED_ANEW), "{}", done.out());
    }
    agent.sources("3", request(&agent, &repository)).ok();
    // One that holds something may be to blame.
    assert!(says(&agent.sources("4", wanted()), STARTED_ANEW));
    assert_good(&agent, &repository, "not ours");
}

/// As after a crash in the middle of the second try.
#[test]
fn a_repository_that_was_left_aside_goes() {
    let (agent, repository) = used();
    fs::rename(agent.project().join(".git"), agent.tmp().join("git-aside")).unwrap();
    agent.sources("second", request(&agent, &repository)).ok();
    assert_good(&agent, &repository, "aside");
}

/// `HEAD` of a script's branch does not tell the hash of a repository.
#[rstest]
#[case("sha1", "sha256")]
#[case("sha256", "sha1")]
fn a_project_that_changes_its_hash_is_fetched_anew(#[case] before: &str, #[case] after: &str) {
    let format = |name: &str| match name {
        "sha256" => ObjectFormat::Sha256,
        _ => ObjectFormat::Sha1,
    };
    let agent = Agent::start();
    let old = Repository::with_format(before);
    let new = Repository::with_format(after);
    let wanted = |repository: &Repository, name| SourcesRequest {
        object_format: format(name),
        ..request(&agent, repository)
    };
    agent.sources("1", wanted(&old, before)).ok();
    job(&agent, "git checkout -q -b mine");
    let done = agent.sources("2", wanted(&new, after)).ok();
    assert!(
        says(&done, "Initialized empty Git repository in "),
        "{}",
        done.out()
    );
    assert_eq!(done.err(), "");
    assert_good(&agent, &new, after);
}

/// Somebody else's files, and directories that let nobody in.
#[test]
fn files_of_another_user_are_no_hindrance() {
    let (agent, repository) = used();
    job(
        &agent,
        "mkdir -p built/deep; touch built/deep/file; echo mine > file",
    );
    if chown(&agent.project(), "1234:1234") {
        repository.commit("other", "x");
        agent.sources("second", request(&agent, &repository)).ok();
        assert_eq!(content(&agent), "3\n");
        assert!(!agent.project().join("built").exists());
    }
    fs::set_permissions(agent.project(), fs::Permissions::from_mode(0o700)).unwrap();
}

/// Only root may.
fn chown(path: &Path, owner: &str) -> bool {
    let chown = Command::new("chown").args(["-R", owner]).arg(path).output();
    chown.unwrap().status.success()
}
