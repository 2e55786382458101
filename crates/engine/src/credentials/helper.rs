//! Credential helpers: `docker-credential-<name>` programs of the runner's host.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::{io::AsyncWriteExt, process::Command};

/// Why a helper gave nothing. Never holds its output but for its own error text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// The program cannot be started.
    #[error("docker-credential-{program} cannot be run: {message}")]
    Start {
        /// Name after `docker-credential-`.
        program: String,
        /// Cause.
        message: String,
    },
    /// The program said no.
    #[error("docker-credential-{program} {action} failed: {message}")]
    Failed {
        /// Name after `docker-credential-`.
        program: String,
        /// `get` or `list`.
        action: &'static str,
        /// Its error text.
        message: String,
    },
    /// The program did not end.
    #[error("docker-credential-{program} {action} did not answer within {seconds} s")]
    TimedOut {
        /// Name after `docker-credential-`.
        program: String,
        /// `get` or `list`.
        action: &'static str,
        /// Limit.
        seconds: u64,
    },
    /// The program's answer cannot be understood.
    #[error("docker-credential-{program} {action} gave an answer that cannot be read")]
    Garbled {
        /// Name after `docker-credential-`.
        program: String,
        /// `get` or `list`.
        action: &'static str,
    },
}

/// Asks credential helpers.
#[async_trait]
pub trait CredentialHelper: Send + Sync {
    /// Registries that the store has credentials for.
    async fn list(&self, program: &str) -> Result<Vec<String>, HelperError>;
    /// User name and password for a registry.
    async fn get(
        &self,
        program: &str,
        registry: &str,
    ) -> Result<(String, SecretString), HelperError>;
}

/// Runs the programs found on `PATH`.
#[derive(Debug, Clone, Copy)]
pub struct HelperPrograms {
    /// How long one may take.
    pub timeout: Duration,
}

impl Default for HelperPrograms {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
        }
    }
}

/// Answer of `get`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    username: String,
    secret: SecretString,
}

/// Longest error text shown.
const LONGEST_MESSAGE: usize = 200;

impl HelperPrograms {
    async fn run(
        &self,
        program: &str,
        action: &'static str,
        input: &str,
    ) -> Result<Vec<u8>, HelperError> {
        let start = |error: std::io::Error| HelperError::Start {
            program: program.to_owned(),
            message: error.to_string(),
        };
        let mut child = Command::new(format!("docker-credential-{program}"))
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let mut stdin = child.stdin.take();
        let ran = async {
            if let Some(stdin) = &mut stdin {
                // A program that does not read its input closes it: its exit tells.
                drop(stdin.write_all(input.as_bytes()).await);
            }
            drop(stdin);
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(self.timeout, ran).await {
            Ok(output) => output.map_err(start)?,
            Err(_) => {
                return Err(HelperError::TimedOut {
                    program: program.to_owned(),
                    action,
                    seconds: self.timeout.as_secs(),
                });
            }
        };
        if output.status.success() {
            return Ok(output.stdout);
        }
        // Helpers say on stdout what is wrong.
        let text = String::from_utf8_lossy(&output.stdout);
        let message = match text.trim() {
            "" => output.status.to_string(),
            text => text.chars().take(LONGEST_MESSAGE).collect(),
        };
        Err(HelperError::Failed {
            program: program.to_owned(),
            action,
            message,
        })
    }
}

#[async_trait]
impl CredentialHelper for HelperPrograms {
    async fn list(&self, program: &str) -> Result<Vec<String>, HelperError> {
        let answer = self.run(program, "list", "unused").await?;
        let list: BTreeMap<String, String> =
            serde_json::from_slice(&answer).map_err(|_| HelperError::Garbled {
                program: program.to_owned(),
                action: "list",
            })?;
        Ok(list.into_keys().collect())
    }

    async fn get(
        &self,
        program: &str,
        registry: &str,
    ) -> Result<(String, SecretString), HelperError> {
        let answer = self.run(program, "get", registry).await?;
        let got: Got = serde_json::from_slice(&answer).map_err(|_| HelperError::Garbled {
            program: program.to_owned(),
            action: "get",
        })?;
        Ok((got.username, got.secret))
    }
}
