//! What counts what, and what the board says. Events go in; the text of the exposition comes out.

use gantry_config::RunnerConfig;
use gantry_executor::{Activity, JobEvent, StageEnd, Step};
use gantry_gitlab::{Endpoint, Product};
use gantry_job::Stage;
use prometheus::TextEncoder;
use rstest::rstest;

use super::{gauges::Host, *};

const RUNNER: &str = r#"runner="abcdefghi",runner_name="unit",system_id="s_1""#;

mod taken;

struct Bench {
    observer: Arc<Observer>,
    log: Arc<LogCounts>,
}

impl Bench {
    fn new() -> Self {
        let log = Arc::new(LogCounts::new());
        let own = OwnVersion {
            version: "0.1.0",
            built_at: "2026-01-02T03:04:05Z",
        };
        let metrics = Metrics::new("s_1", &Product::default(), &own, Arc::clone(&log)).unwrap();
        let observer = Arc::new(Observer::new(Some(metrics)));
        observer.tell(&Event::ConfigLoaded(&config(4)));
        Self { observer, log }
    }

    fn text(&self) -> String {
        let host = Host {
            slots: 4,
            used: 1,
            free_bytes: Some(1_000),
        };
        let metrics = self.observer.metrics.as_ref().unwrap();
        let board = &self.observer.board;
        let read = || metrics.registry.gather();
        let families = metrics.gauges.refreshed(board, host, read);
        TextEncoder::new().encode_to_string(&families).unwrap()
    }

    /// The value of a series, by its name and labels as they are printed.
    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        let text = self.text();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        match found {
            Some(value) => value.parse().unwrap(),
            None => panic!("no {series} in\n{text}"),
        }
    }

    fn has(&self, series: &str) -> bool {
        self.text().lines().any(|line| line.starts_with(series))
    }

    fn job(&self, change: impl FnOnce(&mut JobFacts)) -> ObservedJob {
        let mut facts = facts();
        change(&mut facts);
        let job = self.observer.job(facts);
        job.tell(Happened::Taken);
        job
    }
}

fn runner() -> RunnerConfig {
    RunnerConfig {
        name: "unit".to_owned(),
        url: "https://gitlab.example.com".to_owned(),
        token: "glrt-t1_abcdefghij".to_owned().into(),
        limit: Some(3),
        request_concurrency: 2,
        ..RunnerConfig::default()
    }
}

fn config(concurrent: usize) -> Config {
    Config {
        concurrent,
        runners: vec![Arc::new(runner())],
        ..Config::default()
    }
}

fn facts() -> JobFacts {
    JobFacts {
        id: 17,
        runner: RunnerLabels::of(&runner()),
        url: "https://gitlab.example.com/a/b/-/jobs/17".to_owned(),
        name: "job".to_owned(),
        project: "a/b".to_owned(),
        pipeline: 3,
        accepted: SystemTime::now(),
        slot_wait: Duration::from_secs(20),
        queued: Duration::from_secs(5),
        project_jobs_running: "+Inf".to_owned(),
        waited_too_long: false,
        inputs: Ok(0),
        queue_size: 7,
        queue_depth: 2,
        steps: false,
        stage_durations: false,
        folder: "/nowhere".into(),
    }
}

fn step(job: &ObservedJob, stage: &Stage, step: &Step) {
    job.tell(Happened::Executor(&JobEvent::Stage {
        stage,
        attempt: 1,
        step,
    }));
}

fn succeeded() -> Step {
    Step::Ended(StageEnd::Succeeded)
}

// === From the start ===

#[test]
fn series_of_a_runner_are_there_before_anything_happens() {
    let bench = Bench::new();
    for name in [
        "gitlab_runner_jobs_total",
        "gitlab_runner_worker_feeds_total",
        "gitlab_runner_worker_feed_failures_total",
        "gitlab_runner_worker_health_check_failures_total",
        "gantry_jobs_recovered_total",
    ] {
        assert_eq!(bench.value(&format!("{name}{{{RUNNER}}}")), 0.0);
    }
    let of_mode = r#"gitlab_runner_job_duration_seconds_count{mode="traditional","#;
    assert_eq!(bench.value(&format!("{of_mode}{RUNNER}}}")), 0.0);
    let idle = r#"gitlab_runner_jobs{executor_stage="idle",runner="abcdefghi",runner_name="unit",stage="idle",state="idle",system_id="s_1"}"#;
    assert_eq!(bench.value(idle), 0.0);
    assert_eq!(
        bench.value(&format!("gitlab_runner_limit{{{RUNNER}}}")),
        3.0
    );
    assert_eq!(bench.value("gitlab_runner_concurrent"), 4.0);
    assert_eq!(bench.value("gitlab_runner_configuration_loaded_total"), 1.0);
    for name in [
        "gitlab_runner_configuration_loading_error_total",
        "gitlab_runner_configuration_saved_total",
        "gitlab_runner_configuration_saving_error_total",
        r#"gitlab_runner_errors_total{level="error"}"#,
        r#"gitlab_runner_errors_total{level="fatal"}"#,
        r#"gitlab_runner_errors_total{level="panic"}"#,
        r#"gitlab_runner_errors_total{level="warning"}"#,
        r#"gantry_sweeps_total{result="ok"}"#,
    ] {
        assert_eq!(bench.value(name), 0.0);
    }
}

