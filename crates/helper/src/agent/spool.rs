//! Output of one stage, kept until the runner holds it.
//!
//! Both streams are in one queue, so that they are sent in the order in which they were written. A bounded part is in memory, the
//! rest in an unlinked file; if that cannot be written, the spool is full and the stage waits.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use gantry_agent::{Offsets, Stream};

/// Longest piece sent at once.
pub(crate) const PIECE: usize = 64 * 1024;
/// Bytes of one stage kept in memory.
const MEMORY: usize = 1 << 20;
/// What a queue entry costs besides its bytes.
const ENTRY: usize = 96;

/// The queue.
#[derive(Debug)]
pub(crate) struct Spool {
    chunks: VecDeque<Chunk>,
    /// Number of chunks dropped from the front: the sequence number of the first one.
    dropped: u64,
    memory: usize,
    limit: usize,
    file: Overflow,
    written: Offsets,
    acked: Offsets,
}

#[derive(Debug)]
struct Chunk {
    stream: Stream,
    offset: u64,
    len: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    File(u64),
}

#[derive(Debug)]
struct Overflow {
    path: PathBuf,
    file: Option<File>,
    end: u64,
    chunks: usize,
}

/// Where one reader stands.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    sent: Offsets,
    sequence: u64,
}

/// A piece to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) stream: Stream,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Spool {
    /// An empty one. `overflow` is a path at which a file may be created and unlinked at once.
    pub(crate) fn new(overflow: &Path) -> Self {
        Self::with_limit(overflow, MEMORY)
    }

    fn with_limit(overflow: &Path, limit: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            dropped: 0,
            memory: 0,
            limit,
            file: Overflow {
                path: overflow.to_owned(),
                file: None,
                end: 0,
                chunks: 0,
            },
            written: Offsets::default(),
            acked: Offsets::default(),
        }
    }

    /// Appends. `false`: full, try again when something has been acknowledged.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let offset = self.written.get(stream);
        // An empty spool takes anything, or a piece above the limit would wait for ever.
        if self.memory + bytes.len() + ENTRY <= self.limit || self.chunks.is_empty() {
            match self.chunks.back_mut() {
                Some(Chunk {
                    stream: last,
                    len,
                    place: Place::Memory(kept),
                    ..
                }) if *last == stream && *len + bytes.len() <= PIECE => {
                    kept.extend_from_slice(bytes);
                    *len += bytes.len();
                }
                _ => {
                    self.memory += ENTRY;
                    let place = Place::Memory(bytes.to_vec());
                    self.chunks.push_back(Chunk {
                        stream,
                        offset,
                        len: bytes.len(),
                        place,
                    });
                }
            }
            self.memory += bytes.len();
        } else {
            let Ok(place) = self.file.append(bytes) else {
                return false;
            };
            match self.chunks.back_mut() {
                Some(Chunk {
                    stream: last,
                    len,
                    place: Place::File(start),
                    ..
                }) if *last == stream
                    && *start + *len as u64 == place
                    && *len + bytes.len() <= PIECE =>
                {
                    *len += bytes.len();
                }
                _ => {
                    self.memory += ENTRY;
                    self.file.chunks += 1;
                    self.chunks.push_back(Chunk {
                        stream,
                        offset,
                        len: bytes.len(),
                        place: Place::File(place),
                    });
                }
            }
        }
        self.written.set(stream, offset + bytes.len() as u64);
        true
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> Offsets {
        self.written
    }

    /// The reader holds a stream up to `offset`. Lower or impossible offsets change nothing.
    pub(crate) fn ack(&mut self, stream: Stream, offset: u64) {
        if offset <= self.acked.get(stream) || offset > self.written.get(stream) {
            return;
        }
        self.acked.set(stream, offset);
        while let Some(chunk) = self.chunks.front()
            && chunk.offset + chunk.len as u64 <= self.acked.get(chunk.stream)
        {
            self.memory -= ENTRY;
            match &chunk.place {
                Place::Memory(bytes) => self.memory -= bytes.len(),
                Place::File(_) => self.file.release(),
            }
            self.dropped += 1;
            self.chunks.pop_front();
        }
    }

    /// A reader that holds `from` already.
    pub(crate) fn cursor(&self, from: Offsets) -> Cursor {
        let clamp = |stream| {
            from.get(stream)
                .clamp(self.acked.get(stream), self.written.get(stream))
        };
        let sent = Offsets {
            stdout: clamp(Stream::Stdout),
            stderr: clamp(Stream::Stderr),
        };
        Cursor {
            sent,
            sequence: self.dropped,
        }
    }

    /// Whether the reader has been given everything written so far.
    pub(crate) fn at_end(&self, cursor: &Cursor) -> bool {
        cursor.sent == self.written
    }

    /// The next piece for a reader.
    ///
    /// # Errors
    /// If the overflow file cannot be read.
    pub(crate) fn read(&self, cursor: &mut Cursor) -> io::Result<Option<Piece>> {
        cursor.sequence = cursor.sequence.max(self.dropped);
        for stream in [Stream::Stdout, Stream::Stderr] {
            // Acknowledged without having been sent: not wanted.
            cursor
                .sent
                .set(stream, cursor.sent.get(stream).max(self.acked.get(stream)));
        }
        loop {
            let index = usize::try_from(cursor.sequence - self.dropped).unwrap_or(usize::MAX);
            let Some(chunk) = self.chunks.get(index) else {
                return Ok(None);
            };
            let end = chunk.offset + chunk.len as u64;
            let from = cursor.sent.get(chunk.stream).max(chunk.offset);
            if from < end {
                // Chunks are no longer than a piece.
                let skip = (from - chunk.offset) as usize;
                let bytes = match &chunk.place {
                    Place::Memory(bytes) => bytes[skip..].to_vec(),
                    Place::File(start) => self.file.read(start + skip as u64, chunk.len - skip)?,
                };
                cursor.sent.set(chunk.stream, end);
                return Ok(Some(Piece {
                    stream: chunk.stream,
                    offset: from,
                    bytes,
                }));
            }
            // The last one may still grow.
            if index + 1 == self.chunks.len() {
                return Ok(None);
            }
            cursor.sequence += 1;
        }
    }
}

