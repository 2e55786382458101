use std::{fmt, time::Duration};

use crate::EngineError;

/// The calls of [`Engine`](crate::Engine), one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the trait method of that name")]
pub enum Verb {
    Ping,
    Time,
    Facts,
    ImageInspect,
    ImagePull,
    ImageLoad,
    ImageTag,
    VolumeCreate,
    VolumeInspect,
    VolumeList,
    VolumeRemove,
    NetworkCreate,
    NetworkInspect,
    NetworkList,
    NetworkRemove,
    ContainerCreate,
    ContainerInspect,
    ContainerStart,
    ContainerAttach,
    ContainerWait,
    ContainerLogs,
    ContainerStop,
    ContainerKill,
    ContainerRemove,
    ContainerList,
    ArchivePut,
    ArchiveGet,
    ArchiveMode,
    Exec,
    ExecTerminal,
    ExecExitCode,
    Events,
}

/// What goes wrong in a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call has no effect and fails so.
    Error(EngineError),
    /// The call has no effect and never answers.
    Hang,
    /// The call answers rightly after this time.
    Delay(Duration),
    /// The call has its effect; its answer is lost ([`EngineError::Unreachable`]).
    EffectThenLost,
    /// The call has its effect and never answers.
    EffectThenHang,
    /// The call has its effect, its answer is lost and the engine is down (containers live) until [`super::FakeEngine::come_up`].
    EffectThenDown,
    /// The output stream the call opens breaks with an `Err` after so many bytes; an attach or exec loses its stdin too. For
    /// `Events` the number counts events.
    CutOutput(usize),
    /// The attach or exec breaks after so many bytes of stdin were taken: the write fails, output ends in an `Err`.
    CutStdin(usize),
    /// The output stream the call opens ends cleanly after so many bytes, while the container goes on.
    EndOutput(usize),
}

/// One call as it came in, faults or not. Holds no `Env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which call.
    pub verb: Verb,
    /// What it was about: a container's, volume's or network's name (IDs are turned into names), an image reference.
    pub subject: String,
    /// More, per verb: a signal, a path, a command; else empty.
    pub detail: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.verb, self.subject)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}

/// A fault waiting for its call.
pub(super) struct Rule {
    pub(super) verb: Verb,
    /// Part of the subject; empty: any.
    pub(super) subject: String,
    /// Which matching call from now on, from 1.
    pub(super) nth: u32,
    /// For how many calls.
    pub(super) times: u32,
    pub(super) seen: u32,
    pub(super) fault: Fault,
}

impl Rule {
    /// Counts a call; the fault if it is due.
    pub(super) fn strike(&mut self, verb: Verb, subject: &str) -> Option<Fault> {
        if self.verb != verb || !subject.contains(&self.subject) {
            return None;
        }
        self.seen += 1;
        let due = self.seen >= self.nth && self.seen - self.nth < self.times;
        due.then(|| self.fault.clone())
    }
}
