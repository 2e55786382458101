//! Follows one run of a container to its end, whatever happens to streams, engine or runner.
//!
//! The end is learned from the first of the `die` event and a `wait` registered before start; after any broken stream only inspect
//! decides (engine-mechanics §g, §h). Output goes to the trace; after a break the engine's log is replayed from its first byte and
//! the trace skips what it has.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
/// How long output may have ended before the container did. Earlier, it was the stream that ended.
const EARLY_END: Duration = Duration::from_secs(1);
/// How long a stopped job waits for an engine that is away before it gives the container up to the sweep.
const AWAY_AFTER_STOP: Duration = Duration::from_secs(30);
/// How long a container may take to stop, over all tries: signals, grace and force take 20 s.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Pause before another try to stop a container.
const STOP_AGAIN: Duration = Duration::from_secs(1);
/// How long an engine may take to give the next piece of a log.
const READ_LIMIT: Duration = Duration::from_secs(60);
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
    /// The whole script was handed over.
    pub(crate) sent: AtomicBool,
    /// Last raw output, for explanations.
    tail: Mutex<Vec<u8>>,
}

/// Streams of a run that was begun by this process.
pub(crate) struct Live {
    pub(crate) output: OutputStream,
    pub(crate) wait: WaitHandle,
}

/// How the run ended.
#[derive(Debug, Default)]
pub(crate) struct RunEnd {
    pub(crate) exit_code: i64,
    /// Some process was killed for memory.
    pub(crate) out_of_memory: bool,
    /// Why we stopped it, if we did.
    pub(crate) stopped: Option<StopReason>,
    /// The engine was away for some time of the run: output may be missing.
    pub(crate) gap: bool,
    /// The streams broke before the whole script was handed over; nothing else here counts.
    pub(crate) cut: bool,
}

/// A stop in progress.
#[derive(Clone, Copy)]
struct Stopping {
    reason: StopReason,
    /// When the container is given up.
    by: Instant,
}

impl Stopping {
    fn now(reason: StopReason) -> Self {
        Self {
            reason,
            by: Instant::now() + STOP_LIMIT,
        }
    }
}

/// What one look at the streams says.
enum Turn {
    Ended { exit_code: i64 },
    Broken,
    GivenUp(StopReason),
}

impl<'a> Run<'a> {
    /// A run of the build container with this ID.
    pub(crate) fn new(context: &'a Context, id: &'a str, stage: &'a Stage) -> Self {
        Self {
            context,
            id,
            name: &context.plan.build.name,
            stage,
            sent: AtomicBool::new(false),
            tail: Mutex::default(),
        }
    }

    /// Follows to the end. `live` is `None` when another process began the run, `stopping` says why that one was stopping it.
    /// `events` was subscribed before the start.
    pub(crate) async fn follow(
        &self,
        live: Option<Live>,
        mut events: EventSubscription,
        stopping: Option<StopReason>,
        stop: impl Future<Output = StopReason> + Send,
    ) -> Result<RunEnd, ExecutorError> {
        let mut stop = Box::pin(stop);
        let mut stopping = stopping.map(Stopping::now);
        let mut end = RunEnd::default();
        let mut live = live;
        loop {
            let attached = live.is_some();
            let streams = match live.take() {
                Some(streams) => streams,
                None => match self.take_up(&mut stop, &mut stopping, &mut end.gap).await? {
                    TakenUp::Running(streams) => streams,
                    TakenUp::Exited(state) => {
                        self.replay().await?;
                        end.exit_code = state.exit_code;
                        end.out_of_memory |= state.oom_killed;
                        break;
                    }
                    TakenUp::GivenUp(reason) => return Ok(RunEnd::given_up(reason)),
                },
            };
            let turn = self
                .drive(
                    streams,
                    &mut events,
                    &mut stop,
                    &mut stopping,
                    &mut end.out_of_memory,
                )
                .await?;
            match turn {
                Turn::Ended { exit_code } => {
                    if attached {
                        self.context.close_output(self.id).await?;
                    } else {
                        // Engines end a log that is followed with its container, however far behind its reader is.
                        self.replay_if_there().await?;
                    }
                    end.exit_code = exit_code;
                    break;
                }
                Turn::GivenUp(reason) => return Ok(RunEnd::given_up(reason)),
                Turn::Broken if !self.sent.load(Ordering::Relaxed) => {
                    end.cut = true;
                    end.stopped = stopping.map(|stopping| stopping.reason);
                    return Ok(end);
                }
                Turn::Broken => {}
            }
        }
        end.stopped = stopping.map(|stopping| stopping.reason);
        self.doubt(end).await
    }

