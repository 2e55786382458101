//! Stages that the helper does, as a walk needs them: their attempts, the clean-up, and the start of the helper itself.

use std::time::Duration;

use gantry_agent::{ClearWorktreeRequest, StageRequest};
use gantry_container::EngineFlavor;
use gantry_job::{Cause, JobStatus, Stage};
use gantry_plan::{PlannedStage, StageWork};
use gantry_trace::Level;
use tokio::time::Instant;

use crate::{
    ExecutorError, StopReason,
    archives::Now,
    artifact_store,
    control::stop_or_limit,
    helper::Helper,
    record::{StageEnd, Step},
    start::EarlyStart,
    walk::Walk,
};

/// Bound of the clean-up stage after a hard end.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);

impl Walk {
    /// A stage of the helper with its attempts, each a section of its own (job-lifecycle §1.2, §4.7). `attempt` is the one to begin
    /// with, and then the one whose section is open.
    pub(crate) async fn attempts(
        &mut self,
        index: usize,
        planned: &PlannedStage,
        attempt: &mut u32,
    ) -> Result<StageEnd, ExecutorError> {
        let context = self.context.clone();
        let stage = &planned.stage;
        let limits = &context.plan.limits;
        let sources = *stage == Stage::GetSources;
        let limit = limits.get_sources.filter(|_| sources);
        let limit = self.limit(StopReason::GetSourcesTimeout, limit).await?;
        let control = self.control.clone();
        let mut next = std::mem::replace(attempt, 1);
        loop {
            if sources && next == 2 {
                let stop = stop_or_limit(&control, limit);
                match self.clear_worktree(index, stop).await? {
                    StageEnd::Succeeded => {}
                    // A failure here counts as the attempt.
                    StageEnd::Failed(_) if next < planned.attempts => {
                        next += 1;
                        context.step(index, next, Step::Began).await?;
                    }
                    end => return Ok(end),
                }
            }
            *attempt = next;
            self.section_starts(index, next, stage);
            let end = self.attempt_of(index, next, planned, limit).await?;
            if !matches!(end, StageEnd::Failed(_)) || next >= planned.attempts {
                return Ok(end);
            }
            self.section_ends(index, next, stage);
            let key = format!("stage{index}.{next}:retry");
            context.trace.line_once(&key, Level::Warning, "Retrying...");
            let wait = limits
                .retry_waits
                .get(next as usize - 1)
                .or(limits.retry_waits.last())
                .copied()
                .unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                reason = stop_or_limit(&control, limit) => return Ok(StageEnd::Stopped(reason)),
            }
            next += 1;
            context.step(index, next, Step::Began).await?;
        }
    }

    /// One attempt, with `EXECUTOR_JOB_SECTION_ATTEMPTS` tries where the helper's container gets lost in the middle of it.
    async fn attempt_of(
        &mut self,
        index: usize,
        attempt: u32,
        planned: &PlannedStage,
        limit: Option<(Instant, StopReason)>,
    ) -> Result<StageEnd, ExecutorError> {
        let context = self.context.clone();
        let stage = &planned.stage;
        let tries = context.plan.section_attempts.max(1);
        let mut number = 1;
        loop {
            let stop = stop_or_limit(&self.control, limit);
            tokio::pin!(stop);
            if let StageWork::ArchiveCache(work) = &planned.work {
                // Bounded, and not left in its midst: what was begun is to be written down.
                Box::pin(self.begin_uploads(index, work)).await?;
            }
            // Addresses may have to be asked for.
            let request = tokio::select! {
                request = self.request(index, planned) => request?,
                reason = &mut stop => return Ok(StageEnd::Stopped(reason)),
            };
            let id = format!("{}/{attempt}", stage.section_name());
            let message = match self.helper_stage(&id, stage, &request, stop).await {
                Err(ExecutorError::Job(Cause::HelperLost { message, .. })) if tries > 1 => message,
                end => return end,
            };
            let key = format!("stage{index}.{attempt}.{number}");
            let trace = &context.trace;
            let Some(helper) = context.plan.helper.as_ref().filter(|_| number < tries) else {
                let text = "Execution attempts exceeded";
                trace.line_once(&format!("{key}:exceeded"), Level::Error, text);
                let stage = stage.clone();
                return Err(Cause::HelperLost { stage, message }.into());
            };
            let text = format!(
                "Container \"{}\" not found or removed. Will retry...",
                helper.name
            );
            trace.line_once(&format!("{key}:lost"), Level::Error, &text);
            let text = format!("Retrying {}", stage.section_name());
            trace.line_once(&format!("{key}:retry"), Level::Info, &text);
            self.drop_helper(&helper.name).await;
            number += 1;
        }
    }

    /// What the helper is asked now.
    async fn request(
        &self,
        index: usize,
        planned: &PlannedStage,
    ) -> Result<StageRequest, ExecutorError> {
        let accepted = self.progress.accepted.as_ref();
        let status = if planned.stage.follows_scripts() {
            self.flow.status()
        } else {
            JobStatus::Running
        };
        let now = Now {
            plan: &self.context.plan,
            caches: self.context.caches.as_ref(),
            stage: index,
            progress: &self.progress,
            status,
            accepted_ms: accepted.map_or(0, |accepted| accepted.accepted_ms),
        };
        now.request(&planned.work).await.ok_or_else(|| {
            ExecutorError::Job(Cause::Internal {
                message: format!("{} is no stage of the helper", planned.stage),
            })
        })
    }

    /// Before the second attempt. A new process asks for it again: the agent knows whether it was done.
    async fn clear_worktree(
        &mut self,
        index: usize,
        stop: impl Future<Output = StopReason>,
    ) -> Result<StageEnd, ExecutorError> {
        let trace = self.context.trace.clone();
        let clear = Stage::ClearWorktree;
        let (start, end) = (
            format!("stage{index}:clear:start"),
            format!("stage{index}:clear:end"),
        );
        trace.section_start_once(&start, &clear.section_name(), &clear.title());
        let request = StageRequest::ClearWorktree(ClearWorktreeRequest {
            project_dir: self.context.plan.directories.project.clone().into(),
        });
        let result = self
            .helper_stage("clear_worktree/1", &clear, &request, stop)
            .await;
        trace.section_end_once(&end, &clear.section_name());
        result
    }

    /// The clean-up: after every end, with its own bound instead of the job's.
    pub(crate) async fn cleanup_stage(
        &mut self,
        index: usize,
        planned: &PlannedStage,
    ) -> Result<StageEnd, ExecutorError> {
        let stage = &planned.stage;
        let request = &self.request(index, planned).await?;
        let bound = async {
            tokio::time::sleep(CLEANUP_LIMIT).await;
            StopReason::JobTimeout
        };
        let id = format!("{}/1", stage.section_name());
        let end = self.helper_stage(&id, stage, request, bound).await;
        match &end {
            Ok(StageEnd::Succeeded) => {}
            Ok(end) => tracing::warn!(
                job = self.context.plan.job_id,
                ?end,
                "file variables may be left on a volume"
            ),
            Err(error) => {
                tracing::warn!(job = self.context.plan.job_id, %error, "file variables may be left on a volume");
            }
        }
        end
    }

    /// One stage of the helper. A helper that was lost before it said a word of this stage is replaced, once: it went away between
    /// two stages, and the clean-up of all must not fail for it (docker-executor §14, scenario 81).
    pub(crate) async fn helper_stage(
        &mut self,
        id: &str,
        stage: &Stage,
        request: &StageRequest,
        stop: impl Future<Output = StopReason>,
    ) -> Result<StageEnd, ExecutorError> {
        tokio::pin!(stop);
        let before = Helper::heard_of(&self.context.trace, id);
        let end = self
            .helper_stage_once(id, stage, request, stop.as_mut())
            .await;
        let heard = Helper::heard_of(&self.context.trace, id) > before;
        match (end, &self.context.plan.helper) {
            (Err(ExecutorError::Job(Cause::HelperLost { message, .. })), Some(helper))
                if !heard =>
            {
                tracing::warn!(
                    job = self.context.plan.job_id,
                    reason = message,
                    "the helper is replaced"
                );
                let name = helper.name.clone();
                self.drop_helper(&name).await;
                self.helper_stage_once(id, stage, request, stop).await
            }
            (end, _) => end,
        }
    }

    /// Makes room for another helper.
    async fn drop_helper(&mut self, name: &str) {
        // What cannot be removed is named by the start that follows.
        self.context.engine.container_remove(name).await.ok();
        self.helper = None;
    }

    async fn helper_stage_once(
        &mut self,
        id: &str,
        stage: &Stage,
        request: &StageRequest,
        stop: impl Future<Output = StopReason>,
    ) -> Result<StageEnd, ExecutorError> {
        tokio::pin!(stop);
        if self.helper.is_none() {
            let started = tokio::select! {
                started = self.start_helper() => started?,
                reason = &mut stop => return Ok(StageEnd::Stopped(reason)),
            };
            self.helper = Some(started);
        }
        let stopping = self.take_stopping();
        let context = self.context.clone();
        let Some(helper) = &mut self.helper else {
            return Ok(StageEnd::Succeeded);
        };
        let container = helper.container().to_owned();
        tokio::select! {
            brought = artifact_store::bring(&context, &container, request) => brought?,
            reason = &mut stop => return Ok(StageEnd::Stopped(reason)),
        }
        let end = helper
            .run(id, stage, request, stopping, stop.as_mut())
            .await?;
        // Whoever stopped it has been heard, and what stops it is not to be asked again.
        if matches!(end, StageEnd::Stopped(_)) {
            return Ok(end);
        }
        tokio::select! {
            end = artifact_store::fetch(&context, &container, stage, request, end) => end,
            reason = stop => Ok(StageEnd::Stopped(reason)),
        }
    }

    /// Starts the containers of the first stages while services are looked at; what does not come off is done by those stages.
    pub(crate) async fn head_start(&mut self) {
        if self.context.plan.helper.is_some() {
            match Box::pin(self.try_start_helper(false)).await {
                Ok(helper) => self.helper = Some(helper),
                Err(error) => tracing::debug!(%error, "the helper does not start early"),
            }
        } else if self.may_start_early()
            && let Ok((build, _)) = self.build_container().await
        {
            self.early = Some(EarlyStart::begin(&self.context, &build));
        }
    }

    /// Whether the build container may run before its script is there. Podman resets volumes at a first start, so there the build
    /// container comes after the sources as in the plan.
    fn may_start_early(&self) -> bool {
        self.context.facts.flavor == EngineFlavor::Docker
            && self
                .prepared
                .as_ref()
                .is_some_and(|prepared| !prepared.build_entrypoint)
            && self.early.is_none()
            && !self.script_begun()
    }

    /// Starts the helper; the build container is created first, because creating it may reset a volume's mode (engine-mechanics
    /// §a), and directories are made while the helper starts.
    async fn start_helper(&mut self) -> Result<Helper, ExecutorError> {
        let mut adopt = self.progress.resumed > 0;
        let mut pause = Duration::from_millis(200);
        loop {
            match self.try_start_helper(adopt).await {
                // An engine that is away is waited for, as long as the stage has time.
                Err(ExecutorError::Job(cause @ Cause::EngineUnreachable { .. })) => {
                    tracing::warn!(job = self.context.plan.job_id, reason = %cause.message(), "the helper is started again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                    adopt = true;
                }
                other => return other,
            }
        }
    }

    async fn try_start_helper(&mut self, adopt: bool) -> Result<Helper, ExecutorError> {
        let (build, _) = self.build_container().await?;
        let context = self.context.clone();
        let Some(prepared) = &self.prepared else {
            return Err(Cause::Internal {
                message: "not prepared".to_owned(),
            }
            .into());
        };
        let image = prepared.helper_image.clone().unwrap_or_default();
        let (helper, made) = tokio::join!(
            Helper::start(
                &context,
                &image,
                &prepared.service_hosts,
                self.progress.resumed,
                adopt
            ),
            self.directories
                .ensure(&context, &prepared.build_image, &build),
        );
        made?;
        let helper = helper?;
        self.directories
            .ensure_running(&context, helper.container())
            .await?;
        if self.may_start_early() {
            self.early = Some(EarlyStart::begin(&context, &build));
        }
        Ok(helper)
    }
}
