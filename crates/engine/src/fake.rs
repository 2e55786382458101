//! A scripted engine in memory, for tests.
//!
//! [`FakeEngine`] implements the whole [`Engine`](crate::Engine) trait with no process and no socket. Containers run *programs*
//! ([`Program`]): async closures that read stdin, write output and end with an exit code. A container goes on when its clients
//! go, keeps its log over all runs and can be started again, so a test may drop an executor at any point and build a new one
//! on the same `FakeEngine`, as after `kill -9`. Faults are set per verb and per nth call ([`FakeEngine::fault`]); the
//! engine can go down and come back ([`FakeEngine::go_down`]). All times come from tokio's clock, so everything works under a
//! paused one.
//!
//! What it imitates is what was measured on real engines (engine-mechanics §a, §c, §g, §h): an attach carries only what is
//! written after it, `wait` means the next exit, a client that goes away closes the container's stdin, output of a
//! container that ends while the engine is away is lost, names of networks are not unique.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use gantry_engine::fake::{Fault, FakeEngine, FakeImage, Program, Verb};
//! let engine = FakeEngine::new();
//! engine.add_image(FakeImage::new("alpine:3.20"));
//! engine.on_name("-build", Program::new(|mut run| async move {
//!     let script = run.read_stdin().await;
//!     run.stdout(format!("{} bytes of script\n", script.len()));
//!     0
//! }));
//! engine.fault(Verb::ContainerStart, 2, Fault::EffectThenLost);
//! let shared = engine.shared();
//! # drop(shared);
//! # });
//! ```

mod clock;
mod containers;
mod effects;
mod engine;
mod faults;
mod files;
mod images;
mod program;
mod streams;
mod world;

#[cfg(test)]
mod tests;

pub use faults::{Call, Fault, Verb};
pub use files::{Upload, UploadedEntry};
pub use images::FakeImage;
pub use program::{ExecHandler, ExecRun, Output, Program, Run, Step};
pub use world::{Down, FakeContainer, FakeEngine};
