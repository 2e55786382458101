//! Runs one user script in the build container, or takes one up that an earlier process began.
//!
//! The container is started, the script goes to its stdin as one unit, and the run is followed to its end. What the journal says
//! and what the engine says decide after a restart whether the script ran, runs, or may be run again.

use std::{sync::atomic::Ordering, time::Duration};

use gantry_container::{ContainerState, ContainerStatus};
use gantry_engine::{Attached, EngineError};
use gantry_job::{Cause, JobStatus, Stage};
use gantry_plan::ScriptWork;
use gantry_trace::{Level, Phrase, Stream};
use tokio::io::AsyncWriteExt;

use crate::{
    ExecutorError, StopReason,
    context::Context,
    control::{Control, stop_or_limit},
    explain,
    follow::{self, Live, Run, RunEnd},
    record::{StageEnd, Step},
    start::{self, Started},
    walk::{Walk, last_start},
};

/// Tries of bringing one script whole into a shell.
const SEND_TRIES: u32 = 4;
/// Pause before another look at a container whose log ended or broke.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What became of one try.
enum Tried {
    /// The stage is over.
    Ended(StageEnd),
    /// No line of the script ran; why, should it be the last try.
    NotRun(Cause),
}

/// One script stage about to run.
pub(crate) struct ScriptStage<'a> {
    pub(crate) index: usize,
    pub(crate) stage: &'a Stage,
    pub(crate) work: &'a ScriptWork,
    pub(crate) after_script: bool,
    pub(crate) status: JobStatus,
    /// How often it is tried when its container gets lost.
    pub(crate) attempts: u32,
    pub(crate) limit: Option<(tokio::time::Instant, StopReason)>,
}

impl Walk {
    /// Runs the stage to its end.
    pub(crate) async fn script(
        &mut self,
        stage: &ScriptStage<'_>,
        begun: Option<(u32, Step)>,
    ) -> Result<StageEnd, ExecutorError> {
        let (mut attempt, mut step) =
            begun.map_or((1, None), |(attempt, step)| (attempt, Some(step)));
        loop {
            let end = self.attempt(stage, attempt, step.take()).await;
            let lost = match &end {
                Err(ExecutorError::Job(Cause::ContainerVanished { name, .. })) => name.clone(),
                _ => return end,
            };
            self.build = None;
            if attempt >= stage.attempts {
                if stage.attempts > 1 {
                    let key = format!("stage{}:attempts-exceeded", stage.index);
                    let text = "Execution attempts exceeded";
                    self.context.trace.line_once(&key, Level::Error, text);
                }
                return end;
            }
            let key = format!("stage{}.{attempt}", stage.index);
            let trace = &self.context.trace;
            let text = format!("Container \"{lost}\" not found or removed. Will retry...");
            trace.line_once(&format!("{key}:lost"), Level::Error, &text);
            let text = format!("Retrying {}", stage.stage.section_name());
            trace.line_once(&format!("{key}:retry"), Level::Info, &text);
            attempt += 1;
            self.context.step(stage.index, attempt, Step::Began).await?;
        }
    }

    async fn attempt(
        &mut self,
        stage: &ScriptStage<'_>,
        attempt: u32,
        mut begun: Option<Step>,
    ) -> Result<StageEnd, ExecutorError> {
        let mark = self.start_mark(stage.index, attempt);
        self.context
            .trace
            .add_phrases([Phrase::start_mark(format!("{mark}\n"))]);
        let mut tries = 1;
        loop {
            let cause = match self.once(stage, attempt, begun.take(), &mark).await? {
                Tried::Ended(end) => return Ok(end),
                Tried::NotRun(cause) => cause,
            };
            if tries == SEND_TRIES {
                return Ok(StageEnd::Failed(cause));
            }
            tracing::warn!(container = self.context.plan.build.name, reason = %cause.message(), "no line of the script ran; it is sent again");
            tries += 1;
        }
    }

