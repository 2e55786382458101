//! Lines of both streams in the order in which they were written.
//!
//! Standard output and standard error are two pipes, and their reader cannot tell which of two lines came first if it finds both. So
//! whoever turns from one stream to the other waits until what the other holds is taken.

use std::{
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FileType, fstat},
    io::ioctl_fionread,
};

/// A reader that takes longer is busy with something else, and so is the order of lines.
const LIMIT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(100);

/// Waits for the reader of `other` before something is written to `stream`. Only pipes have one, and two names of one pipe keep their
/// order by themselves.
pub(crate) fn turn(stream: impl AsFd, other: impl AsFd) {
    let (Ok(here), Ok(there)) = (fstat(&stream), fstat(&other)) else {
        return;
    };
    let is_pipe = FileType::from_raw_mode(there.st_mode) == FileType::Fifo;
    if is_pipe && (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) {
        until_taken(other, LIMIT);
    }
}

/// Whether the reader took all within the limit.
fn until_taken(pipe: impl AsFd, limit: Duration) -> bool {
    let begun = Instant::now();
    while ioctl_fionread(&pipe).is_ok_and(|pending| pending > 0) {
        if begun.elapsed() > limit {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read, Write},
        sync::mpsc,
    };

    use super::*;

    #[test]
    fn who_turns_to_the_other_stream_waits_for_the_reader_of_the_first() {
        let (mut reader, mut other) = io::pipe().unwrap();
        let (_kept, stream) = io::pipe().unwrap();
        other.write_all(b"one").unwrap();
        let (begin, begun) = mpsc::channel();
        let reading = thread::spawn(move || {
            begun.recv().unwrap();
            let mut text = [0; 3];
            reader.read_exact(&mut text).unwrap();
            reader
        });
        begin.send(()).unwrap();
        turn(&stream, &other);
        assert_eq!(ioctl_fionread(&other).unwrap(), 0);
        reading.join().unwrap();
    }

    #[test]
    fn nobody_waits_for_ever_for_a_reader_that_does_not_read() {
        let (_reader, mut other) = io::pipe().unwrap();
        assert!(until_taken(&other, Duration::ZERO), "there is nothing");
        other.write_all(b"one").unwrap();
        assert!(!until_taken(&other, Duration::ZERO));
    }
}
