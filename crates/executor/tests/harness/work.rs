use std::{sync::Arc, time::Duration};

use gantry_engine::fake::FakeEngine;

use super::bench::Server;

/// What a script or a helper stage does.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) exit: i64,
    pub(crate) on_term: OnTerm,
}

/// One thing done.
#[derive(Clone)]
pub(crate) enum Piece {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Pause(Duration),
    Do(Arc<dyn Fn(&World) + Send + Sync>),
    /// A process is killed for memory.
    Oom,
    /// Goes on until it is told to end.
    Hang,
}

/// What happens on TERM.
#[derive(Clone)]
pub(crate) enum OnTerm {
    /// Says its last words and ends with this code.
    Ends { words: &'static str, code: i64 },
    /// Nothing.
    Deaf,
}

/// What work can reach of the world outside.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) engine: FakeEngine,
    pub(crate) server: Server,
}

impl Work {
    /// Does nothing and ends well.
    pub(crate) fn nothing() -> Self {
        Self {
            pieces: Vec::new(),
            exit: 0,
            on_term: OnTerm::Ends { words: "", code: 1 },
        }
    }

    /// Prints a line.
    pub(crate) fn says(text: &str) -> Self {
        Self::nothing().out(text)
    }

    /// Output on both streams in pieces that end within lines, with pauses between; the last line has no end.
    pub(crate) fn talks() -> Self {
        Self::nothing()
            .out("first line\n")
            .err("warning: second line\n")
            .out("third line, said in ")
            .pause_ms(300)
            .out("two pieces\nfourth line\n")
            .pause_ms(1200)
            .err("fifth ")
            .err("line\n")
            .out("a last line without end")
    }

    /// Output, then on and on until it is told to end.
    pub(crate) fn hangs() -> Self {
        let mut work = Self::says("on and on\n");
        work.pieces.push(Piece::Hang);
        work
    }

    pub(crate) fn out(mut self, text: &str) -> Self {
        self.pieces.push(Piece::Out(text.as_bytes().to_vec()));
        self
    }

    pub(crate) fn err(mut self, text: &str) -> Self {
        self.pieces.push(Piece::Err(text.as_bytes().to_vec()));
        self
    }

    pub(crate) fn pause_ms(mut self, ms: u64) -> Self {
        self.pieces.push(Piece::Pause(Duration::from_millis(ms)));
        self
    }

    pub(crate) fn does(mut self, act: impl Fn(&World) + Send + Sync + 'static) -> Self {
        self.pieces.push(Piece::Do(Arc::new(act)));
        self
    }

    pub(crate) fn oom(mut self) -> Self {
        self.pieces.push(Piece::Oom);
        self
    }

    pub(crate) fn then_hangs(mut self) -> Self {
        self.pieces.push(Piece::Hang);
        self
    }

    pub(crate) fn exits(mut self, code: i64) -> Self {
        self.exit = code;
        self
    }

    pub(crate) fn on_term(mut self, on_term: OnTerm) -> Self {
        self.on_term = on_term;
        self
    }
}
