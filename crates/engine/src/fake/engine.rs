use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream};
use gantry_container::{
    ContainerSpec, ContainerState, ContainerStatus, EngineFacts, ImageInfo, NetworkSpec, VolumeSpec,
};
use tokio::{
    io::AsyncReadExt,
    sync::{mpsc, oneshot},
};

use super::{
    containers::Container,
    effects::{conflict, no_container, not_found},
    faults::{Fault, Verb},
    files::{Files, Place},
    images::FakeImage,
    program::ExecCommand,
    streams::{FakeStdin, log_entries, output_stream},
    world::{FakeEngine, Network, cut_off, matches},
};
use crate::{
    Archive, Attached, ContainerSummary, Engine, EngineError, EngineEvent, ExecStream, ListFilter,
    LogStream, NetworkState, PullProgress, RegistryAuth, TerminalCommand, VolumeState, WaitHandle,
};

/// Grace of a stop that names none, as engines have it.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

async fn read_all(what: &str, mut archive: Archive) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    match archive.read_to_end(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(EngineError::Setup(format!(
            "{what}: reading the archive: {error}"
        ))),
    }
}

fn labels_text(filter: &ListFilter) -> String {
    filter
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[async_trait]
impl Engine for FakeEngine {
    fn host(&self) -> &str {
        &self.inner.host
    }

    async fn ping(&self) -> Result<(), EngineError> {
        let entered = self.enter(Verb::Ping, "", "").await?;
        self.leave(entered, Ok(())).await
    }

    async fn time(&self) -> Result<i64, EngineError> {
        let entered = self.enter(Verb::Time, "", "").await?;
        let time = self.world().clock.unix();
        self.leave(entered, Ok(time)).await
    }

    async fn facts(&self) -> Result<EngineFacts, EngineError> {
        let entered = self.enter(Verb::Facts, "", "").await?;
        let facts = self.world().facts.clone();
        self.leave(entered, Ok(facts)).await
    }

    async fn image_inspect(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        let entered = self.enter(Verb::ImageInspect, reference, "").await?;
        let found = self
            .world()
            .images
            .find(reference)
            .map(|image| image.info.clone());
        self.leave(entered, Ok(found)).await
    }

    async fn image_pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        auth: Option<&RegistryAuth>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError> {
        let entered = self
            .enter(Verb::ImagePull, reference, platform.unwrap_or_default())
            .await?;
        let line = |status: &str, current| PullProgress {
            id: "layer".to_owned(),
            status: status.to_owned(),
            current,
            total: 1000,
        };
        let result = self.pull(reference, auth);
        if result.is_ok() {
            progress(line("Downloading", 500));
            tokio::task::yield_now().await;
            progress(line("Pull complete", 1000));
        }
        self.leave(entered, result).await
    }

    async fn image_load(&self, archive: Archive) -> Result<Vec<String>, EngineError> {
        let entered = self.enter(Verb::ImageLoad, "", "").await?;
        let bytes = read_all(&entered.what, archive).await?;
        let result = {
            let mut world = self.world();
            if bytes.is_empty() || world.images.loadable.is_empty() {
                Err(EngineError::Failed {
                    what: entered.what.clone(),
                    status: 500,
                    message: "Error processing tar file(exit status 1): unexpected EOF".to_owned(),
                })
            } else {
                let image = world.images.loadable.remove(0);
                let names = image.names.clone();
                world.images.add(image);
                Ok(names)
            }
        };
        self.leave(entered, result).await
    }

    async fn image_tag(&self, image: &str, repo: &str, tag: &str) -> Result<(), EngineError> {
        let entered = self
            .enter(Verb::ImageTag, image, &format!("{repo}:{tag}"))
            .await?;
        let result = {
            let mut world = self.world();
            match world.images.find(image).cloned() {
                None => Err(not_found(&entered.what, format!("No such image: {image}"))),
                Some(found) => {
                    let named = FakeImage {
                        names: Vec::new(),
                        ..found
                    }
                    .named(&format!("{repo}:{tag}"));
                    world.images.add(named);
                    Ok(())
                }
            }
        };
        self.leave(entered, result).await
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<VolumeState, EngineError> {
        let entered = self.enter(Verb::VolumeCreate, &spec.name, "").await?;
        let state = {
            let mut world = self.world();
            let created = Some(world.clock.unix());
            let new = || VolumeState {
                name: spec.name.clone(),
                labels: spec.labels.clone(),
                created,
            };
            world
                .volumes
                .entry(spec.name.clone())
                .or_insert_with(new)
                .clone()
        };
        self.leave(entered, Ok(state)).await
    }

    async fn volume_inspect(&self, name: &str) -> Result<Option<VolumeState>, EngineError> {
        let entered = self.enter(Verb::VolumeInspect, name, "").await?;
        let found = self.world().volumes.get(name).cloned();
        self.leave(entered, Ok(found)).await
    }

    async fn volume_list(&self, filter: &ListFilter) -> Result<Vec<VolumeState>, EngineError> {
        let entered = self
            .enter(Verb::VolumeList, "", &labels_text(filter))
            .await?;
        let found = {
            let world = self.world();
            let all = world.volumes.values();
            all.filter(|volume| matches(filter, &volume.name, &volume.labels))
                .cloned()
                .collect()
        };
        self.leave(entered, Ok(found)).await
    }

    async fn volume_remove(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let detail = if force { "force" } else { "" };
        let entered = self.enter(Verb::VolumeRemove, name, detail).await?;
        let result = {
            let mut world = self.world();
            let uses = |c: &&Container| {
                c.spec
                    .host
                    .binds
                    .iter()
                    .any(|bind| bind.split(':').next() == Some(name))
            };
            match world.containers.iter().find(uses).map(|c| c.id.clone()) {
                Some(id) if world.volumes.contains_key(name) => Err(conflict(
                    &entered.what,
                    format!("remove {name}: volume is in use - [{id}]"),
                )),
                _ => {
                    world.volumes.remove(name);
                    world.files.forget(&Place::Volume(name.to_owned()));
                    Ok(())
                }
            }
        };
        self.leave(entered, result).await
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        let entered = self.enter(Verb::NetworkCreate, &spec.name, "").await?;
        let id = {
            let mut world = self.world();
            let (id, created) = (world.new_id(), Some(world.clock.unix()));
            world.networks.push(Network {
                id: id.clone(),
                spec: spec.clone(),
                created,
            });
            id
        };
        self.leave(entered, Ok(id)).await
    }

    async fn network_inspect(&self, id: &str) -> Result<Option<NetworkState>, EngineError> {
        let entered = self.enter(Verb::NetworkInspect, id, "").await?;
        let found = {
            let world = self.world();
            let network = world.networks.iter().find(|network| network.id == id);
            let network = network.or_else(|| {
                world
                    .networks
                    .iter()
                    .find(|network| network.spec.name == id)
            });
            network.map(|network| NetworkState {
                containers: world.on_network(network),
                ..network_state(network)
            })
        };
        self.leave(entered, Ok(found)).await
    }

    async fn network_list(&self, filter: &ListFilter) -> Result<Vec<NetworkState>, EngineError> {
        let entered = self
            .enter(Verb::NetworkList, "", &labels_text(filter))
            .await?;
        let found = {
            let world = self.world();
            let fits = |n: &&Network| matches(filter, &n.spec.name, &n.spec.labels);
            world
                .networks
                .iter()
                .filter(fits)
                .map(network_state)
                .collect()
        };
        self.leave(entered, Ok(found)).await
    }

    async fn network_remove(&self, id: &str) -> Result<(), EngineError> {
        let entered = self.enter(Verb::NetworkRemove, id, "").await?;
        let result = {
            let mut world = self.world();
            let by_id = world.networks.iter().position(|network| network.id == id);
            let found = by_id.or_else(|| {
                world
                    .networks
                    .iter()
                    .position(|network| network.spec.name == id)
            });
            match found {
                None => Ok(()),
                Some(index) if world.on_network(&world.networks[index]).is_empty() => {
                    world.networks.remove(index);
                    Ok(())
                }
                Some(_) => Err(EngineError::Failed {
                    what: entered.what.clone(),
                    status: 403,
                    message: format!(
                        "error while removing network: network {id} has active endpoints"
                    ),
                }),
            }
        };
        self.leave(entered, result).await
    }

    async fn container_create(
        &self,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError> {
        let entered = self.enter(Verb::ContainerCreate, name, &spec.image).await?;
        let result = self.create(&entered.what, name, spec);
        self.leave(entered, result).await
    }

    async fn container_inspect(&self, id: &str) -> Result<Option<ContainerState>, EngineError> {
        let entered = self.enter(Verb::ContainerInspect, id, "").await?;
        let found = {
            let world = self.world();
            world.find(id).map(|index| world.containers[index].state())
        };
        self.leave(entered, Ok(found)).await
    }

    async fn container_start(&self, id: &str) -> Result<(), EngineError> {
        let entered = self.enter(Verb::ContainerStart, id, "").await?;
        let found = {
            let world = self.world();
            match world.find(id) {
                None => Err(no_container(&entered.what, id)),
                Some(index) => {
                    let container = &world.containers[index];
                    let known = |name: &&String| {
                        matches!(name.as_str(), "bridge" | "nat")
                            || world
                                .networks
                                .iter()
                                .any(|n| n.spec.name == **name || n.id == **name)
                    };
                    match container.networks().find(|name| !known(name)) {
                        Some(missing) => Err(not_found(
                            &entered.what,
                            format!("network {missing} not found"),
                        )),
                        None => Ok((index, container.running())),
                    }
                }
            }
        };
        let result = found.map(|(index, running)| {
            if !running {
                self.launch(index);
            }
        });
        self.leave(entered, result).await
    }

    async fn container_attach(&self, id: &str) -> Result<Attached, EngineError> {
        let entered = self.enter(Verb::ContainerAttach, id, "").await?;
        let result = {
            let mut world = self.world();
            match world.find(id) {
                None => Err(no_container(&entered.what, id)),
                Some(index) => {
                    let (sender, receiver, slot) = world.containers[index].attach();
                    let fault = entered.fault.as_ref();
                    let stdin = Box::pin(FakeStdin::new(slot.clone(), fault, &sender));
                    Ok(Attached {
                        stdin,
                        output: output_stream(receiver, Some(slot), fault),
                    })
                }
            }
        };
        self.leave(entered, result).await
    }

    async fn container_wait(&self, id: &str) -> Result<WaitHandle, EngineError> {
        let entered = self.enter(Verb::ContainerWait, id, "").await?;
        let what = entered.what.clone();
        let result = {
            let mut world = self.world();
            match world.find(id) {
                None => Err(no_container(&entered.what, id)),
                Some(index) => {
                    let (sender, receiver) = oneshot::channel();
                    world.containers[index].register_wait(sender);
                    let handle: WaitHandle =
                        Box::pin(
                            async move { receiver.await.unwrap_or_else(|_| Err(cut_off(&what))) },
                        );
                    Ok(handle)
                }
            }
        };
        self.leave(entered, result).await
    }

    async fn container_logs(&self, id: &str, follow: bool) -> Result<LogStream, EngineError> {
        let detail = if follow { "follow" } else { "" };
        let entered = self.enter(Verb::ContainerLogs, id, detail).await?;
        let result = {
            let mut world = self.world();
            match world.find(id) {
                None => Err(no_container(&entered.what, id)),
                Some(index) => {
                    let receiver = world.containers[index].replay(follow);
                    Ok(output_stream(receiver, None, entered.fault.as_ref()))
                }
            }
        };
        self.leave(entered, result).await
    }

    async fn container_log_entries(
        &self,
        id: &str,
        follow: bool,
    ) -> Result<LogStream, EngineError> {
        Ok(log_entries(self.container_logs(id, follow).await?))
    }

    async fn container_stop(&self, id: &str, grace: Option<Duration>) -> Result<(), EngineError> {
        let detail = grace
            .map(|grace| format!("{}s", grace.as_secs()))
            .unwrap_or_default();
        let entered = self.enter(Verb::ContainerStop, id, &detail).await?;
        let result = self
            .stop(&entered.what, id, grace.unwrap_or(DEFAULT_GRACE))
            .await;
        self.leave(entered, result).await
    }

    async fn container_kill(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let entered = self.enter(Verb::ContainerKill, id, signal).await?;
        let result = {
            let mut world = self.world();
            match world.find(id) {
                None => Ok(()),
                Some(index) if world.containers[index].running() => {
                    world.containers[index].signal(signal);
                    Ok(())
                }
                Some(_) => Err(conflict(
                    &entered.what,
                    format!("Cannot kill container: {id}: Container {id} is not running"),
                )),
            }
        };
        self.leave(entered, result).await
    }

    async fn container_remove(&self, id: &str) -> Result<(), EngineError> {
        let entered = self.enter(Verb::ContainerRemove, id, "").await?;
        {
            let mut world = self.world();
            if let Some(index) = world.find(id) {
                world.remove(index);
            }
        }
        self.leave(entered, Ok(())).await
    }

    async fn container_list(
        &self,
        filter: &ListFilter,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let entered = self
            .enter(Verb::ContainerList, "", &labels_text(filter))
            .await?;
        let found = {
            let world = self.world();
            let fits = |c: &&Container| matches(filter, &c.name, &c.spec.labels);
            let summary = |c: &Container| ContainerSummary {
                id: c.id.clone(),
                name: c.name.clone(),
                state: state_word(c.status).to_owned(),
                created: c.created,
                labels: c.spec.labels.clone(),
            };
            world.containers.iter().filter(fits).map(summary).collect()
        };
        self.leave(entered, Ok(found)).await
    }

    async fn archive_put(&self, id: &str, path: &str, archive: Archive) -> Result<(), EngineError> {
        let entered = self.enter(Verb::ArchivePut, id, path).await?;
        let bytes = read_all(&entered.what, archive).await?;
        let result = self.upload(&entered.what, id, path, &bytes);
        self.leave(entered, result).await
    }

    async fn archive_get(&self, id: &str, path: &str) -> Result<Option<Archive>, EngineError> {
        let entered = self.enter(Verb::ArchiveGet, id, path).await?;
        let found = {
            let world = self.world();
            world.find(id).and_then(|index| {
                let container = &world.containers[index];
                let (place, rest) = Files::resolve(&container.id, &container.spec.host.binds, path);
                world.files.archive(&place, &rest)
            })
        };
        let archive = found.map(|bytes| -> Archive { Box::pin(std::io::Cursor::new(bytes)) });
        self.leave(entered, Ok(archive)).await
    }

    async fn archive_mode(&self, id: &str, path: &str) -> Result<Option<u32>, EngineError> {
        let entered = self.enter(Verb::ArchiveMode, id, path).await?;
        let mode = {
            let world = self.world();
            world.find(id).and_then(|index| {
                let container = &world.containers[index];
                let (place, rest) = Files::resolve(&container.id, &container.spec.host.binds, path);
                world.files.mode(&place, &rest)
            })
        };
        self.leave(entered, Ok(mode)).await
    }

    async fn exec(
        &self,
        id: &str,
        cmd: &[String],
        user: Option<&str>,
    ) -> Result<ExecStream, EngineError> {
        let entered = self.enter(Verb::Exec, id, &cmd.join(" ")).await?;
        let fault = entered.fault.clone();
        let command = ExecCommand {
            cmd,
            user,
            terminal: None,
        };
        let result = self.run_exec(&entered.what, id, &command, fault.as_ref());
        self.leave(entered, result).await
    }

    async fn exec_terminal(
        &self,
        id: &str,
        command: &TerminalCommand,
    ) -> Result<ExecStream, EngineError> {
        let detail = command.cmd.join(" ");
        let entered = self.enter(Verb::ExecTerminal, id, &detail).await?;
        let fault = entered.fault.clone();
        let command = ExecCommand {
            cmd: &command.cmd,
            user: None,
            terminal: Some(command),
        };
        let result = self.run_exec(&entered.what, id, &command, fault.as_ref());
        self.leave(entered, result).await
    }

    async fn exec_exit_code(&self, exec_id: &str) -> Result<Option<i64>, EngineError> {
        let entered = self.enter(Verb::ExecExitCode, exec_id, "").await?;
        let found = self.world().execs.get(exec_id).copied();
        let missing = || not_found(&entered.what, format!("No such exec instance: {exec_id}"));
        let result = found.ok_or_else(missing);
        self.leave(entered, result).await
    }

    async fn events(
        &self,
        filter: &ListFilter,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<EngineEvent, EngineError>> + Send>>, EngineError>
    {
        let entered = self.enter(Verb::Events, "", &labels_text(filter)).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.world().listeners.push((filter.clone(), sender));
        let left = match entered.fault {
            Some(Fault::CutOutput(events)) => Some(events),
            _ => None,
        };
        let state = (receiver, left, false);
        let events = stream::unfold(state, |(mut receiver, left, over)| async move {
            if over {
                return None;
            }
            if left == Some(0) {
                return Some((Err(cut_off("events")), (receiver, None, true)));
            }
            let event: Result<EngineEvent, EngineError> = receiver.recv().await?;
            let over = event.is_err();
            Some((event, (receiver, left.map(|left| left - 1), over)))
        });
        self.leave(entered, Ok(Box::pin(events.fuse()) as _)).await
    }
}

fn network_state(network: &Network) -> NetworkState {
    NetworkState {
        id: network.id.clone(),
        name: network.spec.name.clone(),
        labels: network.spec.labels.clone(),
        created: network.created,
        containers: std::collections::BTreeMap::new(),
    }
}

fn state_word(status: ContainerStatus) -> &'static str {
    match status {
        ContainerStatus::Created => "created",
        ContainerStatus::Running => "running",
        ContainerStatus::Exited => "exited",
        ContainerStatus::Removing => "removing",
    }
}
