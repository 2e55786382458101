//! What every part of a running job needs at hand.

use std::{path::PathBuf, sync::Arc};

use gantry_container::EngineFacts;
use gantry_engine::{
    Archive, EngineError, RegistryAuth, SharedEngine,
    credentials::{self, HelperPrograms, Source},
    events::EventHub,
};
use gantry_job::{Cause, PullFailure, Stage};
use gantry_journal::Journal;
use gantry_object_storage::Storage;
use gantry_plan::Plan;
use gantry_trace::JobTrace;

use crate::{
    ArtifactStore, ExecutorError, JobEvent, JobObserver, Record, Step, TerminalPort, durable,
    tools::HelperBinary,
};

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
    pub(crate) artifacts: Option<Arc<dyn ArtifactStore>>,
    pub(crate) observer: JobObserver,
    pub(crate) caches: Option<Storage>,
    pub(crate) terminal: Option<Arc<TerminalPort>>,
}

impl Context {
    pub(crate) async fn note(&self, record: Record) -> Result<(), ExecutorError> {
        durable::note(&self.journal, &record, false).await?;
        match &record {
            Record::Prepared(_) => self.observer.tell(&JobEvent::Prepared),
            Record::Stage {
                stage,
                attempt,
                step,
            } => {
                if let Some(planned) = self.plan.stages.get(*stage) {
                    self.observer.tell(&JobEvent::Stage {
                        stage: &planned.stage,
                        attempt: *attempt,
                        step,
                    });
                }
            }
            _ => {}
        }
        Ok(())
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

    /// The closed cause for a container that was created and could not be started. A 404 of one that is still there speaks of
    /// what it refers to, a network or a container: a mistake of the configuration.
    pub(crate) async fn start_cause(
        &self,
        what: &str,
        name: &str,
        stage: &Stage,
        error: &EngineError,
    ) -> Cause {
        if !error.is_not_found() {
            return self.cause(what, error);
        }
        match self.engine.container_inspect(name).await {
            Ok(Some(_)) => Cause::Configuration {
                message: format!("{what}: {error}; look at network_mode in [runners.docker]"),
            },
            _ => Cause::ContainerVanished {
                name: name.to_owned(),
                stage: stage.clone(),
            },
        }
    }

    /// Credentials for an image with their source's name, and warnings about sources that could not be read
    /// (docker-executor §3.6). An `Err` is a mistake that must fail the pull.
    pub(crate) async fn credentials(
        &self,
        image: &str,
    ) -> (Result<Option<(String, RegistryAuth)>, String>, Vec<String>) {
        let planned = &self.plan.credentials;
        let mut sources = Vec::new();
        if let Some(text) = &planned.docker_auth_config {
            sources.push(Source::auth_config_variable(text.clone().into()));
        }
        if let Some(path) = &self.environment.docker_config
            && let Ok(text) = tokio::fs::read_to_string(path).await
        {
            sources.push(Source::file(&path.to_string_lossy(), text.into()));
        }
        for (url, username, password) in &planned.payload {
            sources.push(Source::payload(url, username, password.clone().into()));
        }
        match credentials::resolve(image, &sources, &HelperPrograms::default()).await {
            Ok(found) => {
                for note in &found.notes {
                    tracing::debug!(note, "registry credentials");
                }
                (Ok(found.source.zip(found.auth)), found.warnings)
            }
            Err(error) => (Err(error.to_string()), Vec::new()),
        }
    }

    pub(crate) async fn packaged_helper_image(&self) -> Option<Archive> {
        let path = self.environment.packaged_helper_image.as_ref()?;
        let file = tokio::fs::File::open(path).await.ok()?;
        Some(Box::pin(file))
    }
}
