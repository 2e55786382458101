//! A pipeline: jobs, their stages, and what each of them runs.

use std::collections::HashMap;
use std::fmt;

use crate::problem::{Problem, ProblemKind};
use crate::source::{Source, Span};
use crate::suggest::nearest;

mod archives;
mod receives;

pub use archives::{
    Artifacts, Cache, CacheKey, DEFAULT_KEY, DOTENV, KeyBy, KeyFiles, Need, Report, When,
};

/// Stage that runs before all others.
pub const PRE_STAGE: &str = ".pre";
/// Stage that runs after all others.
pub const POST_STAGE: &str = ".post";
/// Stage of a job that names none.
pub const DEFAULT_STAGE: &str = "test";
/// Stages of a file that names none, without `.pre` and `.post`.
pub const DEFAULT_STAGES: [&str; 3] = ["build", DEFAULT_STAGE, "deploy"];

/// The jobs of a file in their order. Every job is in exactly one stage.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Stages that have jobs, in the order they run.
    pub stages: Vec<StageJobs>,
    /// All jobs in the order of the file.
    pub jobs: Vec<PipelineJob>,
    /// All stages, also those without jobs, from `.pre` to `.post`.
    pub stage_names: Vec<String>,
    /// What may surprise in a file that can be run.
    pub warnings: Vec<Problem>,
    /// Names that begin with a dot: never jobs, but worth naming when someone asks for one.
    pub hidden: Vec<String>,
    /// The file, for problems that show later.
    source: Source,
}

/// A stage and its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageJobs {
    /// Name.
    pub name: String,
    /// Indexes into [`Pipeline::jobs`], in the order of the file.
    pub jobs: Vec<usize>,
}

/// One job with everything it inherits.
#[derive(Debug, Clone)]
pub struct PipelineJob {
    /// Name, not empty, at most 255 characters.
    pub name: String,
    /// Stage, one of [`Pipeline::stage_names`].
    pub stage: String,
    /// Image of the build container; none means the default of the run.
    pub image: Option<Image>,
    /// Services in order.
    pub services: Vec<Service>,
    /// Global variables, then those of the job; each key once.
    pub variables: Vec<Variable>,
    /// `secrets`: variables whose values the run must bring.
    pub secrets: Vec<JobSecret>,
    /// Lines before the script, in the same shell.
    pub before_script: Vec<String>,
    /// The script, not empty. A line may hold several lines.
    pub script: Vec<String>,
    /// Lines after the script, in a shell of their own.
    pub after_script: Vec<String>,
    /// Whether a failure counts.
    pub allow_failure: AllowFailure,
    /// After which end of what comes before.
    pub when: When,
    /// Jobs it waits for, instead of all earlier stages; each name is that of a job. With an empty
    /// list it waits for nothing.
    pub needs: Option<Vec<Need>>,
    /// `dependencies`: jobs of which artifacts may come; none means no choice was made.
    pub dependencies: Option<Vec<String>>,
    /// Jobs whose artifacts and dotenv variables it gets, in the order in which they are unpacked.
    /// They stay when [`Pipeline::select`] leaves those jobs out.
    pub receives: Vec<String>,
    /// What it hands to later jobs.
    pub artifacts: Artifacts,
    /// What it finds again in the next run.
    pub cache: Vec<Cache>,
    /// Place among the jobs of one `parallel`, from 1, and their number.
    pub node: Option<(usize, usize)>,
    /// The job's name in the file.
    pub span: Span,
}

/// One of `secrets`. Nobody is asked for it in a local run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSecret {
    /// Name of the variable.
    pub name: String,
    /// The variable is a file.
    pub file: bool,
    /// Its name in the file.
    pub span: Span,
}

/// `image`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Reference, not yet expanded.
    pub name: String,
    /// Entrypoint; empty keeps the image's, `[""]` clears it.
    pub entrypoint: Vec<String>,
    /// Pull policies to try in order; empty means the default of the run.
    pub pull_policy: Vec<PullPolicy>,
    /// `docker`.
    pub docker: DockerOptions,
}

/// One of `services`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Image and the way to run it.
    pub image: Image,
    /// Extra names, separated by blanks or commas; may be empty.
    pub alias: String,
    /// Command; empty keeps the image's.
    pub command: Vec<String>,
    /// Variables of this service alone.
    pub variables: Vec<Variable>,
}

/// `image:docker` and `services:docker`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerOptions {
    /// User to run as, not yet expanded; may be empty.
    pub user: String,
    /// Platform to pull, not yet expanded; may be empty.
    pub platform: String,
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When it is missing.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Always, Self::IfNotPresent, Self::Never];

    /// As written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::IfNotPresent => "if-not-present",
            Self::Never => "never",
        }
    }
}

