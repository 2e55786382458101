//! What services print: into the job's log while the job runs (`CI_DEBUG_SERVICES`, docker-executor §6.6), and as a piece of text when
//! one did not come up.
//!
//! A service's log is made into lines the same way whenever it is read, so that after a break, or in another process, it is read again
//! from its first byte and the trace skips what it has.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use futures_util::{StreamExt, future::join_all};
use gantry_container::ContainerStatus;
use gantry_engine::{EngineError, LOG_PIECE, LogChunk, StdStream};
use gantry_plan::PlannedService;
use gantry_trace::{Level, Stream};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{ExecutorError, context::Context, durable::until_written, follow::is_server_side};

/// How long the logs of stopped services may take to come to their end.
const DRAIN: Duration = Duration::from_secs(5);
/// Entries that are written at once, if they are there.
const BATCH: usize = 128;
/// Pauses before a log that broke is read again: the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest text of a service's log (docker-executor §6.5).
const LONGEST_TEXT: usize = 64 * 1024;
/// How long an engine may take to give the next entry of a log that is not followed.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The logs that are followed. Dropping it leaves them.
pub(crate) struct ServiceLogs {
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The job is over.
    over: watch::Sender<bool>,
}

impl Default for ServiceLogs {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            over: watch::Sender::new(false),
        }
    }
}

impl ServiceLogs {
    /// Follows the log of a service whose container has been made, if the job asks for that.
    pub(crate) fn follow(&self, context: &Context, service: &PlannedService) {
        if !context.plan.debug_services {
            return;
        }
        let follow = Follow {
            context: context.clone(),
            name: service.container.name.clone(),
            prefix: format!("\x1b[0;37m[service:{}] ", label(service)),
            over: self.over.subscribe(),
        };
        let task = tokio::spawn(async move {
            if let Err(error) = follow.to_end().await {
                tracing::warn!(container = follow.name, %error, "the log of a service is not shown any more");
            }
        });
        self.lock().push(task);
    }

    /// Stops following: the containers are made anew.
    pub(crate) fn abandon(&self) {
        self.lock().drain(..).for_each(|task| task.abort());
    }

    /// The job is over: from now on a log that ends is not looked at again.
    pub(crate) fn job_is_over(&self) {
        self.over.send_replace(true);
    }

