//! Cache and artifacts between jobs: real helper, real volumes, and a server that keeps what is uploaded (job-lifecycle §5, §6).

use std::time::Duration;

use gantry_testkit::{Answer, Endpoint, Fault, JobBuilder, JobRecord, ServerJobState};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Config, Host, JobLog, Runner, Signal, job, until};

fn cache(key: &str) -> Value {
    json!([{"key": key, "paths": ["vendor/"], "policy": "pull-push", "when": "on_success"}])
}

/// A job that uploads `dist/`.
fn uploads<const N: usize>(script: [&str; N]) -> JobBuilder {
    job(script).set(
        "/artifacts",
        json!([{
            "name": "dist", "paths": ["dist/"], "exclude": ["dist/**/*.tmp"], "when": "always",
            "artifact_type": "archive", "artifact_format": "zip", "expire_in": "1 week",
        }]),
    )
}

/// A job that wants the artifacts of another.
pub(crate) fn downloads<const N: usize>(of: &JobRecord, script: [&str; N]) -> JobBuilder {
    job(script).set(
        "/dependencies",
        json!([{
            "id": of.id, "name": "build", "token": of.token,
            "artifacts_file": {"filename": "dist.zip", "size": 1},
        }]),
    )
}

/// Runs a job of a runner that goes on.
pub(crate) async fn end(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let job = host.end_of(host.gitlab.enqueue(work)).await;
    let log = JobLog::of(&job);
    (job, log)
}

fn assert_success(job: &JobRecord, log: &JobLog) {
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_there_for_the_next_job_of_the_project() {
    let Some(host) = Host::new(&Config::new().docker("volumes = [\"/cache\"]")).await else {
        return;
    };
    let runner = host.start();
    let fills = job([
        "ls vendor 2>/dev/null || echo empty",
        "mkdir -p vendor/bin; echo gem > vendor/bin/gem; chmod 755 vendor/bin/gem; ln -s bin/gem vendor/link",
    ])
    .set("/cache", cache("gems-$CI_COMMIT_REF_NAME"))
    .variable("CI_COMMIT_REF_NAME", "main");
    let (first, first_log) = end(&host, &fills).await;
    assert_success(&first, &first_log);
    first_log.assert_prints("empty");
    first_log.assert_says("Creating cache gems-main...");
    first_log.assert_says("Created cache");
    assert_eq!(
        first_log.sections(),
        [
            "prepare_executor",
            "prepare_script",
            "get_sources",
            "restore_cache",
            "step_script",
            "archive_cache",
            "cleanup_file_variables"
        ]
    );
    let reads = job([
        "cat vendor/link",
        "stat -c %a vendor/bin/gem",
        "readlink vendor/link",
    ])
    .set("/cache", cache("gems-main"));
    let (second, log) = end(&host, &reads).await;
    assert_success(&second, &log);
    log.assert_says("Checking cache for gems-main...");
    log.assert_says("Successfully extracted cache");
    log.assert_prints("gem");
    log.assert_prints("755");
    log.assert_prints("bin/gem");
    // A key that nobody has saved, with a fallback that somebody has.
    let falls_back = job(["cat vendor/link"]).set(
        "/cache",
        json!([{"key": "other", "fallback_keys": ["gems-main"], "paths": ["vendor/"]}]),
    );
    let (third, log) = end(&host, &falls_back).await;
    assert_success(&third, &log);
    log.assert_says("Failed to extract cache");
    log.assert_prints("gem");
    host.finish(runner).await;
}

/// Keys that are no file names, or more than a file name can be, or that would get into each other's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_key_names_a_cache_whether_it_is_hashed_or_not() {
    let Some(host) = Host::new(&Config::new().docker("volumes = [\"/cache\"]")).await else {
        return;
    };
    let long = "k".repeat(300);
    let umlauts = "ü".repeat(200);
    let deep = vec!["k"; 2500].join("/");
    let keys = [
        "gems",
        "gems/cache.zip",
        "a b/ c ",
        "..dots..",
        "../../up",
        "%2Fescaped%2e",
        "back\\slash",
        "$NOTHING-x",
        &long,
        &umlauts,
        &deep,
    ];
    let entries: Vec<_> = keys
        .iter()
        .enumerate()
        .map(
            |(number, key)| json!({"key": key, "paths": [format!("k{number}/")], "when": "always"}),
        )
        .collect();
    let runner = host.start();
    let make = "for n in 0 1 2 3 4 5 6 7 8 9 10; do mkdir k$n; echo $n > k$n/file; done";
    let (first, log) = end(&host, &job([make]).set("/cache", json!(entries))).await;
    assert_success(&first, &log);
    assert_eq!(log.text().matches("Created cache").count(), keys.len());
    for hashed in ["false", "true"] {
        let reads = job(["echo found $(cat k*/file | sort -n)"])
            .set("/cache", json!(entries))
            .variable("FF_HASH_CACHE_KEYS", hashed);
        let (second, log) = end(&host, &reads).await;
        assert_success(&second, &log);
        log.assert_prints("found 0 1 2 3 4 5 6 7 8 9 10");
        log.assert_never_says("Failed to");
    }
    host.finish(runner).await;
}