    /// One try to bring the script into a shell, or the end of one that an earlier process made.
    async fn once(
        &mut self,
        stage: &ScriptStage<'_>,
        attempt: u32,
        begun: Option<Step>,
        mark: &str,
    ) -> Result<Tried, ExecutorError> {
        // An earlier process was stopping the stage.
        let stopping = self.take_stopping();
        match begun {
            None | Some(Step::Ended(_)) => {}
            Some(Step::Began) => {
                if let Some(reason) = stopping {
                    return self.stopped(reason).await;
                }
            }
            Some(Step::Starting {
                container,
                previous_start,
            }) => {
                if let Some(reason) = stopping {
                    return self.stopped(reason).await;
                }
                self.settle_start(stage, &container, &previous_start)
                    .await?;
            }
            Some(Step::Sending { marks }) => {
                let name = self.context.plan.build.name.clone();
                // A container that is being stopped is followed to its end in any case.
                let arrived = match stopping {
                    Some(_) => true,
                    None => {
                        let stop = stop_or_limit(&self.control, stage.limit);
                        tokio::select! {
                            arrived = self.arrived(stage, &name, mark) => arrived?,
                            reason = stop => return self.stopped(reason).await,
                        }
                    }
                };
                if arrived {
                    return self.adopt(stage, marks, stopping).await;
                }
                // The shell never saw the whole script, so none of it ran.
                self.rerun_in_new_container(stage, &name).await?;
            }
            Some(Step::Sent { marks }) => return self.adopt(stage, marks, stopping).await,
        }
        self.fresh(stage, attempt, mark).await
    }

    /// Starts the build container and sends the script.
    async fn fresh(
        &mut self,
        stage: &ScriptStage<'_>,
        attempt: u32,
        mark: &str,
    ) -> Result<Tried, ExecutorError> {
        let stop = stop_or_limit(&self.control, stage.limit);
        tokio::pin!(stop);
        let (id, previous_start) = tokio::select! {
            container = self.build_container() => container?,
            reason = &mut stop => return Ok(Tried::Ended(StageEnd::Stopped(reason))),
        };
        let context = self.context.clone();
        let starting = Step::Starting {
            container: id.clone(),
            previous_start: previous_start.clone(),
        };
        context.step(stage.index, attempt, starting).await?;
        let early = self.early.take().filter(|early| early.is_of(&id));
        let image = self
            .prepared
            .as_ref()
            .map(|prepared| prepared.build_image.clone())
            .unwrap_or_default();
        let entrypoint = self.has_entrypoint();
        let begin = async {
            // Directories are made by a second, never started container while this one starts.
            let (started, made) = tokio::join!(
                async {
                    match early {
                        Some(early) => early.finish().await,
                        None => start::start(&context, &id).await,
                    }
                },
                self.directories.ensure(&context, &image, &id)
            );
            let started = match started {
                Ok(started) => started,
                Err(error) => {
                    return Err(not_started(&context, stage.stage, entrypoint, &error).await);
                }
            };
            made?;
            self.directories.ensure_running(&context, &id).await?;
            Ok::<_, ExecutorError>(started)
        };
        let started = tokio::select! {
            begun = begin => match begun {
                Ok(started) => started,
                // The engine went away, or an answer got lost: it may or may not run, without a script.
                Err(ExecutorError::Job(cause @ Cause::EngineUnreachable { .. })) => {
                    self.settle_start(stage, &id, &previous_start).await?;
                    return Ok(Tried::NotRun(cause));
                }
                Err(error) => return Err(error),
            },
            reason = &mut stop => {
                // It may or may not run; no part of the script was sent.
                context.note(crate::Record::Stopping(reason)).await?;
                return self.stopped(reason).await;
            }
        };
        let given = self.give_to_image_user(&id, stage.stage, &mut stop).await?;
        if let StageEnd::Stopped(reason) = given {
            context.note(crate::Record::Stopping(reason)).await?;
            return self.stopped(reason).await;
        }
        let marks = self.marks(&id);
        let Started {
            attached: Attached { mut stdin, output },
            wait,
            events,
        } = started;
        let script = self.render(stage, mark);
        let run = Run::new(&context, &id, stage.stage);
        let terminal = context.terminal_opens(&id);
        let follow = run.follow(Some(Live { output, wait }), events, None, stop);
        tokio::pin!(follow);
        let send = async {
            context
                .step(stage.index, attempt, Step::Sending { marks })
                .await?;
            // A container that does not read its stdin shows in how it ends, not here.
            if stdin.write_all(script.as_bytes()).await.is_ok() && stdin.shutdown().await.is_ok() {
                run.sent.store(true, Ordering::Relaxed);
                context
                    .step(stage.index, attempt, Step::Sent { marks })
                    .await?;
            }
            Ok::<_, ExecutorError>(())
        };
        let end = tokio::select! {
            biased;
            end = &mut follow => end,
            sent = send => {
                sent?;
                follow.await
            }
        }?;
        drop(terminal);
        if end.cut && end.stopped.is_none() {
            if self.has_entrypoint() {
                run.replay().await?;
            }
            self.rerun_in_new_container(stage, &id).await?;
            let image = context.plan.image_name.clone();
            return Ok(Tried::NotRun(Cause::ScriptNotRead { image }));
        }
        let ended = self.ended(stage, &id, marks, &end, &run.tail()).await?;
        Ok(match ended {
            // Its stdin was at its end before the script came, e.g. because a dead process had attached to it.
            StageEnd::Failed(cause @ Cause::ScriptNotRead { .. }) => Tried::NotRun(cause),
            ended => Tried::Ended(ended),
        })
    }

