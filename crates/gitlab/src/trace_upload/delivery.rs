//! What to send next and when: the state of one delivery, without any I/O.

use std::time::Duration;

use tokio::time::Instant;

use super::{ServerWish, UploadSettings};
use crate::{JobReply, PatchAnswer, TracePatch, UpdateAnswer};

/// Update interval before the server says another one, and again for the final flush.
pub(super) const FIRST_INTERVAL: Duration = Duration::from_secs(3);
/// Longest time without an answer before the server is told that the job lives.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Upper end of the dynamic keepalive.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(30 * 60);

/// When the next patch may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextPatch {
    /// Now.
    Now {
        /// Offset of its first byte.
        offset: u64,
        /// Its length, at least 1 and at most [`TracePatch::MAX`].
        len: usize,
    },
    /// Not before this moment.
    At(Instant),
    /// Everything written is sent.
    WhenGrown,
}

/// State of one delivery. All decisions of coordinator-api §6 and §7.2 while the job runs.
///
/// Patches leave in bursts: a burst sends all that was written at its begin, in pieces of at most 1 MiB, one after another;
/// the next one begins an update interval after its end. At the first interval (the server has not asked for patience) full
/// pieces do not wait: a chatty job is then sent while it runs, not after its end.
#[derive(Debug, Clone)]
pub struct Delivery {
    cancel_poll: Option<Duration>,
    dynamic_keepalive: bool,
    sent: u64,
    interval: Duration,
    /// The running burst sends up to here.
    burst_end: u64,
    /// End of the last burst; `None`: the first one may begin at once.
    paused_since: Option<Instant>,
    /// The last burst ended by a failure or a correction: no early pieces.
    disturbed: bool,
    /// Last answer that was about our job.
    answered: Instant,
    /// Last question sent.
    asked: Instant,
    /// Extra patience after failed questions.
    back_off: Duration,
    wish: ServerWish,
}

impl Delivery {
    /// Nothing in flight, `sent` bytes confirmed, the server just answered.
    #[must_use]
    pub fn new(settings: &UploadSettings, sent: u64, now: Instant) -> Self {
        Self {
            cancel_poll: settings.cancel_poll,
            dynamic_keepalive: settings.dynamic_keepalive,
            sent,
            interval: FIRST_INTERVAL,
            burst_end: 0,
            paused_since: None,
            disturbed: false,
            answered: now,
            asked: now,
            back_off: Duration::ZERO,
            wish: ServerWish::Run,
        }
    }

    /// Confirmed offset.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Current update interval.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// What the server wants so far.
    #[must_use]
    pub const fn wish(&self) -> &ServerWish {
        &self.wish
    }

    /// What to send when `written` bytes are there.
    pub fn next_patch(&mut self, written: u64, now: Instant) -> NextPatch {
        let pending = written.saturating_sub(self.sent);
        if pending == 0 {
            return NextPatch::WhenGrown;
        }
        if self.burst_end <= self.sent {
            let whole = pending - pending % TracePatch::MAX as u64;
            let begin = self.paused_since.map(|end| end + self.interval);
            if begin.is_none_or(|begin| begin <= now) {
                self.burst_end = written;
            } else if whole > 0 && self.interval <= FIRST_INTERVAL && !self.disturbed {
                self.burst_end = self.sent + whole;
            } else {
                return begin.map_or(NextPatch::WhenGrown, NextPatch::At);
            }
        }
        let left = self.burst_end.min(written) - self.sent;
        NextPatch::Now {
            offset: self.sent,
            len: usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(TracePatch::MAX),
        }
    }

    /// Takes the answer to a patch in; `written` bounds what the server may claim to have.
    pub fn patched(&mut self, reply: &JobReply<PatchAnswer>, written: u64, now: Instant) {
        self.heard(reply.canceling, reply.update_interval);
        self.disturbed = true;
        match &reply.answer {
            PatchAnswer::Accepted { next } => {
                self.sent = *next;
                self.answered = now;
                self.disturbed = false;
            }
            PatchAnswer::RangeMismatch { next } => {
                self.sent = (*next).min(written);
                self.answered = now;
            }
            PatchAnswer::NotFound | PatchAnswer::Failed(_) => {}
            PatchAnswer::Aborted(reason) => self.wish = ServerWish::Abort(reason.clone()),
        }
        if self.disturbed {
            self.burst_end = 0;
        }
        if self.burst_end <= self.sent {
            self.paused_since = Some(now);
        }
    }

    /// The trace could not be read: as a failed patch.
    pub fn unreadable(&mut self, now: Instant) {
        self.disturbed = true;
        self.burst_end = 0;
        self.paused_since = Some(now);
    }

    /// When to ask the server (`PUT state=running`) unless it answers something before.
    #[must_use]
    pub fn next_question(&self) -> Instant {
        let gap = self.cancel_poll.unwrap_or_else(|| self.keepalive());
        self.answered.max(self.asked) + gap.max(self.back_off)
    }

    /// Takes the answer to `PUT state=running` in, sent at `asked`.
    pub fn updated(&mut self, reply: &JobReply<UpdateAnswer>, asked: Instant, now: Instant) {
        self.heard(reply.canceling, reply.update_interval);
        self.asked = asked;
        match &reply.answer {
            UpdateAnswer::Ok | UpdateAnswer::Accepted | UpdateAnswer::Rewind => {
                self.answered = now;
                self.back_off = Duration::ZERO;
            }
            UpdateAnswer::Aborted(reason) => self.wish = ServerWish::Abort(reason.clone()),
            UpdateAnswer::Failed(failure) => {
                let gap = self.cancel_poll.unwrap_or(KEEPALIVE).max(self.back_off);
                self.asked = now;
                self.back_off = (gap * 2)
                    .min(KEEPALIVE)
                    .max(failure.server_wait().unwrap_or_default());
            }
        }
    }

    /// Takes in what an answer to any other call said besides; for the final update.
    pub(super) fn heard(&mut self, canceling: bool, update_interval: Option<Duration>) {
        if canceling && self.wish == ServerWish::Run {
            self.wish = ServerWish::Cancel;
        }
        if let Some(interval) = update_interval {
            self.interval = interval;
        }
    }

    /// The server wants the whole trace again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.burst_end = 0;
    }

    /// The trace is complete: the pace is ours again.
    pub(super) fn begin_final(&mut self) {
        self.interval = FIRST_INTERVAL;
    }

    fn keepalive(&self) -> Duration {
        if self.dynamic_keepalive {
            (self.interval * 4).clamp(KEEPALIVE, LONGEST_KEEPALIVE)
        } else {
            KEEPALIVE
        }
    }
}
