//! State folders of runs: one per process, all below one base, so that what a process leaves
//! behind is found by the next.
//!
//! Layout of the base: `lock` (held while folders are made or looked through), `counters.json`
//! (numbers of pipelines and jobs), and one [`StateFolder`] per run. A folder whose lock is free
//! belongs to a process that is dead. Its `engine.json` says on which engine its objects are: only
//! a run on the same one can remove them, so others leave the folder alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use gantry_journal::{JournalError, StateFolder};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Name under which a state folder keeps the endpoint of its engine.
const ENGINE: &str = "engine";

/// Why there is no state folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The base cannot be used.
    #[error("cannot {action} {}", path.display())]
    Base {
        /// What was tried.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A state folder cannot be used.
    #[error(transparent)]
    Folder(#[from] JournalError),
}

/// The state of this run.
#[derive(Debug)]
pub(crate) struct RunState {
    pub(crate) folder: StateFolder,
    pub(crate) numbers: Numbers,
}

/// Numbers that no other run of this user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Of the pipeline, from 1.
    pub(crate) pipeline: i64,
    /// Of its first job, from 1; the others follow.
    pub(crate) first_job: i64,
}

/// What a dead run left: the folder is locked by this process now.
#[derive(Debug)]
pub(crate) struct DeadRun(StateFolder);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Counters {
    pipelines: i64,
    jobs: i64,
}

impl RunState {
    /// Makes the folder of a run of `jobs` jobs on `engine`, and takes over those of dead runs on
    /// the same engine.
    ///
    /// # Errors
    /// When a folder or file below `base` cannot be written.
    pub(crate) fn open(
        base: &Path,
        engine: &str,
        jobs: usize,
        random: impl Fn() -> String,
    ) -> Result<(Self, Vec<DeadRun>), StateError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Base {
                action,
                path,
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(base)
            .map_err(failed("make the folder", base))?;
        // Until the end of this function: nobody finds a folder that is half made.
        let path = base.join("lock");
        let lock = private_file(&path).map_err(failed("open", &path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock", &path)(error.into()))?;

        let dead = dead_runs(base, engine).map_err(failed("read the folder", base))?;
        let path = base.join("counters.json");
        let numbers = count(&path, jobs).map_err(failed("write", &path))?;
        let id = random();
        let folder = StateFolder::open(&base.join(&id), || id.clone())?;
        folder.store(ENGINE, &engine)?;
        Ok((Self { folder, numbers }, dead))
    }

    /// Deletes the folder: nothing is left that it must remember.
    pub(crate) fn remove(&self) {
        remove(&self.folder);
    }
}

impl DeadRun {
    /// Value of the label of its objects.
    pub(crate) fn id(&self) -> &str {
        self.0.id()
    }

    /// Deletes the folder: its objects are gone.
    pub(crate) fn remove(self) {
        remove(&self.0);
    }
}

fn remove(folder: &StateFolder) {
    if let Err(error) = fs::remove_dir_all(folder.path()) {
        tracing::warn!(folder = %folder.path().display(), %error, "the state folder cannot be removed");
    }
}

fn dead_runs(base: &Path, engine: &str) -> std::io::Result<Vec<DeadRun>> {
    let mut dead = Vec::new();
    for entry in base.read_dir()? {
        let entry = entry?;
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let folder = match StateFolder::open(&path, String::new) {
            Ok(folder) => folder,
            Err(JournalError::InUse { .. }) => continue,
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "the folder of a dead run cannot be read");
                continue;
            }
        };
        match folder.load::<String>(ENGINE) {
            // It died before it made anything.
            None => remove(&folder),
            Some(_) if folder.id().is_empty() => remove(&folder),
            Some(host) if host == engine => dead.push(DeadRun(folder)),
            Some(_) => {}
        }
    }
    Ok(dead)
}

/// Takes the next numbers. Counters that cannot be read begin anew.
fn count(path: &Path, jobs: usize) -> std::io::Result<Numbers> {
    let mut counters: Counters = fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .filter(|counters: &Counters| counters.pipelines >= 0 && counters.jobs >= 0)
        .unwrap_or_default();
    let numbers = Numbers {
        pipeline: counters.pipelines.saturating_add(1),
        first_job: counters.jobs.saturating_add(1),
    };
    counters.pipelines = numbers.pipeline;
    counters.jobs = counters
        .jobs
        .saturating_add(i64::try_from(jobs).unwrap_or(i64::MAX));
    let new = path.with_extension("new");
    let mut file = private_file(&new)?;
    file.set_len(0)?;
    file.write_all(&serde_json::to_vec(&counters)?)?;
    fs::rename(&new, path)?;
    Ok(numbers)
}

fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn ids() -> impl Fn() -> String {
        let next = Cell::new(0);
        move || {
            next.set(next.get() + 1);
            format!("id{}", next.get())
        }
    }

    #[test]
    fn numbers_of_runs_follow_each_other_and_do_not_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("a/b");
        let ids = ids();
        let (first, _) = RunState::open(&base, "e", 3, &ids).unwrap();
        let (second, dead) = RunState::open(&base, "e", 2, &ids).unwrap();
        assert!(dead.is_empty(), "the first one lives");
        let numbers = |pipeline, first_job| Numbers {
            pipeline,
            first_job,
        };
        assert_eq!(first.numbers, numbers(1, 1));
        assert_eq!(second.numbers, numbers(2, 4));
        fs::write(base.join("counters.json"), "{").unwrap();
        let (third, _) = RunState::open(&base, "e", 1, &ids).unwrap();
        assert_eq!(third.numbers, numbers(1, 1), "damaged counters begin anew");
    }

    #[test]
    fn folders_of_dead_runs_are_found_by_the_next_run_on_their_engine() {
        let dir = tempfile::tempdir().unwrap();
        let ids = ids();
        let (run, _) = RunState::open(dir.path(), "one", 1, &ids).unwrap();
        let path = run.folder.path().to_owned();
        drop(run); // As the end of a process does.
        let (_, dead) = RunState::open(dir.path(), "two", 1, &ids).unwrap();
        assert!(dead.is_empty(), "its objects are on another engine");
        let (_run, dead) = RunState::open(dir.path(), "one", 1, &ids).unwrap();
        let [dead] = <[DeadRun; 1]>::try_from(dead).unwrap();
        assert_eq!(dead.id(), "id1");
        let (_other, none) = RunState::open(dir.path(), "one", 1, &ids).unwrap();
        assert!(none.is_empty(), "somebody else cares for it already");
        dead.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_without_a_word_about_its_engine_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("half-made")).unwrap();
        let (run, dead) = RunState::open(dir.path(), "e", 1, ids()).unwrap();
        assert!(dead.is_empty());
        assert!(!dir.path().join("half-made").exists());
        let path = run.folder.path().to_owned();
        assert!(path.exists());
        run.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_base_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = RunState::open(&dir.path().join("file/x"), "e", 1, ids()).unwrap_err();
        assert!(error.to_string().contains("file/x"), "{error}");
    }
}
