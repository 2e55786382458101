//! Log and verdict reach a server that does not make it easy.

use super::*;

#[rstest]
#[case::answer_lost(vec![patch().nth(2).lose_answer()])]
#[case::request_lost(vec![patch().calls(1..=2).drop_before_body()])]
#[case::server_errors(vec![patch().calls(2..=4).status(500), patch().nth(6).status(502)])]
#[case::not_found_for_once(vec![patch().nth(2).status(404)])]
#[case::wrong_offset(vec![patch().nth(2).answer(Answer::status(416).header("Range", "0-5"))])]
#[case::offset_from_nowhere(vec![patch().nth(2).answer(Answer::status(416).header("Range", "0-999999"))])]
#[case::offset_without_range(vec![patch().nth(2).status(416)])]
#[case::final_answer_lost(vec![update().nth(1).lose_answer()])]
#[case::final_request_lost(vec![update().nth(1).drop_unhandled()])]
#[case::final_server_errors(vec![update().calls(1..=3).status(503)])]
#[case::final_conflict(vec![update().nth(1).status(409)])]
#[case::trace_asked_for_again(vec![update().nth(1).status(412)])]
#[case::all_at_once(vec![
    patch().nth(1).lose_answer(),
    patch().nth(3).status(500),
    update().nth(1).status(412),
    update().nth(2).status(500),
    update().nth(3).lose_answer(),
])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_verdict_arrive_whole(#[case] faults: Vec<Fault>) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.gitlab.set_update_interval(Some("1"));
    for fault in faults {
        host.gitlab.fault(fault);
    }
    let id = host.gitlab.enqueue(&numbered(150));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(6));
    host.gitlab.assert_patches(id);
    assert_numbered(&JobLog::of(&job), 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_still_assembles_the_log_is_asked_again() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.gitlab.set_update_interval(Some("1"));
    host.gitlab.accept_final_updates(2);
    let id = host.gitlab.enqueue(&numbered(10));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let answers: Vec<_> = job
        .final_updates()
        .iter()
        .map(|update| update.status)
        .collect();
    assert_eq!(answers, [202, 202, 200]);
    assert_numbered(&JobLog::of(&job), 10);
}

/// The slot of a job whose verdict cannot be delivered is free for the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_cannot_be_delivered_frees_its_slot_and_arrives_later() {
    let config = Config::new()
        .concurrent(1)
        .runner("job_status_final_update_retry_limit = 1");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let first = host.gitlab.enqueue(&numbered(20));
    let second = host.gitlab.enqueue(&job(["echo second"]));
    host.gitlab.fault(update().job(first).status(503));
    let runner = host.start();
    assert_eq!(host.end_of(second).await.state, ServerJobState::Success);
    assert!(!host.gitlab.job(first).state.is_final());
    runner.says("delivery goes on in the background").await;
    until("what the jobs made to go", async || {
        host.containers("").await.is_empty().then_some(())
    })
    .await;
    assert!(!host.gitlab.job(first).state.is_final());
    host.gitlab.heal();
    let job = host.end_of(first).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(6));
    assert_numbered(&JobLog::of(&job), 20);
}

#[rstest]
#[case::same_process(false)]
#[case::across_a_restart(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_while_gitlab_is_down_is_reported_when_it_is_back(#[case] restart: bool) {
    let config = Config::new().runner("job_status_final_update_retry_limit = 1");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let wait = gate("go");
    let work = job([
        "echo begun >> /witness/script",
        &wait,
        "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i; done",
        "exit 6",
    ]);
    let id = host.gitlab.enqueue(&work);
    let mut runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.go_down().await;
    host.open_gate("go");
    runner.says("delivery goes on in the background").await;
    if restart {
        runner.kill().await;
        runner = host.start();
        runner.says("taking up a job of an earlier process").await;
    }
    host.gitlab.come_back().await;
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(6));
    host.gitlab.assert_patches(id);
    assert_numbered(&JobLog::of(&job), 100);
    assert_eq!(host.witnessed("script"), ["begun"]);
}

