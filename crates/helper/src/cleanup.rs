//! `cleanup_file_variables` and `clear_worktree` (job-lifecycle §4.7, §4.8).

use std::path::Path;

use gantry_agent::{CleanupRequest, ClearWorktreeRequest, GitStrategy, JobCleanup, ObjectFormat};

use crate::{
    files, git_config,
    git_config::Global,
    hygiene, sources,
    stage::{Stage, StageError, text},
};

/// Removes what a job must not leave behind. Goes on after a failure, and reports the first one.
pub(crate) fn run(stage: &mut Stage, request: &CleanupRequest) -> Result<(), StageError> {
    let mut failures = Failures::default();
    let tmp = request.tmp_dir.as_path();
    if files::exists(tmp) && !files::is_real_dir(tmp) {
        // Names below it are elsewhere.
        failures.note(files::remove(tmp));
    }
    for name in ["gitlab_runner_env", "masking.db", ".glr.gconf"] {
        failures.note(files::remove(&tmp.join(name)));
    }
    failures.note(files::remove(&git_config::external_path(tmp)));
    for path in &request.files {
        failures.note(files::remove(path));
    }
    if let Some(wanted) = &request.job_cleanup {
        failures.note(clean_project(stage, request, wanted));
    }
    failures.note(hygiene::clean(
        &request.project_dir,
        tmp,
        request.clean_git_config,
    ));
    failures.note(files::remove(
        &request.builds_dir.join(".gitlab-build-uid-gid"),
    ));
    failures.first.map_or(Ok(()), Err)
}

#[derive(Default)]
struct Failures {
    first: Option<StageError>,
}

impl Failures {
    fn note<E: Into<StageError>>(&mut self, result: Result<(), E>) {
        if let Err(error) = result {
            self.first.get_or_insert(error.into());
        }
    }
}

/// `FF_ENABLE_JOB_CLEANUP`.
fn clean_project(
    stage: &mut Stage,
    request: &CleanupRequest,
    wanted: &JobCleanup,
) -> Result<(), StageError> {
    let dir = request.project_dir.as_path();
    match wanted.strategy {
        GitStrategy::None => {
            stage.notice("Skipping build directory cleanup step");
            Ok(())
        }
        GitStrategy::Clone | GitStrategy::Empty => Ok(files::remove(dir)?),
        GitStrategy::Fetch => {
            // The user's script was free to prepare the repository for whoever runs git in it next.
            hygiene::clean(dir, &request.tmp_dir, request.clean_git_config)?;
            let git = dir.join(".git");
            if !files::is_real_dir(dir) || !files::is_real_dir(&git) {
                return Ok(());
            }
            let config = git.join("config");
            if !files::exists(&config) {
                let sha256 = wanted.object_format == ObjectFormat::Sha256;
                files::write(&config, 0o666, git_config::minimal(sha256).as_bytes())?;
            }
            stage
                .environment
                .insert("GIT_LFS_SKIP_SMUDGE".into(), "1".into());
            let _global = Global::install(stage, &[text(dir)], false, None)?;
            if let Some(flags) = &wanted.clean_flags {
                let arguments = [String::from("clean")]
                    .into_iter()
                    .chain(flags.iter().cloned());
                stage.git(Some(dir), arguments, "clean")?;
            }
            stage.git(Some(dir), ["reset", "--hard"], "reset")
        }
    }
}

/// Empties the worktree and the index but keeps what has been fetched. The peer asks git to (`git rm`, `git clean`); git is not run
/// here, because the attempt before may have failed before the repository was made safe.
pub(crate) fn clear_worktree(
    stage: &Stage,
    request: &ClearWorktreeRequest,
) -> Result<(), StageError> {
    stage.notice("Deleting tracked and untracked files...");
    let dir: &Path = &request.project_dir;
    sources::clear(dir)?;
    if files::is_real_dir(&dir.join(".git")) {
        files::remove(&dir.join(".git/index"))?;
    }
    Ok(())
}
