//! The two loops of a running job: one sends the trace, the other keeps the server talking.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Delivery, NextPatch, RunEnd, ServerWish, TraceUpload};
use crate::{
    AbortReason, JobCalls, JobReply, JobUpdate, PatchAnswer, TraceExtent, TracePatch, UpdateAnswer,
};

/// Pieces up to this size are read on the spot: the page cache answers in microseconds.
const READ_INLINE: usize = 64 * 1024;

/// How often in a row the server may correct the offset in one flush.
const CORRECTIONS: u32 = 10;

/// How long an answer to a piece of the log is waited for once the log is finished, if nothing else has failed before. The client's own
/// limit is ten minutes, as the peer's: meant for a server that is slow, it would hold the state of an ended job that long where one
/// answer is lost. Asking again is safe, as a piece has its place in the log.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same after so many failed tries: twice as long each time, up to the client's own limit.
pub(super) fn patience(failed: u32) -> Duration {
    PATIENCE * 2_u32.pow(failed.min(5))
}

/// How a flush ended.
#[derive(Debug)]
pub(super) enum Flush {
    /// Everything is sent, or the server does not know the job: go on with the update.
    Done,
    /// The server takes no more of the log: go on with the update, but do not try to mend the log.
    Refused(AbortReason),
    /// A try is used up.
    Failed(String),
}

impl<C: JobCalls> TraceUpload<C> {
    pub(super) async fn run_until_end(&self, stop: &CancellationToken) -> RunEnd {
        tokio::select! {
            biased;
            () = stop.cancelled() => RunEnd::Stopped,
            reason = self.aborted() => RunEnd::Aborted(reason),
            () = self.send_until_finished() => match self.delivery().wish() {
                ServerWish::Abort(reason) => RunEnd::Aborted(reason.clone()),
                ServerWish::Run | ServerWish::Cancel => RunEnd::Finished,
            },
            never = self.keep_asking() => match never {},
        }
    }

    /// Sends while the trace grows, then its rest. A failure in the rest is left to the final update, which counts it.
    async fn send_until_finished(&self) {
        let mut progress = self.source.progress();
        loop {
            let seen = *progress.borrow_and_update();
            if seen.finished {
                break;
            }
            let next = self.delivery().next_patch(seen.len, Instant::now());
            let alive = match next {
                NextPatch::Now { offset, len } => {
                    tokio::select! {
                        sent = self.send_piece(offset, len) => if let Err(error) = sent {
                            self.delivery().unreadable(Instant::now());
                            warn!(job = self.job.id, %error, "trace cannot be read, will be retried");
                        },
                        () = self.finished_for(PATIENCE) => {
                            debug!(job = self.job.id, "a piece of the trace gets no answer, and is sent again");
                        }
                    }
                    true
                }
                NextPatch::At(moment) => tokio::select! {
                    () = sleep_until(moment) => true,
                    () = self.interval_changed.notified() => true,
                    changed = progress.changed() => changed.is_ok(),
                },
                NextPatch::WhenGrown => progress.changed().await.is_ok(),
            };
            if !alive {
                // The writer is gone without finishing; what is written is all there is.
                break;
            }
        }
        self.delivery().begin_final();
        if let Flush::Failed(why) = self.flush(patience(0)).await {
            debug!(
                job = self.job.id,
                why, "rest of the trace is left to the final update"
            );
        }
    }

    /// Asks with a light `PUT state=running` when nothing was answered for a while (keepalive and cancel clock).
    async fn keep_asking(&self) -> Infallible {
        loop {
            let due = self.delivery().next_question();
            if due > Instant::now() {
                sleep_until(due).await;
                continue;
            }
            let asked = Instant::now();
            let extent = TraceExtent::from(*self.source.progress().borrow());
            let reply = self
                .calls
                .update_job(&self.job, &JobUpdate::running(extent))
                .await;
            self.delivery().updated(&reply, asked, Instant::now());
            if let UpdateAnswer::Failed(error) = &reply.answer {
                debug!(job = self.job.id, %error, "keepalive failed, will be retried");
            }
            self.publish();
        }
    }

