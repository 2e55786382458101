use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_container::{
    ContainerSpec, ContainerState, ContainerStatus, EngineFacts, EngineFlavor, Labels, NetworkSpec,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    clock::Clock,
    containers::Container,
    faults::{Call, Fault, Rule, Verb},
    files::{Files, Place, Upload, UploadedEntry},
    images::{FakeImage, Images},
    program::{ExecHandler, Program},
};
use crate::{EngineError, EngineEvent, ListFilter, SharedEngine, VolumeState};

/// The scripted engine; clones share one world.
#[derive(Clone)]
pub struct FakeEngine {
    pub(super) inner: Arc<Inner>,
}

/// How the engine goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// Containers live on (live-restore).
    ContainersLive,
    /// Containers are killed (137) as the engine goes.
    ContainersKilled,
}

/// A container as the fake knows it.
#[derive(Debug, Clone)]
pub struct FakeContainer {
    /// What it was created from.
    pub spec: ContainerSpec,
    /// What inspect says now.
    pub state: ContainerState,
    /// How often it was started.
    pub runs: u32,
    /// All stdout so far, as the log has it.
    pub stdout: Vec<u8>,
    /// All stderr so far, as the log has it.
    pub stderr: Vec<u8>,
}

pub(super) struct Inner {
    pub(super) host: String,
    pub(super) world: Mutex<World>,
    /// Counts how often the engine went away; hanging calls end when it changes.
    pub(super) gone: watch::Sender<u64>,
}

pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) facts: EngineFacts,
    pub(super) down: bool,
    pub(super) images: Images,
    pub(super) volumes: BTreeMap<String, VolumeState>,
    pub(super) networks: Vec<Network>,
    pub(super) containers: Vec<Container>,
    pub(super) execs: BTreeMap<String, Option<i64>>,
    pub(super) files: Files,
    pub(super) uploads: Vec<Upload>,
    pub(super) calls: Vec<Call>,
    pub(super) rules: Vec<Rule>,
    programs: Vec<(Matcher, Program)>,
    handlers: Vec<(Matcher, ExecHandler)>,
    pub(super) listeners: Vec<(
        ListFilter,
        mpsc::UnboundedSender<Result<EngineEvent, EngineError>>,
    )>,
    next_id: u64,
}

/// A network of the fake.
pub(super) struct Network {
    pub(super) id: String,
    pub(super) spec: NetworkSpec,
    pub(super) created: Option<i64>,
}