    /// Follows a run that an earlier process began to its end.
    async fn adopt(
        &mut self,
        stage: &ScriptStage<'_>,
        marks: u32,
        stopping: Option<StopReason>,
    ) -> Result<Tried, ExecutorError> {
        let context = self.context.clone();
        let name = &context.plan.build.name;
        let Some(state) = self.inspect_build(name).await? else {
            return match stopping {
                // It was stopped and removed, and only its end is not in the journal.
                Some(reason) => Ok(Tried::Ended(StageEnd::Stopped(reason))),
                None => Err(self.vanished(stage)),
            };
        };
        let id = state.id;
        self.build = Some(id.clone());
        self.directories.assume_made();
        let events = context.events.subscribe(&id);
        let stop = stop_or_limit(&self.control, stage.limit);
        let run = Run::new(&context, &id, stage.stage);
        run.sent.store(true, Ordering::Relaxed);
        let end = run.follow(None, events, stopping, stop).await?;
        let ended = self.ended(stage, &id, marks, &end, &run.tail()).await?;
        Ok(Tried::Ended(ended))
    }

    /// Nothing of the script was sent and the stage is stopped: only its container may be left.
    async fn stopped(&mut self, reason: StopReason) -> Result<Tried, ExecutorError> {
        let name = self.context.plan.build.name.clone();
        self.remove_build(&name).await;
        Ok(Tried::Ended(StageEnd::Stopped(reason)))
    }

    /// A start whose outcome is unknown, before any part of the script was sent: makes sure that what comes next is right for the
    /// container as it is.
    async fn settle_start(
        &mut self,
        stage: &ScriptStage<'_>,
        container: &str,
        previous_start: &str,
    ) -> Result<(), ExecutorError> {
        let Some(state) = self.inspect_build(container).await? else {
            self.build = None;
            return Ok(());
        };
        let started =
            state.status == ContainerStatus::Running || last_start(&state) != previous_start;
        if started {
            return self.rerun_in_new_container(stage, &state.id).await;
        }
        // Who attached to it may be gone, and its stdin with him. A shell that reads nothing gives that away, and gets its script
        // by another start; an entrypoint could not be told from one that wants no script.
        if self.has_entrypoint() || state.status == ContainerStatus::Created {
            self.remove_build(&state.id).await;
        }
        Ok(())
    }

