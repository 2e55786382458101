//! Scripts around the fetch: `pre_get_sources_script` and `post_get_sources_script` (job-lifecycle §4.3 steps 4 and 18).
//!
//! In the peer they run in the same shell as git, so what the first one exports (a proxy, `GIT_SSH_COMMAND`, the address of an
//! ssh-agent) reaches git. Here the shell hands its environment back at its end, over a socket: a file could show a token.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStringExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::{
    files,
    stage::{Environment, Show, Stage, StageError, text},
};

/// The command by which a script's shell tells its environment.
pub(crate) const REPORT_ENV: &str = "report-env";

/// Searched in this order (job-lifecycle §3.2).
const SHELLS: [&str; 7] = [
    "/usr/local/bin/bash",
    "/usr/bin/bash",
    "/bin/bash",
    "/usr/local/bin/sh",
    "/usr/bin/sh",
    "/bin/sh",
    "/busybox/sh",
];

/// What a shell sets by itself.
const OWN_VARIABLES: [&str; 4] = ["_", "SHLVL", "PWD", "OLDPWD"];

/// Whether the stage goes on after a script.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// The script ended its shell with status 0: in the peer that ends the stage.
    Ended,
}

/// Runs commands in one shell, each echoed, and takes over what they exported.
pub(crate) fn run_and_keep_environment(
    stage: &mut Stage,
    commands: &[String],
    name: &str,
) -> Result<Flow, StageError> {
    let cannot = |error: io::Error| StageError::own(format!("cannot run {name}: {error}"));
    let program = std::env::current_exe().map_err(cannot)?;
    let socket = stage.private.join("environment.sock");
    files::remove(&socket).map_err(cannot)?;
    let listener = UnixListener::bind(&socket).map_err(cannot)?;
    let receiver = thread::Builder::new()
        .spawn(move || receive(&listener))
        .map_err(cannot)?;

    let report = format!(
        "{} {REPORT_ENV} {}",
        quoted(&text(&program)),
        quoted(&text(&socket))
    );
    let script = frame(commands, stage.debug_trace, Some(&report));
    let result = run_shell(stage, None, &script, name);
    // An empty report ends the receiver, if the script did not report.
    drop(UnixStream::connect(&socket));
    let reported = receiver.join().unwrap_or_default();
    files::remove(&socket).map_err(cannot)?;
    result?;
    if reported.is_empty() {
        return Ok(Flow::Ended);
    }
    take_over(&mut stage.environment, &reported);
    Ok(Flow::Continue)
}

/// Runs commands in one shell in a directory, each echoed.
pub(crate) fn run(
    stage: &Stage,
    dir: &Path,
    commands: &[String],
    name: &str,
) -> Result<(), StageError> {
    let script = frame(commands, stage.debug_trace, None);
    run_shell(stage, Some(dir), &script, name)
}

/// `gantry-helper report-env SOCKET`: the environment, each entry with a zero byte at its end.
pub(crate) fn report_env(socket: &Path) -> io::Result<()> {
    let mut report = Vec::new();
    for (key, value) in std::env::vars_os() {
        report.extend(key.into_vec());
        report.push(b'=');
        report.extend(value.into_vec());
        report.push(0);
    }
    UnixStream::connect(socket)?.write_all(&report)
}

fn receive(listener: &UnixListener) -> Vec<u8> {
    let mut report = Vec::new();
    if let Ok((mut stream, _)) = listener.accept()
        && stream.read_to_end(&mut report).is_err()
    {
        report.clear();
    }
    report
}

fn take_over(environment: &mut Environment, report: &[u8]) {
    let own = |key: &OsString| OWN_VARIABLES.iter().any(|own| key == own);
    environment.retain(|key, _| own(key));
    for entry in report.split(|&byte| byte == 0) {
        // A name has at least one byte, and may hold no `=`.
        let Some(end) = entry.iter().skip(1).position(|&byte| byte == b'=') else {
            continue;
        };
        let (key, value) = (entry[..=end].to_vec(), entry[end + 2..].to_vec());
        let key = OsString::from_vec(key);
        if !own(&key) {
            environment.insert(key, OsString::from_vec(value));
        }
    }
}

