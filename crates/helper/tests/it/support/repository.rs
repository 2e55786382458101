//! Bare repositories to fetch from.

use std::{
    fmt::Write as _,
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
        let path = work.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.commit_all()
    }

    pub(crate) fn commit_link(&self, name: &str, target: &Path) -> String {
        std::os::unix::fs::symlink(target, self.work().join(name)).unwrap();
        self.commit_all()
    }

    /// Another repository beside it, with one commit of a `file` that says its name; gives the commit.
    pub(crate) fn beside(&self, name: &str) -> String {
        let (bare, work) = (
            self.root.path().join(format!("group/{name}.git")),
            self.root.path().join(format!("work-{name}")),
        );
        let init = ["init", "-q", "-b", "main"];
        git(
            Path::new("/"),
            &[&init[..], &["--bare", bare.to_str().unwrap()]].concat(),
        );
        git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        git(
            Path::new("/"),
            &[&init[..], &[work.to_str().unwrap()]].concat(),
        );
        self.commit_beside(name, "file", &format!("{name}\n"))
    }

    /// Commits a file to a repository that was made by [`Self::beside`].
    pub(crate) fn commit_beside(&self, name: &str, file: &str, content: &str) -> String {
        let work = self.root.path().join(format!("work-{name}"));
        fs::write(work.join(file), content).unwrap();
        self.push_beside(name)
    }

    fn push_beside(&self, name: &str) -> String {
        let work = self.root.path().join(format!("work-{name}"));
        git(&work, &["add", "-A", "--", "."]);
        git(&work, &["commit", "-q", "-m", "commit"]);
        let bare = self.root.path().join(format!("group/{name}.git"));
        git(&work, &["push", "-q", bare.to_str().unwrap(), "HEAD:main"]);
        git(&work, &["rev-parse", "HEAD"])
    }

    /// Makes an LFS file of these bytes: gives the pointer to commit, and puts the content where the LFS server has it.
    pub(crate) fn lfs_pointer(&self, content: &str) -> String {
        let objects = self.root.path().join("lfs");
        fs::create_dir_all(&objects).unwrap();
        let new = objects.join("new");
        fs::write(&new, content).unwrap();
        let output = Command::new("sha256sum").arg(&new).output().unwrap();
        let oid = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
        fs::rename(new, objects.join(&oid)).unwrap();
        let size = content.len();
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
    }

    /// Commits submodules: path, URL and commit of each.
    pub(crate) fn commit_submodules(&self, submodules: &[(&str, &str, &str)]) -> String {
        link_submodules(&self.work(), submodules);
        git(&self.work(), &["commit", "-q", "-m", "submodules"]);
        git(&self.work(), &["push", "-q", "origin", "HEAD:main"]);
        self.head()
    }

    /// The same for a repository that was made by [`Self::beside`].
    pub(crate) fn commit_submodules_beside(
        &self,
        name: &str,
        submodules: &[(&str, &str, &str)],
    ) -> String {
        let work = self.root.path().join(format!("work-{name}"));
        link_submodules(&work, submodules);
        git(&work, &["commit", "-q", "-m", "submodules"]);
        let bare = self.root.path().join(format!("group/{name}.git"));
        git(&work, &["push", "-q", bare.to_str().unwrap(), "HEAD:main"]);
        git(&work, &["rev-parse", "HEAD"])
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

    /// Runs git where commits are made.
    pub(crate) fn git_work(&self, args: &[&str]) -> String {
        git(&self.work(), args)
    }
}

/// Puts submodules into an index, without their repositories; those that were there go.
fn link_submodules(work: &Path, submodules: &[(&str, &str, &str)]) {
    let listed = git(work, &["ls-files", "--stage"]);
    let before = listed.lines().filter(|line| line.starts_with("160000 "));
    for path in before.filter_map(|line| line.split('\t').nth(1)) {
        git(work, &["update-index", "--force-remove", path]);
    }
    let mut modules = String::new();
    for (path, url, commit) in submodules {
        writeln!(
            modules,
            "[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}"
        )
        .unwrap();
        let entry = format!("160000,{commit},{path}");
        git(work, &["update-index", "--add", "--cacheinfo", &entry]);
    }
    fs::write(work.join(".gitmodules"), modules).unwrap();
    git(work, &["add", ".gitmodules"]);
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
