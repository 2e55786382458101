//! The service: takes jobs from GitLab servers, runs them, and brings every one to its end, also over restarts of itself.
//!
//! [`run`] owns the process' life. A slot is taken before a job is asked for; a job is written down before it is confirmed; its log
//! goes out while it runs; its verdict is delivered, if need be for a day, before its folder is deleted.
//!
//! | Module | Owns |
//! |---|---|
//! | `service` | start, reload, signals, end |
//! | `phase`, `slots`, `adaptive` | pure: signals, slots and numbers, request concurrency |
//! | `poll` | asking for jobs |
//! | `job_task`, `origin` | one job from acceptance to removal; what its journal keeps |
//! | `engines`, `shared` | engines by endpoint; what tasks share |
//! | `outbox` | verdicts that a server does not take yet |
//! | `neighbours` | numbers that jobs of other runners hold |
//! | `rotation` | new tokens before the old ones end |
//! | `limits` | the end of a service that is not for ever |
//! | `caches`, `secret_clients` | clients of remote caches and of servers of secrets |
//! | `connection` | a server's connection, for an operator's commands |
//! | `session` | interactive terminals of jobs |
//! | `sweep` | leftovers of dead processes |
//! | `observe` | metrics, status, and who is answered what |

mod adaptive;
mod caches;
mod connection;
mod engines;
mod job_task;
mod limits;
mod neighbours;
mod observe;
mod origin;
mod outbox;
mod phase;
mod poll;
mod refuse;
mod rotation;
mod secret_clients;
mod service;
mod session;
mod shared;
mod slots;
mod sweep;

pub use connection::{connection, runner_info};
pub use engines::{ConnectEngine, EngineSettings};
pub use limits::Limits;
pub use observe::{
    AddressError, JobStatusLine, ListenAddress, Listeners, LogCounts, RunnerStatusLine,
    STATUS_SOCKET, StatusError, StatusListener, StatusReport, bind_status, fetch_status,
};
pub use phase::{Phase, Signal};
pub use rotation::KeepToken;
pub use service::{About, Exit, Options, ReadConfig, run};
pub use session::{SessionServer, SessionServerError};
