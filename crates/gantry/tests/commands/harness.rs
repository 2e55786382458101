//! A home folder with a configuration in it, and the program run in there with an empty environment.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use gantry_testkit::FakeGitLab;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest run of a command; only a broken test ever waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Operator {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// A command that has ended; colours are taken out of what it printed.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn failed(&self) -> &Self {
        assert_eq!(self.code, Some(1), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn is_silent_about(&self, secret: &str) -> &Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(!all.contains(secret), "{secret:?} in {self:#?}");
        self
    }
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    pub(crate) fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One whose configuration has these runners of the server: name and token.
    pub(crate) fn with_runners(gitlab: &FakeGitLab, runners: &[(&str, &str)]) -> Self {
        let operator = Self::new();
        let mut text = "# kept\nconcurrent = 3 # slots\n".to_owned();
        for (name, token) in runners {
            let url = gitlab.url();
            text.push_str(
                &format_args!(
                    "\n# above {name}\n[[runners]]\n  name = \"{name}\"\n  url = \"{url}\"\n  token = \"{token}\" # of {name}\n  executor = \"docker\"\n  [runners.docker]\n    image = \"busybox\"\n"
                )
                .to_string(),
            );
        }
        operator.write(&text);
        operator
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap_or_default()
    }

    pub(crate) fn mode(&self) -> u32 {
        let metadata = std::fs::metadata(self.config()).unwrap();
        metadata.permissions().mode() & 0o777
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("CONFIG_FILE", self.config())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Done {
        end(self.command(arguments), "").await
    }

    /// The same with lines to read.
    pub(crate) async fn answer(&self, arguments: &[&str], input: &str) -> Done {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        end(command, input).await
    }
}

/// Runs a command to its end.
pub(crate) async fn end(mut command: Command, input: &str) -> Done {
    let mut child = command.spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // A command that asks for less has closed it.
        stdin.write_all(input.as_bytes()).await.ok();
    }
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("the command ends")
        .unwrap();
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: plain(&String::from_utf8(output.stderr).unwrap()),
    }
}

/// Without colours, and without the blanks that pad messages.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\x1b');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    let lines: Vec<&str> = plain.lines().map(str::trim_end).collect();
    lines.join("\n")
}
