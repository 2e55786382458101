//! Writing to journal and log where a full disk makes the job wait instead of losing it; its containers run on meanwhile.

use std::time::Duration;

use gantry_job::{Cause, JobState, Outcome};
use gantry_journal::Journal;
use gantry_trace::{JobTrace, Level, TraceError};
use tokio::time::sleep;

use crate::{ExecutorError, Record, Verdict, unix_ms};

const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

/// Appends to the journal; with `synced` it is on the disk when this returns.
pub(crate) async fn note(
    journal: &Journal<Record>,
    record: &Record,
    synced: bool,
) -> Result<(), ExecutorError> {
    let mut told = false;
    loop {
        let noted = if synced {
            journal.append_synced(record).await
        } else {
            journal.append(record).await
        };
        match noted {
            Err(error) if error.is_no_space() => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%error, "the job waits for space on the disk");
                }
                sleep(FULL_DISK_PAUSE).await;
            }
            other => return Ok(other?),
        }
    }
}

/// Does a write to the log until the disk has space for it.
pub(crate) async fn until_written<T>(
    mut write: impl FnMut() -> Result<T, TraceError>,
) -> Result<T, ExecutorError> {
    let mut told = false;
    loop {
        match write() {
            Err(error @ TraceError::DiskFull { .. }) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%error, "job output waits for space on the disk");
                }
                sleep(FULL_DISK_PAUSE).await;
            }
            other => return Ok(other?),
        }
    }
}

/// Writes the last line of the log, ends the log, and writes the verdict down. Also for a job that never got to the executor's
/// work. `stopped`: no container of the job runs any more.
///
/// # Errors
/// Only when the journal or the log cannot be written.
pub async fn conclude(
    journal: &Journal<Record>,
    trace: &JobTrace,
    cause: Option<Cause>,
    stopped: bool,
) -> Result<Verdict, ExecutorError> {
    match &cause {
        None => trace.line_once("last", Level::Info, &Outcome::Success.last_line()),
        Some(cause) => {
            let line = Outcome::Failed(cause.clone()).last_line();
            trace.line_once("last", Level::Error, line.trim_start_matches("ERROR: "))
        }
    };
    until_written(|| trace.finish()).await?;
    let progress = trace.progress();
    let verdict = Verdict {
        state: if cause.is_none() {
            JobState::Success
        } else {
            JobState::Failed
        },
        cause,
        checksum: progress.checksum,
        size: progress.len,
        ended_ms: Some(unix_ms()),
        stopped,
    };
    note(journal, &Record::Verdict(Box::new(verdict.clone())), true).await?;
    Ok(verdict)
}
