//! A client, a job and a log to work with.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gantry_gitlab::{
    Connection, Coordinator, Coordinators, JobCalls, JobCredentials, JobRequest, JobRequestAnswer,
    JobUpdate, Product, ReceivedJob, RunnerInfo, TraceSource, UpdateAnswer,
};
use gantry_testkit::{FakeGitLab, JobBuilder};
use gantry_trace::TraceProgress;
use tokio::sync::watch;

pub(crate) fn connection(gitlab: &FakeGitLab) -> Connection {
    Connection::new(gitlab.url(), gitlab.runner_token().into())
}

pub(crate) fn coordinators() -> Coordinators {
    Coordinators::new(Product::default(), None)
}

pub(crate) fn coordinator(gitlab: &FakeGitLab) -> Coordinator {
    coordinators().get(&connection(gitlab)).unwrap()
}

pub(crate) fn info() -> Arc<RunnerInfo> {
    Arc::new(RunnerInfo::docker(&Product::default()))
}

pub(crate) fn request() -> JobRequest {
    JobRequest {
        info: info(),
        system_id: "s_0123456789ab".into(),
        echo_last_update: true,
        session: None,
    }
}

/// Asks once and must get a job.
pub(crate) async fn receive(coordinator: &Coordinator) -> ReceivedJob {
    match coordinator.request_job(&request()).await.answer {
        JobRequestAnswer::Job(job) => *job,
        other => panic!("no job but {other:?}"),
    }
}

/// A job that is enqueued, received and confirmed.
pub(crate) async fn running_job(
    gitlab: &FakeGitLab,
    coordinator: &Coordinator,
) -> (i64, JobCredentials) {
    let id = gitlab.enqueue(&JobBuilder::new("unit").script(["true"]));
    let received = receive(coordinator).await;
    let job = JobCredentials::of(&received.job, info());
    let reply = coordinator.update_job(&job, &JobUpdate::accept()).await;
    assert_eq!(reply.answer, UpdateAnswer::Ok);
    (id, job)
}

/// A log in memory.
#[derive(Default)]
pub(crate) struct MemoryLog {
    bytes: Mutex<Vec<u8>>,
    progress: watch::Sender<TraceProgress>,
}

impl MemoryLog {
    pub(crate) fn write(&self, more: impl AsRef<[u8]>) {
        let mut bytes = self.bytes.lock().unwrap();
        bytes.extend_from_slice(more.as_ref());
        self.progress.send_replace(TraceProgress {
            len: bytes.len() as u64,
            checksum: crc32fast::hash(&bytes),
            finished: false,
        });
    }

    pub(crate) fn finish(&self) {
        self.progress
            .send_modify(|progress| progress.finished = true);
    }
}

impl TraceSource for MemoryLog {
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
