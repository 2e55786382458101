//! The stage attempts of a job: each is started once, and remembered to the end.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use gantry_agent::{EntryResult, StageRequest, StageState};

use super::{Shared, pump, spool::Spool};
use crate::{
    cleanup, owner, sources,
    stage::{Control, Stage, StageError},
    stage_child,
};

/// All attempts by id.
#[derive(Default)]
pub(super) struct Stages {
    attempts: HashMap<String, Attempt>,
}

/// One attempt.
pub(super) struct Attempt {
    pub(super) spool: Spool,
    pub(super) control: Arc<Control>,
    outcome: Option<Outcome>,
}

struct Outcome {
    exit_code: i32,
    error: Option<String>,
    entries: Vec<EntryResult>,
}

impl Attempt {
    /// Its state for the runner.
    pub(super) fn state(&self) -> StageState {
        match &self.outcome {
            None => StageState::Running,
            Some(Outcome {
                exit_code,
                error,
                entries,
            }) => StageState::Done {
                exit_code: *exit_code,
                error: error.clone(),
                output: self.spool.written(),
                entries: entries.clone(),
            },
        }
    }
}

impl Stages {
    pub(super) fn get(&self, id: &str) -> Option<&Attempt> {
        self.attempts.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Attempt> {
        self.attempts.get_mut(id)
    }

    /// The state of an attempt, known or not.
    pub(super) fn state(&self, id: &str) -> StageState {
        self.get(id).map_or(StageState::Unknown, Attempt::state)
    }

    /// Those that are not over.
    pub(super) fn running(&self) -> Vec<Arc<Control>> {
        let running = self
            .attempts
            .values()
            .filter(|attempt| attempt.outcome.is_none());
        running
            .map(|attempt| Arc::clone(&attempt.control))
            .collect()
    }

    /// Starts an attempt that is not known yet.
    pub(super) fn start(&mut self, shared: &Arc<Shared>, id: &str, request: StageRequest) {
        let overflow = shared
            .private
            .join(format!("output-{}", self.attempts.len()));
        let attempt = Attempt {
            spool: Spool::new(&overflow),
            control: Arc::default(),
            outcome: None,
        };
        let control = Arc::clone(&attempt.control);
        self.attempts.insert(id.to_owned(), attempt);
        let (shared, name) = (Arc::clone(shared), id.to_owned());
        let worker = thread::Builder::new().spawn(move || {
            let id = name;
            let result = work(&shared, &id, control, &request).unwrap_or_else(|error| {
                let error = StageError::own(format!("cannot begin the stage: {error}"));
                (Err(error), Vec::new())
            });
            let (result, entries) = result;
            let (exit_code, error) = match result {
                Ok(()) => (0, None),
                Err(StageError {
                    exit_code, text, ..
                }) => (exit_code, Some(text)),
            };
            let outcome = Outcome {
                exit_code,
                error,
                entries,
            };
            if let Some(attempt) = shared.lock().stages.get_mut(&id) {
                attempt.outcome = Some(outcome);
            }
            shared.changed.notify_all();
        });
        if let Err(error) = worker
            && let Some(attempt) = self.get_mut(id)
        {
            let error = Some(format!("cannot start a thread: {error}"));
            attempt.outcome = Some(Outcome {
                exit_code: 1,
                error,
                entries: Vec::new(),
            });
        }
    }
}

/// Does the stage; on return all its output is spooled.
fn work(
    shared: &Arc<Shared>,
    id: &str,
    control: Arc<Control>,
    request: &StageRequest,
) -> io::Result<(Result<(), StageError>, Vec<EntryResult>)> {
    let (stdout, out) = io::pipe()?;
    let (stderr, err) = io::pipe()?;
    let (stop, running) = io::pipe()?;
    let pump = {
        let (shared, id) = (Arc::clone(shared), id.to_owned());
        let pump = move || pump::run(&shared, &id, stdout, stderr, &stop);
        thread::Builder::new().spawn(pump)?
    };
    let mut stage = Stage::new(
        shared.environment.clone(),
        shared.private.clone(),
        Arc::clone(&shared.processes),
        control,
        out,
        err,
    );
    let git = shared.git.git();
    stage.git_programs = git.programs;
    stage.git_version = git.version;
    // A mistake in here must not take the agent, and with it the job, along.
    let result =
        catch_unwind(AssertUnwindSafe(|| perform(&mut stage, request))).unwrap_or_else(|_| {
            Err(StageError::own(
                "internal error: the helper panicked; see the helper container's log",
            ))
        });
    if let Err(error) = &result
        && !error.explained
    {
        stage.error(&error.text);
    }
    let entries = std::mem::take(&mut stage.entries);
    drop(stage);
    drop(running);
    // It does not panic; if it did, the output ends where it ended.
    pump.join().ok();
    Ok((result, entries))
}

fn perform(stage: &mut Stage, request: &StageRequest) -> Result<(), StageError> {
    match request {
        StageRequest::Sources(request) => sources::run(stage, request),
        StageRequest::ClearWorktree(request) => cleanup::clear_worktree(stage, request),
        StageRequest::Cleanup(request) => cleanup::run(stage, request),
        StageRequest::ChangeOwner(request) => owner::change(request),
        StageRequest::RestoreCache(_)
        | StageRequest::ArchiveCache(_)
        | StageRequest::DownloadArtifacts(_)
        | StageRequest::UploadArtifacts(_) => stage_child::run(stage, request),
        StageRequest::Unknown => Err(StageError::own(format!(
            "this helper ({}) does not know what the runner asks of it; restart the job, so that it gets a helper of the runner's \
             version",
            env!("CARGO_PKG_VERSION")
        ))),
    }
}
