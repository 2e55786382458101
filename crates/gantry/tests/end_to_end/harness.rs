//! A host with one runner on it: a GitLab stand-in, a configuration, a state folder, an engine, and the program's processes.

mod docker;
mod host;
mod job_log;
mod processes;
mod runner;
mod tap;

use std::time::Duration;

use gantry_testkit::JobBuilder;
use tokio::time::{Instant, sleep};

pub(crate) use docker::Docker;
pub(crate) use host::{Config, Host, gate};
pub(crate) use job_log::{JobLog, plain};
pub(crate) use processes::Processes;
pub(crate) use runner::{Runner, Signal};
pub(crate) use tap::Tap;

/// The image of jobs that do not care.
pub(crate) const BUSYBOX: &str = "gantry.test/busybox:1";
/// Longest wait for a fact; only a broken test ever waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Looks until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Says why a test does nothing.
pub(crate) fn skipped(why: &str) {
    tell(&format!("skipped: {why}"));
}

/// What a test owes to whoever reads the output.
#[expect(clippy::print_stderr, reason = "the output of a test")]
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}

/// A job of the default image with this script.
pub(crate) fn job<const N: usize>(script: [&str; N]) -> JobBuilder {
    JobBuilder::new("unit").script(script)
}
