//! Follows one run of a container to its end, whatever happens to streams, engine or runner.
//!
//! The end is learned from the first of the `die` event and a `wait` registered before start; after any broken stream only inspect
//! decides (engine-mechanics §g, §h). Output goes to the trace; after a break the engine's log is replayed from its first byte and
//! the trace skips what it has.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use gantry_container::{ContainerState, ContainerStatus};
use gantry_engine::{
    EngineError, LogChunk, OutputStream, StdStream, WaitHandle,
    events::{EventSubscription, HubEvent},
};
use gantry_job::{Cause, Stage};
use gantry_trace::Stream;
use tokio::time::{Instant, sleep, timeout};

use crate::{ExecutorError, StopReason, context::Context, durable::until_written, stop};

/// How long an ended container's output may take to come to its end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a stopped job waits for an engine that is away before it gives the container up to the sweep.
const AWAY_AFTER_STOP: Duration = Duration::from_secs(30);
/// Bytes of raw output kept for explanations.
const TAIL: usize = 512;
/// How long an unasked kill is watched for a vanishing engine (engine-mechanics §h).
const KILL_DOUBT: Duration = Duration::from_secs(3);

/// The run of a container that is followed.
pub(crate) struct Run<'a> {
    pub(crate) context: &'a Context,
    /// Container ID; also the trace's source key.
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    /// Stage, for messages.
    pub(crate) stage: &'a Stage,
    /// Last raw output, for explanations.
    pub(crate) tail: Mutex<Vec<u8>>,
}

/// Streams of a run that was begun by this process.
pub(crate) struct Live {
    pub(crate) output: OutputStream,
    pub(crate) wait: WaitHandle,
}

/// How the run ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    pub(crate) exit_code: i64,
    /// Some process was killed for memory.
    pub(crate) out_of_memory: bool,
    /// Why we stopped it, if we did.
    pub(crate) stopped: Option<StopReason>,
}

/// What one look at the streams says.
enum Turn {
    Ended { exit_code: i64 },
    Broken,
    GivenUp(StopReason),
}

