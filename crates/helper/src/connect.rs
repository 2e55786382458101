//! `gantry-helper connect`: joins stdin and stdout with the agent's socket.
//!
//! Runs once per connection of the runner, as an engine `exec`. It may be faster than the agent's start, so it tries for a while.
//! It ends when either side ends, and also when nobody takes its output for long: an engine that does not notice the death of its
//! client would otherwise keep it for ever (engine-mechanics §e).

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How long the agent's socket may take to appear.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
/// Output that nobody takes for this long ends the connection. The agent keeps it for the next one.
const STALL: Duration = Duration::from_secs(60);
const BUFFER: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no agent at {path} within {} s: {source}", PATIENCE.as_secs())]
    NoAgent { path: String, source: io::Error },
    #[error("cannot use the agent's socket: {0}")]
    Socket(#[from] io::Error),
    #[error("nobody took the agent's output for {} s", STALL.as_secs())]
    Stalled,
}

/// Runs until stdin or the socket ends.
pub(crate) fn run(sockets: &[PathBuf]) -> Result<(), ConnectError> {
    let from_agent = connect(sockets)?;
    let to_agent = from_agent.try_clone()?;
    let (ended, end) = channel();
    // 0: not writing; else milliseconds since the start at which the write in progress began, plus 1.
    let started = Instant::now();
    let writing = std::sync::Arc::new(AtomicU64::new(0));

    let (tell, mark) = (ended.clone(), std::sync::Arc::clone(&writing));
    thread::spawn(move || {
        pump(from_agent, io::stdout(), |busy| {
            mark.store(
                if busy { millis(started) + 1 } else { 0 },
                Ordering::Relaxed,
            );
        });
        finish(&tell);
    });
    thread::spawn(move || {
        pump(io::stdin(), to_agent, |_| {});
        finish(&ended);
    });
    // The threads are left behind: the process ends with this one.
    loop {
        match end.recv_timeout(STALL / 4) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                let since = writing.load(Ordering::Relaxed);
                let stall = u64::try_from(STALL.as_millis()).unwrap_or(u64::MAX);
                if since != 0 && millis(started).saturating_sub(since - 1) > stall {
                    return Err(ConnectError::Stalled);
                }
            }
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn finish(ended: &Sender<()>) {
    // The receiver is gone only when the process ends.
    ended.send(()).ok();
}

fn connect(sockets: &[PathBuf]) -> Result<UnixStream, ConnectError> {
    let start = Instant::now();
    loop {
        let mut failure = None;
        for socket in sockets {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(stream),
                // The first place is the usual one.
                Err(source) => {
                    let path = socket.display().to_string();
                    failure.get_or_insert(ConnectError::NoAgent { path, source });
                }
            }
        }
        match failure {
            Some(failure) if start.elapsed() >= PATIENCE => return Err(failure),
            _ => thread::sleep(PAUSE),
        }
    }
}

/// Copies until either side ends; `busy` brackets each write.
fn pump(mut from: impl Read, mut to: impl Write, busy: impl Fn(bool)) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        busy(true);
        let written = to.write_all(&buffer[..read]).and_then(|()| to.flush());
        busy(false);
        if written.is_err() {
            return;
        }
    }
}
