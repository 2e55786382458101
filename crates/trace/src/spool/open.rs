//! Opening a spool that another process left: find the last whole record, cut off the rest.

use std::path::Path;

use super::files::{CURSOR, CURSOR_NEW, NamedFile, TRACE};
use super::record::{self, Header, Record, VERSION};
use super::{Spool, StreamCursor};
use crate::job_trace::{Opened, TraceProgress};
use crate::limit::Limit;
use crate::processor::Consumed;
use crate::{Stream, TraceError};

/// How the output is read to check it.
const CHECK_BUFFER: usize = 64 * 1024;

pub(super) fn open(folder: &Path, limit_bytes: u64) -> Result<(Spool, Opened), TraceError> {
    // Left by a process that died while it rewrote the cursor; the old one is still in place.
    std::fs::remove_file(folder.join(CURSOR_NEW)).ok();
    let trace = NamedFile::open(folder.join(TRACE), false)?;
    let cursor = NamedFile::open(folder.join(CURSOR), false)?;
    let mut spool = Spool::empty(folder, trace, cursor, limit_bytes);
    let trace_on_disk = spool.trace.len()?;
    let cursor_on_disk = spool.cursor.len()?;
    let lines = read_all(&spool.cursor)?;

    let records_lost = spool.replay_records(&lines, trace_on_disk, limit_bytes)?;
    if spool.cursor_len == 0 {
        spool.cursor.truncate(0)?;
        spool.write_header()?;
    } else {
        spool.cursor.truncate(spool.cursor_len)?;
    }
    spool.trace.truncate(spool.trace_len)?;
    spool.progress = TraceProgress {
        len: spool.trace_len,
        checksum: spool.checksum.clone().finalize(),
        finished: spool.finished,
    };
    let opened = Opened {
        len: spool.trace_len,
        trace_bytes_cut: trace_on_disk - spool.trace_len,
        cursor_bytes_cut: cursor_on_disk.saturating_sub(spool.cursor_len),
        records_lost,
        finished: spool.finished,
    };
    Ok((spool, opened))
}

impl Spool {
    /// Applies all whole records whose output is in the file, and returns how many have none.
    fn replay_records(
        &mut self,
        content: &[u8],
        trace_on_disk: u64,
        limit_bytes: u64,
    ) -> Result<u64, TraceError> {
        let whole = memchr::memrchr(b'\n', content).map_or(0, |end| end + 1);
        let mut lines = content[..whole].split_inclusive(|&byte| byte == b'\n');
        let Some(first) = lines.next() else {
            return Ok(0);
        };
        let header: Header = self.parse(first)?;
        if header.version > VERSION {
            return Err(TraceError::Version {
                path: self.cursor.path.clone(),
                found: header.version,
                known: VERSION,
            });
        }
        self.cursor_len = first.len() as u64;
        let mut lost = 0;
        for line in lines {
            let record: Record = self.parse(line)?;
            if lost > 0 || record.len > trace_on_disk {
                if record.base {
                    return Err(self.corrupt_trace(trace_on_disk, "shorter than its first record"));
                }
                lost += 1;
                continue;
            }
            self.check_output(&record)?;
            self.apply(record, limit_bytes)?;
            self.cursor_len += line.len() as u64;
        }
        Ok(lost)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, line: &[u8]) -> Result<T, TraceError> {
        record::read_line(line.trim_ascii_end()).map_err(|reason| self.corrupt_cursor(reason))
    }

    /// Reads the output up to the record and compares its checksum.
    fn check_output(&mut self, record: &Record) -> Result<(), TraceError> {
        if record.len < self.trace_len {
            return Err(self.corrupt_cursor("a record's output is shorter than the one before"));
        }
        let mut buffer = Vec::new();
        while self.trace_len < record.len {
            let rest = record.len - self.trace_len;
            buffer.resize(
                usize::try_from(rest)
                    .unwrap_or(CHECK_BUFFER)
                    .min(CHECK_BUFFER),
                0,
            );
            let count = self.trace.read_at(&mut buffer, self.trace_len)?;
            if count == 0 {
                return Err(self.corrupt_trace(self.trace_len, "shrank while it was read"));
            }
            self.checksum.update(&buffer[..count]);
            self.trace_len += count as u64;
        }
        if self.checksum.clone().finalize() != record.checksum {
            return Err(self.corrupt_trace(record.len, "checksum does not match the record"));
        }
        Ok(())
    }

    fn apply(&mut self, record: Record, limit_bytes: u64) -> Result<(), TraceError> {
        if record.base {
            self.sources.clear();
            self.streams.clear();
            self.once.clear();
        }
        self.limit = Limit::new(limit_bytes, record.limit_reached);
        self.finished = record.finished;
        self.sources.extend(record.sources);
        self.sources_recorded = self.sources.len();
        self.once.extend(record.once);
        for update in record.updates {
            if update.source >= self.sources.len() {
                return Err(self.corrupt_cursor("a record names an unknown source"));
            }
            let key: (usize, Stream) = (update.source, update.stream);
            let cursor: &mut StreamCursor = self.streams.entry(key).or_default();
            cursor.consumed = Consumed {
                bytes: update.consumed,
                checksum: update.checksum,
                state: update.state,
            };
            cursor.closed = update.closed;
            cursor.places.restore(&update.earlier);
            cursor.places.note(&cursor.consumed);
        }
        Ok(())
    }

    fn corrupt_cursor(&self, reason: impl Into<String>) -> TraceError {
        TraceError::Corrupt {
            path: self.cursor.path.clone(),
            offset: self.cursor_len,
            reason: reason.into(),
        }
    }

    fn corrupt_trace(&self, offset: u64, reason: &str) -> TraceError {
        TraceError::Corrupt {
            path: self.trace.path.clone(),
            offset,
            reason: reason.to_owned(),
        }
    }
}

fn read_all(file: &NamedFile) -> Result<Vec<u8>, TraceError> {
    let mut content = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let count = file.read_at(&mut content, 0)?;
    content.truncate(count);
    Ok(content)
}
