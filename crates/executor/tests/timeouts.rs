//! How long jobs and their stages may take, and what follows when they take longer.

use std::time::Duration;

use gantry_engine::fake::{Fault, Verb};
use gantry_executor::StopReason;
use gantry_job::{Cause, JobStatus};
use rstest::rstest;
use tokio::time::Instant;

use crate::harness::{Bench, Setup, Work, case, run, timed};

#[test]
fn a_job_out_of_time_runs_no_after_script() {
    let ending = run(Setup::script(Work::hangs())
        .git()
        .after_script(Work::nothing())
        .job_timeout(90));
    assert!(matches!(ending.cause(), Cause::JobTimeout { .. }));
    assert_eq!(ending.stages_ran(), ["step_script"]);
    assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    ending.assert_order(&[
        "on and on\n",
        "WARNING: step_script could not run to completion because the timeout was exceeded.",
        "ERROR: Job failed: execution took longer than 1m30s seconds\n",
    ]);
}

#[test]
fn a_script_out_of_time_gets_its_after_script() {
    let ending = run(Setup::script(Work::hangs())
        .step("release", Work::nothing())
        .after_script(Work::says("cleaned up\n"))
        .variable("RUNNER_SCRIPT_TIMEOUT", "1m"));
    assert_eq!(*ending.cause(), Cause::ScriptTimeout);
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
    assert_eq!(ending.ran[1].status, Some(JobStatus::TimedOut));
    ending.assert_order(&[
        "on and on\n",
        "WARNING: step_script could not run to completion",
        "cleaned up\n",
        "ERROR: Job failed: script timeout: context deadline exceeded\n",
    ]);
    ending.assert_sections_close();
}

#[test]
fn the_script_timeout_is_one_for_all_steps_and_none_for_what_comes_before() {
    let fetch = Work::says("slow\n").pause_ms(50_000);
    let slow = || Work::nothing().pause_ms(40_000);
    let setup = |second: Work| {
        Setup::script(slow())
            .step("release", second)
            .git()
            .helper("get_sources", fetch.clone())
            .variable("RUNNER_SCRIPT_TIMEOUT", "1m")
    };
    run(setup(Work::nothing())).assert_success();
    let ending = run(setup(slow()));
    assert_eq!(*ending.cause(), Cause::ScriptTimeout);
    assert_eq!(ending.stages_ran(), ["step_script", "step_release"]);
}

#[rstest]
#[case::ignored("true", false)]
#[case::counted("false", true)]
fn an_after_script_out_of_time_is_cut(#[case] ignore: &str, #[case] fails: bool) {
    let setup = Setup::script(Work::says("hello\n"))
        .git()
        .after_script(Work::hangs())
        .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "20s")
        .variable("AFTER_SCRIPT_IGNORE_ERRORS", ignore);
    let (ending, took) = timed(setup);
    assert_eq!(ending.verdict.cause.is_some(), fails);
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(ending.helped.last().unwrap(), "cleanup_file_variables/1");
    let continues = "WARNING: after_script failed, but job will continue unaffected: ";
    assert_eq!(ending.count(continues), usize::from(!fails));
    ending.assert_says("after_script could not run to completion");
    ending.assert_sections_close();
}

#[rstest]
#[case::ignored("true", None)]
#[case::counted("false", Some(Cause::ScriptExit { code: 9 }))]
fn a_failing_after_script_counts_only_where_it_is_asked_to(
    #[case] ignore: &str,
    #[case] cause: Option<Cause>,
) {
    let ending = run(Setup::script(Work::says("hello\n"))
        .after_script(Work::nothing().exits(9))
        .variable("AFTER_SCRIPT_IGNORE_ERRORS", ignore));
    assert_eq!(ending.verdict.cause, cause);
    let warned = ending
        .count("WARNING: after_script failed, but job will continue unaffected: exit code 9\n");
    assert_eq!(warned, usize::from(cause.is_none()));
}

