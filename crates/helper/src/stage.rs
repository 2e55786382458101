//! What a stage works with: its output, its environment, its children, and the wish to end it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs,
    io::{self, PipeReader, PipeWriter, Read as _, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use gantry_agent::{EntryResult, Secret, Variable};
use rustix::{fs::Access, process::Pid};

use crate::{order, processes::Processes};

/// From TERM to KILL of a canceled command.
const GRACE: Duration = Duration::from_secs(5);
/// The status of a stage that ended because it was asked to: that of a command ended by TERM.
const CANCELED: i32 = 128 + 15;
/// How much of the end of what git said is looked at.
const HEARD: usize = 16 * 1024;
/// How long a command that has ended is listened to, if something holds its stderr open.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What a shell answers when a program is not there.
const NOT_FOUND: i32 = 127;
/// Git's status where it does not know a flag.
const USAGE: i32 = 129;
/// Linux refuses longer strings in an environment (128 KiB with `KEY=` and the final zero).
const LONGEST_VARIABLE: usize = 128 * 1024;

/// The variable with the directory of file variables, and the file there in which scripts set variables of later stages.
const TMP_DIR_VARIABLE: &str = "RUNNER_TEMP_PROJECT_DIR";
const ENV_FILE: &str = "gitlab_runner_env";
/// A larger file is no list of variables.
const LARGEST_ENV_FILE: u64 = 1024 * 1024;

/// Why a stage failed.
#[derive(Debug)]
pub(crate) struct StageError {
    pub(crate) exit_code: i32,
    pub(crate) text: String,
    /// A failing command has explained itself; anything else is still to be printed.
    pub(crate) explained: bool,
}

impl StageError {
    /// The helper itself failed.
    pub(crate) fn own(text: impl Into<String>) -> Self {
        Self {
            exit_code: 1,
            text: text.into(),
            explained: false,
        }
    }

    /// A command ended with this status.
    pub(crate) fn command(what: &str, status: i32) -> Self {
        Self {
            exit_code: status,
            text: format!("{what} exited with status {status}"),
            explained: true,
        }
    }

    /// Whether git failed at its work: it was there, was not canceled and knew its flags.
    pub(crate) fn is_of_git(&self) -> bool {
        self.explained && ![CANCELED, USAGE].contains(&self.exit_code)
    }

    /// Names the variable with the flags that git does not know.
    pub(crate) fn about_flags(self, variable: &str) -> Self {
        if self.exit_code != USAGE || !self.explained {
            return self;
        }
        Self {
            text: format!("git does not know what {variable} says; its own words are above"),
            explained: false,
            ..self
        }
    }

    fn canceled() -> Self {
        Self {
            exit_code: CANCELED,
            text: "canceled".into(),
            explained: true,
        }
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The end of a stage wished from outside.
#[derive(Debug, Default)]
pub(crate) struct Control {
    canceled: AtomicBool,
    running: Mutex<Option<Pid>>,
}

impl Control {
    /// TERM now, KILL after the grace; no further command begins.
    pub(crate) fn cancel(self: &Arc<Self>, processes: &Arc<Processes>) {
        if self.canceled.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(pid) = self.running() {
            processes.terminate(pid);
        }
        let (control, processes) = (Arc::clone(self), Arc::clone(processes));
        thread::spawn(move || {
            thread::sleep(GRACE);
            control.kill(&processes);
        });
    }

    /// KILL now.
    pub(crate) fn kill(&self, processes: &Processes) {
        if let Some(pid) = self.running() {
            processes.kill(pid);
        }
    }

    fn running(&self) -> Option<Pid> {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_running(&self, pid: Option<Pid>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::SeqCst)
    }
}

/// Environment of children. Kept sorted; the last value of a name wins.
pub(crate) type Environment = BTreeMap<OsString, OsString>;

/// One stage at work.
pub(crate) struct Stage {
    pub(crate) environment: Environment,
    /// A directory nobody else can read, gone with the agent.
    pub(crate) private: PathBuf,
    /// Where git keeps its programs, if that is known.
    pub(crate) git_programs: Option<PathBuf>,
    /// What `git --version` says, if that is known.
    pub(crate) git_version: Option<String>,
    /// Show every command before it runs (`CI_DEBUG_TRACE`).
    pub(crate) debug_trace: bool,
    /// What became of the entries of the request so far.
    pub(crate) entries: Vec<EntryResult>,
    processes: Arc<Processes>,
    control: Arc<Control>,
    stdout: PipeWriter,
    stderr: PipeWriter,
}

/// Where the output of a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    All,
    Nothing,
}

impl Stage {
    pub(crate) fn new(
        environment: Environment,
        private: PathBuf,
        processes: Arc<Processes>,
        control: Arc<Control>,
        stdout: PipeWriter,
        stderr: PipeWriter,
    ) -> Self {
        Self {
            environment,
            private,
            git_programs: None,
            git_version: None,
            debug_trace: false,
            entries: Vec::new(),
            processes,
            control,
            stdout,
            stderr,
        }
    }

    /// A notice of the runner: bold green (coordinator-api §11).
    pub(crate) fn notice(&self, text: &str) {
        self.print(&format!("\x1b[32;1m{text}\x1b[0;m\n"));
    }

    /// A warning: yellow (job-lifecycle §3.4).
    pub(crate) fn warning(&self, text: &str) {
        self.print(&format!("\x1b[0;33m{text}\x1b[0;m\n"));
    }

    /// As it is.
    pub(crate) fn print(&self, text: &str) {
        order::turn(&self.stdout, &self.stderr);
        // The reader is a thread of this process; if it is gone, so is everybody who could be told.
        (&self.stdout).write_all(text.as_bytes()).ok();
    }

    /// An error of the helper itself, in red.
    pub(crate) fn error(&self, text: &str) {
        self.complain(&format!("\x1b[31;1mERROR: {text}\x1b[0;m\n"));
    }

    fn complain(&self, text: &str) {
        order::turn(&self.stderr, &self.stdout);
        (&self.stderr).write_all(text.as_bytes()).ok();
    }

    /// A command as a shell with `xtrace` would show it.
    fn show_command(&self, command: &Command) {
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str());
        let words: Vec<_> = std::iter::once(name)
            .chain(command.get_args())
            .map(traced)
            .collect();
        self.trace(&words.join(" "));
    }

    /// A line as shells with `xtrace` print it.
    fn trace(&self, line: &str) {
        self.complain(&format!("+ {line}\n"));
    }

    /// Takes variables into the environment, then those that scripts of earlier stages wrote down. Such as no program could be started with are left out with a warning.
    pub(crate) fn export(&mut self, variables: &[Variable]) {
        self.take(variables);
        self.export_written();
    }

    fn take(&mut self, variables: &[Variable]) {
        let mut left_out = BTreeMap::new();
        for Variable { key, value } in variables {
            left_out.remove(key.as_str());
            match unfit(key, value) {
                None => {
                    if self.debug_trace {
                        let value = traced(OsStr::new(value.expose()));
                        self.trace(&format!("export {key}={value}"));
                    }
                    self.environment.insert(key.into(), value.expose().into());
                }
                Some(why) => {
                    self.environment.remove(OsStr::new(key));
                    left_out.insert(key.as_str(), why);
                }
            }
        }
        for (key, why) in left_out {
            self.warning(&format!(
                "Variable {key:?} is left out of the environment of git: {why}"
            ));
        }
    }

    /// Takes over what scripts of earlier stages wrote to the `GITLAB_ENV` file (job-lifecycle §2.6). As in the scripts, blanks around
    /// a line do not count, and what is no `NAME=value` is left out.
    fn export_written(&mut self) {
        let Some(tmp_dir) = self.environment.get(OsStr::new(TMP_DIR_VARIABLE)) else {
            return;
        };
        let path = Path::new(tmp_dir).join(ENV_FILE);
        let is_file = fs::symlink_metadata(&path)
            .is_ok_and(|found| found.is_file() && found.len() <= LARGEST_ENV_FILE);
        let Some(content) = is_file.then(|| fs::read(&path).ok()).flatten() else {
            return;
        };
        self.take(&written_variables(&String::from_utf8_lossy(&content)));
    }

    /// The path of a program, searched as a shell would.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        let path = self.environment.get(OsStr::new("PATH"));
        let path = path.map_or(
            OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            |path| path,
        );
        std::env::split_paths(path)
            .map(|dir| dir.join(program))
            .find(|file| executable(file))
    }

    /// Whether git has a command that is a program of its own. Asking git takes longer where it has not, for then it looks for
    /// similar ones.
    pub(crate) fn has_git_command(&self, name: &str) -> Result<bool, StageError> {
        let program = format!("git-{name}");
        if let Some(programs) = &self.git_programs {
            return Ok(executable(&programs.join(&program)) || self.find(&program).is_some());
        }
        Ok(self.git_status(None, [name, "version"], Show::Nothing)? == 0)
    }

    /// Whether git is of this version or a later one.
    pub(crate) fn git_is_at_least(&self, major: u32, minor: u32) -> bool {
        let version = self.git_version.as_deref().unwrap_or_default();
        let mut numbers = version
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
            .unwrap_or_default()
            .split('.')
            .map_while(|number| number.parse::<u32>().ok());
        let found = (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        found >= (major, minor)
    }

    /// Runs `git` and gives its status and what it prints.
    ///
    /// # Errors
    /// If there is none, if it fails, or if the stage is canceled.
    pub(crate) fn git_output<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        args: impl IntoIterator<Item = A>,
        complaints: Show,
    ) -> Result<(i32, Vec<u8>), StageError> {
        let cannot = |error: io::Error| StageError::own(format!("cannot run git: {error}"));
        let (mut reader, writer) = io::pipe().map_err(cannot)?;
        let collect = thread::Builder::new()
            .spawn(move || {
                let mut output = Vec::new();
                reader.read_to_end(&mut output).map(|_| output)
            })
            .map_err(cannot)?;
        let mut command = self.git_command()?;
        command.args(args).current_dir(dir);
        command.stdout(writer).stderr(match complaints {
            Show::All => self.stderr.try_clone().map_err(cannot)?.into(),
            Show::Nothing => Stdio::null(),
        });
        let result = self.run_connected(&mut command, Stdio::null());
        // It holds the write end.
        drop(command);
        let output = collect
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("reading failed")));
        Ok((result?, output.map_err(cannot)?))
    }

    /// Runs `git`, shows what it prints, and gives its status and the end of what it said on stderr.
    ///
    /// # Errors
    /// If there is none or the stage is canceled.
    pub(crate) fn git_heard<A: AsRef<OsStr>>(
        &self,
        dir: Option<&Path>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<(i32, String), StageError> {
        let cannot = |error: io::Error| StageError::own(format!("cannot run git: {error}"));
        let (reader, writer) = io::pipe().map_err(cannot)?;
        let shown = self.stderr.try_clone().map_err(cannot)?;
        let (heard, hear) = mpsc::channel();
        thread::Builder::new()
            .spawn(move || heard.send(pass_on(reader, shown)))
            .map_err(cannot)?;
        let mut command = self.git_command()?;
        command.args(args);
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        let stdout = self.stdout.try_clone().map_err(cannot)?;
        command.stdout(stdout).stderr(writer);
        let result = self.run_connected(&mut command, Stdio::null());
        // It holds the write end.
        drop(command);
        // A process that git left behind may hold it, too.
        let said = hear.recv_timeout(LAST_WORDS).unwrap_or_default();
        Ok((result?, String::from_utf8_lossy(&said).into_owned()))
    }

    fn git_command(&self) -> Result<Command, StageError> {
        let Some(git) = self.find("git") else {
            return Err(StageError {
                exit_code: NOT_FOUND,
                text: "there is no git in the helper image: it needs git and a shell; \
                       name another one with helper_image in [runners.docker]"
                    .into(),
                explained: false,
            });
        };
        Ok(Command::new(git))
    }

    /// Runs `git`.
    ///
    /// # Errors
    /// If there is none, if it fails, or if the stage is canceled.
    pub(crate) fn git<A: AsRef<OsStr>>(
        &self,
        dir: Option<&Path>,
        args: impl IntoIterator<Item = A>,
        name: &str,
    ) -> Result<(), StageError> {
        match self.git_status(dir, args, Show::All)? {
            0 => Ok(()),
            status => Err(StageError::command(&format!("git {name}"), status)),
        }
    }

    /// Runs `git` and gives its status.
    ///
    /// # Errors
    /// If there is none or the stage is canceled.
    pub(crate) fn git_status<A: AsRef<OsStr>>(
        &self,
        dir: Option<&Path>,
        args: impl IntoIterator<Item = A>,
        show: Show,
    ) -> Result<i32, StageError> {
        let mut command = self.git_command()?;
        command.args(args);
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        self.run(&mut command, Stdio::null(), show)
    }

    /// Runs a command in the stage's environment and gives its status.
    ///
    /// # Errors
    /// If it cannot be started or the stage is canceled.
    pub(crate) fn run(
        &self,
        command: &mut Command,
        stdin: Stdio,
        show: Show,
    ) -> Result<i32, StageError> {
        let cannot = |error: io::Error| StageError::own(format!("cannot run a command: {error}"));
        match show {
            Show::All => {
                command.stdout(self.stdout.try_clone().map_err(cannot)?);
                command.stderr(self.stderr.try_clone().map_err(cannot)?);
            }
            Show::Nothing => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        self.run_connected(command, stdin)
    }

    /// Runs a command whose output goes where it already says.
    fn run_connected(&self, command: &mut Command, stdin: Stdio) -> Result<i32, StageError> {
        let program = Path::new(command.get_program()).display().to_string();
        let cannot = |error: io::Error| {
            let why = match error.kind() {
                io::ErrorKind::ArgumentListTooLong => {
                    "the job's variables are too long together".into()
                }
                _ => error.to_string(),
            };
            StageError::own(format!("cannot start {program}: {why}"))
        };
        if self.debug_trace {
            self.show_command(command);
        }
        // It may write to either.
        order::turn(&self.stderr, &self.stdout);
        order::turn(&self.stdout, &self.stderr);
        command.env_clear().envs(&self.environment).stdin(stdin);
        if self.control.is_canceled() {
            return Err(StageError::canceled());
        }
        let pid = self.processes.spawn(command).map_err(cannot)?;
        self.control.set_running(Some(pid));
        if self.control.is_canceled() {
            // The wish came while it was started.
            self.processes.terminate(pid);
        }
        let status = self.processes.wait(pid);
        self.control.set_running(None);
        if self.control.is_canceled() {
            return Err(StageError::canceled());
        }
        Ok(status)
    }
}

/// Passes on what is read, and gives the end of it.
fn pass_on(mut reader: PipeReader, mut shown: PipeWriter) -> Vec<u8> {
    let mut end = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let piece = match reader.read(&mut piece) {
            Ok(length @ 1..) => &piece[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            _ => return end,
        };
        // If nobody reads it any more, git is not to stop for that.
        shown.write_all(piece).ok();
        end.extend_from_slice(piece);
        let before = end.len().saturating_sub(HEARD);
        end.drain(..before);
    }
}

fn written_variables(content: &str) -> Vec<Variable> {
    let identifier = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    content
        .lines()
        .filter_map(|line| line.trim_matches([' ', '\t']).split_once('='))
        .filter(|(name, _)| identifier(name))
        .map(|(name, value)| Variable {
            key: name.to_owned(),
            value: value.into(),
        })
        .collect()
}

/// A word as shells show it when they trace.
fn traced(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+,-./:=@_".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok()
}

fn unfit(key: &str, value: &Secret) -> Option<String> {
    let value = value.expose();
    if key.is_empty() || key.contains(['=', '\0']) {
        Some("that is no name for a variable".into())
    } else if value.contains('\0') {
        Some("its value holds a zero byte".into())
    } else if key.len() + value.len() + 2 > LONGEST_VARIABLE {
        Some(format!("its value is too long ({} bytes)", value.len()))
    } else {
        None
    }
}

/// A path as it stands in messages and in git's configuration: lossless for UTF-8, which all paths of a request are.
pub(crate) fn text(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_env_file_are_read_as_scripts_read_them() {
        let content = "A=1\n\n  B=two words \nno line\n1C=x\nD.E=x\nF=a=b\nA=2";
        let found: Vec<_> = written_variables(content)
            .into_iter()
            .map(|variable| (variable.key, variable.value.expose().to_owned()))
            .collect();
        let expected = [("A", "1"), ("B", "two words"), ("F", "a=b"), ("A", "2")];
        assert_eq!(
            found,
            expected.map(|(key, value)| (key.into(), value.into()))
        );
    }

    #[test]
    fn variables_that_no_program_could_be_started_with_are_told_apart() {
        assert_eq!(unfit("KEY", &"value".into()), None);
        assert_eq!(
            unfit("1.A", &"not a shell name, but exec takes it".into()),
            None
        );
        assert!(unfit("", &"x".into()).is_some());
        assert!(unfit("A=B", &"x".into()).is_some());
        assert!(unfit("KEY", &"a\0b".into()).is_some());
        let longest = "x".repeat(LONGEST_VARIABLE - 5);
        assert_eq!(unfit("KEY", &longest.clone().into()), None);
        assert!(unfit("KEY", &format!("{longest}x").into()).is_some());
    }
}
