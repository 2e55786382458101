//! Removes what nobody owns any more: objects with this state folder's label whose job has no folder.
//!
//! Names are claimed in a journal before anything is created, so at start there is no doubt. Later a grace of 60 s by the engine's
//! clock covers objects of jobs that are being removed right now.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use gantry_engine::{EngineError, ListFilter, SharedEngine};
use gantry_plan::{JOB_LABEL, STATE_LABEL};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{engines::EngineSettings, shared::Shared};

const EVERY: Duration = Duration::from_secs(300);

/// Sweeps once at start and then every five minutes, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Objects seen unowned in the round before; only what is unowned twice is removed, but at start.
    let mut suspects = BTreeMap::new();
    let mut first = true;
    loop {
        ticks.tick().await;
        let configured: Vec<_> = shared
            .config
            .borrow()
            .usable_runners()
            .map(|runner| EngineSettings::of(&runner.docker))
            .collect();
        for settings in configured {
            // An engine that cannot be reached is swept later.
            shared.engines.get(&settings).await.ok();
        }
        for engine in shared.engines.all() {
            match sweep(&shared, &engine, first, &mut suspects).await {
                Ok(0) => {}
                Ok(removed) => info!(
                    removed,
                    host = engine.host(),
                    "removed leftovers of earlier jobs"
                ),
                Err(error) => warn!(%error, host = engine.host(), "leftovers cannot be looked for"),
            }
        }
        first = false;
    }
}

type Suspects = BTreeMap<(String, String), ()>;

async fn sweep(
    shared: &Shared,
    engine: &SharedEngine,
    at_start: bool,
    suspects: &mut Suspects,
) -> Result<usize, EngineError> {
    let filter = ListFilter {
        labels: [(STATE_LABEL.to_owned(), shared.state.id().to_owned())].into(),
        name: None,
    };
    let unowned = |labels: &BTreeMap<String, String>| {
        labels
            .get(JOB_LABEL)
            .is_none_or(|job| !shared.jobs.has_job(job))
    };
    let mut found: Vec<(Kind, String)> = Vec::new();
    for container in engine.container_list(&filter).await? {
        if unowned(&container.labels) {
            found.push((Kind::Container, container.id));
        }
    }
    for network in engine.network_list(&filter).await? {
        if unowned(&network.labels) {
            found.push((Kind::Network, network.id));
        }
    }
    for volume in engine.volume_list(&filter).await? {
        if unowned(&volume.labels) {
            found.push((Kind::Volume, volume.name));
        }
    }
    let now: Suspects = found
        .iter()
        .map(|(kind, id)| ((format!("{kind:?}"), id.clone()), ()))
        .collect();
    let due: Vec<_> = found
        .into_iter()
        .filter(|(kind, id)| at_start || suspects.contains_key(&(format!("{kind:?}"), id.clone())))
        .collect();
    *suspects = now;
    // Containers first: networks and volumes are in use until they are gone.
    let removed = futures_util::stream::iter(due)
        .then(|(kind, id)| async move {
            let result = match kind {
                Kind::Container => engine.container_remove(&id).await,
                Kind::Network => engine.network_remove(&id).await,
                Kind::Volume => engine.volume_remove(&id, true).await,
            };
            match result {
                Ok(()) => 1,
                Err(error) => {
                    warn!(?kind, id, %error, "a leftover cannot be removed");
                    0
                }
            }
        })
        .collect::<Vec<usize>>()
        .await;
    Ok(removed.into_iter().sum())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Network,
    Volume,
}
