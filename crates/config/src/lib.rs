//! `config.toml`: read, check and change in place, the file GitLab Runner uses.
//!
//! [`load()`] reads a file, [`parse`] a text; both give a [`Config`] made of plain, resolved values (defaults filled in, numbers
//! clamped as the peer does, placeholders expanded), so that no other crate asks "and if it is not set?" again. What is wrong with
//! the file is a [`ConfigError`] that names every problem with file, line, column and key; what is odd is a [`Warning`].
//!
//! The names, types and defaults of all keys are one table, [`keys`]: checking, [`mod@explain`], flags and their help, and documents
//! read it.
//!
//! [`mod@edit`] changes the file where it lies, and [`flags`] gives the settings of a runner as flags of a command line.
//!
//! Nothing here logs, reads the process environment or looks at the clock: those are inputs. Only [`load()`], [`mod@edit`] and
//! [`system_id`] touch the file system.
//!
//! Peer behaviour: config-toml (whole), docker-executor §1. Deviations, all of them kinder: problems name the place and come
//! together, a key that does nothing yet is named, bad values of `[runners.docker]` are found at load and not by the first job.

mod check;
pub mod config;
pub mod duration;
pub mod edit;
mod excerpt;
mod expand;
pub mod explain;
mod findings;
pub mod flags;
pub mod keys;
mod load;
mod nearest;
mod problem;
mod quantity;
mod read;
mod snapshot;
mod stamp;
pub mod state_dir;
pub mod system_id;
mod token;
mod tree;

pub use config::{
    AzureCacheConfig, COMPATIBLE_VERSION, CacheConfig, Config, CustomBuildDir, Device,
    DockerConfig, Environment, Executor, GantryConfig, GcsCacheConfig, GpuRequest, HostPort,
    IgnoreUnsupported, JobQueuingDuration, LogDriver, LogFormat, LogLevel, Naming, OnStop, Period,
    PullPolicy, RunnerConfig, S3CacheConfig, ServiceConfig, ServiceLimits, SessionServerConfig,
    Skip, waited_too_long,
};
pub use load::{Loaded, Placeholders, load, parse};
pub use problem::{ConfigError, Problem, ProblemKind, UnknownKey, Warning, WarningKind};
pub use snapshot::SnapshotError;
pub use stamp::FileStamp;
pub use token::short_token;
