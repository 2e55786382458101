//! Which network the containers of a job are on (docker-executor §5.1).

use std::collections::BTreeMap;

use gantry_container::{EndpointSpec, Labels, NetworkSpec};
use gantry_job::FeatureFlag;

use crate::{
    Inputs,
    resolve::{self, Resolved},
};

/// The network of a job.
pub(crate) struct Network {
    /// NetworkMode of every container.
    pub(crate) mode: String,
    /// The network to create and delete with the job.
    pub(crate) own: Option<NetworkSpec>,
}

impl Network {
    pub(crate) fn plan(inputs: &Inputs<'_>, resolved: &Resolved, labels: &Labels) -> Self {
        let configured = inputs
            .runner
            .docker
            .network_mode
            .clone()
            .unwrap_or_default();
        if !configured.is_empty() || !resolved.flags.is_on(FeatureFlag::NetworkPerBuild) {
            return Self {
                mode: configured,
                own: None,
            };
        }
        let name = resolve::network_name(inputs);
        Self {
            mode: name.clone(),
            own: Some(NetworkSpec {
                name,
                labels: labels.clone(),
                ..NetworkSpec::default()
            }),
        }
    }

    /// Endpoint with aliases; only networks with a name server know them.
    pub(crate) fn endpoints(&self, aliases: &[String]) -> BTreeMap<String, EndpointSpec> {
        if !self.is_user_defined() {
            return BTreeMap::new();
        }
        let endpoint = EndpointSpec {
            aliases: aliases.to_vec(),
        };
        BTreeMap::from([(self.mode.clone(), endpoint)])
    }

    /// Whether services are what the page calls linked: on the engine's default bridge, found by lines in `/etc/hosts`.
    pub(crate) fn has_links(&self) -> bool {
        ["", "bridge", "default"].contains(&self.mode.as_str())
    }

    /// Host name of build and helper: `wanted`, but none in another container's network, whose host name counts there (the engine
    /// refuses both together).
    pub(crate) fn hostname(&self, wanted: &str) -> Option<String> {
        (!self.is_of_a_container()).then(|| wanted.to_owned())
    }

    /// Whether a container can reach another one at all.
    pub(crate) fn reaches_services(&self) -> bool {
        self.mode != "none"
    }

    /// Whether all containers have the same network stack: the host's, or another container's.
    pub(crate) fn is_shared(&self) -> bool {
        self.mode == "host" || self.is_of_a_container()
    }

    fn is_user_defined(&self) -> bool {
        let built_in = ["", "bridge", "default", "none", "host"].contains(&self.mode.as_str());
        !built_in && !self.is_of_a_container()
    }

    fn is_of_a_container(&self) -> bool {
        self.mode == "container" || self.mode.starts_with("container:")
    }
}

#[cfg(test)]
mod tests;