/// A variable of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name; not necessarily an identifier of a shell.
    pub key: String,
    /// Value as text.
    pub value: String,
    /// False with `expand: false`: references in the value stay as they are.
    pub expand: bool,
    /// What a person is told who sets it for a run; of global variables only.
    pub description: Option<String>,
    /// Values a person may choose from; of global variables only. The value is one of them.
    pub options: Vec<String>,
}

/// `allow_failure`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowFailure {
    /// A failure is a failure.
    #[default]
    No,
    /// Any failure is only a warning.
    Yes,
    /// Only these exit codes of the script are.
    ExitCodes(Vec<i64>),
}

impl AllowFailure {
    /// Whether a failed job counts as passed with a warning. `exit_code` is none where the job
    /// failed otherwise than by its script, e.g. by a timeout (local-pipelines D2).
    pub fn allows(&self, exit_code: Option<i64>) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::ExitCodes(codes) => exit_code.is_some_and(|code| codes.contains(&code)),
        }
    }
}

impl Pipeline {
    /// Puts jobs into stages. `stage_names` must hold the stage of every job.
    pub(crate) fn new(
        stage_names: Vec<String>,
        jobs: Vec<PipelineJob>,
        hidden: Vec<String>,
        source: &Source,
    ) -> Self {
        let mut pipeline = Self {
            stages: Vec::new(),
            jobs,
            stage_names,
            warnings: Vec::new(),
            hidden,
            source: source.clone(),
        };
        pipeline.arrange();
        receives::fill(&mut pipeline);
        pipeline
    }

    /// A problem with one of the jobs that shows only when it is to be run; a lower-case fragment.
    pub fn problem(&self, job: &PipelineJob, message: &str) -> Problem {
        let message = format!("the job `{}` cannot be run: {message}", job.name);
        Problem::new(&self.source, ProblemKind::Job, job.span, message).label("this job")
    }

    /// Fills `stages` from `jobs`.
    fn arrange(&mut self) {
        let mut by_stage: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, job) in self.jobs.iter().enumerate() {
            by_stage.entry(&job.stage).or_default().push(index);
        }
        self.stages = self
            .stage_names
            .iter()
            .filter_map(|name| {
                let jobs = by_stage.remove(name.as_str())?;
                Some(StageJobs {
                    name: name.clone(),
                    jobs,
                })
            })
            .collect();
    }

    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&PipelineJob> {
        self.jobs.iter().find(|job| job.name == name)
    }

    /// Jobs of one of [`Pipeline::stages`].
    pub fn jobs_of<'a>(
        &'a self,
        stage: &'a StageJobs,
    ) -> impl Iterator<Item = &'a PipelineJob> + 'a {
        stage.jobs.iter().filter_map(|&job| self.jobs.get(job))
    }

    /// The same pipeline with the named jobs only; with no name, all of it. Stages keep their
    /// order whatever the order of the names.
    ///
    /// # Errors
    /// When there is no job of such a name.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self, UnknownJobs> {
        if names.is_empty() {
            return Ok(self.clone());
        }
        let unknown: Vec<UnknownJob> = names
            .iter()
            .map(AsRef::as_ref)
            .filter(|name| self.job(name).is_none())
            .map(|name| UnknownJob {
                name: name.to_owned(),
                hidden: self.hidden.iter().any(|hidden| hidden == name),
                suggestion: nearest(name, self.jobs.iter().map(|job| job.name.as_str()))
                    .map(str::to_owned),
            })
            .collect();
        if !unknown.is_empty() {
            let available = self.jobs.iter().map(|job| job.name.clone()).collect();
            return Err(UnknownJobs { unknown, available });
        }
        let mut selected = self.clone();
        selected
            .jobs
            .retain(|job| names.iter().any(|name| name.as_ref() == job.name));
        selected.arrange();
        Ok(selected)
    }
}

/// Jobs that were asked for and are not in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownJobs {
    /// Those names.
    pub unknown: Vec<UnknownJob>,
    /// All names that could have been asked for, in the order of the file.
    pub available: Vec<String>,
}

/// One name that is no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownJob {
    /// As given.
    pub name: String,
    /// Whether the file has a hidden entry of that name.
    pub hidden: bool,
    /// A job whose name is near.
    pub suggestion: Option<String>,
}

impl fmt::Display for UnknownJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, job) in self.unknown.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "no job `{}`", job.name)?;
            if job.hidden {
                f.write_str(" (names that begin with a dot are templates, not jobs)")?;
            } else if let Some(suggestion) = &job.suggestion {
                write!(f, ", did you mean `{suggestion}`?")?;
            }
        }
        write!(f, " (jobs: {})", self.available.join(", "))
    }
}

impl std::error::Error for UnknownJobs {}

#[cfg(test)]
mod tests;
