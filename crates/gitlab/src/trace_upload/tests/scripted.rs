//! A log in memory, and a server that behaves until told otherwise.

use std::collections::VecDeque;
use std::sync::Mutex;

use gantry_job::JobState;
use tokio::time::Instant;

use super::*;
use crate::{CallFailure, JobUpdate, Product, RunnerInfo};

pub(super) fn credentials() -> JobCredentials {
    JobCredentials {
        id: 7,
        token: "glcbt-7".into(),
        info: Arc::new(RunnerInfo::docker(&Product::default())),
    }
}

/// An answer of this status that means nothing but "try again".
pub(super) fn status(status: u16) -> CallFailure {
    CallFailure::Status {
        method: "PUT",
        url: "http://h/".into(),
        status,
        message: String::new(),
        wait: None,
    }
}

/// Connection refused.
pub(super) fn refused() -> CallFailure {
    CallFailure::Transport {
        method: "PUT",
        url: "http://h/".into(),
        reason: "connection refused".into(),
    }
}

/// A log that a test writes.
#[derive(Default)]
pub(super) struct TestLog {
    bytes: Mutex<Vec<u8>>,
    progress: watch::Sender<TraceProgress>,
}

impl TestLog {
    pub(super) fn write(&self, bytes: impl AsRef<[u8]>) {
        let mut all = self.bytes.lock().unwrap();
        all.extend_from_slice(bytes.as_ref());
        let (len, checksum) = (all.len() as u64, crc32fast::hash(&all));
        self.progress.send_modify(|progress| {
            progress.len = len;
            progress.checksum = checksum;
        });
    }

    pub(super) fn finish(&self) {
        self.progress
            .send_modify(|progress| progress.finished = true);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl TraceSource for TestLog {
    fn progress(&self) -> watch::Receiver<TraceProgress> {
        self.progress.subscribe()
    }

    fn read_at(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let bytes = self.bytes.lock().unwrap();
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let to = (from + max).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[from..to]))
    }
}

/// One call that came.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// From, behind, seconds since the start.
    Patch(u64, u64, f64),
    Running(TraceExtent, f64),
    Final(JobState, TraceExtent, f64),
}

type PatchScript = Box<dyn FnMut(&TracePatch) -> Option<JobReply<PatchAnswer>> + Send>;
type UpdateScript = Box<dyn FnMut(&JobUpdate) -> Option<JobReply<UpdateAnswer>> + Send>;

/// Stores what comes in order, and answers 202, 416 and 200, or as its scripts say.
pub(super) struct ScriptedServer {
    inner: Mutex<Inner>,
    start: Instant,
}

#[derive(Default)]
struct Inner {
    stored: Vec<u8>,
    calls: Vec<Call>,
    patches: VecDeque<PatchScript>,
    hanging: u32,
    updates: VecDeque<UpdateScript>,
}

impl Default for ScriptedServer {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            start: Instant::now(),
        }
    }
}

impl ScriptedServer {
    /// The next patches get these answers, and nothing is stored; afterwards the server behaves.
    pub(super) fn answer_patches(&self, replies: impl IntoIterator<Item = JobReply<PatchAnswer>>) {
        for reply in replies {
            let mut reply = Some(reply);
            self.script_patches(move |_| reply.take());
        }
    }

    /// The next patches get no answer at all.
    pub(super) fn hang_patches(&self, patches: u32) {
        self.inner.lock().unwrap().hanging = patches;
    }

    pub(super) fn answer_updates(&self, replies: impl IntoIterator<Item = JobReply<UpdateAnswer>>) {
        for reply in replies {
            let mut reply = Some(reply);
            self.script_updates(move |_| reply.take());
        }
    }

    /// Asked for every patch until it gives no answer.
    pub(super) fn script_patches(
        &self,
        script: impl FnMut(&TracePatch) -> Option<JobReply<PatchAnswer>> + Send + 'static,
    ) {
        self.inner
            .lock()
            .unwrap()
            .patches
            .push_back(Box::new(script));
    }

    pub(super) fn script_updates(
        &self,
        script: impl FnMut(&JobUpdate) -> Option<JobReply<UpdateAnswer>> + Send + 'static,
    ) {
        self.inner
            .lock()
            .unwrap()
            .updates
            .push_back(Box::new(script));
    }

