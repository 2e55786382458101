//! Artifacts of a run: from job to job, and for people to look at.
//!
//! | Where | What |
//! |---|---|
//! | `<state of the run>/artifacts/<job id>/` | archives as the helper packed them: what later jobs of the run get. Gone with the run |
//! | `<state>/artifacts/<project>/<job>/` | the files, or in the folder that was asked for: what people look at |
//! | `<state>/artifacts/<project>/.kept/<job>.{json,zip}` | the same for a later run of which the job is no part |
//!
//! Of each job there are the artifacts of the last time that it had any. The working copy is never written to.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use futures_util::future::BoxFuture;
use gantry_agent::ArtifactEntry;
use gantry_archive::{extract, threads};
use gantry_engine::Archive;
use gantry_executor::ArtifactStore;
use gantry_job::Variable;
use gantry_pipeline::DOTENV;
use serde::{Deserialize, Serialize};

mod dotenv;
mod give;
mod names;
mod receive;
#[cfg(test)]
mod tests;

pub(crate) use names::{folder_name, project_name};

/// Begins a folder that was made for artifacts. Git passes over everything in it, so that a folder in the working copy is no part of
/// the next run.
const MARK: &str = "# Made by `gantry exec`: artifacts of its jobs, replaced by each run.\n*\n";
const MARK_NAME: &str = ".gitignore";
/// Of what later runs need.
const KEPT: &str = ".kept";

/// Why there is no place for artifacts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactsError {
    /// A folder cannot be made or written to.
    #[error("cannot write {}", path.display())]
    Write {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder that somebody else made, and that holds something.
    #[error(
        "artifacts cannot go to {}: the folder is not empty, and `gantry exec` did not make it",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
}

/// The artifacts of a run.
pub(crate) struct Artifacts {
    /// Archives of this run, one folder per job.
    run: PathBuf,
    /// What outlives it.
    home: PathBuf,
    /// Where people look.
    shown: PathBuf,
    /// Tells what this run leaves half-made from what others do.
    id: String,
    kept: Mutex<HashMap<String, Kept>>,
}

/// What a job handed on.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// Its number.
    id: i64,
    /// Bytes of its archive; none if it had reports only.
    archive: Option<u64>,
    /// Of its dotenv reports. They may be secrets.
    variables: Vec<(String, String)>,
}

/// What a job gets of an earlier one.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) job: String,
    pub(crate) id: i64,
    /// The archive and its bytes.
    pub(crate) archive: Option<(PathBuf, u64)>,
    pub(crate) variables: Vec<Variable>,
    /// When it was made, if that was in an earlier run.
    pub(crate) earlier: Option<SystemTime>,
}

