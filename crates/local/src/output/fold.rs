//! Hides what the runner says on its way to the script, unless it matters.
//!
//! Before a job's first command the log has a dozen lines about images and folders, and after the
//! last one some about cleaning up. They are the same in every job, so on a screen where many jobs
//! stand side by side they are shown only where something is wrong, where they take long, or where
//! the job ends among them. The marks that sections of a GitLab log have tell them apart; marks
//! never show.

use std::time::Duration;

use gantry_job::Stage;
use tokio::time::Instant;

/// Hidden lines show when their section takes longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// More lines than this are worth a look.
const MOST_HELD: usize = 64 * 1024;

/// What is hidden of one job's log.
#[derive(Debug)]
pub(crate) struct Fold {
    /// Everything shows.
    verbose: bool,
    section: Section,
    /// Lines of the hidden section, or of the last one while nothing else has begun.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// One that shows, or none.
    Shown,
    /// One that is hidden, since then.
    Hidden(Instant),
}

impl Fold {
    pub(crate) fn new(verbose: bool) -> Self {
        Self {
            verbose,
            section: Section::Shown,
            held: Vec::new(),
        }
    }

    /// Takes a mark in.
    pub(super) fn mark(&mut self, mark: &Mark<'_>, now: Instant) {
        if !mark.starts {
            self.section = Section::Shown;
            if mark.stage == Stage::CleanupFileVariables {
                // What fails the job was before it.
                self.held.clear();
            }
            return;
        }
        self.held.clear();
        self.section = if self.verbose || mark.stage.is_user_script() {
            Section::Shown
        } else {
            Section::Hidden(now)
        };
    }

    /// Where the line goes to: `out`, or away until it matters.
    pub(super) fn place<'a>(&'a mut self, line: &[u8], out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if is_problem(line) || self.held.len() > MOST_HELD {
            self.show(out);
        }
        match self.section {
            Section::Shown => out,
            Section::Hidden(_) => &mut self.held,
        }
    }

    /// Shows what is hidden, and the rest of its section.
    pub(super) fn show(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.section = Section::Shown;
    }

    /// Shows what is hidden if the log ends in it.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if self.section != Section::Shown {
            self.show(out);
        }
    }

    /// When what is hidden is to be shown at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.section {
            Section::Hidden(since) if !self.held.is_empty() => Some(since + PATIENCE),
            _ => None,
        }
    }
}

/// The start or end of a section of one of the runner's stages.
pub(super) struct Mark<'a> {
    starts: bool,
    stage: Stage,
    /// The rest of the line.
    pub(super) after: &'a [u8],
}

/// The first mark in a line, and what stands before it: output that did not end its line.
pub(super) fn find(line: &[u8]) -> Option<(&[u8], Mark<'_>)> {
    // Nearly all lines end here.
    if !line.contains(&b'\r') {
        return None;
    }
    let mut at = 0;
    while let Some(next) = line[at..].iter().position(|&byte| byte == b's') {
        at += next;
        if let Some(mark) = mark(&line[at..]) {
            return Some((&line[..at], mark));
        }
        at += 1;
    }
    None
}

/// The mark that a text begins with.
fn mark(text: &[u8]) -> Option<Mark<'_>> {
    let start = text.strip_prefix(b"section_start:".as_slice());
    let rest = start.or_else(|| text.strip_prefix(b"section_end:".as_slice()))?;
    let end = rest.iter().position(|&byte| byte == b'\r')?;
    let after = rest[end..].strip_prefix(b"\r\x1b[0K".as_slice())?;
    let (time, name) = std::str::from_utf8(&rest[..end]).ok()?.split_once(':')?;
    let is_time = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
    let stage = name.parse().ok()?;
    is_time.then_some(Mark {
        starts: start.is_some(),
        stage,
        after,
    })
}

/// A line of the runner or its helper that says what is wrong (coordinator-api §11, job-lifecycle §8).
fn is_problem(line: &[u8]) -> bool {
    let starts = [
        b"\x1b[0;33mWARNING: ".as_slice(),
        b"\x1b[31;1mERROR: ",
        // A cache that is damaged or cannot be written fails no job.
        b"\x1b[31;1mFATAL: ",
        // Of a service that did not come up, and what services print, if the job asks for it.
        b"\x1b[0;33m*** WARNING:",
        b"\x1b[0;37m[service:",
    ];
    starts.iter().any(|start| line.starts_with(start))
}
