//! One connection of the runner: a thread that reads and one that writes.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
    time::Duration,
};

use gantry_agent::{
    Decoder, Hello, Offsets, StageState, ToAgent, ToRunner, Welcome, encode, encode_into, negotiate,
};

use super::{Shared, State, spool::Cursor};
use crate::complain;

/// A reader that takes nothing for this long has lost its connection.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// A connection must say hello within this time.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// About this much is written at once.
const BATCH: usize = 256 * 1024;

/// The connection that is served.
pub(super) struct Serving {
    number: u64,
    stream: UnixStream,
    outbox: VecDeque<ToRunner>,
    attached: Vec<Attachment>,
}

/// A stage whose output the runner wants.
struct Attachment {
    id: String,
    cursor: Cursor,
}

/// Serves a new connection until it ends or a newer one takes its place.
pub(super) fn serve(shared: &Arc<Shared>, stream: &UnixStream) {
    let mut decoder = Decoder::new();
    let refusal = match greet(shared, stream, &mut decoder) {
        Ok(Some(number)) => {
            let end = read(shared, stream, &mut decoder, number);
            let mut state = shared.lock();
            if state
                .serving
                .as_ref()
                .is_some_and(|serving| serving.number == number)
            {
                state.serving = None;
            }
            drop(state);
            shared.changed.notify_all();
            end.err()
        }
        Ok(None) => None,
        Err(refusal) => Some(refusal),
    };
    if let Some(Refusal(reason)) = refusal {
        complain(&format!("connection refused: {reason}"));
        if let Ok(frame) = encode(&ToRunner::Refused { reason }) {
            (&*stream).write_all(&frame).ok();
        }
    }
    stream.shutdown(Shutdown::Both).ok();
}

struct Refusal(String);

/// From the first byte to the welcome. Gives the number of the connection, or nothing if it ended before.
fn greet(
    shared: &Arc<Shared>,
    stream: &UnixStream,
    decoder: &mut Decoder<ToAgent>,
) -> Result<Option<u64>, Refusal> {
    // Both fail only for a zero duration.
    stream.set_write_timeout(Some(WRITE_DEADLINE)).ok();
    stream.set_read_timeout(Some(HELLO_DEADLINE)).ok();
    let hello = match next(stream, decoder)? {
        Some(ToAgent::Hello(hello)) => hello,
        Some(_) => return Err(Refusal("the first message must be hello".into())),
        None => return Ok(None),
    };
    stream.set_read_timeout(None).ok();
    let Hello {
        protocol,
        oldest,
        generation,
    } = hello;
    let protocol = negotiate(oldest, protocol).map_err(|error| Refusal(error.to_string()))?;
    let welcome = ToRunner::Welcome(Welcome {
        protocol,
        helper_version: env!("CARGO_PKG_VERSION").into(),
        hostname: shared.hostname.clone(),
        git_version: shared.git.git().version,
    });
    let cannot = |error: io::Error| Refusal(format!("cannot duplicate the socket: {error}"));
    let (for_state, for_writer) = (
        stream.try_clone().map_err(cannot)?,
        stream.try_clone().map_err(cannot)?,
    );

    let mut state = shared.lock();
    if generation < state.generation {
        return Err(Refusal(format!(
            "generation {generation} is older than {}",
            state.generation
        )));
    }
    if state.ending {
        return Err(Refusal("the agent is ending".into()));
    }
    state.generation = generation;
    state.connections += 1;
    let number = state.connections;
    let serving = Serving {
        number,
        stream: for_state,
        outbox: [welcome].into(),
        attached: Vec::new(),
    };
    if let Some(older) = state.serving.replace(serving) {
        older.stream.shutdown(Shutdown::Both).ok();
    }
    drop(state);
    shared.changed.notify_all();
    let shared = Arc::clone(shared);
    let writer = thread::Builder::new().spawn(move || {
        if let Err(error) = write(&shared, &for_writer, number)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            complain(&format!("connection lost: {error}"));
        }
        // Wakes the reader, too.
        for_writer.shutdown(Shutdown::Both).ok();
    });
    writer.map_err(|error| Refusal(format!("cannot start a thread: {error}")))?;
    Ok(Some(number))
}

/// The next message; `None` at the end of the connection, however it came about.
fn next(
    mut stream: &UnixStream,
    decoder: &mut Decoder<ToAgent>,
) -> Result<Option<ToAgent>, Refusal> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match decoder.next_message() {
            Ok(Some(message)) => return Ok(Some(message)),
            Ok(None) => {}
            Err(error) => return Err(Refusal(error.to_string())),
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(read) => decoder.push(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(None),
        }
    }
}

