//! The jobs of a run on their way: which start, which end, how they are stopped, and the removal of
//! what they made, which no other job waits for.

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc};

use gantry_executor::Wish;
use gantry_pipeline::Pipeline;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, sleep},
};

use super::{
    PlannedJob, QUIET, Shared,
    job::{Ended, JobRun},
};
use crate::{
    JobReport, JobState, PipelineStatus, Report, Schedule, Stop, Style, leftovers,
    output::{JobLines, Label, Paint},
    stop::SIGPIPE,
};

/// A run on its way.
pub(super) struct Course {
    schedule: Schedule,
    /// By job: what was planned, until it starts.
    waiting: Vec<Option<PlannedJob>>,
    labels: Vec<Label>,
    reports: Vec<JobReport>,
    running: JoinSet<Ended>,
    by_task: HashMap<Id, usize>,
    removals: JoinSet<bool>,
    /// So far, of what was to be removed.
    all_gone: bool,
    wishes: watch::Sender<Wish>,
    stop: watch::Receiver<Stop>,
    shared: Arc<Shared>,
    style: Style,
}

impl Course {
    pub(super) fn new(
        pipeline: &Pipeline,
        at_once: NonZeroUsize,
        style: Style,
        shared: Shared,
        jobs: Vec<PlannedJob>,
        stop: watch::Receiver<Stop>,
    ) -> Self {
        let names = pipeline.jobs.iter().map(|job| job.name.as_str());
        let reports = pipeline.jobs.iter().map(|job| JobReport {
            name: job.name.clone(),
            stage: job.stage.clone(),
            state: JobState::Created,
            why: None,
            took: None,
        });
        Self {
            schedule: Schedule::new(pipeline, at_once),
            waiting: jobs.into_iter().map(Some).collect(),
            labels: Label::of_jobs(names, style),
            reports: reports.collect(),
            running: JoinSet::new(),
            by_task: HashMap::new(),
            removals: JoinSet::new(),
            all_gone: true,
            wishes: watch::Sender::new(Wish::Run),
            stop,
            shared: Arc::new(shared),
            style,
        }
    }

    /// All jobs, and the removal of what they made; the state folder goes if nothing is left.
    pub(super) async fn run(mut self) -> Report {
        let began = Instant::now();
        let mut done = self.jobs().await;
        let took = began.elapsed();
        done = done && self.remove_rest().await;
        let stop = *self.stop.borrow();
        if done {
            self.leave().await;
        }
        self.explain();
        Report {
            status: if done {
                self.schedule.status()
            } else {
                PipelineStatus::Running
            },
            jobs: self.reports,
            took,
            stop,
            left_behind: !self.all_gone || !done,
        }
    }

    /// All jobs to their ends; false if it is to be left at once.
    async fn jobs(&mut self) -> bool {
        loop {
            for job in self.schedule.start() {
                self.start(job);
            }
            if self.running.is_empty() {
                return true;
            }
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    let (task, ended) = match ended {
                        Ok((task, ended)) => (task, ended),
                        Err(error) => (error.id(), Ended::crashed(&error)),
                    };
                    self.ended(task, ended);
                }
                Some(gone) = self.removals.join_next() => self.all_gone &= gone.unwrap_or(false),
                stop = next_stop(&mut self.stop) => if !self.stopping(stop).await { return false },
                () = self.shared.printer.closed(), if *self.wishes.borrow() == Wish::Run => {
                    self.stop_jobs(Wish::Interrupt { signal: SIGPIPE });
                }
            }
        }
    }

    fn start(&mut self, job: usize) {
        // Each is started once.
        let (Some(planned), Some(label)) = (self.waiting[job].take(), self.labels.get(job)) else {
            return;
        };
        let run = JobRun {
            shared: Arc::clone(&self.shared),
            planned,
            wishes: self.wishes.subscribe(),
            lines: JobLines::new(label.clone()),
        };
        let task = self.running.spawn(run.run());
        self.by_task.insert(task.id(), job);
    }

    fn ended(&mut self, task: Id, ended: Ended) {
        let Some(job) = self.by_task.remove(&task) else {
            return;
        };
        let report = &mut self.reports[job];
        report.took = Some(ended.took);
        report.why = ended.why;
        self.schedule.finish(job, ended.end);
        match ended.made {
            // The next job need not wait for this.
            Some(made) => {
                self.removals.spawn(made.remove());
            }
            None => self.all_gone = false,
        }
    }

    /// Obeys; false if it is to be left at once.
    async fn stopping(&mut self, stop: Stop) -> bool {
        let text = match stop {
            Stop::Run => return true,
            Stop::Now => return false,
            Stop::Cancel => {
                "Canceling: scripts are stopped, after_script runs, then everything is removed. Ctrl-C again leaves at once"
            }
            Stop::Interrupt { .. } => {
                "Stopping: scripts are stopped, then everything is removed. One more signal leaves at once"
            }
        };
        let text = self.style.paint(Paint::Odd, text);
        self.stop_jobs(stop.wish());
        self.shared.printer.line(&text).await;
        true
    }

    fn stop_jobs(&mut self, wish: Wish) {
        self.schedule.cancel();
        self.wishes.send_replace(wish);
    }

    /// Waits for the removals; false if it is to be left at once.
    async fn remove_rest(&mut self) -> bool {
        let quiet = sleep(QUIET);
        tokio::pin!(quiet);
        let mut told = false;
        loop {
            tokio::select! {
                gone = self.removals.join_next() => match gone {
                    Some(gone) => self.all_gone &= gone.unwrap_or(false),
                    None => return true,
                },
                stop = next_stop(&mut self.stop) => if stop == Stop::Now { return false },
                () = &mut quiet, if !told => {
                    told = true;
                    let text = self.style.paint(Paint::Dim, "Removing containers, networks and volumes ...");
                    self.shared.printer.line(&text).await;
                }
            }
        }
    }

    /// Deletes the state folder, unless something is left that it must remember.
    async fn leave(&mut self) {
        let state = &self.shared.state;
        if !self.all_gone {
            // A job that could not say what it made.
            match leftovers::remove(&self.shared.access.engine, state.folder.id()).await {
                Ok(_) => self.all_gone = true,
                Err(error) => tracing::warn!(%error, "objects of this run are left"),
            }
        }
        if self.all_gone {
            state.remove();
        }
    }

    /// Fills in states, and why jobs did not run.
    fn explain(&mut self) {
        for (job, report) in self.reports.iter_mut().enumerate() {
            report.state = self.schedule.state(job);
        }
        let failed: Vec<_> = self
            .reports
            .iter()
            .filter(|job| matches!(job.state, JobState::Failed | JobState::Canceled))
            .filter(|job| job.took.is_some())
            .map(|job| format!("`{}`", job.name))
            .collect();
        let why = match failed.as_slice() {
            [one] => format!("{one} failed"),
            [one, two] => format!("{one} and {two} failed"),
            [one, rest @ ..] => format!("{one} and {} others failed", rest.len()),
            [] => "an earlier stage failed".to_owned(),
        };
        for report in &mut self.reports {
            match report.state {
                JobState::Skipped => report.why = Some(why.clone()),
                JobState::Canceled if report.took.is_none() => {
                    report.why = Some("not started".to_owned());
                }
                _ => {}
            }
        }
    }
}

/// The next change; never if there is nobody who could stop the run.
async fn next_stop(stop: &mut watch::Receiver<Stop>) -> Stop {
    match stop.changed().await {
        Ok(()) => *stop.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}
