//! What is read of an engine's answers: only the fields used, tolerant of absent and null ones.

use std::collections::BTreeMap;

use gantry_container::{ContainerState, ContainerStatus, ImageInfo, Labels};
use serde::{Deserialize, Deserializer};

use crate::{ContainerSummary, NetworkState, PullProgress, VolumeState};

fn null<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
pub(super) struct ErrorMessage {
    #[serde(default, deserialize_with = "null")]
    pub(super) message: String,
}

#[derive(Deserialize)]
pub(super) struct Created {
    #[serde(rename = "Id")]
    pub(super) id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Version {
    #[serde(deserialize_with = "null")]
    pub(super) version: String,
    #[serde(deserialize_with = "null")]
    pub(super) api_version: String,
    #[serde(deserialize_with = "null")]
    pub(super) components: Vec<Component>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Component {
    #[serde(deserialize_with = "null")]
    pub(super) name: String,
    #[serde(deserialize_with = "null")]
    pub(super) version: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Info {
    #[serde(rename = "OSType", deserialize_with = "null")]
    pub(super) os_type: String,
    #[serde(deserialize_with = "null")]
    pub(super) architecture: String,
    #[serde(deserialize_with = "null")]
    pub(super) name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Image {
    #[serde(deserialize_with = "null")]
    id: String,
    #[serde(deserialize_with = "null")]
    repo_digests: Vec<String>,
    #[serde(deserialize_with = "null")]
    config: ImageConfig,
    #[serde(deserialize_with = "null")]
    os: String,
    #[serde(deserialize_with = "null")]
    architecture: String,
    #[serde(deserialize_with = "null")]
    variant: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ImageConfig {
    #[serde(deserialize_with = "null")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null")]
    user: String,
    #[serde(deserialize_with = "null")]
    env: Vec<String>,
    #[serde(deserialize_with = "null")]
    labels: Labels,
}

impl From<Image> for ImageInfo {
    fn from(image: Image) -> Self {
        // Podman's compatible API leaves the algorithm out in places.
        let bare = image.id.len() == 64 && !image.id.contains(':');
        Self {
            id: if bare {
                format!("sha256:{}", image.id)
            } else {
                image.id
            },
            repo_digests: image.repo_digests,
            entrypoint: image.config.entrypoint,
            cmd: image.config.cmd,
            user: image.config.user,
            env: image.config.env,
            labels: image.config.labels,
            os: image.os,
            architecture: image.architecture,
            variant: image.variant,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Container {
    #[serde(deserialize_with = "null")]
    id: String,
    #[serde(deserialize_with = "null")]
    name: String,
    #[serde(deserialize_with = "null")]
    image: String,
    #[serde(deserialize_with = "null")]
    state: State,
    #[serde(deserialize_with = "null")]
    pub(super) config: ContainerConfig,
    #[serde(deserialize_with = "null")]
    pub(super) host_config: HostConfig,
    #[serde(deserialize_with = "null")]
    network_settings: NetworkSettings,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    #[serde(deserialize_with = "null")]
    status: String,
    #[serde(deserialize_with = "null")]
    exit_code: i64,
    #[serde(rename = "OOMKilled", deserialize_with = "null")]
    oom_killed: bool,
    #[serde(deserialize_with = "null")]
    error: String,
    #[serde(deserialize_with = "null")]
    started_at: String,
    #[serde(deserialize_with = "null")]
    finished_at: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ContainerConfig {
    #[serde(deserialize_with = "null")]
    labels: Labels,
    #[serde(deserialize_with = "null")]
    env: Vec<String>,
    #[serde(deserialize_with = "null")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null")]
    pub(super) tty: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    #[serde(deserialize_with = "null")]
    pub(super) log_config: LogConfig,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct LogConfig {
    #[serde(rename = "Type", deserialize_with = "null")]
    pub(super) driver: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    #[serde(deserialize_with = "null")]
    networks: BTreeMap<String, Option<EndpointSettings>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EndpointSettings {
    #[serde(rename = "IPAddress", deserialize_with = "null")]
    ip_address: String,
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "null")]
    global_ipv6_address: String,
}

impl Container {
    /// The engine's own word for the state.
    pub(super) fn status(&self) -> &str {
        &self.state.status
    }

    /// The state; the engine's own word when it is none that is known.
    pub(super) fn into_state(self) -> Result<ContainerState, String> {
        let status = match self.state.status.as_str() {
            "created" | "configured" | "initialized" => ContainerStatus::Created,
            "running" | "paused" | "restarting" | "stopping" => ContainerStatus::Running,
            "exited" | "dead" | "stopped" => ContainerStatus::Exited,
            "removing" => ContainerStatus::Removing,
            other => return Err(format!("container state {other:?} is not known")),
        };
        let mut addresses = BTreeMap::new();
        for (network, endpoint) in self.network_settings.networks {
            let endpoint = endpoint.unwrap_or_default();
            let found = [endpoint.ip_address, endpoint.global_ipv6_address];
            let found: Vec<String> = found.into_iter().filter(|text| !text.is_empty()).collect();
            if !found.is_empty() {
                addresses.insert(network, found);
            }
        }
        let ports = self.config.exposed_ports.keys();
        let mut tcp_ports: Vec<u16> = ports
            .filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok())
            .collect();
        tcp_ports.sort_unstable();
        Ok(ContainerState {
            id: self.id,
            name: self.name.trim_start_matches('/').to_owned(),
            status,
            exit_code: self.state.exit_code,
            oom_killed: self.state.oom_killed,
            error: self.state.error,
            started_at: self.state.started_at,
            finished_at: self.state.finished_at,
            image_id: self.image,
            labels: self.config.labels,
            env: self.config.env,
            addresses,
            tcp_ports,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Summary {
    #[serde(deserialize_with = "null")]
    id: String,
    #[serde(deserialize_with = "null")]
    names: Vec<String>,
    #[serde(deserialize_with = "null")]
    state: String,
    #[serde(deserialize_with = "null")]
    created: i64,
    #[serde(deserialize_with = "null")]
    labels: Labels,
}

impl From<Summary> for ContainerSummary {
    fn from(summary: Summary) -> Self {
        // Names of links from other containers hold a second slash.
        let own = summary
            .names
            .iter()
            .map(|name| name.trim_start_matches('/'));
        let name = own
            .clone()
            .find(|name| !name.contains('/'))
            .or_else(|| own.clone().next());
        Self {
            name: name.unwrap_or_default().to_owned(),
            id: summary.id,
            // Podman's word for an end that is not cleaned up yet.
            state: if summary.state == "stopped" {
                "exited".to_owned()
            } else {
                summary.state
            },
            created: summary.created,
            labels: summary.labels,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Volumes {
    #[serde(deserialize_with = "null")]
    pub(super) volumes: Vec<Volume>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Volume {
    #[serde(deserialize_with = "null")]
    name: String,
    #[serde(deserialize_with = "null")]
    labels: Labels,
    #[serde(deserialize_with = "null")]
    created_at: String,
}

impl From<Volume> for VolumeState {
    fn from(volume: Volume) -> Self {
        Self {
            name: volume.name,
            labels: volume.labels,
            created: unix_seconds(&volume.created_at),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Network {
    #[serde(deserialize_with = "null")]
    id: String,
    #[serde(deserialize_with = "null")]
    name: String,
    #[serde(deserialize_with = "null")]
    labels: Labels,
    #[serde(deserialize_with = "null")]
    created: String,
    #[serde(deserialize_with = "null")]
    containers: BTreeMap<String, Option<Member>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Member {
    #[serde(deserialize_with = "null")]
    name: String,
}

impl From<Network> for NetworkState {
    fn from(network: Network) -> Self {
        let members = network.containers.into_iter();
        Self {
            id: network.id,
            name: network.name,
            labels: network.labels,
            created: unix_seconds(&network.created),
            containers: members
                .map(|(id, m)| (id, m.unwrap_or_default().name))
                .collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Waited {
    pub(super) status_code: Option<i64>,
    #[serde(deserialize_with = "null")]
    pub(super) error: WaitError,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WaitError {
    #[serde(deserialize_with = "null")]
    pub(super) message: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ExecState {
    #[serde(deserialize_with = "null")]
    pub(super) running: bool,
    #[serde(deserialize_with = "null")]
    pub(super) exit_code: i64,
}

/// `X-Docker-Container-Path-Stat`.
#[derive(Deserialize)]
pub(super) struct PathStat {
    pub(super) mode: u32,
}

impl PathStat {
    /// Unix mode bits of Go's `os.FileMode`, which keeps setuid, setgid and sticky in high bits.
    pub(super) fn unix_mode(&self) -> u32 {
        let special = [(23, 0o4000), (22, 0o2000), (20, 0o1000)];
        let bits = special
            .iter()
            .filter(|(bit, _)| self.mode & (1 << bit) != 0);
        (self.mode & 0o777) | bits.map(|(_, unix)| unix).sum::<u32>()
    }
}

/// One line of a pull or load.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ProgressLine {
    #[serde(deserialize_with = "null")]
    id: String,
    #[serde(deserialize_with = "null")]
    status: String,
    #[serde(deserialize_with = "null")]
    pub(super) stream: String,
    #[serde(deserialize_with = "null")]
    pub(super) error: String,
    #[serde(rename = "errorDetail", deserialize_with = "null")]
    detail: ErrorDetail,
    #[serde(rename = "progressDetail", deserialize_with = "null")]
    progress: ProgressDetail,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorDetail {
    #[serde(deserialize_with = "null")]
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ProgressDetail {
    #[serde(deserialize_with = "null")]
    current: i64,
    #[serde(deserialize_with = "null")]
    total: i64,
}

impl ProgressLine {
    /// The error this line reports.
    pub(super) fn failure(&mut self) -> Option<String> {
        let detail = std::mem::take(&mut self.detail.message);
        let message = if detail.is_empty() {
            std::mem::take(&mut self.error)
        } else {
            detail
        };
        (!message.is_empty()).then_some(message)
    }

    pub(super) fn into_progress(self) -> PullProgress {
        PullProgress {
            id: self.id,
            status: self.status,
            current: u64::try_from(self.progress.current).unwrap_or(0),
            total: u64::try_from(self.progress.total).unwrap_or(0),
        }
    }
}

/// One line of the event stream.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "Type", deserialize_with = "null")]
    pub(super) kind: String,
    #[serde(rename = "Action", deserialize_with = "null")]
    pub(super) action: String,
    #[serde(rename = "Actor", deserialize_with = "null")]
    pub(super) actor: Actor,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Actor {
    #[serde(rename = "ID", deserialize_with = "null")]
    pub(super) id: String,
    #[serde(rename = "Attributes", deserialize_with = "null")]
    pub(super) attributes: BTreeMap<String, String>,
}

/// A time as engines print it (RFC 3339, any offset) in unix seconds; `None` for what is none.
fn unix_seconds(time: &str) -> Option<i64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::unix_seconds;

    #[rstest]
    #[case::volume("2025-11-28T20:13:04Z", Some(1_764_360_784))]
    #[case::network("2025-11-28T21:13:04.123456789+01:00", Some(1_764_360_784))]
    #[case::never("0001-01-01T00:00:00Z", Some(-62_135_596_800))]
    #[case::unsaid("", None)]
    #[case::nonsense("yesterday", None)]
    fn times_of_creation_are_read_as_engines_print_them(
        #[case] text: &str,
        #[case] seconds: Option<i64>,
    ) {
        assert_eq!(unix_seconds(text), seconds);
    }
}
