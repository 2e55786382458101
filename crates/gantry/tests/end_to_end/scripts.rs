//! Scripts, variables, time limits and reasons of whole jobs (job-lifecycle §1 to §3, coordinator-api §9, §11).

use gantry_testkit::{JobBuilder, JobRecord, ServerJobState};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{BUSYBOX, Config, Host, JobLog, job};

mod attempts;
mod limits;
mod order;
mod payloads;
mod values;

/// Runs these jobs one after the other on a host of this configuration; `None` without an engine.
async fn run_all(config: &Config, jobs: &[JobBuilder]) -> Option<(Host, Vec<JobRecord>)> {
    let host = Host::new(config).await?;
    let ids: Vec<_> = jobs.iter().map(|work| host.gitlab.enqueue(work)).collect();
    let runner = host.start();
    let mut done = Vec::new();
    for id in ids {
        done.push(host.end_of(id).await);
    }
    host.finish(runner).await;
    Some((host, done))
}

/// The same with one job.
async fn run(config: &Config, work: &JobBuilder) -> Option<(Host, JobRecord)> {
    let (host, mut done) = run_all(config, std::slice::from_ref(work)).await?;
    Some((host, done.remove(0)))
}
