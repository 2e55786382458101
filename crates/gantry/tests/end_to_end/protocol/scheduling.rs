//! Slots, limits, fairness and health (coordinator-api §13, §14).

use super::*;

/// A job that notes its begin and its end, with `begun` jobs at least that have begun in between.
fn noted(name: &str, begun: i32) -> JobBuilder {
    let begin = format!("echo begin {name} >> /witness/order");
    let wait = format!("until [ $(grep -c begin /witness/order) -ge {begun} ]; do sleep 0.1; done");
    let end = format!("echo end {name} >> /witness/order");
    job([begin.as_str(), "sleep 0.3", &wait, end.as_str()])
}

/// The greatest number of jobs that ran at once.
fn most_at_once(order: &[String]) -> i32 {
    let mut now = 0;
    let counts = order.iter().map(|line| {
        now += if line.starts_with("begin") { 1 } else { -1 };
        now
    });
    counts.max().unwrap_or(0)
}

#[rstest]
#[case::slots_of_the_process(Config::new().concurrent(2), 2)]
#[case::limit_of_the_runner(Config::new().concurrent(4).runner("limit = 1"), 1)]
#[case::one_slot(Config::new().concurrent(1), 1)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_jobs_run_at_once_than_allowed(#[case] config: Config, #[case] most: i32) {
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let ids: Vec<_> = (0..5)
        .map(|number| host.gitlab.enqueue(&noted(&number.to_string(), most)))
        .collect();
    let runner = host.start();
    for id in ids {
        assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    }
    host.finish(runner).await;
    let order = host.witnessed("order");
    assert_eq!(order.len(), 10);
    assert_eq!(most_at_once(&order), most, "{order:?}");
}

/// Lines of a second runner entry.
fn another(host: &Host, token: &str, executor: &str) -> String {
    format!(
        "[[runners]]\nname = \"another\"\nurl = \"{}\"\ntoken = \"{token}\"\nexecutor = \"{executor}\"\n\
         [runners.docker]\nhost = \"{}\"\nimage = \"{}\"\npull_policy = \"never\"\nvolumes = [\"{}:/witness\"]\n",
        host.gitlab.url(),
        host.docker.host(),
        crate::harness::BUSYBOX,
        host.witness().display()
    )
}

