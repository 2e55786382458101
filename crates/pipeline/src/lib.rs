//! From `.gitlab-ci.yml` to jobs and their order, and from a job to the payload that an executor
//! takes. Pure: text and facts in, data or problems out; no file, clock, network or process.
//!
//! The way of a file, one module per step:
//! 1. [`source`]: text with a name; every place in it is a [`Span`].
//! 2. [`yaml`]: text → a tree of [`yaml::Node`]s with spans, tags and styles, anchors and merge
//!    keys resolved and scalars typed as GitLab's YAML parser does.
//! 3. `read`: tree → [`Pipeline`]. All problems are collected, each with its place; a keyword that
//!    is not supported yet is one of them, so that nothing is dropped in silence.
//! 4. [`predefined`] and [`expand`]: the variables a GitLab server would add, and the expansion it
//!    would do.
//! 5. [`payload`]: [`PipelineJob`] + facts → [`gantry_job::JobPayload`].
//!
//! Passes that GitLab does on the tree before reading it (`include`, `spec:inputs`, `extends`,
//! `!reference`) belong between steps 2 and 3: they take and give [`yaml::Node`]s.
//!
//! Behaviour: local-pipelines A1, A2, A5, A9, C1–C4. Text that comes from a stranger is safe to
//! parse: sizes, depth and alias expansion are bounded ([`yaml::Limits`]).

pub mod expand;
pub mod payload;
pub mod pipeline;
pub mod predefined;
pub mod problem;
pub mod source;
pub mod yaml;

mod excerpt;
mod keywords;
mod read;
mod suggest;

pub use payload::{KeyHashes, LocalRun, missing_secrets, to_payload};
pub use pipeline::{
    AllowFailure, Artifacts, Cache, CacheKey, DOTENV, DockerOptions, Image, JobSecret, KeyBy,
    KeyFiles, Need, Pipeline, PipelineJob, PullPolicy, Report, Service, StageJobs, UnknownJobs,
    Variable, When,
};
pub use predefined::{Commit, GitFacts, Giver, JobFacts, ProjectFacts, UserFacts};
pub use problem::{PipelineError, Problem, ProblemKind, Severity};
pub use source::{Position, Source, SourceId, Span};

/// Reads a pipeline.
///
/// `name` is what messages call the file, usually its path from the root of the repository. The
/// error holds every problem of the file, each with its place; warnings of a good file are in
/// [`Pipeline::warnings`]. Never panics, whatever the text.
///
/// # Errors
/// When GitLab would refuse the file, or when it uses a keyword that is not supported yet.
pub fn parse(name: &str, text: &str) -> Result<Pipeline, PipelineError> {
    read::read(&Source::new(SourceId::default(), name, text))
}

/// As [`parse`], from the bytes of a file: anything but UTF-8 (with or without a byte order mark)
/// is a problem that shows where.
///
/// # Errors
/// As [`parse`].
pub fn parse_bytes(name: &str, bytes: &[u8]) -> Result<Pipeline, PipelineError> {
    match source::decode(name, bytes) {
        Ok(source) => read::read(&source),
        Err(problem) => Err(PipelineError::new(name, vec![*problem])),
    }
}

/// Reads a file of variables: a map of names and values, which are text, numbers or booleans.
///
/// # Errors
/// When it is something else. The problems name places and no values.
pub fn parse_variables(name: &str, bytes: &[u8]) -> Result<Vec<Variable>, PipelineError> {
    match source::decode(name, bytes) {
        Ok(source) => read::variables(&source),
        Err(problem) => Err(PipelineError::new(name, vec![*problem])),
    }
}