type Matcher = Box<dyn Fn(&str, &ContainerSpec) -> bool + Send>;

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// An engine as Docker 20.10 on linux/x86_64, empty: no images, no programs.
    pub fn new() -> Self {
        let facts = EngineFacts {
            flavor: EngineFlavor::Docker,
            version: "20.10.24".to_owned(),
            api_version: "1.41".to_owned(),
            os: "linux".to_owned(),
            architecture: "x86_64".to_owned(),
            host_name: "fake".to_owned(),
        };
        let world = World {
            clock: Clock::new(),
            facts,
            down: false,
            images: Images::default(),
            volumes: BTreeMap::new(),
            networks: Vec::new(),
            containers: Vec::new(),
            execs: BTreeMap::new(),
            files: Files::default(),
            uploads: Vec::new(),
            calls: Vec::new(),
            rules: Vec::new(),
            programs: Vec::new(),
            handlers: Vec::new(),
            listeners: Vec::new(),
            next_id: 1,
        };
        Self {
            inner: Arc::new(Inner {
                host: "fake:///engine".to_owned(),
                world: Mutex::new(world),
                gone: watch::Sender::new(0),
            }),
        }
    }

    /// As a trait object.
    pub fn shared(&self) -> SharedEngine {
        Arc::new(self.clone())
    }

    /// Changes the facts, e.g. to play Podman.
    pub fn set_facts(&self, change: impl FnOnce(&mut EngineFacts)) {
        change(&mut self.world().facts);
    }

    /// Adds a local image.
    pub fn add_image(&self, image: FakeImage) {
        self.world().images.add(image);
    }

    /// Removes a local image by any of its names.
    pub fn remove_image(&self, reference: &str) {
        self.world()
            .images
            .local
            .retain(|image| !image.answers_to(reference));
    }

    /// Offers an image for pulls. A pull of anything else fails as Docker says it.
    pub fn add_registry_image(&self, image: FakeImage) {
        self.world().images.registry.push(image);
    }

    /// Makes pulls of this reference fail with this message, until called with an empty one.
    pub fn refuse_pull(&self, reference: &str, message: &str) {
        let mut world = self.world();
        if message.is_empty() {
            world.images.refused.remove(reference);
        } else {
            world
                .images
                .refused
                .insert(reference.to_owned(), message.to_owned());
        }
    }

    /// What the next `image_load` calls add and return, one each.
    pub fn add_loadable_image(&self, image: FakeImage) {
        self.world().images.loadable.push(image);
    }

    /// Containers whose name contains this text run that program; later calls win. Without a program an interactive container
    /// reads its stdin and exits 0, any other runs until it is signalled.
    pub fn on_name(&self, part: &str, program: Program) {
        let part = part.to_owned();
        self.on(move |name, _| name.contains(&part), program);
    }

    /// Containers that the closure picks by name and spec run that program; later calls win.
    pub fn on(
        &self,
        pick: impl Fn(&str, &ContainerSpec) -> bool + Send + 'static,
        program: Program,
    ) {
        self.world().programs.push((Box::new(pick), program));
    }

    /// Execs in containers whose name contains this text go to that handler; later calls win. Without one an exec exits 127.
    pub fn on_exec(&self, part: &str, handler: ExecHandler) {
        let part = part.to_owned();
        self.world()
            .handlers
            .push((Box::new(move |name, _| name.contains(&part)), handler));
    }

    /// The nth call of this verb from now on (from 1) meets this fault, once.
    pub fn fault(&self, verb: Verb, nth: u32, fault: Fault) {
        self.fault_on(verb, "", nth, 1, fault);
    }

    /// As [`Self::fault`], only for calls whose subject contains `subject` ("" = all), for `times` calls (`u32::MAX`: for good).
    pub fn fault_on(&self, verb: Verb, subject: &str, nth: u32, times: u32, fault: Fault) {
        self.world().rules.push(Rule {
            verb,
            subject: subject.to_owned(),
            nth: nth.max(1),
            times,
            seen: 0,
            fault,
        });
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.world().rules.clear();
    }

    /// The engine goes away: open streams break, calls fail as unreachable. Output of containers that end before
    /// [`Self::come_up`] is lost from here on (engine-mechanics §h).
    pub fn go_down(&self, down: Down) {
        self.world().go_down(down);
        self.inner.gone.send_modify(|count| *count += 1);
    }

    /// The engine is back.
    pub fn come_up(&self) {
        self.world().come_up();
    }

    /// All calls so far, in the order they came in.
    pub fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }

    /// Calls of one verb.
    pub fn calls_of(&self, verb: Verb) -> Vec<Call> {
        self.world()
            .calls
            .iter()
            .filter(|call| call.verb == verb)
            .cloned()
            .collect()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.world().calls.clear();
    }

    /// All archive uploads that had their effect.
    pub fn uploads(&self) -> Vec<Upload> {
        self.world().uploads.clone()
    }

    /// An uploaded file or directory of a volume, e.g. `("tools", "complete")`; the root is `""`.
    pub fn volume_entry(&self, volume: &str, path: &str) -> Option<UploadedEntry> {
        self.world()
            .files
            .entry(&Place::Volume(volume.to_owned()), path)
            .cloned()
    }

    /// A program in the container whose name ends so writes a file.
    pub fn write_file(&self, container: &str, path: &str, content: &[u8]) {
        let mut world = self.world();
        let mut all = world.containers.iter();
        let Some(container) = all.find(|one| one.name.ends_with(container)) else {
            return;
        };
        let (place, rest) = Files::resolve(&container.id, &container.spec.host.binds, path);
        let entry = UploadedEntry {
            path: rest.clone(),
            directory: false,
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: content.to_vec().into(),
        };
        // A directory in its place is the test's own mistake.
        world.files.put(place, rest, entry).ok();
    }

    /// Names of the volumes.
    pub fn volumes(&self) -> Vec<String> {
        self.world().volumes.keys().cloned().collect()
    }

    /// A container by name or ID.
    pub fn container(&self, name: &str) -> Option<FakeContainer> {
        let mut world = self.world();
        let index = world.find(name)?;
        Some(world.view(index))
    }

    /// All containers, oldest first.
    pub fn containers(&self) -> Vec<FakeContainer> {
        let mut world = self.world();
        (0..world.containers.len())
            .map(|index| world.view(index))
            .collect()
    }

    /// Ends a running container from outside, as an operator's `docker kill` would.
    pub fn kill_container(&self, name: &str) {
        let mut world = self.world();
        if let Some(index) = world.find(name) {
            world.containers[index].kill();
        }
    }

    /// Removes a container behind everyone's back.
    pub fn vanish_container(&self, name: &str) {
        let mut world = self.world();
        if let Some(index) = world.find(name) {
            world.remove(index);
        }
    }

    /// Begins to remove a container from outside, as an operator's `docker rm --force` would: it is killed, and still there.
    pub fn begin_removal(&self, name: &str) {
        let mut world = self.world();
        if let Some(index) = world.find(name) {
            world.containers[index].being_removed = true;
            world.containers[index].kill();
        }
    }

    /// Containers, volumes and networks that match, as `container NAME`, `volume NAME`, `network NAME`.
    pub fn left(&self, filter: &ListFilter) -> Vec<String> {
        let world = self.world();
        let mut left = Vec::new();
        for container in &world.containers {
            if matches(filter, &container.name, &container.spec.labels) {
                left.push(format!("container {}", container.name));
            }
        }
        for volume in world.volumes.values() {
            if matches(filter, &volume.name, &volume.labels) {
                left.push(format!("volume {}", volume.name));
            }
        }
        for network in &world.networks {
            if matches(filter, &network.spec.name, &network.spec.labels) {
                left.push(format!("network {}", network.spec.name));
            }
        }
        left
    }

    /// Panics, naming what is left, unless nothing matches. The default filter matches everything.
    #[track_caller]
    pub fn assert_nothing_left(&self, filter: &ListFilter) {
        let left = self.left(filter);
        assert!(left.is_empty(), "left on the engine: {}", left.join(", "));
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.inner
            .world
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    pub(super) fn new_id(&mut self) -> String {
        let id = self.next_id;
        self.next_id += 1;
        // Differs within the first 12 characters, which is what a short ID shows.
        format!("{id:012x}{id:052x}")
    }

    pub(super) fn find(&self, id: &str) -> Option<usize> {
        let by_name = |c: &Container| c.id == id || c.name == id;
        let by_prefix = |c: &Container| id.len() >= 12 && c.id.starts_with(id);
        let all = &self.containers;
        all.iter()
            .position(by_name)
            .or_else(|| all.iter().position(by_prefix))
    }

    /// A container's name for its ID; anything else as it is.
    pub(super) fn name_of(&self, id: &str) -> String {
        if let Some(index) = self.find(id) {
            return self.containers[index].name.clone();
        }
        match self.networks.iter().find(|network| network.id == id) {
            Some(network) => network.spec.name.clone(),
            None => id.to_owned(),
        }
    }

    pub(super) fn program_for(&self, name: &str, spec: &ContainerSpec) -> Program {
        let mut programs = self.programs.iter().rev();
        match programs.find(|(pick, _)| pick(name, spec)) {
            Some((_, program)) => program.clone(),
            None if spec.interactive => Program::exit(0),
            None => Program::serve(),
        }
    }

    pub(super) fn handler_for(&self, name: &str, spec: &ContainerSpec) -> ExecHandler {
        let mut handlers = self.handlers.iter().rev();
        match handlers.find(|(pick, _)| pick(name, spec)) {
            Some((_, handler)) => handler.clone(),
            None => ExecHandler::new(|run| {
                run.stderr("no exec handler for this container\n");
                async { 127 }
            }),
        }
    }

    pub(super) fn view(&mut self, index: usize) -> FakeContainer {
        let container = &self.containers[index];
        let collect = |wanted| {
            let chunks = container.log.iter().filter(|chunk| chunk.stream == wanted);
            chunks
                .flat_map(|chunk| chunk.bytes.to_vec())
                .collect::<Vec<u8>>()
        };
        FakeContainer {
            spec: container.spec.clone(),
            state: container.state(),
            runs: container.runs,
            stdout: collect(crate::StdStream::Stdout),
            stderr: collect(crate::StdStream::Stderr),
        }
    }

    pub(super) fn go_down(&mut self, down: Down) {
        self.down = true;
        self.listeners.drain(..).for_each(|(_, listener)| {
            drop(listener.send(Err(cut_off("events"))));
        });
        for container in &mut self.containers {
            container.cut_clients();
            if down == Down::ContainersKilled {
                container.kill();
            }
        }
    }

    pub(super) fn come_up(&mut self) {
        self.down = false;
        for container in &mut self.containers {
            container.away_mark = None;
        }
    }

    /// Sends an event to everyone who listens for it.
    pub(super) fn emit(&mut self, labels: &Labels, event: &EngineEvent) {
        self.listeners.retain(|(filter, listener)| {
            !matches(filter, &event.container_name, labels)
                || listener.send(Ok(event.clone())).is_ok()
        });
    }

    /// Names of running containers on a network, by ID.
    pub(super) fn on_network(&self, network: &Network) -> BTreeMap<String, String> {
        let on = |c: &&Container| {
            c.status == ContainerStatus::Running
                && c.networks()
                    .any(|name| *name == network.spec.name || *name == network.id)
        };
        self.containers
            .iter()
            .filter(on)
            .map(|c| (c.id.clone(), c.name.clone()))
            .collect()
    }
}

