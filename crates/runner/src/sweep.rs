//! Removes what nobody owns any more: objects with this state folder's label whose job has no folder, and carriers that a dead
//! runner left in the middle of filling a tools volume.
//!
//! Names are claimed in a journal before anything is created, so what is unowned when an engine is looked at for the first time is
//! a leftover beyond doubt. Later a grace by the engine's own clock is kept, in case that a call of this process comes through late.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use gantry_container::Labels;
use gantry_engine::{EngineError, ListFilter, SharedEngine};
use gantry_executor::TOOLS_LABEL;
use gantry_plan::{JOB_LABEL, RUNNER_LABEL, STATE_LABEL};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::{
    engines::EngineSettings,
    observe::{Event, Removed},
    shared::Shared,
};

const EVERY: Duration = Duration::from_secs(300);
/// Pause before an engine that could not be swept yet is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the others wait for an engine that does not answer.
const MEET_LIMIT: Duration = Duration::from_secs(10);
/// Age in seconds, by the engine's clock, from which on an object is a leftover.
const GRACE: i64 = 60;

/// Sweeps once at start and then every five minutes, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut engines = Engines::default();
    loop {
        let settings: BTreeSet<_> = shared
            .config
            .borrow()
            .usable_runners()
            .map(|runner| EngineSettings::of(&runner.docker))
            .collect();
        // One that cannot be reached is swept when it can.
        let met = settings
            .iter()
            .map(|settings| timeout(MEET_LIMIT, shared.engines.get(settings)));
        let met = join_all(met).await;
        let unmet = met.iter().any(|met| !matches!(met, Ok(Ok(_))));
        let owns = |labels: &Labels| {
            let label = |key| labels.get(key).map(String::as_str).unwrap_or_default();
            shared.jobs.has(label(RUNNER_LABEL), label(JOB_LABEL))
        };
        let all = shared.engines.all();
        let tell = |swept: &Result<Swept, EngineError>| tell(&shared, swept);
        let all_swept = engines.sweep(&all, shared.state.id(), &owns, &tell).await;
        sleep(if all_swept && !unmet { EVERY } else { AGAIN }).await;
    }
}

/// What is known of the engines that are swept, by host.
#[derive(Default)]
struct Engines {
    swept: BTreeSet<String>,
    /// Could not be swept the last time, which was said.
    failing: BTreeSet<String>,
}