fn run_shell(
    stage: &Stage,
    dir: Option<&Path>,
    script: &str,
    name: &str,
) -> Result<(), StageError> {
    let cannot = |error: io::Error| StageError::own(format!("cannot run {name}: {error}"));
    let shell = SHELLS
        .iter()
        .map(PathBuf::from)
        .find(|shell| shell.is_file());
    let Some(shell) = shell.or_else(|| stage.find("sh")) else {
        return Err(StageError::own(format!(
            "shell not found: the helper image has none, which {name} needs; name another one with helper_image in \
             [runners.docker]"
        )));
    };
    let (stdin, mut writer) = io::pipe().map_err(cannot)?;
    let mut command = Command::new(shell);
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let script = script.to_owned();
    thread::Builder::new()
        .spawn(move || {
            // A shell that ended early does not read it all.
            writer.write_all(script.as_bytes()).ok();
        })
        .map_err(cannot)?;
    match stage.run(&mut command, stdin.into(), Show::All)? {
        0 => Ok(()),
        status => Err(StageError::command(name, status)),
    }
}

/// The script a shell reads: one compound command, its commands without access to the script itself (job-lifecycle §3.1).
fn frame(commands: &[String], debug_trace: bool, report: Option<&str>) -> String {
    let mut body = String::new();
    if debug_trace {
        // Not in the frame, where it would show the whole body as the argument of eval.
        body.push_str("set -o xtrace\n");
    }
    for command in commands {
        body.push_str(&echo(command));
        body.push('\n');
        body.push_str(command);
        body.push('\n');
    }
    let report = report
        .map(|report| format!("{{ set +o xtrace; }} 2>/dev/null; {report};"))
        .unwrap_or_default();
    format!(
        "trap 'exit 1' TERM\n\
         case \"$(set -o)\" in *\"pipefail\"*) set -o pipefail;; esac; set -o errexit\n\
         set +o noclobber\n\
         {{ eval {}; {report} }} </dev/null\n\
         exit 0\n",
        quoted(&body)
    )
}

/// Prints a command before it runs (job-lifecycle §3.4).
fn echo(command: &str) -> String {
    let command = command.trim();
    let shown = match command.split_once('\n') {
        None if command.is_empty() => return "echo".into(),
        None => format!("\x1b[32;1m$ {command}\x1b[0;m"),
        Some((first, _)) => format!("\x1b[32;1m$ {first} # collapsed multi-line command\x1b[0;m"),
    };
    format!("printf '%s\\n' {}", quoted(&shown))
}

/// As one word of any shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_echoed_before_they_run() {
        assert_eq!(echo("  "), "echo");
        assert_eq!(
            echo(" ls 'a' "),
            "printf '%s\\n' '\x1b[32;1m$ ls '\\''a'\\''\x1b[0;m'"
        );
        assert!(echo("cat <<E\nx\nE").contains("$ cat <<E # collapsed multi-line command"));
    }

    #[test]
    fn a_reported_environment_replaces_the_old_one_but_for_the_shell_s_own() {
        let mut environment: Environment = [("PWD", "/"), ("GONE", "1"), ("SAME", "1")]
            .map(|(key, value)| (key.into(), value.into()))
            .into();
        take_over(
            &mut environment,
            b"SAME=2\0PWD=/x\0NEW=a=b\nc\0EMPTY=\0_=y\0garbage\0=x\0",
        );
        let expected: Environment = [
            ("PWD", "/"),
            ("SAME", "2"),
            ("NEW", "a=b\nc"),
            ("EMPTY", ""),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
        assert_eq!(environment, expected);
    }
}
