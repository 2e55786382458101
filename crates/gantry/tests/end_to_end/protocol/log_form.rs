//! The form of the log (coordinator-api §11).

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_masked_also_when_written_in_pieces() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.gitlab.set_update_interval(Some("1"));
    let secret = "correct-horse-battery-staple";
    host.secret(secret);
    let work = job([
        "printf 'whole: %s\\n' \"$PASSWORD\"",
        "printf 'in pieces: correct-horse'; sleep 1.5; printf -- '-battery'; sleep 1.5; echo -staple",
        "echo token: glpat-ABCDEFGHIJKLMNOPQRST.more",
        "echo url: 'https://example.com/?private_token=abcdef&x=1'",
        "echo job token: $CI_JOB_TOKEN",
    ])
    .masked("PASSWORD", secret);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    host.assert_no_secret("the job's log", &job.log());
    let log = JobLog::of(&job);
    log.assert_prints("whole: [MASKED]");
    log.assert_prints("in pieces: [MASKED]");
    log.assert_prints("token: glpat-[MASKED]");
    log.assert_prints("url: https://example.com/?private_token=[MASKED]&x=1");
    log.assert_prints("job token: [MASKED]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_over_its_limit_is_cut_and_the_job_goes_on() {
    let Some(host) = Host::new(&Config::new().runner("output_limit = 4")).await else {
        return;
    };
    let script = [
        "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line $i of many; done",
        "echo end >> /witness/end",
        "exit 3",
    ];
    let id = host.gitlab.enqueue(&job(script));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(3));
    assert_eq!(host.witnessed("end"), ["end"]);
    let text = crate::harness::plain(&job.log());
    assert!(
        text.contains("Job's log exceeded limit of 4096 bytes."),
        "{text}"
    );
    assert!(!text.contains("line 1000 of many"));
    assert!(job.trace.len() < 4096 + 512, "{} bytes", job.trace.len());
}

#[rstest]
#[case::job_says_no(Config::new(), "false", false)]
#[case::runner_beats_the_job(Config::new().runner("[runners.feature_flags]\nFF_TIMESTAMPS = true"), "false", true)]
#[case::runner_says_no(Config::new().runner("[runners.feature_flags]\nFF_TIMESTAMPS = false"), "true", false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_are_written_unless_switched_off(
    #[case] config: Config,
    #[case] of_job: &str,
    #[case] written: bool,
) {
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let work = job(["echo hello", "printf 'no newline'"]).variable("FF_TIMESTAMPS", of_job);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let text = job.log();
    if written {
        JobLog::of(&job).assert_prints("hello");
    } else {
        assert!(text.contains("\nhello\n"), "{text}");
        assert!(text.starts_with("\u{1b}[0KRunning with gitlab-runner 19.4.0 ("));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sections_are_written_only_to_servers_that_fold_them() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&job(["true"]).trace_sections(false));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&job);
    log.assert_never_says("section_start");
    log.assert_never_says("section_end");
    log.assert_says("Executing \"step_script\" stage of the job script");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_utf8_are_replaced_and_counted() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let script = ["printf 'a\\377\\376b\\n'", "printf '\\303\\244 whole\\n'"];
    let id = host.gitlab.enqueue(&job(script));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    // The server has checked the checksum.
    assert_eq!(job.state, ServerJobState::Success);
    assert!(std::str::from_utf8(&job.trace).is_ok());
    let log = JobLog::of(&job);
    log.assert_prints("a\u{fffd}\u{fffd}b");
    log.assert_prints("\u{e4} whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_megabytes_arrive_in_pieces_of_one() {
    let Some(host) = Host::new(&Config::new().runner("output_limit = 20000")).await else {
        return;
    };
    let line = "y".repeat(99);
    let say = format!("awk 'BEGIN {{ for (i = 0; i < 80000; i++) print \"{line}\" }}'");
    let id = host.gitlab.enqueue(&job([say.as_str()]));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    host.gitlab.assert_patches(id);
    let log = JobLog::of(&job);
    let lines = log.stdout.iter().filter(|printed| **printed == line);
    assert_eq!(lines.count(), 80_000);
}
