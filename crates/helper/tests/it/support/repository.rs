//! Bare repositories to fetch from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A bare repository and a worktree to make commits in.
pub(crate) struct Repository {
    root: tempfile::TempDir,
}

impl Repository {
    pub(crate) fn new() -> Self {
        Self::with_format("sha1")
    }

    /// Three commits on `main`: `file` says 1, 2, 3.
    pub(crate) fn with_format(format: &str) -> Self {
        let repository = Self {
            root: tempfile::tempdir().unwrap(),
        };
        let bare = repository.bare();
        fs::create_dir_all(bare.parent().unwrap()).unwrap();
        let format = format!("--object-format={format}");
        git(
            Path::new("/"),
            &[
                "init",
                "-q",
                "--bare",
                &format,
                "-b",
                "main",
                bare.to_str().unwrap(),
            ],
        );
        git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        let work = repository.work();
        git(
            Path::new("/"),
            &["init", "-q", &format, "-b", "main", work.to_str().unwrap()],
        );
        git(&work, &["remote", "add", "origin", bare.to_str().unwrap()]);
        for n in 1..=3 {
            repository.commit("file", &format!("{n}\n"));
        }
        repository
    }

    /// Directory that holds `group/project.git`.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.root.path().join("group/project.git")
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// Commits and pushes a file; gives the commit.
    pub(crate) fn commit(&self, name: &str, content: &str) -> String {
        let work = self.work();
        fs::write(work.join(name), content).unwrap();
        self.commit_all()
    }

    pub(crate) fn commit_link(&self, name: &str, target: &Path) -> String {
        std::os::unix::fs::symlink(target, self.work().join(name)).unwrap();
        self.commit_all()
    }

    fn commit_all(&self) -> String {
        let work = self.work();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "commit"]);
        git(&work, &["push", "-q", "origin", "HEAD:main"]);
        self.head()
    }

    pub(crate) fn head(&self) -> String {
        git(&self.work(), &["rev-parse", "HEAD"])
    }

    pub(crate) fn parent(&self) -> String {
        git(&self.work(), &["rev-parse", "HEAD^"])
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.bare(), args)
    }
}

/// Runs git without anybody's configuration.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "Test")))
        .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "test@example.com")))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