impl Run<'_> {
    /// Follows to the end. `live` is `None` when another process began the run. `events` was subscribed before the start.
    pub(crate) async fn follow(
        &self,
        live: Option<Live>,
        mut events: EventSubscription,
        stop: impl Future<Output = StopReason> + Send,
    ) -> Result<RunEnd, ExecutorError> {
        let mut stop = Box::pin(stop);
        let mut stopped = None;
        let mut out_of_memory = false;
        let mut live = match live {
            Some(live) => live,
            None => match self.take_up(&mut stop, &mut stopped).await? {
                TakenUp::Running(live) => live,
                TakenUp::Exited(state) => return self.end_of(&state, stopped, false).await,
                TakenUp::GivenUp(reason) => return Ok(RunEnd::given_up(reason)),
            },
        };
        loop {
            let turn = self
                .drive(
                    live,
                    &mut events,
                    &mut stop,
                    &mut stopped,
                    &mut out_of_memory,
                )
                .await?;
            match turn {
                Turn::Ended { exit_code } => {
                    self.context.close_output(self.id).await?;
                    let end = RunEnd {
                        exit_code,
                        out_of_memory,
                        stopped,
                    };
                    return self.doubt(end).await;
                }
                Turn::GivenUp(reason) => return Ok(RunEnd::given_up(reason)),
                Turn::Broken => {}
            }
            live = match self.take_up(&mut stop, &mut stopped).await? {
                TakenUp::Running(live) => live,
                TakenUp::Exited(state) => {
                    return self.end_of(&state, stopped, out_of_memory).await;
                }
                TakenUp::GivenUp(reason) => return Ok(RunEnd::given_up(reason)),
            };
        }
    }

    /// Moves bytes and waits for the end or a break.
    async fn drive(
        &self,
        live: Live,
        events: &mut EventSubscription,
        stop: &mut (impl Future<Output = StopReason> + Unpin),
        stopped: &mut Option<StopReason>,
        out_of_memory: &mut bool,
    ) -> Result<Turn, ExecutorError> {
        let Live {
            mut output,
            mut wait,
        } = live;
        let mut output_over = false;
        let mut wait_over = false;
        let mut ended: Option<i64> = None;
        let drained = sleep(DRAIN);
        tokio::pin!(drained);
        // A container that was stopped before a break is stopped again: stopping is safe to repeat.
        let mut stopping = Box::pin(futures_util::future::OptionFuture::from(
            stopped.map(|reason| stop::container(self.context, self.id, reason)),
        ));
        let mut stopping_on = stopped.is_some();
        loop {
            if let (Some(exit_code), true) = (ended, output_over) {
                return Ok(Turn::Ended { exit_code });
            }
            tokio::select! {
                biased;
                chunk = output.next(), if !output_over => match chunk {
                    Some(Ok(chunk)) => self.take_output(&chunk).await?,
                    Some(Err(error)) => {
                        tracing::debug!(container = self.name, %error, "output stream broke");
                        return Ok(Turn::Broken);
                    }
                    None => output_over = true,
                },
                Some(event) = events.next() => match event {
                    HubEvent::Die { exit_code: Some(exit_code) } => {
                        ended.get_or_insert(exit_code);
                        drained.as_mut().reset(Instant::now() + DRAIN);
                    }
                    HubEvent::Oom => *out_of_memory = true,
                    // Gone, or events were missed: inspect decides.
                    HubEvent::Die { exit_code: None } | HubEvent::Destroy | HubEvent::Reconnected => {
                        if ended.is_none() && self.has_ended().await {
                            return Ok(Turn::Broken);
                        }
                    }
                },
                result = &mut wait, if !wait_over => {
                    wait_over = true;
                    match result {
                        Ok(result) => {
                            ended.get_or_insert(result.exit_code);
                            drained.as_mut().reset(Instant::now() + DRAIN);
                        }
                        Err(error) if ended.is_none() => {
                            tracing::debug!(container = self.name, %error, "wait broke");
                            return Ok(Turn::Broken);
                        }
                        Err(_) => {}
                    }
                }
                () = &mut drained, if ended.is_some() => output_over = true,
                reason = &mut *stop, if stopped.is_none() => {
                    *stopped = Some(reason);
                    self.context.note(crate::Record::Stopping(reason)).await?;
                    stopping.set(futures_util::future::OptionFuture::from(Some(
                        stop::container(self.context, self.id, reason),
                    )));
                    stopping_on = true;
                }
                done = &mut stopping, if stopping_on => {
                    stopping_on = false;
                    if let (Some(Err(error)), Some(reason)) = (done, *stopped) {
                        if error.is_unreachable() {
                            return Ok(Turn::Broken);
                        }
                        tracing::warn!(container = self.name, %error, "container cannot be stopped");
                        return Ok(Turn::GivenUp(reason));
                    }
                    // Stopped, and neither event nor wait said so within the drain time: inspect.
                    if ended.is_none() && self.has_ended().await {
                        return Ok(Turn::Broken);
                    }
                }
                // Output ended and nothing else says anything: engine gone, or a lost event.
                () = sleep(Duration::from_secs(1)), if output_over && ended.is_none() => {
                    if self.has_ended().await {
                        return Ok(Turn::Broken);
                    }
                }
            }
        }
    }

    /// Takes the run up after a break: waits until the engine answers, then inspect decides.
    async fn take_up(
        &self,
        stop: &mut (impl Future<Output = StopReason> + Unpin),
        stopped: &mut Option<StopReason>,
    ) -> Result<TakenUp, ExecutorError> {
        let engine = &self.context.engine;
        let mut pause = Duration::from_millis(100);
        let mut away_since: Option<std::time::SystemTime> = None;
        let mut given_up_at: Option<Instant> = stopped.map(|_| Instant::now() + AWAY_AFTER_STOP);
        loop {
            let error = match self.try_take_up().await {
                Ok(taken) => {
                    if let Some(since) = away_since {
                        self.context.engine_was_away(self.id, since);
                    }
                    return taken.ok_or_else(|| {
                        Cause::ContainerVanished {
                            name: self.name.to_owned(),
                            stage: self.stage.clone(),
                        }
                        .into()
                    });
                }
                Err(error) if error.is_unreachable() || is_server_side(&error) => error,
                Err(error) => {
                    return Err(self.context.cause("following a container", &error).into());
                }
            };
            away_since.get_or_insert_with(std::time::SystemTime::now);
            tracing::warn!(container = self.name, host = engine.host(), %error, "the engine does not answer; waiting for it");
            let given_up = async {
                match given_up_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
                reason = &mut *stop, if stopped.is_none() => {
                    *stopped = Some(reason);
                    self.context.note(crate::Record::Stopping(reason)).await?;
                    given_up_at = Some(Instant::now() + AWAY_AFTER_STOP);
                }
                () = given_up => {
                    let reason = stopped.unwrap_or(StopReason::JobTimeout);
                    return Ok(TakenUp::GivenUp(reason));
                }
            }
        }
    }

    async fn try_take_up(&self) -> Result<Option<TakenUp>, EngineError> {
        let engine = &self.context.engine;
        let Some(state) = engine.container_inspect(self.id).await? else {
            return Ok(None);
        };
        if state.status != ContainerStatus::Running {
            // A container that is being removed still tells how it ended, if it ended.
            return Ok(Some(TakenUp::Exited(Box::new(state))));
        }
        let wait = engine.container_wait(self.id).await;
        // It may have ended before the wait was in force.
        match engine.container_inspect(self.id).await? {
            None => return Ok(None),
            Some(state) if state.status != ContainerStatus::Running => {
                return Ok(Some(TakenUp::Exited(Box::new(state))));
            }
            Some(_) => {}
        }
        self.context.trace.begin_replay(self.id);
        let output = engine.container_logs(self.id, true).await?;
        Ok(Some(TakenUp::Running(Live {
            output,
            wait: wait?,
        })))
    }

    /// The end of a run of which only the engine's word is left: log to its end, then the state.
    async fn end_of(
        &self,
        state: &ContainerState,
        stopped: Option<StopReason>,
        out_of_memory: bool,
    ) -> Result<RunEnd, ExecutorError> {
        self.context.replay(self.id).await?;
        let end = RunEnd {
            exit_code: state.exit_code,
            out_of_memory: out_of_memory || state.oom_killed,
            stopped,
        };
        self.doubt(end).await
    }

    /// 137 and 143 that nobody here asked for: was it the engine that went away?
    async fn doubt(&self, mut end: RunEnd) -> Result<RunEnd, ExecutorError> {
        if end.stopped.is_some() || !matches!(end.exit_code, 137 | 143) {
            return Ok(end);
        }
        if !end.out_of_memory {
            // The event may have been missed; the state knows for sure.
            if let Ok(Some(state)) = self.context.engine.container_inspect(self.id).await {
                end.out_of_memory = state.oom_killed;
            }
        }
        if end.out_of_memory {
            return Ok(end);
        }
        let until = Instant::now() + KILL_DOUBT;
        while Instant::now() < until {
            if let Err(error) = self.context.engine.ping().await {
                tracing::warn!(container = self.name, exit_code = end.exit_code, %error, "the engine went away and ended the container");
                return Err(Cause::EngineStopped {
                    stage: self.stage.clone(),
                }
                .into());
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(end)
    }

    async fn take_output(&self, chunk: &LogChunk) -> Result<(), ExecutorError> {
        let stream = match chunk.stream {
            StdStream::Stdout => Stream::Stdout,
            StdStream::Stderr => Stream::Stderr,
        };
        {
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = &chunk.bytes[chunk.bytes.len().saturating_sub(TAIL)..];
            tail.extend_from_slice(kept);
            let surplus = tail.len().saturating_sub(TAIL);
            tail.drain(..surplus);
        }
        self.context
            .write_output(self.id, stream, &chunk.bytes)
            .await
    }

    /// The last raw output.
    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    async fn has_ended(&self) -> bool {
        match self.context.engine.container_inspect(self.id).await {
            Ok(Some(state)) => state.status != ContainerStatus::Running,
            Ok(None) | Err(_) => true,
        }
    }
}

enum TakenUp {
    Running(Live),
    Exited(Box<ContainerState>),
    GivenUp(StopReason),
}

impl RunEnd {
    fn given_up(reason: StopReason) -> Self {
        Self {
            exit_code: 137,
            out_of_memory: false,
            stopped: Some(reason),
        }
    }
}

/// A 500 while the engine comes up again is no verdict on the container.
fn is_server_side(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Failed {
            status: 500..=599,
            ..
        } | EngineError::Garbled { .. }
    )
}

