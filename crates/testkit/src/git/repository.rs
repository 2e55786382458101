//! Small repositories, made in one go by `git fast-import`: same input, same commit ids.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{failed, git};

/// Builds a bare repository. Starts on branch `main`; commits are a minute apart from 2023-11-14 on.
#[derive(Debug)]
pub struct RepositoryBuilder {
    folder: PathBuf,
    url: String,
    path: String,
    branch: String,
    heads: BTreeMap<String, usize>,
    staged: Vec<u8>,
    import: Vec<u8>,
    submodules: String,
    commits: usize,
}

/// A bare repository that a [`GitHttp`](super::GitHttp) serves.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: PathBuf,
    url: String,
    path: String,
    heads: BTreeMap<String, String>,
    commits: Vec<String>,
}

impl RepositoryBuilder {
    pub(super) fn new(root: &Path, url: &str, path: &str) -> Self {
        Self {
            folder: root.join(format!("{path}.git")),
            url: format!("{url}/{path}.git"),
            path: path.to_owned(),
            branch: "main".to_owned(),
            heads: BTreeMap::new(),
            staged: Vec::new(),
            import: Vec::new(),
            submodules: String::new(),
            commits: 0,
        }
    }

    /// Writes a file for the next commit.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry("100644", path, content.as_ref())
    }

    /// As [`file`](Self::file), executable.
    #[must_use]
    pub fn executable(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry("100755", path, content.as_ref())
    }

    /// Writes a symbolic link for the next commit.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry("120000", path, target.as_bytes())
    }

    /// Adds a submodule to the next commit: a commit of the repository at `url`, which may be relative to this one's.
    #[must_use]
    pub fn submodule(mut self, path: &str, url: &str, commit: &str) -> Self {
        let section = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        self.submodules.push_str(&section);
        let link = format!("M 160000 {commit} {path}\n");
        self.staged.extend_from_slice(link.as_bytes());
        let modules = self.submodules.clone();
        self.file(".gitmodules", modules)
    }

    /// Deletes a file in the next commit.
    #[must_use]
    pub fn delete(mut self, path: &str) -> Self {
        self.staged
            .extend_from_slice(format!("D {path}\n").as_bytes());
        self
    }

    /// Commits what was written since the last commit to the current branch.
    #[must_use]
    pub fn commit(mut self, message: &str) -> Self {
        self.commits += 1;
        let (mark, branch) = (self.commits, &self.branch);
        let time = 1_700_000_000 + 60 * mark;
        let head = format!(
            "commit refs/heads/{branch}\nmark :{mark}\ncommitter Jane Doe <jane@example.com> {time} +0000\n\
             data {}\n{message}\n",
            message.len()
        );
        self.import.extend_from_slice(head.as_bytes());
        self.import.append(&mut self.staged);
        self.heads.insert(self.branch.clone(), mark);
        self
    }

    /// Goes on with this branch; a new one starts at the current commit.
    #[must_use]
    pub fn branch(mut self, name: &str) -> Self {
        if let Some(mark) = self.heads.get(&self.branch).copied()
            && !self.heads.contains_key(name)
        {
            let reset = format!("reset refs/heads/{name}\nfrom :{mark}\n\n");
            self.import.extend_from_slice(reset.as_bytes());
            self.heads.insert(name.to_owned(), mark);
        }
        name.clone_into(&mut self.branch);
        self
    }

    /// Tags the current commit.
    ///
    /// # Panics
    /// Before the first commit of the branch.
    #[must_use]
    pub fn tag(mut self, name: &str) -> Self {
        let mark = self.heads.get(&self.branch).expect("a commit to tag");
        let reset = format!("reset refs/tags/{name}\nfrom :{mark}\n\n");
        self.import.extend_from_slice(reset.as_bytes());
        self.heads.insert(name.to_owned(), *mark);
        self
    }

    /// Makes the repository.
    ///
    /// # Panics
    /// If git is missing or refuses.
    #[must_use]
    pub fn build(self) -> Repository {
        let commits = self
            .import()
            .unwrap_or_else(|error| panic!("repository {}: {error}", self.path));
        let heads = self
            .heads
            .iter()
            .map(|(name, mark)| (name.clone(), commits[mark - 1].clone()))
            .collect();
        Repository {
            folder: self.folder,
            url: self.url,
            path: self.path,
            heads,
            commits,
        }
    }

    fn entry(mut self, mode: &str, path: &str, content: &[u8]) -> Self {
        let head = format!("M {mode} inline {path}\ndata {}\n", content.len());
        self.staged.extend_from_slice(head.as_bytes());
        self.staged.extend_from_slice(content);
        self.staged.push(b'\n');
        self
    }

    fn import(&self) -> io::Result<Vec<String>> {
        std::fs::create_dir_all(&self.folder)?;
        let init = git(&self.folder)
            .args(["init", "--quiet", "--bare", "--initial-branch=main", "."])
            .output()?;
        if !init.status.success() {
            return Err(failed("git init", &init));
        }
        // As a GitLab server: any commit may be fetched by its id.
        let config = git(&self.folder)
            .args(["config", "uploadpack.allowAnySHA1InWant", "true"])
            .output()?;
        if !config.status.success() {
            return Err(failed("git config", &config));
        }
        let mut import = git(&self.folder)
            .args(["fast-import", "--quiet", "--export-marks=marks"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(stdin) = &mut import.stdin {
            stdin.write_all(&self.import)?;
        }
        let output = import.wait_with_output()?;
        if !output.status.success() {
            return Err(failed("git fast-import", &output));
        }
        let marks = std::fs::read_to_string(self.folder.join("marks"))?;
        let mut commits = vec![String::new(); self.commits];
        for line in marks.lines() {
            if let Some((mark, sha)) = line.trim_start_matches(':').split_once(' ')
                && let Ok(mark) = mark.parse::<usize>()
                && let Some(commit) = commits.get_mut(mark.wrapping_sub(1))
            {
                sha.clone_into(commit);
            }
        }
        Ok(commits)
    }
}

impl Repository {
    /// URL without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Project path, e.g. `acme/tools/widget`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The bare repository on disk.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Commit id of a branch or tag.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn sha(&self, name: &str) -> &str {
        self.heads.get(name).expect("a branch or tag of this name")
    }

    /// All commits in the order they were made.
    #[must_use]
    pub fn commits(&self) -> &[String] {
        &self.commits
    }
}
