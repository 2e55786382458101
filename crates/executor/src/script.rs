//! Runs one user script in the build container, or takes one up that an earlier process began.
//!
//! The container is started, the script goes to its stdin as one unit, and the run is followed to its end. What the journal says
//! and what the engine says decide after a restart whether the script ran, runs, or may be run again.

use std::sync::Mutex;

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
    follow::{Live, Run, RunEnd},
    record::{StageEnd, Step},
    start::{self, Started},
    walk::{Walk, last_start},
};

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
                    self.context.trace.errorln("Execution attempts exceeded");
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
        begun: Option<Step>,
    ) -> Result<StageEnd, ExecutorError> {
        let mark = self.start_mark(stage.index, attempt);
        self.context
            .trace
            .add_phrases([Phrase::start_mark(format!("{mark}\n"))]);
        let stop = stop_or_limit(&self.control, stage.limit);
        match begun {
            None | Some(Step::Began | Step::Ended(_)) => {}
            Some(Step::Starting {
                container,
                previous_start,
            }) => {
                // Nothing of the script was sent; only the container may have been started.
                if let Some(state) = self.inspect_build(&container).await?
                    && (state.status == ContainerStatus::Running
                        || last_start(&state) != previous_start)
                {
                    self.rerun_in_new_container(stage, &state.id).await?;
                }
            }
            Some(Step::Sending { marks }) => {
                let (id, end) = self.adopt(stage, stop).await?;
                if end.stopped.is_some() || self.marks(&id) > marks {
                    return self.ended(stage, &id, marks, &end, "").await;
                }
                // The shell never saw the whole script, so none of it ran.
                self.rerun_in_new_container(stage, &id).await?;
            }
            Some(Step::Sent { marks }) => {
                let (id, end) = self.adopt(stage, stop).await?;
                return self.ended(stage, &id, marks, &end, "").await;
            }
        }
        self.fresh(stage, attempt, &mark).await
    }

    /// Starts the build container and sends the script.
    async fn fresh(
        &mut self,
        stage: &ScriptStage<'_>,
        attempt: u32,
        mark: &str,
    ) -> Result<StageEnd, ExecutorError> {
        let stop = stop_or_limit(&self.control, stage.limit);
        tokio::pin!(stop);
        let (id, previous_start) = tokio::select! {
            container = self.build_container() => container?,
            reason = &mut stop => return Ok(StageEnd::Stopped(reason)),
        };
        let context = self.context.clone();
        let starting = Step::Starting {
            container: id.clone(),
            previous_start,
        };
        context.step(stage.index, attempt, starting).await?;
        let early = self.early.take().filter(|early| early.is_of(&id));
        let image = self
            .prepared
            .as_ref()
            .map(|prepared| prepared.build_image.clone())
            .unwrap_or_default();
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
            let started = started.map_err(|error| not_started(&context, stage.stage, &error))?;
            made?;
            self.directories.ensure_running(&context, &id).await?;
            Ok::<_, ExecutorError>(started)
        };
        let started = tokio::select! {
            begun = begin => begun?,
            reason = &mut stop => {
                // It may or may not run; no part of the script was sent.
                context.note(crate::Record::Stopping(reason)).await?;
                self.remove_build(&id).await;
                return Ok(StageEnd::Stopped(reason));
            }
        };
        let marks = self.marks(&id);
        let Started {
            attached: Attached { mut stdin, output },
            wait,
            events,
        } = started;
        let script = self.render(stage, mark);
        let run = Run {
            context: &context,
            id: &id,
            name: &context.plan.build.name,
            stage: stage.stage,
            tail: Mutex::default(),
        };
        let follow = run.follow(Some(Live { output, wait }), events, stop);
        tokio::pin!(follow);
        let send = async {
            context
                .step(stage.index, attempt, Step::Sending { marks })
                .await?;
            // A container that does not read its stdin shows in how it ends, not here.
            if stdin.write_all(script.as_bytes()).await.is_ok() && stdin.shutdown().await.is_ok() {
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
        let tail = run.tail();
        self.ended(stage, &id, marks, &end, &tail).await
    }

    /// Follows a run that an earlier process began.
    async fn adopt(
        &mut self,
        stage: &ScriptStage<'_>,
        stop: impl Future<Output = StopReason> + Send,
    ) -> Result<(String, RunEnd), ExecutorError> {
        let context = self.context.clone();
        let name = &context.plan.build.name;
        let id = match self.inspect_build(name).await? {
            Some(state) => state.id,
            None => {
                let (name, stage) = (name.clone(), stage.stage.clone());
                return Err(Cause::ContainerVanished { name, stage }.into());
            }
        };
        self.build = Some(id.clone());
        self.directories.assume_made();
        let events = context.events.subscribe(&id);
        let run = Run {
            context: &context,
            id: &id,
            name,
            stage: stage.stage,
            tail: Mutex::default(),
        };
        let end = run.follow(None, events, stop).await?;
        Ok((id, end))
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
            script_began: self.marks(id) > marks,
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
            let text =
                format!("variable \"{key}\" is not exported: its name is no shell identifier");
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
fn not_started(context: &Context, stage: &Stage, error: &EngineError) -> ExecutorError {
    if error.is_not_found() {
        let name = context.plan.build.name.clone();
        return Cause::ContainerVanished {
            name,
            stage: stage.clone(),
        }
        .into();
    }
    let cause = context.cause("starting the build container", error);
    explain::start_failure(cause, &context.plan.image_name).into()
}

impl Context {
    /// Inspects, waiting for an engine that is away as long as the job has time.
    pub(crate) async fn inspect_patiently(
        &self,
        id: &str,
        control: &Control,
    ) -> Result<Option<ContainerState>, ExecutorError> {
        let mut pause = std::time::Duration::from_millis(100);
        loop {
            match self.engine.container_inspect(id).await {
                Ok(state) => return Ok(state),
                Err(error) if error.is_unreachable() => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        reason = control.stop() => {
                            return Err(explain::stopped(reason, &self.plan.limits).into());
                        }
                    }
                    pause = (pause * 2).min(std::time::Duration::from_secs(5));
                }
                Err(error) => return Err(self.cause("inspecting a container", &error).into()),
            }
        }
    }
}
