use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use gantry_container::{ContainerSpec, ContainerState, ContainerStatus, EngineFlavor};
use tokio::{
    io::DuplexStream,
    sync::{mpsc, oneshot, watch},
};

use super::{
    files::{Files, Place},
    program::{Output, Run, Stdin},
    streams::{OutputReceiver, OutputSender, StdinSlot, close},
    world::{FakeEngine, WaitSender, World, cut_off},
};
use crate::{EngineError, EngineEvent, EventKind, LogChunk, StdStream, WaitResult};

/// A container of the fake.
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) spec: ContainerSpec,
    pub(super) image_id: String,
    pub(super) image_env: Vec<String>,
    pub(super) created: i64,
    pub(super) status: ContainerStatus,
    pub(super) exit_code: i64,
    pub(super) oom_killed: bool,
    /// The engine is at work on removing it.
    pub(super) being_removed: bool,
    pub(super) started_at: String,
    pub(super) finished_at: String,
    pub(super) runs: u32,
    pub(super) log: Vec<LogChunk>,
    /// Length of the log when the engine went away during this run.
    pub(super) away_mark: Option<usize>,
    pub(super) address: String,
    attached: Vec<OutputSender>,
    followers: Vec<OutputSender>,
    waiters: Vec<WaitSender>,
    stopping: Vec<oneshot::Sender<()>>,
    /// Stdins of attaches made before the start.
    early_stdin: Vec<DuplexStream>,
    slots: Vec<Weak<std::sync::Mutex<Option<DuplexStream>>>>,
    live: Option<Live>,
}

/// What exists only while the process runs.
struct Live {
    kill: Option<oneshot::Sender<()>>,
    signals: mpsc::UnboundedSender<String>,
    stdin: Option<mpsc::UnboundedSender<DuplexStream>>,
    /// Dropped at the end: execs end with it.
    ended: watch::Sender<()>,
}

impl Container {
    pub(super) fn new(
        id: String,
        name: &str,
        spec: &ContainerSpec,
        created: i64,
        index: usize,
    ) -> Self {
        Self {
            id,
            name: name.to_owned(),
            spec: spec.clone(),
            image_id: String::new(),
            image_env: Vec::new(),
            created,
            status: ContainerStatus::Created,
            exit_code: 0,
            oom_killed: false,
            being_removed: false,
            started_at: "0001-01-01T00:00:00Z".to_owned(),
            finished_at: "0001-01-01T00:00:00Z".to_owned(),
            runs: 0,
            log: Vec::new(),
            away_mark: None,
            address: format!("172.20.{}.{}", index / 250, index % 250 + 2),
            attached: Vec::new(),
            followers: Vec::new(),
            waiters: Vec::new(),
            stopping: Vec::new(),
            early_stdin: Vec::new(),
            slots: Vec::new(),
            live: None,
        }
    }

    /// Networks it joins: its mode unless that is none of its own, and its endpoints.
    pub(super) fn networks(&self) -> impl Iterator<Item = &String> {
        let mode = &self.spec.host.network_mode;
        let own = !matches!(mode.as_str(), "" | "none" | "host" | "default")
            && !mode.starts_with("container:");
        let endpoints = self.spec.endpoints.keys().filter(move |name| *name != mode);
        own.then_some(mode).into_iter().chain(endpoints)
    }

    pub(super) fn state(&self) -> ContainerState {
        let mut addresses = BTreeMap::new();
        if self.status == ContainerStatus::Running {
            let mode = self.spec.host.network_mode.as_str();
            if matches!(mode, "" | "default") {
                addresses.insert("bridge".to_owned(), vec![self.address.clone()]);
            }
            for network in self.networks() {
                addresses.insert(network.clone(), vec![self.address.clone()]);
            }
        }
        let own = self
            .spec
            .env
            .0
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let status = match self.status {
            ContainerStatus::Exited if self.being_removed => ContainerStatus::Removing,
            status => status,
        };
        ContainerState {
            exit_code: self.exit_code,
            oom_killed: self.oom_killed,
            started_at: self.started_at.clone(),
            finished_at: self.finished_at.clone(),
            image_id: self.image_id.clone(),
            labels: self.spec.labels.clone(),
            env: own.chain(self.image_env.iter().cloned()).collect(),
            addresses,
            ..ContainerState::bare(&self.id, &self.name, status)
        }
    }