impl Context {
    /// Takes raw output in; a full disk makes the container wait instead of losing bytes.
    pub(crate) async fn write_output(
        &self,
        source: &str,
        stream: Stream,
        bytes: &[u8],
    ) -> Result<(), ExecutorError> {
        until_written(|| self.trace.write(source, stream, bytes)).await?;
        Ok(())
    }

    pub(crate) async fn close_output(&self, source: &str) -> Result<(), ExecutorError> {
        until_written(|| self.trace.close_source(source)).await
    }

    /// Reads the log of an ended container to its end and closes the source.
    pub(crate) async fn replay(&self, id: &str) -> Result<(), ExecutorError> {
        let mut pause = Duration::from_millis(100);
        let give_up = Instant::now() + AWAY_AFTER_STOP;
        loop {
            self.trace.begin_replay(id);
            match self.replay_once(id).await? {
                Ok(()) => break,
                Err(error) if error.is_unreachable() && Instant::now() < give_up => {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(error) => {
                    self.trace
                        .warningln(&format!("the rest of the output cannot be read: {error}"));
                    break;
                }
            }
        }
        self.close_output(id).await
    }

    async fn replay_once(&self, id: &str) -> Result<Result<(), EngineError>, ExecutorError> {
        let mut output = match self.engine.container_logs(id, false).await {
            Ok(output) => output,
            Err(error) => return Ok(Err(error)),
        };
        while let Some(chunk) = match timeout(Duration::from_secs(60), output.next()).await {
            Ok(chunk) => chunk,
            Err(_) => {
                return Ok(Err(EngineError::TimedOut {
                    what: format!("logs of {id}"),
                    seconds: 60,
                }));
            }
        } {
            match chunk {
                Ok(chunk) => {
                    let stream = match chunk.stream {
                        StdStream::Stdout => Stream::Stdout,
                        StdStream::Stderr => Stream::Stderr,
                    };
                    self.write_output(id, stream, &chunk.bytes).await?;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// One line about a gap in which output may have been lost (engine-mechanics §h).
    fn engine_was_away(&self, id: &str, since: std::time::SystemTime) {
        let seconds = since.elapsed().unwrap_or_default().as_secs();
        let key = format!("away:{id}:{}", crate::unix_ms());
        self.trace.line_once(
            &key,
            gantry_trace::Level::Warning,
            &format!(
                "the container engine was away for {seconds} s; output of a container that ended meanwhile may be missing"
            ),
        );
    }
}
