//! Engines by endpoint: one connection setup for all jobs that use the same.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use gantry_config::DockerConfig;
use gantry_engine::{EngineError, SharedEngine, events::EventHub};
use gantry_executor::EngineAccess;
use gantry_plan::STATE_LABEL;

/// Makes engines from the connection settings of a runner entry. Two implementations: the real one and the fake of tests.
#[async_trait]
pub trait ConnectEngine: Send + Sync + 'static {
    /// Connects (lazily or not). Called once per distinct settings.
    async fn connect(&self, settings: &EngineSettings) -> Result<SharedEngine, EngineError>;
}

/// The part of `[runners.docker]` that tells engines apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineSettings {
    /// `host`.
    pub host: Option<String>,
    /// `tls_verify`.
    pub tls_verify: bool,
    /// `tls_cert_path`.
    pub tls_cert_path: Option<PathBuf>,
}

impl EngineSettings {
    /// Of a runner entry.
    pub fn of(docker: &DockerConfig) -> Self {
        Self {
            host: docker.host.clone(),
            tls_verify: docker.tls_verify,
            tls_cert_path: docker.tls_cert_path.clone(),
        }
    }
}

/// Engines in use.
pub(crate) struct Engines {
    connect: Arc<dyn ConnectEngine>,
    state_id: String,
    known: Mutex<BTreeMap<EngineSettings, (SharedEngine, EventHub)>>,
}

impl Engines {
    pub(crate) fn new(connect: Arc<dyn ConnectEngine>, state_id: String) -> Self {
        Self {
            connect,
            state_id,
            known: Mutex::default(),
        }
    }

    /// The engine for these settings, with its facts.
    pub(crate) async fn get(&self, settings: &EngineSettings) -> Result<EngineAccess, EngineError> {
        let known = self.lock().get(settings).cloned();
        let (engine, events) = match known {
            Some(known) => known,
            None => {
                let engine = self.connect.connect(settings).await?;
                let filter = gantry_engine::ListFilter {
                    labels: [(STATE_LABEL.to_owned(), self.state_id.clone())].into(),
                    name: None,
                };
                let mut known = self.lock();
                // Somebody else may have been faster; one events stream is enough.
                known
                    .entry(settings.clone())
                    .or_insert_with(|| {
                        let events = EventHub::new(Arc::clone(&engine), filter);
                        (engine, events)
                    })
                    .clone()
            }
        };
        let facts = engine.facts().await?;
        Ok(EngineAccess {
            engine,
            events,
            facts,
        })
    }

    /// All engines met so far, for the sweep.
    pub(crate) fn all(&self) -> Vec<SharedEngine> {
        self.lock()
            .values()
            .map(|(engine, _)| Arc::clone(engine))
            .collect()
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<EngineSettings, (SharedEngine, EventHub)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
