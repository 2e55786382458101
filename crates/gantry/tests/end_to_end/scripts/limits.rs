//! Time limits, and which reason and code the server is told when several things fail.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_limits_that_make_no_sense_are_named_and_do_not_count() {
    let malformed = "Ignoring malformed {} timeout: {=}";
    let relative = "Ignoring relative {} timeout: {=}";
    let longer = "{} timeout: {=} is longer than job timeout. Setting to job timeout";
    let table = [
        ("", None),
        ("0", None),
        ("0s", None),
        ("5m", None),
        ("abc", Some(malformed)),
        ("10", Some(malformed)),
        ("-1", Some(malformed)),
        ("99999999h", Some(malformed)),
        ("-5s", Some(relative)),
        ("1h30m", Some(longer)),
        ("99h", Some(longer)),
    ];
    let jobs: Vec<_> = table
        .iter()
        .map(|(value, _)| {
            job(["echo ran"])
                .after_script(["echo ran after"])
                .variable("RUNNER_SCRIPT_TIMEOUT", value)
                .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", value)
        })
        .collect();
    let Some((_, done)) = run_all(&Config::new(), &jobs).await else {
        return;
    };
    for ((value, warning), done) in table.iter().zip(&done) {
        assert_eq!(
            done.state,
            ServerJobState::Success,
            "{value:?}: {}",
            done.log()
        );
        let log = JobLog::of(done);
        log.assert_prints("ran");
        log.assert_prints("ran after");
        let text = log.text();
        assert_eq!(
            text.matches("WARNING: ").count(),
            2 * usize::from(warning.is_some()),
            "{text}"
        );
        for name in ["RUNNER_SCRIPT_TIMEOUT", "RUNNER_AFTER_SCRIPT_TIMEOUT"] {
            if let Some(warning) = warning {
                let line = warning.replace("{}", name).replace("{=}", value);
                log.assert_says(&format!("WARNING: {line}"));
            }
        }
    }
}

/// What failed first is the job's, but for an end by force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_after_script_out_of_time_counts_where_its_errors_do() {
    let slow = |script: &str| {
        job([script])
            .after_script(["echo after; sleep 1000"])
            .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "1s")
    };
    let counted = |work: JobBuilder| work.variable("AFTER_SCRIPT_IGNORE_ERRORS", "false");
    let jobs = [slow("true"), counted(slow("true")), counted(slow("exit 3"))];
    let Some((_, done)) = run_all(&Config::new(), &jobs).await else {
        return;
    };
    let ends: Vec<_> = done
        .iter()
        .map(|done| (done.failure_reason.as_deref(), done.exit_code))
        .collect();
    assert_eq!(
        ends,
        [
            (None, None),
            (Some("job_execution_timeout"), None),
            (Some("script_failure"), Some(3))
        ]
    );
    let why = "script timeout: context deadline exceeded";
    JobLog::of(&done[0]).assert_says(&format!(
        "WARNING: after_script failed, but job will continue unaffected: {why}"
    ));
    JobLog::of(&done[1]).assert_says(&format!("ERROR: Job failed: {why}"));
    JobLog::of(&done[2]).assert_says("ERROR: Job failed: exit code 3");
    for done in &done {
        JobLog::of(done).assert_says(
            "WARNING: after_script could not run to completion because the timeout was exceeded.",
        );
    }
}

/// As with the peer: a job out of time, or one that is taken away, ends of that, even if its script had failed before.
#[rstest]
#[case::the_script_was_well("true")]
#[case::the_script_had_failed("exit 3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_out_of_time_in_its_after_script_fails_of_that(#[case] script: &str) {
    let artifacts = json!([{"name": "x", "paths": ["."], "when": "always", "artifact_type": "archive", "artifact_format": "zip"}]);
    let work = job([script])
        .after_script(["sleep 1000"])
        .set("/artifacts", artifacts)
        .timeout(8);
    let Some((_, done)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(
        done.failure_reason.as_deref(),
        Some("job_execution_timeout"),
        "{}",
        done.log()
    );
    assert_eq!(done.exit_code, None);
    let log = JobLog::of(&done);
    log.assert_says("ERROR: Job failed: execution took longer than 8s seconds");
    assert!(done.artifacts.is_empty());
    assert!(
        !log.sections()
            .contains(&"upload_artifacts_on_failure".to_owned())
    );
    assert!(
        !log.sections()
            .contains(&"cleanup_file_variables".to_owned())
    );
}

