//! External secrets (coordinator-api §5, "Secret shapes").

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::lenient::{null_as_default as nil, object, optional_object};
use super::opaque::Opaque;

/// Where a secret comes from. Providers other than Vault are kept unread.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretSource {
    /// HashiCorp Vault, or OpenBao.
    #[serde(deserialize_with = "optional_object")]
    pub vault: Option<VaultSecret>,
    /// Google Cloud Secret Manager.
    #[serde(deserialize_with = "nil")]
    pub gcp_secret_manager: Opaque,
    /// Azure Key Vault.
    #[serde(deserialize_with = "nil")]
    pub azure_key_vault: Opaque,
    /// AWS Secrets Manager.
    #[serde(deserialize_with = "nil")]
    pub aws_secrets_manager: Opaque,
    /// GitLab Secrets Manager.
    #[serde(deserialize_with = "nil")]
    pub gitlab_secrets_manager: Opaque,
    /// Whether the variable is a file; absent means it is.
    pub file: Option<bool>,
}

/// A kind of server that keeps secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretProvider {
    /// HashiCorp Vault, or OpenBao.
    Vault,
    /// Google Cloud Secret Manager.
    GcpSecretManager,
    /// Azure Key Vault.
    AzureKeyVault,
    /// AWS Secrets Manager.
    AwsSecretsManager,
    /// GitLab Secrets Manager.
    GitlabSecretsManager,
}

impl fmt::Display for SecretProvider {
    /// The keyword of pipelines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vault => "vault",
            Self::GcpSecretManager => "gcp_secret_manager",
            Self::AzureKeyVault => "azure_key_vault",
            Self::AwsSecretsManager => "aws_secrets_manager",
            Self::GitlabSecretsManager => "gitlab_secrets_manager",
        })
    }
}

impl SecretSource {
    /// The provider that is asked; `None` where the entry names none that is known.
    pub fn provider(&self) -> Option<SecretProvider> {
        if self.vault.is_some() {
            return Some(SecretProvider::Vault);
        }
        [
            (&self.gcp_secret_manager, SecretProvider::GcpSecretManager),
            (&self.azure_key_vault, SecretProvider::AzureKeyVault),
            (&self.aws_secrets_manager, SecretProvider::AwsSecretsManager),
            (
                &self.gitlab_secrets_manager,
                SecretProvider::GitlabSecretsManager,
            ),
        ]
        .into_iter()
        .find(|(source, _)| !source.0.is_null())
        .map(|(_, provider)| provider)
    }
}

/// A field of a secret in Vault. All texts may hold references to variables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaultSecret {
    /// Where and as whom.
    #[serde(deserialize_with = "object")]
    pub server: VaultServer,
    /// The secrets engine.
    #[serde(deserialize_with = "object")]
    pub engine: VaultEngine,
    /// Path of the secret below the engine's.
    #[serde(deserialize_with = "nil")]
    pub path: String,
    /// Field of the secret.
    #[serde(deserialize_with = "nil")]
    pub field: String,
}

/// A Vault server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaultServer {
    /// Its URL.
    #[serde(deserialize_with = "nil")]
    pub url: String,
    /// Namespace; empty is the root.
    #[serde(deserialize_with = "nil")]
    pub namespace: String,
    /// The way to log in.
    #[serde(deserialize_with = "object")]
    pub auth: VaultAuth,
}

/// A way to log in to Vault.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaultAuth {
    /// Kind; only `jwt` is known.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Where it is mounted.
    #[serde(deserialize_with = "nil")]
    pub path: String,
    /// `jwt`, `role`, and what else a server sends.
    #[serde(deserialize_with = "nil")]
    pub data: BTreeMap<String, Opaque>,
}

/// A secrets engine of Vault.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaultEngine {
    /// Kind: `kv-v2`, `kv-v1` or `generic`.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Where it is mounted.
    #[serde(deserialize_with = "nil")]
    pub path: String,
}