#[rstest]
#[case::ignored("true", false)]
#[case::counted("false", true)]
fn an_after_script_whose_container_cannot_start_counts_like_one_that_fails(
    #[case] ignore: &str,
    #[case] fails: bool,
) {
    let ending = case(async {
        let bench = Bench::new(
            Setup::script(Work::says("hello\n"))
                .after_script(Work::nothing())
                .variable("AFTER_SCRIPT_IGNORE_ERRORS", ignore),
        );
        let fault = Fault::Error(gantry_engine::EngineError::Failed {
            what: "start container".to_owned(),
            status: 500,
            message: "no space left on device".to_owned(),
        });
        bench.engine.fault(Verb::ContainerStart, 2, fault);
        bench.run_to_end().await
    });
    assert_eq!(ending.verdict.cause.is_some(), fails, "{}", ending.text());
    let warned = ending.count("WARNING: after_script failed, but job will continue unaffected: ");
    assert_eq!(warned, usize::from(!fails));
}

#[test]
fn a_preparation_out_of_time_says_so() {
    let (ending, took) = case(async {
        let bench = Bench::new(Setup::script(Work::nothing()).prepare_timeout(20));
        let slow = Fault::Delay(Duration::from_secs(600));
        bench.engine.fault(Verb::VolumeCreate, 1, slow);
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    assert!(matches!(ending.cause(), Cause::PrepareTimeout { .. }));
    assert!(took < Duration::from_secs(30), "{took:?}");
    ending.assert_says("prepare timeout: exceeded timeout of 20s\n");
}

#[test]
fn a_fetch_out_of_time_stops_the_job_whatever_attempts_are_left() {
    let ending = run(Setup::script(Work::nothing())
        .git()
        .helper("get_sources", Work::hangs())
        .after_script(Work::nothing())
        .variable("GET_SOURCES_ATTEMPTS", "3")
        .get_sources_timeout(30));
    assert!(matches!(ending.cause(), Cause::GetSourcesTimeout { .. }));
    assert!(ending.ran.is_empty());
    assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    ending.assert_says("ERROR: Job failed: get sources timeout: exceeded timeout of 30s\n");
}

#[test]
fn the_time_for_sources_covers_all_attempts_and_their_pauses() {
    let (ending, took) = timed(
        Setup::script(Work::nothing())
            .git()
            .helper("get_sources", Work::nothing().exits(128))
            .variable("GET_SOURCES_ATTEMPTS", "10")
            .get_sources_timeout(30),
    );
    assert!(matches!(ending.cause(), Cause::GetSourcesTimeout { .. }));
    assert!(took < Duration::from_secs(40), "{took:?}");
}

/// Limits are times of day, as the job's own: a restart gives none of them a second time.
#[rstest]
#[case::script(StopReason::ScriptTimeout, true)]
#[case::after_script(StopReason::AfterScriptTimeout, false)]
fn a_time_limit_that_ran_out_while_no_runner_lived_is_over(
    #[case] limit: StopReason,
    #[case] fails: bool,
) {
    let ending = case(async {
        let hangs = |is: bool| {
            if is {
                Work::hangs()
            } else {
                Work::says("done\n")
            }
        };
        let setup = Setup::script(hangs(fails))
            .after_script(hangs(!fails))
            .variable("RUNNER_SCRIPT_TIMEOUT", "5m")
            .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "5m");
        let bench = Bench::new(setup);
        let process = bench.start().await;
        let life = tokio::time::timeout(Duration::from_secs(60), process.live());
        life.await.unwrap_err();
        drop(process);
        let mut process = bench.start().await;
        let until_ms = process.job.progress.limits.get_mut(&limit).unwrap();
        *until_ms = 0;
        let life = tokio::time::timeout(Duration::from_secs(60), bench.finish(process));
        life.await.expect("the limit begins anew").unwrap()
    });
    assert_eq!(ending.verdict.cause.is_some(), fails);
    if fails {
        assert_eq!(*ending.cause(), Cause::ScriptTimeout);
    }
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
}
