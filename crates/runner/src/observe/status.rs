//! The status of a running service, asked for over a socket in its state folder (`gantry status`).
//!
//! The protocol is HTTP with one page, `GET /status`, so that `curl --unix-socket` does as well. Fields are only ever added.

use std::{
    fs, io,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::UnixStream,
    time::{Instant, timeout},
};

use crate::{About, shared::Shared};

/// Name of the socket in the state folder.
pub const STATUS_SOCKET: &str = "status.sock";
/// An answer must be there within this time.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest report that is read: thousands of runners and jobs fit.
const REPORT_BYTES: usize = 16 * 1024 * 1024;
/// Longest path that the address of a socket holds.
const SOCKET_PATH_BYTES: usize = 100;

/// How things stand in the service. Times are seconds, sizes bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of the program.
    pub version: String,
    /// The release of GitLab Runner it stands for.
    pub compatible_version: String,
    /// Process id.
    pub pid: u32,
    /// `starting`, `running`, `graceful-shutdown`, `forceful-shutdown` or `detaching`.
    pub state: String,
    /// Since the start of the process.
    pub uptime_seconds: u64,
    /// Configuration file.
    pub config: PathBuf,
    /// State folder.
    pub state_folder: PathBuf,
    /// Where metrics are served, if they are.
    pub listen_address: Option<String>,
    /// What GitLab connects to for terminals of jobs, if they have any.
    #[serde(default)]
    pub session_server: Option<String>,
    /// `concurrent`.
    pub slots: usize,
    /// Slots in use: running jobs, and requests on their way.
    pub slots_used: usize,
    /// Free space on the disk of the state folder.
    pub free_bytes: Option<u64>,
    /// Ended jobs whose verdict the server does not take.
    pub outbox: usize,
    /// Runner entries in the order of the file.
    pub runners: Vec<RunnerStatusLine>,
    /// Jobs, oldest first.
    pub jobs: Vec<JobStatusLine>,
}

/// One runner entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerStatusLine {
    /// Short token.
    pub runner: String,
    /// `name`.
    pub name: String,
    /// `url`.
    pub url: String,
    /// `polling`, `waiting-for-slot`, `limit-reached`, `unhealthy`, `disk-full` or `stopped`.
    pub state: String,
    /// When the state changes by itself, if that is known.
    pub until_seconds: Option<u64>,
    /// Requests on their way.
    pub requests: usize,
    /// Jobs of it.
    pub jobs: usize,
    /// `limit`, if set.
    pub limit: Option<usize>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatusLine {
    /// Id on the server.
    pub id: i64,
    /// Its page.
    pub url: String,
    /// Name in the pipeline.
    pub name: String,
    /// Path of the project.
    pub project: String,
    /// Pipeline id.
    pub pipeline: i64,
    /// Short token of the runner.
    pub runner: String,
    /// `running`, `delivering` (the verdict goes out), `outbox` (it does so in the background) or `removing`.
    pub course: String,
    /// `pending`, `running`, or how it ended.
    pub state: String,
    /// Stage, as sections of the log are called.
    pub stage: String,
    /// What the executor does, in the words of `/debug/jobs/list`.
    pub executor_stage: String,
    /// Name of the build container, once planned.
    pub container: Option<String>,
    /// Somebody is connected to its interactive terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Since the job was taken.
    pub age_seconds: u64,
    /// Taken up from an earlier process.
    pub recovered: bool,
    /// Size of its journal.
    pub journal_bytes: u64,
    /// Size of its log.
    pub log_bytes: u64,
    /// The part of the log that the server has not taken yet.
    pub log_unsent_bytes: u64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody listens.
    #[error("no runner is running on the state folder {}", .0.display())]
    NotRunning(PathBuf),
    /// Somebody else's.
    #[error("the runner on the state folder {} belongs to another user", .0.display())]
    Denied(PathBuf),
    /// Something is there, but gives no report.
    #[error("the runner on the state folder {} gives no report: {why}", path.display())]
    NoReport {
        /// State folder.
        path: PathBuf,
        /// What happened.
        why: String,
    },
}

