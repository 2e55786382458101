//! What the longer calls do, once they may.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use gantry_container::{ContainerSpec, EngineFlavor};
use tokio::sync::{mpsc, oneshot};

use super::{
    containers::Container,
    faults::Fault,
    files::{Files, Upload, join, read_archive},
    images::FakeImage,
    program::{ExecCommand, ExecRun, Output},
    streams::{FakeStdin, StdinSlot, output_stream},
    world::{FakeEngine, cut_off},
};
use crate::{EngineError, ExecStream, LogChunk, LogStream, RegistryAuth, VolumeState};

pub(super) fn not_found(what: &str, message: String) -> EngineError {
    EngineError::NotFound {
        what: what.to_owned(),
        message,
    }
}

pub(super) fn conflict(what: &str, message: String) -> EngineError {
    EngineError::Conflict {
        what: what.to_owned(),
        message,
    }
}

pub(super) fn no_container(what: &str, id: &str) -> EngineError {
    not_found(what, format!("No such container: {id}"))
}

impl FakeEngine {
    pub(super) fn create(
        &self,
        what: &str,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError> {
        let mut world = self.world();
        if let Some(index) = world.find(name) {
            let id = &world.containers[index].id;
            return Err(conflict(
                what,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". \
                     You have to remove (or rename) that container to be able to reuse that name."
                ),
            ));
        }
        let Some(image) = world.images.find(&spec.image) else {
            return Err(not_found(what, format!("No such image: {}", spec.image)));
        };
        let (image_id, image_env) = (image.info.id.clone(), image.info.env.clone());
        for bind in &spec.host.binds {
            // A volume that was not created before has no labels.
            let source = bind.split(':').next().unwrap_or_default();
            if !source.starts_with('/') && !world.volumes.contains_key(source) {
                let created = Some(world.clock.unix());
                let labels = gantry_container::Labels::new();
                let volume = VolumeState {
                    name: source.to_owned(),
                    labels,
                    created,
                };
                world.volumes.insert(source.to_owned(), volume);
            }
        }
        let (id, created) = (world.new_id(), world.clock.unix());
        let index = world.containers.len();
        let mut container = Container::new(id.clone(), name, spec, created, index);
        container.image_id = image_id;
        container.image_env = image_env;
        world.containers.push(container);
        Ok(id)
    }

    pub(super) fn upload(
        &self,
        what: &str,
        id: &str,
        path: &str,
        bytes: &[u8],
    ) -> Result<(), EngineError> {
        let mut world = self.world();
        let Some(index) = world.find(id) else {
            return Err(no_container(what, id));
        };
        let podman = world.facts.flavor == EngineFlavor::Podman;
        let container = &world.containers[index];
        let (id, name) = (container.id.clone(), container.name.clone());
        // Podman writes below the mount, into the container's own layer, unless the path is the mount itself.
        let lost = podman && path.trim_matches('/').is_empty();
        let binds = if lost {
            Vec::new()
        } else {
            container.spec.host.binds.clone()
        };
        let entries = read_archive(what, bytes)?;
        for entry in &entries {
            let (place, rest) = Files::resolve(&id, &binds, &join(path, &entry.path));
            // On Docker an entry for the upload's own path leaves it as it is (engine-mechanics §a).
            if !podman && entry.path.is_empty() {
                continue;
            }
            world
                .files
                .put(place, rest, entry.clone())
                .map_err(|message| EngineError::Failed {
                    what: what.to_owned(),
                    status: 500,
                    message,
                })?;
        }
        world.uploads.push(Upload {
            container: name,
            path: path.to_owned(),
            entries,
        });
        Ok(())
    }

