//! Real shells for tests.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A shell of this machine.
#[derive(Clone)]
pub(crate) struct TestShell {
    words: &'static [&'static str],
}

impl TestShell {
    /// Program and arguments.
    pub(crate) fn words(&self) -> Vec<&'static str> {
        self.words.to_vec()
    }
}

impl fmt::Display for TestShell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

/// The shells that are installed; those that are not are named, since a test that skips one shows
/// less.
pub(crate) fn shells() -> Vec<TestShell> {
    let known: [&[&str]; 3] = [&["/bin/bash"], &["/bin/dash"], &["/bin/busybox", "sh"]];
    let found: Vec<TestShell> = known
        .into_iter()
        .filter(|words| {
            let present = Path::new(words[0]).exists();
            if !present {
                eprintln!("SKIPPED: {} is not installed", words[0]);
            }
            present
        })
        .map(|words| TestShell { words })
        .collect();
    assert!(!found.is_empty(), "no shell to test with");
    found
}

/// What a shell did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Run {
    /// Runs `script` from stdin, as the build container does.
    pub(crate) fn stdin(shell: &TestShell, script: &str) -> Self {
        Self::spawn(shell, &[], script.as_bytes())
    }

    /// As [`Run::stdin`], with any bytes.
    pub(crate) fn stdin_bytes(shell: &TestShell, script: &[u8]) -> Self {
        Self::spawn(shell, &[], script)
    }

    /// Runs `shell -c command` with `stdin`.
    pub(crate) fn command(shell: &TestShell, command: &str, stdin: &str) -> Self {
        Self::spawn(shell, &["-c", command], stdin.as_bytes())
    }

    fn spawn(shell: &TestShell, arguments: &[&str], stdin: &[u8]) -> Self {
        // Signals that whoever runs the tests ignores (nohup, a background job) would be ignored by the shell as well, and told by
        // its `trap`.
        let mut child = Command::new("/usr/bin/env")
            .arg("--default-signal")
            .args(shell.words)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        let writer = std::thread::spawn(move || {
            // A shell may exit before it has read everything.
            drop(pipe.write_all(&bytes));
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }
}
