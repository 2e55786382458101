//! What every part of a running job needs at hand.

use std::{path::PathBuf, sync::Arc, time::Duration};

use gantry_container::EngineFacts;
use gantry_engine::{Archive, EngineError, EventHub, RegistryAuth, SharedEngine, credentials};
use gantry_job::{Cause, PullFailure};
use gantry_journal::Journal;
use gantry_plan::Plan;
use gantry_trace::{JobTrace, TraceError};

use crate::{ExecutorError, Record, Step, tools::HelperBinary};

/// Gives the archive of the working tree, paths relative to the project directory; asked once per upload.
pub type WorkingTree = Arc<dyn Fn() -> Archive + Send + Sync>;

/// Finds the helper binary for an architecture as the engine names it, or says in words why there is none.
pub type HelperBinaries = Arc<dyn Fn(&str) -> Result<HelperBinary, String> + Send + Sync>;

/// What all jobs of one process share besides an engine.
#[derive(Clone)]
pub struct Environment {
    /// Helper binaries.
    pub helper_binaries: HelperBinaries,
    /// The helper image as a file (`docker save` form), if one is shipped.
    pub packaged_helper_image: Option<PathBuf>,
    /// The user's `config.json` of the Docker client, for registry credentials.
    pub docker_config: Option<PathBuf>,
}

/// One engine as all jobs on it share it.
#[derive(Clone)]
pub struct EngineAccess {
    /// The engine.
    pub engine: SharedEngine,
    /// Its events, shared.
    pub events: EventHub,
    /// Its facts.
    pub facts: EngineFacts,
}

#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) engine: SharedEngine,
    pub(crate) events: EventHub,
    pub(crate) facts: EngineFacts,
    pub(crate) environment: Environment,
    pub(crate) plan: Arc<Plan>,
    pub(crate) trace: JobTrace,
    pub(crate) journal: Journal<Record>,
    pub(crate) working_tree: Option<WorkingTree>,
}

impl Context {
    /// Appends to the journal. A full disk makes the job wait at this point instead of losing it; its containers run on.
    pub(crate) async fn note(&self, record: Record) -> Result<(), ExecutorError> {
        self.note_with(&record, false).await
    }

    /// As [`Self::note`], and on the disk when it returns.
    pub(crate) async fn note_synced(&self, record: Record) -> Result<(), ExecutorError> {
        self.note_with(&record, true).await
    }

    async fn note_with(&self, record: &Record, synced: bool) -> Result<(), ExecutorError> {
        let mut told = false;
        loop {
            let noted = if synced {
                self.journal.append_synced(record).await
            } else {
                self.journal.append(record).await
            };
            match noted {
                Err(error) if error.is_no_space() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "the job waits for space on the disk");
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                other => return Ok(other?),
            }
        }
    }

    /// Ends the log; waits for space on the disk like everything else.
    pub(crate) async fn finish_trace(&self) -> Result<(), ExecutorError> {
        loop {
            match self.trace.finish() {
                Err(TraceError::DiskFull { .. }) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                other => return Ok(other?),
            }
        }
    }

    pub(crate) async fn step(
        &self,
        stage: usize,
        attempt: u32,
        step: Step,
    ) -> Result<(), ExecutorError> {
        self.note(Record::Stage {
            stage,
            attempt,
            step,
        })
        .await
    }

    /// The closed cause for an engine error that ends the job (docker-executor §9.2: what the engine refuses with 400 is a
    /// mistake of config or job).
    pub(crate) fn cause(&self, what: &str, error: &EngineError) -> Cause {
        let message = error.to_string();
        match error {
            EngineError::BadRequest { .. } | EngineError::Setup(_) => {
                Cause::Configuration { message }
            }
            EngineError::Unreachable { .. } | EngineError::TimedOut { .. } => {
                Cause::EngineUnreachable {
                    endpoint: self.engine.host().to_owned(),
                    message,
                }
            }
            EngineError::Pull { message, .. } => Cause::ImagePull {
                failure: PullFailure::classify(message),
                message: message.clone(),
            },
            _ => Cause::Engine {
                what: what.to_owned(),
                message,
            },
        }
    }

    /// Credentials for an image with their source's name, and warnings about sources that could not be read.
    pub(crate) async fn credentials(
        &self,
        image: &str,
    ) -> (Result<Option<(String, RegistryAuth)>, String>, Vec<String>) {
        let sources = credentials::Sources {
            docker_auth_config: self.plan.credentials.docker_auth_config.clone(),
            config_file: self.environment.docker_config.clone(),
            payload: self.plan.credentials.payload.clone(),
        };
        credentials::lookup(&sources, image).await
    }

    pub(crate) async fn packaged_helper_image(&self) -> Option<Archive> {
        let path = self.environment.packaged_helper_image.as_ref()?;
        let file = tokio::fs::File::open(path).await.ok()?;
        Some(Box::pin(file))
    }
}
