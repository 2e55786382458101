//! What others want of a running job, and its clocks.

use std::{
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time::Instant};

use crate::StopReason;

/// What the giver of a job or the runner wants of it. Grows harder only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Go on.
    #[default]
    Run,
    /// Stop the script, run after_script (`canceling`).
    Cancel,
    /// Stop at once (`canceled`, refused by the server).
    Abort,
    /// The runner must stop, because of this signal.
    Interrupt {
        /// Signal number.
        signal: i32,
    },
}

impl Wish {
    fn reason(self) -> Option<StopReason> {
        match self {
            Self::Run => None,
            Self::Cancel => Some(StopReason::Canceled),
            Self::Abort => Some(StopReason::Aborted),
            Self::Interrupt { signal } => Some(StopReason::Interrupted { signal }),
        }
    }
}

/// A job's view of wishes and time.
#[derive(Debug, Clone)]
pub struct Control {
    wishes: watch::Receiver<Wish>,
    deadline: Instant,
    cancel_seen: bool,
}

impl Control {
    /// `deadline_ms` is absolute, in unix milliseconds, so that it holds across restarts.
    pub fn new(wishes: watch::Receiver<Wish>, deadline_ms: u64) -> Self {
        Self {
            wishes,
            deadline: instant(deadline_ms),
            cancel_seen: false,
        }
    }

    /// When the job's time is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A cancel has been obeyed; from now on only harder wishes and the deadline stop the job (coordinator-api §8: a repeated or
    /// late `canceling` is ignored).
    pub fn cancel_done(&mut self) {
        self.cancel_seen = true;
    }

    /// Resolves when the job must stop: a wish, or the deadline.
    pub fn stop(&self) -> impl Future<Output = StopReason> + Send + use<> {
        let mut wishes = self.wishes.clone();
        let (deadline, cancel_seen) = (self.deadline, self.cancel_seen);
        async move {
            let wished = async {
                let found = wishes
                    .wait_for(|wish| match wish.reason() {
                        None => false,
                        Some(StopReason::Canceled) => !cancel_seen,
                        Some(_) => true,
                    })
                    .await
                    .map(|wish| *wish);
                match found.ok().and_then(Wish::reason) {
                    Some(reason) => reason,
                    // Nobody is left to wish anything.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                reason = wished => reason,
                () = tokio::time::sleep_until(deadline) => StopReason::JobTimeout,
            }
        }
    }

    /// As [`stop`](Self::stop), also for a cancel where nothing is left to cancel but a wait.
    pub(crate) fn any_stop(&self) -> impl Future<Output = StopReason> + Send + use<> {
        let all = Self {
            cancel_seen: false,
            ..self.clone()
        };
        all.stop()
    }

    /// Whether the job must stop now.
    pub fn stop_now(&self) -> Option<StopReason> {
        let wish = self.wishes.borrow().reason();
        match wish {
            Some(StopReason::Canceled) if self.cancel_seen => None,
            Some(reason) => Some(reason),
            None if Instant::now() >= self.deadline => Some(StopReason::JobTimeout),
            None => None,
        }
    }
}

/// Resolves at the earlier of [`Control::stop`] and the given limit, with the limit's reason.
pub(crate) fn stop_or_limit(
    control: &Control,
    limit: Option<(Instant, StopReason)>,
) -> impl Future<Output = StopReason> + Send + use<> {
    let stop = control.stop();
    let limit = limit.filter(|&(at, _)| at < control.deadline());
    async move {
        match limit {
            Some((at, reason)) => tokio::select! {
                biased;
                stopped = stop => stopped,
                () = tokio::time::sleep_until(at) => reason,
            },
            None => stop.await,
        }
    }
}

/// A time of day as this process sees it; now, if it is over.
pub(crate) fn instant(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms.saturating_sub(unix_ms()))
}

/// Now, in unix milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64)
}