    /// Returns when the log has been finished for so long.
    async fn finished_for(&self, time: Duration) {
        let mut progress = self.source.progress();
        if progress.wait_for(|seen| seen.finished).await.is_err() {
            // Its writer is gone; the loop sees to that.
            std::future::pending::<()>().await;
        }
        sleep(time).await;
    }

    /// Sends everything written (coordinator-api §6 "Final flush"), waiting so long for the answer to each piece.
    pub(super) async fn flush(&self, patience: Duration) -> Flush {
        let mut corrections = 0;
        loop {
            let written = self.source.progress().borrow().len;
            let offset = self.delivery().sent();
            if offset >= written {
                return Flush::Done;
            }
            let len = usize::try_from(written - offset).unwrap_or(usize::MAX);
            let piece = self.send_piece(offset, len.min(TracePatch::MAX));
            let answer = match timeout(patience, piece).await {
                Ok(Ok(reply)) => reply.answer,
                Ok(Err(error)) => return Flush::Failed(format!("reading the trace: {error}")),
                Err(_) => {
                    let seconds = patience.as_secs();
                    let why = format!("no answer to a piece of the trace for {seconds} s");
                    return Flush::Failed(why);
                }
            };
            match answer {
                PatchAnswer::Accepted { .. } => corrections = 0,
                PatchAnswer::RangeMismatch { next } => {
                    corrections += 1;
                    if corrections >= CORRECTIONS {
                        return Flush::Failed(format!(
                            "the server asked {corrections} times in a row for another trace offset, last for {next}"
                        ));
                    }
                    // The first correction is followed at once; a server that keeps correcting is not hurried.
                    if corrections > 1 {
                        let interval = self.delivery().interval();
                        sleep(interval).await;
                    }
                }
                PatchAnswer::NotFound => return Flush::Done,
                PatchAnswer::Aborted(reason) => return Flush::Refused(reason),
                PatchAnswer::Failed(failure) => return Flush::Failed(failure.to_string()),
            }
        }
    }

    /// Reads and sends one piece, and takes the answer in.
    async fn send_piece(&self, offset: u64, wanted: usize) -> io::Result<JobReply<PatchAnswer>> {
        let (len, _permit) = self.settings.budget.piece(wanted);
        let bytes = self.read(offset, len).await?;
        if bytes.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("no bytes at offset {offset}, though more were reported"),
            ));
        }
        let patch = TracePatch {
            offset,
            bytes,
            debug_trace: self.settings.debug_trace,
        };
        let reply = self.calls.patch_trace(&self.job, patch).await;
        let written = self.source.progress().borrow().len;
        self.delivery().patched(&reply, written, Instant::now());
        if let PatchAnswer::Failed(error) = &reply.answer {
            debug!(job = self.job.id, %error, "trace patch failed, will be retried");
        }
        self.publish();
        Ok(reply)
    }

    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if len <= READ_INLINE {
            return self.source.read_at(offset, len);
        }
        let source = Arc::clone(&self.source);
        tokio::task::spawn_blocking(move || source.read_at(offset, len))
            .await
            .map_err(io::Error::other)?
    }

    /// Tells watchers what an answer changed.
    pub(super) fn publish(&self) {
        let (sent, wish) = {
            let delivery = self.delivery();
            (delivery.sent(), delivery.wish().clone())
        };
        self.interval_changed.notify_one();
        self.sent.send_if_modified(|old| {
            let changed = *old != sent;
            *old = sent;
            changed
        });
        self.wish.send_if_modified(|old| {
            let changed = *old != wish;
            *old = wish;
            changed
        });
    }

    pub(super) fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn aborted(&self) -> AbortReason {
        let mut wishes = self.wish.subscribe();
        loop {
            if let ServerWish::Abort(reason) = &*wishes.borrow_and_update() {
                return reason.clone();
            }
            if wishes.changed().await.is_err() {
                // Unreachable: the sender lives in self.
                std::future::pending::<()>().await;
            }
        }
    }
}
