//! What a job keeps: artifacts, reports and caches; and when it runs.

/// `when` of a job, of artifacts and of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum When {
    /// If what comes before went well.
    #[default]
    OnSuccess,
    /// If it did not.
    OnFailure,
    /// However it went.
    Always,
}

impl When {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OnSuccess, Self::OnFailure, Self::Always];

    /// As written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnSuccess => "on_success",
            Self::OnFailure => "on_failure",
            Self::Always => "always",
        }
    }
}

/// `artifacts`. Nothing in it is expanded yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// Name of the archive; empty means the default.
    pub name: String,
    /// Patterns of what is kept.
    pub paths: Vec<String>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Everything that git does not know.
    pub untracked: bool,
    /// After which end of the scripts.
    pub when: When,
    /// As written; without effect in a local run.
    pub expire_in: String,
    /// `reports`, in the order of the file.
    pub reports: Vec<Report>,
}

impl Artifacts {
    /// Whether there is anything to keep.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.untracked && self.reports.is_empty()
    }
}

/// The type of the report whose lines become variables of later jobs.
pub const DOTENV: &str = "dotenv";

/// One of `artifacts:reports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Type as payloads have it: `junit`, `dotenv`, `cobertura`, ….
    pub kind: String,
    /// Patterns.
    pub paths: Vec<String>,
}

/// One of `cache`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    /// Key.
    pub key: CacheKey,
    /// Patterns of what is kept.
    pub paths: Vec<String>,
    /// Everything that git does not know.
    pub untracked: bool,
    /// After which end of the scripts it is saved.
    pub when: When,
    /// `pull-push` (also when empty), `pull`, `push`, or a variable that says so.
    pub policy: String,
    /// Keys that are tried after the first, not yet expanded.
    pub fallback_keys: Vec<String>,
}

/// `cache:key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheKey {
    /// Text, not yet expanded.
    Text(String),
    /// Made of files of the working tree.
    Files(KeyFiles),
}

impl Default for CacheKey {
    fn default() -> Self {
        Self::Text(DEFAULT_KEY.to_owned())
    }
}

/// Key of a cache that names none, or whose files are not there.
pub const DEFAULT_KEY: &str = "default";

/// `cache:key:files` and `cache:key:files_commits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// Paths from the root, one or two.
    pub files: Vec<String>,
    /// What of them counts.
    pub by: KeyBy,
    /// Put before, not yet expanded; may be empty.
    pub prefix: String,
}

/// What of a file makes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyBy {
    /// Its content.
    Content,
    /// The last commit that changed it.
    Commit,
}

/// Whose artifacts a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// A job of the pipeline, one cell of it where it is a parallel one.
    pub job: String,
    /// Whether its artifacts are wanted.
    pub artifacts: bool,
}