impl Overflow {
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.file.is_none() {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&self.path)?;
            std::fs::remove_file(&self.path)?;
            self.file = Some(file);
        }
        let place = self.end;
        if let Some(file) = &self.file {
            file.write_all_at(bytes, place)?;
        }
        self.end += bytes.len() as u64;
        Ok(place)
    }

    fn read(&self, place: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut bytes, place)?;
        }
        Ok(bytes)
    }

    /// One chunk less; the last one gives the space back.
    fn release(&mut self) {
        self.chunks -= 1;
        if self.chunks == 0 {
            self.file = None;
            self.end = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stream::{Stderr, Stdout};

    fn drain(spool: &Spool, cursor: &mut Cursor) -> Vec<(Stream, u64, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(piece) = spool.read(cursor).unwrap() {
            all.push((piece.stream, piece.offset, piece.bytes));
        }
        all
    }

    fn spool(limit: usize) -> (tempfile::TempDir, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::with_limit(&dir.path().join("overflow"), limit);
        (dir, spool)
    }

    #[test]
    fn streams_keep_their_order_and_their_own_offsets() {
        let (_dir, mut spool) = spool(1000);
        let mut cursor = spool.cursor(Offsets::default());
        spool.push(Stdout, b"one");
        spool.push(Stderr, b"two");
        spool.push(Stdout, b"three");
        let all = [
            (Stdout, 0, b"one".to_vec()),
            (Stderr, 0, b"two".to_vec()),
            (Stdout, 3, b"three".to_vec()),
        ];
        assert_eq!(drain(&spool, &mut cursor), all);
        assert!(spool.at_end(&cursor));
        spool.push(Stdout, b"more");
        assert_eq!(drain(&spool, &mut cursor), [(Stdout, 8, b"more".to_vec())]);
    }

    #[test]
    fn a_reader_that_comes_back_gets_the_rest_only() {
        let (_dir, mut spool) = spool(1000);
        spool.push(Stdout, b"abcdef");
        spool.push(Stderr, b"xyz");
        let mut cursor = spool.cursor(Offsets {
            stdout: 4,
            stderr: 3,
        });
        assert_eq!(drain(&spool, &mut cursor), [(Stdout, 4, b"ef".to_vec())]);
        spool.ack(Stdout, 5);
        let mut behind = spool.cursor(Offsets::default());
        assert_eq!(
            drain(&spool, &mut behind),
            [(Stdout, 5, b"f".to_vec()), (Stderr, 0, b"xyz".to_vec())]
        );
    }

    #[test]
    fn output_beyond_memory_goes_through_the_file_and_comes_back_whole() {
        let (dir, mut spool) = spool(1000);
        let mut cursor = spool.cursor(Offsets::default());
        let mut expected = Vec::new();
        for n in 0..5000_u32 {
            let line = format!("line {n}\n");
            assert!(spool.push(Stdout, line.as_bytes()));
            expected.extend_from_slice(line.as_bytes());
        }
        assert!(spool.file.end > 0);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "the file has no name"
        );
        let got: Vec<u8> = drain(&spool, &mut cursor)
            .into_iter()
            .flat_map(|(_, _, bytes)| bytes)
            .collect();
        assert!(got == expected);
        spool.ack(Stdout, expected.len() as u64);
        assert!(spool.chunks.is_empty() && spool.memory == 0 && spool.file.file.is_none());
    }

    #[test]
    fn without_a_file_a_full_spool_says_so_and_goes_on_after_an_ack() {
        let mut spool = Spool::with_limit(Path::new("/nonexistent/overflow"), 1000);
        assert!(
            spool.push(Stdout, &[b'x'; 5000]),
            "an empty spool takes anything"
        );
        assert!(!spool.push(Stdout, b"y"));
        spool.ack(Stdout, 6000);
        assert!(
            !spool.push(Stdout, b"y"),
            "an impossible ack changes nothing"
        );
        spool.ack(Stdout, 5000);
        assert!(spool.push(Stdout, b"y"));
        assert_eq!(
            spool.written(),
            Offsets {
                stdout: 5001,
                stderr: 0
            }
        );
    }
}
