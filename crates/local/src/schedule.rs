//! Which job may start, which is skipped, and how the pipeline stands (local-pipelines D1, D2, D5).
//!
//! A state machine without clock or process: it is told how jobs ended and answers what to start.
//! Jobs of a stage start in the order of the file, as many at once as allowed; a stage starts when
//! all earlier ones are complete. A job that failed and was not allowed to lets the other jobs of
//! its stage run and skips all later stages.

use std::num::NonZeroUsize;

use gantry_pipeline::{AllowFailure, Pipeline};

#[cfg(test)]
mod tests;

/// State of a job, in GitLab's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for its turn.
    Created,
    /// Was handed out by [`Schedule::start`].
    Running,
    /// Its script ended with 0.
    Success,
    /// It failed, and it may: a success with a warning for everyone else.
    Warning,
    /// It failed.
    Failed,
    /// It was canceled, before or after its start.
    Canceled,
    /// An earlier stage failed.
    Skipped,
}

impl JobState {
    /// Whether nothing more happens to the job.
    pub fn is_complete(self) -> bool {
        !matches!(self, Self::Created | Self::Running)
    }

    /// Whether later stages may run after it.
    fn lets_others_run(self) -> bool {
        match self {
            Self::Success | Self::Warning | Self::Skipped => true,
            Self::Created | Self::Running | Self::Failed | Self::Canceled => false,
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEnd {
    /// Its script ended with 0.
    Success,
    /// It failed; with the exit code if its script did, without one if it was a timeout, an image
    /// that cannot be had, or the like.
    Failed {
        /// Exit code of the script.
        exit_code: Option<i64>,
    },
    /// Somebody canceled it.
    Canceled,
}

/// How a pipeline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PipelineStatus {
    /// There are jobs to start or to wait for.
    Running,
    /// All jobs passed.
    Success,
    /// All jobs passed but for some that were allowed to fail.
    SuccessWithWarnings,
    /// A job failed that was not allowed to.
    Failed,
    /// A job was canceled and none failed.
    Canceled,
}

/// The jobs of a pipeline on their way. Jobs are named by their index in [`Pipeline::jobs`].
#[derive(Debug, Clone)]
pub struct Schedule {
    stages: Vec<Vec<usize>>,
    jobs: Vec<Job>,
    at_once: NonZeroUsize,
    running: usize,
    /// The first stage that is not complete.
    stage: usize,
}

#[derive(Debug, Clone)]
struct Job {
    state: JobState,
    allow_failure: AllowFailure,
}

impl Schedule {
    /// All jobs of the pipeline, at most `at_once` of them at one time.
    pub fn new(pipeline: &Pipeline, at_once: NonZeroUsize) -> Self {
        let jobs = pipeline
            .jobs
            .iter()
            .map(|job| Job {
                state: JobState::Created,
                allow_failure: job.allow_failure.clone(),
            })
            .collect();
        let stages = pipeline
            .stages
            .iter()
            .map(|stage| stage.jobs.clone())
            .collect();
        Self {
            stages,
            jobs,
            at_once,
            running: 0,
            stage: 0,
        }
    }

    /// Jobs to start now, in order; they count as running from here on. Empty while the schedule
    /// waits for running jobs, and for good once it is done.
    pub fn start(&mut self) -> Vec<usize> {
        let free = self.at_once.get().saturating_sub(self.running);
        let Some(stage) = self.stages.get(self.stage) else {
            return Vec::new();
        };
        let next: Vec<usize> = stage
            .iter()
            .copied()
            .filter(|&job| self.state(job) == JobState::Created)
            .take(free)
            .collect();
        for &job in &next {
            self.jobs[job].state = JobState::Running;
        }
        self.running += next.len();
        next
    }

    /// Takes note of the end of a running job. Gives its state; an end of a job that does not run
    /// changes nothing.
    pub fn finish(&mut self, job: usize, end: JobEnd) -> JobState {
        let Some(entry) = self
            .jobs
            .get_mut(job)
            .filter(|job| job.state == JobState::Running)
        else {
            return self.state(job);
        };
        entry.state = match end {
            JobEnd::Success => JobState::Success,
            JobEnd::Failed { exit_code } if entry.allow_failure.allows(exit_code) => {
                JobState::Warning
            }
            JobEnd::Failed { .. } => JobState::Failed,
            JobEnd::Canceled => JobState::Canceled,
        };
        let state = entry.state;
        self.running -= 1;
        self.advance();
        state
    }

    /// Cancels all jobs that were not started, and gives those that run: they are to be canceled
    /// and to be reported by [`Schedule::finish`].
    pub fn cancel(&mut self) -> Vec<usize> {
        for job in &mut self.jobs {
            if job.state == JobState::Created {
                job.state = JobState::Canceled;
            }
        }
        self.advance();
        (0..self.jobs.len())
            .filter(|&job| self.state(job) == JobState::Running)
            .collect()
    }

    /// State of a job; an index that is no job counts as skipped.
    pub fn state(&self, job: usize) -> JobState {
        self.jobs
            .get(job)
            .map_or(JobState::Skipped, |job| job.state)
    }

    /// Number of jobs that run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Whether every job is complete.
    pub fn is_done(&self) -> bool {
        self.jobs.iter().all(|job| job.state.is_complete())
    }

    /// How the pipeline stands. A failure shows only when all jobs are complete.
    pub fn status(&self) -> PipelineStatus {
        let any = |state: JobState| self.jobs.iter().any(|job| job.state == state);
        if !self.is_done() {
            PipelineStatus::Running
        } else if any(JobState::Failed) {
            PipelineStatus::Failed
        } else if any(JobState::Canceled) {
            PipelineStatus::Canceled
        } else if any(JobState::Warning) {
            PipelineStatus::SuccessWithWarnings
        } else {
            PipelineStatus::Success
        }
    }

    /// Leaves complete stages behind, and skips the rest after one that failed.
    fn advance(&mut self) {
        while let Some(stage) = self.stages.get(self.stage) {
            if !stage.iter().all(|&job| self.state(job).is_complete()) {
                return;
            }
            let failed = !stage.iter().all(|&job| self.state(job).lets_others_run());
            self.stage += 1;
            if failed {
                for job in self.stages[self.stage..].iter().flatten() {
                    if self.jobs[*job].state == JobState::Created {
                        self.jobs[*job].state = JobState::Skipped;
                    }
                }
            }
        }
    }
}