    /// Whether the whole script arrived in the shell of the container: reads the container's log to the start mark or to its end.
    async fn arrived(
        &self,
        stage: &ScriptStage<'_>,
        name: &str,
        mark: &str,
    ) -> Result<bool, ExecutorError> {
        let context = &self.context;
        let line = format!("{mark}\n");
        loop {
            let Some(state) = self.inspect_build(name).await? else {
                return Err(self.vanished(stage));
            };
            let runs = state.status == ContainerStatus::Running;
            let logs = match context.engine.container_logs(&state.id, runs).await {
                Ok(logs) => Some(logs),
                Err(error) if error.is_unreachable() => None,
                Err(error) => {
                    return Err(context
                        .cause("reading the log of a container", &error)
                        .into());
                }
            };
            if let Some(logs) = logs {
                match follow::holds(logs, line.as_bytes()).await {
                    Ok(true) => return Ok(true),
                    Ok(false) if !runs => return Ok(false),
                    // It ended meanwhile, or the engine went away.
                    Ok(false) | Err(_) => {}
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn vanished(&self, stage: &ScriptStage<'_>) -> ExecutorError {
        Cause::ContainerVanished {
            name: self.context.plan.build.name.clone(),
            stage: stage.stage.clone(),
        }
        .into()
    }

    /// The stage's end, explained; the container is removed where the next stage must have a new one.
    async fn ended(
        &mut self,
        stage: &ScriptStage<'_>,
        id: &str,
        marks: u32,
        end: &RunEnd,
        tail: &str,
    ) -> Result<StageEnd, ExecutorError> {
        if let Some(reason) = end.stopped {
            self.remove_build(id).await;
            return Ok(StageEnd::Stopped(reason));
        }
        let explanation = explain::run(&explain::Ended {
            end,
            memory: self.context.plan.build.spec.host.memory,
            // A mark may be lost with the rest of what was written while the engine was away.
            script_began: self.marks(id) > marks || end.gap,
            entrypoint: self.has_entrypoint(),
            image: &self.context.plan.image_name,
            tail,
        });
        if let Some(note) = explanation.note {
            let key = format!("stage{}:note", stage.index);
            self.context.trace.line_once(&key, Level::Warning, &note);
        }
        Ok(explanation
            .cause
            .map_or(StageEnd::Succeeded, StageEnd::Failed))
    }

    /// No part of the script ran; but an entrypoint is code of the user, too, and may have.
    async fn rerun_in_new_container(
        &mut self,
        stage: &ScriptStage<'_>,
        id: &str,
    ) -> Result<(), ExecutorError> {
        if self.has_entrypoint() {
            return Err(Cause::UnsafeRerun {
                stage: stage.stage.clone(),
            }
            .into());
        }
        self.remove_build(id).await;
        Ok(())
    }

    async fn inspect_build(&self, id: &str) -> Result<Option<ContainerState>, ExecutorError> {
        self.context.inspect_patiently(id, &self.control).await
    }

    fn render(&self, stage: &ScriptStage<'_>, mark: &str) -> String {
        let rendered = self
            .context
            .plan
            .script(stage.work, stage.after_script, stage.status, mark);
        for key in rendered.skipped_keys {
            let once = format!("skipped:{key}");
            let text = format!("variable {key:?} is not exported: its name is no shell identifier");
            self.context.trace.line_once(&once, Level::Warning, &text);
        }
        rendered.script
    }

    /// The line that a script prints first; unique to this attempt.
    fn start_mark(&self, index: usize, attempt: u32) -> String {
        format!(
            "gantry-script-{}-{index}-{attempt}",
            self.context.plan.names.run
        )
    }

    /// Start marks in the container's output so far.
    fn marks(&self, id: &str) -> u32 {
        self.context.trace.position(id, Stream::Stdout).start_marks
    }

    fn has_entrypoint(&self) -> bool {
        self.prepared
            .as_ref()
            .is_some_and(|prepared| prepared.build_entrypoint)
    }
}

/// Why the build container could not be started.
async fn not_started(
    context: &Context,
    stage: &Stage,
    entrypoint: bool,
    error: &EngineError,
) -> ExecutorError {
    let name = &context.plan.build.name;
    let cause = context
        .start_cause("starting the build container", name, stage, error)
        .await;
    let path = context.plan.variables.get("PATH").is_some();
    explain::start_failure(cause, &context.plan.image_name, entrypoint, path).into()
}

impl Context {
    /// Inspects, waiting for an engine that is away as long as the job has time.
    pub(crate) async fn inspect_patiently(
        &self,
        id: &str,
        control: &Control,
    ) -> Result<Option<ContainerState>, ExecutorError> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.engine.container_inspect(id).await {
                Ok(state) => return Ok(state),
                Err(error) if error.is_unreachable() || follow::is_server_side(&error) => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        reason = control.stop() => {
                            return Err(explain::stopped(reason, &self.plan.limits).into());
                        }
                    }
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(error) => return Err(self.cause("inspecting a container", &error).into()),
            }
        }
    }
}
