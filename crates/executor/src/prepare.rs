//! Preparation: volumes, network, images and services, side by side where the page allows.

use std::time::Duration;

use futures_util::future::{try_join, try_join_all, try_join3};
use gantry_container::{ContainerState, ContainerStatus, Env, ImageInfo};
use gantry_engine::EngineError;
use gantry_job::{Cause, Stage};
use gantry_plan::PlannedService;
use gantry_trace::Level;
use tokio::sync::oneshot;

use crate::{
    Activity, ExecutorError, JobEvent, Prepared, Record, claim, cleanup,
    context::Context,
    health::{self, Candidate},
    images,
    lanes::Lanes,
    links,
    walk::Walk,
};

/// How long a service may stay in state `created` at least (docker-executor §2.8).
const SERVICE_START_LIMIT: Duration = Duration::from_secs(30);

/// Prepares once. Everything in it may be repeated: names are claimed by the plan, existing objects are adopted or replaced.
pub(crate) async fn prepare(walk: &mut Walk, again: bool) -> Result<Prepared, ExecutorError> {
    let context = &walk.context.clone();
    let service_logs = &std::sync::Arc::clone(&walk.service_logs);
    let plan = &context.plan;
    if again {
        service_logs.abandon();
        // What an earlier try or process made: no user script has run, so containers are simply made anew.
        for name in cleanup::container_names(context) {
            context
                .engine
                .container_remove(&name)
                .await
                .map_err(|error| context.cause("removing a container", &error))?;
        }
    }
    // Lanes in the order of a job that does one thing after the other: services, their check, helper, build image.
    let services = plan.services.len();
    let lanes = Lanes::new(context.trace.clone(), services + 3);
    let service_lanes: Vec<_> = (0..services).map(|number| lanes.lane(number)).collect();
    let check_lane = lanes.lane(services);
    let helper_lane = lanes.lane(services + 1);
    let build_lane = lanes.lane(services + 2);
    let (tell_started, started) = oneshot::channel();

    let pulls = &images::Pulls::default();
    let volumes = async {
        let doing = JobEvent::Doing(Activity::CreatingVolumes);
        context.observer.tell(&doing);
        let create = |spec| async move {
            context
                .engine
                .volume_create(spec)
                .await
                .map_err(|error| context.cause("creating docker volume", &error))
        };
        try_join_all(plan.volumes.iter().map(|volume| create(&volume.spec))).await?;
        Ok::<_, Cause>(())
    };
    let network = async {
        let Some(network) = &plan.network else {
            return Ok(());
        };
        ensure_network(context, network, again)
            .await
            .map_err(|error| context.cause("creating docker network", &error))
    };
    let start_services = async {
        try_join3(volumes, network, async { Ok(()) }).await?;
        if services > 0 {
            let doing = JobEvent::Doing(Activity::CreatingServices);
            context.observer.tell(&doing);
        }
        let starts = plan
            .services
            .iter()
            .zip(service_lanes)
            .map(|(service, lane)| async move {
                for (number, warning) in service.warnings.iter().enumerate() {
                    lane.line(&format!("warning{number}"), Level::Warning, warning);
                }
                lane.line(
                    "start",
                    Level::Print,
                    &format!("Starting service {}...", service.title),
                );
                let image = images::ensure(context, &service.container.image, pulls, &lane).await?;
                let state = start_service(context, service, &image).await?;
                service_logs.follow(context, service);
                lane.close();
                Ok::<_, Cause>(Candidate {
                    service,
                    image,
                    state,
                })
            });
        let started = try_join_all(starts).await?;
        let states: Vec<_> = started.iter().map(|one| one.state.clone()).collect();
        // Who does not listen any more has failed.
        tell_started.send(started).ok();
        Ok(states)
    };
    let helper_image = async {
        let Some(helper) = &plan.helper else {
            helper_lane.close();
            return Ok(None);
        };
        if let Some(default) = &plan.helper_overrides {
            let text = format!(
                "Using helper image:  {}  (overridden, default would be  {default} )",
                helper.image.reference
            );
            helper_lane.line("overridden", Level::Print, &text);
        }
        let image = images::ensure(context, &helper.image, pulls, &helper_lane).await?;
        helper_lane.close();
        Ok::<_, Cause>(Some(image))
    };
    let build_image = images::ensure(context, &plan.build.image, pulls, &build_lane);
    let bind = async {
        let (states, helper, build) = try_join3(start_services, helper_image, build_image).await?;
        let prepared = bound(context, &states, helper.as_ref(), &build);
        if plan.service_check.is_some() {
            walk.prepared = Some(prepared.clone());
            walk.head_start().await;
        }
        Ok(prepared)
    };
    // The rarest of them is kept out of the way.
    let check = Box::pin(async {
        if let Ok(candidates) = started.await {
            health::check(context, &candidates, &check_lane, again).await?;
        }
        check_lane.close();
        Ok::<_, Cause>(())
    });
    let done = try_join(bind, check).await;
    lanes.close_all();
    let (prepared, ()) = done?;
    if plan.give_to_image_user {
        let text = "Not using umask - FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR is set!";
        context.trace.line_once("umask", Level::Print, text);
    }
    context
        .note(Record::Prepared(Box::new(prepared.clone())))
        .await?;
    Ok(prepared)
}

