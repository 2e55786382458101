//! Walks a plan on an engine: prepares, runs stages in order, follows containers to their end, stops, removes, and does so across
//! restarts of itself.
//!
//! [`Job::run`] leads to a [`Verdict`]; [`Job::remove`] deletes what was made. Every step is in the job's journal ([`Record`])
//! before the world changes, so a new process folds the journal ([`Progress`]) and goes on from there with the very same code: what
//! is done is skipped, what is in doubt is asked of the engine.
//!
//! | Module | Owns |
//! |---|---|
//! | `walk`, `flow` | order of stages; which stage follows which end (pure) |
//! | `prepare`, `images`, `lanes` | images, volumes, network, services, side by side |
//! | `directories`, `tools` | uploads into volumes |
//! | `script`, `start`, `follow`, `stop` | user scripts in the build container |
//! | `owner` | the build image's user gets the job's files |
//! | `helper`, `helper_stages`, `archives` | helper container and its agent; its stages; what they are asked for archives |
//! | `explain` | from exit codes and engine words to a cause |
//! | `health`, `ended_services` | whether services answer before the scripts; which had ended when the job failed |
//! | `uploads` | uploads of caches in parts, begun and ended |
//! | `artifact_store` | artifacts of jobs without a server, to and from the helper |
//! | `claim`, `cleanup` | containers of claimed names; stopping and removal |
//! | `terminal` | where an interactive terminal finds the build container |
//! | `observe` | what a job tells whoever watches it |
//! | `record`, `durable`, `control` | journal records and how they are written; wishes and clocks |

mod archives;
mod artifact_store;
mod claim;
mod cleanup;
mod context;
mod control;
mod directories;
mod durable;
mod ended_services;
mod error;
mod explain;
mod flow;
mod follow;
mod health;
mod helper;
mod helper_stages;
mod images;
mod lanes;
mod links;
mod observe;
mod owner;
mod prepare;
mod record;
mod script;
mod service_logs;
mod start;
mod stop;
mod terminal;
mod tools;
mod uploads;
mod walk;

pub use artifact_store::ArtifactStore;
pub use context::{EngineAccess, Environment, HelperBinaries, WorkingTree};
pub use control::{Control, Wish, unix_ms};
pub use durable::conclude;
pub use error::ExecutorError;
pub use explain::stopped_unplanned;
pub use observe::{Activity, JobEvent, JobObserver};
pub use record::{
    Accepted, Prepared, Progress, Record, Secrets, StageEnd, Step, StopReason, Upload, Verdict,
};
pub use terminal::{
    TerminalConnection, TerminalContainer, TerminalPlace, TerminalPort, TerminalSettings,
};
pub use tools::{HELPER_PATH, HelperBinary, TOOLS_LABEL, TOOLS_PATH};
pub use walk::Job;
