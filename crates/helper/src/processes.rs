//! Children: started, waited for and killed in one place.
//!
//! As main process of a container the agent inherits every orphan and must reap it, so `waitpid(-1)` runs in one thread
//! ([`Processes::reap`]) and everybody else learns of the end of a child from the table here. A child is entered under the same
//! lock that reaping takes, so its end cannot be missed, and it is signalled under that lock only while it is unreaped, so a
//! signal cannot meet a stranger with the same number.

use std::{
    collections::HashMap,
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, wait};

/// The children of the agent.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    table: Mutex<HashMap<i32, Child>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Child {
    /// 0–255, or 128 + signal.
    status: Option<i32>,
    /// Its group dies with it.
    doomed: bool,
}

impl Processes {
    /// Starts a child as leader of a process group of its own.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Pid> {
        command.process_group(0);
        let mut table = self.lock();
        // Reaped by number in `reap`.
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("process number out of range"))?;
        table.insert(
            pid.as_raw_pid(),
            Child {
                status: None,
                doomed: false,
            },
        );
        Ok(pid)
    }

    /// Waits for the end of a child and forgets it.
    pub(crate) fn wait(&self, pid: Pid) -> i32 {
        let mut table = self.lock();
        loop {
            match table.get(&pid.as_raw_pid()) {
                Some(Child {
                    status: Some(status),
                    ..
                }) => {
                    let status = *status;
                    table.remove(&pid.as_raw_pid());
                    return status;
                }
                Some(_) => {
                    let changed = self.changed.wait(table);
                    table = changed.unwrap_or_else(PoisonError::into_inner);
                }
                // Nobody waits twice.
                None => return 1,
            }
        }
    }

    /// Asks the group of a child to end; what is left of the group when the child has ended is killed. Nothing if it has ended.
    pub(crate) fn terminate(&self, pid: Pid) {
        self.signal(pid, Signal::TERM);
    }

    /// Kills the group of a child, if the child has not ended.
    pub(crate) fn kill(&self, pid: Pid) {
        self.signal(pid, Signal::KILL);
    }

    fn signal(&self, pid: Pid, signal: Signal) {
        let mut table = self.lock();
        if let Some(child) = table.get_mut(&pid.as_raw_pid())
            && child.status.is_none()
        {
            child.doomed = true;
            kill_process_group(pid, signal).ok();
        }
    }

    /// Takes the status of every process that has ended, own or inherited. Called for each SIGCHLD by one thread.
    pub(crate) fn reap(&self) {
        let mut table = self.lock();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let code = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, Some(signal)) => 128 + signal,
                (None, None) => continue,
            };
            if let Some(child) = table.get_mut(&pid.as_raw_pid()) {
                child.status = Some(code);
                if child.doomed {
                    kill_process_group(pid, Signal::KILL).ok();
                }
            }
        }
        drop(table);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Child>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
