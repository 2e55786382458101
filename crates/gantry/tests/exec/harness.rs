//! A repository of one test, the program in it, and what is on the engine because of it.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use gantry_engine::{Endpoint, HttpEngine, ListFilter, SharedEngine};
use gantry_plan::{LABEL_PREFIX, STATE_LABEL};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A program that hangs is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The engine's endpoint; empty for the usual one. None without an engine, which is said on stderr.
pub(crate) fn engine() -> Option<String> {
    match std::env::var("GANTRY_TEST_ENGINE") {
        Ok(engine) if engine == "1" => Some(String::new()),
        Ok(engine) if !engine.is_empty() => Some(engine),
        _ => {
            eprintln!("skipped: GANTRY_TEST_ENGINE names no engine");
            None
        }
    }
}

/// A git repository with a pipeline. Its folder has a name that no other test has.
pub(crate) struct Repository {
    folder: TempDir,
    name: String,
    engine: Option<String>,
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    printed: Arc<(Mutex<Printed>, Condvar)>,
}

#[derive(Default)]
struct Printed {
    text: Vec<u8>,
    over: bool,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Repository {
    pub(crate) fn new(file: &str, engine: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let random = folder.path().file_name().unwrap().to_str().unwrap();
        let name = format!(
            "exec-test-{}",
            random.trim_start_matches('.').to_lowercase()
        );
        let repository = Self {
            name,
            folder,
            engine: engine.map(str::to_owned),
        };
        fs::create_dir(repository.root()).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.write(".gitlab-ci.yml", file);
        repository.commit();
        repository
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "--all"]);
        let identity = ["-c", "user.name=n", "-c", "user.email=n@example.com"];
        let commit = ["commit", "--quiet", "--message", "A message"];
        self.git(&[identity.as_slice(), &commit].concat());
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.root())
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// `gantry exec` in the root, to its end.
    pub(crate) fn exec(&self, arguments: &[&str]) -> Done {
        self.exec_in(&self.root(), arguments)
    }

    pub(crate) fn exec_in(&self, folder: &Path, arguments: &[&str]) -> Done {
        Done::of(&self.command(folder, arguments).output().unwrap())
    }

    /// `gantry exec` in the root, on its way.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self
            .command(&self.root(), arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let printed = Arc::new((Mutex::new(Printed::default()), Condvar::new()));
        let shared = Arc::clone(&printed);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                let count = stdout.read(&mut piece).unwrap_or(0);
                let mut printed = shared.0.lock().unwrap();
                printed.text.extend_from_slice(&piece[..count]);
                printed.over |= count == 0;
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Running { child, printed }
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command
            .arg("exec")
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("HOME", self.folder.path())
            .env_remove("NO_COLOR");
        match self.engine.as_deref() {
            Some("") => {}
            Some(engine) => {
                command.env("DOCKER_HOST", engine);
            }
            // So that nothing that should not need an engine finds one.
            None => {
                command.env("DOCKER_HOST", "unix:///nowhere/at/all.sock");
            }
        }
        command
    }

    /// Everything in the repository, with sizes and times.
    pub(crate) fn listing(&self) -> BTreeMap<PathBuf, (u64, i64, i64)> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.root()];
        while let Some(path) = open.pop() {
            let metadata = path.symlink_metadata().unwrap();
            let times = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
            if metadata.is_dir() {
                open.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
            }
            found.insert(path, times);
        }
        found
    }

    fn client(&self) -> (SharedEngine, tokio::runtime::Runtime) {
        let engine = self.engine.as_deref().unwrap();
        let endpoint = Endpoint::resolve(engine, false, "", |name| std::env::var(name).ok());
        let engine: SharedEngine = Arc::new(HttpEngine::new(endpoint.unwrap()).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        (engine, runtime)
    }

    /// Names of the volumes with caches of this repository.
    pub(crate) fn cache_volumes(&self) -> Vec<String> {
        let (engine, runtime) = self.client();
        let filter = ListFilter {
            labels: [("gantry.exec.cache".to_owned(), String::new())].into(),
            name: None,
        };
        let volumes = runtime.block_on(engine.volume_list(&filter)).unwrap();
        let names = volumes.into_iter().map(|volume| volume.name);
        names.filter(|name| name.contains(&self.name)).collect()
    }

    /// Names of what runs of this repository have on the engine now.
    pub(crate) fn on_engine(&self) -> Vec<String> {
        let (engine, runtime) = self.client();
        let filter = ListFilter {
            labels: [(STATE_LABEL.to_owned(), String::new())].into(),
            name: None,
        };
        let url = format!("/{}/", self.name);
        let ours = |labels: &BTreeMap<String, String>| {
            labels
                .get(&format!("{LABEL_PREFIX}job.url"))
                .is_some_and(|found| found.contains(&url))
        };
        runtime.block_on(async {
            let containers = engine.container_list(&filter).await.unwrap();
            let networks = engine.network_list(&filter).await.unwrap();
            let volumes = engine.volume_list(&filter).await.unwrap();
            let mut found = Vec::new();
            found.extend(
                containers
                    .into_iter()
                    .filter(|it| ours(&it.labels))
                    .map(|it| it.name),
            );
            found.extend(
                networks
                    .into_iter()
                    .filter(|it| ours(&it.labels))
                    .map(|it| it.name),
            );
            found.extend(
                volumes
                    .into_iter()
                    .filter(|it| ours(&it.labels))
                    .map(|it| it.name),
            );
            found
        })
    }

    /// Neither on the engine nor in the state folder.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.on_engine(), Vec::<String>::new());
        let state = self.folder.path().join("state/gantry/exec");
        let mut left: Vec<_> = fs::read_dir(state)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["counters.json", "lock"]);
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        if self.engine.is_none() {
            return;
        }
        // Caches stay after a run; a test that failed leaves none either.
        let (engine, runtime) = self.client();
        for name in self.cache_volumes() {
            runtime.block_on(engine.volume_remove(&name, true)).ok();
        }
    }
}

impl Running {
    /// Waits until the text was printed.
    #[track_caller]
    pub(crate) fn until(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut printed = self.printed.0.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&printed.text).into_owned();
            if text.contains(part) {
                return;
            }
            assert!(!printed.over, "it ended without {part:?}: {text}");
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {part:?} in time: {text}");
            printed = self.printed.1.wait_timeout(printed, left).unwrap().0;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Done {
        let status = self.child.wait().unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let mut printed = self.printed.0.lock().unwrap();
        while !printed.over {
            printed = self.printed.1.wait(printed).unwrap();
        }
        Done {
            code: status.code(),
            stdout: String::from_utf8_lossy(&printed.text).into_owned(),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves no process.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Done {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn assert(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for part in parts {
            assert!(self.stdout.contains(part), "no {part:?} in {self:#?}");
        }
    }
}