#[rstest]
#[case::of_a_failed_job("on_failure", "exit 1", "gem")]
#[case::not_of_a_failed_job("on_success", "exit 1", "empty")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_decides_whether_the_cache_of_a_failed_job_is_kept(
    #[case] when: &str,
    #[case] last: &str,
    #[case] found: &str,
) {
    let Some(host) = Host::new(&Config::new().docker("volumes = [\"/cache\"]")).await else {
        return;
    };
    let runner = host.start();
    let entry = json!([{"key": "k", "paths": ["vendor"], "when": when}]);
    let fills = job(["mkdir vendor; echo gem > vendor/x", last]).set("/cache", entry.clone());
    let (first, log) = end(&host, &fills).await;
    assert_eq!(first.state, ServerJobState::Failed, "{}", log.text());
    assert_eq!(first.exit_code, Some(1));
    let reads = job(["cat vendor/x 2>/dev/null || echo empty"]).set("/cache", entry);
    let (second, log) = end(&host, &reads).await;
    assert_success(&second, &log);
    log.assert_prints(found);
    host.finish(runner).await;
}

#[rstest]
#[case::through_the_server(false)]
#[case::from_object_storage(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_of_one_job_are_files_of_the_next(#[case] direct: bool) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.gitlab.set_direct_download(direct);
    let runner = host.start();
    let builds = uploads([
        "mkdir -p dist/lib; echo '#!/bin/sh' > dist/run; chmod 755 dist/run; touch -d '2020-02-03 04:05:06' dist/run",
        "ln -s run dist/link; ln -s /etc/passwd dist/outside; mkfifo dist/pipe",
        "echo tmp > dist/lib/x.tmp; echo lib > 'dist/lib/naïve файл.txt'",
    ]);
    let (first, log) = end(&host, &builds).await;
    assert_success(&first, &log);
    log.assert_says("Uploading artifacts for successful job");
    log.assert_says("Uploading artifacts as \"archive\" to coordinator... 201 Created");
    assert_eq!(first.artifacts.len(), 1);
    let artifact = &first.artifacts[0];
    assert_eq!(artifact.file_name, "dist.zip");
    assert_eq!(
        (artifact.format.as_str(), artifact.expire_in.as_str()),
        ("zip", "1 week")
    );
    let uses = downloads(
        &first,
        [
            "stat -c '%a %Y' dist/run",
            "readlink dist/link; readlink dist/outside",
            "cat 'dist/lib/naïve файл.txt'",
            "ls dist/lib/*.tmp dist/pipe 2>/dev/null || echo none",
        ],
    );
    let (second, log) = end(&host, &uses).await;
    assert_success(&second, &log);
    log.assert_says(&format!(
        "Downloading artifacts for build ({})...",
        first.id
    ));
    log.assert_prints("755 1580702706");
    log.assert_prints("run");
    log.assert_prints("/etc/passwd");
    log.assert_prints("lib");
    log.assert_prints("none");
    let calls = host.gitlab.requests_to(Endpoint::DownloadArtifacts);
    assert_eq!(calls[0].header("job-token"), Some(first.token.as_str()));
    let objects = host.gitlab.requests_to(Endpoint::Object);
    assert_eq!(objects.is_empty(), !direct);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_answered_with_503_is_made_again_and_one_with_413_fails_the_job() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let runner = host.start();
    let builds = uploads(["mkdir dist; echo x > dist/x"]);
    let busy = Fault::on(Endpoint::UploadArtifacts).calls(..=2);
    host.gitlab.fault(busy.status(503));
    let (first, log) = end(&host, &builds).await;
    assert_success(&first, &log);
    assert_eq!(first.artifacts.len(), 1);
    log.assert_says("Retrying...");
    host.gitlab.heal();
    let too_large = Answer::status(413);
    host.gitlab
        .fault(Fault::on(Endpoint::UploadArtifacts).answer(too_large));
    let (second, log) = end(&host, &builds).await;
    assert_eq!(second.state, ServerJobState::Failed);
    assert_eq!(second.failure_reason.as_deref(), Some("script_failure"));
    log.assert_says("too large");
    log.assert_says("ERROR: Job failed: exit code 1");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependency_without_its_file_fails_the_job_before_the_script() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let runner = host.start();
    let (first, _) = end(&host, &job(["true"])).await;
    let uses = downloads(&first, ["echo begun >> /witness/script"]);
    let (second, log) = end(&host, &uses).await;
    assert_eq!(second.state, ServerJobState::Failed, "{}", log.text());
    assert_eq!(second.exit_code, Some(1));
    assert!(host.witnessed("script").is_empty());
    host.finish(runner).await;
}

