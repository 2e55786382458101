//! Which job may start, which is skipped, and how the pipeline stands (local-pipelines D1, D2, D5).
//!
//! A state machine without clock or process: it is told how jobs ended and answers what to start.
//! Jobs start in the order of stages and of the file, as many at once as allowed. A job without
//! `needs` waits for all earlier stages, one with `needs` for those jobs alone. What became of them
//! decides by the job's `when` whether it runs or is skipped.

use std::{collections::HashMap, num::NonZeroUsize};

use gantry_pipeline::{AllowFailure, Pipeline, When};

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
    /// What came before it went otherwise than its `when` says.
    Skipped,
}

impl JobState {
    /// Whether nothing more happens to the job.
    pub fn is_complete(self) -> bool {
        !matches!(self, Self::Created | Self::Running)
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
    keep_going: bool,
}

#[derive(Debug, Clone)]
struct Job {
    state: JobState,
    allow_failure: AllowFailure,
    when: When,
    /// Jobs of this run that it needs; none: it waits for all earlier stages.
    needs: Option<Vec<usize>>,
}

/// What became of everything a job waits for (local-pipelines D5, its first rules).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Something is not complete.
    Open,
    Success,
    Skipped,
    Canceled,
    Failed,
}

/// What is to be done with a job that has not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Wait,
    Start,
    Skip,
}

impl Before {
    /// Of jobs of earlier stages.
    fn of_stages(states: impl IntoIterator<Item = JobState>) -> Self {
        let mut all = Self::Skipped;
        let mut any = false;
        for state in states {
            any = true;
            all = match state {
                JobState::Created | JobState::Running => return Self::Open,
                JobState::Failed => Self::Failed,
                JobState::Canceled if all != Self::Failed => Self::Canceled,
                JobState::Success | JobState::Warning if all == Self::Skipped => Self::Success,
                _ => all,
            };
        }
        if any { all } else { Self::Success }
    }

    /// Of the jobs that one needs: one that was skipped counts for all of them.
    fn of_needs(states: &[JobState]) -> Self {
        if states.contains(&JobState::Skipped) {
            return Self::Skipped;
        }
        Self::of_stages(states.iter().copied())
    }
}

impl Schedule {
    /// All jobs of the pipeline, at most `at_once` of them at one time. Needs of jobs that are not
    /// in the pipeline count for nothing: somebody chose to run without them.
    pub fn new(pipeline: &Pipeline, at_once: NonZeroUsize) -> Self {
        let places: HashMap<&str, usize> = pipeline
            .jobs
            .iter()
            .enumerate()
            .map(|(index, job)| (job.name.as_str(), index))
            .collect();
        let jobs = pipeline
            .jobs
            .iter()
            .map(|job| Job {
                state: JobState::Created,
                allow_failure: job.allow_failure.clone(),
                when: job.when,
                needs: job.needs.as_ref().map(|needs| {
                    let places = needs
                        .iter()
                        .filter_map(|need| places.get(need.job.as_str()));
                    places.copied().collect()
                }),
            })
            .collect();
        let stages = pipeline
            .stages
            .iter()
            .map(|stage| stage.jobs.clone())
            .collect();
        let mut schedule = Self {
            stages,
            jobs,
            at_once,
            running: 0,
            keep_going: false,
        };
        schedule.settle();
        schedule
    }

    /// The same, where a failure keeps only those jobs from running that need the failed one: later
    /// stages run all the same.
    #[must_use]
    pub fn keep_going(mut self, keep_going: bool) -> Self {
        self.keep_going = keep_going;
        self
    }

    /// Jobs to start now, in order; they count as running from here on. Empty while the schedule
    /// waits for running jobs, and for good once it is done.
    pub fn start(&mut self) -> Vec<usize> {
        let free = self.at_once.get().saturating_sub(self.running);
        let next: Vec<usize> = self
            .turns()
            .into_iter()
            .filter(|(_, turn)| *turn == Turn::Start)
            .map(|(job, _)| job)
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
        self.settle();
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

    /// Jobs because of which a job was skipped, in the order of their stages: those of what it waits
    /// for that did not pass. Empty for a job that waits for a failure which did not come.
    pub fn skipped_for(&self, job: usize) -> Vec<usize> {
        let stuck = |job: &usize| {
            matches!(
                self.state(*job),
                JobState::Failed | JobState::Canceled | JobState::Skipped
            )
        };
        match self.jobs.get(job) {
            None => Vec::new(),
            Some(entry) if entry.when == When::OnFailure => Vec::new(),
            Some(Job {
                needs: Some(needs), ..
            }) => needs.iter().copied().filter(stuck).collect(),
            Some(_) => self
                .stages
                .iter()
                .take_while(|stage| !stage.contains(&job))
                .flatten()
                .copied()
                .filter(|job| matches!(self.state(*job), JobState::Failed | JobState::Canceled))
                .collect(),
        }
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

    /// Skips what will not run. A skipped job may keep others from running.
    fn settle(&mut self) {
        loop {
            let skipped: Vec<usize> = self
                .turns()
                .into_iter()
                .filter(|(_, turn)| *turn == Turn::Skip)
                .map(|(job, _)| job)
                .collect();
            if skipped.is_empty() {
                return;
            }
            for job in skipped {
                self.jobs[job].state = JobState::Skipped;
            }
        }
    }

    /// What is to be done with each job that has not begun, in the order of stages and of the file.
    fn turns(&self) -> Vec<(usize, Turn)> {
        let mut turns = Vec::new();
        let mut earlier: Vec<JobState> = Vec::with_capacity(self.jobs.len());
        for stage in &self.stages {
            let before = Before::of_stages(earlier.iter().copied());
            for &job in stage {
                let entry = &self.jobs[job];
                if entry.state == JobState::Created {
                    turns.push((job, self.turn(entry, before)));
                }
            }
            earlier.extend(stage.iter().map(|&job| self.state(job)));
        }
        turns
    }

    fn turn(&self, job: &Job, earlier_stages: Before) -> Turn {
        let before = match &job.needs {
            Some(needs) => {
                let states: Vec<JobState> = needs.iter().map(|&need| self.state(need)).collect();
                Before::of_needs(&states)
            }
            None => earlier_stages,
        };
        let runs = match (job.when, before) {
            (_, Before::Open) => return Turn::Wait,
            (When::OnSuccess, Before::Success) => true,
            (When::OnSuccess, Before::Skipped) => job.needs.is_none(),
            (When::OnSuccess, Before::Failed) => self.keep_going && job.needs.is_none(),
            (When::OnSuccess, Before::Canceled) => false,
            (When::OnFailure, before) => before == Before::Failed,
            (When::Always, before) => before != Before::Canceled,
        };
        if runs { Turn::Start } else { Turn::Skip }
    }
}
