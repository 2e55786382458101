//! `/metrics` and the pages beside it, after jobs and while they run.

use gantry_testkit::{Endpoint, Fault, ServerJobState};

use super::*;
use crate::harness::{Host, Signal, gate, job};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_counted_under_the_peers_names() {
    let Some(host) = Host::new(&Config::new().global(ANY_PORT)).await else {
        return;
    };
    let good = job(["echo hello"]).set("/job_info/time_in_queue_seconds", 12.5.into());
    let ids = [
        host.gitlab.enqueue(&good),
        host.gitlab.enqueue(&job(["exit 3"])),
    ];
    let runner = host.start();
    let address = metrics_address(&runner).await;
    for id in ids {
        host.end_of(id).await;
    }
    let runner_label = ("runner", host.short_token());
    // The last line of a job's course comes after its verdict.
    let found = until("both jobs to be over", async || {
        let found = scrape(address).await;
        let running: f64 = found.sum("gitlab_runner_jobs", &[runner_label])?;
        (running == 0.0 && found.sum("gitlab_runner_jobs_total", &[])? == 2.0).then_some(found)
    })
    .await;
    let of = |name: &str, more: &[(&str, &str)]| {
        let labels = [&[runner_label], more].concat();
        let found = found.sum(name, &labels);
        found.unwrap_or_else(|| panic!("no {name} with {labels:?}"))
    };
    let named = ("runner_name", "unit");
    assert_eq!(of("gitlab_runner_jobs_total", &[named]), 2.0);
    let failed = [
        ("failure_reason", "script_failure"),
        ("mode", "traditional"),
        named,
    ];
    assert_eq!(of("gitlab_runner_failed_jobs_total", &failed), 1.0);
    let durations = "gitlab_runner_job_duration_seconds";
    assert_eq!(of(&format!("{durations}_count"), &[named]), 2.0);
    assert_eq!(of(&format!("{durations}_bucket"), &[("le", "36000")]), 2.0);
    let queue = "gitlab_runner_job_queue_duration_seconds";
    assert_eq!(of(&format!("{queue}_count"), &[named]), 2.0);
    assert!(of(&format!("{queue}_sum"), &[named]) >= 12.5);
    let statuses = "gitlab_runner_api_request_statuses_total";
    let call = |endpoint, status, method| {
        [
            ("endpoint", endpoint),
            ("status", status),
            ("method", method),
        ]
    };
    assert_eq!(of(statuses, &call("request_job", "201", "post")), 2.0);
    // Accepted and ended.
    assert!(of(statuses, &call("update_job", "200", "put")) >= 4.0);
    assert!(of(statuses, &call("patch_trace", "202", "patch")) >= 2.0);
    let class = [("endpoint", "patch_trace"), ("status_class", "2xx")];
    let calls = "gitlab_runner_api_request_duration_seconds_count";
    assert!(of(calls, &class) >= 2.0);
    let processing = "gitlab_runner_worker_processing_failures_total";
    assert_eq!(of(processing, &[("failure_type", "job_failure")]), 1.0);
    assert_eq!(of("gantry_job_start_delay_seconds_count", &[]), 2.0);
    let of_process = |name: &str| found.sum(name, &[]).unwrap();
    assert_eq!(of_process("gitlab_runner_concurrent"), 4.0);
    assert_eq!(of_process("gitlab_runner_version_info"), 1.0);
    assert!(of_process("process_resident_memory_bytes") > 1e6);
    assert_eq!(found.types["gitlab_runner_jobs"], "gauge");
    assert_eq!(found.types["gitlab_runner_jobs_total"], "counter");
    assert_eq!(found.types[durations], "histogram");
    let page = get(address, "/metrics").await;
    let kind = "content-type: text/plain; version=0.0.4";
    assert!(page.head.contains(kind), "{}", page.head);
    host.assert_no_secret("the metrics", &page.body);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_is_seen_in_its_stage_and_the_process_in_its_state() {
    let Some(host) = Host::new(&Config::new().global(ANY_PORT)).await else {
        return;
    };
    let wait = gate("end");
    let id = host
        .gitlab
        .enqueue(&job(["echo x >> /witness/begun", wait.as_str()]));
    let mut runner = host.start();
    let address = metrics_address(&runner).await;
    host.wait_witness("begun", 1).await;
    let ready = get(address, "/health/ready").await;
    ready.assert_status(200);
    assert_eq!(ready.body, "ready\n");
    assert_eq!(get(address, "/debug/process/state").await.body, "running\n");
    let list = get(address, "/debug/jobs/list").await;
    list.assert_status(200);
    assert!(list.head.contains("x-list-version: 2"), "{}", list.head);
    assert!(
        list.head.contains("content-type: text/plain"),
        "{}",
        list.head
    );
    let end =
        format!("/-/jobs/{id} state=running stage=step_script executor_stage=docker_run duration=");
    assert!(list.body.starts_with("url=http"), "{}", list.body);
    assert!(list.body.contains(&end), "{}", list.body);
    assert!(list.body.ends_with("s\n"), "{}", list.body);
    host.assert_no_secret("the list of jobs", &list.body);
    let found = scrape(address).await;
    let stage = [
        ("state", "running"),
        ("stage", "step_script"),
        ("executor_stage", "docker_run"),
        ("runner_name", "unit"),
    ];
    assert_eq!(found.sum("gitlab_runner_jobs", &stage), Some(1.0));
    let idle = [
        ("state", "idle"),
        ("stage", "idle"),
        ("executor_stage", "idle"),
    ];
    assert_eq!(found.sum("gitlab_runner_jobs", &idle), Some(0.0));
    // This one and the request for the next.
    assert_eq!(found.sum("gantry_slots_used", &[]), Some(2.0));
    assert!(found.sum("gantry_journal_bytes", &[]) > Some(0.0));

    runner.signal(Signal::QUIT);
    until("the drain", async || {
        let state = get(address, "/debug/process/state").await.body;
        (state == "graceful-shutdown\n").then_some(())
    })
    .await;
    host.open_gate("end");
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    assert_eq!(runner.exit_code().await, 0);
    host.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_wrong_is_counted() {
    let config = Config::new().global(ANY_PORT);
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let final_update = Fault::on(Endpoint::UpdateJob).state("final");
    host.gitlab.fault(final_update.status(503));
    host.gitlab
        .fault(Fault::on(Endpoint::RequestJob).calls(1..=1).status(403));
    let id = host.gitlab.enqueue(&job(["true"]));
    let config = config.runner("job_status_final_update_retry_limit = 1");
    host.configure(&config);
    let runner = host.start();
    let address = metrics_address(&runner).await;
    until("the outbox", async || {
        let found = scrape(address).await;
        (found.sum("gantry_outbox_jobs", &[])? == 1.0).then_some(())
    })
    .await;
    host.gitlab.heal();
    host.end_of(id).await;
    let found = until("an empty outbox", async || {
        let found = scrape(address).await;
        let delivered = [("result", "delivered")];
        (found.sum("gantry_outbox_verdicts_total", &delivered)? == 1.0).then_some(found)
    })
    .await;
    assert_eq!(found.sum("gantry_outbox_jobs", &[]), Some(0.0));
    let refused = "gitlab_runner_worker_health_check_failures_total";
    assert_eq!(found.sum(refused, &[]), Some(1.0));
    let statuses = "gitlab_runner_api_request_statuses_total";
    assert_eq!(found.sum(statuses, &[("status", "403")]), Some(1.0));
    assert!(found.sum(statuses, &[("status", "503")]) >= Some(1.0));
    assert!(found.sum("gitlab_runner_errors_total", &[("level", "error")]) >= Some(1.0));
    host.write_config("concurrent = [");
    runner.signal(Signal::HUP);
    until("the broken configuration", async || {
        let found = scrape(address).await;
        let broken = "gitlab_runner_configuration_loading_error_total";
        (found.sum(broken, &[])? >= 1.0).then_some(())
    })
    .await;
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_taken_up_after_a_death_is_recovered_and_listed() {
    let Some(host) = Host::new(&Config::new().global(ANY_PORT)).await else {
        return;
    };
    let wait = gate("end");
    let id = host
        .gitlab
        .enqueue(&job(["echo x >> /witness/begun", wait.as_str()]));
    let runner = host.start();
    host.wait_witness("begun", 1).await;
    runner.kill().await;
    let runner = host.start();
    let address = metrics_address(&runner).await;
    let found = until("the job to be taken up", async || {
        let found = scrape(address).await;
        (found.sum("gantry_jobs_recovered_total", &[])? == 1.0).then_some(found)
    })
    .await;
    assert_eq!(found.sum("gitlab_runner_jobs_total", &[]), Some(0.0));
    let stage = [("state", "running"), ("stage", "step_script")];
    assert_eq!(found.sum("gitlab_runner_jobs", &stage), Some(1.0));
    host.open_gate("end");
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_wins_over_the_file() {
    let folder = idle_host("listen_address = \"256.0.0.1:nonsense\"\n");
    let arguments = ["--listen-address", "127.0.0.1:0"];
    let runner = Runner::start(folder.path(), &arguments, &[]);
    let address = metrics_address(&runner).await;
    get(address, "/metrics").await.assert_status(200);
    runner.kill().await;
    let variables = [("LISTEN_ADDRESS", "localhost:0")];
    let runner = Runner::start(folder.path(), &[], &variables);
    let address = metrics_address(&runner).await;
    assert!(address.ip().is_loopback());
    get(address, "/metrics").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_address_nothing_listens_and_the_log_says_so() {
    let folder = idle_host("concurrent = 1\n");
    let runner = Runner::start(folder.path(), &[], &[]);
    runner
        .says("listen_address not defined, metrics & debug endpoints disabled")
        .await;
    runner.says("Configuration loaded").await;
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", runner.pid())).unwrap();
    let inodes = open_sockets(runner.pid());
    let listening = sockets
        .lines()
        .filter(|line| line.split_whitespace().nth(3) == Some("0A"))
        .filter_map(|line| line.split_whitespace().nth(9))
        .filter(|inode| inodes.iter().any(|own| own == inode));
    assert_eq!(listening.count(), 0);
}

/// Inodes of a process' sockets.
fn open_sockets(pid: u32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = files
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok());
    links
        .filter_map(|link| {
            let link = link.to_string_lossy();
            let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_none_switches_metrics_off_and_one_in_use_is_fatal() {
    let folder = idle_host("listen_address = \"http://here:9252\"\n");
    let runner = Runner::start(folder.path(), &[], &[]);
    runner
        .says("ERROR: metrics & debug endpoints disabled")
        .await;
    runner
        .says("listen_address \"http://here:9252\" is no address")
        .await;
    runner.kill().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = idle_host(&format!("listen_address = \"{address}\"\n"));
    let mut runner = Runner::start(folder.path(), &[], &[]);
    assert_eq!(runner.exit_code().await, 1);
    runner
        .says(&format!(
            "FATAL: listen on {address}: Address already in use"
        ))
        .await;
}
