//! Starts the build container and holds its streams until the script goes out.
//!
//! Where an image has no entrypoint of its own, nothing of the user's runs before the script is sent, so the container may start
//! while the helper still fetches sources: the start costs as much as the fetch, and the two overlap well (engine-mechanics §f).

use gantry_engine::{Attached, EngineError, WaitHandle, events::EventSubscription};
use tokio::task::JoinHandle;

use crate::context::Context;

/// A started build container that waits for its script.
pub(crate) struct Started {
    pub(crate) attached: Attached,
    pub(crate) wait: WaitHandle,
    pub(crate) events: EventSubscription,
}

/// A start that goes on in the background. Dropping it abandons the container to whoever removes it.
pub(crate) struct EarlyStart {
    container: String,
    task: JoinHandle<Result<Started, EngineError>>,
}

/// Attaches, registers for the end, starts. In this order nothing of the run can be missed.
pub(crate) async fn start(context: &Context, id: &str) -> Result<Started, EngineError> {
    let events = context.events.subscribe(id);
    let attached = context.engine.container_attach(id).await?;
    let wait = context.engine.container_wait(id).await?;
    context.engine.container_start(id).await?;
    Ok(Started {
        attached,
        wait,
        events,
    })
}

impl EarlyStart {
    pub(crate) fn begin(context: &Context, id: &str) -> Self {
        let (context, container) = (context.clone(), id.to_owned());
        let task = tokio::spawn(async move { start(&context, &container).await });
        Self {
            container: id.to_owned(),
            task,
        }
    }

    /// Whether it is of this container.
    pub(crate) fn is_of(&self, id: &str) -> bool {
        self.container == id
    }

    /// The started container.
    pub(crate) async fn finish(mut self) -> Result<Started, EngineError> {
        match (&mut self.task).await {
            Ok(started) => started,
            Err(error) => Err(EngineError::Garbled {
                what: "start the build container".to_owned(),
                message: error.to_string(),
            }),
        }
    }
}

impl Drop for EarlyStart {
    fn drop(&mut self) {
        self.task.abort();
    }
}
