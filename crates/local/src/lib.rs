//! Runs a pipeline on the working copy.
//!
//! What decides is apart from what acts: [`schedule`] says which jobs may start and which are
//! skipped; [`facts`] asks git about the working copy; [`tree`] streams its files. None of them
//! ever writes to the working copy.

pub mod facts;
pub mod schedule;
pub mod tree;

#[cfg(test)]
mod fixture;

pub use facts::{Checkout, FactsError};
pub use schedule::{JobEnd, JobState, PipelineStatus, Schedule};
pub use tree::{Tree, TreeError};
