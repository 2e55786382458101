//! Against an engine of a few lines: what it says is scripted, so that no real engine is needed.

mod answers;
mod streams;
mod stub;
mod turns;