    pub(super) fn run_exec(
        &self,
        what: &str,
        id: &str,
        command: &ExecCommand<'_>,
        fault: Option<&Fault>,
    ) -> Result<ExecStream, EngineError> {
        let mut world = self.world();
        let Some(index) = world.find(id) else {
            return Err(no_container(what, id));
        };
        let container = &world.containers[index];
        let Some(mut ended) = container.exec_end() else {
            return Err(conflict(what, format!("Container {id} is not running")));
        };
        let handler = world.handler_for(&container.name, &container.spec);
        let (name, container_id) = (container.name.clone(), container.id.clone());
        let exec_id = world.new_id();
        world.execs.insert(exec_id.clone(), None);
        let (sender, receiver) = mpsc::unbounded_channel();
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let slot: StdinSlot = Arc::new(std::sync::Mutex::new(Some(ours)));
        let stdin = Box::pin(FakeStdin::new(slot.clone(), fault, &sender));
        let sink = Arc::new(move |stream, bytes: Bytes| {
            drop(sender.send(Ok(LogChunk { stream, bytes })));
        });
        let future = (handler.0)(ExecRun {
            container: name,
            container_id,
            cmd: command.cmd.to_vec(),
            user: command.user.map(str::to_owned),
            terminal: command.terminal.cloned(),
            stdin: theirs,
            output: Output { sink },
        });
        let engine = self.clone();
        let exec = exec_id.clone();
        let connection = slot.clone();
        tokio::spawn(async move {
            let gone = engine.inner.gone.subscribe();
            let mut gone_once = gone;
            let mut future = future;
            let mut cut = false;
            let code = loop {
                tokio::select! {
                    _ = ended.changed() => break 137,
                    code = &mut future => break code,
                    _ = gone_once.changed(), if !cut => {
                        cut = true;
                        super::streams::close(&connection);
                    }
                }
            };
            engine.world().execs.insert(exec, Some(code));
        });
        let output = output_stream(receiver, Some(slot), fault);
        Ok(ExecStream {
            id: exec_id,
            stdin,
            output: self.until_gone(output),
        })
    }

    /// An output stream that breaks when the engine goes away.
    fn until_gone(&self, output: LogStream) -> LogStream {
        let gone = self.inner.gone.subscribe();
        let output = stream::unfold(Some((output, gone)), |state| async move {
            let (mut output, mut gone) = state?;
            tokio::select! {
                biased;
                item = output.next() => item.map(|item| (item, Some((output, gone)))),
                _ = gone.changed() => Some((Err(cut_off("exec")), None)),
            }
        });
        Box::pin(output.fuse())
    }

    /// Signals and waits; goes on by itself when the client leaves, as an engine does.
    pub(super) async fn stop(
        &self,
        what: &str,
        id: &str,
        grace: Duration,
    ) -> Result<(), EngineError> {
        let over = {
            let mut world = self.world();
            world.find(id).and_then(|index| {
                let container = &mut world.containers[index];
                let over = container.over();
                container.signal("TERM");
                over.map(|over| (over, container.id.clone(), container.runs))
            })
        };
        let Some((over, id, run)) = over else {
            return Ok(());
        };
        // The engine goes on with a stop whose client has left.
        let engine = self.clone();
        let (done, stopped) = oneshot::channel();
        tokio::spawn(async move {
            let mut over = over;
            if tokio::time::timeout(grace, &mut over).await.is_err() {
                {
                    let mut world = engine.world();
                    if let Some(index) = world.find(&id) {
                        let container = &mut world.containers[index];
                        if container.runs == run {
                            container.kill();
                        }
                    }
                }
                let _ = over.await;
            }
            let _ = done.send(());
        });
        tokio::select! {
            _ = stopped => Ok(()),
            () = self.away() => Err(cut_off(what)),
        }
    }

    /// Brings an image of the registry, if it has it and lets it go.
    pub(super) fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
    ) -> Result<(), EngineError> {
        let failed = |message: String| EngineError::Pull {
            image: reference.to_owned(),
            message,
        };
        let mut world = self.world();
        let refused = world.images.refused.get(reference).cloned();
        let offered = world
            .images
            .registry
            .iter()
            .rev()
            .find(|i| i.answers_to(reference))
            .cloned();
        match (refused, offered) {
            (Some(message), _) => Err(failed(message)),
            (None, None) => Err(failed(format!(
                "pull access denied for {reference}, repository does not exist or may require 'docker login': \
                     denied: requested access to the resource is denied"
            ))),
            (None, Some(image)) => {
                let allowed = image.auth.as_ref().is_none_or(|(username, password)| {
                    auth.is_some_and(|a| a.username == *username && a.password == *password)
                });
                if allowed {
                    world.images.add(FakeImage {
                        auth: None,
                        ..image
                    });
                    Ok(())
                } else {
                    Err(failed(format!(
                        "Head \"https://fake/v2/{reference}\": no basic auth credentials"
                    )))
                }
            }
        }
    }
}
