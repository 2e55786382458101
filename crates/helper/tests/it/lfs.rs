//! LFS with Debian's `git-lfs` and a stand-in for the LFS server: the real protocol, as far as downloads go.

use std::{fs, path::PathBuf};

use gantry_agent::{SourcesRequest, Submodules};

use crate::support::{Agent, GitServer, Repository, assert_nowhere};

const TOKEN: &str = "glcbt-64_s3cretTokenOfTheJob";
const ATTRIBUTES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn git_lfs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("git-lfs"))
        .find(|file| file.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: git-lfs is not installed");
    }
    found
}

#[test]
fn files_come_with_the_token_for_project_and_submodules_unless_they_are_not_wanted() {
    if git_lfs().is_none() {
        return;
    }
    let (agent, repository) = (Agent::start(), Repository::new());
    let server = GitServer::start(repository.root(), "gitlab-ci-token", TOKEN);
    repository.beside("lib");
    repository.commit_beside("lib", ".gitattributes", ATTRIBUTES);
    let pointer = repository.lfs_pointer("large in the submodule\n");
    let lib = repository.commit_beside("lib", "sub.bin", &pointer);
    repository.commit(".gitattributes", ATTRIBUTES);
    let pointer = repository.lfs_pointer("large in the project\n");
    repository.commit("data.bin", &pointer);
    repository.commit_submodules(&[("lib", "../lib.git", &lib)]);
    let request = |lfs_skip| SourcesRequest {
        repo_url: server.url(),
        token: TOKEN.into(),
        sha: repository.head(),
        refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
        submodules: Some(Submodules::default()),
        lfs_skip,
        ..agent.request()
    };
    let read = |path: &str| fs::read_to_string(agent.project().join(path)).unwrap();

    let done = agent.sources("1", request(true)).ok();
    assert!(read("data.bin").starts_with("version https://git-lfs"));
    assert!(!done.out().contains("Pulling LFS files..."));

    let done = agent.sources("2", request(false)).ok();
    assert_eq!(read("data.bin"), "large in the project\n", "{}", done.err());
    assert_eq!(read("lib/sub.bin"), "large in the submodule\n");
    assert!(done.out().contains("Pulling LFS files..."));
    assert!(!done.out().contains(TOKEN) && !done.err().contains(TOKEN));
    assert_nowhere(agent.dir.path(), TOKEN);
}
