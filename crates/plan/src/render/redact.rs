//! Takes the secrets out of a plan.

use std::collections::HashMap;

use gantry_agent::{SourcesRequest, TlsFiles};
use gantry_container::Env;
use gantry_job::{Masks, Variable, Variables};

use crate::{Plan, StageWork};

const MASK: &str = "[MASKED]";
/// A hidden value shorter than this is looked for as a whole only: `1` is in everything.
const SHORTEST_PART: usize = 4;

/// The text with all phrases masked.
pub(super) fn hide(text: &str, masks: &Masks) -> String {
    // Longest first, so that a phrase within another leaves nothing of it.
    masks
        .phrases
        .iter()
        .filter(|phrase| !phrase.is_empty())
        .fold(text.to_owned(), |text, phrase| text.replace(phrase, MASK))
}

/// The plan with every value that is not public replaced. It cannot be run any more.
pub(super) fn redacted(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let hidden = Hidden::of(&plan.variables);
    plan.variables = plan.variables.iter().map(hidden_variable).collect();
    hidden.in_env_of_job(&mut plan.build.spec.env);
    if let Some(helper) = &mut plan.helper {
        hidden.in_env_of_job(&mut helper.spec.env);
    }
    for service in &mut plan.services {
        hidden.in_env_of_service(&mut service.container.spec.env);
    }
    for stage in &mut plan.stages {
        match &mut stage.work {
            StageWork::Sources(request) => hidden.in_sources(request),
            StageWork::DownloadArtifacts(request) => {
                for dependency in &mut request.dependencies {
                    dependency.token = MASK.into();
                }
                in_tls(&mut request.coordinator.tls);
            }
            StageWork::UploadArtifacts(request) => {
                request.token = MASK.into();
                in_tls(&mut request.coordinator.tls);
            }
            StageWork::Lines(_)
            | StageWork::Script(_)
            | StageWork::Cleanup(_)
            | StageWork::RestoreCache(_)
            | StageWork::ArchiveCache(_)
            | StageWork::Fails(_) => {}
        }
    }
    if let Some(config) = &mut plan.credentials.docker_auth_config {
        MASK.clone_into(config);
    }
    for (_, _, password) in &mut plan.credentials.payload {
        MASK.clone_into(password);
    }
    plan
}

fn is_shown(variable: &Variable) -> bool {
    variable.public && !variable.masked && !variable.file
}

fn hidden_variable(variable: &Variable) -> Variable {
    let mut variable = variable.clone();
    if !is_shown(&variable) {
        MASK.clone_into(&mut variable.value);
    }
    variable
}

/// What of the job's variables must not be seen.
struct Hidden {
    /// Whether what programs are given may be seen, by key: not when any entry of the key is a secret.
    keys: HashMap<String, bool>,
    values: Vec<String>,
}

impl Hidden {
    fn of(variables: &Variables) -> Self {
        // A path, which only scripts are given.
        let mut keys = HashMap::from([("GITLAB_ENV".to_owned(), true)]);
        for variable in variables {
            // Of a file variable programs get the path.
            let shown = is_shown(variable) || variable.file;
            let all_shown = keys.entry(variable.key.clone()).or_insert(true);
            *all_shown &= shown;
        }
        let values = variables
            .iter()
            .filter(|variable| !is_shown(variable) && !variable.value.is_empty())
            .map(|variable| variable.value.clone())
            .collect();
        Self { keys, values }
    }

    fn shows(&self, key: &str) -> bool {
        self.keys.get(key).copied().unwrap_or(false)
    }

    /// The list of the job's variables.
    fn in_env_of_job(&self, env: &mut Env) {
        for (key, value) in &mut env.0 {
            if !self.shows(key) {
                MASK.clone_into(value);
            }
        }
    }

    /// Public variables of the job, and the service's own, which may have been made from others.
    fn in_env_of_service(&self, env: &mut Env) {
        for (key, value) in &mut env.0 {
            let known = self.keys.get(key.as_str());
            if known == Some(&false) || self.values.iter().any(|hidden| holds(value, hidden)) {
                MASK.clone_into(value);
            }
        }
    }

    fn in_sources(&self, request: &mut SourcesRequest) {
        request.token = MASK.into();
        for variable in &mut request.variables {
            if !self.shows(&variable.key) {
                variable.value = MASK.into();
            }
        }
        for file in &mut request.files {
            file.content = MASK.into();
        }
        in_tls(&mut request.tls);
    }
}

fn in_tls(tls: &mut TlsFiles) {
    if tls.key.is_some() {
        tls.key = Some(MASK.into());
    }
}

fn holds(text: &str, hidden: &str) -> bool {
    text == hidden || (hidden.len() >= SHORTEST_PART && text.contains(hidden))
}