fn asked_by(host: &Host, token: &str) -> Vec<RecordedRequest> {
    let mut requests = host.gitlab.requests_to(Endpoint::RequestJob);
    requests.retain(|request| request.header("runner-token") == Some(token));
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runners_share_one_slot_fairly() {
    let config = Config::new().concurrent(1);
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let token = "glrt-fairAnotherRunner";
    host.secret(token);
    host.gitlab.add_runner_token(token);
    host.configure(&config.more(&another(&host, token, "docker")));
    let ids: Vec<_> = (0..6)
        .map(|number| host.gitlab.enqueue(&noted(&number.to_string(), 1)))
        .collect();
    let runner = host.start();
    for id in ids {
        assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    }
    host.finish(runner).await;
    let got = |token: &str| {
        let requests = asked_by(&host, token);
        requests
            .iter()
            .filter(|request| request.status == Some(201))
            .count()
    };
    let (first, second) = (got(host.token()), got(token));
    assert_eq!(first + second, 6);
    assert!(first >= 2 && second >= 2, "{first} and {second}");
    // With more runners than slots no request may be held, or it would hold the slot.
    for request in host.gitlab.requests_to(Endpoint::RequestJob) {
        assert_eq!(request.json().get("last_update"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_of_another_executor_is_skipped_with_one_warning() {
    let config = Config::new();
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let token = "glrt-shellRunnerToken";
    host.secret(token);
    host.gitlab.add_runner_token(token);
    host.configure(&config.more(&another(&host, token, "shell")));
    let id = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    host.end_of(id).await;
    let told = runner
        .log()
        .text()
        .lines()
        .filter(|line| line.starts_with("WARNING") && line.contains("shell"))
        .count();
    assert_eq!(told, 1, "{}", runner.log().text());
    host.finish(runner).await;
    assert!(asked_by(&host, token).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_refused_three_times_rests_and_others_do_not() {
    let config = Config::new();
    let Some(host) = Host::with(&config, |gitlab| gitlab).await else {
        return;
    };
    let token = "glrt-revokedRunnerTok";
    host.secret(token);
    let config = config.more(&another(&host, token, "docker"));
    host.configure(&config);
    let runner = host.start();
    runner
        .says("is unhealthy and will be disabled for 3600 seconds!")
        .await;
    let id = host.gitlab.enqueue(&job(["true"]));
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    assert_eq!(asked_by(&host, token).len(), 3);
    // A reload lets it try again at once.
    host.gitlab.add_runner_token(token);
    runner.signal(crate::harness::Signal::HUP);
    until("the runner to ask again", async || {
        (asked_by(&host, token).len() > 3).then_some(())
    })
    .await;
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_at_a_time_is_held() {
    let Some(host) = Host::new(&Config::new().concurrent(4)).await else {
        return;
    };
    let runner = host.start();
    host.gitlab.wait_for_requests(Endpoint::RequestJob, 2).await;
    let ids: Vec<_> = (0..3)
        .map(|number| host.gitlab.enqueue(&noted(&number.to_string(), 1)))
        .collect();
    for id in ids {
        host.end_of(id).await;
        let requests = host.gitlab.requests_to(Endpoint::RequestJob);
        let open = requests.iter().filter(|request| request.status.is_none());
        assert!(open.count() <= 1);
    }
    host.finish(runner).await;
}

#[rstest]
#[case::unavailable(Fault::on(Endpoint::RequestJob).calls(1..=7).status(503))]
#[case::failing(Fault::on(Endpoint::RequestJob).calls(1..=7).status(500))]
#[case::conflict(Fault::on(Endpoint::RequestJob).calls(1..=4).status(409))]
#[case::gone(Fault::on(Endpoint::RequestJob).calls(1..=4).drop_unhandled())]
#[case::too_many(Fault::on(Endpoint::RequestJob).nth(1).answer(Answer::status(429).header("Retry-After", "1")))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_trouble_does_not_make_a_runner_unhealthy(#[case] fault: Fault) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.gitlab.fault(fault);
    let id = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    assert_eq!(runner.count("unhealthy"), 0, "{}", runner.log().text());
    host.finish(runner).await;
}

/// A server gave a job up and hands it out again before the runner knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_handed_out_again_while_it_is_still_here_is_not_taken_twice() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let work = job(["echo begun >> /witness/script", &wait, "echo to the end"]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let first = host.gitlab.job(id);
    host.gitlab.enqueue_raw(id, &first.token, first.payload);
    runner.says("handed out again while it is still here").await;
    // The first one is refused from now on, and ends.
    until("the first one to be gone", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    host.gitlab.reclaim(id);
    host.wait_witness("script", 2).await;
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    JobLog::of(&job).assert_prints("to the end");
}

/// A GitLab Runner that drains while another runner of the same token takes its place: two jobs must not share a number, and with
/// it a volume.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_jobs_that_another_runner_still_runs_are_skipped() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let peer = format!("gantry-end-to-end-peer-{}", host.short_token());
    let label = |key: &str, value: &str| format!("com.gitlab.gitlab-runner.{key}={value}");
    let labels = [
        label("managed", "true"),
        label("runner.id", host.short_token()),
        label("runner.local_id", "0"),
        label("project.id", "4"),
        label("project.runner_id", "0"),
    ];
    let mut run = vec!["run", "--detach", "--name", &peer];
    for label in &labels {
        run.extend(["--label", label]);
    }
    run.extend([crate::harness::BUSYBOX, "sleep", "1000"]);
    host.docker.run(&run).await;
    let work = || job(["echo numbers $CI_CONCURRENT_ID $CI_CONCURRENT_PROJECT_ID $(hostname)"]);
    let id = host.gitlab.enqueue(&work());
    let runner = host.start();
    let job = host.end_of(id).await;
    let log = JobLog::of(&job);
    let name = format!("runner-{}-project-4-concurrent", host.short_token()).to_lowercase();
    log.assert_prints(&format!("numbers 1 1 {name}-1"));
    host.docker.run(&["rm", "--force", &peer]).await;
    let id = host.gitlab.enqueue(&work());
    let job = host.end_of(id).await;
    let log = JobLog::of(&job);
    host.finish(runner).await;
    assert!(
        log.prints(&format!("numbers 0 0 {name}-0")),
        "{}",
        log.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_job_after_the_other_has_the_same_numbers_and_with_them_the_same_cache() {
    let config = Config::new().concurrent(1).docker("volumes = [\"/cache\"]");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    // Each is handed out on the report of the one before, when that is not removed yet.
    let ids: Vec<_> = (0..4)
        .map(|_| {
            let script = [
                "echo numbers $CI_CONCURRENT_ID $CI_CONCURRENT_PROJECT_ID",
                "mkdir -p kept; echo saved >> kept/jobs; wc -l < kept/jobs",
            ];
            let cache = serde_json::json!([{"key": "kept", "paths": ["kept/"]}]);
            host.gitlab.enqueue(&job(script).set("/cache", cache))
        })
        .collect();
    let runner = host.start();
    let mut logs = Vec::new();
    for id in ids {
        logs.push(JobLog::of(&host.end_of(id).await));
    }
    host.finish(runner).await;
    host.remove_kept_volumes().await;
    for (before, log) in logs.iter().enumerate() {
        log.assert_prints("numbers 0 0");
        log.assert_prints(&(before + 1).to_string());
    }
}
