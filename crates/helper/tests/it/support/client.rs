//! The runner's end of a connection.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Child,
};

use gantry_agent::{
    Decoder, EntryOutcome, EntryResult, Hello, Offsets, Run, SourcesRequest, StageRequest,
    StageState, Stream, ToAgent, ToRunner, Welcome, encode,
};

use super::until;

/// A connection, over the socket or a process.
pub(crate) struct Client {
    reader: Box<dyn Read>,
    writer: Option<Box<dyn Write>>,
    decoder: Decoder<ToRunner>,
    pub(crate) welcome: Option<Welcome>,
}

/// A stage that is over.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) exit_code: i32,
    pub(crate) error: Option<String>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) entries: Vec<EntryResult>,
}

impl Finished {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Asserts success.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(
            (self.exit_code, &self.error),
            (0, &None),
            "{}\n{}",
            self.out(),
            self.err()
        );
        self
    }

    /// Asserts that the stage failed with a code.
    pub(crate) fn failed(self, exit_code: i32) -> Self {
        assert_eq!(
            self.exit_code,
            exit_code,
            "{:?}\n{}\n{}",
            self.error,
            self.out(),
            self.err()
        );
        assert!(self.error.is_some());
        self
    }

    /// Asserts that the first entry was done: restored, saved, sent.
    pub(crate) fn assert_done(&self) {
        let outcome = self.entries[0].outcome;
        assert_eq!(outcome, EntryOutcome::Done, "{}", self.err());
    }
}

impl Client {
    /// Connects to a socket that may not be there yet.
    pub(crate) fn open(socket: &Path) -> Self {
        let mut stream = None;
        until("the agent listens", || {
            stream = UnixStream::connect(socket).ok();
            stream.is_some()
        });
        let stream = stream.unwrap();
        Self {
            reader: Box::new(stream.try_clone().unwrap()),
            writer: Some(Box::new(stream)),
            decoder: Decoder::new(),
            welcome: None,
        }
    }

    pub(crate) fn over_process(child: &mut Child) -> Self {
        Self {
            reader: Box::new(child.stdout.take().unwrap()),
            writer: Some(Box::new(child.stdin.take().unwrap())),
            decoder: Decoder::new(),
            welcome: None,
        }
    }

    pub(crate) fn welcomed(socket: &Path, generation: u64) -> Self {
        let mut client = Self::open(socket);
        client.hello(generation);
        client
    }

    pub(crate) fn hello(&mut self, generation: u64) {
        self.send(&ToAgent::Hello(Hello::new(generation)));
        match self.next() {
            Some(ToRunner::Welcome(welcome)) => self.welcome = Some(welcome),
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub(crate) fn send(&mut self, message: &ToAgent) {
        self.send_raw(&encode(message).unwrap());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let writer = self.writer.as_mut().unwrap();
        writer
            .write_all(bytes)
            .and_then(|()| writer.flush())
            .unwrap();
    }

    /// Ends this side; the other one can still be heard.
    pub(crate) fn close_writer(&mut self) {
        self.writer = None;
    }

    /// The next message; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<ToRunner> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            match self.reader.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.decoder.push(&buffer[..read]),
            }
        }
    }

    pub(crate) fn start(&mut self, id: &str, request: SourcesRequest) {
        self.start_at(
            id,
            Offsets::default(),
            StageRequest::Sources(Box::new(request)),
        );
    }

    pub(crate) fn start_at(&mut self, id: &str, from: Offsets, request: StageRequest) {
        self.send(&ToAgent::Run(Box::new(Run {
            id: id.into(),
            from,
            request,
        })));
    }

    pub(crate) fn run(&mut self, id: &str, request: StageRequest) -> Finished {
        self.start_at(id, Offsets::default(), request);
        self.finish(id)
    }

    pub(crate) fn run_sources(&mut self, id: &str, request: SourcesRequest) -> Finished {
        self.run(id, StageRequest::Sources(Box::new(request)))
    }

    pub(crate) fn query(&mut self, id: &str) -> StageState {
        self.send(&ToAgent::Query { id: id.into() });
        loop {
            match self.next() {
                Some(ToRunner::State { id: other, state }) if other == id => return state,
                Some(_) => {}
                None => panic!("the connection ended"),
            }
        }
    }

    /// Collects a stage's output to its end; no byte may be missing or come twice.
    pub(crate) fn finish(&mut self, id: &str) -> Finished {
        let mut held = [Vec::new(), Vec::new()];
        loop {
            match self.next() {
                Some(ToRunner::Output {
                    id: other,
                    stream,
                    offset,
                    bytes,
                }) if other == id => {
                    let held = &mut held[usize::from(stream == Stream::Stderr)];
                    assert_eq!(offset, held.len() as u64, "offset of {stream:?}");
                    held.extend(bytes);
                }
                Some(ToRunner::State {
                    id: other,
                    state:
                        StageState::Done {
                            exit_code,
                            error,
                            output,
                            entries,
                        },
                }) if other == id => {
                    let [stdout, stderr] = held;
                    let lengths = Offsets {
                        stdout: stdout.len() as u64,
                        stderr: stderr.len() as u64,
                    };
                    assert_eq!(output, lengths, "all output comes before the end");
                    return Finished {
                        exit_code,
                        error,
                        stdout,
                        stderr,
                        entries,
                    };
                }
                Some(ToRunner::State { .. }) => {}
                other => panic!("{id}: {other:?}"),
            }
        }
    }
}
