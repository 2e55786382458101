//! `gantry-helper agent`: main process of the helper container.
//!
//! It owns the stages of one job, their output and their processes, and serves one connection at a time. Threads: this one takes
//! signals and reaps; one accepts; a served connection has a reader and a writer; a running stage has a worker and a pump. All
//! of them meet at one lock ([`Shared::state`]) and one condition.

mod connection;
mod pump;
mod spool;
mod stages;

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::Mode,
    process::{getpid, set_child_subreaper, umask},
};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGQUIT, SIGTERM},
    iterator::{Handle, Signals},
};

use self::stages::Stages;
use crate::{complain, processes::Processes, stage::Environment};

/// How long stages may take to end with the agent.
const GRACE: Duration = Duration::from_secs(5);
/// How long a welcome waits for `git --version`, which starts with the agent and takes a few milliseconds.
const PROBE: Duration = Duration::from_millis(500);

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("another agent listens at {0}; give this one a --socket of its own")]
    Taken(PathBuf),
    #[error("cannot listen at {path}: {source}; --socket PATH names another place")]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot take signals: {0}")]
    Signals(io::Error),
}

/// What the threads of an agent share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Anything in `state` changed.
    changed: Condvar,
    processes: Arc<Processes>,
    environment: Environment,
    private: PathBuf,
    hostname: String,
    git: Probe,
    /// Ends the loop of the main thread.
    end: Handle,
}

#[derive(Default)]
struct State {
    stages: Stages,
    /// The highest seen.
    generation: u64,
    /// Connections so far.
    connections: u64,
    serving: Option<connection::Serving>,
    ending: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until TERM, INT, QUIT or a shutdown message.
///
/// What stages make the user of the build container may change, as in the peer, unless the container's umask is kept.
pub(crate) fn run(sockets: &[PathBuf], keep_umask: bool) -> Result<(), AgentError> {
    // Before the first child, so that no end of one is missed.
    let mut signals =
        Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGQUIT]).map_err(AgentError::Signals)?;
    // Under an entrypoint that does not exec, orphans shall come here all the same. Without it, they stay where they are.
    set_child_subreaper(Some(getpid())).ok();

    let own = umask(Mode::from_raw_mode(0o077));
    let Listening {
        listener,
        socket,
        private,
    } = listen(sockets)?;
    umask(if keep_umask { own } else { Mode::empty() });

    let shared = Arc::new(Shared {
        state: Mutex::default(),
        changed: Condvar::new(),
        processes: Arc::default(),
        environment: std::env::vars_os().collect(),
        private: private.clone(),
        hostname: hostname(),
        git: Probe::default(),
        end: signals.handle(),
    });
    let probe = Arc::clone(&shared);
    thread::spawn(move || probe.git.fill(&probe.processes));
    let accept = Arc::clone(&shared);
    thread::spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    let shared = Arc::clone(&accept);
                    let serve = move || connection::serve(&shared, &stream);
                    if let Err(error) = thread::Builder::new().spawn(serve) {
                        complain(&format!("cannot serve a connection: {error}"));
                    }
                }
                Err(error) => {
                    complain(&format!("cannot accept a connection: {error}"));
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    });

    for signal in signals.forever() {
        if signal == SIGCHLD {
            shared.processes.reap();
        } else {
            break;
        }
    }
    end(&shared);
    fs::remove_file(&socket).ok();
    fs::remove_dir_all(&private).ok();
    Ok(())
}

/// Ends the stages: TERM, and KILL when the grace is over.
fn end(shared: &Shared) {
    let controls = {
        let mut state = shared.lock();
        state.ending = true;
        state.stages.running()
    };
    for control in &controls {
        control.cancel(&shared.processes);
    }
    let start = Instant::now();
    let mut killed = false;
    while !shared.lock().stages.running().is_empty()
        && start.elapsed() < GRACE + Duration::from_secs(1)
    {
        if start.elapsed() >= GRACE && !killed {
            killed = true;
            for control in &controls {
                control.kill(&shared.processes);
            }
        }
        // Nobody else reaps now.
        thread::sleep(Duration::from_millis(5));
        shared.processes.reap();
    }
}

struct Listening {
    listener: UnixListener,
    socket: PathBuf,
    /// A directory for this process alone.
    private: PathBuf,
}

/// Listens at the first place that can be used.
fn listen(sockets: &[PathBuf]) -> Result<Listening, AgentError> {
    let mut failure = None;
    for socket in sockets {
        match listen_at(socket) {
            Ok(listening) => return listening,
            Err(source) => {
                failure.get_or_insert(AgentError::Listen {
                    path: socket.clone(),
                    source,
                });
            }
        }
    }
    Err(failure.unwrap_or_else(|| AgentError::Taken(PathBuf::new())))
}

/// Binds the socket and makes the private directory beside it.
fn listen_at(socket: &Path) -> io::Result<Result<Listening, AgentError>> {
    if let Some(parent) = socket.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket()) {
        // A restarted container keeps the socket of its former life.
        if UnixStream::connect(socket).is_ok() {
            return Ok(Err(AgentError::Taken(socket.to_owned())));
        }
        fs::remove_file(socket)?;
    }
    let mut private = socket.as_os_str().to_owned();
    private.push(".d");
    let private = PathBuf::from(private);
    crate::files::remove(&private)?;
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let listener = UnixListener::bind(socket)?;
    Ok(Ok(Listening {
        listener,
        socket: socket.to_owned(),
        private,
    }))
}

fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.to_owned(),
    }
}

/// What there is to know of the image's git, asked once in the background.
#[derive(Debug, Default)]
struct Probe {
    found: Mutex<Option<Git>>,
    known: Condvar,
}

#[derive(Debug, Default, Clone)]
struct Git {
    version: Option<String>,
    programs: Option<PathBuf>,
}

impl Probe {
    fn fill(&self, processes: &Processes) {
        let version = ask(processes, "--version");
        let programs = version.as_ref().and_then(|_| ask(processes, "--exec-path"));
        let git = Git {
            version,
            programs: programs.map(PathBuf::from),
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(git);
        self.known.notify_all();
    }

    /// What is known soon.
    fn git(&self) -> Git {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, _) = self
            .known
            .wait_timeout_while(found, PROBE, |found| found.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        found.clone().unwrap_or_default()
    }
}

/// What git answers to an option.
fn ask(processes: &Processes, option: &str) -> Option<String> {
    let (mut output, writer) = io::pipe().ok()?;
    let mut command = Command::new("git");
    command
        .arg(option)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null());
    let pid = processes.spawn(&mut command).ok()?;
    // It holds the write end, and would keep the pipe open.
    drop(command);
    let mut text = Vec::new();
    io::copy(&mut io::Read::take(&mut output, 4096), &mut text).ok();
    let status = processes.wait(pid);
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    (status == 0 && !text.is_empty()).then_some(text)
}
