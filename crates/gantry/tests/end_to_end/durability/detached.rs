//! Jobs left running on purpose, as an upgrade does.

use super::*;

#[rstest]
#[case::by_argument(&["--on-stop", "detach"], Config::new())]
#[case::by_setting(&[], Config::new().gantry("on_stop = \"detach\""))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_outlives_a_runner_that_detaches(#[case] arguments: &[&str], #[case] config: Config) {
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let id = host.gitlab.enqueue(&talkative());
    let mut runner = host.start_with(arguments);
    host.wait_witness("progress", LINES / 3).await;
    runner.signal(Signal::TERM);
    assert_eq!(runner.exit_code().await, 0);
    assert_eq!(host.gitlab.job(id).state, ServerJobState::Running);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_ended_as_if_nothing_had_happened(&host, &job, reference().await);
}

/// Upgrades are no crashes, however many a long job sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_outlives_any_number_of_detached_runners() {
    let Some(host) = Host::new(&Config::new().gantry("on_stop = \"detach\"")).await else {
        return;
    };
    let wait = gate("go");
    let script = ["echo begun >> /witness/script", wait.as_str(), "exit 3"];
    let id = host.gitlab.enqueue(&job(script));
    for start in 0..6 {
        let mut runner = host.start();
        if start == 0 {
            host.wait_witness("script", 1).await;
        } else {
            runner.says("taking up a job of an earlier process").await;
        }
        runner.signal(Signal::TERM);
        assert_eq!(runner.exit_code().await, 0);
    }
    let runner = host.start();
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(3), "{}", job.log());
    assert_eq!(host.witnessed("script"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_detaches_takes_no_new_job() {
    let Some(host) = Host::new(&Config::new().gantry("on_stop = \"detach\"")).await else {
        return;
    };
    let mut runner = host.start();
    host.gitlab.wait_for_requests(Endpoint::RequestJob, 1).await;
    runner.signal(Signal::INT);
    assert_eq!(runner.exit_code().await, 0);
    let id = host.gitlab.enqueue(&job(["true"]));
    assert_eq!(host.gitlab.job(id).state, ServerJobState::Pending);
    let runner = host.start();
    host.end_of(id).await;
    host.finish(runner).await;
}
