use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Journal, JournalError, read_records, seal::Keyring};

/// The folder that holds everything a runner must remember. Locked while this value lives.
///
/// Layout: `lock` (owner's pid), `id` (random id for labels), `jobs/<key>/` one folder per job, `aside/` damaged jobs, `key` of
/// sealed records, made when a job first needs it.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    id: String,
    keys: Keyring,
    _lock: File,
}

/// One job's folder; its files are the caller's (`journal`, the spool). Removed when the job is over.
#[derive(Debug, Clone)]
pub struct JobFolder {
    path: PathBuf,
    keys: Keyring,
}

// === impl StateFolder ===

impl StateFolder {
    /// Opens or makes the folder (0700) and takes its lock. `new_id` is called once, when the folder is new.
    ///
    /// # Errors
    /// Unwritable folder, or [`JournalError::InUse`] when another process holds it.
    pub fn open(path: &Path, new_id: impl FnOnce() -> String) -> Result<Self, JournalError> {
        make_dir(path)?;
        make_dir(&path.join("jobs"))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(JournalError::io("open", &lock_path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let known = lock.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if known {
                pid.trim().to_owned()
            } else {
                "unknown".to_owned()
            };
            return Err(JournalError::InUse {
                path: path.to_owned(),
                pid,
            });
        }
        let write_pid = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            write!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(JournalError::io("write", &lock_path))?;
        let id = Self::read_or_make_id(&path.join("id"), new_id)?;
        Ok(Self {
            path: path.to_owned(),
            id,
            keys: Keyring::at(path.join("key")),
            _lock: lock,
        })
    }

    fn read_or_make_id(
        path: &Path,
        new_id: impl FnOnce() -> String,
    ) -> Result<String, JournalError> {
        match fs::read_to_string(path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(JournalError::io("read", path)(error)),
        }
        let id = new_id();
        let temporary = path.with_extension("new");
        write_file(&temporary, id.as_bytes())?;
        fs::rename(&temporary, path).map_err(JournalError::io("write", path))?;
        Ok(id)
    }

    /// Random id of this folder, the value of the label `gantry.state`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that the file system of the folder still takes, none if it takes no more files; `None` when it does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.path).ok()?;
        // File systems that have no such limit say 0 of 0.
        if stat.f_files > 0 && stat.f_favail == 0 {
            return Some(0);
        }
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes the folder of a new job. `key` names it (a file name, unique among running jobs).
    pub fn create_job(&self, key: &str) -> Result<JobFolder, JournalError> {
        let path = self.path.join("jobs").join(key);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(JournalError::io("remove", &path))?;
        }
        make_dir(&path)?;
        Ok(JobFolder {
            path,
            keys: self.keys.clone(),
        })
    }

    /// Folders of jobs that have not ended, in name order.
    pub fn jobs(&self) -> Result<Vec<JobFolder>, JournalError> {
        let jobs = self.path.join("jobs");
        let mut found = Vec::new();
        for entry in fs::read_dir(&jobs).map_err(JournalError::io("read", &jobs))? {
            let entry = entry.map_err(JournalError::io("read", &jobs))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(JobFolder {
                    path: entry.path(),
                    keys: self.keys.clone(),
                });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Moves a damaged job out of the way, kept for inspection; returns where it is now.
    pub fn set_aside(&self, job: &JobFolder) -> Result<PathBuf, JournalError> {
        let aside = self.path.join("aside");
        make_dir(&aside)?;
        let mut target = aside.join(job.key());
        let mut n = 1;
        while target.exists() {
            target = aside.join(format!("{}.{n}", job.key()));
            n += 1;
        }
        fs::rename(&job.path, &target).map_err(JournalError::io("move", &job.path))?;
        Ok(target)
    }

    /// Stores a small value by name, atomically; it survives the process. For counters and the like, not for jobs.
    pub fn store<T: Serialize>(&self, name: &str, value: &T) -> Result<(), JournalError> {
        let path = self.path.join(format!("{name}.json"));
        let temporary = path.with_extension("new");
        let text = serde_json::to_vec(value)
            .map_err(|error| JournalError::io("write", &path)(std::io::Error::other(error)))?;
        write_file(&temporary, &text)?;
        fs::rename(&temporary, &path).map_err(JournalError::io("write", &path))
    }

    /// A value put by [`Self::store`]; `None` when absent or not readable as `T`.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path.join(format!("{name}.json"))).ok()?).ok()
    }
}

// === impl JobFolder ===

impl JobFolder {
    /// A job folder at a place of the caller's choice, made if absent (local runs, tests).
    pub fn at(path: &Path) -> Result<Self, JournalError> {
        make_dir(path)?;
        Ok(Self {
            path: path.to_owned(),
            keys: Keyring::at(path.join("key")),
        })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The job's key, the folder's name.
    pub fn key(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Opens the job's journal and reads what it holds; makes it when absent.
    pub fn journal<R: Serialize + DeserializeOwned>(
        &self,
    ) -> Result<(Journal<R>, Vec<R>), JournalError> {
        Journal::open_with(&self.path.join("journal"), self.keys.clone())
    }

    /// Remembers how many bytes of the log its reader has confirmed. It saves work after a restart and decides nothing, so that it
    /// need not be on the disk, and nobody hears of a failure.
    pub fn note_sent(&self, bytes: u64) {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join("sent"));
        if let Ok(mut file) = file {
            write!(file, "{bytes}").ok();
        }
    }

    /// What [`Self::note_sent`] was told last; 0 when nothing is known.
    pub fn sent(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("sent")).unwrap_or_default();
        text.parse().unwrap_or(0)
    }

