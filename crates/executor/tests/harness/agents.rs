use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gantry_agent::{
    Decoder, Offsets, StageRequest, StageState, Stream, ToAgent, ToRunner, Welcome, encode,
    negotiate,
};
use gantry_engine::{
    StdStream,
    fake::{ExecHandler, ExecRun, Output, Program},
};
use tokio::{
    io::AsyncReadExt,
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use super::work::{OnTerm, Piece, Work, World};

/// All helper agents of a job: one per helper container that runs. An agent keeps stages and their output as long as its container
/// lives, whatever becomes of connections; what was acknowledged is gone for good.
#[derive(Clone)]
pub(crate) struct Agents {
    world: World,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Stage attempt (`get_sources/2`) or stage (`get_sources`) → what it does.
    work: BTreeMap<String, Work>,
    alive: HashMap<String, Arc<Agent>>,
    begun: Vec<String>,
    asked: Vec<StageRequest>,
    connections: u32,
    /// Connectors join nothing.
    mute: bool,
}

struct Agent {
    stages: Mutex<HashMap<String, Arc<StageRun>>>,
    /// The connection that is served: generation, and a number that grows.
    served: watch::Sender<(u64, u64)>,
    start: mpsc::UnboundedSender<(Arc<StageRun>, Work)>,
}

struct StageRun {
    id: String,
    inner: Mutex<StageOutput>,
    changed: watch::Sender<u64>,
    cancel: Notify,
}

impl StageRun {
    fn state(&self) -> StageState {
        self.inner.lock().unwrap().state()
    }
}

impl StageOutput {
    fn state(&self) -> StageState {
        match self.done {
            None => StageState::Running,
            Some(exit_code) => StageState::Done {
                exit_code,
                error: (exit_code != 0).then(|| format!("exit status {exit_code}")),
                output: self.len,
                entries: Vec::new(),
            },
        }
    }
}

#[derive(Default)]
struct StageOutput {
    pieces: Vec<(Stream, u64, Vec<u8>)>,
    len: Offsets,
    acknowledged: Offsets,
    done: Option<i32>,
}

impl Agents {
    pub(crate) fn install(world: &World, work: BTreeMap<String, Work>) -> Self {
        let agents = Self {
            world: world.clone(),
            state: Arc::new(Mutex::new(State {
                work,
                ..State::default()
            })),
        };
        let (live, connect) = (agents.clone(), agents.clone());
        world.engine.on_name(
            "-predefined",
            Program::new(move |mut run| {
                let agents = live.clone();
                async move {
                    let (start, mut starts) = mpsc::unbounded_channel::<(Arc<StageRun>, Work)>();
                    let agent = Arc::new(Agent {
                        stages: Mutex::default(),
                        served: watch::Sender::new((0, 0)),
                        start,
                    });
                    agents.lock().alive.insert(run.id.clone(), agent);
                    // Ends with the container, and the stages with it.
                    let mut stages = JoinSet::new();
                    loop {
                        tokio::select! {
                            _ = run.signal() => return 0,
                            Some((stage, work)) = starts.recv() => {
                                stages.spawn(stage.works(work, agents.world.clone()));
                            }
                        }
                    }
                }
            }),
        );
        world.engine.on_exec(
            "-predefined",
            ExecHandler::new(move |run| connect.clone().connect(run)),
        );
        agents
    }

    /// Stage attempts that were begun, in order.
    pub(crate) fn begun(&self) -> Vec<String> {
        self.lock().begun.clone()
    }

    /// What was asked for the stages that were begun, in the same order.
    pub(crate) fn asked(&self) -> Vec<StageRequest> {
        self.lock().asked.clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u32 {
        self.lock().connections
    }

    /// From now on nobody answers a hello.
    pub(crate) fn fall_silent(&self) {
        self.lock().mute = true;
    }

    async fn connect(self, run: ExecRun) -> i64 {
        assert_eq!(run.cmd[1..], ["connect"]);
        let found = {
            let mut state = self.lock();
            state.connections += 1;
            if state.mute {
                None
            } else {
                state.alive.get(&run.container_id).cloned()
            }
        };
        let Some(agent) = found else {
            std::future::pending::<()>().await;
            return 1;
        };
        let (mut input, output) = run.into_io();
        let mut connection = Connection {
            agents: self,
            agent: Arc::clone(&agent),
            output,
            served: None,
            attached: None,
        };
        let mut newest = agent.served.subscribe();
        let mut decoder = Decoder::<ToAgent>::new();
        let mut bytes = vec![0; 16 * 1024];
        loop {
            while let Some(message) = decoder.next_message().unwrap() {
                if !connection.take(message) {
                    return 0;
                }
            }
            connection.pump();
            let mut changes = connection
                .attached
                .as_ref()
                .map(|attached| attached.stage.changed.subscribe());
            connection.pump();
            tokio::select! {
                biased;
                Ok(()) = newest.changed() => {
                    if connection.served.is_some_and(|mine| mine != *newest.borrow()) {
                        return 0;
                    }
                }
                read = input.read(&mut bytes) => match read {
                    Ok(0) | Err(_) => return 0,
                    Ok(len) => decoder.push(&bytes[..len]),
                },
                () = async {
                    match &mut changes {
                        Some(changes) => drop(changes.changed().await),
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    fn work(&self, id: &str) -> Work {
        let state = self.lock();
        let stage = id.split('/').next().unwrap_or(id);
        let found = state.work.get(id).or_else(|| state.work.get(stage));
        found.cloned().unwrap_or_else(Work::nothing)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// One connection from its hello on.
struct Connection {
    agents: Agents,
    agent: Arc<Agent>,
    output: Output,
    served: Option<(u64, u64)>,
    attached: Option<Attached>,
}

struct Attached {
    stage: Arc<StageRun>,
    sent: Offsets,
    /// Pieces looked at.
    seen: usize,
}

impl Connection {
    /// Takes a message; `false` ends the connection.
    fn take(&mut self, message: ToAgent) -> bool {
        match message {
            ToAgent::Hello(hello) => {
                let mut newest = *self.agent.served.borrow();
                if hello.generation < newest.0 {
                    self.say(&ToRunner::Refused {
                        reason: format!("generation {} is older", hello.generation),
                    });
                    return false;
                }
                newest = (hello.generation, newest.1 + 1);
                self.served = Some(newest);
                self.agent.served.send_replace(newest);
                self.say(&ToRunner::Welcome(Welcome {
                    protocol: negotiate(hello.oldest, hello.protocol).unwrap(),
                    helper_version: "test".to_owned(),
                    hostname: "helper".to_owned(),
                    git_version: None,
                }));
            }
            ToAgent::Run(run) => {
                let stage = self.stage(&run.id, run.request);
                self.attach(stage, run.from);
            }
            ToAgent::Ack { id, stream, offset } => {
                if let Some(stage) = self.known(&id) {
                    let mut inner = stage.inner.lock().unwrap();
                    let old = inner.acknowledged.get(stream);
                    inner.acknowledged.set(stream, old.max(offset));
                }
            }
            ToAgent::Cancel { id } => {
                if let Some(stage) = self.known(&id) {
                    stage.cancel.notify_one();
                }
            }
            ToAgent::Query { id } => {
                let state = match self.known(&id).map(|stage| stage.state()) {
                    Some(state) => state,
                    None => StageState::Unknown,
                };
                self.say(&ToRunner::State { id, state });
            }
            ToAgent::Attach { .. } | ToAgent::Shutdown => {
                panic!("not a message that the executor sends: {message:?}")
            }
        }
        true
    }

    /// The stage attempt, begun if it is not known.
    fn stage(&self, id: &str, request: StageRequest) -> Arc<StageRun> {
        if let Some(known) = self.known(id) {
            return known;
        }
        let stage = Arc::new(StageRun {
            id: id.to_owned(),
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
            cancel: Notify::new(),
        });
        {
            let mut state = self.agents.lock();
            state.begun.push(id.to_owned());
            state.asked.push(request);
        }
        let mut stages = self.agent.stages.lock().unwrap();
        stages.insert(id.to_owned(), Arc::clone(&stage));
        let work = self.agents.work(id);
        drop(self.agent.start.send((Arc::clone(&stage), work)));
        stage
    }

    fn known(&self, id: &str) -> Option<Arc<StageRun>> {
        self.agent.stages.lock().unwrap().get(id).cloned()
    }

    fn attach(&mut self, stage: Arc<StageRun>, from: Offsets) {
        self.say(&ToRunner::State {
            id: stage.id.clone(),
            state: StageState::Running,
        });
        self.attached = Some(Attached {
            stage,
            sent: from,
            seen: 0,
        });
    }

    /// Sends what the stage has written since, and its end.
    fn pump(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let mut messages = Vec::new();
        let over = {
            let inner = attached.stage.inner.lock().unwrap();
            for (stream, offset, bytes) in &inner.pieces[attached.seen..] {
                // What was acknowledged is not there any more.
                let gone = inner.acknowledged.get(*stream);
                let from = attached.sent.get(*stream).max(gone);
                let end = offset + bytes.len() as u64;
                if end > from {
                    let skip = from.saturating_sub(*offset) as usize;
                    messages.push(ToRunner::Output {
                        id: attached.stage.id.clone(),
                        stream: *stream,
                        offset: offset + skip as u64,
                        bytes: bytes[skip..].to_vec(),
                    });
                    attached.sent.set(*stream, end);
                }
            }
            attached.seen = inner.pieces.len();
            inner.done.map(|_| ToRunner::State {
                id: attached.stage.id.clone(),
                state: inner.state(),
            })
        };
        for message in &messages {
            self.say(message);
        }
        if let Some(done) = over {
            self.attached = None;
            self.say(&done);
        }
    }

    fn say(&self, message: &ToRunner) {
        self.output
            .write(StdStream::Stdout, &encode(message).unwrap());
    }
}

impl StageRun {
    async fn works(self: Arc<Self>, work: Work, world: World) {
        let lines = async {
            for piece in &work.pieces {
                match piece {
                    Piece::Out(bytes) => self.write(Stream::Stdout, bytes),
                    Piece::Err(bytes) => self.write(Stream::Stderr, bytes),
                    Piece::Pause(time) => tokio::time::sleep(*time).await,
                    Piece::Do(act) => act(&world),
                    Piece::Oom => panic!("not for helper stages"),
                    Piece::Hang => std::future::pending().await,
                }
            }
            work.exit
        };
        let code = tokio::select! {
            code = lines => code,
            () = self.cancel.notified() => match work.on_term {
                OnTerm::Ends { words, .. } => {
                    self.write(Stream::Stderr, words.as_bytes());
                    143
                }
                OnTerm::Deaf => {
                    // The agent's own patience.
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    137
                }
            },
        };
        self.inner.lock().unwrap().done = Some(i32::try_from(code).unwrap());
        self.changed.send_modify(|count| *count += 1);
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        {
            let mut inner = self.inner.lock().unwrap();
            for piece in bytes.chunks(64 * 1024) {
                let offset = inner.len.get(stream);
                inner.pieces.push((stream, offset, piece.to_vec()));
                inner.len.set(stream, offset + piece.len() as u64);
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }
}