impl Artifacts {
    /// Prepares the folders. `run` is the state of this run and `id` its name, `home` what outlives it; `shown` is where people want to
    /// look, if not there.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn open(
        run: &Path,
        id: &str,
        home: PathBuf,
        shown: Option<PathBuf>,
    ) -> Result<Self, ArtifactsError> {
        let shown = match shown {
            Some(shown) => {
                claim(&shown)?;
                shown
            }
            None => home.clone(),
        };
        Ok(Self {
            run: run.join("artifacts"),
            home,
            shown,
            id: id.to_owned(),
            kept: Mutex::default(),
        })
    }

    /// Removes what dead runs left half-made. `alive` tells of a run's name whether it is there.
    pub(crate) fn sweep(&self, alive: impl Fn(&str) -> bool) {
        for folder in [&self.home, &self.shown] {
            sweep(folder, &alive);
        }
    }

    /// Where people look.
    pub(crate) fn shown(&self) -> &Path {
        &self.shown
    }

    /// What the jobs of these names hand on; those of `runs` are part of this run, of the others it is what an earlier run left.
    pub(crate) fn given(&self, names: &[String], runs: impl Fn(&str) -> bool) -> Vec<Given> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        names
            .iter()
            .filter_map(|name| {
                if runs(name) {
                    let found = kept.get(name)?;
                    let path = self.archive_of(found.id, 0);
                    return Some(found.given(name, path, None));
                }
                let (json, zip) = self.kept_paths(name);
                let found: Kept = serde_json::from_slice(&fs::read(&json).ok()?).ok()?;
                let made = json.metadata().and_then(|file| file.modified()).ok();
                let earlier = made.unwrap_or(SystemTime::UNIX_EPOCH);
                Some(found.given(name, zip, Some(earlier)))
            })
            .collect()
    }

    /// Whether the job handed on anything in this run.
    pub(crate) fn has(&self, job: &str) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.contains_key(job)
    }

    /// The job ended and has none: those of an earlier run are not its artifacts any more.
    pub(crate) fn forget(&self, job: &str) {
        let (json, zip) = self.kept_paths(job);
        for path in [json, zip] {
            fs::remove_file(path).ok();
        }
        remove_tree(&self.shown.join(folder_name(job)));
    }

    /// For one job: its own, and what it gets.
    pub(crate) fn for_job(self: &Arc<Self>, name: &str, id: i64, given: &[Given]) -> JobStore {
        let given = given.iter();
        let paths = given.filter_map(|given| {
            let (path, _) = given.archive.as_ref()?;
            Some((given.id.unsigned_abs(), path.clone()))
        });
        JobStore {
            artifacts: Arc::clone(self),
            name: name.to_owned(),
            id,
            given: paths.collect(),
        }
    }

    fn archive_of(&self, job: i64, place: usize) -> PathBuf {
        self.run.join(job.to_string()).join(format!("{place}.zip"))
    }

    fn kept_paths(&self, job: &str) -> (PathBuf, PathBuf) {
        let name = folder_name(job);
        let folder = self.home.join(KEPT);
        let path = |end: &str| folder.join(format!("{name}.{end}"));
        (path("json"), path("zip"))
    }

    /// Takes the archives of a job in. Blocks.
    fn keep(&self, job: &str, id: i64, types: &[String], tar: impl io::Read) -> Result<(), String> {
        let folder = self.run.join(id.to_string());
        let told = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| {
                format!(
                    "artifacts cannot be kept: cannot write {}: {error}",
                    path.display()
                )
            }
        };
        private_folder(&folder).map_err(told(&folder))?;
        let archives = receive::archives(tar, &folder, types.len())
            .map_err(|error| format!("artifacts cannot be kept: {error}"))?;
        if archives.is_empty() {
            return Ok(());
        }
        private_folder(&self.home).map_err(told(&self.home))?;
        let half = self.shown.join(format!(".new-{}-{id}", self.id));
        fs::create_dir(&half).map_err(told(&half))?;
        let mut kept = Kept {
            id,
            archive: None,
            variables: Vec::new(),
        };
        let unpacked = self.unpack(&archives, types, &folder, &half, &mut kept);
        let published = unpacked.and_then(|()| {
            let place = self.shown.join(folder_name(job));
            replace(&half, &place).map_err(told(&place))
        });
        if published.is_err() {
            remove_tree(&half);
        }
        published?;
        self.remember(job, &kept)
            .map_err(told(&self.home.join(KEPT)))?;
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(job.to_owned(), kept);
        Ok(())
    }

    /// All files into one folder, and what later jobs get into `kept`.
    fn unpack(
        &self,
        archives: &[usize],
        types: &[String],
        folder: &Path,
        into: &Path,
        kept: &mut Kept,
    ) -> Result<(), String> {
        for &place in archives {
            let path = folder.join(format!("{place}.zip"));
            let cannot = |error: String| format!("artifacts cannot be kept: {error}");
            let open = || fs::File::open(&path).map_err(|error| cannot(error.to_string()));
            let file = open()?;
            let size = file.metadata().map_or(0, |file| file.len());
            extract(file, into, threads()).map_err(|error| cannot(error.to_string()))?;
            match types.get(place).map(String::as_str) {
                Some(DOTENV) => {
                    let own = folder.join(format!("{place}.dotenv"));
                    fs::create_dir(&own).map_err(|error| cannot(error.to_string()))?;
                    extract(open()?, &own, 1).map_err(|error| cannot(error.to_string()))?;
                    kept.variables.extend(dotenv::read_all(&own)?);
                }
                Some("" | "archive") => {
                    kept.archive = Some(size);
                    let first = folder.join("0.zip");
                    if path != first {
                        fs::rename(&path, &first).map_err(|error| cannot(error.to_string()))?;
                    }
                }
                _ => {}
            }
        }
        harmless(into).map_err(|error| format!("artifacts cannot be kept: {error}"))
    }

    /// For later runs.
    fn remember(&self, job: &str, kept: &Kept) -> io::Result<()> {
        let (json, zip) = self.kept_paths(job);
        private_folder(&self.home.join(KEPT))?;
        let new = |path: &Path| path.with_extension(format!("{}-{}.new", self.id, kept.id));
        fs::remove_file(&zip).ok();
        if kept.archive.is_some() {
            let archive = self.archive_of(kept.id, 0);
            let half = new(&zip);
            fs::hard_link(&archive, &half).or_else(|_| fs::copy(&archive, &half).map(drop))?;
            fs::rename(&half, &zip)?;
        }
        let half = new(&json);
        fs::write(&half, serde_json::to_vec(kept)?)?;
        fs::rename(&half, &json)
    }
}

