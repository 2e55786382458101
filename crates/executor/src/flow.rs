//! Which stage follows which end: the transition rules of a job as a pure function of what happened (job-lifecycle §1.3, §1.4).

use gantry_job::{Cause, JobStatus, Stage};
use gantry_plan::Limits;

use crate::{StopReason, explain, record::StageEnd};

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    /// First failure, or what ended the job by force; it is the job's.
    failure: Option<Cause>,
    /// The job had failed when the first thing of it was kept. What fails while things are kept changes the job's result, not what
    /// else is kept (job-lifecycle §1.3).
    failed: bool,
    /// Nothing more of the job runs, only what must not be left behind is removed.
    over: bool,
    /// A stage before the scripts failed: no script runs, after_script neither.
    scripts_out_of_reach: bool,
    /// The script was canceled, for the warning in the log.
    canceled_in_script: bool,
}

impl Flow {
    /// Whether the stage runs.
    pub(crate) fn wants(&self, stage: &Stage) -> bool {
        match stage {
            Stage::CleanupFileVariables => true,
            _ if self.over => false,
            Stage::AfterScript => !self.scripts_out_of_reach,
            Stage::ArchiveCache | Stage::UploadArtifactsOnSuccess => !self.failed,
            Stage::ArchiveCacheOnFailure | Stage::UploadArtifactsOnFailure => self.failed,
            _ => self.failure.is_none(),
        }
    }

    /// Whether the stage shows in the log. After a hard end the clean-up is done without a section, as the peer does none.
    pub(crate) fn shows(&self) -> bool {
        !self.over
    }

    /// Takes the end of a stage in. `ignore_after_script` is `AFTER_SCRIPT_IGNORE_ERRORS`.
    pub(crate) fn ended(
        &mut self,
        stage: &Stage,
        end: &StageEnd,
        limits: &Limits,
        ignore_after_script: bool,
    ) {
        let mut by_force = false;
        let cause = match end {
            StageEnd::Succeeded => return,
            StageEnd::Failed(cause) => cause.clone(),
            StageEnd::Stopped(reason) => {
                let graceful = matches!(
                    (stage, reason),
                    (
                        Stage::Step(_),
                        StopReason::Canceled | StopReason::ScriptTimeout
                    ) | (Stage::AfterScript, StopReason::AfterScriptTimeout)
                );
                self.canceled_in_script |=
                    matches!((stage, reason), (Stage::Step(_), StopReason::Canceled));
                by_force = !graceful;
                self.over |= by_force;
                explain::stopped(*reason, limits)
            }
        };
        // Whatever failed before: with the peer, what ends a job by force is what the job ended of.
        if by_force && *stage != Stage::CleanupFileVariables {
            self.failure = None;
        }
        match stage {
            // The clean-up has no say in the result.
            Stage::CleanupFileVariables => return,
            Stage::AfterScript if !self.over && ignore_after_script => return,
            Stage::ArchiveCache
            | Stage::ArchiveCacheOnFailure
            | Stage::UploadArtifactsOnSuccess
            | Stage::UploadArtifactsOnFailure => {
                self.failure.get_or_insert(cause);
                return;
            }
            Stage::Step(_) | Stage::AfterScript => {}
            _ => self.scripts_out_of_reach = true,
        }
        self.failed = true;
        self.failure.get_or_insert(cause);
    }

    /// Takes in a failure of the preparation: no stage runs.
    pub(crate) fn not_prepared(&mut self, cause: Cause) {
        self.failed = true;
        self.failure.get_or_insert(cause);
        self.over = true;
    }

    /// `CI_JOB_STATUS` for what runs after the scripts.
    pub(crate) fn status(&self) -> JobStatus {
        self.failure
            .as_ref()
            .filter(|_| self.failed)
            .map_or(JobStatus::Success, Cause::status)
    }

    /// The job's failure, if any.
    pub(crate) fn failure(&self) -> Option<&Cause> {
        self.failure.as_ref()
    }

