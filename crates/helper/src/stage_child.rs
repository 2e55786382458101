//! Stages of archives run in a process of their own, `gantry-helper run-stage`: its memory is given back when they end, it is canceled
//! like any command, and if it dies the agent, and with it the job, lives on.
//!
//! The request comes by standard input, as it may hold permissions; the results go to a file in the agent's private directory.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use gantry_agent::{EntryOutcome, EntryResult, StageRequest, Variable};
use gantry_archive::STAGING_PREFIX;

use crate::{
    artifacts, cache, files, git_config,
    stage::{Show, Stage, StageError, text},
};

/// The command.
pub(crate) const COMMAND: &str = "run-stage";
/// No more results are reported than a message holds.
const MOST_RESULTS: usize = 40;
const LONGEST_ERROR: usize = 500;

/// Runs such a stage, on behalf of the agent.
pub(crate) fn run(stage: &mut Stage, request: &StageRequest) -> Result<(), StageError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (project_dir, variables): (&Path, &[Variable]) = match request {
        StageRequest::RestoreCache(request) => (&request.project_dir, &request.variables),
        StageRequest::ArchiveCache(request) => (&request.project_dir, &request.variables),
        StageRequest::DownloadArtifacts(request) => (&request.project_dir, &request.variables),
        StageRequest::UploadArtifacts(request) => (&request.project_dir, &request.variables),
        _ => return Err(StageError::own("internal error: no stage of archives")),
    };
    stage.export(variables);
    // `untracked` asks git in a directory of any owner.
    let _global = git_config::Global::install(stage, &[text(project_dir)], false, None)?;
    let results = stage.private.join(format!(
        "results-{}",
        NUMBER.fetch_add(1, Ordering::Relaxed)
    ));
    let cannot = |error: io::Error| StageError::own(format!("cannot start the helper: {error}"));
    let text = serde_json::to_vec(request).map_err(|error| cannot(error.into()))?;
    let (stdin, mut writer) = io::pipe().map_err(cannot)?;
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    command.arg(COMMAND).arg(&results);
    thread::Builder::new()
        .spawn(move || {
            // A process that ended early does not read it all.
            writer.write_all(&text).ok();
        })
        .map_err(cannot)?;
    let ended = stage.run(&mut command, Stdio::from(stdin), Show::All);
    let report = fs::read(&results)
        .ok()
        .and_then(|text| serde_json::from_slice::<Report>(&text).ok());
    files::remove(&results)?;
    if !matches!(ended, Ok(0)) {
        // What it had no time to take away itself.
        remove_staging(project_dir);
    }
    let status = ended?;
    let Some(report) = report else {
        let why = match status {
            137 => "was killed: it may have run out of memory".to_owned(),
            status => format!("ended with status {status}"),
        };
        return Err(StageError::own(format!(
            "the helper process of the stage {why}"
        )));
    };
    stage.entries = report.entries;
    match report.error {
        None => Ok(()),
        // It was printed where it happened.
        Some(text) => Err(StageError {
            exit_code: 1,
            text,
            explained: true,
        }),
    }
}

fn remove_staging(project_dir: &Path) {
    for entry in files::entries(project_dir).unwrap_or_default() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(STAGING_PREFIX)
        {
            files::remove(&entry.path()).ok();
        }
    }
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Report {
    entries: Vec<EntryResult>,
    error: Option<String>,
}

/// A result to begin with.
pub(crate) fn result(index: usize, outcome: EntryOutcome) -> EntryResult {
    EntryResult {
        entry: u32::try_from(index).unwrap_or(u32::MAX),
        outcome,
        error: None,
        files: 0,
        bytes: 0,
    }
}

/// `gantry-helper run-stage RESULTS`: the process.
pub(crate) fn child(results: &Path) -> Result<(), String> {
    let mut text = Vec::new();
    io::stdin()
        .read_to_end(&mut text)
        .map_err(|error| format!("cannot read the request: {error}"))?;
    let request: StageRequest = serde_json::from_slice(&text)
        .map_err(|error| format!("the request is not understood (column {})", error.column()))?;
    drop(text);
    let mut entries = Vec::new();
    let ended = match &request {
        StageRequest::RestoreCache(request) => {
            cache::restore::run(request, &mut entries);
            Ok(())
        }
        StageRequest::ArchiveCache(request) => {
            cache::save::run(request, &mut entries);
            Ok(())
        }
        StageRequest::DownloadArtifacts(request) => artifacts::download::run(request, &mut entries),
        StageRequest::UploadArtifacts(request) => artifacts::upload::run(request, &mut entries),
        _ => Err("no stage of archives".into()),
    };
    entries.truncate(MOST_RESULTS);
    for entry in &mut entries {
        if let Some(error) = &mut entry.error {
            *error = cut(error);
        }
    }
    let report = Report {
        entries,
        error: ended.err().map(|error| cut(&error)),
    };
    let write = || -> io::Result<()> {
        let mut file = File::create(results)?;
        file.write_all(&serde_json::to_vec(&report)?)
    };
    write().map_err(|error| format!("cannot write the results: {error}"))
}

/// One line of bounded length.
fn cut(text: &str) -> String {
    let mut out = String::new();
    for char in text.chars() {
        if out.len() + char.len_utf8() > LONGEST_ERROR {
            break;
        }
        out.push(if char.is_control() { ' ' } else { char });
    }
    out
}
