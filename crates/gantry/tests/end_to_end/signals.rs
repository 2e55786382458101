//! Signals, exit codes and reloads of the configuration (cli §4, config-toml §1 "Hot reload").

use gantry_testkit::{Endpoint, Fault, ServerJobState};
use rstest::rstest;

use crate::harness::{Config, Host, JobLog, Signal, gate, job, until};

/// A job that says in the file `order` when it begins and ends, and ends when its gate opens.
fn gated(name: &str) -> gantry_testkit::JobBuilder {
    let begin = format!("echo begin {name} >> /witness/order");
    let wait = gate(name);
    let end = format!("echo end {name} >> /witness/order");
    job([begin.as_str(), wait.as_str(), end.as_str()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigquit_lets_jobs_finish_and_takes_no_new_ones() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let first = host.gitlab.enqueue(&gated("a"));
    let mut runner = host.start();
    host.wait_witness("order", 1).await;
    runner.signal(Signal::QUIT);
    runner.says("Starting graceful shutdown").await;
    // Once more changes nothing.
    runner.signal(Signal::QUIT);
    let second = host.gitlab.enqueue(&gated("b"));
    host.open_gate("a");
    let job = host.end_of(first).await;
    assert_eq!(job.state, ServerJobState::Success);
    assert_eq!(runner.exit_code().await, 0);
    // The server may have handed it out to the request that was broken off; nobody has taken it.
    assert!(host.gitlab.job(second).updates.is_empty());
    assert_eq!(host.witnessed("order"), ["begin a", "end a"]);
    host.assert_nothing_left().await;
}

#[rstest]
#[case::term(Signal::TERM, "aborted: terminated")]
#[case::int(Signal::INT, "aborted: interrupt")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_jobs_and_reports_them(#[case] signal: Signal, #[case] says: &str) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let script = ["echo begun >> /witness/script", "sleep 1000"];
    let running = job(script).after_script(["echo begun >> /witness/after"]);
    let id = host.gitlab.enqueue(&running);
    let mut runner = host.start();
    host.wait_witness("script", 1).await;
    runner.signal(signal);
    assert_eq!(runner.exit_code().await, 0);
    let job = host.gitlab.job(id);
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("runner_interrupted"));
    JobLog::of(&job).assert_says(&format!("ERROR: Job failed: {says}"));
    assert!(host.witnessed("after").is_empty());
    assert_eq!(
        runner.count("To stop gracefully send SIGQUIT"),
        1,
        "{}",
        runner.log().text()
    );
    host.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_know_the_reason_of_a_stop_gets_one_it_knows() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let script = ["echo begun >> /witness/script", "sleep 1000"];
    let running = job(script).failure_reasons(["script_failure", "runner_system_failure"]);
    let id = host.gitlab.enqueue(&running);
    let mut runner = host.start();
    host.wait_witness("script", 1).await;
    runner.signal(Signal::TERM);
    assert_eq!(runner.exit_code().await, 0);
    let reason = host.gitlab.job(id).failure_reason;
    assert_eq!(reason.as_deref(), Some("unknown_failure"));
    host.assert_nothing_left().await;
}

#[rstest]
#[case::quit(Signal::QUIT)]
#[case::term(Signal::TERM)]
#[case::int(Signal::INT)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_runner_ends_in_the_middle_of_a_held_request(#[case] signal: Signal) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let mut runner = host.start();
    // The second one is held: it echoes what the first was told.
    host.gitlab.wait_for_requests(Endpoint::RequestJob, 2).await;
    runner.signal(signal);
    assert_eq!(runner.exit_code().await, 0);
    host.assert_nothing_left().await;
}

