//! Delivery against a scripted server on a paused clock: scenario numbers are those of coordinator-api §17.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::PatchAnswer::{Accepted, NotFound, RangeMismatch};
use crate::{JobReply, PatchAnswer, TraceExtent, TracePatch, UpdateAnswer};

mod final_update;
mod running;
mod scripted;
mod whole_log;

use scripted::{Call, ScriptedServer, TestLog, credentials, refused, status};

const SECOND: Duration = Duration::from_secs(1);

type Upload = TraceUpload<Arc<ScriptedServer>>;

/// An upload in its running phase.
struct Running {
    log: Arc<TestLog>,
    server: Arc<ScriptedServer>,
    stop: CancellationToken,
    wishes: watch::Receiver<ServerWish>,
    task: JoinHandle<(RunEnd, Upload)>,
}

impl Running {
    fn start() -> Self {
        Self::with(UploadSettings::default(), ScriptedServer::default(), 0)
    }

    fn with(settings: UploadSettings, server: ScriptedServer, sent: u64) -> Self {
        Self::go_on(Arc::default(), settings, Arc::new(server), sent)
    }

    fn go_on(
        log: Arc<TestLog>,
        settings: UploadSettings,
        server: Arc<ScriptedServer>,
        sent: u64,
    ) -> Self {
        let source = Arc::clone(&log) as Arc<dyn TraceSource>;
        let mut upload =
            TraceUpload::new(Arc::clone(&server), credentials(), source, settings, sent);
        let stop = CancellationToken::new();
        let wishes = upload.wishes();
        let token = stop.clone();
        let task = tokio::spawn(async move {
            let end = upload.run(&token).await;
            (end, upload)
        });
        Self {
            log,
            server,
            stop,
            wishes,
            task,
        }
    }

    /// Lets time pass step by step, so that every timer fires at its own moment.
    async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    async fn end(self) -> (RunEnd, Upload) {
        self.task.await.unwrap()
    }

    /// Finishes the log, and waits for the end of the running phase.
    async fn finish(self) -> (Arc<ScriptedServer>, Upload) {
        self.log.finish();
        let server = Arc::clone(&self.server);
        let (end, upload) = self.end().await;
        assert_eq!(end, RunEnd::Finished);
        (server, upload)
    }
}
