//! An agent of one's own, a runner's end of its connection, and repositories.

mod client;
mod git_server;
mod job;
mod repository;
mod store;

pub(crate) use client::{Client, Finished};
pub(crate) use git_server::GitServer;
pub(crate) use job::Job;
pub(crate) use repository::Repository;
pub(crate) use store::{Reply, Request as StoreRequest, Store};

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use gantry_agent::SourcesRequest;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gantry-helper");

/// Longest time to wait for a fact.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running agent with a directory of its own: `home`, `builds`, and its socket.
pub(crate) struct Agent {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) child: Child,
    connections: std::cell::Cell<u64>,
}

impl Agent {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "builds"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut command = Command::new(PROGRAM);
        command
            .args(["agent", "--socket"])
            .arg(dir.path().join("agent.sock"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir.path().join("home"))
            .current_dir("/")
            .stdin(Stdio::null());
        change(&mut command);
        let child = command.spawn().unwrap();
        Self {
            dir,
            child,
            connections: 0.into(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("agent.sock")
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.path("builds/group/project")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.path("builds/group/project.tmp")
    }

    /// A connection with a generation above all before.
    pub(crate) fn connect(&self) -> Client {
        self.connections.set(self.connections.get() + 1);
        Client::welcomed(&self.socket(), self.connections.get())
    }

    /// A request for this agent's directories, with nothing to fetch yet.
    pub(crate) fn request(&self) -> SourcesRequest {
        SourcesRequest {
            builds_dir: self.path("builds"),
            project_dir: self.project(),
            tmp_dir: self.tmp(),
            repo_url: "https://gitlab.invalid/group/project.git".into(),
            git_ref: "main".into(),
            sha: "0".repeat(40),
            ..SourcesRequest::default()
        }
    }

    /// A request whose script runs and then ends the stage.
    pub(crate) fn script(&self, script: &str) -> SourcesRequest {
        SourcesRequest {
            pre_get_sources: vec![format!("{script}\nexit 0")],
            ..self.request()
        }
    }

    /// Runs sources to their end on a connection of their own.
    pub(crate) fn sources(&self, id: &str, request: SourcesRequest) -> Finished {
        self.connect().run_sources(id, request)
    }

    /// Asks the agent to end and waits for it.
    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        terminate(self.child.id());
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.end();
        }
    }
}

/// TERM to one process.
pub(crate) fn terminate(pid: u32) {
    Command::new("kill")
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// Whether a process is there, dead but unreaped ones included.
pub(crate) fn alive(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

/// The content of a file that a script writes.
pub(crate) fn written(path: &Path) -> String {
    until(&format!("{} is written", path.display()), || {
        fs::read(path).is_ok_and(|text| text.ends_with(b"\n"))
    });
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Every regular file below a directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

/// Asserts that no file below a directory, names included, holds a text.
pub(crate) fn assert_nowhere(dir: &Path, text: &str) {
    for file in files_below(dir) {
        let content = fs::read(&file).unwrap();
        let found = content
            .windows(text.len())
            .any(|window| window == text.as_bytes());
        assert!(!found, "{} holds {text}", file.display());
    }
}