/// The drain is turned into a stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_after_sigquit_ends_jobs() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&gated("never-opened"));
    let mut runner = host.start();
    host.wait_witness("order", 1).await;
    runner.signal(Signal::QUIT);
    runner.says("Starting graceful shutdown").await;
    runner.signal(Signal::TERM);
    assert_eq!(runner.exit_code().await, 0);
    let reason = host.gitlab.job(id).failure_reason;
    assert_eq!(reason.as_deref(), Some("runner_interrupted"));
    host.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_takes_longer_than_shutdown_timeout_exits_1_and_the_next_start_reports() {
    let Some(host) = Host::new(&Config::new().global("shutdown_timeout = 1")).await else {
        return;
    };
    host.gitlab
        .fault(Fault::on(Endpoint::UpdateJob).state("final").hang());
    let id = host.gitlab.enqueue(&gated("never-opened"));
    let mut runner = host.start();
    host.wait_witness("order", 1).await;
    runner.signal(Signal::TERM);
    assert_eq!(runner.exit_code().await, 1);
    runner.says("shutdown timed out").await;
    // Not to be taken for a crash.
    assert_eq!(host.journal(id).last().expect("records"), "Detached");
    host.gitlab.heal();
    let runner = host.start();
    let job = host.end_of(id).await;
    assert_eq!(job.failure_reason.as_deref(), Some("runner_interrupted"));
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_exits_at_once_with_1_and_the_next_start_reports() {
    let Some(host) = Host::new(&Config::new().global("shutdown_timeout = 600")).await else {
        return;
    };
    host.gitlab
        .fault(Fault::on(Endpoint::UpdateJob).state("final").hang());
    let id = host.gitlab.enqueue(&gated("never-opened"));
    let mut runner = host.start();
    host.wait_witness("order", 1).await;
    runner.signal(Signal::TERM);
    runner.says("Starting forceful shutdown").await;
    runner.signal(Signal::INT);
    assert_eq!(runner.exit_code().await, 1);
    runner.says("forced exit with stop signal: interrupt").await;
    assert_eq!(host.journal(id).last().expect("records"), "Detached");
    host.gitlab.heal();
    let runner = host.start();
    let job = host.end_of(id).await;
    // Killed before or after the stop was written down: both ends are true.
    assert_eq!(job.state, ServerJobState::Failed);
    host.finish(runner).await;
}

#[rstest]
#[case::told_by_sighup(true)]
#[case::seen_by_the_time_of_the_file(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_slots_take_effect_while_a_job_runs(#[case] told: bool) {
    let config = Config::new().concurrent(1);
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let first = host.gitlab.enqueue(&gated("a"));
    let second = host.gitlab.enqueue(&gated("b"));
    let runner = host.start();
    host.wait_witness("order", 1).await;
    host.configure(&config.concurrent(2));
    if told {
        runner.signal(Signal::HUP);
    }
    host.wait_witness("order", 2).await;
    assert_eq!(host.witnessed("order"), ["begin a", "begin b"]);
    for name in ["a", "b"] {
        host.open_gate(name);
    }
    for id in [first, second] {
        assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    }
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_slots_take_effect_as_jobs_end() {
    let config = Config::new().concurrent(2);
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let mut ids = vec![
        host.gitlab.enqueue(&gated("a")),
        host.gitlab.enqueue(&gated("b")),
    ];
    let runner = host.start();
    host.wait_witness("order", 2).await;
    host.configure(&config.concurrent(1));
    runner.signal(Signal::HUP);
    until("the new configuration", async || {
        (runner.count("concurrent=1") > 0).then_some(())
    })
    .await;
    ids.push(host.gitlab.enqueue(&gated("c")));
    host.open_gate("c");
    host.open_gate("a");
    host.wait_witness("order", 3).await;
    host.open_gate("b");
    for id in ids {
        assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    }
    let order = host.witnessed("order");
    assert_eq!(order[2..], ["end a", "end b", "begin c", "end c"]);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_configuration_leaves_the_old_one_active() {
    let config = Config::new();
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let runner = host.start();
    host.gitlab.wait_for_requests(Endpoint::RequestJob, 1).await;
    host.write_config("concurrent = [not a number");
    runner.signal(Signal::HUP);
    runner.says("the old one stays active").await;
    runner.says("config.toml").await;
    let id = host.gitlab.enqueue(&job(["true"]));
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    host.configure(&config.concurrent(3));
    runner.signal(Signal::HUP);
    until("the good configuration", async || {
        (runner.count("concurrent=3") > 0).then_some(())
    })
    .await;
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_without_slots_ends_the_process() {
    let config = Config::new();
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let mut runner = host.start();
    host.gitlab.wait_for_requests(Endpoint::RequestJob, 1).await;
    host.configure(&config.concurrent(0));
    runner.signal(Signal::HUP);
    assert_eq!(runner.exit_code().await, 1);
    runner.says("concurrent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_come_and_go_with_the_configuration() {
    let config = Config::new();
    // Requests are answered at once: a held one of a runner that is gone may still get a job.
    let Some(host) = Host::with(&config, |gitlab| gitlab).await else {
        return;
    };
    let other = "glrt-anotherRunnerToken";
    host.secret(other);
    host.gitlab.add_runner_token(other);
    let asked_by = |token: &str| {
        let requests = host.gitlab.requests_to(Endpoint::RequestJob);
        let of_token = |request: &&gantry_testkit::RecordedRequest| {
            request.header("runner-token") == Some(token)
        };
        requests.iter().filter(of_token).count()
    };
    let runner = host.start();
    until("the first runner to ask", async || {
        (asked_by(host.token()) > 0).then_some(())
    })
    .await;
    let url = host.gitlab.url();
    let engine = host.docker.host();
    let second = format!(
        "[[runners]]\nname = \"other\"\nurl = \"{url}\"\ntoken = \"{other}\"\nexecutor = \"docker\"\n\
         [runners.docker]\nhost = \"{engine}\"\nimage = \"{}\"\n",
        crate::harness::BUSYBOX
    );
    host.configure(&config.clone().more(&second));
    runner.signal(Signal::HUP);
    until("the second runner to ask", async || {
        (asked_by(other) > 0).then_some(())
    })
    .await;
    host.configure(&config);
    runner.signal(Signal::HUP);
    until("the second runner to be gone", async || {
        (runner.count("Configuration loaded") >= 3).then_some(())
    })
    .await;
    let (of_first, of_second) = (asked_by(host.token()), asked_by(other));
    until("the first runner to go on", async || {
        (asked_by(host.token()) > of_first + 1).then_some(())
    })
    .await;
    // One may have been under way.
    assert!(asked_by(other) <= of_second + 1);
    host.finish(runner).await;
}