    pub(super) fn running(&self) -> bool {
        self.status == ContainerStatus::Running
    }

    /// Opens an attach: what is written from now on, and the stdin slot.
    pub(super) fn attach(&mut self) -> (OutputSender, OutputReceiver, StdinSlot) {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.attached.push(sender.clone());
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let slot: StdinSlot = Arc::new(std::sync::Mutex::new(Some(ours)));
        self.slots.push(Arc::downgrade(&slot));
        match &self.live {
            // A run whose stdin is over takes no other: the stream is dropped and writes fail.
            Some(live) => {
                if let Some(stdin) = &live.stdin {
                    drop(stdin.send(theirs));
                }
            }
            None if self.spec.interactive => self.early_stdin.push(theirs),
            None => {}
        }
        (sender, receiver, slot)
    }

    /// The log so far; goes on while the container runs if `follow`.
    pub(super) fn replay(&mut self, follow: bool) -> OutputReceiver {
        let (sender, receiver) = mpsc::unbounded_channel();
        for chunk in &self.log {
            drop(sender.send(Ok(chunk.clone())));
        }
        if follow && self.running() {
            self.followers.push(sender);
        }
        receiver
    }

    pub(super) fn register_wait(&mut self, waiter: WaitSender) {
        self.waiters.push(waiter);
    }

    /// Resolves when the current run is over; `None` when nothing runs.
    pub(super) fn over(&mut self) -> Option<oneshot::Receiver<()>> {
        self.running().then(|| {
            let (sender, receiver) = oneshot::channel();
            self.stopping.push(sender);
            receiver
        })
    }

    pub(super) fn signal(&mut self, signal: &str) {
        let signal = signal.strip_prefix("SIG").unwrap_or(signal);
        if signal == "KILL" || signal == "9" {
            self.kill();
        } else if let Some(live) = &self.live {
            drop(live.signals.send(signal.to_owned()));
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(kill) = self.live.as_mut().and_then(|live| live.kill.take()) {
            let _ = kill.send(());
        }
    }

    /// Breaks everything that clients hold open; the log notes how far it was.
    pub(super) fn cut_clients(&mut self) {
        for sender in self.attached.drain(..).chain(self.followers.drain(..)) {
            drop(sender.send(Err(cut_off("output"))));
        }
        for waiter in self.waiters.drain(..) {
            drop(waiter.send(Err(cut_off("wait"))));
        }
        self.slots
            .drain(..)
            .filter_map(|slot| slot.upgrade())
            .for_each(|slot| close(&slot));
        if self.running() {
            self.away_mark = Some(self.log.len());
        }
    }

    /// Resolves when the current run ends, for execs.
    pub(super) fn exec_end(&self) -> Option<watch::Receiver<()>> {
        self.live.as_ref().map(|live| live.ended.subscribe())
    }

    fn write(&mut self, stream: StdStream, bytes: &Bytes) {
        let chunk = LogChunk {
            stream,
            bytes: bytes.clone(),
        };
        self.log.push(chunk.clone());
        let alive = |sender: &OutputSender| sender.send(Ok(chunk.clone())).is_ok();
        self.attached.retain(alive);
        self.followers.retain(alive);
    }
}

impl World {
    /// Takes a container away; a running one is killed first, its waits learn 137.
    pub(super) fn remove(&mut self, index: usize) {
        let id = self.containers[index].id.clone();
        if self.containers[index].running() {
            self.finish(&id, 137);
        }
        if let Some(index) = self.find(&id) {
            let container = self.containers.remove(index);
            self.files.forget(&Place::Layer(id.clone()));
            for waiter in container.waiters {
                drop(waiter.send(Err(EngineError::NotFound {
                    what: format!("wait for container {}", container.name),
                    message: format!("No such container: {}", container.name),
                })));
            }
            let event = EngineEvent {
                kind: EventKind::Destroy,
                container_id: id,
                container_name: container.name.clone(),
                exit_code: None,
            };
            self.emit(&container.spec.labels, &event);
        }
    }

