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
    user_defined: bool,
}

impl Network {
    pub(crate) fn plan(inputs: &Inputs<'_>, resolved: &Resolved, labels: &Labels) -> Self {
        let configured = inputs
            .runner
            .docker
            .network_mode
            .clone()
            .unwrap_or_default();
        if configured.is_empty() && resolved.flags.is_on(FeatureFlag::NetworkPerBuild) {
            let name = resolve::network_name(inputs, &resolved.short_token);
            let own = NetworkSpec {
                name: name.clone(),
                labels: labels.clone(),
                ..NetworkSpec::default()
            };
            return Self {
                mode: name,
                own: Some(own),
                user_defined: true,
            };
        }
        let user_defined = !matches!(
            configured.as_str(),
            "" | "bridge" | "nat" | "default" | "none" | "host"
        ) && !configured.starts_with("container:");
        Self {
            mode: configured,
            own: None,
            user_defined,
        }
    }

    /// Endpoint with aliases; only networks with a name server know them.
    pub(crate) fn endpoints(&self, aliases: &[String]) -> BTreeMap<String, EndpointSpec> {
        if !self.user_defined {
            return BTreeMap::new();
        }
        BTreeMap::from([(
            self.mode.clone(),
            EndpointSpec {
                aliases: aliases.to_vec(),
            },
        )])
    }
}
