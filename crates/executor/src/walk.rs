//! Walks a plan: prepare, stages in order, stop containers, verdict. The same walk serves a new job and one taken up after a
//! restart; what the journal says is done is not done again.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use gantry_container::{ContainerState, ContainerStatus};
use gantry_engine::EngineError;
use gantry_job::{Cause, Stage};
use gantry_journal::Journal;
use gantry_object_storage::Storage;
use gantry_plan::{Plan, PlannedStage, StageWork};
use gantry_trace::{JobTrace, Level, Stream};
use tokio::{sync::watch, time::Instant};

use crate::{
    ArtifactStore, EngineAccess, Environment, ExecutorError, JobObserver, Prepared, Progress,
    Record, StopReason, TerminalPort, Verdict, Wish, WorkingTree,
    claim::{NAME_LIMIT, NAME_PAUSE},
    cleanup,
    context::Context,
    control::{Control, instant, stop_or_limit, unix_ms},
    directories::Directories,
    durable::conclude,
    ended_services, explain,
    flow::Flow,
    helper::Helper,
    prepare,
    record::{StageEnd, Step},
    script::ScriptStage,
    service_logs::ServiceLogs,
    start::EarlyStart,
    uploads,
};

/// Tries of the preparation, and the pause between them (coordinator-api §9).
const PREPARE_TRIES: u32 = 3;
const PREPARE_PAUSE: Duration = Duration::from_secs(3);
/// Deaths of processes on one job before the job is given up.
const CRASH_LIMIT: u32 = 3;
/// Tries of removing it between two stages.
const REMOVE_TRIES: u32 = 3;

/// A job ready to run, new or taken up again.
pub struct Job {
    /// What is to be done; must be in the journal already.
    pub plan: Arc<Plan>,
    /// The job's journal.
    pub journal: Journal<Record>,
    /// The job's log.
    pub trace: JobTrace,
    /// Where the journal says the job stands.
    pub progress: Progress,
    /// The engine.
    pub access: EngineAccess,
    /// What the process shares.
    pub environment: Environment,
    /// The working tree, for local runs.
    pub working_tree: Option<WorkingTree>,
    /// Where artifacts are kept, for jobs without a server.
    pub artifacts: Option<Arc<dyn ArtifactStore>>,
    /// The remote cache, if the runner has one.
    pub caches: Option<Storage>,
    /// Is told what happens.
    pub observer: JobObserver,
    /// Where an interactive terminal of the job is told of its build container.
    pub terminal: Option<Arc<TerminalPort>>,
}

/// A job that runs.
pub(crate) struct Walk {
    pub(crate) context: Context,
    pub(crate) control: Control,
    pub(crate) directories: Directories,
    pub(crate) prepared: Option<Prepared>,
    /// The build container in use.
    pub(crate) build: Option<String>,
    /// The build container's start, begun while sources are fetched.
    pub(crate) early: Option<EarlyStart>,
    pub(crate) helper: Option<Helper>,
    /// What services print.
    pub(crate) service_logs: Arc<ServiceLogs>,
    /// The files of the job are those of the build image's user, or need not be.
    pub(crate) given: bool,
    pub(crate) flow: Flow,
    pub(crate) progress: Progress,
    /// A stage was worked on by this process.
    worked: bool,
}

impl Job {
    fn context(&self) -> Context {
        Context {
            engine: Arc::clone(&self.access.engine),
            events: self.access.events.clone(),
            facts: self.access.facts.clone(),
            environment: self.environment.clone(),
            plan: Arc::clone(&self.plan),
            trace: self.trace.clone(),
            journal: self.journal.clone(),
            working_tree: self.working_tree.clone(),
            artifacts: self.artifacts.clone(),
            caches: self.caches.clone(),
            observer: self.observer.clone(),
            terminal: self.terminal.clone(),
        }
    }

