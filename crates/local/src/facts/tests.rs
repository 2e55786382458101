use rstest::rstest;

use super::*;
use crate::fixture::{Folder, git};

async fn facts(folder: &Path) -> Checkout {
    collect(folder, ".gitlab-ci.yml").await.unwrap()
}

#[tokio::test]
async fn a_repository_tells_commit_branch_remote_and_user() {
    let folder = Folder::repository("shop");
    folder.write("src/a", "1");
    folder.commit("Title\n\nBody $X\nmore\n");
    folder.git(&[
        "remote",
        "add",
        "upstream",
        "https://other.example.com/x/y.git",
    ]);
    folder.git(&[
        "remote",
        "add",
        "origin",
        "git@git.example.com:acme/shop.git",
    ]);
    let checkout = facts(&folder.path().join("src")).await;

    assert_eq!(checkout.root, folder.path());
    assert_eq!(checkout.project.folder, "shop");
    assert_eq!(checkout.project.config_path, ".gitlab-ci.yml");
    assert_eq!(checkout.project.user.name, "Ada Lovelace");
    assert_eq!(checkout.project.user.email, "ada@example.com");
    assert_eq!(checkout.project.user.id, rustix::process::getuid().as_raw());
    let dirs = checkout.git_dirs.unwrap();
    assert_eq!(dirs.own, folder.path().join(".git"));
    assert_eq!(dirs.common, dirs.own);
    let facts = checkout.git;
    assert_eq!(facts.branch.as_deref(), Some("main"));
    assert_eq!(facts.tag, None);
    assert_eq!(facts.default_branch.as_deref(), Some("main"));
    assert_eq!(
        facts.remote_url.as_deref(),
        Some("git@git.example.com:acme/shop.git")
    );
    assert!(!facts.sha256);
    let commit = facts.commit.unwrap();
    assert_eq!(commit.sha, folder.git(&["rev-parse", "HEAD"]));
    assert_eq!(commit.message, "Title\n\nBody $X\nmore\n");
    assert_eq!(commit.author, "Ada Lovelace <ada@example.com>");
    assert_eq!(commit.timestamp, "2026-01-02T03:04:05+00:00");
}

#[tokio::test]
async fn a_repository_without_commits_has_a_branch_and_no_commit() {
    let folder = Folder::repository("shop");
    let facts = facts(folder.path()).await.git;
    assert_eq!(facts.branch.as_deref(), Some("main"));
    assert_eq!(facts.commit, None);
    assert_eq!(facts.remote_url, None);
    assert_eq!(facts.default_branch, None);
}

#[tokio::test]
async fn a_detached_head_has_its_newest_tag_and_no_branch() {
    let folder = Folder::repository("shop");
    folder.commit("one");
    folder.git(&["tag", "v1.9"]);
    folder.git(&["tag", "v1.10"]);
    folder.git(&["checkout", "--quiet", "--detach"]);
    let facts = facts(folder.path()).await.git;
    assert_eq!(
        (facts.branch.as_deref(), facts.tag.as_deref()),
        (None, Some("v1.10"))
    );
}

#[tokio::test]
async fn the_head_of_the_remote_names_the_default_branch() {
    let origin = Folder::repository("origin");
    origin.commit("one");
    origin.git(&["branch", "--quiet", "-m", "trunk/main"]);
    let clone = origin.beside("clone");
    origin.git(&["clone", "--quiet", ".", clone.to_str().unwrap()]);
    git(&clone, &["checkout", "--quiet", "-b", "feature"]);
    let facts = facts(&clone).await.git;
    assert_eq!(facts.default_branch.as_deref(), Some("trunk/main"));
    assert_eq!(facts.branch.as_deref(), Some("feature"));
}

#[tokio::test]
async fn master_is_the_default_branch_where_nothing_else_is_known() {
    let folder = Folder::repository("shop");
    folder.git(&["checkout", "--quiet", "-b", "master"]);
    folder.commit("one");
    folder.git(&["checkout", "--quiet", "-b", "feature"]);
    assert_eq!(
        facts(folder.path()).await.git.default_branch.as_deref(),
        Some("master")
    );
}

#[tokio::test]
async fn a_linked_worktree_shares_the_common_directory() {
    let folder = Folder::repository("shop");
    folder.commit("one");
    let linked = folder.beside("linked");
    folder.git(&[
        "worktree",
        "add",
        "--quiet",
        "-b",
        "side",
        linked.to_str().unwrap(),
    ]);
    let checkout = facts(&linked).await;
    let dirs = checkout.git_dirs.unwrap();
    assert_eq!(checkout.root, linked);
    assert_eq!(dirs.common, folder.path().join(".git"));
    assert_eq!(dirs.own, folder.path().join(".git/worktrees/linked"));
    assert_eq!(checkout.git.branch.as_deref(), Some("side"));
}

#[tokio::test]
async fn sha256_repositories_are_told_apart() {
    let folder = Folder::new("shop");
    folder.git(&["init", "--quiet", "--object-format=sha256"]);
    assert!(facts(folder.path()).await.git.sha256);
}

#[tokio::test]
async fn a_folder_without_git_has_a_name_and_a_user() {
    let folder = Folder::new("plain");
    let checkout = facts(folder.path()).await;
    assert_eq!(checkout.root, folder.path());
    assert_eq!(checkout.git_dirs, None);
    assert_eq!(checkout.git, GitFacts::default());
    assert_eq!(checkout.project.folder, "plain");
}

#[rstest]
#[case("gitdir: /nowhere\n")]
#[case("nonsense")]
#[tokio::test]
async fn a_broken_repository_is_an_error_that_says_what_git_said(#[case] text: &str) {
    let folder = Folder::new("broken");
    folder.write(".git", text);
    let error = collect(folder.path(), "f").await.unwrap_err();
    assert!(
        error.to_string().starts_with("git rev-parse failed in "),
        "{error}"
    );
    assert!(error.to_string().contains("fatal: "), "{error}");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let error = collect(Path::new("/no/such/folder"), "f")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot read the folder /no/such/folder");
}