/// How a job ends while its image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Timeout,
    PrepareTimeout,
    Cancel,
    Abort,
    Stop,
    Kill,
}

/// Nothing runs after it, and nothing is left.
#[rstest]
#[case::timeout(End::Timeout)]
#[case::timeout_of_the_preparation(End::PrepareTimeout)]
#[case::cancel(End::Cancel)]
#[case::abort(End::Abort)]
#[case::stop_of_the_runner(End::Stop)]
#[case::death_of_the_runner(End::Kill)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_in_its_preparation_runs_nothing(#[case] end: End) {
    let mut config = Config::new().pull_policy("\"always\"");
    if end == End::PrepareTimeout {
        config = config.runner("prepare_timeout = \"3s\"");
    }
    let Some(host) = Host::new(&config).await else {
        return;
    };
    host.gitlab.set_update_interval(Some("1"));
    let secret = "content of a file variable";
    host.secret(secret);
    // Nobody listens there; each try fails at once and is followed by a pause.
    let mut work = job(["echo never"])
        .after_script(["echo never"])
        .image("127.0.0.1:1/nothing:1")
        .file("SETTINGS", secret)
        .masked("PASSWORD", secret);
    if end == End::Timeout {
        work = work.timeout(4);
    }
    let id = host.gitlab.enqueue(&work);
    let mut runner = host.start();
    let pulls = |job: &JobRecord| job.log().contains("retrying");
    host.gitlab.wait_for(id, "pulling again", pulls).await;
    match end {
        End::Timeout | End::PrepareTimeout => {}
        End::Cancel => host.gitlab.cancel(id),
        End::Abort => host.gitlab.abort(id),
        End::Stop => runner = host.stop_and_start(runner).await,
        End::Kill => {
            runner.kill().await;
            runner = host.start();
        }
    }
    let done = host.end_of(id).await;
    host.until_removed().await;
    assert!(host.kept_volumes().await.is_empty(), "no stage has run");
    host.finish(runner).await;
    let log = JobLog::of(&done);
    host.assert_no_secret("the log", &log.text());
    assert!(!log.text().contains("never"), "{}", log.text());
    if end != End::Abort {
        assert_eq!(log.sections(), ["prepare_executor"]);
    }
    let (reason, says) = match end {
        End::Timeout => (
            "job_execution_timeout",
            "execution took longer than 4s seconds",
        ),
        End::PrepareTimeout => (
            "job_execution_timeout",
            "prepare timeout: exceeded timeout of 3s",
        ),
        End::Cancel => ("unknown_failure", "canceled"),
        End::Abort => return,
        End::Stop => ("runner_interrupted", "aborted: terminated"),
        End::Kill => ("runner_external_dependency_failure", "failed to pull image"),
    };
    assert_eq!(
        done.failure_reason.as_deref(),
        Some(reason),
        "{}",
        done.log()
    );
    assert_eq!(done.exit_code, None);
    log.assert_says(says);
}

/// The same failures, told to servers that know them and to one that knows none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reasons_are_those_the_server_lists_or_the_nearest() {
    let known = ["runner_configuration_error", "image_pull_failure"];
    let outside = job(["true"]).variable("GIT_CLONE_PATH", "/etc");
    let failed = job(["exit 4"]);
    let table = [
        (outside.clone(), &known[..], "runner_configuration_error"),
        (outside, &[], "script_failure"),
        (failed.clone(), &known, "script_failure"),
        (failed, &[], "script_failure"),
    ];
    let jobs: Vec<_> = table
        .iter()
        .map(|(work, known, _)| work.clone().failure_reasons(known.iter().copied()))
        .collect();
    let Some((_, done)) = run_all(&Config::new(), &jobs).await else {
        return;
    };
    for ((_, _, reason), done) in table.iter().zip(&done) {
        assert_eq!(
            done.failure_reason.as_deref(),
            Some(*reason),
            "{}",
            done.log()
        );
    }
}
