//! Removes from an engine everything that carries the label of one run.

use futures_util::future::join_all;
use gantry_engine::{EngineError, ListFilter, SharedEngine};
use gantry_plan::STATE_LABEL;

/// Removes all containers, networks and volumes of the run with that state id. Gives how many there
/// were.
///
/// # Errors
/// The first thing the engine refused; everything else was tried all the same.
pub(crate) async fn remove(engine: &SharedEngine, state_id: &str) -> Result<usize, EngineError> {
    let filter = ListFilter {
        labels: [(STATE_LABEL.to_owned(), state_id.to_owned())].into(),
        name: None,
    };
    // Containers first: networks and volumes are in use until they are gone.
    let containers = engine.container_list(&filter).await?;
    let removed = containers
        .iter()
        .map(|container| engine.container_remove(&container.id));
    let mut results = join_all(removed).await;
    for network in engine.network_list(&filter).await? {
        results.push(remove_network(engine, &network.id).await);
    }
    for volume in engine.volume_list(&filter).await? {
        results.push(engine.volume_remove(&volume.name, true).await);
    }
    let count = results.len();
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(count)
}

/// With the containers that a job itself started on it.
async fn remove_network(engine: &SharedEngine, id: &str) -> Result<(), EngineError> {
    if let Some(state) = engine.network_inspect(id).await? {
        for container in state.containers.keys() {
            engine.container_remove(container).await?;
        }
    }
    engine.network_remove(id).await
}
