//! Services: names, aliases, environment (docker-executor §5.3, §6).

use std::collections::BTreeSet;

use gantry_container::{ContainerSpec, Env, HostSpec, Labels, ServiceReference};
use gantry_job::{Cause, Variables, payload::Image};

use crate::{
    Inputs, PlannedContainer, PlannedImage, PlannedService,
    containers::{env_pairs, pull_policies, service_host},
    network::Network,
    resolve::{Resolved, configuration},
};

pub(crate) fn plan(
    inputs: &Inputs<'_>,
    resolved: &Resolved,
    run: &str,
    labels: &Labels,
    network: &Network,
    binds: &[String],
) -> Result<Vec<PlannedService>, Cause> {
    let mut used = BTreeSet::new();
    resolved
        .payload
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| {
            let place = Place {
                index,
                run,
                labels,
                network,
                binds,
            };
            one(inputs, resolved, service, &place, &mut used)
        })
        .collect()
}

struct Place<'a> {
    index: usize,
    run: &'a str,
    labels: &'a Labels,
    network: &'a Network,
    binds: &'a [String],
}

fn one(
    inputs: &Inputs<'_>,
    resolved: &Resolved,
    service: &Image,
    place: &Place<'_>,
    used: &mut BTreeSet<String>,
) -> Result<PlannedService, Cause> {
    let index = place.index;
    let reference = ServiceReference::parse(&service.name);
    let Some(part) = reference.container_part() else {
        return Err(configuration(&format!(
            "invalid service image name: {}",
            service.name
        )));
    };
    let wanted = reference.aliases().into_iter().chain(
        service
            .alias
            .split([' ', ','])
            .filter(|alias| !alias.is_empty())
            .map(str::to_owned),
    );
    let mut aliases = Vec::new();
    let mut warnings = Vec::new();
    for alias in wanted {
        if used.insert(alias.clone()) {
            aliases.push(alias);
        } else {
            warnings.push(format!(
                "Skipping alias {alias:?} for service {:?} (services[{index}]): alias is already in use by another service.",
                service.name
            ));
        }
    }
    let docker = &service.executor_opts.docker;
    let version = &reference.version;
    let path = reference.path.as_deref().unwrap_or(&service.name);
    let title = if version.starts_with('@') {
        format!("{path}{version}")
    } else {
        format!("{path}:{version}")
    };
    let mut own = place.labels.clone();
    for (key, value) in [
        ("type", "service"),
        ("service", path),
        ("service.version", version),
    ] {
        own.insert(format!("{}{key}", crate::LABEL_PREFIX), value.to_owned());
    }
    let spec = ContainerSpec {
        cmd: (!service.command.is_empty()).then(|| service.command.clone()),
        entrypoint: (!service.entrypoint.is_empty()).then(|| service.entrypoint.clone()),
        user: (!docker.user.is_empty()).then(|| docker.user.clone()),
        env: environment(&resolved.variables, service),
        labels: own,
        platform: (!docker.platform.is_empty()).then(|| docker.platform.clone()),
        host: HostSpec {
            binds: place.binds.to_vec(),
            ..service_host(inputs, resolved, place.network)
        },
        // Taken ones included: on a network of their own several containers may share a name.
        endpoints: place.network.endpoints(&aliases),
        ..ContainerSpec::default()
    };
    Ok(PlannedService {
        container: PlannedContainer {
            name: format!("{}-{part}-{index}", place.run),
            image: PlannedImage {
                reference: reference.image.clone(),
                policies: pull_policies(inputs, &service.name, &service.pull_policy)?,
                platform: (!docker.platform.is_empty()).then(|| docker.platform.clone()),
                packaged: false,
            },
            spec,
        },
        title,
        aliases,
        warnings,
    })
}

/// Public and runner-made job variables, then the service's own, which may refer to any job variable (docker-executor §6.2).
fn environment(variables: &Variables, service: &Image) -> Env {
    let mut pairs = env_pairs(&variables.service_env());
    let mut all: Vec<_> = variables.iter().cloned().collect();
    all.extend(service.variables.iter().cloned());
    let all = Variables::from(all);
    for variable in &service.variables {
        let value = if variable.raw {
            variable.value.clone()
        } else {
            all.expand(&variable.value)
        };
        pairs.push((variable.key.clone(), value));
    }
    Env(pairs)
}
