use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::client::Body;

/// Connections kept for later calls.
const POOL: usize = 4;

/// Idle connections; a reaper task lives while there are any.
pub(super) struct Pool {
    idle: Mutex<Idle>,
    keep: Duration,
}

#[derive(Default)]
struct Idle {
    connections: Vec<(SendRequest<Body>, Instant)>,
    reaped: bool,
}

impl Pool {
    /// Keeps connections for this time.
    pub(super) fn new(keep: Duration) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            keep,
        })
    }

    /// A connection that was open a moment ago.
    pub(super) fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.connections
            .retain(|(sender, since)| !sender.is_closed() && since.elapsed() < self.keep);
        idle.connections.pop().map(|(sender, _)| sender)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(self: &Arc<Self>, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_closed() || idle.connections.len() >= POOL {
            return;
        }
        idle.connections.push((sender, Instant::now()));
        if !idle.reaped {
            idle.reaped = true;
            tokio::spawn(reap(Arc::downgrade(self), self.keep));
        }
    }
}

/// Closes connections that nobody used for a while; ends when none is left.
async fn reap(pool: Weak<Pool>, keep: Duration) {
    loop {
        tokio::time::sleep(keep).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.connections
            .retain(|(sender, since)| !sender.is_closed() && since.elapsed() < keep);
        if idle.connections.is_empty() {
            idle.reaped = false;
            idle.connections.shrink_to_fit();
            return;
        }
    }
}