    /// A run is over: output ends, then the event, then the waits.
    pub(super) fn finish(&mut self, id: &str, exit_code: i64) {
        let finished_at = self.clock.stamp();
        let Some(index) = self.find(id) else { return };
        let container = &mut self.containers[index];
        if !container.running() {
            return;
        }
        if let Some(mark) = container.away_mark.take() {
            container.log.truncate(mark);
        }
        container.kill();
        container.live = None;
        container.status = ContainerStatus::Exited;
        container.exit_code = exit_code;
        container.finished_at = finished_at;
        container.attached.clear();
        container.followers.clear();
        container.slots.clear();
        let waiters = std::mem::take(&mut container.waiters);
        container.stopping.clear();
        let event = EngineEvent {
            kind: EventKind::Die,
            container_id: container.id.clone(),
            container_name: container.name.clone(),
            exit_code: Some(exit_code),
        };
        let labels = container.spec.labels.clone();
        self.emit(&labels, &event);
        for waiter in waiters {
            drop(waiter.send(Ok(WaitResult { exit_code })));
        }
    }
}

impl FakeEngine {
    /// Starts a container that does not run.
    pub(super) fn launch(&self, index: usize) {
        let mut world = self.world();
        let started_at = world.clock.stamp();
        let podman_first =
            world.facts.flavor == EngineFlavor::Podman && world.containers[index].runs == 0;
        let program = {
            let container = &world.containers[index];
            world.program_for(&container.name, &container.spec)
        };
        if podman_first {
            for bind in world.containers[index].spec.host.binds.clone() {
                let destination = bind.split(':').nth(1).unwrap_or_default();
                let (place, _) = Files::resolve("", std::slice::from_ref(&bind), destination);
                world.files.reset_root(place);
            }
        }
        let container = &mut world.containers[index];
        let (kill, killed) = oneshot::channel::<()>();
        let (signals, signal_receiver) = mpsc::unbounded_channel();
        let (stdin, offered) = mpsc::unbounded_channel();
        for stream in container.early_stdin.drain(..) {
            drop(stdin.send(stream));
        }
        let stdin = container.spec.interactive.then_some(stdin);
        container.live = Some(Live {
            kill: Some(kill),
            signals,
            stdin,
            ended: watch::Sender::new(()),
        });
        container.runs += 1;
        container.status = ContainerStatus::Running;
        container.exit_code = 0;
        container.oom_killed = false;
        container.started_at = started_at;
        let (id, number) = (container.id.clone(), container.runs);
        let run = Run {
            name: container.name.clone(),
            id: id.clone(),
            number,
            spec: container.spec.clone(),
            stdin: Stdin {
                offered,
                current: None,
                ended: false,
            },
            output: self.output_of(id.clone(), number),
            signals: signal_receiver,
            oom: self.oom_of(id.clone(), number),
        };
        let future = (program.0)(run);
        let engine = self.clone();
        tokio::spawn(async move {
            let code = tokio::select! {
                biased;
                _ = killed => 137,
                code = future => code,
            };
            let mut world = engine.world();
            let current = world
                .find(&id)
                .is_some_and(|index| world.containers[index].runs == number);
            if current {
                world.finish(&id, code);
            }
        });
    }

    fn output_of(&self, id: String, number: u32) -> Output {
        let engine = self.clone();
        Output {
            sink: Arc::new(move |stream, bytes| {
                let mut world = engine.world();
                if let Some(index) = world.find(&id) {
                    let container = &mut world.containers[index];
                    if container.runs == number && container.running() {
                        container.write(stream, &bytes);
                    }
                }
            }),
        }
    }

    fn oom_of(&self, id: String, number: u32) -> Arc<dyn Fn() + Send + Sync> {
        let engine = self.clone();
        Arc::new(move || {
            let mut world = engine.world();
            let Some(index) = world.find(&id) else { return };
            let container = &mut world.containers[index];
            if container.runs != number || !container.running() {
                return;
            }
            container.oom_killed = true;
            let labels = container.spec.labels.clone();
            let event = EngineEvent {
                kind: EventKind::Oom,
                container_id: container.id.clone(),
                container_name: container.name.clone(),
                exit_code: None,
            };
            world.emit(&labels, &event);
        })
    }
}
