//! The last flush and the final state, repeated as the server asks (coordinator-api §7.3).

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::running::{Flush, patience};
use super::{FinalOutcome, FinalPolicy, TraceUpload};
use crate::{AbortReason, JobCalls, JobUpdate, TraceExtent, UpdateAnswer, Verdict};

/// Times the server may ask for the whole trace before that counts as a failed try.
const REWINDS: u32 = 10;

impl FinalPolicy {
    /// Pause after the `failed`th failed try, from 1: 1 s, 2 s, 4 s, … up to the cap.
    #[must_use]
    pub fn pause(&self, failed: u32) -> Duration {
        let seconds = 1_u64
            .checked_shl(failed.saturating_sub(1))
            .unwrap_or(u64::MAX);
        Duration::from_secs(seconds).min(self.longest_pause)
    }
}

impl<C: JobCalls> TraceUpload<C> {
    pub(super) async fn deliver_verdict(
        &self,
        verdict: &Verdict,
        policy: &FinalPolicy,
        stop: &CancellationToken,
    ) -> FinalOutcome {
        tokio::select! {
            biased;
            () = stop.cancelled() => FinalOutcome::Interrupted,
            outcome = self.try_to_deliver(verdict, policy) => outcome,
        }
    }

    async fn try_to_deliver(&self, verdict: &Verdict, policy: &FinalPolicy) -> FinalOutcome {
        self.delivery().begin_final();
        let (mut failed, mut rewinds) = (0, 0);
        loop {
            let (why, wait) = match self.flush_and_update(verdict, failed).await {
                Step::Over(outcome) => return outcome,
                Step::AskAgain => {
                    let interval = self.delivery().interval().min(policy.longest_pause);
                    sleep(interval).await;
                    continue;
                }
                Step::Rewind => {
                    self.delivery().rewind();
                    self.publish();
                    rewinds += 1;
                    if rewinds < REWINDS {
                        if rewinds > 1 {
                            let interval = self.delivery().interval().min(policy.longest_pause);
                            sleep(interval).await;
                        }
                        continue;
                    }
                    rewinds = 0;
                    let why =
                        format!("the server's copy of the trace did not validate {REWINDS} times");
                    (why, None)
                }
                Step::Failed(why, wait) => (why, wait),
            };
            failed += 1;
            warn!(
                job = self.job.id,
                why, failed, "final update of the job failed"
            );
            if policy.tries.is_some_and(|tries| failed >= tries) {
                return FinalOutcome::GaveUp { why };
            }
            sleep(policy.pause(failed).max(wait.unwrap_or_default())).await;
        }
    }

    async fn flush_and_update(&self, verdict: &Verdict, failed: u32) -> Step {
        let refused = match self.flush(patience(failed)).await {
            Flush::Done => None,
            Flush::Refused(reason) => Some(reason),
            Flush::Failed(why) => return Step::Failed(why, None),
        };
        let extent = TraceExtent::from(*self.source.progress().borrow());
        let update = JobUpdate::finished(verdict, Some(extent));
        let reply = self.calls.update_job(&self.job, &update).await;
        self.delivery()
            .heard(reply.canceling, reply.update_interval);
        self.publish();
        match reply.answer {
            // A server that took `failed` says so with `Job-Status: failed`.
            UpdateAnswer::Ok
            | UpdateAnswer::Aborted(AbortReason::JobStatus {
                http_status: 200, ..
            }) => Step::Over(FinalOutcome::Delivered),
            UpdateAnswer::Aborted(reason) => Step::Over(FinalOutcome::Closed(reason)),
            UpdateAnswer::Accepted => Step::AskAgain,
            // It asks for the log and refuses it: another one has the job by now.
            UpdateAnswer::Rewind => match refused {
                Some(reason) => Step::Over(FinalOutcome::Closed(reason)),
                None => Step::Rewind,
            },
            UpdateAnswer::Failed(failure) => {
                Step::Failed(failure.to_string(), failure.server_wait())
            }
        }
    }
}

/// Outcome of one flush with the update after it.
enum Step {
    Over(FinalOutcome),
    /// 202
    AskAgain,
    /// 412
    Rewind,
    Failed(String, Option<Duration>),
}