impl Engines {
    /// Sweeps all, side by side: one that does not answer must not keep the others. Says whether all could be swept.
    async fn sweep(
        &mut self,
        engines: &[SharedEngine],
        state_id: &str,
        owns: &(impl Fn(&Labels) -> bool + Sync),
        tell: &(impl Fn(&Result<Swept, EngineError>) + Sync),
    ) -> bool {
        let sweeps = engines.iter().map(|engine| {
            let first = !self.swept.contains(engine.host());
            sweep(engine, state_id, owns, first)
        });
        let results = join_all(sweeps).await;
        let mut all_swept = true;
        for (engine, result) in engines.iter().zip(results) {
            let host = engine.host().to_owned();
            tell(&result);
            match result {
                Ok(swept) => {
                    let removed = swept.removed.sum();
                    if removed > 0 {
                        info!(removed, host, "removed leftovers of earlier jobs");
                    }
                    self.failing.remove(&host);
                    self.swept.insert(host);
                }
                Err(error) => {
                    all_swept = false;
                    if self.failing.insert(host.clone()) {
                        warn!(%error, host, "leftovers cannot be looked for");
                    } else {
                        debug!(%error, host, "leftovers still cannot be looked for");
                    }
                }
            }
        }
        all_swept
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Network,
    Volume,
}

impl Kind {
    fn count(self, objects: &mut Removed) {
        *match self {
            Self::Container => &mut objects.containers,
            Self::Network => &mut objects.networks,
            Self::Volume => &mut objects.volumes,
        } += 1;
    }
}

/// What a round did on one engine.
#[derive(Debug, Default)]
struct Swept {
    removed: Removed,
    failed: Removed,
    took: Duration,
}

fn tell(shared: &Shared, swept: &Result<Swept, EngineError>) {
    shared.observer.tell(&match swept {
        Ok(swept) => Event::Swept {
            removed: swept.removed,
            failed: swept.failed,
            took: swept.took,
        },
        Err(_) => Event::SweepFailed,
    });
}

/// An object that belongs to nobody.
struct Leftover {
    kind: Kind,
    /// ID; of a volume its name.
    id: String,
    name: String,
    /// Unix seconds by the engine's clock.
    created: Option<i64>,
}

/// Whether a leftover of this age is removed now. One whose age the engine does not tell is old enough.
fn is_due(created: Option<i64>, now: i64) -> bool {
    created.is_none_or(|created| now.saturating_sub(created) >= GRACE)
}

/// Removes the leftovers of one engine; says how many. The `first` look at an engine has no grace.
async fn sweep(
    engine: &SharedEngine,
    state_id: &str,
    owns: &(impl Fn(&Labels) -> bool + Sync),
    first: bool,
) -> Result<Swept, EngineError> {
    let began = Instant::now();
    let now = engine.time().await?;
    let mut due = leftovers(engine, state_id, owns).await?;
    due.retain(|leftover| first || is_due(leftover.created, now));
    // Nobody's in particular: whoever finds one that is old knows that its runner died.
    let mut carriers = carriers(engine).await?;
    carriers.retain(|carrier| is_due(carrier.created, now));
    due.extend(carriers);
    // In the order found, containers first: networks and volumes are in use until they are gone.
    let mut swept = Swept::default();
    for leftover in &due {
        let Leftover { kind, name, .. } = leftover;
        match remove(engine, leftover).await {
            Ok(()) => {
                info!(?kind, name, "removed a leftover");
                kind.count(&mut swept.removed);
            }
            Err(error) => {
                warn!(?kind, name, %error, "a leftover cannot be removed");
                kind.count(&mut swept.failed);
            }
        }
    }
    swept.took = began.elapsed();
    Ok(swept)
}

async fn leftovers(
    engine: &SharedEngine,
    state_id: &str,
    owns: &impl Fn(&Labels) -> bool,
) -> Result<Vec<Leftover>, EngineError> {
    let filter = labelled(STATE_LABEL, state_id);
    let mut found = Vec::new();
    for container in engine.container_list(&filter).await? {
        if !owns(&container.labels) {
            found.push(of_container(container));
        }
    }
    for network in engine.network_list(&filter).await? {
        if !owns(&network.labels) {
            found.push(Leftover {
                kind: Kind::Network,
                id: network.id,
                name: network.name,
                created: network.created,
            });
        }
    }
    for volume in engine.volume_list(&filter).await? {
        if !owns(&volume.labels) {
            found.push(Leftover {
                kind: Kind::Volume,
                id: volume.name.clone(),
                name: volume.name,
                created: volume.created,
            });
        }
    }
    Ok(found)
}

/// Containers with the label of tools volumes carry the helper program into one; all else of that label is kept.
async fn carriers(engine: &SharedEngine) -> Result<Vec<Leftover>, EngineError> {
    let found = engine.container_list(&labelled(TOOLS_LABEL, "")).await?;
    Ok(found.into_iter().map(of_container).collect())
}

fn labelled(label: &str, value: &str) -> ListFilter {
    ListFilter {
        labels: [(label.to_owned(), value.to_owned())].into(),
        name: None,
    }
}

fn of_container(container: gantry_engine::ContainerSummary) -> Leftover {
    Leftover {
        kind: Kind::Container,
        id: container.id,
        name: container.name,
        created: Some(container.created),
    }
}

async fn remove(engine: &SharedEngine, leftover: &Leftover) -> Result<(), EngineError> {
    let id = &leftover.id;
    match leftover.kind {
        Kind::Container => engine.container_remove(id).await,
        Kind::Network => {
            // Containers that the job itself started on it carry no label of ours (docker-executor §2.7).
            if let Some(network) = engine.network_inspect(id).await? {
                for container in network.containers.keys() {
                    engine.container_remove(container).await?;
                }
            }
            engine.network_remove(id).await
        }
        Kind::Volume => engine.volume_remove(id, true).await,
    }
}

#[cfg(test)]
mod tests;
