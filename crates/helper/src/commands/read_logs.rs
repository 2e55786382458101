//! `read-logs`: prints a file's lines as they come, each with the offset behind it, so that whoever reads can go on there. It ends
//! when the file goes. (In the peer, the log of a job reaches its Kubernetes executor so.)

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{Failed, flags::Flags};

/// Exit code where the file is no more, as the peer has it.
const GONE: u8 = 100;
/// A longer line comes in pieces of so many bytes.
const LINE: usize = 16 * 1024;
/// Between two looks at the file.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(flags: &Flags) -> Result<(), Failed> {
    let Some(path) = flags.filled("path") else {
        return Err("read-logs: --path is missing".into());
    };
    let limit = Duration::from_secs(flags.seconds("wait-file-timeout"));
    let ended = open(Path::new(path), limit).and_then(|file| {
        follow(
            file,
            Path::new(path),
            flags.count("offset"),
            &mut io::stdout(),
        )
    });
    match ended {
        Ok(()) => Err(Failed {
            text: None,
            code: GONE,
        }),
        // Nobody reads any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            // Where the reader looks for it.
            crate::log::plain(&format!("error reading logs {path}: {error}\n"));
            Err(Failed {
                text: None,
                code: 1,
            })
        }
    }
}

/// The file, which may take some time to come.
fn open(path: &Path, limit: Duration) -> io::Result<File> {
    let begin = Instant::now();
    loop {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if begin.elapsed() >= limit {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("timeout waiting for file to be created ({limit:?})"),
                    ));
                }
            }
            other => return other,
        }
        thread::sleep(PAUSE);
    }
}

/// Until the file is gone from its place.
fn follow(file: File, path: &Path, mut offset: u64, to: &mut impl Write) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(LINE, file);
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::with_capacity(LINE);
    loop {
        // Looked at before the read: what was written before the file went is read all the same.
        let is_there = path.try_exists()?;
        line.clear();
        io::Read::take(&mut reader, LINE as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            if !is_there {
                return Ok(());
            }
            thread::sleep(PAUSE);
            continue;
        }
        offset += line.len() as u64;
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        write!(to, "{offset} ")?;
        to.write_all(&line)?;
        to.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is printed of a file, which is removed at once.
    fn printed(content: &[u8], offset: u64) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut out = Vec::new();
        follow(file, &path, offset, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_have_the_offset_behind_them() {
        assert_eq!(printed(b"", 0), "");
        assert_eq!(printed(b"one\ntwo\n", 0), "4 one\n8 two\n");
        assert_eq!(printed(b"one\ntwo\n", 4), "8 two\n");
        // A begun line is told at once, and its rest later.
        assert_eq!(printed(b"one\ntw", 0), "4 one\n6 tw\n");
        assert_eq!(printed(b"\n", 0), "1 \n");
        assert_eq!(printed(b"one\n", 9), "");
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let long = "x".repeat(LINE + 5);
        let printed = printed(format!("{long}\ny").as_bytes(), 0);
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], format!("{LINE} {}", "x".repeat(LINE)));
        assert_eq!(lines[1], format!("{} xxxxx", LINE + 6));
        assert_eq!(lines[2], format!("{} y", LINE + 7));
    }
}
