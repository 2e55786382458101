//! The end of a job: containers stop before the verdict is reported, everything else goes after it.

use std::time::Duration;

use futures_util::future::join_all;
use gantry_container::ContainerStatus;
use gantry_engine::{EngineError, ListFilter};

use crate::context::Context;

/// Tries of the removal of a job's objects before the rest is left to the sweep.
const TRIES: u32 = 8;
/// Bound of stopping everything.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Stops every container of the job that may still run, side by side: the next job of a resource group must not meet a live
/// service or port. Bounded; what cannot be stopped is left to the removal. Says whether none runs any more.
pub(crate) async fn stop_all(context: &Context) -> bool {
    let names = container_names(context);
    let stops = join_all(names.iter().map(|name| stop_one(context, name)));
    match tokio::time::timeout(STOP_LIMIT, stops).await {
        Ok(stopped) => stopped.into_iter().all(|stopped| stopped),
        Err(_) => {
            tracing::warn!(
                job = context.plan.job_id,
                "some containers could not be stopped in time"
            );
            false
        }
    }
}

async fn stop_one(context: &Context, name: &str) -> bool {
    // Nothing of worth is lost by force: the scripts are over, services have no say in the result.
    let stopped = async {
        match context.engine.container_inspect(name).await? {
            Some(state) if state.status == ContainerStatus::Running => {
                context
                    .engine
                    .container_stop(&state.id, Some(Duration::ZERO))
                    .await
            }
            _ => Ok(()),
        }
    };
    match stopped.await {
        Ok(()) => true,
        Err(error) if error.is_not_found() => true,
        Err(error) => {
            tracing::warn!(container = name, %error, "container cannot be stopped");
            false
        }
    }
}

/// Removes everything the job made, again and again until it is gone or the tries are over. Says whether all is gone.
pub(crate) async fn remove_all(context: &Context) -> bool {
    let mut pause = Duration::from_millis(200);
    for attempt in 1..=TRIES {
        let Err(error) = remove_once(context).await else {
            return true;
        };
        tracing::warn!(job = context.plan.job_id, attempt, %error, "objects of the job cannot be removed yet");
        if attempt < TRIES {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }
    false
}

async fn remove_once(context: &Context) -> Result<(), EngineError> {
    let engine = &context.engine;
    let names = container_names(context);
    let removed = join_all(names.iter().map(|name| engine.container_remove(name))).await;
    let mut failed = removed.into_iter().find_map(Result::err);
    // One volume that cannot go must not keep the others.
    for volume in context
        .plan
        .volumes
        .iter()
        .filter(|volume| volume.temporary)
    {
        if let Err(error) = engine.volume_remove(&volume.spec.name, true).await {
            failed.get_or_insert(error);
        }
    }
    if let Some(network) = &context.plan.network
        && let Err(error) = remove_network(context, &network.name).await
    {
        failed.get_or_insert(error);
    }
    failed.map_or(Ok(()), Err)
}

/// Removes the job's network, with containers that the job itself started on it (docker-executor §2.7).
async fn remove_network(context: &Context, name: &str) -> Result<(), EngineError> {
    for network in networks_of(context, name).await? {
        if let Some(state) = context.engine.network_inspect(&network).await? {
            for container in state.containers.keys() {
                context.engine.container_remove(container).await?;
            }
        }
        context.engine.network_remove(&network).await?;
    }
    Ok(())
}

/// IDs of the networks of this job with that name; names are not unique to an engine.
pub(crate) async fn networks_of(context: &Context, name: &str) -> Result<Vec<String>, EngineError> {
    let filter = ListFilter {
        labels: context.plan.own_labels(),
        name: Some(name.to_owned()),
    };
    let found = context.engine.network_list(&filter).await?;
    Ok(found
        .into_iter()
        .filter(|network| network.name == name)
        .map(|network| network.id)
        .collect())
}

/// Names of all containers the plan claims.
pub(crate) fn container_names(context: &Context) -> Vec<String> {
    let plan = &context.plan;
    let mut names = vec![plan.build.name.clone(), plan.carrier_name()];
    names.extend(plan.helper.iter().map(|helper| helper.name.clone()));
    names.extend(plan.service_check.iter().map(|check| check.name.clone()));
    names.extend(
        plan.services
            .iter()
            .map(|service| service.container.name.clone()),
    );
    names
}
