//! Numbers that jobs of others hold: of a GitLab Runner that still drains, or of another Gantry, with the same runner token on the
//! same engine. Numbers are part of names of volumes, folders and hosts that two running jobs must not share.

use std::{collections::BTreeSet, time::Duration};

use gantry_engine::{ContainerSummary, ListFilter};
use gantry_plan::{NUMBER_LABEL, PROJECT_LABEL, PROJECT_NUMBER_LABEL, RUNNER_LABEL, STATE_LABEL};
use tokio::time::timeout;
use tracing::debug;

use crate::{engines::EngineSettings, shared::Shared};

/// A job waits no longer than this for an engine that does not answer: the server waits for the job's confirmation.
const LIMIT: Duration = Duration::from_secs(2);

/// Numbers in use by others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Neighbours {
    /// Of the runner.
    pub(crate) of_runner: BTreeSet<u32>,
    /// Of the runner and project.
    pub(crate) of_project: BTreeSet<u32>,
}

/// Looks at an engine. One that cannot be asked has none.
pub(crate) async fn look(
    shared: &Shared,
    settings: &EngineSettings,
    short_token: &str,
    project: i64,
) -> Neighbours {
    let listed = async {
        let access = shared.engines.get(settings).await?;
        let filter = ListFilter {
            labels: [(RUNNER_LABEL.to_owned(), short_token.to_owned())].into(),
            name: None,
        };
        access.engine.container_list(&filter).await
    };
    match timeout(LIMIT, listed).await {
        Ok(Ok(containers)) => of(&containers, shared.state.id(), project),
        Ok(Err(error)) => {
            debug!(%error, "numbers of other runners cannot be looked for");
            Neighbours::default()
        }
        Err(_) => {
            debug!("numbers of other runners cannot be looked for: no answer of the engine");
            Neighbours::default()
        }
    }
}

/// Numbers of the running containers that are not of this state folder; its own are known without asking.
fn of(containers: &[ContainerSummary], state_id: &str, project: i64) -> Neighbours {
    let mut found = Neighbours::default();
    let project = project.to_string();
    for container in containers {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let runs = matches!(
            container.state.as_str(),
            "running" | "paused" | "restarting"
        );
        if !runs || label(STATE_LABEL) == Some(state_id) {
            continue;
        }
        let number = |key| label(key).and_then(|number| number.parse::<u32>().ok());
        found.of_runner.extend(number(NUMBER_LABEL));
        if label(PROJECT_LABEL) == Some(project.as_str()) {
            found.of_project.extend(number(PROJECT_NUMBER_LABEL));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "0123456789abcdef";

    fn container(state: &str, labels: &[(&str, &str)]) -> ContainerSummary {
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        ContainerSummary {
            id: "id".to_owned(),
            name: "name".to_owned(),
            state: state.to_owned(),
            created: 0,
            labels: labels.collect(),
        }
    }

    fn job<'a>(
        project: &'a str,
        number: &'a str,
        project_number: &'a str,
    ) -> [(&'a str, &'a str); 3] {
        [
            (PROJECT_LABEL, project),
            (NUMBER_LABEL, number),
            (PROJECT_NUMBER_LABEL, project_number),
        ]
    }

    #[test]
    fn numbers_of_running_containers_of_others_are_found() {
        let mut mine = job("7", "5", "5").to_vec();
        mine.push((STATE_LABEL, MINE));
        let mut gantry = job("7", "3", "2").to_vec();
        gantry.push((STATE_LABEL, "fedcba9876543210"));
        let containers = [
            container("running", &job("7", "0", "0")),
            container("paused", &job("8", "1", "0")),
            container("exited", &job("7", "2", "1")),
            container("created", &job("7", "2", "1")),
            container("running", &mine),
            container("running", &gantry),
            container("running", &job("7", "many", "")),
            container("running", &[]),
        ];
        let expected = Neighbours {
            of_runner: [0, 1, 3].into(),
            of_project: [0, 2].into(),
        };
        assert_eq!(of(&containers, MINE, 7), expected);
    }
}