    /// Moves bytes and waits for the end or a break.
    async fn drive(
        &self,
        live: Live,
        events: &mut EventSubscription,
        stop: &mut (impl Future<Output = StopReason> + Unpin),
        stopping: &mut Option<Stopping>,
        out_of_memory: &mut bool,
    ) -> Result<Turn, ExecutorError> {
        let Live {
            mut output,
            mut wait,
        } = live;
        let mut output_over: Option<Instant> = None;
        let mut wait_over = false;
        let mut ended: Option<i64> = None;
        let drained = sleep(DRAIN);
        tokio::pin!(drained);
        let stop_of = |stopping: Option<Stopping>, after: Duration| {
            futures_util::future::OptionFuture::from(stopping.map(|stopping| async move {
                sleep(after).await;
                stop::container(self.context, self.id, stopping.reason).await
            }))
        };
        // A container that was stopped before a break is stopped again: stopping is safe to repeat.
        let mut stop_call = Box::pin(stop_of(*stopping, Duration::ZERO));
        let mut stop_called = stopping.is_some();
        loop {
            if let (Some(exit_code), Some(over)) = (ended, output_over) {
                if over.elapsed() > EARLY_END {
                    return Ok(Turn::Broken);
                }
                return Ok(Turn::Ended { exit_code });
            }
            let stop_by = stopping.map(|stopping| stopping.by);
            tokio::select! {
                biased;
                chunk = output.next(), if output_over.is_none() => match chunk {
                    Some(Ok(chunk)) => self.take_output(&chunk).await?,
                    Some(Err(error)) => {
                        tracing::debug!(container = self.name, %error, "output stream broke");
                        return Ok(Turn::Broken);
                    }
                    None => output_over = Some(Instant::now()),
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
                        // The other streams may be whole: events or the end of the output will do.
                        Err(error) if ended.is_none() => {
                            tracing::debug!(container = self.name, %error, "wait broke");
                            if self.has_ended().await {
                                return Ok(Turn::Broken);
                            }
                        }
                        Err(_) => {}
                    }
                }
                // The log has what the stream does not bring.
                () = &mut drained, if ended.is_some() => return Ok(Turn::Broken),
                reason = &mut *stop, if stopping.is_none() => {
                    *stopping = Some(Stopping::now(reason));
                    self.context.note(crate::Record::Stopping(reason)).await?;
                    stop_call.set(stop_of(*stopping, Duration::ZERO));
                    stop_called = true;
                }
                done = &mut stop_call, if stop_called => {
                    stop_called = false;
                    if let Some(Err(error)) = done {
                        tracing::warn!(container = self.name, %error, "container cannot be stopped yet");
                        stop_call.set(stop_of(*stopping, STOP_AGAIN));
                        stop_called = true;
                    }
                    // Neither event nor wait may have said so.
                    if ended.is_none() && self.has_ended().await {
                        return Ok(Turn::Broken);
                    }
                }
                // Output ended and nothing else says anything: the stream was cut, the engine is gone, or an event got lost.
                () = sleep(EARLY_END), if output_over.is_some() && ended.is_none() => {
                    return Ok(Turn::Broken);
                }
                () = until(stop_by) => {
                    tracing::warn!(container = self.name, "container does not stop");
                    if let Some(Stopping { reason, .. }) = *stopping {
                        return Ok(Turn::GivenUp(reason));
                    }
                }
            }
        }
    }

    /// Takes the run up after a break: waits until the engine answers, then inspect decides.
    async fn take_up(
        &self,
        stop: &mut (impl Future<Output = StopReason> + Unpin),
        stopping: &mut Option<Stopping>,
        gap: &mut bool,
    ) -> Result<TakenUp, ExecutorError> {
        let engine = &self.context.engine;
        let mut pause = Duration::from_millis(100);
        let mut away_since: Option<Instant> = None;
        let bound = |stopping: Stopping| stopping.by.min(Instant::now() + AWAY_AFTER_STOP);
        let mut give_up = stopping.map(bound);
        loop {
            let error = match self.try_take_up().await {
                Ok(taken) => {
                    if let Some(since) = away_since {
                        *gap = true;
                        self.context.engine_was_away(self.id, since);
                    }
                    return taken.ok_or_else(|| self.vanished());
                }
                Err(error) if error.is_not_found() => return Err(self.vanished()),
                Err(error) if error.is_unreachable() || is_server_side(&error) => error,
                Err(error) => {
                    return Err(self.context.cause("following a container", &error).into());
                }
            };
            away_since.get_or_insert_with(Instant::now);
            tracing::warn!(container = self.name, host = engine.host(), %error, "the engine does not answer; waiting for it");
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
                reason = &mut *stop, if stopping.is_none() => {
                    let begun = Stopping::now(reason);
                    *stopping = Some(begun);
                    self.context.note(crate::Record::Stopping(reason)).await?;
                    give_up = Some(bound(begun));
                }
                () = until(give_up) => {
                    let reason = stopping.map_or(StopReason::JobTimeout, |stopping| stopping.reason);
                    return Ok(TakenUp::GivenUp(reason));
                }
            }
        }
    }

    fn vanished(&self) -> ExecutorError {
        Cause::ContainerVanished {
            name: self.name.to_owned(),
            stage: self.stage.clone(),
        }
        .into()
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

    /// What the state adds to an exit code, and whether 137 and 143 that nobody here asked for are the engine's doing.
    async fn doubt(&self, mut end: RunEnd) -> Result<RunEnd, ExecutorError> {
        if end.stopped.is_some() || end.exit_code == 0 {
            return Ok(end);
        }
        let killed = matches!(end.exit_code, 137 | 143);
        if !end.out_of_memory {
            // The event may have been missed; the state knows for sure.
            match self.context.engine.container_inspect(self.id).await {
                // It was killed by its removal, which takes a moment longer.
                Ok(
                    Some(ContainerState {
                        status: ContainerStatus::Removing,
                        oom_killed: false,
                        ..
                    })
                    | None,
                ) if killed => {
                    return Err(self.vanished());
                }
                Ok(Some(state)) => end.out_of_memory = state.oom_killed,
                Ok(None) | Err(_) => {}
            }
        }
        if end.out_of_memory || !killed {
            return Ok(end);
        }
        if end.gap {
            return Err(self.engine_stopped("the engine was away"));
        }
        let until = Instant::now() + KILL_DOUBT;
        while Instant::now() < until {
            if let Err(error) = self.context.engine.ping().await {
                return Err(self.engine_stopped(&error.to_string()));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(end)
    }

    fn engine_stopped(&self, why: &str) -> ExecutorError {
        tracing::warn!(container = self.name, %why, "the engine went away and ended the container");
        Cause::EngineStopped {
            stage: self.stage.clone(),
        }
        .into()
    }

    /// Reads the log to its end and closes the source.
    pub(crate) async fn replay(&self) -> Result<(), ExecutorError> {
        let mut pause = Duration::from_millis(100);
        let give_up = Instant::now() + AWAY_AFTER_STOP;
        loop {
            self.context.trace.begin_replay(self.id);
            match self.replay_once().await? {
                Ok(()) => break,
                Err(error) if error.is_unreachable() && Instant::now() < give_up => {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(error) => {
                    let text = format!("the rest of the output cannot be read: {error}");
                    let key = format!("unread:{}", self.id);
                    let trace = &self.context.trace;
                    trace.line_once(&key, gantry_trace::Level::Warning, &text);
                    break;
                }
            }
        }
        self.context.close_output(self.id).await
    }

    /// As [`Self::replay`], for a log that was followed to its end already; one that is gone by now has been read.
    async fn replay_if_there(&self) -> Result<(), ExecutorError> {
        match self.context.engine.container_inspect(self.id).await {
            Ok(None) => self.context.close_output(self.id).await,
            Ok(Some(_)) | Err(_) => self.replay().await,
        }
    }

    async fn replay_once(&self) -> Result<Result<(), EngineError>, ExecutorError> {
        let mut output = match self.context.engine.container_logs(self.id, false).await {
            Ok(output) => output,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            match timeout(READ_LIMIT, output.next()).await {
                Ok(Some(Ok(chunk))) => self.take_output(&chunk).await?,
                Ok(Some(Err(error))) => return Ok(Err(error)),
                Ok(None) => return Ok(Ok(())),
                Err(_) => {
                    return Ok(Err(EngineError::TimedOut {
                        what: format!("logs of {}", self.name),
                        seconds: READ_LIMIT.as_secs(),
                    }));
                }
            }
        }
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
            stopped: Some(reason),
            ..Self::default()
        }
    }
}

/// Resolves at that time; never, if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether the log's stdout holds these bytes; reads no further than that.
///
/// # Errors
/// When the log breaks before.
pub(crate) async fn holds(mut logs: OutputStream, bytes: &[u8]) -> Result<bool, EngineError> {
    let mut window = Vec::new();
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        if chunk.stream != StdStream::Stdout {
            continue;
        }
        window.extend_from_slice(&chunk.bytes);
        if window.windows(bytes.len()).any(|found| found == bytes) {
            return Ok(true);
        }
        let kept = window.len().min(bytes.len() - 1);
        window.drain(..window.len() - kept);
    }
    Ok(false)
}

/// A 500 while the engine comes up again is no verdict on the container.
pub(crate) fn is_server_side(error: &EngineError) -> bool {
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

    /// One line about a gap in which output may have been lost (engine-mechanics §h).
    fn engine_was_away(&self, id: &str, since: Instant) {
        let seconds = since.elapsed().as_secs();
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
