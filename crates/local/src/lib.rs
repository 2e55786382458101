//! Runs a pipeline on the working copy, with no server.
//!
//! [`run`] is the door: it takes a [`Setup`] and gives a [`Report`]. Jobs go through the very same
//! plan and executor as those of a GitLab server; what is different stands in `exec/prepare.rs`.
//! Nothing here reads the process environment, its signals or its arguments: those are inputs. The
//! working copy is read and never written.
//!
//! | Module | Owns |
//! |---|---|
//! | `project` | which repository, which file |
//! | [`facts`] | what git tells about the working copy |
//! | [`tree`] | its files as a stream |
//! | [`schedule`] | which jobs may start and which are skipped (pure) |
//! | `artifacts`, `caches` | what jobs hand on, to each other and to later runs |
//! | `exec` | a run: preparation, jobs side by side, cancel, removal |
//! | `state`, `leftovers` | state folders, and what dead runs left on an engine |
//! | `output`, `report` | lines with names, the table at the end |
//! | [`listing`] | the jobs of a pipeline, printed |

mod artifacts;
mod caches;
mod clear;
mod exec;
pub mod facts;
mod leftovers;
pub mod listing;
mod output;
mod project;
mod report;
pub mod schedule;
mod sending;
mod state;
mod stop;
pub mod tree;
mod variables_file;

#[cfg(test)]
mod fixture;

pub use artifacts::ArtifactsError;
pub use clear::{ClearError, Cleared, clear};
pub use exec::{JobProblem, RunError, RunOptions, Setup, run};
pub use facts::{Checkout, FactsError};
pub use output::Style;
pub use project::{FILE_NAME, Project, ProjectError};
pub use report::{JobReport, Kept, Report};
pub use schedule::{JobEnd, JobState, PipelineStatus, Schedule};
pub use state::StateError;
pub use stop::{SIGINT, Stop};
pub use tree::{Submodules, Tree, TreeError};
pub use variables_file::{USUAL_FILE, VariablesFileError, read_variables};