/// The drain waits for the outbox; the stop does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_until_the_verdict_is_delivered() {
    let config = Config::new().runner("job_status_final_update_retry_limit = 1");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    host.gitlab.fault(update().status(503));
    let id = host.gitlab.enqueue(&numbered(5));
    let runner = host.start();
    runner.says("delivery goes on in the background").await;
    runner.signal(crate::harness::Signal::QUIT);
    runner.says("Starting graceful shutdown").await;
    host.gitlab.heal();
    let mut runner = runner;
    assert_eq!(runner.exit_code().await, 0);
    assert!(host.gitlab.job(id).state.is_final());
    host.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_its_own_authority_is_trusted_by_file() {
    let ca = TestCa::new("an authority of one's own");
    // Any engine's bridge: what counts is the address the configuration names.
    let Some(docker) = crate::harness::Docker::of_environment() else {
        crate::harness::skipped("GANTRY_TEST_ENGINE names no engine");
        return;
    };
    let bridge = docker.bridge().await;
    let identity = ca.issue(&[&bridge]);
    let make = |gitlab: gantry_testkit::FakeGitLabBuilder| gitlab.tls(identity);
    let config = Config::new();
    let Some(host) = Host::with(&config, make).await else {
        return;
    };
    // Not trusted yet: told, and tried again.
    let runner = host.start();
    runner.says("certificate").await;
    std::fs::write(host.folder().join("ca.crt"), ca.pem()).expect("a file");
    let path = host.folder().join("ca.crt");
    let id = host
        .gitlab
        .enqueue(&job(["head -n 1 \"$CI_SERVER_TLS_CA_FILE\"", "echo done"]));
    host.configure(&config.runner(&format!("tls-ca-file = \"{}\"", path.display())));
    runner.signal(crate::harness::Signal::HUP);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    let log = JobLog::of(&job);
    log.assert_prints("-----BEGIN CERTIFICATE-----");
    log.assert_prints("done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_silent_job_is_kept_alive_with_the_size_of_its_log() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let id = host
        .gitlab
        .enqueue(&job(["echo begun >> /witness/script", &wait]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let alive = |job: &gantry_testkit::JobRecord| {
        job.updates.iter().any(|update| {
            update.state == "running" && update.body["output"]["bytesize"].as_u64() > Some(0)
        })
    };
    host.gitlab.wait_for(id, "kept alive", alive).await;
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.states()[0], "running");
    assert_eq!(job.updates[0].body["output"].get("bytesize"), None);
}

/// What a server is told of the runner, and with which headers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_those_of_the_peer() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    for request in host.gitlab.requests() {
        let agent = request.header("user-agent").unwrap_or_default();
        assert!(agent.starts_with("gitlab-runner 19.4.0 ("), "{agent}");
        assert!(request.endpoint != Endpoint::Other, "{}", request.path);
    }
    let asked = &host.gitlab.requests_to(Endpoint::RequestJob)[0];
    let body = asked.json();
    assert_eq!(body["token"], host.token());
    assert_eq!(body["info"]["version"], "19.4.0");
    assert_eq!(body["info"]["executor"], "docker");
    assert_eq!(body["info"]["features"]["two_phase_job_commit"], true);
    assert_eq!(body["info"]["features"]["cancel_gracefully"], true);
    assert_eq!(body["info"]["features"]["cache"], true);
    assert_eq!(body["info"]["features"]["artifacts"], true);
    // Not done yet, so not claimed.
    assert_ne!(body["info"]["features"]["native_steps_integration"], true);
    let system_id = std::fs::read_to_string(host.folder().join(".runner_system_id"));
    assert_eq!(body["system_id"], system_id.expect("a system id").trim());
    let last = &job.final_updates()[0].body;
    let crc = format!("crc32:{:08x}", crc32(&job.trace));
    assert_eq!(last["output"]["checksum"], crc);
    assert_eq!(last["output"]["bytesize"], job.trace.len());
}

/// Plain bit by bit CRC-32, so that no code is shared with the program.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}