    /// The script was canceled while it ran.
    pub(crate) fn canceled_in_script(&self) -> bool {
        self.canceled_in_script
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    fn limits() -> Limits {
        Limits {
            job: Duration::from_secs(3600),
            prepare: Some(Duration::from_secs(60)),
            get_sources: Some(Duration::from_secs(60)),
            script: Some(Duration::from_secs(60)),
            after_script: Duration::from_secs(300),
            retry_waits: vec![Duration::from_secs(5)],
        }
    }

    fn step() -> Stage {
        Stage::of_step("script")
    }

    fn exit(code: i32) -> StageEnd {
        StageEnd::Failed(Cause::ScriptExit { code })
    }

    fn stopped(reason: StopReason) -> StageEnd {
        StageEnd::Stopped(reason)
    }

    #[rstest]
    #[case::script_fails(step(), exit(3), [false, true, true], true, JobStatus::Failed)]
    #[case::cancel_in_script(step(), stopped(StopReason::Canceled), [false, true, true], true, JobStatus::Canceled)]
    #[case::script_timeout(step(), stopped(StopReason::ScriptTimeout), [false, true, true], true, JobStatus::TimedOut)]
    #[case::job_timeout(step(), stopped(StopReason::JobTimeout), [false, false, true], false, JobStatus::Failed)]
    #[case::abort(step(), stopped(StopReason::Aborted), [false, false, true], false, JobStatus::Canceled)]
    #[case::interrupt(step(), stopped(StopReason::Interrupted { signal: 15 }), [false, false, true], false, JobStatus::Failed)]
    #[case::sources_fail(Stage::GetSources, exit(128), [false, false, true], true, JobStatus::Failed)]
    #[case::cancel_in_sources(Stage::GetSources, stopped(StopReason::Canceled), [false, false, true], false, JobStatus::Canceled)]
    #[case::sources_timeout(Stage::GetSources, stopped(StopReason::GetSourcesTimeout), [false, false, true], false, JobStatus::Failed)]
    #[case::all_well(step(), StageEnd::Succeeded, [true, true, true], true, JobStatus::Success)]
    fn the_next_stages_follow_from_the_end_of_one(
        #[case] stage: Stage,
        #[case] end: StageEnd,
        #[case] wanted: [bool; 3],
        #[case] shows: bool,
        #[case] status: JobStatus,
    ) {
        let mut flow = Flow::default();
        flow.ended(&stage, &end, &limits(), true);
        let next = [
            Stage::of_step("release"),
            Stage::AfterScript,
            Stage::CleanupFileVariables,
        ];
        assert_eq!(next.map(|stage| flow.wants(&stage)), wanted);
        assert_eq!(flow.shows(), shows);
        assert_eq!(flow.status(), status);
    }

    #[rstest]
    #[case::ignored(true, exit(1), false)]
    #[case::counted(false, exit(1), true)]
    #[case::its_timeout_is_ignored_too(true, stopped(StopReason::AfterScriptTimeout), false)]
    #[case::abort_always_counts(true, stopped(StopReason::Aborted), true)]
    fn after_script_fails_the_job_only_where_it_must(
        #[case] ignore: bool,
        #[case] end: StageEnd,
        #[case] fails: bool,
    ) {
        let mut flow = Flow::default();
        flow.ended(&step(), &StageEnd::Succeeded, &limits(), ignore);
        flow.ended(&Stage::AfterScript, &end, &limits(), ignore);
        assert_eq!(flow.failure().is_some(), fails);
    }

    const KEPT: [Stage; 4] = [
        Stage::ArchiveCache,
        Stage::UploadArtifactsOnSuccess,
        Stage::ArchiveCacheOnFailure,
        Stage::UploadArtifactsOnFailure,
    ];

    #[rstest]
    #[case::well(vec![(step(), StageEnd::Succeeded)], [true, true, false, false])]
    #[case::script_fails(vec![(step(), exit(3))], [false, false, true, true])]
    #[case::sources_fail(vec![(Stage::GetSources, exit(128))], [false, false, true, true])]
    #[case::download_fails(vec![(Stage::DownloadArtifacts, exit(1))], [false, false, true, true])]
    #[case::canceled(vec![(step(), stopped(StopReason::Canceled))], [false, false, true, true])]
    #[case::script_timeout(vec![(step(), stopped(StopReason::ScriptTimeout))], [false, false, true, true])]
    #[case::job_timeout(vec![(step(), stopped(StopReason::JobTimeout))], [false; 4])]
    #[case::abort(vec![(step(), stopped(StopReason::Aborted))], [false; 4])]
    #[case::canceled_before_scripts(vec![(Stage::RestoreCache, stopped(StopReason::Canceled))], [false; 4])]
    #[case::ignored_after_script(vec![(Stage::AfterScript, exit(1))], [true, true, false, false])]
    #[case::cache_fails(vec![(step(), StageEnd::Succeeded), (Stage::ArchiveCache, exit(1))], [true, true, false, false])]
    fn what_is_kept_follows_from_how_the_scripts_ended(
        #[case] ends: Vec<(Stage, StageEnd)>,
        #[case] wanted: [bool; 4],
    ) {
        let mut flow = Flow::default();
        for (stage, end) in &ends {
            flow.ended(stage, end, &limits(), true);
        }
        assert_eq!(KEPT.map(|stage| flow.wants(&stage)), wanted);
    }

    #[test]
    fn a_failing_cache_is_the_jobs_failure_before_a_failing_upload() {
        let mut flow = Flow::default();
        flow.ended(&step(), &StageEnd::Succeeded, &limits(), true);
        flow.ended(&Stage::ArchiveCache, &exit(1), &limits(), true);
        assert_eq!(flow.status(), JobStatus::Success, "as the scripts ended");
        flow.ended(&Stage::UploadArtifactsOnSuccess, &exit(2), &limits(), true);
        assert_eq!(flow.failure(), Some(&Cause::ScriptExit { code: 1 }));
    }

    #[rstest]
    #[case::job_timeout(Stage::AfterScript, StopReason::JobTimeout, true)]
    #[case::abort(Stage::AfterScript, StopReason::Aborted, true)]
    #[case::interrupt_in_an_upload(Stage::UploadArtifactsOnFailure, StopReason::Interrupted { signal: 15 }, true)]
    #[case::after_script_timeout(Stage::AfterScript, StopReason::AfterScriptTimeout, false)]
    #[case::too_late(Stage::CleanupFileVariables, StopReason::JobTimeout, false)]
    fn what_ends_a_job_by_force_is_its_failure_whatever_failed_before(
        #[case] stage: Stage,
        #[case] reason: StopReason,
        #[case] counts: bool,
    ) {
        let mut flow = Flow::default();
        flow.ended(&step(), &exit(3), &limits(), false);
        flow.ended(&stage, &stopped(reason), &limits(), false);
        let script = Cause::ScriptExit { code: 3 };
        let force = explain::stopped(reason, &limits());
        let expected = if counts { force } else { script };
        assert_eq!(flow.failure(), Some(&expected));
    }

    #[test]
    fn the_first_failure_is_the_jobs() {
        let mut flow = Flow::default();
        flow.ended(&step(), &exit(3), &limits(), false);
        flow.ended(&Stage::AfterScript, &exit(4), &limits(), false);
        assert_eq!(flow.failure(), Some(&Cause::ScriptExit { code: 3 }));
    }
}
