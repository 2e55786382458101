//! Walks a plan on an engine.