    /// Waits until the logs of the stopped services are in.
    pub(crate) async fn finish(&self) {
        let mut tasks = std::mem::take(&mut *self.lock());
        let ended = join_all(tasks.iter_mut());
        if timeout(DRAIN, ended).await.is_err() {
            tasks.iter().for_each(JoinHandle::abort);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ServiceLogs {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// What a service is called in its lines. One whose names are all taken by others has that of its container.
fn label(service: &PlannedService) -> String {
    if service.aliases.is_empty() {
        service.container.name.clone()
    } else {
        service.aliases.join("-")
    }
}

struct Follow {
    context: Context,
    /// Of the container.
    name: String,
    /// What each line begins with.
    prefix: String,
    over: watch::Receiver<bool>,
}

/// What follows from a log that cannot be read.
enum Broken {
    /// The engine is away or coming up.
    Later(EngineError),
    /// For good; what the log says of it.
    Told(String),
}

impl Broken {
    fn of(error: EngineError, told: impl FnOnce(&EngineError) -> String) -> Self {
        if error.is_unreachable() || is_server_side(&error) {
            Self::Later(error)
        } else {
            Self::Told(told(&error))
        }
    }
}

impl Follow {
    async fn to_end(&self) -> Result<(), ExecutorError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.once().await? {
                Ok(true) => return Ok(()),
                // It ended before its container did, or is behind it.
                Ok(false) => pause = FIRST_PAUSE,
                Err(Broken::Later(error)) => {
                    tracing::debug!(container = self.name, %error, "the log of a service broke");
                }
                Err(Broken::Told(text)) => {
                    let key = format!("service-log:{}", self.name);
                    self.context.trace.line_once(&key, Level::Warning, &text);
                    return Ok(());
                }
            }
            if *self.over.borrow() {
                return Ok(());
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads the log from its first byte; says whether that was all of it.
    async fn once(&self) -> Result<Result<bool, Broken>, ExecutorError> {
        let Context { engine, trace, .. } = &self.context;
        let not_opened = |error: &EngineError| {
            format!(
                "failed to open log stream for container {}: {error}",
                self.name
            )
        };
        let state = match engine.container_inspect(&self.name).await {
            Ok(Some(state)) => state,
            Ok(None) => return Ok(Ok(true)),
            Err(error) => return Ok(Err(Broken::of(error, not_opened))),
        };
        let source = &state.id;
        let closed = |stream| trace.position(source, stream).closed;
        if closed(Stream::ServiceStdout) || closed(Stream::ServiceStderr) {
            return Ok(Ok(true));
        }
        let runs = state.status == ContainerStatus::Running;
        let entries = match engine.container_log_entries(source, runs).await {
            Ok(entries) => entries,
            Err(error) => return Ok(Err(Broken::of(error, not_opened))),
        };
        trace.begin_replay(source);
        let mut lines = [Lines::new(&self.prefix), Lines::new(&self.prefix)];
        let mut batches = entries.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let mut broken = None;
            let mut made = Vec::new();
            for entry in batch {
                match entry {
                    Ok(entry) => made.push(framed(&mut lines, &entry)),
                    Err(error) => broken = Some(error),
                }
            }
            let frames: Vec<(Stream, &[u8])> = made
                .iter()
                .map(|(stream, bytes)| (*stream, bytes.as_slice()))
                .collect();
            until_written(|| trace.write_frames(source, &frames)).await?;
            if let Some(error) = broken {
                let text = |error: &EngineError| {
                    format!("error streaming logs for container {}: {error}", self.name)
                };
                return Ok(Err(Broken::of(error, text)));
            }
        }
        if runs && !*self.over.borrow() {
            return Ok(Ok(false));
        }
        for (number, lines) in lines.iter_mut().enumerate() {
            let end = lines.end();
            if !end.is_empty() {
                let stream = [Stream::ServiceStdout, Stream::ServiceStderr][number];
                until_written(|| trace.write(source, stream, end)).await?;
            }
        }
        until_written(|| trace.close_source(source)).await?;
        Ok(Ok(true))
    }
}

fn framed(lines: &mut [Lines<'_>; 2], entry: &LogChunk) -> (Stream, Vec<u8>) {
    let [stdout, stderr] = lines;
    let (stream, lines) = match entry.stream {
        StdStream::Stdout => (Stream::ServiceStdout, stdout),
        StdStream::Stderr => (Stream::ServiceStderr, stderr),
    };
    let mut bytes = Vec::with_capacity(entry.bytes.len() + lines.prefix.len() + LINE_END.len());
    lines.entry(&entry.bytes, &mut bytes);
    (stream, bytes)
}

const LINE_END: &[u8] = b"\x1b[0;m\n";

/// Makes the entries of one stream of a log to lines. A line that the engine has in pieces is one line, so that a secret in it is found
/// wherever the engine cut it.
struct Lines<'a> {
    prefix: &'a str,
    /// The last entry was a piece whose line goes on.
    open: bool,
}

impl<'a> Lines<'a> {
    fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            open: false,
        }
    }

    fn entry(&mut self, entry: &[u8], out: &mut Vec<u8>) {
        let at = entry.iter().take(64).position(|byte| *byte == b' ');
        let (timestamp, text) = match at {
            Some(space) => entry.split_at(space + 1),
            None => (&[][..], entry),
        };
        if !self.open {
            out.extend_from_slice(self.prefix.as_bytes());
            out.extend_from_slice(timestamp);
        }
        let line = text.strip_suffix(b"\n");
        out.extend_from_slice(line.unwrap_or(text));
        // A shorter one is what was written last, without line break.
        self.open = line.is_none() && text.len() >= LOG_PIECE;
        if !self.open {
            out.extend_from_slice(LINE_END);
        }
    }

    /// What is to follow when there are no more entries.
    fn end(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.open) {
            LINE_END
        } else {
            b""
        }
    }
}

/// The log of a container so far with timestamps, whole lines up to 64 KiB; what went wrong is in it as text.
pub(crate) async fn text(context: &Context, id: &str) -> String {
    let mut text = Vec::new();
    match context.engine.container_log_entries(id, false).await {
        Err(error) => return format!("{error}\n"),
        Ok(mut entries) => {
            let mut lines = Plain::default();
            while text.len() <= LONGEST_TEXT {
                match timeout(READ_LIMIT, entries.next()).await {
                    Ok(Some(Ok(entry))) => lines.entry(&entry, &mut text),
                    Ok(None) => break,
                    Ok(Some(Err(error))) => {
                        text.extend_from_slice(format!("{error}\n").as_bytes());
                        break;
                    }
                    Err(_) => {
                        text.extend_from_slice(b"the engine gives no more of it\n");
                        break;
                    }
                }
            }
        }
    }
    if text.len() > LONGEST_TEXT {
        // Whole lines: the beginning of a secret would not be found.
        text.truncate(LONGEST_TEXT);
        let kept = whole_lines(&text);
        text.truncate(kept);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Length up to the last line break.
fn whole_lines(text: &[u8]) -> usize {
    text.iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1)
}

/// Entries as they are, pieces of a line joined, each line with its break.
#[derive(Default)]
struct Plain {
    open: Option<StdStream>,
}

impl Plain {
    fn entry(&mut self, entry: &LogChunk, out: &mut Vec<u8>) {
        let mut bytes: &[u8] = &entry.bytes;
        let text = bytes.iter().take(64).position(|byte| *byte == b' ');
        let text = text.map_or(0, |space| space + 1);
        if let Some(stream) = self.open.take() {
            if stream == entry.stream {
                bytes = &bytes[text..];
            } else {
                out.push(b'\n');
            }
        }
        out.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            return;
        }
        if entry.bytes.len() - text >= LOG_PIECE {
            self.open = Some(entry.stream);
        } else {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests;
