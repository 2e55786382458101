//! Sources in a directory that an earlier job has used: what is kept there saves time, and must not fail a job that would pass without
//! it.
//!
//! Where git fails with a kept repository, and that may be the repository's fault, the sources are fetched once more into an empty one.
//! The kept one lies aside meanwhile. If the second try fails, too, it was not to blame, and comes back: the next job shall not have to
//! fetch everything anew.

use std::{fs, path::Path};

use super::steps::{Steps, user_agent};
use crate::{
    files,
    hygiene::{self, Index},
    stage::{Show, Stage, StageError, text},
};

/// What failed.
#[derive(Clone, Copy)]
enum Step {
    Init,
    Fetch,
    Checkout,
}

/// What is there to begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A repository, or no repository and no files of one.
    Whole,
    /// A repository that does not know what is in the tree.
    WithoutIndex,
    /// Files of an earlier job, and no repository.
    OnlyTree,
}

/// Fetches and checks out. `index` is what became of the index that was kept.
pub(super) fn obtain(stage: &Stage, steps: &Steps<'_>, index: Index) -> Result<(), StageError> {
    let git = steps.dir().join(".git");
    let kept = files::exists(&git);
    let before = match index {
        Index::Fine => Before::Whole,
        Index::Removed => Before::WithoutIndex,
    };
    let (step, failure) = match update(stage, steps, before) {
        Ok(()) => return Ok(()),
        Err(failed) => failed,
    };
    if !kept || !is_suspect(stage, steps, step, &failure)? {
        return Err(failure);
    }
    stage.warning(&format!(
        "The repository left by an earlier job may be damaged ({failure}). Trying again with an empty one..."
    ));
    let aside = hygiene::aside(&steps.request.tmp_dir);
    files::remove(&aside)?;
    if fs::rename(&git, &aside).is_err() {
        // The two are on different volumes, say.
        files::remove(&git)?;
    }
    let second = update(stage, steps, Before::OnlyTree);
    if second.is_err() && files::exists(&aside) {
        files::remove(&git)?;
        fs::rename(&aside, &git).map_err(|error| files::at("cannot move", &aside, &error))?;
    }
    files::remove(&aside)?;
    second.map_err(|(_, failure)| failure)
}

fn update(stage: &Stage, steps: &Steps<'_>, before: Before) -> Result<(), (Step, StageError)> {
    let failed = |step| move |failure| (step, failure);
    steps.init(stage).map_err(failed(Step::Init))?;
    if before == Before::WithoutIndex {
        stage.warning("The index left by an earlier job cannot be used. Writing all files anew...");
        // So that git knows which files are of the last job's commit, and removes those that are not of this one's.
        stage
            .git_status(Some(steps.dir()), ["read-tree", "HEAD"], Show::Nothing)
            .map_err(failed(Step::Init))?;
    }
    steps.fetch(stage).map_err(failed(Step::Fetch))?;
    if !steps.request.checkout {
        return Ok(());
    }
    if before == Before::OnlyTree && steps.request.clean_flags.is_none() {
        // Nothing else would remove files that are of the last job's commit only.
        clear(steps.dir()).map_err(failed(Step::Checkout))?;
    }
    steps.checkout(stage).map_err(failed(Step::Checkout))
}

/// Whether a kept repository may be to blame for a failure of git.
fn is_suspect(
    stage: &Stage,
    steps: &Steps<'_>,
    step: Step,
    failure: &StageError,
) -> Result<bool, StageError> {
    if !failure.is_of_git() {
        return Ok(false);
    }
    match step {
        Step::Init => Ok(true),
        // One that is as empty as a new one is left by an attempt that failed before.
        Step::Fetch => {
            Ok(hygiene::has_objects(&steps.dir().join(".git"))? && server_has_all(stage, steps)?)
        }
        Step::Checkout => Ok(!is_missing(stage, steps)?),
    }
}

/// Whether the server answers, and has every reference that is to be fetched.
fn server_has_all(stage: &Stage, steps: &Steps<'_>) -> Result<bool, StageError> {
    let names: Vec<&str> = steps
        .request
        .refspecs
        .iter()
        .filter_map(|refspec| source(refspec))
        .collect();
    let include = format!("include.path={}", text(steps.external));
    let mut words = vec!["-c".to_owned(), include];
    words.extend(user_agent(steps.request));
    words.extend(["ls-remote", "--quiet", &steps.remote.url].map(String::from));
    words.extend(names.iter().map(ToString::to_string));
    if names.is_empty() {
        words.push("HEAD".into());
    }
    let (status, listed) = stage.git_output(Path::new("/"), words, Show::Nothing)?;
    let listed = String::from_utf8_lossy(&listed);
    let has = |name: &str| {
        listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .any(|(_, listed)| listed == name)
    };
    Ok(status == 0 && names.iter().all(|name| has(name)))
}

/// The one reference that a refspec reads; none for a pattern, and for a commit, which a server does not list.
fn source(refspec: &str) -> Option<&str> {
    let refspec = refspec.trim_start_matches('+');
    let name = refspec.split(':').next().unwrap_or(refspec);
    (name.starts_with("refs/") && !name.contains('*')).then_some(name)
}

/// Whether the commit is not among what was fetched, whose history is whole: an empty repository would not get it, either.
fn is_missing(stage: &Stage, steps: &Steps<'_>) -> Result<bool, StageError> {
    let commit = format!("{}^{{commit}}", steps.request.sha);
    let quiet = |words: &[&str]| stage.git_status(Some(steps.dir()), words, Show::Nothing);
    Ok(quiet(&["cat-file", "-e", &commit])? != 0 && quiet(&["rev-list", "--all", "--quiet"])? == 0)
}

/// Removes all files of the tree.
pub(crate) fn clear(dir: &Path) -> Result<(), StageError> {
    for entry in files::entries(dir)? {
        if entry.file_name() != ".git" {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refspec_reads_one_reference_many_or_a_commit() {
        for (refspec, name) in [
            ("+refs/heads/a:refs/remotes/origin/a", Some("refs/heads/a")),
            ("refs/tags/v1", Some("refs/tags/v1")),
            ("+refs/heads/*:refs/remotes/origin/*", None),
            ("+0123456789abcdef:refs/pipelines/1", None),
            (":refs/x", None),
        ] {
            assert_eq!(source(refspec), name, "{refspec}");
        }
    }
}
