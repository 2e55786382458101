//! Containers under names that the job's plan has claimed: whatever has such a name is the job's own, of an earlier process or try.

use std::time::Duration;

use gantry_container::ContainerSpec;
use gantry_engine::{EngineError, SharedEngine};
use tokio::time::{Instant, sleep};

/// How long a name may be taken by something that cannot be seen.
pub(crate) const NAME_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks.
pub(crate) const NAME_PAUSE: Duration = Duration::from_millis(100);

/// Creates a container in place of whatever has its name. A call of a dead process that the engine is still at work on has taken the
/// name, but its container cannot be seen yet; it is waited for.
pub(crate) async fn create(
    engine: &SharedEngine,
    name: &str,
    spec: &ContainerSpec,
) -> Result<String, EngineError> {
    let give_up = Instant::now() + NAME_LIMIT;
    loop {
        match engine.container_create(name, spec).await {
            Err(EngineError::Conflict { .. }) if Instant::now() < give_up => {}
            other => return other,
        }
        match engine.container_inspect(name).await? {
            Some(state) => engine.container_remove(&state.id).await?,
            None => sleep(NAME_PAUSE).await,
        }
    }
}
