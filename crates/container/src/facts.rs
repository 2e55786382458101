use std::fmt;

use serde::{Deserialize, Serialize};

/// Which engine answers behind the API; some verbs behave differently (engine-mechanics §a, §c, §g).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineFlavor {
    /// Docker Engine (moby).
    Docker,
    /// Podman's Docker-compatible API.
    Podman,
}

/// What is asked of an engine once per connection; an input of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// Docker or Podman.
    pub flavor: EngineFlavor,
    /// The engine's own version, e.g. `20.10.24`.
    pub version: String,
    /// API version negotiated for this connection, e.g. `1.41`; it prefixes every request path.
    pub api_version: String,
    /// Operating system of containers: `linux`, `windows` or `freebsd`.
    pub os: String,
    /// Architecture as the engine names it, e.g. `x86_64`, `aarch64`.
    pub architecture: String,
    /// The engine's host name.
    pub host_name: String,
}

/// A container's state as inspect tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerStatus {
    /// Made, never started.
    Created,
    /// Its process runs (also `paused` and `restarting`).
    Running,
    /// Its process has ended (also `stopped`, `dead`).
    Exited,
    /// The engine is deleting it.
    Removing,
}

/// Answer of a container inspect, reduced to what decides.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Full container ID.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Lifecycle state.
    pub status: ContainerStatus,
    /// Exit code of the last run; meaningful when `status` is [`ContainerStatus::Exited`].
    pub exit_code: i64,
    /// Some process of the container was killed for memory during the last run (engine-mechanics §i).
    pub oom_killed: bool,
    /// The engine's error text of the last start, empty if none.
    pub error: String,
    /// RFC 3339 start time of the last run as the engine prints it; empty or year 1 when never started. Compared as text.
    pub started_at: String,
    /// RFC 3339 end time of the last run.
    pub finished_at: String,
    /// Image ID the container was made from.
    pub image_id: String,
    /// Labels of the container.
    pub labels: crate::Labels,
    /// Environment of the created container, the image's own included.
    pub env: Vec<String>,
    /// Network name → addresses (IPv4 and global IPv6, empty ones left out).
    pub addresses: std::collections::BTreeMap<String, Vec<String>>,
    /// Exposed TCP ports, ascending.
    pub tcp_ports: Vec<u16>,
}

impl ContainerState {
    /// The state of a container of which only this is known: it has no environment, no address and no port, and never failed.
    pub fn bare(id: &str, name: &str, status: ContainerStatus) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            status,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            started_at: String::new(),
            finished_at: String::new(),
            image_id: String::new(),
            labels: crate::Labels::new(),
            env: Vec::new(),
            addresses: std::collections::BTreeMap::new(),
            tcp_ports: Vec::new(),
        }
    }
}

// The environment holds secrets: keys only.
impl fmt::Debug for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |entry: &'_ String| {
            entry
                .split_once('=')
                .map_or(entry.len(), |(key, _)| key.len())
        };
        let keys: Vec<&str> = self.env.iter().map(|entry| &entry[..key(entry)]).collect();
        f.debug_struct("ContainerState")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("status", &self.status)
            .field("exit_code", &self.exit_code)
            .field("oom_killed", &self.oom_killed)
            .field("error", &self.error)
            .field("started_at", &self.started_at)
            .field("finished_at", &self.finished_at)
            .field("image_id", &self.image_id)
            .field("labels", &self.labels)
            .field("env", &keys)
            .field("addresses", &self.addresses)
            .field("tcp_ports", &self.tcp_ports)
            .finish()
    }
}

/// Answer of an image inspect, reduced to what decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// `sha256:…`.
    pub id: String,
    /// `name@sha256:…` entries, as the engine lists them.
    pub repo_digests: Vec<String>,
    /// Image's own entrypoint, empty if none.
    pub entrypoint: Vec<String>,
    /// Image's own command, empty if none.
    pub cmd: Vec<String>,
    /// Image's USER, empty if none.
    pub user: String,
    /// Image's environment, `K=V`.
    pub env: Vec<String>,
    /// Labels of the image.
    pub labels: crate::Labels,
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Architecture in image terms, e.g. `amd64`.
    pub architecture: String,
    /// Architecture variant, e.g. `v8`, empty if none.
    pub variant: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_shows_the_keys_of_its_environment_only() {
        let state = ContainerState {
            env: vec!["PASSWORD=hush=hush".to_owned(), "BARE".to_owned()],
            ..ContainerState::bare("0123", "run-build", ContainerStatus::Running)
        };
        let shown = format!("{state:?}");
        assert!(shown.contains(r#"env: ["PASSWORD", "BARE"]"#), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
