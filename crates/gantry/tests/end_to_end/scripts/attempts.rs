//! Stages that are tried again (job-lifecycle §1.2).

use gantry_testkit::{Endpoint, Fault};

use super::*;
use crate::archives::downloads;

#[rstest]
#[case::often_enough("2", true)]
#[case::once("1", false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_are_fetched_as_often_as_the_job_says(
    #[case] attempts: &str,
    #[case] arrives: bool,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let runner = host.start();
    let artifacts = json!([{"name": "dist", "paths": ["dist"], "artifact_type": "archive", "artifact_format": "zip"}]);
    let build = job(["mkdir dist; echo built > dist/file"]).set("/artifacts", artifacts);
    let build = host.end_of(host.gitlab.enqueue(&build)).await;
    assert_eq!(build.state, ServerJobState::Success, "{}", build.log());
    // An answer that is final for one attempt.
    host.gitlab
        .fault(Fault::on(Endpoint::DownloadArtifacts).status(404).nth(1));
    let work = downloads(&build, ["cat dist/file"])
        .variable("ARTIFACT_DOWNLOAD_ATTEMPTS", attempts)
        .variable("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false");
    let done = host.end_of(host.gitlab.enqueue(&work)).await;
    host.finish(runner).await;
    let log = JobLog::of(&done);
    let sections = log.sections();
    let tries = sections
        .iter()
        .filter(|name| *name == "download_artifacts")
        .count();
    assert_eq!(tries, if arrives { 2 } else { 1 }, "{}", log.text());
    assert_eq!(log.says("WARNING: Retrying..."), arrives, "{}", log.text());
    assert_eq!(log.prints("built"), arrives);
    let reason = (!arrives).then_some("script_failure");
    assert_eq!(done.failure_reason.as_deref(), reason);
}
