//! Cancel, abort and time limits (coordinator-api §8, job-lifecycle §1.4).

use gantry_testkit::{Endpoint, Fault, JobBuilder, ServerJobState};
use rstest::rstest;

use crate::harness::{Config, Host, JobLog, gate, job, until};

/// A job that sleeps for ever once it has begun, and tells in `after_script` what it finds.
fn sleeper() -> JobBuilder {
    job([
        "echo x > /tmp/in-container; echo x > in-project",
        "echo begun >> /witness/script",
        "sleep 1000",
        "echo never >> /witness/script",
    ])
    .after_script([
        "echo status $CI_JOB_STATUS",
        "[ -e /tmp/in-container ] || echo a new container",
        "[ -e in-project ] && echo the same project",
        "echo begun >> /witness/after",
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_stops_a_silent_script_and_runs_after_script() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&sleeper());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.cancel(id);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Canceled);
    let last = job.final_updates()[0];
    assert_eq!(last.state, "failed");
    // This server does not list `job_canceled`.
    assert_eq!(job.failure_reason.as_deref(), Some("unknown_failure"));
    let log = JobLog::of(&job);
    log.assert_says("WARNING: script canceled externally (UI, API)");
    log.assert_says("ERROR: Job failed: canceled");
    log.assert_prints("status canceled");
    log.assert_prints("a new container");
    log.assert_prints("the same project");
    assert_eq!(host.witnessed("script"), ["begun"]);
    // The server goes on to say `canceling`; that is obeyed once.
    assert_eq!(host.witnessed("after"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_a_canceled_script_are_told_and_their_last_words_are_in_the_log() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let child = "sh -c 'trap \"echo told to end; exit 0\" TERM; echo begun >> /witness/script; while :; do sleep 0.1; done'";
    let id = host.gitlab.enqueue(&job([child]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.cancel(id);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    // Ending well does not make a canceled job a success.
    assert_eq!(job.final_updates()[0].state, "failed");
    let log = JobLog::of(&job);
    log.assert_prints("told to end");
    log.assert_says("ERROR: Job failed: canceled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canceled_script_that_ignores_sigterm_is_ended_by_force() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let child = "sh -c 'trap \"\" TERM; echo begun >> /witness/script; while :; do sleep 1; done'";
    let id = host.gitlab.enqueue(&job([child, "echo not reached"]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.cancel(id);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.final_updates()[0].state, "failed");
    let log = JobLog::of(&job);
    assert!(!log.prints("not reached"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_ends_everything_without_after_script() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&sleeper());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.abort(id);
    until("the job to be gone", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    host.finish(runner).await;
    assert!(host.witnessed("after").is_empty());
}

/// `canceled` skips after_script, not the grace of the script's processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_leaves_processes_the_time_to_end_well() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let child = "sh -c 'trap \"sleep 2; echo told >> /witness/told; exit 0\" TERM; echo begun >> /witness/script; while :; do sleep 0.1; done'";
    let work = job([child]).after_script(["echo begun >> /witness/after"]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.abort(id);
    until("the job to be gone", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    host.finish(runner).await;
    assert_eq!(host.witnessed("told"), ["told"]);
    assert!(host.witnessed("after").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_the_server_has_deleted_ends() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&sleeper());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.delete(id);
    until("the job to be gone", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    host.finish(runner).await;
    assert!(host.witnessed("after").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_in_after_script_ends_it() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let work = job(["exit 3"]).after_script(["echo begun >> /witness/after", "sleep 1000"]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("after", 1).await;
    host.gitlab.abort(id);
    until("the job to be gone", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    host.finish(runner).await;
}

/// The scripts are over: nothing is left to interrupt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_in_after_script_interrupts_nothing() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let work = job(["true"]).after_script([
        "echo begun >> /witness/after",
        wait.as_str(),
        "echo to the end",
    ]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("after", 1).await;
    host.gitlab.cancel(id);
    let asked = host.gitlab.job(id).updates.len();
    // The runner has heard of it.
    host.gitlab
        .wait_for(id, "asked after", |job| job.updates.len() > asked)
        .await;
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.final_updates()[0].state, "success");
    JobLog::of(&job).assert_prints("to the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_canceled_at_its_acceptance_is_given_back_without_a_container() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let canceling = Fault::on(Endpoint::UpdateJob).nth(1);
    host.gitlab
        .fault(canceling.add_header("Job-Status", "canceling"));
    let id = host.gitlab.enqueue(&sleeper());
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.states(), ["running", "failed"]);
    assert_eq!(job.failure_reason.as_deref(), Some("job_canceled"));
    assert_eq!(job.patches, 0);
    assert!(host.witnessed("script").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_refused_at_its_acceptance_is_forgotten() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let refused = host.gitlab.enqueue(&sleeper());
    // Both jobs are confirmed side by side, so the first call may be the other's.
    let fault = Fault::on(Endpoint::UpdateJob).job(refused);
    host.gitlab.fault(fault.nth(1).status(403));
    let next = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    host.end_of(next).await;
    host.finish(runner).await;
    let calls = host.gitlab.requests();
    let of_refused = calls.iter().filter(|call| call.job == Some(refused));
    assert_eq!(of_refused.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_heard_between_two_attempts_to_fetch_sources() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    git.fail_next(1000, 500);
    let repository = git.repository("acme/widget").file("a", "a").commit("a");
    let work = sleeper()
        .git(&repository.build(), "main")
        .variable("GET_SOURCES_ATTEMPTS", "10");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let log = |job: &gantry_testkit::JobRecord| job.log().contains("Retrying...");
    host.gitlab.wait_for(id, "trying again", log).await;
    host.gitlab.cancel(id);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.final_updates()[0].state, "failed");
    let log = JobLog::of(&job);
    log.assert_says("ERROR: Job failed: canceled");
    assert!(host.witnessed("script").is_empty());
    assert!(host.witnessed("after").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_job_ends_it_without_after_script() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&sleeper().timeout(8));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.failure_reason.as_deref(), Some("job_execution_timeout"));
    assert_eq!(job.exit_code, None);
    let log = JobLog::of(&job);
    log.assert_says(
        "WARNING: step_script could not run to completion because the timeout was exceeded.",
    );
    log.assert_says("ERROR: Job failed: execution took longer than 8s seconds");
    assert_eq!(host.witnessed("script"), ["begun"]);
    assert!(host.witnessed("after").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_the_script_ends_it_and_after_script_has_its_own() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let work = sleeper().variable("RUNNER_SCRIPT_TIMEOUT", "2s");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.failure_reason.as_deref(), Some("job_execution_timeout"));
    let log = JobLog::of(&job);
    log.assert_says("ERROR: Job failed: script timeout: context deadline exceeded");
    log.assert_prints("status timedout");
    log.assert_prints("a new container");
    log.assert_prints("the same project");
    assert_eq!(host.witnessed("after"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_after_script_cuts_it_and_changes_nothing_else() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let work = job(["true"])
        .after_script(["echo begun >> /witness/after", "sleep 1000"])
        .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "1s");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    let log = JobLog::of(&job);
    log.assert_says("WARNING: after_script failed, but job will continue unaffected:");
    log.assert_says("Job succeeded");
}

#[rstest]
#[case::malformed("abc", "Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: abc")]
#[case::negative("-5s", "Ignoring relative RUNNER_SCRIPT_TIMEOUT timeout: -5s")]
#[case::too_long(
    "99h",
    "RUNNER_SCRIPT_TIMEOUT timeout: 99h is longer than job timeout. Setting to job timeout"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_timeout_that_makes_no_sense_is_named(#[case] value: &str, #[case] says: &str) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let work = job(["true"]).variable("RUNNER_SCRIPT_TIMEOUT", value);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    JobLog::of(&job).assert_says(says);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_to_fetch_sources_counts_over_all_attempts() {
    let config = Config::new().runner("get_sources_timeout = \"2s\"");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    git.fail_next(1000, 500);
    let repository = git.repository("acme/widget").file("a", "a").commit("a");
    let work = sleeper()
        .git(&repository.build(), "main")
        .variable("GET_SOURCES_ATTEMPTS", "10");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.failure_reason.as_deref(), Some("job_execution_timeout"));
    let log = JobLog::of(&job);
    log.assert_says("ERROR: Job failed: get sources timeout: exceeded timeout of 2s");
    assert!(host.witnessed("script").is_empty());
}

/// A cancel that comes while a script ends by itself must not hang or run anything twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_then_an_abort_end_the_job_once() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.gitlab.set_update_interval(Some("1"));
    let slow = "trap 'sleep 1' TERM; echo begun >> /witness/script; sleep 1000";
    let id = host
        .gitlab
        .enqueue(&job([slow]).after_script(["echo begun >> /witness/after", "sleep 1000"]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.cancel(id);
    host.wait_witness("after", 1).await;
    host.gitlab.abort(id);
    until("the job to be gone", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    host.finish(runner).await;
    assert_eq!(host.witnessed("script"), ["begun"]);
    assert_eq!(host.witnessed("after"), ["begun"]);
}

/// A cancel while an image is pulled ends the pull's tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_heard_while_an_image_is_pulled() {
    let Some(host) = Host::new(&Config::new().pull_policy("\"always\"")).await else {
        return;
    };
    host.gitlab.set_update_interval(Some("1"));
    // Nobody listens there; each try fails at once and is followed by a pause.
    let work = sleeper().image("127.0.0.1:1/nothing:1");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let pulls = |job: &gantry_testkit::JobRecord| job.log().contains("retrying");
    host.gitlab.wait_for(id, "pulling again", pulls).await;
    host.gitlab.cancel(id);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Canceled);
    JobLog::of(&job).assert_says("ERROR: Job failed: canceled");
}