/// The report of the service, as of now.
pub(crate) fn report(shared: &Shared, about: &About) -> StatusReport {
    let now = Instant::now();
    let state = shared.observer.board.lock();
    let mut rows: Vec<_> = state.runners.iter().collect();
    rows.sort_by_key(|(_, row)| row.place);
    let runners = rows.into_iter().map(|(labels, row)| {
        let (doing, rest) = row.doing(now);
        RunnerStatusLine {
            runner: labels.runner.clone(),
            name: labels.name.clone(),
            url: row.url.clone(),
            state: doing.to_owned(),
            until_seconds: rest.map(|rest| rest.as_secs()),
            requests: row.requests(),
            jobs: state.jobs_of(labels).count(),
            limit: row.limit,
        }
    });
    let jobs = state.jobs.values().map(|job| {
        let (log_bytes, log_unsent_bytes) = job.log_bytes();
        let facts = &job.facts;
        JobStatusLine {
            id: facts.id,
            url: facts.url.clone(),
            name: facts.name.clone(),
            project: facts.project.clone(),
            pipeline: facts.pipeline,
            runner: facts.runner.runner.clone(),
            course: job.course.word().to_owned(),
            state: job.state.to_owned(),
            stage: job.stage.to_string(),
            executor_stage: job.executor_stage.to_owned(),
            container: job.container.clone(),
            terminal: job.terminal,
            age_seconds: facts.age().as_secs(),
            recovered: job.recovered,
            journal_bytes: job.journal_bytes(),
            log_bytes,
            log_unsent_bytes,
        }
    });
    let jobs: Vec<_> = jobs.collect();
    StatusReport {
        version: about.version.clone(),
        compatible_version: shared.product.version.clone(),
        pid: std::process::id(),
        state: state.process_state().to_owned(),
        uptime_seconds: about.started.elapsed().as_secs(),
        config: about.config.clone(),
        state_folder: absolute(shared.state.path()),
        listen_address: about.listen_address.clone(),
        session_server: shared
            .sessions
            .as_ref()
            .map(|sessions| sessions.url().to_owned()),
        slots: shared.slots.limit(),
        slots_used: shared.slots.used(),
        free_bytes: shared.state.free_bytes(),
        outbox: jobs.iter().filter(|job| job.course == "outbox").count(),
        runners: runners.collect(),
        jobs,
    }
}

/// The path without regard to where the process works.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Asks the service that owns this state folder.
///
/// # Errors
/// Nobody listens, it is another user's, or no report came within 5 s.
pub async fn fetch_status(state_folder: &Path) -> Result<StatusReport, StatusError> {
    let path = || absolute(state_folder);
    let no_report = |why: String| StatusError::NoReport { path: path(), why };
    let connect = async {
        let place = SocketPlace::of(state_folder)?;
        UnixStream::connect(place.path()).await
    };
    let stream = connect.await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::NotADirectory => StatusError::NotRunning(path()),
        io::ErrorKind::PermissionDenied => StatusError::Denied(path()),
        _ => no_report(error.to_string()),
    })?;
    match timeout(ANSWER_LIMIT, ask(stream)).await {
        Ok(answer) => answer.map_err(no_report),
        Err(_) => Err(no_report(format!(
            "no answer within {} s",
            ANSWER_LIMIT.as_secs()
        ))),
    }
}

async fn ask(stream: UnixStream) -> Result<StatusReport, String> {
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(words)?;
    let talk = async {
        let request = Request::get("/status")
            .header(HOST, "gantry")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(words)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), REPORT_BYTES);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        serde_json::from_slice(&body.to_bytes())
            .map_err(|error| format!("its answer is of another version ({error})"))
    };
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// A path to the socket that is short enough for an address, whatever the state folder is called.
pub(crate) struct SocketPlace {
    path: PathBuf,
    /// Keeps the path by its number good.
    _folder: Option<fs::File>,
}

impl SocketPlace {
    pub(crate) fn of(state_folder: &Path) -> io::Result<Self> {
        let path = state_folder.join(STATUS_SOCKET);
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES {
            return Ok(Self {
                path,
                _folder: None,
            });
        }
        let folder = fs::File::open(state_folder)?;
        let short = format!("/proc/self/fd/{}/{STATUS_SOCKET}", folder.as_raw_fd());
        Ok(Self {
            path: short.into(),
            _folder: Some(folder),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