/// Obeys messages until the connection ends.
fn read(
    shared: &Arc<Shared>,
    stream: &UnixStream,
    decoder: &mut Decoder<ToAgent>,
    number: u64,
) -> Result<(), Refusal> {
    while let Some(message) = next(stream, decoder)? {
        let mut state = shared.lock();
        if state
            .serving
            .as_ref()
            .is_none_or(|serving| serving.number != number)
        {
            return Ok(());
        }
        obey(shared, &mut state, message)?;
        drop(state);
        shared.changed.notify_all();
    }
    Ok(())
}

fn obey(shared: &Arc<Shared>, state: &mut State, message: ToAgent) -> Result<(), Refusal> {
    match message {
        ToAgent::Hello(_) => return Err(Refusal("hello was said already".into())),
        ToAgent::Run(run) => {
            if state.stages.get(&run.id).is_none() {
                if state.ending {
                    return Err(Refusal("the agent is ending".into()));
                }
                state.stages.start(shared, &run.id, run.request);
            }
            state.attach(run.id, run.from);
        }
        ToAgent::Attach { id, from } => state.attach(id, from),
        ToAgent::Query { id } => state.report(id),
        ToAgent::Ack { id, stream, offset } => {
            if let Some(attempt) = state.stages.get_mut(&id) {
                attempt.spool.ack(stream, offset);
            }
        }
        ToAgent::Cancel { id } => {
            if let Some(attempt) = state.stages.get(&id)
                && attempt.state() == StageState::Running
            {
                attempt.control.cancel(&shared.processes);
            }
            state.report(id);
        }
        ToAgent::Shutdown => shared.end.close(),
    }
    Ok(())
}

impl State {
    /// Sends the state of a stage, unless it is over and still to come after its output.
    fn report(&mut self, id: String) {
        let state = self.stages.state(&id);
        let Some(serving) = &mut self.serving else {
            return;
        };
        let attached = serving.attached.iter().any(|attached| attached.id == id);
        if state == StageState::Running || !attached {
            serving.outbox.push_back(ToRunner::State { id, state });
        }
    }

    /// Sends output of a stage from here on, after its state. Of one that is over, the state comes last and only once.
    fn attach(&mut self, id: String, from: Offsets) {
        let Some(attempt) = self.stages.get(&id) else {
            return self.report(id);
        };
        let cursor = attempt.spool.cursor(from);
        let running = attempt.state() == StageState::Running;
        if let Some(serving) = &mut self.serving {
            serving.attached.retain(|attached| attached.id != id);
            serving.attached.push(Attachment {
                id: id.clone(),
                cursor,
            });
        }
        if running {
            self.report(id);
        }
    }

    /// Fills `batch` with what is to be sent.
    fn collect(&mut self, batch: &mut Vec<u8>) -> io::Result<()> {
        let Self {
            stages,
            serving: Some(serving),
            ..
        } = self
        else {
            return Ok(());
        };
        let encoded = |message: &ToRunner, batch: &mut Vec<u8>| {
            encode_into(message, batch).map_err(|error| io::Error::other(error.to_string()))
        };
        while batch.len() < BATCH
            && let Some(message) = serving.outbox.pop_front()
        {
            encoded(&message, batch)?;
        }
        let mut index = 0;
        while batch.len() < BATCH
            && let Some(Attachment { id, cursor }) = serving.attached.get_mut(index)
        {
            let Some(attempt) = stages.get(id) else {
                index += 1;
                continue;
            };
            if let Some(piece) = attempt.spool.read(cursor)? {
                let (stream, offset, bytes) = (piece.stream, piece.offset, piece.bytes);
                encoded(
                    &ToRunner::Output {
                        id: id.clone(),
                        stream,
                        offset,
                        bytes,
                    },
                    batch,
                )?;
                continue;
            }
            let state = attempt.state();
            if state != StageState::Running && attempt.spool.at_end(cursor) {
                encoded(
                    &ToRunner::State {
                        id: id.clone(),
                        state,
                    },
                    batch,
                )?;
                serving.attached.remove(index);
            } else {
                index += 1;
            }
        }
        Ok(())
    }
}

/// Sends until the connection ends.
fn write(shared: &Shared, mut stream: &UnixStream, number: u64) -> io::Result<()> {
    let mut batch = Vec::new();
    loop {
        let mut state = shared.lock();
        loop {
            if state
                .serving
                .as_ref()
                .is_none_or(|serving| serving.number != number)
            {
                return Ok(());
            }
            state.collect(&mut batch)?;
            if !batch.is_empty() {
                break;
            }
            state = shared.wait(state);
        }
        drop(state);
        stream.write_all(&batch)?;
        batch.clear();
        batch.shrink_to(BATCH);
    }
}
