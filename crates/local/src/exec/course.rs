//! The jobs of a run on their way: which start, which end, how they are stopped, and the removal of
//! what they made, which no other job waits for.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::Arc,
    time::SystemTime,
};

use gantry_executor::Wish;
use gantry_pipeline::Pipeline;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, sleep},
};

use super::{
    PlannedJob, Preparation, QUIET, Shared,
    job::{Ended, JobRun},
};
use crate::{
    JobEnd, JobReport, JobState, PipelineStatus, Report, Schedule, Stop, Style,
    artifacts::Given,
    leftovers,
    output::{JobLines, Label, Paint},
    report,
    stop::SIGPIPE,
};

/// A run on its way.
pub(super) struct Course {
    pipeline: Pipeline,
    /// Names of its jobs.
    names: HashSet<String>,
    preparation: Preparation,
    schedule: Schedule,
    /// By job: what was planned, until it starts; none if that could not be done yet.
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
        pipeline: Pipeline,
        style: Style,
        shared: Shared,
        preparation: Preparation,
        jobs: Vec<Option<PlannedJob>>,
        stop: watch::Receiver<Stop>,
    ) -> Self {
        let names = pipeline.jobs.iter().map(|job| job.name.as_str());
        let labels = Label::of_jobs(names.clone(), style);
        let options = &preparation.options;
        let schedule = Schedule::new(&pipeline, options.at_once).keep_going(options.keep_going);
        let reports = pipeline.jobs.iter().map(|job| JobReport {
            name: job.name.clone(),
            stage: job.stage.clone(),
            state: JobState::Created,
            why: None,
            took: None,
        });
        Self {
            names: names.map(str::to_owned).collect(),
            reports: reports.collect(),
            preparation,
            schedule,
            waiting: jobs,
            labels,
            running: JoinSet::new(),
            by_task: HashMap::new(),
            removals: JoinSet::new(),
            all_gone: true,
            wishes: watch::Sender::new(Wish::Run),
            stop,
            shared: Arc::new(shared),
            style,
            pipeline,
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
            artifacts: self.kept(),
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
                self.start(job).await;
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

    async fn start(&mut self, job: usize) {
        let planned = self.waiting[job].take();
        let entry = &self.pipeline.jobs[job];
        let artifacts = &self.shared.artifacts;
        let given = artifacts.given(&entry.receives, |name| self.names.contains(name));
        for given in &given {
            if let Some(line) = from_an_earlier_run(&entry.name, given) {
                let line = self.style.paint(Paint::Dim, &line);
                self.shared.printer.line(&line).await;
            }
        }
        let planned = match planned {
            Some(planned) if given.is_empty() => Ok(planned),
            // What earlier jobs hand on may be part of any name.
            _ => self.preparation.job(job, entry, &given, rand::random()),
        };
        let task = match planned {
            Ok(planned) => {
                let id = self.preparation.job_id(job);
                let run = JobRun {
                    shared: Arc::clone(&self.shared),
                    artifacts: artifacts.for_job(&entry.name, id, &given),
                    planned,
                    wishes: self.wishes.subscribe(),
                    lines: JobLines::new(self.labels[job].clone()),
                };
                self.running.spawn(run.run())
            }
            Err(why) => self.running.spawn(ready(Ended::not_planned(why))),
        };
        self.by_task.insert(task.id(), job);
    }

    /// Jobs that left artifacts, and where they are.
    fn kept(&self) -> Option<report::Kept> {
        let artifacts = &self.shared.artifacts;
        let jobs = self.pipeline.jobs.iter().map(|job| &job.name);
        let jobs: Vec<String> = jobs.filter(|job| artifacts.has(job)).cloned().collect();
        (!jobs.is_empty()).then(|| report::Kept {
            folder: artifacts.shown().to_owned(),
            jobs,
        })
    }

    fn ended(&mut self, task: Id, ended: Ended) {
        let Some(job) = self.by_task.remove(&task) else {
            return;
        };
        let entry = &self.pipeline.jobs[job];
        let artifacts = &self.shared.artifacts;
        let over = ended.end != JobEnd::Canceled;
        if over && !entry.artifacts.is_empty() && !artifacts.has(&entry.name) {
            artifacts.forget(&entry.name);
        }
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
            match report.state {
                JobState::Skipped => {
                    report.why = Some(why_skipped(&self.schedule, &self.pipeline, job));
                }
                JobState::Canceled if report.took.is_none() => {
                    report.why = Some("not started".to_owned());
                }
                _ => {}
            }
        }
    }
}

/// Why a job did not run.
fn why_skipped(schedule: &Schedule, pipeline: &Pipeline, job: usize) -> String {
    let before = schedule.skipped_for(job);
    let did = |job: usize| match schedule.state(job) {
        JobState::Skipped => "did not run",
        JobState::Canceled => "was canceled",
        _ => "failed",
    };
    let name = |job: usize| format!("`{}`", pipeline.jobs[job].name);
    match *before.as_slice() {
        [] => "nothing before it failed".to_owned(),
        [one] => format!("{} {}", name(one), did(one)),
        [one, two] if did(one) == did(two) => {
            format!("{} and {} {}", name(one), name(two), did(one))
        }
        [one, ref rest @ ..] => format!("{} and {} others {}", name(one), rest.len(), did(one)),
    }
}

/// What is said where a job gets what no job of this run made.
fn from_an_earlier_run(job: &str, given: &Given) -> Option<String> {
    let age = SystemTime::now().duration_since(given.earlier?);
    let age = report::duration(age.unwrap_or_default());
    let earlier = &given.job;
    Some(format!(
        "`{job}` gets the artifacts that `{earlier}` left {age} ago, in an earlier run"
    ))
}

/// The next change; never if there is nobody who could stop the run.
async fn next_stop(stop: &mut watch::Receiver<Stop>) -> Stop {
    match stop.changed().await {
        Ok(()) => *stop.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}
