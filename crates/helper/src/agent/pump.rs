//! From the pipes of a stage to its spool.
//!
//! All commands of a stage share one pipe per stream with the stage's own notices, so their order is kept. The end of the stage,
//! not the end of the pipes, ends the pump: a process that a script left in the background may hold them for ever.

use std::{
    io::{PipeReader, Read},
    os::fd::AsFd,
};

use gantry_agent::Stream;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, ioctl_fionread},
};

use super::{Shared, spool::PIECE};

/// Runs until both pipes end, or until `stop` does: then takes what is in the pipes and returns.
pub(super) fn run(
    shared: &Shared,
    id: &str,
    stdout: PipeReader,
    stderr: PipeReader,
    stop: &PipeReader,
) {
    let mut pipes = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
    let mut buffer = vec![0; PIECE];
    while !pipes.is_empty() {
        let mut waiting: Vec<_> = pipes
            .iter()
            .map(|(_, pipe)| pipe.as_fd())
            .chain([stop.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut waiting, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        let ready: Vec<bool> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(waiting);
        if ready.last() == Some(&true) {
            for (stream, pipe) in &mut pipes {
                while ioctl_fionread(&*pipe).is_ok_and(|pending| pending > 0) {
                    if !copy(shared, id, *stream, pipe, &mut buffer) {
                        break;
                    }
                }
            }
            return;
        }
        let mut ready = ready.into_iter();
        pipes.retain_mut(|(stream, pipe)| {
            !ready.next().unwrap_or_default() || copy(shared, id, *stream, pipe, &mut buffer)
        });
    }
}

/// One read into the spool. `false`: the pipe has ended.
fn copy(
    shared: &Shared,
    id: &str,
    stream: Stream,
    pipe: &mut PipeReader,
    buffer: &mut [u8],
) -> bool {
    let read = match pipe.read(buffer) {
        Ok(0) => return false,
        Ok(read) => read,
        Err(error) => return error.kind() == std::io::ErrorKind::Interrupted,
    };
    let mut state = shared.lock();
    loop {
        // Attempts are never forgotten.
        let Some(attempt) = state.stages.get_mut(id) else {
            return false;
        };
        if attempt.spool.push(stream, &buffer[..read]) {
            break;
        }
        state = shared.wait(state);
    }
    drop(state);
    shared.changed.notify_all();
    true
}