    /// Runs the job to its verdict, which is in the journal and on the disk when this returns. All containers are stopped then,
    /// and the log is finished; call [`Job::remove`] once the verdict is delivered.
    ///
    /// Dropping the future leaves the job as if the process had died: a later run takes it up.
    ///
    /// # Errors
    /// Only when the journal or the log cannot be written.
    pub fn run(
        &self,
        wishes: watch::Receiver<Wish>,
    ) -> BoxFuture<'_, Result<Verdict, ExecutorError>> {
        // Boxed, so that the walk is compiled here and not again in every crate that awaits it.
        Box::pin(self.run_to_verdict(wishes))
    }

    async fn run_to_verdict(
        &self,
        wishes: watch::Receiver<Wish>,
    ) -> Result<Verdict, ExecutorError> {
        if let Some(verdict) = &self.progress.verdict {
            return Ok(verdict.clone());
        }
        let deadline = self
            .progress
            .accepted
            .as_ref()
            .map_or(u64::MAX / 2, |job| job.deadline_ms);
        let directories = Directories::default();
        if script_sent(&self.plan, &self.progress) {
            directories.assume_made();
        }
        let mut walk = Walk {
            context: self.context(),
            control: Control::new(wishes, deadline),
            directories,
            prepared: self.progress.prepared.clone(),
            build: None,
            early: None,
            helper: None,
            service_logs: Arc::default(),
            given: !self.plan.give_to_image_user || script_sent(&self.plan, &self.progress),
            flow: Flow::default(),
            progress: self.progress.clone(),
            worked: false,
        };
        walk.run().await
    }

    /// Stops all containers of the job, for a job that nobody wants any more.
    pub fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            cleanup::stop_all(&self.context()).await;
        })
    }

    /// Removes everything the job made, bounded and again and again; says whether all is gone. Safe to repeat.
    pub fn remove(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            let context = self.context();
            let left = Box::pin(uploads::abort(&context, &self.progress.uploads));
            tokio::join!(cleanup::remove_all(&context), left).0
        })
    }
}

impl Walk {
    async fn run(&mut self) -> Result<Verdict, ExecutorError> {
        if self.progress.crashes() >= CRASH_LIMIT {
            self.flow.not_prepared(Cause::CrashedThreeTimes);
        } else {
            match self.prepare().await {
                Ok(()) => self.stages().await?,
                Err(ExecutorError::Job(cause)) => self.flow.not_prepared(cause),
                Err(error) => return Err(error),
            }
        }
        self.tell_of_services().await;
        self.wait_for_terminal().await;
        self.helper = None;
        self.early = None;
        self.service_logs.job_is_over();
        let context = self.context.clone();
        // Side by side, for the verdict waits for both.
        let (ended, stopped) =
            tokio::join!(Box::pin(self.end_uploads()), cleanup::stop_all(&context));
        self.service_logs.finish().await;
        ended?;
        self.verdict(stopped).await
    }

    /// Services that have ended are told of when the job failed. Not where all stages were over before: the process that died then may
    /// have been stopping the services itself.
    async fn tell_of_services(&self) {
        if self.worked
            && let Some(failure) = self.flow.failure()
        {
            ended_services::tell(&self.context, failure).await;
        }
    }

    async fn verdict(&mut self, stopped: bool) -> Result<Verdict, ExecutorError> {
        let context = &self.context;
        // Of a local run the user knows: it was Ctrl-C.
        if self.flow.canceled_in_script() && context.working_tree.is_none() {
            let text = "script canceled externally (UI, API)";
            context.trace.line_once("canceled", Level::Warning, text);
        }
        conclude(
            &context.journal,
            &context.trace,
            self.flow.failure().cloned(),
            stopped,
        )
        .await
    }

    /// Preparation with its tries and its section.
    async fn prepare(&mut self) -> Result<(), ExecutorError> {
        let context = self.context.clone();
        let trace = &context.trace;
        let plan = &context.plan;
        let stage = Stage::PrepareExecutor;
        if self.prepared.is_some() {
            for service in &plan.services {
                self.service_logs.follow(&context, service);
            }
            trace.section_end_once("prepare:end", stage.section_name().as_ref());
            return Ok(());
        }
        if !plan.warnings.is_empty() {
            trace.line_once("warnings", Level::Warning, &plan.warnings.join("\n"));
        }
        trace.section_start_once(
            "prepare:start",
            stage.section_name().as_ref(),
            stage.title().as_ref(),
        );
        if plan.default_image_used {
            trace.line_once("default-image", Level::Info, "Using default image");
        }
        let text = format!("Using Docker executor with image {} ...", plan.image_name);
        trace.line_once("executor", Level::Print, &text);
        let limit = self
            .limit(StopReason::PrepareTimeout, plan.limits.prepare)
            .await?;
        let stop = stop_or_limit(&self.control, limit);
        let result = tokio::select! {
            biased;
            reason = stop => Err(explain::stopped(reason, &plan.limits).into()),
            result = self.prepare_with_tries() => result,
        };
        trace.section_end_once("prepare:end", stage.section_name().as_ref());
        result
    }