impl Kept {
    fn given(&self, job: &str, archive: PathBuf, earlier: Option<SystemTime>) -> Given {
        let variables = self.variables.iter();
        Given {
            job: job.to_owned(),
            id: self.id,
            archive: self.archive.map(|size| (archive, size)),
            variables: variables
                .map(|(key, value)| Variable::new(key.clone(), value.clone()))
                .collect(),
            earlier,
        }
    }
}

/// The artifacts of one job, and those it gets.
pub(crate) struct JobStore {
    artifacts: Arc<Artifacts>,
    name: String,
    id: i64,
    given: HashMap<u64, PathBuf>,
}

impl ArtifactStore for JobStore {
    fn give(&self, jobs: &[u64]) -> Archive {
        let files = jobs.iter().map(|job| {
            let path = self.given.get(job).cloned().unwrap_or_default();
            (format!("{job}.zip"), path)
        });
        give::tar(files.collect())
    }

    fn keep<'a>(
        &'a self,
        entries: &'a [ArtifactEntry],
        archive: Archive,
    ) -> BoxFuture<'a, Result<(), String>> {
        let artifacts = Arc::clone(&self.artifacts);
        let (name, id) = (self.name.clone(), self.id);
        let types: Vec<String> = entries
            .iter()
            .map(|entry| entry.artifact_type.clone())
            .collect();
        Box::pin(receive::with_reader(archive, move |tar| {
            artifacts.keep(&name, id, &types, tar)
        }))
    }
}

/// Removes what earlier runs left for people and for later runs.
pub(crate) fn remove_all(home: &Path) -> io::Result<bool> {
    if !home.exists() {
        return Ok(false);
    }
    remove_tree(home);
    if home.exists() {
        return Err(io::Error::other(format!(
            "{} cannot be removed",
            home.display()
        )));
    }
    Ok(true)
}

fn sweep(folder: &Path, alive: impl Fn(&str) -> bool) {
    let half_made = |name: &str| {
        let rest = name.strip_prefix(".new-")?;
        Some(rest.split('-').next().unwrap_or(rest).to_owned())
    };
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(run) = name.to_str().and_then(half_made)
            && !alive(&run)
        {
            remove_tree(&entry.path());
        }
    }
}

/// Makes a folder for artifacts, or takes one that was made so.
fn claim(folder: &Path) -> Result<(), ArtifactsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ArtifactsError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let mark = folder.join(MARK_NAME);
    if fs::read_to_string(&mark).is_ok_and(|text| text == MARK) {
        return Ok(());
    }
    let mut entries = folder.read_dir().map_err(failed(folder))?;
    if entries.next().is_some() {
        return Err(ArtifactsError::Foreign {
            path: folder.to_owned(),
        });
    }
    fs::write(&mark, MARK).map_err(failed(&mark))
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts a folder in the place of another.
fn replace(new: &Path, place: &Path) -> io::Result<()> {
    if place.symlink_metadata().is_ok() {
        let mut old = new.as_os_str().to_owned();
        old.push(".old");
        let old = PathBuf::from(old);
        fs::rename(place, &old)?;
        fs::rename(new, place)?;
        remove_tree(&old);
        return Ok(());
    }
    fs::rename(new, place)
}

/// Makes files of a container harmless here: no program of theirs gets rights by its mode, and whoever owns them can read and remove
/// them.
fn harmless(folder: &Path) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            continue;
        }
        let mode = entry.metadata()?.permissions().mode() & 0o7777;
        let wanted = if kind.is_dir() {
            mode & 0o1777 | 0o700
        } else {
            mode & 0o1777 | 0o600
        };
        if wanted != mode {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(wanted))?;
        }
        if kind.is_dir() {
            harmless(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder, also one with folders that nobody may write to.
fn remove_tree(path: &Path) {
    if path.symlink_metadata().is_err() {
        return;
    }
    harmless(path).ok();
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(folder = %path.display(), %error, "artifacts cannot be removed");
    }
}