/// All labels match; an empty value matches any. The name, if asked for, is a part of the object's, as in an engine.
pub(super) fn matches(filter: &ListFilter, name: &str, labels: &Labels) -> bool {
    filter
        .name
        .as_ref()
        .is_none_or(|wanted| name.contains(wanted.as_str()))
        && filter.labels.iter().all(|(key, value)| {
            labels
                .get(key)
                .is_some_and(|found| value.is_empty() || found == value)
        })
}

/// The error of a lost connection.
pub(super) fn cut_off(what: &str) -> EngineError {
    EngineError::Unreachable {
        what: what.to_owned(),
        host: "fake:///engine".to_owned(),
        message: "connection reset by the fake engine".to_owned(),
    }
}

/// A call between its record and its answer.
pub(super) struct Entered {
    pub(super) what: String,
    pub(super) fault: Option<Fault>,
}

impl FakeEngine {
    /// Records the call and plays faults that come before its effect.
    pub(super) async fn enter(
        &self,
        verb: Verb,
        subject: &str,
        detail: &str,
    ) -> Result<Entered, EngineError> {
        tokio::task::yield_now().await;
        let (what, fault, down) = {
            let mut world = self.world();
            let subject = world.name_of(subject);
            let what = format!("{verb:?} {subject}");
            world.calls.push(Call {
                verb,
                subject: subject.clone(),
                detail: detail.to_owned(),
            });
            let mut fault = None;
            for rule in &mut world.rules {
                fault = rule.strike(verb, &subject).or(fault);
            }
            (what, fault, world.down)
        };
        if down {
            return Err(cut_off(&what));
        }
        match fault {
            Some(Fault::Error(error)) => Err(error),
            Some(Fault::Hang) => Err(self.hang(&what).await),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                let down = self.world().down;
                if down {
                    Err(cut_off(&what))
                } else {
                    Ok(Entered { what, fault: None })
                }
            }
            fault => Ok(Entered { what, fault }),
        }
    }

    /// Plays faults that come after a call's effect.
    pub(super) async fn leave<T>(
        &self,
        entered: Entered,
        result: Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        match entered.fault {
            Some(Fault::EffectThenLost) => Err(cut_off(&entered.what)),
            Some(Fault::EffectThenHang) => Err(self.hang(&entered.what).await),
            Some(Fault::EffectThenDown) => {
                self.go_down(Down::ContainersLive);
                Err(cut_off(&entered.what))
            }
            _ => result,
        }
    }

    /// Waits until the engine goes away: only that ends the connection of a call that gets no answer.
    async fn hang(&self, what: &str) -> EngineError {
        let mut gone = self.inner.gone.subscribe();
        let _ = gone.changed().await;
        cut_off(what)
    }

    /// Resolves when the engine goes away.
    pub(super) async fn away(&self) {
        let mut gone = self.inner.gone.subscribe();
        let _ = gone.changed().await;
    }
}

/// Receiver of a `wait`.
pub(super) type WaitSender = oneshot::Sender<Result<crate::WaitResult, EngineError>>;