    async fn prepare_with_tries(&mut self) -> Result<(), ExecutorError> {
        let context = self.context.clone();
        let mut again = self.progress.resumed > 0;
        let mut attempt = 1;
        loop {
            self.prepared = None;
            self.build = None;
            self.early = None;
            self.helper = None;
            let cause = match prepare::prepare(self, again).await {
                Ok(prepared) => {
                    self.prepared = Some(prepared);
                    return Ok(());
                }
                Err(ExecutorError::Job(cause)) => cause,
                Err(error) => return Err(error),
            };
            if !prepare::is_worth_another_try(&cause) || attempt == PREPARE_TRIES {
                return Err(cause.into());
            }
            let text = format!("Preparation failed: {}", cause.message());
            context
                .trace
                .line_once(&format!("prepare-failed{attempt}"), Level::Error, &text);
            let text = format!("Will be retried in {}s ...", PREPARE_PAUSE.as_secs());
            context
                .trace
                .line_once(&format!("prepare-retry{attempt}"), Level::Info, &text);
            tokio::time::sleep(PREPARE_PAUSE).await;
            attempt += 1;
            again = true;
        }
    }

    async fn stages(&mut self) -> Result<(), ExecutorError> {
        let context = self.context.clone();
        let plan = &context.plan;
        let mut script_limit = None;
        for (index, planned) in plan.stages.iter().enumerate() {
            let stage = &planned.stage;
            if stage.follows_scripts() {
                // A cancel that comes when the scripts are over interrupts nothing any more.
                self.control.cancel_done();
            }
            if !self.flow.wants(stage) {
                continue;
            }
            let begun = self.progress.stages.get(&index).cloned();
            if let Some((attempt, Step::Ended(end))) = begun {
                self.over(index, planned, attempt, &end);
                continue;
            }
            // A stop that came between two stages. What has begun is looked at first.
            if *stage != Stage::CleanupFileVariables
                && begun.is_none()
                && let Some(reason) = self.control.stop_now()
            {
                let end = StageEnd::Stopped(reason);
                // The next process must not begin it, whatever it knows of the wish.
                context.step(index, 0, Step::Ended(end.clone())).await?;
                self.over(index, planned, 0, &end);
                continue;
            }
            if matches!(planned.work, StageWork::Script(_)) {
                for (number, line) in plan.script_warnings.iter().enumerate() {
                    let key = format!("script-warning{number}");
                    context.trace.line_once(&key, Level::Warning, line);
                }
            }
            if matches!(stage, Stage::Step(_)) {
                for (number, line) in plan.policy.iter().enumerate() {
                    let trace = &context.trace;
                    trace.line_once(&format!("policy{number}"), Level::Info, line);
                }
            }
            if matches!(stage, Stage::Step(_)) && script_limit.is_none() {
                // One for all steps; what comes before them does not count.
                script_limit = self
                    .limit(StopReason::ScriptTimeout, plan.limits.script)
                    .await?;
            }
            self.stage(index, planned, begun, script_limit).await?;
            let more = plan.stages.iter().skip(index + 1);
            let mut scripts = more.filter(|planned| matches!(planned.work, StageWork::Script(_)));
            self.tell_terminal(scripts.any(|planned| self.flow.wants(&planned.stage)));
        }
        Ok(())
    }

    /// When a limit that begins now, or began in an earlier process, is over.
    pub(crate) async fn limit(
        &mut self,
        reason: StopReason,
        length: Option<Duration>,
    ) -> Result<Option<(Instant, StopReason)>, ExecutorError> {
        let Some(length) = length else {
            return Ok(None);
        };
        if let Some(&until_ms) = self.progress.limits.get(&reason) {
            return Ok(Some((instant(until_ms), reason)));
        }
        let until = Instant::now() + length;
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let until_ms = unix_ms().saturating_add(length_ms);
        self.context
            .note(Record::Limit { reason, until_ms })
            .await?;
        self.progress.limits.insert(reason, until_ms);
        Ok(Some((until, reason)))
    }

