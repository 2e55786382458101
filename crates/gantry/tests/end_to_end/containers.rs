//! What is made on the engine, and how ends of containers are told (docker-executor §2, §4, §5, §7).

use gantry_testkit::{JobBuilder, JobRecord, ServerJobState, ServiceBuilder};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{BUSYBOX, Config, Host, JobLog, gate, job, until};

mod endings;
mod images;
mod networks;
mod ownership;
mod services;
mod volumes;

/// Runs one job on a host of its own; `None` without an engine.
async fn run(config: &Config, work: &JobBuilder) -> Option<(Host, JobRecord, JobLog)> {
    let host = Host::new(config).await?;
    let (job, log) = host.run(work).await;
    Some((host, job, log))
}

/// `image` of a payload with this entrypoint.
fn with_entrypoint(image: &str, entrypoint: &[&str]) -> Value {
    json!({"name": image, "entrypoint": entrypoint})
}