    /// Forgets all scripts.
    pub(super) fn heal(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.patches.clear();
        inner.updates.clear();
    }

    pub(super) fn store(&self, bytes: &[u8]) {
        self.inner.lock().unwrap().stored.extend_from_slice(bytes);
    }

    pub(super) fn stored(&self) -> Vec<u8> {
        self.inner.lock().unwrap().stored.clone()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.inner.lock().unwrap().calls.clone()
    }

    /// Range and time in seconds of all patches.
    pub(super) fn patches(&self) -> Vec<(u64, u64, f64)> {
        let calls = self.calls();
        let patches = calls.iter().filter_map(|call| match call {
            Call::Patch(from, to, at) => Some((*from, *to, *at)),
            Call::Running(..) | Call::Final(..) => None,
        });
        patches.collect()
    }

    /// Time in seconds and trace of all `PUT state=running`.
    pub(super) fn questions(&self) -> Vec<(f64, TraceExtent)> {
        let calls = self.calls();
        let questions = calls.iter().filter_map(|call| match call {
            Call::Running(extent, at) => Some((*at, *extent)),
            Call::Patch(..) | Call::Final(..) => None,
        });
        questions.collect()
    }

    /// Time in seconds of all final updates.
    pub(super) fn finals(&self) -> Vec<f64> {
        let calls = self.calls();
        let finals = calls.iter().filter_map(|call| match call {
            Call::Final(_, _, at) => Some(*at),
            Call::Patch(..) | Call::Running(..) => None,
        });
        finals.collect()
    }

    fn takes_and_hangs(&self, call: Call) -> bool {
        let mut inner = self.inner.lock().unwrap();
        inner.calls.push(call);
        let hangs = inner.hanging > 0;
        inner.hanging -= u32::from(hangs);
        hangs
    }

    fn now(&self) -> f64 {
        // Timers of the paused clock fire up to a millisecond late.
        let millis = self.start.elapsed().as_millis();
        (millis as f64 / 100.0).round() / 10.0
    }
}

/// Asks the scripts in order; one that is silent is used up.
macro_rules! scripted_answer {
    ($scripts:expr, $call:expr) => {{
        let mut answer = None;
        while answer.is_none() && !$scripts.is_empty() {
            answer = $scripts[0]($call);
            if answer.is_none() {
                $scripts.pop_front();
            }
        }
        answer
    }};
}

impl JobCalls for ScriptedServer {
    async fn update_job(&self, _: &JobCredentials, update: &JobUpdate) -> JobReply<UpdateAnswer> {
        let mut inner = self.inner.lock().unwrap();
        let extent = update.output.unwrap_or_default();
        inner.calls.push(match update.state {
            JobState::Running => Call::Running(extent, self.now()),
            state => Call::Final(state, extent, self.now()),
        });
        if let Some(reply) = scripted_answer!(inner.updates, update) {
            if reply.answer == UpdateAnswer::Rewind {
                inner.stored.clear();
            }
            return reply;
        }
        let validates = extent.len == inner.stored.len() as u64
            && extent.crc32 == crc32fast::hash(&inner.stored);
        if update.state != JobState::Running && !validates {
            inner.stored.clear();
            return JobReply::plain(UpdateAnswer::Rewind);
        }
        JobReply::plain(UpdateAnswer::Ok)
    }

    async fn patch_trace(&self, _: &JobCredentials, patch: TracePatch) -> JobReply<PatchAnswer> {
        let end = patch.end();
        assert!(!patch.bytes.is_empty() && patch.bytes.len() <= TracePatch::MAX);
        let call = Call::Patch(patch.offset, end, self.now());
        if self.takes_and_hangs(call) {
            return std::future::pending().await;
        }
        let mut inner = self.inner.lock().unwrap();
        if let Some(reply) = scripted_answer!(inner.patches, &patch) {
            return reply;
        }
        let stored = inner.stored.len() as u64;
        if patch.offset != stored {
            return JobReply::plain(RangeMismatch { next: stored });
        }
        inner.stored.extend_from_slice(&patch.bytes);
        JobReply::plain(Accepted { next: end })
    }
}