/// What only the engine could tell.
fn bound(
    context: &Context,
    states: &[ContainerState],
    helper: Option<&ImageInfo>,
    build: &ImageInfo,
) -> Prepared {
    let plan = &context.plan;
    let entrypoint = match &plan.build.spec.entrypoint {
        Some(own) => own.iter().any(|word| !word.is_empty()),
        None => build.entrypoint.iter().any(|word| !word.is_empty()),
    };
    Prepared {
        build_image: images::pinned(build, &plan.build.image.reference),
        build_image_id: build.id.clone(),
        build_entrypoint: entrypoint,
        build_user: build.user.clone(),
        helper_image: helper
            .zip(plan.helper.as_ref())
            .map(|(image, helper)| images::pinned(image, &helper.image.reference)),
        service_hosts: plan
            .services
            .iter()
            .zip(states)
            .flat_map(|(service, state)| service_hosts(service, state))
            .collect(),
        link_variables: Env(plan
            .services
            .iter()
            .zip(states)
            .filter(|(service, _)| service.linked)
            .flat_map(|(service, state)| {
                links::variables(&plan.build.name, &service.aliases, state)
            })
            .collect()),
    }
}

/// The class of an error that a second try may not meet again (docker-executor §0 "plain", without mistakes of config or job).
pub(crate) fn is_worth_another_try(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Engine { .. } | Cause::EngineUnreachable { .. } | Cause::HelperLost { .. }
    )
}

async fn ensure_network(
    context: &Context,
    spec: &gantry_container::NetworkSpec,
    again: bool,
) -> Result<(), EngineError> {
    if !again {
        context.engine.network_create(spec).await?;
        return Ok(());
    }
    if keep_one_network(context, &spec.name).await? {
        return Ok(());
    }
    context.engine.network_create(spec).await?;
    // What the process before this one asked for may have come to be in between.
    keep_one_network(context, &spec.name).await?;
    Ok(())
}

/// Whether there is a network of this name of the job's own. Docker allows several, and then refuses the name as ambiguous.
async fn keep_one_network(context: &Context, name: &str) -> Result<bool, EngineError> {
    let mut found = cleanup::networks_of(context, name).await?.into_iter();
    let kept = found.next().is_some();
    for extra in found {
        context.engine.network_remove(&extra).await?;
    }
    Ok(kept)
}

async fn start_service(
    context: &Context,
    service: &PlannedService,
    image: &ImageInfo,
) -> Result<ContainerState, Cause> {
    let engine = &context.engine;
    let name = &service.container.name;
    let failed =
        |error: EngineError| context.cause(&format!("starting service {}", service.title), &error);
    let mut spec = service.container.spec.clone();
    spec.image = images::pinned(image, &service.container.image.reference);
    let id = claim::create(engine, name, &spec).await.map_err(failed)?;
    if let Err(error) = engine.container_start(&id).await {
        let what = format!("starting service {}", service.title);
        let stage = Stage::PrepareExecutor;
        return Err(context.start_cause(&what, name, &stage, &error).await);
    }
    let limit = SERVICE_START_LIMIT.max(Duration::from_secs(
        context.plan.wait_for_services.max(0) as u64
    ));
    let until = tokio::time::Instant::now() + limit;
    loop {
        let Some(state) = engine.container_inspect(&id).await.map_err(failed)? else {
            return Err(Cause::ContainerVanished {
                name: name.clone(),
                stage: Stage::PrepareExecutor,
            });
        };
        if state.status != ContainerStatus::Created {
            return Ok(state);
        }
        if tokio::time::Instant::now() >= until {
            return Err(Cause::Engine {
                what: format!("starting service {}", service.title),
                message: format!("service failed to start after {} s", limit.as_secs()),
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// `/etc/hosts` lines under which build and helper find a service (docker-executor §5.3).
fn service_hosts(service: &PlannedService, state: &ContainerState) -> Vec<String> {
    let short_id = state.id.get(..12).unwrap_or(&state.id);
    let names = service.aliases.iter().map(String::as_str).chain([short_id]);
    names
        .flat_map(|name| {
            state
                .addresses
                .values()
                .flatten()
                .map(move |address| format!("{name}:{address}"))
        })
        .collect()
}
