//! A file that is read while it is still written: an archive that is packed and sent at once, or received and unpacked at once.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Read at once from a file.
const MOST: usize = 256 << 10;

/// One writes to the file and says how far; others read up to there and wait for more. What readers get is all of the file, or an error:
/// its end is the end only after [`Growing::finish`].
#[derive(Debug)]
pub struct Growing {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Whole,
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// Bytes from the beginning that are there.
    len: u64,
    end: End,
    /// Counts beginnings.
    generation: u64,
}

impl Growing {
    /// Of an empty file, which the caller writes to.
    pub fn new(file: File) -> Self {
        Self {
            file,
            state: Mutex::new(State {
                len: 0,
                end: End::Open,
                generation: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes that readers may have.
    pub fn held(&self) -> u64 {
        self.lock().len
    }

    /// There are so many bytes now. Never fewer than before.
    pub fn grow_to(&self, len: u64) {
        self.change(|state| state.len = state.len.max(len));
    }

    /// What was there is void: the file begins anew. To be called before the first byte is changed.
    pub fn restart(&self) {
        self.change(|state| {
            state.len = 0;
            state.generation += 1;
        });
    }

    /// The file is whole.
    pub fn finish(&self) {
        self.change(|state| {
            if state.end == End::Open {
                state.end = End::Whole;
            }
        });
    }

    /// There will be no more, and what is there is of no use. After [`Growing::finish`] it says nothing.
    pub fn fail(&self) {
        self.change(|state| {
            if state.end == End::Open {
                state.end = End::Failed;
            }
        });
    }

    /// Something to hold while the file is written: nobody shall wait for a writer that is gone.
    pub fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// Reads from the beginning.
    pub fn reader(&self) -> Reader<'_> {
        self.reader_at(0)
    }

    /// Reads from somewhere on.
    pub fn reader_at(&self, at: u64) -> Reader<'_> {
        Reader {
            source: self,
            at,
            generation: self.lock().generation,
        }
    }

    /// Waits until there are so many bytes, or until it is whole with fewer; gives how many of them there are.
    ///
    /// # Errors
    /// If it failed.
    pub fn wait_for(&self, len: u64) -> io::Result<u64> {
        let mut state = self.lock();
        loop {
            match state.end {
                End::Failed => return Err(failed()),
                End::Open if state.len < len => state = self.wait(state),
                End::Open | End::Whole => return Ok(state.len.min(len)),
            }
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.lock().end == End::Whole
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Waits for the end of this beginning. `Ok(false)`: there is another one.
    pub(crate) fn wait_for_end(&self, generation: u64) -> io::Result<bool> {
        let mut state = self.lock();
        loop {
            if state.generation != generation {
                return Ok(false);
            }
            match state.end {
                End::Open => state = self.wait(state),
                End::Whole => return Ok(true),
                End::Failed => return Err(failed()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Fails a [`Growing`] file that is not whole when this is dropped.
#[derive(Debug)]
pub struct Guard<'a>(&'a Growing);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.fail();
    }
}

fn failed() -> io::Error {
    io::Error::other("the rest of the archive did not come")
}

/// Reads a [`Growing`] file, waiting for what is not there yet.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Growing,
    at: u64,
    generation: u64,
}

impl Reader<'_> {
    fn check(&self, state: State) -> io::Result<()> {
        if state.generation != self.generation {
            return Err(io::Error::other("the archive began anew"));
        }
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let there = {
            let mut state = self.source.lock();
            loop {
                self.check(*state)?;
                if state.len > self.at {
                    break state.len - self.at;
                }
                match state.end {
                    End::Whole => return Ok(0),
                    End::Failed => return Err(failed()),
                    End::Open => state = self.source.wait(state),
                }
            }
        };
        let want = buffer
            .len()
            .min(MOST)
            .min(usize::try_from(there).unwrap_or(MOST));
        let read = self.source.file.read_at(&mut buffer[..want], self.at)?;
        // What was read may be of the next beginning.
        self.check(*self.source.lock())?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Reader<'_> {
    /// From the beginning or from here; where the end will be is not known.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    fn growing() -> Growing {
        Growing::new(tempfile::tempfile().unwrap())
    }

    fn add(growing: &Growing, bytes: &[u8]) {
        let held = growing.held();
        growing.file().write_all_at(bytes, held).unwrap();
        growing.grow_to(held + bytes.len() as u64);
    }

    #[test]
    fn a_reader_waits_for_more_and_ends_with_the_file() {
        let growing = growing();
        let (say, hear) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut reader = growing.reader();
                let mut buffer = [0; 16];
                loop {
                    let read = reader.read(&mut buffer).unwrap();
                    say.send(buffer[..read].to_vec()).unwrap();
                    if read == 0 {
                        break;
                    }
                }
            });
            for part in ["one", "two"] {
                add(&growing, part.as_bytes());
                assert_eq!(hear.recv().unwrap(), part.as_bytes());
            }
            growing.finish();
            assert_eq!(hear.recv().unwrap(), b"");
        });
        growing.fail();
        assert!(growing.is_whole(), "what is whole stays so");
    }

    #[test]
    fn what_fails_or_begins_anew_is_an_error_for_who_reads_it() {
        let growing = growing();
        add(&growing, b"part");
        let mut reader = growing.reader();
        let mut buffer = [0; 2];
        assert_eq!(reader.read(&mut buffer).unwrap(), 2);
        growing.restart();
        add(&growing, b"other");
        let error = reader.read(&mut buffer).unwrap_err();
        assert_eq!(error.to_string(), "the archive began anew");
        assert!(!growing.wait_for_end(0).unwrap());

        let mut text = Vec::new();
        growing.fail();
        let error = growing.reader().read_to_end(&mut text).unwrap_err();
        assert_eq!(
            (&text[..], &error.to_string()[..]),
            (&b"other"[..], "the rest of the archive did not come")
        );
        assert!(growing.wait_for(3).is_err() && growing.wait_for_end(1).is_err());
    }

    #[test]
    fn whoever_waits_for_a_length_gets_it_or_what_there_is_of_it() {
        let growing = growing();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| growing.wait_for(5).unwrap());
            add(&growing, b"123");
            add(&growing, b"456");
            assert_eq!(waiting.join().unwrap(), 5);
            let waiting = scope.spawn(|| growing.wait_for(9).unwrap());
            growing.finish();
            assert_eq!(waiting.join().unwrap(), 6);
        });
    }
}
