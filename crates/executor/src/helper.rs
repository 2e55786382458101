//! The helper container and the conversation with its agent.
//!
//! Started once, only when a stage needs it. Stages are messages with ids; a lost connection, engine or runner loses neither the
//! stage nor a byte of its output, because the agent keeps both until they are acknowledged (engine-mechanics §e).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use gantry_agent::{
    Decoder, Hello, Offsets, Run, StageRequest, StageState, Stream as AgentStream, ToAgent,
    ToRunner, encode,
};
use gantry_container::ContainerStatus;
use gantry_engine::{EngineError, ExecStream, StdStream};
use gantry_job::{Cause, Stage};
use gantry_trace::{JobTrace, Stream};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};

use crate::{
    ExecutorError, StopReason, claim,
    context::Context,
    follow::is_server_side,
    record::StageEnd,
    tools::{self, HELPER_PATH, PEER_HELPER_PATH, TOOLS_PATH},
};

/// No hello within this time is a named error (design, "Agent transport").
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection that keeps breaking is tried again while the container lives.
const RECONNECT_LIMIT: Duration = Duration::from_secs(60);
/// Pause before a new connection; it grows while the engine is away.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long a canceled stage may take to end.
const CANCEL_LIMIT: Duration = Duration::from_secs(15);
/// Output is acknowledged in steps of this many bytes.
const ACKNOWLEDGE_EVERY: u64 = 256 * 1024;

/// The helper of one job.
pub(crate) struct Helper {
    context: Context,
    container: String,
    connection: Option<Connection>,
    generation: u64,
    /// The last generation that the agent welcomed.
    served: u64,
}

struct Connection {
    /// Never contended; the lock only makes the streams shareable with the type system.
    exec: Mutex<ExecStream>,
    decoder: Decoder<ToRunner>,
}

/// Why a connection is not to be used any more.
enum Broken {
    /// Try again: cut stream, engine away.
    Lost(String),
    /// No use: the agent refuses, or speaks garbage.
    Refused(String),
    /// The executor cannot go on.
    Fatal(ExecutorError),
}

impl From<ExecutorError> for Broken {
    fn from(error: ExecutorError) -> Self {
        Self::Fatal(error)
    }
}

