//! Runs a pipeline on the working copy.
