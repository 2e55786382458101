//! The tools volume: the helper binary, put once into a read-only volume named by its content (engine-mechanics §b).

use std::{collections::BTreeMap, io::Cursor, sync::Arc, time::Duration};

use gantry_container::{ContainerSpec, HostSpec, Labels, VolumeSpec};
use gantry_engine::{EngineError, SharedEngine};

/// Where the tools volume is mounted in helper containers.
pub const TOOLS_PATH: &str = "/opt/gantry";
/// Path of the helper program in helper containers.
pub const HELPER_PATH: &str = "/opt/gantry/gantry-helper";
/// Where scripts look for the peer's helper; ours is there, too, unless the image has something of that name.
pub(crate) const PEER_HELPER_PATH: &str = "/usr/bin/gitlab-runner-helper";
/// The volume is complete once it has this file; it is the last entry of the upload.
const MARKER: &str = "complete";
/// Label of tools volumes and their carriers; they belong to no job and no runner.
pub const TOOLS_LABEL: &str = "gantry.tools";
/// A carrier that has not finished in this time belongs to a dead runner.
const FILL_LIMIT: Duration = Duration::from_secs(60);

/// The helper program for one architecture.
#[derive(Clone)]
pub struct HelperBinary {
    /// Hash of the program, hex.
    pub hash: String,
    /// Gives the program; blocking (it may be unpacked), asked once per engine and version.
    pub read: Arc<dyn Fn() -> std::io::Result<Vec<u8>> + Send + Sync>,
}

impl HelperBinary {
    /// Name of the volume that holds this program.
    pub fn volume_name(&self) -> String {
        format!("gantry-tools-{}", &self.hash[..self.hash.len().min(16)])
    }
}

/// Makes sure that the tools volume of a created (not started) helper container is filled. `image` is any image at hand. With
/// `again` a dead process may have left its carrier.
pub(crate) async fn ensure(
    engine: &SharedEngine,
    helper_container: &str,
    image: &str,
    binary: &HelperBinary,
    again: bool,
) -> Result<(), EngineError> {
    let marker = format!("{TOOLS_PATH}/{MARKER}");
    let name = binary.volume_name();
    // The carrier's name is the lock: a volume in use must never be filled again.
    let carrier = format!("{name}-fill");
    let complete = || async {
        Ok::<_, EngineError>(
            engine
                .archive_mode(helper_container, &marker)
                .await?
                .is_some(),
        )
    };
    if complete().await? {
        if again {
            engine.container_remove(&carrier).await?;
        }
        return Ok(());
    }
    let labels = Labels::from([(TOOLS_LABEL.to_owned(), name.clone())]);
    let spec = ContainerSpec {
        image: image.to_owned(),
        entrypoint: Some(vec!["/none".to_owned()]),
        cmd: Some(vec!["/none".to_owned()]),
        labels,
        host: HostSpec {
            binds: vec![format!("{name}:{TOOLS_PATH}")],
            network_mode: "none".to_owned(),
            ..HostSpec::default()
        },
        ..ContainerSpec::default()
    };
    let give_up = tokio::time::Instant::now() + FILL_LIMIT;
    loop {
        match engine.container_create(&carrier, &spec).await {
            Ok(id) => {
                let filled = fill(engine, &id, &marker, binary).await;
                engine.container_remove(&id).await?;
                return filled;
            }
            Err(EngineError::Conflict { .. }) if tokio::time::Instant::now() < give_up => {
                if complete().await? {
                    // Its work is done; its owner may have died before it could remove it.
                    return engine.container_remove(&carrier).await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(EngineError::Conflict { .. }) => {
                tracing::warn!(container = carrier, "removing the carrier of a dead runner");
                engine.container_remove(&carrier).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn fill(
    engine: &SharedEngine,
    carrier: &str,
    marker: &str,
    binary: &HelperBinary,
) -> Result<(), EngineError> {
    // Somebody may have filled it between our look and our lock.
    if engine.archive_mode(carrier, marker).await?.is_some() {
        return Ok(());
    }
    let unpacked = |error: std::io::Error| EngineError::Garbled {
        what: "unpack the helper program".to_owned(),
        message: error.to_string(),
    };
    let read = Arc::clone(&binary.read);
    let bytes = tokio::task::spawn_blocking(move || read()).await;
    let bytes = bytes
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(unpacked)?;
    let mut builder = tar::Builder::new(Vec::with_capacity(bytes.len() + 4096));
    let mut add = |name: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes)
    };
    let archive = add("gantry-helper", 0o755, &bytes)
        .and_then(|()| add(MARKER, 0o644, binary.hash.as_bytes()))
        .and_then(|()| builder.into_inner());
    let archive = archive.map_err(unpacked)?;
    engine
        .archive_put(carrier, TOOLS_PATH, Box::pin(Cursor::new(archive)))
        .await
}

/// Create body of the tools volume.
pub(crate) fn volume(binary: &HelperBinary) -> VolumeSpec {
    VolumeSpec {
        name: binary.volume_name(),
        labels: Labels::from([(TOOLS_LABEL.to_owned(), binary.hash.clone())]),
        driver: String::new(),
        driver_opts: BTreeMap::new(),
    }
}
