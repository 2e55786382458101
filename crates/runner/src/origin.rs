//! What the journal keeps of a job besides the executor's part: everything needed to finish it after a restart, whatever has become
//! of the config.

use gantry_config::{RunnerConfig, SnapshotError};
use gantry_gitlab::{ReceivedJob, TlsData};
use gantry_job::{JobPayload, Secret, TlsFiles};
use gantry_plan::Numbers;
use serde::{Deserialize, Serialize};

/// A job's origin, serialised into `Accepted::origin`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The payload.
    pub(crate) payload: JobPayload,
    /// The runner entry as it was, with its secrets.
    runner: serde_json::Value,
    concurrent: u32,
    concurrent_project: u32,
    pub(crate) correlation_id: String,
    tls_ca: Option<String>,
    tls_certificate: Option<String>,
    tls_key: Option<Secret>,
    /// The server was offered a session with the request for the job. Not in journals of version 0.1.0.
    #[serde(default)]
    pub(crate) has_session: bool,
}

/// Why a journaled job cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    #[error("the journal does not say where the job comes from: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error(transparent)]
    Runner(#[from] SnapshotError),
}

impl Origin {
    pub(crate) fn of(
        received: ReceivedJob,
        runner: &RunnerConfig,
        numbers: Numbers,
        has_session: bool,
    ) -> Result<Self, OriginError> {
        let TlsData {
            ca_chain,
            client_certificate,
            client_key,
        } = received.tls;
        Ok(Self {
            payload: received.job,
            runner: runner.to_journal()?,
            concurrent: numbers.concurrent,
            concurrent_project: numbers.concurrent_project,
            correlation_id: received.correlation_id,
            tls_ca: ca_chain.map(|pem| pem.to_string()),
            tls_certificate: client_certificate.map(|pem| pem.to_string()),
            tls_key: client_key,
            has_session,
        })
    }

    pub(crate) fn from_journal(value: &serde_json::Value) -> Result<Self, OriginError> {
        Ok(serde_json::from_value(value.clone())?)
    }

    pub(crate) fn to_journal(&self) -> Result<serde_json::Value, OriginError> {
        Ok(serde_json::to_value(self)?)
    }

    pub(crate) fn runner(&self) -> Result<RunnerConfig, OriginError> {
        Ok(RunnerConfig::from_journal(&self.runner)?)
    }

    /// [`Self::runner`], and forgets what the journal knows of it: it need not stay in memory for the life of the job.
    pub(crate) fn take_runner(&mut self) -> Result<RunnerConfig, OriginError> {
        let runner = self.runner()?;
        self.forget_runner();
        Ok(runner)
    }

    /// For a job that is written down and has its runner entry beside this.
    pub(crate) fn forget_runner(&mut self) {
        self.runner = serde_json::Value::Null;
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            concurrent: self.concurrent,
            concurrent_project: self.concurrent_project,
        }
    }

    pub(crate) fn tls(&self) -> TlsFiles {
        TlsFiles {
            ca: self.tls_ca.clone(),
            cert: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
        }
    }
}