    /// One stage with its section, its journal and its place in the flow.
    async fn stage(
        &mut self,
        index: usize,
        planned: &PlannedStage,
        begun: Option<(u32, Step)>,
        script_limit: Option<(Instant, StopReason)>,
    ) -> Result<(), ExecutorError> {
        let context = self.context.clone();
        let trace = &context.trace;
        let plan = &context.plan;
        let stage = &planned.stage;
        self.worked = true;
        if begun.is_none() {
            context.step(index, 1, Step::Began).await?;
        }
        self.section_starts(index, 1, stage);
        // The attempt whose section is open.
        let mut attempt = 1;
        let end = match &planned.work {
            StageWork::Lines(lines) => {
                for (number, line) in lines.iter().enumerate() {
                    let source = format!("lines:{index}:{number}");
                    if trace.position(&source, Stream::Stdout).consumed == 0 {
                        context
                            .write_output(&source, Stream::Stdout, format!("{line}\n").as_bytes())
                            .await?;
                        context.close_output(&source).await?;
                    }
                }
                Ok(StageEnd::Succeeded)
            }
            StageWork::Fails(cause) => Ok(StageEnd::Failed(cause.clone())),
            StageWork::Cleanup(_) => self.cleanup_stage(index, planned).await,
            StageWork::Sources(_)
            | StageWork::RestoreCache(_)
            | StageWork::DownloadArtifacts(_)
            | StageWork::ArchiveCache(_)
            | StageWork::UploadArtifacts(_) => {
                attempt = begun.map_or(1, |(attempt, _)| attempt);
                self.attempts(index, planned, &mut attempt).await
            }
            StageWork::Script(work) => {
                let after_script = *stage == Stage::AfterScript;
                let limit = if after_script {
                    let limit = Some(plan.limits.after_script);
                    self.limit(StopReason::AfterScriptTimeout, limit).await?
                } else {
                    script_limit
                };
                let script = ScriptStage {
                    index,
                    stage,
                    work,
                    after_script,
                    status: self.flow.status(),
                    attempts: planned.attempts,
                    limit,
                };
                self.script(&script, begun).await
            }
        };
        let end = match end {
            Ok(end) => end,
            Err(ExecutorError::Job(cause)) => StageEnd::Failed(cause),
            Err(error) => return Err(error),
        };
        let ended = Step::Ended(end.clone());
        context.step(index, attempt, ended).await?;
        self.over(index, planned, attempt, &end);
        Ok(())
    }

    /// What follows from the end of a stage. Repeated for one that ended in an earlier process; the log has it once.
    fn over(&mut self, index: usize, planned: &PlannedStage, attempt: u32, end: &StageEnd) {
        let context = self.context.clone();
        let plan = &context.plan;
        let stage = &planned.stage;
        let shows = self.flow.shows();
        self.flow
            .ended(stage, end, &plan.limits, plan.after_script_ignore_errors);
        if attempt > 0 && shows {
            self.section_ends(index, attempt, stage);
            // After the section's end, as the peer does.
            if matches!(end, StageEnd::Stopped(reason) if is_timeout(*reason)) {
                let line = format!(
                    "{stage} could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts"
                );
                let key = format!("stage{index}:timeout");
                context.trace.line_once(&key, Level::Warning, &line);
            }
        }
        if *stage == Stage::AfterScript && plan.after_script_ignore_errors {
            self.explain_after_script(end);
        }
    }

    pub(crate) fn section_starts(&self, index: usize, attempt: u32, stage: &Stage) {
        if self.flow.shows() {
            let key = format!("stage{index}.{attempt}:start");
            let (name, title) = (stage.section_name(), stage.title());
            self.context.trace.section_start_once(&key, &name, &title);
        }
    }

    pub(crate) fn section_ends(&self, index: usize, attempt: u32, stage: &Stage) {
        let key = format!("stage{index}.{attempt}:end");
        let name = stage.section_name();
        self.context.trace.section_end_once(&key, &name);
    }

    fn explain_after_script(&self, end: &StageEnd) {
        let cause = match end {
            StageEnd::Succeeded => return,
            StageEnd::Failed(cause) => cause.message(),
            StageEnd::Stopped(StopReason::AfterScriptTimeout) => {
                "script timeout: context deadline exceeded".to_owned()
            }
            StageEnd::Stopped(_) => return,
        };
        let text = format!("after_script failed, but job will continue unaffected: {cause}");
        self.context
            .trace
            .line_once("after-script-failed", Level::Warning, &text);
    }

