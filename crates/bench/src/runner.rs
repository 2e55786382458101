//! The runner under test as a process.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A runner process with a config of its own. Stopped when dropped.
pub(crate) struct RunnerProcess {
    command: String,
    folder: TempDir,
    child: Child,
}

impl RunnerProcess {
    /// Starts the command with a config for the server at `url`.
    pub(crate) fn start(
        command: &str,
        url: &str,
        token: &str,
        image: &str,
        extra: &str,
        docker: &str,
    ) -> std::io::Result<Self> {
        let config = format!(
            "concurrent = 64\ncheck_interval = 1\n[[runners]]\n  name = \"bench\"\n  url = \"{url}\"\n  token = \"{token}\"\n  executor = \"docker\"\n  request_concurrency = 8\n  output_limit = 1000000\n{extra}  [runners.docker]\n    image = \"{image}\"\n    pull_policy = \"if-not-present\"\n{docker}"
        );
        Self::with_config(command, &config)
    }

    /// Starts the command with this config.
    pub(crate) fn with_config(command: &str, config: &str) -> std::io::Result<Self> {
        let folder = TempDir::new()?;
        std::fs::write(folder.path().join("config.toml"), config)?;
        let child = spawn(command, folder.path())?;
        Ok(Self {
            command: command.to_owned(),
            folder,
            child,
        })
    }

    /// Resident memory in MB.
    pub(crate) fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kilobytes.unwrap_or(f64::NAN) / 1024.0
    }

    /// CPU time used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        // The name, in parentheses, may have spaces; user and system time are the 12th and 13th words behind it.
        let words = stat.rsplit(')').next().unwrap_or_default();
        let ticks = words.split_whitespace().skip(11).take(2);
        // A tick is 10 ms on every Linux that matters.
        ticks
            .filter_map(|word| word.parse::<f64>().ok())
            .sum::<f64>()
            / 100.0
    }

    /// Puts another config in place.
    pub(crate) fn write_config(&self, config: &str) -> std::io::Result<()> {
        std::fs::write(self.folder.path().join("config.toml"), config)
    }

    /// Sends `SIGHUP`.
    pub(crate) fn hang_up(&self) -> std::io::Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-HUP", &pid]).status().map(drop)
    }

    /// `kill -9`, and a new process on the same config and state.
    pub(crate) fn kill_and_start_again(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.command, self.folder.path())?;
        Ok(())
    }

    /// Where the runner's own log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

fn spawn(command: &str, folder: &Path) -> std::io::Result<Child> {
    let config = folder.join("config.toml");
    let line = command.replace("{config}", &config.to_string_lossy());
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

impl Drop for RunnerProcess {
    fn drop(&mut self) {
        // SIGQUIT would wait for polling to end; all jobs are over here.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
