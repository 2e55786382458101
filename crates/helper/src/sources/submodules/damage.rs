//! Repositories of submodules that an earlier job, or a crash, has left damaged.

use std::path::Path;

use super::places;
use crate::{
    files, hygiene,
    stage::{Show, Stage, StageError, text},
};

/// Whether one of those that are kept is damaged. Takes a while, and is only asked where git has failed.
pub(super) fn is_found(stage: &Stage, dir: &Path) -> Result<bool, StageError> {
    for repository in hygiene::submodule_git_dirs(dir)? {
        let place = format!("--git-dir={}", text(&repository));
        let check = [
            &place,
            "fsck",
            "--no-dangling",
            "--no-progress",
            "--no-reflogs",
        ];
        if stage.git_status(Some(dir), check, Show::Nothing)? != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes all of them, with their files: git clones into empty folders only.
pub(super) fn remove(stage: &Stage, dir: &Path) -> Result<(), StageError> {
    for path in places(stage, dir)? {
        hygiene::empty(dir, &path)?;
    }
    Ok(files::remove(&dir.join(".git/modules"))?)
}
