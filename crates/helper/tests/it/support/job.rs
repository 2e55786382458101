//! A job whose stages run one after another on one connection.

use std::{fs, path::PathBuf};

use gantry_agent::StageRequest;

use super::{Agent, Client, Finished};

pub(crate) struct Job {
    pub(crate) agent: Agent,
    pub(crate) client: Client,
    number: u32,
}

impl Job {
    pub(crate) fn new() -> Self {
        let agent = Agent::start();
        fs::create_dir_all(agent.project()).unwrap();
        let client = Client::welcomed(&agent.socket(), 1);
        Self {
            agent,
            client,
            number: 0,
        }
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.agent.project()
    }

    /// A file of the project.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs a stage to its end.
    pub(crate) fn run(&mut self, request: StageRequest) -> Finished {
        let id = self.next_id();
        self.client.run(&id, request)
    }

    /// An id for a further stage.
    pub(crate) fn next_id(&mut self) -> String {
        self.number += 1;
        format!("stage/{}", self.number)
    }
}