    /// The first record of a journal whose rest may be damaged; `None` if it is damaged itself.
    pub fn first_record<R: DeserializeOwned>(&self) -> Option<R> {
        let path = self.path.join("journal");
        let bytes = fs::read(&path).ok()?;
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let beginning = [lines.next()?, lines.next()?].concat();
        read_records(&beginning, &path).ok()?.pop()
    }

    /// Deletes the folder with everything in it; the job is over.
    pub fn remove(&self) -> Result<(), JournalError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

fn make_dir(path: &Path) -> Result<(), JournalError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(JournalError::io("make the folder", path))?;
    let mode = fs::metadata(path)
        .map_err(JournalError::io("read", path))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(JournalError::io("make private", path))?;
    }
    Ok(())
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(JournalError::io("write", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_data())
        .map_err(JournalError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_and_told_the_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateFolder::open(&path, || "abc".into()).unwrap();
        let error = StateFolder::open(&path, || "def".into()).unwrap_err();
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        let again = StateFolder::open(&path, || "def".into()).unwrap();
        assert_eq!(again.id(), "abc", "the id is kept");
    }

    #[test]
    fn folders_and_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let state = StateFolder::open(&path, || "abc".into()).unwrap();
        let job = state.create_job("1-7").unwrap();
        job.journal::<u32>().unwrap();
        for (path, mode) in [
            (path.clone(), 0o700),
            (path.join("lock"), 0o600),
            (path.join("id"), 0o600),
            (job.path().to_owned(), 0o700),
            (job.path().join("journal"), 0o600),
        ] {
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn the_first_record_is_read_whatever_follows() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobFolder::at(dir.path()).unwrap();
        assert_eq!(job.first_record::<String>(), None);
        let (journal, _) = job.journal::<String>().unwrap();
        assert_eq!(job.first_record::<String>(), None);
        for record in ["first", "second", "third"] {
            journal.append(&record.to_owned()).await.unwrap();
        }
        let path = dir.path().join("journal");
        let damage = |word: &str| {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace(word, "xxxxx")).unwrap();
            assert!(job.journal::<String>().is_err());
        };
        damage("secon");
        assert_eq!(job.first_record::<String>().as_deref(), Some("first"));
        damage("first");
        assert_eq!(job.first_record::<String>(), None);
    }

    #[test]
    fn what_was_sent_is_known_to_the_next_process_and_else_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobFolder::at(dir.path()).unwrap();
        assert_eq!(job.sent(), 0);
        job.note_sent(1_000_000);
        job.note_sent(42);
        assert_eq!(job.sent(), 42);
        for torn in ["", "12x"] {
            fs::write(dir.path().join("sent"), torn).unwrap();
            assert_eq!(job.sent(), 0);
        }
    }

    #[test]
    fn a_damaged_job_is_set_aside_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::open(dir.path(), || "abc".into()).unwrap();
        state.create_job("a").unwrap();
        let bad = state.create_job("b").unwrap();
        let place = state.set_aside(&bad).unwrap();
        assert!(place.exists());
        let left: Vec<_> = state.jobs().unwrap().iter().map(JobFolder::key).collect();
        assert_eq!(left, ["a"]);
    }
}