/// The server answers some seconds later.
fn slow() -> Fault {
    Fault::on(Endpoint::UploadArtifacts).delay(Duration::from_secs(4))
}

/// A job in the middle of its first upload, with which the server does so.
async fn in_mid_upload(host: &Host, fault: Fault) -> (i64, Runner) {
    host.gitlab.fault(fault.nth(1));
    let builds = uploads([
        "echo begun >> /witness/script",
        "mkdir dist; head -c 3000000 /dev/urandom > dist/x",
    ])
    .after_script(["echo after >> /witness/after"]);
    let id = host.gitlab.enqueue(&builds);
    let runner = host.start();
    until("an upload", async || {
        (!host
            .gitlab
            .requests_to(Endpoint::UploadArtifacts)
            .is_empty())
        .then_some(())
    })
    .await;
    (id, runner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_outlives_the_runner() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let (id, runner) = in_mid_upload(&host, slow()).await;
    runner.kill().await;
    let runner = host.start();
    let job = host.end_of(id).await;
    let log = JobLog::of(&job);
    assert_success(&job, &log);
    assert_eq!(host.witnessed("script"), ["begun"]);
    assert_eq!(host.witnessed("after"), ["after"]);
    assert_eq!(job.artifacts.len(), 1);
    assert_eq!(
        log.text().matches("coordinator... 201 Created").count(),
        1,
        "{}",
        log.text()
    );
    host.finish(runner).await;
}

/// The server has the whole archive and says nothing; the containers go with the runner, as when the machine is switched off.
#[rstest]
#[case::are_killed(&["kill"])]
#[case::are_removed(&["rm", "--force"])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_made_again_when_the_runner_and_its_containers(#[case] end: &[&str]) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let hangs = Fault::on(Endpoint::UploadArtifacts).hang();
    let (id, runner) = in_mid_upload(&host, hangs).await;
    runner.kill().await;
    let containers = host.containers("").await;
    assert!(containers.iter().any(|name| name.contains("-predefined")));
    for container in &containers {
        // The build container may be over already.
        host.docker
            .attempt(&[end, &[container]].concat())
            .await
            .ok();
    }
    let runner = host.start();
    let job = host.end_of(id).await;
    let log = JobLog::of(&job);
    assert_success(&job, &log);
    assert_eq!(host.witnessed("script"), ["begun"]);
    assert_eq!(host.witnessed("after"), ["after"]);
    assert_eq!(job.artifacts.len(), 1);
    assert_eq!(
        log.text().matches("coordinator... 201 Created").count(),
        1,
        "{}",
        log.text()
    );
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_comes_in_mid_upload_interrupts_nothing() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let (id, runner) = in_mid_upload(&host, slow()).await;
    host.gitlab.cancel(id);
    let job = host.end_of(id).await;
    let log = JobLog::of(&job);
    assert_eq!(job.final_updates()[0].state, "success", "{}", log.text());
    assert_eq!(job.artifacts.len(), 1);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_taken_away_in_mid_upload_ends_at_once_and_leaves_nothing() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let (id, runner) = in_mid_upload(&host, slow()).await;
    host.gitlab.abort(id);
    until("the job to be gone", async || {
        host.containers("").await.is_empty().then_some(())
    })
    .await;
    assert!(host.gitlab.job(id).artifacts.is_empty());
    runner.signal(Signal::QUIT);
    let mut runner = runner;
    assert_eq!(runner.exit_code().await, 0);
    host.assert_nothing_left().await;
}
