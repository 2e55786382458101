//! One process of the program, its signals and its log.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) use rustix::process::Signal;

use super::{PATIENCE, plain};

/// A running `gantry run`.
pub(crate) struct Runner {
    child: Child,
    log: Log,
}

/// What a process wrote to stderr. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Log {
    text: Arc<Mutex<String>>,
    lines: watch::Receiver<usize>,
}

impl Log {
    /// All of it so far, without colours.
    pub(crate) fn text(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        plain(&text)
    }
}

impl Runner {
    /// Starts the program in this folder on the configuration in it.
    pub(crate) fn start(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command
            .arg("--debug")
            .args(["run", "--config", "config.toml"])
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Starts a command of the program and reads its log.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let stderr = child.stderr.take().expect("a pipe");
        let text = Arc::new(Mutex::new(String::new()));
        let (count, lines) = watch::channel(0);
        let log = Log {
            text: Arc::clone(&text),
            lines,
        };
        tokio::spawn(async move {
            let mut read = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = read.next_segment().await {
                let line = String::from_utf8_lossy(&line);
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
                drop(text);
                count.send_modify(|count| *count += 1);
            }
        });
        Self { child, log }
    }

    /// Its log, to be read also when the process is gone.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("a process that was not waited for")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("a process to signal");
    }

    /// `kill -9`; returns when the process is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("a process to kill");
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("a child"),
            Err(_) => panic!(
                "waited {PATIENCE:?} for the end of the process; its log:\n{}",
                self.log.text()
            ),
        }
    }

    /// Exit code, once it has ended by itself.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        self.ended().await.code().expect("an exit code")
    }

    /// Waits for these words in the log.
    pub(crate) async fn says(&self, words: &str) {
        let mut lines = self.log.lines.clone();
        let said = timeout(
            PATIENCE,
            lines.wait_for(|_| self.log.text().contains(words)),
        );
        let said = matches!(said.await, Ok(Ok(_)));
        assert!(
            said || self.log.text().contains(words),
            "the runner does not say {words:?}; its log:\n{}",
            self.log.text()
        );
    }

    /// How often the log has these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.log.text().matches(words).count()
    }
}
