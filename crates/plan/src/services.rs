//! Services: names, aliases, environment (docker-executor §5.3, §6).

use std::collections::BTreeSet;

use gantry_config::RunnerConfig;
use gantry_container::{ContainerSpec, Env, ServiceReference};
use gantry_job::{Cause, Variable, Variables, payload::Image};

use crate::{
    PlannedContainer, PlannedService, ServiceCheck, allow_list,
    containers::{self, Scope, given},
    images, labels,
    resolve::configuration,
};

pub(crate) fn plan(scope: &Scope<'_>) -> Result<Vec<PlannedService>, Cause> {
    let mut used = BTreeSet::new();
    let (count, docker) = (
        scope.resolved.payload.services.len(),
        &scope.inputs.runner.docker,
    );
    if let Some(limit) = docker.services_limit
        && count as u64 > limit
    {
        return Err(configuration(format!(
            "too many services requested: {count}, only {limit} allowed (services_limit in [runners.docker])"
        )));
    }
    let services = scope.resolved.payload.services.iter().enumerate();
    services
        .map(|(index, service)| one(scope, index, service, &mut used))
        .collect()
}

fn one(
    scope: &Scope<'_>,
    index: usize,
    service: &Image,
    used: &mut BTreeSet<String>,
) -> Result<PlannedService, Cause> {
    let reference = ServiceReference::parse(&service.name);
    let (Some(path), Some(part)) = (&reference.path, reference.container_part()) else {
        return Err(configuration(format!(
            "invalid service image name: {} ({})",
            service.name,
            place(scope, index)
        )));
    };
    allowed(scope, index, &service.name)?;
    let mut names = Names::of(scope, index, service, &reference, used)?;
    names.warnings.extend(scope.entrypoint_warning(service));
    let version = &reference.version;
    let separator = if version.starts_with('@') { "" } else { ":" };
    let mut own = labels::typed(scope.labels, "service");
    labels::set(&mut own, "service", path);
    labels::set(&mut own, "service.version", version);
    let user = &service.executor_opts.docker.user;
    let spec = ContainerSpec {
        cmd: given(&service.command),
        entrypoint: scope.entrypoint(service),
        user: (!user.is_empty()).then(|| user.clone()),
        env: environment(&scope.resolved.variables, service)?,
        labels: own,
        platform: images::platform(service),
        host: scope.service_host(&service.name)?,
        endpoints: scope.network.endpoints(&names.all),
        ..ContainerSpec::default()
    };
    Ok(PlannedService {
        title: format!("{path}{separator}{version}"),
        container: PlannedContainer {
            name: format!("{}-{part}-{index}", scope.run),
            image: images::service(scope.inputs, &place(scope, index), service, reference.image)?,
            spec,
        },
        aliases: names.own,
        linked: scope.network.has_links() && scope.inputs.host.link_variables,
        warnings: names.warnings,
    })
}

/// The services of every job, as a payload would ask for them. They stand before the job's own.
pub(crate) fn of_runner(runner: &RunnerConfig) -> impl Iterator<Item = Image> + '_ {
    runner.docker.services.iter().map(|service| Image {
        name: service.name.clone(),
        alias: service.alias.clone(),
        command: service.command.clone(),
        entrypoint: service.entrypoint.clone(),
        variables: service
            .environment
            .iter()
            .map(|(key, value)| Variable::new(key, value))
            .collect(),
        ..Image::default()
    })
}

/// Where a service is asked for, for messages.
fn place(scope: &Scope<'_>, index: usize) -> String {
    match index.checked_sub(scope.inputs.runner.docker.services.len()) {
        None => format!("services[{index}] in [runners.docker]"),
        Some(index) => format!("services[{index}] of the job"),
    }
}

/// Whether the configuration lets a job use a service. Its own services always may be used, whoever asks (docker-executor §3.4).
fn allowed(scope: &Scope<'_>, index: usize, name: &str) -> Result<(), Cause> {
    let docker = &scope.inputs.runner.docker;
    let patterns = &docker.allowed_services;
    let own = scope.resolved.payload.services.iter();
    let own = own.take(docker.services.len());
    if patterns.is_empty()
        || own.map(|service| &service.name).any(|own| own == name)
        || allow_list::has(patterns, name)
    {
        return Ok(());
    }
    Err(configuration(format!(
        "disallowed image: The {name:?} image ({}) is not present on list of allowed services: {} (allowed_services in [runners.docker])",
        place(scope, index),
        patterns.join(", ")
    )))
}

/// The container that looks whether the services answer; none where nothing reaches them.
pub(crate) fn check(scope: &Scope<'_>) -> Option<ServiceCheck> {
    if scope.resolved.payload.services.is_empty() || !scope.network.reaches_services() {
        return None;
    }
    let spec = ContainerSpec {
        user: Some("0:0".to_owned()),
        labels: labels::typed(scope.labels, "wait"),
        interactive: true,
        host: scope.bare_host(),
        ..ContainerSpec::default()
    };
    Some(ServiceCheck {
        name: format!("{}-wait-for-services", scope.run),
        spec,
        loopback: scope.network.is_shared(),
    })
}

/// The names of one service.
struct Names {
    /// All, taken ones included: on a network with a name server several containers may share one.
    all: Vec<String>,
    /// Those that no earlier service has: a line in `/etc/hosts` each.
    own: Vec<String>,
    warnings: Vec<String>,
}

impl Names {
    fn of(
        scope: &Scope<'_>,
        index: usize,
        service: &Image,
        reference: &ServiceReference,
        used: &mut BTreeSet<String>,
    ) -> Result<Self, Cause> {
        let given = service
            .alias
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|alias| !alias.is_empty())
            .map(str::to_owned);
        let mut names = Self {
            all: Vec::new(),
            own: Vec::new(),
            warnings: Vec::new(),
        };
        for alias in reference.aliases().into_iter().chain(given) {
            if alias.contains(':') {
                return Err(configuration(format!(
                    "{}: alias {alias:?} cannot be a host name, it holds a ':'",
                    place(scope, index)
                )));
            }
            if !names.all.contains(&alias) {
                names.all.push(alias.clone());
            }
            if used.insert(alias.clone()) {
                names.own.push(alias);
            } else {
                names.warnings.push(format!(
                    "Skipping alias {alias:?} for service {:?} (services[{index}]): alias is already in use by another service.",
                    service.name
                ));
            }
        }
        Ok(names)
    }
}

/// Public and runner-made job variables, then the service's own, which may refer to any job variable (docker-executor §6.2).
fn environment(variables: &Variables, service: &Image) -> Result<Env, Cause> {
    let all: Variables = variables
        .iter()
        .chain(&service.variables)
        .cloned()
        .collect();
    // One without a name is left out as in the job's own list; the engine would refuse the container.
    let named = service.variables.iter().filter(|own| !own.key.is_empty());
    let own = named.map(|variable| {
        let value = if variable.raw {
            variable.value.clone()
        } else {
            all.expand(&variable.value)
        };
        format!("{}={value}", variable.key)
    });
    let entries: Vec<_> = variables.service_env().into_iter().chain(own).collect();
    containers::environment(&entries)
}

#[cfg(test)]
mod tests;