    /// The build container: the one in use, one an earlier process made, or a new one. Returns its ID and last start time.
    pub(crate) async fn build_container(&mut self) -> Result<(String, String), ExecutorError> {
        let context = self.context.clone();
        let planned = &context.plan.build;
        let known = match &self.build {
            Some(id) => Some(id.clone()),
            None if self.progress.resumed > 0 => Some(planned.name.clone()),
            None => None,
        };
        if let Some(id) = known
            && let Some(state) = context.inspect_patiently(&id, &self.control).await?
        {
            if self.build.is_none() && state.status == ContainerStatus::Running {
                // Started early by a process that died: its stdin is gone with that process, and no script was sent.
                self.remove_build(&state.id).await;
            } else if state.status != ContainerStatus::Removing {
                self.build = Some(state.id.clone());
                let start = last_start(&state);
                return Ok((state.id, start));
            }
        }
        let Some(prepared) = &self.prepared else {
            return Err(Cause::Internal {
                message: "not prepared".to_owned(),
            }
            .into());
        };
        let mut spec = planned.spec.clone();
        spec.image.clone_from(&prepared.build_image);
        spec.host
            .extra_hosts
            .extend(prepared.service_hosts.iter().cloned());
        // In front: a variable of the job wins.
        spec.env
            .0
            .splice(0..0, prepared.link_variables.0.iter().cloned());
        let give_up = Instant::now() + NAME_LIMIT;
        let id = loop {
            let error = match context.engine.container_create(&planned.name, &spec).await {
                Ok(id) => break id,
                Err(error) => error,
            };
            let doubtful = error.is_unreachable() || matches!(error, EngineError::Conflict { .. });
            if !doubtful || Instant::now() >= give_up {
                return Err(context.cause("creating the build container", &error).into());
            }
            let found = context
                .inspect_patiently(&planned.name, &self.control)
                .await?;
            match found {
                // Taken by a call of a dead process that the engine is still at work on.
                None => tokio::time::sleep(NAME_PAUSE).await,
                // On its way out already; should that not come to an end, another removal may.
                Some(state) if state.status == ContainerStatus::Removing => {
                    tokio::time::sleep(NAME_PAUSE).await;
                    self.remove_build(&state.id).await;
                }
                // The answer was lost on its way: the name is ours alone, so a container of it is the one.
                Some(state) if state.status == ContainerStatus::Created => break state.id,
                // The container of an earlier stage that could not be removed.
                Some(state) => self.remove_build(&state.id).await,
            }
        };
        self.build = Some(id.clone());
        Ok((id, String::new()))
    }

    /// Whether a script stage has begun, now or in an earlier process.
    pub(crate) fn script_begun(&self) -> bool {
        let stages = &self.context.plan.stages;
        stages.iter().enumerate().any(|(index, planned)| {
            matches!(planned.work, StageWork::Script(_))
                && self.progress.stages.contains_key(&index)
        })
    }

    /// Removes the build container, so that the next stage gets a new one. What the engine does not let go now is tried again when
    /// its name is needed, and at the end of the job.
    pub(crate) async fn remove_build(&mut self, id: &str) {
        self.build = None;
        let mut pause = Duration::from_millis(200);
        for attempt in 1..=REMOVE_TRIES {
            match self.context.engine.container_remove(id).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(container = id, attempt, %error, "build container cannot be removed");
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Why an earlier process was stopping the stage that it left, if it was.
    pub(crate) fn take_stopping(&mut self) -> Option<StopReason> {
        self.progress.stopping.take()
    }
}

/// Whether a script was sent to a build container, so that all its directories were made.
fn script_sent(plan: &Plan, progress: &Progress) -> bool {
    let scripts = plan.stages.iter().enumerate();
    scripts
        .filter(|(_, planned)| matches!(planned.work, StageWork::Script(_)))
        .filter_map(|(index, _)| progress.stages.get(&index))
        .any(|(_, step)| match step {
            Step::Began | Step::Starting { .. } => false,
            Step::Sending { .. } | Step::Sent { .. } => true,
            Step::Ended(end) => match end {
                StageEnd::Succeeded | StageEnd::Failed(Cause::ScriptExit { .. }) => true,
                StageEnd::Failed(_) | StageEnd::Stopped(_) => false,
            },
        })
}

/// When the container was last started; empty if never, whatever an engine prints for that.
pub(crate) fn last_start(state: &ContainerState) -> String {
    if state.started_at.starts_with("0001-") {
        String::new()
    } else {
        state.started_at.clone()
    }
}

fn is_timeout(reason: StopReason) -> bool {
    match reason {
        StopReason::JobTimeout
        | StopReason::PrepareTimeout
        | StopReason::GetSourcesTimeout
        | StopReason::ScriptTimeout
        | StopReason::AfterScriptTimeout => true,
        StopReason::Canceled | StopReason::Aborted | StopReason::Interrupted { .. } => false,
    }
}
