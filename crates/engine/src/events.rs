//! One event stream per engine, shared by all jobs: [`EventHub`].
//!
//! Events are a speed-up, never the truth: the `die` event comes some 50 ms before `wait` answers (engine-mechanics §g), but events
//! of a time without connection are lost. Whoever subscribes is told after each reconnect and then asks the container's state.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
};

use crate::{EngineEvent, EventKind, ListFilter, SharedEngine};

#[cfg(test)]
mod tests;

/// Pauses between attempts to reconnect: the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a subscriber learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubEvent {
    /// The container's process ended; the code if the engine told it.
    Die {
        /// Exit code.
        exit_code: Option<i64>,
    },
    /// A process of the container was killed for memory.
    Oom,
    /// The container was removed.
    Destroy,
    /// The stream was away and is back: events may have been missed, ask the state.
    Reconnected,
}

/// Distributes an engine's container events. Clones share the stream; it is opened at the first subscription and ends with the
/// last clone. Nothing is retried while nobody subscribes.
#[derive(Clone)]
pub struct EventHub {
    owner: Arc<Owner>,
}

/// Events of one container. Dropping it ends the subscription.
pub struct EventSubscription {
    events: mpsc::UnboundedReceiver<HubEvent>,
    container_id: String,
    key: u64,
    shared: Weak<Shared>,
}

/// Ends the task with the last clone of the hub.
struct Owner {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    engine: SharedEngine,
    filter: ListFilter,
    subscribers: Mutex<Subscribers>,
    /// Told when somebody subscribes.
    wanted: Notify,
    connected: watch::Sender<bool>,
}

#[derive(Default)]
struct Subscribers {
    by_container: HashMap<String, Vec<(u64, mpsc::UnboundedSender<HubEvent>)>>,
    next_key: u64,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl EventHub {
    /// A hub for the containers that match the filter's labels. Opens nothing yet.
    pub fn new(engine: SharedEngine, filter: ListFilter) -> Self {
        let shared = Arc::new(Shared {
            engine,
            filter,
            subscribers: Mutex::default(),
            wanted: Notify::new(),
            connected: watch::Sender::new(false),
        });
        Self {
            owner: Arc::new(Owner {
                shared,
                task: Mutex::default(),
            }),
        }
    }

    /// Subscribes to a container by its full ID; do so before its start. Must be called inside a tokio runtime.
    pub fn subscribe(&self, container_id: &str) -> EventSubscription {
        let shared = &self.owner.shared;
        let (sender, events) = mpsc::unbounded_channel();
        let key = {
            let mut subscribers = shared.lock();
            let key = subscribers.next_key;
            subscribers.next_key += 1;
            subscribers
                .by_container
                .entry(container_id.to_owned())
                .or_default()
                .push((key, sender));
            key
        };
        shared.wanted.notify_one();
        let mut task = self
            .owner
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if task.is_none() {
            *task = Some(tokio::spawn(run(Arc::clone(shared))).abort_handle());
        }
        EventSubscription {
            events,
            container_id: container_id.to_owned(),
            key,
            shared: Arc::downgrade(shared),
        }
    }

    /// Waits until the stream is open. Only for those who must not miss an event; a job need not wait, it has `wait`.
    pub async fn connected(&self) {
        let mut connected = self.owner.shared.connected.subscribe();
        // Cannot fail: the sender lives as long as `self`.
        drop(connected.wait_for(|connected| *connected).await);
    }
}

impl EventSubscription {
    /// The next event; never ends while the hub lives, `None` after that.
    pub async fn next(&mut self) -> Option<HubEvent> {
        self.events.recv().await
    }
}

impl Drop for EventSubscription {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut subscribers = shared.lock();
        if let Some(of_container) = subscribers.by_container.get_mut(&self.container_id) {
            of_container.retain(|(key, _)| *key != self.key);
            if of_container.is_empty() {
                subscribers.by_container.remove(&self.container_id);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Subscribers> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, event: &EngineEvent) {
        let told = match event.kind {
            EventKind::Die => HubEvent::Die {
                exit_code: event.exit_code,
            },
            EventKind::Oom => HubEvent::Oom,
            EventKind::Destroy => HubEvent::Destroy,
        };
        if let Some(of_container) = self.lock().by_container.get(&event.container_id) {
            for (_, sender) in of_container {
                let _ = sender.send(told);
            }
        }
    }

    fn tell_all(&self, event: HubEvent) {
        for (_, sender) in self.lock().by_container.values().flatten() {
            let _ = sender.send(event);
        }
    }

    fn idle(&self) -> bool {
        self.lock().by_container.is_empty()
    }
}

/// Keeps the stream open.
async fn run(shared: Arc<Shared>) {
    let host = shared.engine.host().to_owned();
    let mut pause = FIRST_PAUSE;
    // Whether events may have been missed since somebody subscribed.
    let mut missed = false;
    loop {
        while shared.idle() {
            // Nobody listens: no reconnects into the void.
            shared.wanted.notified().await;
        }
        match shared.engine.events(&shared.filter).await {
            Ok(mut events) => {
                pause = FIRST_PAUSE;
                shared.connected.send_replace(true);
                if missed {
                    shared.tell_all(HubEvent::Reconnected);
                }
                loop {
                    match events.next().await {
                        Some(Ok(event)) => shared.deliver(&event),
                        Some(Err(error)) => {
                            tracing::debug!(host, %error, "the stream of engine events broke");
                            break;
                        }
                        None => break,
                    }
                }
                shared.connected.send_replace(false);
            }
            Err(error) => tracing::debug!(host, %error, "cannot listen to engine events"),
        }
        missed = true;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