impl From<EngineError> for Broken {
    fn from(error: EngineError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Why there is no connection. A word of a proxy before the engine's socket will be the same the next time.
fn not_connected(error: EngineError) -> Broken {
    match error {
        EngineError::Failed {
            status: 401 | 403, ..
        } => Broken::Refused(format!(
            "{error}; a proxy before the engine's socket must allow `exec` (docs/migrate.md)"
        )),
        other => other.into(),
    }
}

impl Helper {
    /// Creates and starts the helper container, or, with `adopt`, takes the one that an earlier process or try made. `resumed` counts
    /// processes.
    pub(crate) async fn start(
        context: &Context,
        image: &str,
        service_hosts: &[String],
        resumed: u32,
        adopt: bool,
    ) -> Result<Self, ExecutorError> {
        let Some(planned) = &context.plan.helper else {
            return Err(Cause::Internal {
                message: "no helper was planned".to_owned(),
            }
            .into());
        };
        let engine = &context.engine;
        let failed = |error: EngineError| context.cause("starting the helper container", &error);
        let binary = (context.environment.helper_binaries)(&context.facts.architecture).map_err(
            |setting| Cause::HelperBinaryMissing {
                architecture: context.facts.architecture.clone(),
                setting,
            },
        )?;
        let existing = if adopt {
            engine
                .container_inspect(&planned.name)
                .await
                .map_err(failed)?
        } else {
            None
        };
        let container = match existing {
            Some(state) if state.status == ContainerStatus::Running => state.id,
            existing => {
                if existing.is_some() {
                    engine
                        .container_remove(&planned.name)
                        .await
                        .map_err(failed)?;
                }
                engine
                    .volume_create(&tools::volume(&binary))
                    .await
                    .map_err(failed)?;
                let mut spec = planned.spec.clone();
                spec.image = image.to_owned();
                let alias = format!("--alias={PEER_HELPER_PATH}");
                let mut command = vec![HELPER_PATH.to_owned(), "agent".to_owned(), alias];
                if context.plan.give_to_image_user {
                    command.push("--keep-umask".to_owned());
                }
                spec.cmd = Some(command);
                spec.host
                    .binds
                    .push(format!("{}:{TOOLS_PATH}:ro", binary.volume_name()));
                spec.host.extra_hosts.extend(service_hosts.iter().cloned());
                let id = claim::create(engine, &planned.name, &spec)
                    .await
                    .map_err(failed)?;
                tools::ensure(engine, &id, image, &binary, adopt)
                    .await
                    .map_err(failed)?;
                if let Err(error) = engine.container_start(&id).await {
                    let what = "starting the helper container";
                    let stage = Stage::GetSources;
                    return Err(context
                        .start_cause(what, &planned.name, &stage, &error)
                        .await
                        .into());
                }
                id
            }
        };
        // Every process that takes the job up outranks the ones before, whatever the clock says.
        let generation = u64::from(resumed) << 32;
        Ok(Self {
            context: context.clone(),
            container,
            connection: None,
            generation,
            served: 0,
        })
    }

    /// The container's ID.
    pub(crate) fn container(&self) -> &str {
        &self.container
    }

    /// Bytes of output that all agents together have given of an attempt.
    pub(crate) fn heard_of(trace: &JobTrace, attempt: &str) -> u64 {
        (1..)
            .map(|number| heard(trace, &nth_name(attempt, number)))
            .take_while(|bytes| *bytes > 0)
            .sum()
    }

    /// Runs one stage attempt to its end, or attaches to it if it was begun before. `attempt` is unique to stage and attempt.
    pub(crate) async fn run(
        &mut self,
        attempt: &str,
        stage: &Stage,
        request: &StageRequest,
        stopping: Option<StopReason>,
        stop: impl Future<Output = StopReason>,
    ) -> Result<StageEnd, ExecutorError> {
        tokio::pin!(stop);
        let mut stopped = stopping;
        let mut give_up: Option<Instant> = None;
        let mut pause = RECONNECT_PAUSE;
        let mut name = None;
        loop {
            let before = self.generation;
            let turn = self
                .converse(attempt, &mut name, request, &mut stop, &mut stopped)
                .await;
            if self.served > before {
                give_up = None;
            }
            let why = match turn {
                Ok((exit_code, error)) => {
                    let name = name.as_deref().unwrap_or(attempt);
                    self.context.close_output(&Self::source(name)).await?;
                    return Ok(end_of(stage, exit_code, error, stopped));
                }
                Err(Broken::Fatal(error)) => return Err(error),
                Err(Broken::Refused(message)) => {
                    return Err(Cause::HelperLost {
                        stage: stage.clone(),
                        message,
                    }
                    .into());
                }
                Err(Broken::Lost(why)) => why,
            };
            if let Some(reason) = stopped {
                // Stopped and unreachable: the container goes with the job.
                return Ok(StageEnd::Stopped(reason));
            }
            let limit = *give_up.get_or_insert_with(|| Instant::now() + RECONNECT_LIMIT);
            tracing::warn!(container = self.container, %why, "connection to the helper lost");
            if self.container_must_live(stage, &why, limit).await? {
                pause = RECONNECT_PAUSE;
            } else {
                // The engine's absence is not the helper's.
                give_up = None;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            tokio::select! {
                () = sleep(pause) => {}
                reason = &mut stop => return Ok(StageEnd::Stopped(reason)),
            }
        }
    }

    /// One connection's worth of a stage; `Ok` when the stage is done. `name`: that of the attempt at this agent, once it is known.
    async fn converse(
        &mut self,
        attempt: &str,
        name: &mut Option<String>,
        request: &StageRequest,
        stop: &mut (impl Future<Output = StopReason> + Unpin),
        stopped: &mut Option<StopReason>,
    ) -> Result<(i32, Option<String>), Broken> {
        let mut connection = tokio::select! {
            connection = self.connect() => connection?,
            reason = &mut *stop, if stopped.is_none() => {
                *stopped = Some(reason);
                return Err(Broken::Lost("stopped while connecting".to_owned()));
            }
        };
        let trace = self.context.trace.clone();
        if name.is_none() {
            *name = Some(name_at(&mut connection, &trace, attempt).await?);
        }
        let id = name.as_deref().unwrap_or(attempt);
        let source = Self::source(id);
        let consumed = |stream| trace.position(&source, stream).consumed;
        let from = Offsets {
            stdout: consumed(Stream::Stdout),
            stderr: consumed(Stream::Stderr),
        };
        let run = Run {
            id: id.to_owned(),
            from,
            request: request.clone(),
        };
        connection.send(&ToAgent::Run(Box::new(run))).await?;
        // What this process got but has not consumed (held back for masking) comes again: the agent sends from there.
        trace.begin_at_position(&source);
        let mut acknowledged: BTreeMap<AgentStream, u64> = BTreeMap::new();
        let cancel_over = sleep(Duration::from_secs(86400 * 365));
        tokio::pin!(cancel_over);
        if stopped.is_some() {
            connection
                .send(&ToAgent::Cancel { id: id.to_owned() })
                .await?;
            cancel_over.as_mut().reset(Instant::now() + CANCEL_LIMIT);
        }
        loop {
            let message = tokio::select! {
                biased;
                message = connection.receive() => message?,
                reason = &mut *stop, if stopped.is_none() => {
                    *stopped = Some(reason);
                    self.context.note(crate::Record::Stopping(reason)).await.map_err(Broken::Fatal)?;
                    connection.send(&ToAgent::Cancel { id: id.to_owned() }).await?;
                    cancel_over.as_mut().reset(Instant::now() + CANCEL_LIMIT);
                    continue;
                }
                () = &mut cancel_over => {
                    return Err(Broken::Lost("the stage did not end after its cancel".to_owned()));
                }
            };
            match message {
                ToRunner::Output {
                    id: of,
                    stream,
                    offset: _,
                    bytes,
                } if of == id => {
                    let to = match stream {
                        AgentStream::Stdout => Stream::Stdout,
                        AgentStream::Stderr => Stream::Stderr,
                    };
                    self.context.write_output(&source, to, &bytes).await?;
                    let held = trace.position(&source, to).consumed;
                    let told = acknowledged.entry(stream).or_default();
                    if held >= *told + ACKNOWLEDGE_EVERY {
                        *told = held;
                        let ack = ToAgent::Ack {
                            id: id.to_owned(),
                            stream,
                            offset: held,
                        };
                        connection.send(&ack).await?;
                    }
                }
                ToRunner::State {
                    id: of,
                    state:
                        StageState::Done {
                            exit_code, error, ..
                        },
                } if of == id => {
                    // The agent may free what it kept; a lost word costs nothing.
                    for (stream, to) in [
                        (AgentStream::Stdout, Stream::Stdout),
                        (AgentStream::Stderr, Stream::Stderr),
                    ] {
                        let offset = trace.position(&source, to).consumed;
                        let ack = ToAgent::Ack {
                            id: id.to_owned(),
                            stream,
                            offset,
                        };
                        connection.send(&ack).await.ok();
                    }
                    self.connection = Some(connection);
                    return Ok((exit_code, error));
                }
                // A request of which the agent knows nothing is a new one; `Run` has started it.
                ToRunner::State { .. } | ToRunner::Output { .. } | ToRunner::Welcome(_) => {}
                ToRunner::Refused { reason } => return Err(Broken::Refused(reason)),
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, Broken> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.generation += 1;
        let command = [HELPER_PATH.to_owned(), "connect".to_owned()];
        let exec = self
            .context
            .engine
            .exec(&self.container, &command, None)
            .await
            .map_err(not_connected)?;
        let mut connection = Connection {
            exec: Mutex::new(exec),
            decoder: Decoder::new(),
        };
        connection
            .send(&ToAgent::Hello(Hello::new(self.generation)))
            .await?;
        let hello = timeout(HELLO_LIMIT, async {
            loop {
                match connection.receive().await? {
                    ToRunner::Welcome(welcome) => return Ok(welcome),
                    ToRunner::Refused { reason } => return Err(Broken::Refused(reason)),
                    ToRunner::Output { .. } | ToRunner::State { .. } => {}
                }
            }
        });
        match hello.await {
            Ok(welcome) => {
                let welcome = welcome?;
                self.served = self.generation;
                tracing::debug!(version = welcome.helper_version, git = ?welcome.git_version, "helper answers");
                Ok(connection)
            }
            Err(_) => Err(Broken::Fatal(
                Cause::HelperNoHello {
                    waited: HELLO_LIMIT,
                    image: self
                        .context
                        .plan
                        .helper
                        .as_ref()
                        .map(|helper| helper.image.reference.clone())
                        .unwrap_or_default(),
                }
                .into(),
            )),
        }
    }

    /// Goes on only while the helper container runs. Whether the engine answered: one that is away is waited for, as long as the
    /// job has time.
    async fn container_must_live(
        &self,
        stage: &Stage,
        why: &str,
        limit: Instant,
    ) -> Result<bool, ExecutorError> {
        let lost = |message: String| {
            ExecutorError::Job(Cause::HelperLost {
                stage: stage.clone(),
                message,
            })
        };
        match self.context.engine.container_inspect(&self.container).await {
            Ok(Some(state)) if state.status == ContainerStatus::Running => {
                if Instant::now() >= limit {
                    return Err(lost(format!("its agent cannot be reached: {why}")));
                }
                Ok(true)
            }
            Ok(Some(state)) if state.oom_killed => Err(lost(
                "killed: out of memory; raise [runners.docker] memory, which also holds for the helper".to_owned(),
            )),
            Ok(Some(state)) if self.served == 0 => {
                let image = self.context.plan.helper.as_ref();
                let image = image.map_or("", |helper| &helper.image.reference);
                Err(lost(format!(
                    "its container ended with exit code {} before its agent answered: the entrypoint of the helper image \"{image}\" must run the \
                     command that it is given",
                    state.exit_code
                )))
            }
            Ok(Some(state)) => {
                Err(lost(format!("its container ended with exit code {}", state.exit_code)))
            }
            Ok(None) => Err(lost("its container was removed".to_owned())),
            Err(error) if error.is_unreachable() || is_server_side(&error) => Ok(false),
            Err(error) => Err(lost(error.to_string())),
        }
    }

    /// The trace's source key of a stage's output.
    fn source(id: &str) -> String {
        format!("helper:{id}")
    }
}

impl Connection {
    async fn send(&mut self, message: &ToAgent) -> Result<(), Broken> {
        let bytes = encode(message).map_err(|error| Broken::Refused(error.to_string()))?;
        let exec = self.exec.get_mut().unwrap_or_else(PoisonError::into_inner);
        let sent = async {
            exec.stdin.write_all(&bytes).await?;
            exec.stdin.flush().await
        };
        sent.await.map_err(|error| Broken::Lost(error.to_string()))
    }

    /// Whether the agent has heard of a stage's attempt.
    async fn knows(&mut self, name: &str) -> Result<bool, Broken> {
        let id = name.to_owned();
        self.send(&ToAgent::Query { id }).await?;
        let answer = timeout(HELLO_LIMIT, async {
            loop {
                match self.receive().await? {
                    ToRunner::State { id, state } if id == name => return Ok(state),
                    ToRunner::Refused { reason } => return Err(Broken::Refused(reason)),
                    _ => {}
                }
            }
        });
        let state = answer
            .await
            .map_err(|_| Broken::Lost("the agent does not say what it knows".to_owned()))??;
        Ok(state != StageState::Unknown)
    }

    async fn receive(&mut self) -> Result<ToRunner, Broken> {
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => return Err(Broken::Refused(error.to_string())),
            }
            let exec = self.exec.get_mut().unwrap_or_else(PoisonError::into_inner);
            match exec.output.next().await {
                Some(Ok(chunk)) if chunk.stream == StdStream::Stdout => {
                    self.decoder.push(&chunk.bytes);
                }
                // What the connector itself has to say, e.g. that no agent listens.
                Some(Ok(chunk)) => {
                    let text = String::from_utf8_lossy(&chunk.bytes);
                    tracing::debug!(text = %text.trim(), "helper connector");
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Broken::Lost("the connector ended".to_owned())),
            }
        }
    }
}

/// The name of a stage's attempt at this agent. An agent begins the output of an attempt anew; what another one said of it before it was
/// lost is in the log already, and must not be taken for the beginning of that. So each agent that said something, in a process of this
/// job or another, has a name of its own for the attempt: `get_sources/1`, `get_sources/1.2`.
async fn name_at(
    connection: &mut Connection,
    trace: &JobTrace,
    attempt: &str,
) -> Result<String, Broken> {
    let mut number = 1;
    while heard(trace, &nth_name(attempt, number + 1)) > 0 {
        number += 1;
    }
    let last = nth_name(attempt, number);
    if heard(trace, &last) == 0 {
        return Ok(last);
    }
    // This one may be at work without a word yet.
    let next = nth_name(attempt, number + 1);
    let is_last = !connection.knows(&next).await? && connection.knows(&last).await?;
    Ok(if is_last { last } else { next })
}

fn nth_name(attempt: &str, number: u32) -> String {
    match number {
        1 => attempt.to_owned(),
        number => format!("{attempt}.{number}"),
    }
}

/// Bytes of output of a stage's attempt under this name.
fn heard(trace: &JobTrace, name: &str) -> u64 {
    let source = Helper::source(name);
    let streams = [Stream::Stdout, Stream::Stderr].iter();
    streams
        .map(|stream| trace.position(&source, *stream).consumed)
        .sum()
}

fn end_of(
    stage: &Stage,
    exit_code: i32,
    error: Option<String>,
    stopped: Option<StopReason>,
) -> StageEnd {
    if let Some(error) = error {
        tracing::debug!(%stage, exit_code, error, "helper stage failed");
    }
    match (stopped, exit_code) {
        (Some(reason), _) => StageEnd::Stopped(reason),
        (None, 0) => StageEnd::Succeeded,
        (None, code) => StageEnd::Failed(Cause::HelperStageExit {
            stage: stage.clone(),
            code,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_refuses_exec_is_not_asked_again() {
        let failed = |status| {
            not_connected(EngineError::Failed {
                what: "exec in container c".to_owned(),
                status,
                message: "Forbidden".to_owned(),
            })
        };
        for status in [401, 403] {
            let Broken::Refused(message) = failed(status) else {
                panic!("{status} is tried again");
            };
            assert!(message.contains("must allow `exec`"), "{message}");
        }
        assert!(matches!(failed(500), Broken::Lost(_)));
    }
}