#[test]
fn versions_are_the_peers_and_our_own() {
    let bench = Bench::new();
    let text = bench.text();
    let line = text
        .lines()
        .find(|line| line.starts_with("gitlab_runner_version_info{"))
        .unwrap();
    for label in [
        "name=\"gitlab-runner\"",
        "version=\"19.4.0\"",
        "branch=\"19-4-stable\"",
        "revision=",
        "go_version=",
        "built_at=\"2026-01-02T03:04:05Z\"",
        "os=\"linux\"",
        "architecture=",
    ] {
        assert!(line.contains(label), "{line}");
    }
    let own = r#"gantry_version_info{compatible_version="19.4.0",version="0.1.0"}"#;
    assert_eq!(bench.value(own), 1.0);
    assert!(bench.value("process_resident_memory_bytes") > 0.0);
    assert!(bench.value("process_start_time_seconds") > 0.0);
    assert!(bench.has("process_cpu_seconds_total "));
}

#[test]
fn the_state_of_the_process_is_one_series() {
    let bench = Bench::new();
    let state = |name: &str| format!(r#"gitlab_runner_process_state_info{{state="{name}"}}"#);
    assert_eq!(bench.value(&state("starting")), 1.0);
    bench.observer.tell(&Event::Ready);
    assert_eq!(bench.value(&state("running")), 1.0);
    assert!(!bench.has(&state("starting")));
    bench.observer.tell(&Event::Phase(Phase::Graceful));
    assert_eq!(bench.value(&state("graceful-shutdown")), 1.0);
    let phase = Phase::Forceful { signal: 15 };
    bench.observer.tell(&Event::Phase(phase));
    assert_eq!(bench.value(&state("forceful-shutdown")), 1.0);
}

#[test]
fn lines_of_the_log_are_counted_by_level() {
    let bench = Bench::new();
    bench.log.error();
    bench.log.warning();
    bench.log.warning();
    for _ in 0..2 {
        // Asking twice counts nothing twice.
        let of =
            |level: &str| bench.value(&format!("gitlab_runner_errors_total{{level=\"{level}\"}}"));
        assert_eq!((of("error"), of("warning")), (1.0, 2.0));
    }
}

// === Configuration ===

#[test]
fn reloads_are_counted_and_slots_come_and_go() {
    let bench = Bench::new();
    bench.observer.tell(&Event::ConfigRefused);
    bench.observer.tell(&Event::ConfigLoaded(&config(6)));
    bench.observer.tell(&Event::ConfigLoaded(&config(1)));
    for saved in [true, true, false] {
        bench.observer.tell(&Event::ConfigSaved { saved });
    }
    assert_eq!(bench.value("gitlab_runner_configuration_saved_total"), 2.0);
    assert_eq!(
        bench.value("gitlab_runner_configuration_saving_error_total"),
        1.0
    );
    assert_eq!(bench.value("gitlab_runner_configuration_loaded_total"), 3.0);
    assert_eq!(
        bench.value("gitlab_runner_configuration_loading_error_total"),
        1.0
    );
    let operations = "gitlab_runner_worker_slot_operations_total";
    assert_eq!(
        bench.value(&format!("{operations}{{operation=\"started\"}}")),
        6.0
    );
    assert_eq!(
        bench.value(&format!("{operations}{{operation=\"stopped\"}}")),
        5.0
    );
}

#[test]
fn a_runner_that_is_gone_has_no_gauges() {
    let bench = Bench::new();
    bench
        .observer
        .tell(&Event::ConfigLoaded(&Config::default()));
    assert!(!bench.has("gitlab_runner_limit{"));
    assert!(!bench.has("gitlab_runner_jobs{"));
    assert!(
        bench.has("gitlab_runner_jobs_total{"),
        "what was counted stays"
    );
}

// === Polling ===

fn resting(why: Why) -> Doing {
    Doing::Resting {
        until: Instant::now() + Duration::from_secs(60),
        why,
    }
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_those_of_all_loops() {
    let bench = Bench::new();
    let runner = runner();
    let polling = |number, doing| {
        bench.observer.tell(&Event::Polling {
            runner: &runner,
            number,
            doing,
        });
    };
    let in_flight = r#"gitlab_runner_request_concurrency{runner="abcdefghi",system_id="s_1"}"#;
    assert_eq!(bench.value(in_flight), 0.0);
    polling(0, Doing::Requesting);
    polling(1, Doing::Requesting);
    assert_eq!(bench.value(in_flight), 2.0);
    polling(0, Doing::WaitingForSlot);
    assert_eq!(bench.value(in_flight), 1.0);
    polling(1, resting(Why::Unhealthy));
    polling(0, resting(Why::HeldBack));
    assert_eq!(bench.value(in_flight), 0.0);
    let of_runner = |name: &str| bench.value(&format!("{name}{{{RUNNER}}}"));
    assert_eq!(of_runner("gitlab_runner_worker_feeds_total"), 2.0);
    assert_eq!(of_runner("gitlab_runner_worker_feed_failures_total"), 1.0);
    let exceeded =
        r#"gitlab_runner_request_concurrency_exceeded_total{runner="abcdefghi",system_id="s_1"}"#;
    assert_eq!(bench.value(exceeded), 1.0);
    bench.observer.tell(&Event::Answered {
        runner: &runner,
        adaptive: 2,
    });
    for (limit, value) in [("hard", 2.0), ("adaptive", 2.0), ("used", 2.0)] {
        let name = format!("gitlab_runner_request_concurrency_{limit}_limit");
        let series = format!("{name}{{runner=\"abcdefghi\",system_id=\"s_1\"}}");
        assert_eq!(bench.value(&series), value);
    }
}

#[rstest]
#[case(&[Doing::Requesting, Doing::WaitingForSlot], "polling")]
#[case(&[Doing::WaitingForSlot, Doing::WaitingForLimit], "waiting-for-slot")]
#[case(&[Doing::WaitingForLimit], "limit-reached")]
#[case(&[], "stopped")]
fn a_runner_does_what_the_busiest_of_its_loops_does(#[case] doing: &[Doing], #[case] word: &str) {
    let bench = Bench::new();
    let runner = runner();
    for (number, doing) in doing.iter().enumerate() {
        bench.observer.tell(&Event::Polling {
            runner: &runner,
            number,
            doing: *doing,
        });
    }
    let state = bench.observer.board.lock();
    let row = &state.runners[&RunnerLabels::of(&runner)];
    assert_eq!(row.doing(Instant::now()), (word, None));
}

#[rstest]
#[case(Why::Unhealthy, "unhealthy")]
#[case(Why::DiskFull, "disk-full")]
#[case(Why::Interval, "polling")]
#[case(Why::HeldBack, "polling")]
#[tokio::test(start_paused = true)]
async fn a_resting_runner_says_for_how_long(#[case] why: Why, #[case] word: &str) {
    let bench = Bench::new();
    let runner = runner();
    bench.observer.tell(&Event::Polling {
        runner: &runner,
        number: 0,
        doing: resting(why),
    });
    tokio::time::advance(Duration::from_secs(20)).await;
    let state = bench.observer.board.lock();
    let row = &state.runners[&RunnerLabels::of(&runner)];
    let rest = Some(Duration::from_secs(40));
    assert_eq!(row.doing(Instant::now()), (word, rest));
}

#[test]
fn refusals_and_waits_for_slots_are_counted() {
    let bench = Bench::new();
    let runner = runner();
    bench.observer.tell(&Event::Unhealthy { runner: &runner });
    let waited = Duration::from_millis(2500);
    bench.observer.tell(&Event::SlotWaited(waited));
    let of_runner = |name: &str| bench.value(&format!("{name}{{{RUNNER}}}"));
    assert_eq!(
        of_runner("gitlab_runner_worker_health_check_failures_total"),
        1.0
    );
    assert_eq!(bench.value("gantry_slot_wait_seconds_sum"), 2.5);
}

// === Calls ===

fn call(endpoint: Endpoint, status: Option<u16>, attempts: u32) -> CallRecord {
    CallRecord {
        runner: "abcdefghi".into(),
        endpoint,
        status,
        attempts,
        duration: Duration::from_millis(300),
        correlation_id: String::new(),
    }
}

#[rstest]
#[case(Endpoint::RequestJob, Some(201), "request_job", "201", "2xx", "post")]
#[case(Endpoint::UpdateJob, Some(503), "update_job", "503", "5xx", "put")]
#[case(Endpoint::PatchTrace, Some(416), "patch_trace", "416", "4xx", "patch")]
#[case(Endpoint::RequestJob, None, "request_job", "-1", "unknown", "post")]
fn calls_are_counted_by_status_and_timed_by_its_class(
    #[case] endpoint: Endpoint,
    #[case] status: Option<u16>,
    #[case] label: &str,
    #[case] shown: &str,
    #[case] class: &str,
    #[case] method: &str,
) {
    let bench = Bench::new();
    bench.observer.call_ended(&call(endpoint, status, 1));
    let counted = format!(
        r#"gitlab_runner_api_request_statuses_total{{endpoint="{label}",method="{method}",runner="abcdefghi",status="{shown}",system_id="s_1"}}"#
    );
    assert_eq!(bench.value(&counted), 1.0);
    let bucket = |limit: &str| {
        format!(
            r#"gitlab_runner_api_request_duration_seconds_bucket{{endpoint="{label}",method="{method}",runner="abcdefghi",status_class="{class}",system_id="s_1",le="{limit}"}}"#
        )
    };
    assert_eq!(bench.value(&bucket("0.25")), 0.0);
    assert_eq!(bench.value(&bucket("0.5")), 1.0);
}

#[test]
fn attempts_are_counted_by_path() {
    let bench = Bench::new();
    bench
        .observer
        .call_ended(&call(Endpoint::UpdateJob, Some(200), 3));
    bench
        .observer
        .call_ended(&call(Endpoint::UpdateJob, None, 1));
    let series =
        r#"gitlab_runner_api_request_retries_total{method="PUT",path="/api/v4/jobs/{id}"}"#;
    assert_eq!(bench.value(series), 4.0);
}

#[test]
fn a_patch_without_an_answer_and_a_client_that_was_not_built_have_no_status() {
    let bench = Bench::new();
    bench
        .observer
        .call_ended(&call(Endpoint::PatchTrace, None, 1));
    bench
        .observer
        .call_ended(&call(Endpoint::RequestJob, None, 0));
    assert!(!bench.has("gitlab_runner_api_request_statuses_total{"));
    assert!(!bench.has("gitlab_runner_api_request_duration_seconds"));
}

// === Jobs ===

#[test]
fn a_job_that_is_taken_counts_with_its_time_in_the_queue() {
    let bench = Bench::new();
    let _job = bench.job(|_| {});
    let of_runner = |name: &str| bench.value(&format!("{name}{{{RUNNER}}}"));
    assert_eq!(of_runner("gitlab_runner_jobs_total"), 1.0);
    assert_eq!(of_runner("gitlab_runner_job_queue_size"), 7.0);
    assert_eq!(of_runner("gitlab_runner_job_queue_depth"), 2.0);
    let bucket = |limit: &str| {
        format!(
            r#"gitlab_runner_job_queue_duration_seconds_bucket{{project_jobs_running="+Inf",{RUNNER},le="{limit}"}}"#
        )
    };
    assert_eq!(bench.value(&bucket("3")), 0.0);
    assert_eq!(bench.value(&bucket("10")), 1.0);
    // It waited for 5 s, of which this host had no slot for all.
    assert_eq!(of_runner("gantry_job_queue_delay_seconds_sum"), 5.0);
    let mode = r#"gitlab_runner_job_execution_mode_total{executor="docker",mode="traditional"}"#;
    assert_eq!(bench.value(mode), 1.0);
}

#[test]
fn the_delay_is_no_longer_than_the_wait_for_the_slot() {
    let bench = Bench::new();
    let _job = bench.job(|facts| facts.slot_wait = Duration::from_secs(2));
    let sum = format!("gantry_job_queue_delay_seconds_sum{{{RUNNER}}}");
    assert_eq!(bench.value(&sum), 2.0);
}

fn jobs_gauge(state: &str, stage: &str, executor_stage: &str) -> String {
    format!(
        r#"gitlab_runner_jobs{{executor_stage="{executor_stage}",runner="abcdefghi",runner_name="unit",stage="{stage}",state="{state}",system_id="s_1"}}"#
    )
}

#[test]
fn the_gauge_of_jobs_follows_their_stages() {
    let bench = Bench::new();
    let at = |state: &str, stage: &str, executor_stage: &str| {
        assert_eq!(bench.value(&jobs_gauge(state, stage, executor_stage)), 1.0);
    };
    let job = bench.job(|_| {});
    at("pending", "prepare_executor", "created");
    for (activity, word) in [
        (Activity::CreatingVolumes, "docker_creating_user_volumes"),
        (Activity::CreatingServices, "docker_creating_services"),
        (Activity::PullingImage, "docker_pulling_image"),
    ] {
        job.tell(Happened::Executor(&JobEvent::Doing(activity)));
        at("pending", "prepare_executor", word);
    }
    job.tell(Happened::Executor(&JobEvent::Prepared));
    at("running", "prepare_executor", "docker_run");
    let script = Stage::of_step("script");
    step(&job, &script, &Step::Began);
    at("running", "step_script", "docker_run");
    step(&job, &script, &succeeded());
    at("running", "step_script", "docker_run");
    job.tell(Happened::Ended { cause: None });
    at("success", "step_script", "finish");
    job.tell(Happened::Settled {
        outcome: Some(&FinalOutcome::Delivered),
        by_outbox: false,
    });
    at("success", "step_script", "docker_cleanup");
    drop(job);
    assert!(!bench.text().contains(r#"state="success""#));
    assert_eq!(bench.value(&jobs_gauge("idle", "idle", "idle")), 0.0);
}

#[rstest]
#[case(Cause::Canceled, "canceled", "job_canceled", "job_failure")]
#[case(Cause::Interrupted { signal: "terminated".to_owned() }, "terminated", "runner_interrupted", "job_failure")]
#[case(
    Cause::ScriptTimeout,
    "timedout",
    "job_execution_timeout",
    "job_failure"
)]
#[case(Cause::ScriptExit { code: 1 }, "failed", "script_failure", "job_failure")]
#[case(Cause::CrashedThreeTimes, "failed", "runner_system_failure", "other")]
fn failures_are_counted_by_their_own_reason(
    #[case] cause: Cause,
    #[case] state: &str,
    #[case] reason: &str,
    #[case] kind: &str,
) {
    let bench = Bench::new();
    let job = bench.job(|facts| facts.accepted = SystemTime::now() - Duration::from_secs(45));
    job.tell(Happened::Ended {
        cause: Some(&cause),
    });
    assert_eq!(
        bench.value(&jobs_gauge(state, "prepare_executor", "finish")),
        1.0
    );
    let failed = format!(
        r#"gitlab_runner_failed_jobs_total{{failure_reason="{reason}",mode="traditional",runner="abcdefghi",runner_name="unit"}}"#
    );
    assert_eq!(bench.value(&failed), 1.0);
    let processing = format!(
        r#"gitlab_runner_worker_processing_failures_total{{failure_type="{kind}",{RUNNER}}}"#
    );
    assert_eq!(bench.value(&processing), 1.0);
    let bucket = |limit: &str| {
        format!(
            r#"gitlab_runner_job_duration_seconds_bucket{{mode="traditional",{RUNNER},le="{limit}"}}"#
        )
    };
    assert_eq!(bench.value(&bucket("30")), 0.0);
    assert_eq!(bench.value(&bucket("60")), 1.0);
}

#[tokio::test(start_paused = true)]
async fn stages_are_timed_where_the_flag_is_on() {
    for on in [true, false] {
        let bench = Bench::new();
        let job = bench.job(|facts| facts.stage_durations = on);
        tokio::time::advance(Duration::from_secs(2)).await;
        job.tell(Happened::Executor(&JobEvent::Prepared));
        let script = Stage::of_step("script");
        step(&job, &script, &Step::Began);
        tokio::time::advance(Duration::from_secs(20)).await;
        step(&job, &script, &succeeded());
        let sum = |stage: &str| {
            let runner = r#"runner="abcdefghi",runner_name="unit""#;
            let last = format!(r#"stage="{stage}",system_id="s_1""#);
            format!("gitlab_runner_job_stage_duration_seconds_sum{{{runner},{last}}}")
        };
        if on {
            assert_eq!(bench.value(&sum("prepare_executor")), 2.0);
            assert_eq!(bench.value(&sum("step_script")), 20.0);
        } else {
            assert!(!bench.has("gitlab_runner_job_stage_duration_seconds"));
        }
    }
}

#[test]
fn the_first_script_of_a_job_ends_its_start() {
    let bench = Bench::new();
    let job = bench.job(|_| {});
    let script = Stage::of_step("script");
    let count = format!("gantry_job_start_delay_seconds_count{{{RUNNER}}}");
    step(&job, &script, &Step::Began);
    assert!(!bench.has(&count));
    for _ in 0..2 {
        step(&job, &script, &Step::Sent { marks: 0 });
    }
    assert_eq!(bench.value(&count), 1.0);
}

#[test]
fn a_job_of_an_earlier_process_is_recovered_and_not_handled_anew() {
    let bench = Bench::new();
    let job = bench.observer.job(facts());
    let progress = Progress::default();
    job.tell(Happened::TakenUp {
        progress: &progress,
        plan: None,
    });
    let of_runner = |name: &str| bench.value(&format!("{name}{{{RUNNER}}}"));
    assert_eq!(of_runner("gantry_jobs_recovered_total"), 1.0);
    assert_eq!(of_runner("gitlab_runner_jobs_total"), 0.0);
    let state = bench.observer.board.lock();
    assert!(state.jobs.values().all(|job| job.recovered));
}

#[test]
fn verdicts_that_the_server_does_not_take_are_in_the_outbox() {
    let bench = Bench::new();
    let job = bench.job(|facts| facts.accepted = SystemTime::now() - Duration::from_secs(100));
    job.tell(Happened::Ended { cause: None });
    assert_eq!(bench.value("gantry_outbox_jobs"), 0.0);
    job.tell(Happened::Outbox);
    assert_eq!(bench.value("gantry_outbox_jobs"), 1.0);
    assert!(bench.value("gantry_outbox_oldest_seconds") >= 100.0);
    job.tell(Happened::Settled {
        outcome: None,
        by_outbox: true,
    });
    assert_eq!(bench.value("gantry_outbox_jobs"), 0.0);
    let given_up = r#"gantry_outbox_verdicts_total{result="given_up"}"#;
    assert_eq!(bench.value(given_up), 1.0);
}

#[test]
fn what_the_server_has_not_taken_of_a_log_is_its_backlog() {
    let bench = Bench::new();
    let job = bench.job(|_| {});
    let progress = TraceProgress {
        len: 1000,
        checksum: 0,
        finished: false,
    };
    let (_written, written) = watch::channel(progress);
    let (sent, sent_seen) = watch::channel(400);
    job.tell(Happened::Uploading {
        written,
        sent: sent_seen,
    });
    assert_eq!(bench.value("gantry_log_backlog_bytes"), 600.0);
    sent.send_replace(1000);
    assert_eq!(bench.value("gantry_log_backlog_bytes"), 0.0);
}

// === Leftovers ===

#[test]
fn rounds_of_the_sweep_are_counted_with_what_they_removed() {
    let bench = Bench::new();
    bench.observer.tell(&Event::Swept {
        removed: Removed {
            containers: 3,
            networks: 1,
            volumes: 0,
        },
        failed: Removed {
            volumes: 2,
            ..Removed::default()
        },
        took: Duration::from_millis(300),
    });
    bench.observer.tell(&Event::SweepFailed);
    bench.observer.tell(&Event::SetAside);
    for (series, value) in [
        (r#"gantry_sweeps_total{result="ok"}"#, 1.0),
        (r#"gantry_sweeps_total{result="error"}"#, 1.0),
        (r#"gantry_sweep_removed_total{kind="container"}"#, 3.0),
        (r#"gantry_sweep_removed_total{kind="network"}"#, 1.0),
        (r#"gantry_sweep_failures_total{kind="volume"}"#, 2.0),
        ("gantry_sweep_duration_seconds_count", 1.0),
        ("gantry_jobs_set_aside_total", 1.0),
    ] {
        assert_eq!(bench.value(series), value, "{series}");
    }
}

// === Without metrics ===

#[test]
fn without_metrics_the_board_is_kept_all_the_same() {
    let observer = Arc::new(Observer::new(None));
    observer.tell(&Event::ConfigLoaded(&config(1)));
    observer.call_ended(&call(Endpoint::UpdateJob, Some(200), 1));
    let job = observer.job(facts());
    job.tell(Happened::Taken);
    assert_eq!(observer.board.lock().jobs.len(), 1);
    drop(job);
    assert_eq!(observer.board.lock().jobs.len(), 0);
}
