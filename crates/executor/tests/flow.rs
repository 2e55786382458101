//! Which stages follow which end, what the log says of it, and how long everything may take.

use std::time::Duration;

use gantry_container::ContainerStatus;
use gantry_engine::fake::{Fault, Verb};
use gantry_executor::Wish;
use gantry_job::{Cause, JobStatus};
use rstest::rstest;
use tokio::time::Instant;

use crate::harness::{
    Bench, Ending, Setup, Work, case, run,
    work::{OnTerm, World},
};

fn wishes(wish: Wish) -> impl Fn(&World) + Send + Sync + 'static {
    move |world| world.server.wish(wish)
}

/// Runs while a script or helper stage wishes something, and ends when told to.
fn until(wish: Wish) -> Work {
    Work::says("working\n")
        .does(wishes(wish))
        .then_hangs()
        .on_term(OnTerm::Ends {
            words: "told to end\n",
            code: 1,
        })
}

/// A job to its end, and how long it took by its clock.
fn timed(setup: Setup) -> (Ending, Duration) {
    case(async {
        let bench = Bench::new(setup);
        let begin = Instant::now();
        let ending = bench.run_to_end().await;
        (ending, begin.elapsed())
    })
}

const INTERRUPT: Wish = Wish::Interrupt { signal: 15 };

// === Undisturbed ===

#[test]
fn a_job_shows_its_stages_in_order() {
    let ending = run(Setup::script(Work::says("hello\n"))
        .git()
        .after_script(Work::says("bye\n")));
    ending.assert_success();
    assert_eq!(
        ending.sections(),
        [
            "+prepare_executor",
            "-prepare_executor",
            "+prepare_script",
            "-prepare_script",
            "+get_sources",
            "-get_sources",
            "+step_script",
            "-step_script",
            "+after_script",
            "-after_script",
            "+cleanup_file_variables",
            "-cleanup_file_variables",
        ]
    );
    ending.assert_order(&[
        "Running with gitlab-runner 19.4.0 (abcdef12)\n",
        "Preparing the \"docker\" executor\n",
        "Using Docker executor with image alpine:3.20 ...\n",
        "Preparing environment\n",
        "Running on runner-tok-project-7-concurrent-0 via host1...\n",
        "Getting source from Git repository\n",
        "Fetching changes with git depth set to 20...\n",
        "Checking out 265c14cf as detached HEAD (ref is main)...\n",
        "Executing \"step_script\" stage of the job script\n",
        "hello\n",
        "Running after_script\n",
        "bye\n",
        "Cleaning up project directory and file based variables\n",
        "Job succeeded\n",
    ]);
    ending.assert_never_says("gantry-script");
    assert_eq!(ending.ran[1].status, Some(JobStatus::Success));
    assert_eq!(ending.ran[0].container, ending.ran[1].container);
}

#[test]
fn a_job_without_sources_starts_one_container() {
    let ending = run(Setup::script(Work::says("hello\n")));
    let starts = ending
        .calls
        .iter()
        .filter(|call| call.verb == Verb::ContainerStart)
        .count();
    assert_eq!(starts, 1);
    ending.assert_says("Skipping Git repository setup\n");
    ending.assert_sections_close();
}

#[test]
fn steps_run_in_order_and_stop_at_the_first_that_fails() {
    let ending = run(Setup::script(Work::says("one\n"))
        .step("release", Work::says("two\n").exits(7))
        .step("third", Work::says("three\n"))
        .after_script(Work::says("after\n")));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 7 });
    assert_eq!(
        ending.stages_ran(),
        ["step_script", "step_release", "after_script"]
    );
    assert_eq!(ending.ran[2].status, Some(JobStatus::Failed));
    ending.assert_says("ERROR: Job failed: exit code 7\n");
    ending.assert_sections_close();
}

#[rstest]
#[case(1)]
#[case(-1)]
#[case(256)]
#[case(i64::from(i32::MAX))]
fn the_exit_code_is_the_containers(#[case] code: i64) {
    let ending = run(Setup::script(Work::nothing().exits(code)));
    let code = code as i32;
    assert_eq!(*ending.cause(), Cause::ScriptExit { code });
}

// === Cancel, abort, interrupt ===

#[test]
fn a_canceled_script_gets_its_after_script_in_a_new_container() {
    let ending = run(Setup::script(until(Wish::Cancel))
        .git()
        .step("release", Work::nothing())
        .after_script(Work::says("cleaned up\n")));
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
    assert_eq!(ending.ran[1].status, Some(JobStatus::Canceled));
    assert_ne!(ending.ran[0].container, ending.ran[1].container);
    ending.assert_order(&[
        "working\n",
        "told to end\n",
        "cleaned up\n",
        "WARNING: script canceled externally (UI, API)\n",
        "ERROR: Job failed: canceled\n",
    ]);
    ending.assert_sections_close();
}

#[rstest]
#[case::abort(Wish::Abort, Cause::Aborted)]
#[case::interrupt(INTERRUPT, Cause::Interrupted { signal: "terminated".to_owned() })]
fn a_hard_stop_of_a_script_skips_after_script_and_leaves_no_file_variables(
    #[case] wish: Wish,
    #[case] cause: Cause,
) {
    let ending = run(Setup::script(until(wish))
        .git()
        .after_script(Work::says("cleaned up\n")));
    assert_eq!(*ending.cause(), cause);
    assert_eq!(ending.stages_ran(), ["step_script"]);
    assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    // Done, but not shown.
    assert_eq!(ending.sections().last().unwrap(), "-step_script");
    ending.assert_says("told to end\n");
}

#[test]
fn a_cancel_that_grows_into_an_abort_does_not_run_after_script() {
    let work = Work::says("working\n")
        .does(|world| {
            world.server.wish(Wish::Cancel);
            let server = world.server.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                server.wish(Wish::Abort);
            });
        })
        .then_hangs()
        .on_term(OnTerm::Deaf);
    let ending = run(Setup::script(work).after_script(Work::nothing()));
    assert_eq!(ending.stages_ran(), ["step_script"]);
}

#[rstest]
#[case::cancel(Wish::Cancel, Cause::Canceled)]
#[case::abort(Wish::Abort, Cause::Aborted)]
#[case::interrupt(INTERRUPT, Cause::Interrupted { signal: "terminated".to_owned() })]
fn a_stop_in_prepare_ends_the_job_at_once(#[case] wish: Wish, #[case] cause: Cause) {
    let (ending, took) = case(async {
        let bench = Bench::new(Setup::script(Work::nothing()).after_script(Work::nothing()));
        let slow = Fault::Delay(Duration::from_secs(600));
        bench.engine.fault(Verb::ImageInspect, 1, slow);
        let server = bench.server.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            server.wish(wish);
        });
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    assert_eq!(*ending.cause(), cause);
    assert!(ending.ran.is_empty());
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(
        ending.sections(),
        ["+prepare_executor", "-prepare_executor"]
    );
}

#[rstest]
#[case::cancel(Wish::Cancel, Cause::Canceled)]
#[case::abort(Wish::Abort, Cause::Aborted)]
fn a_stop_in_get_sources_ends_the_fetch_and_runs_no_script(
    #[case] wish: Wish,
    #[case] cause: Cause,
) {
    let (ending, took) = timed(
        Setup::script(Work::nothing())
            .git()
            .helper("get_sources", until(wish))
            .after_script(Work::nothing()),
    );
    assert_eq!(*ending.cause(), cause);
    assert!(ending.ran.is_empty());
    ending.assert_says("told to end\n");
    assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_fetch_that_does_not_end_when_canceled_is_given_up() {
    let fetch = Work::nothing().does(wishes(Wish::Cancel)).does(|world| {
        // The connection stays, and says nothing more.
        drop(world.engine.calls());
    });
    let (ending, took) = timed(
        Setup::script(Work::nothing())
            .git()
            .helper("get_sources", fetch.then_hangs().on_term(OnTerm::Deaf)),
    );
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert!(took < Duration::from_secs(40), "{took:?}");
}

#[test]
fn a_cancel_during_after_script_comes_too_late() {
    let after = Work::says("cleaning up\n")
        .does(wishes(Wish::Cancel))
        .pause_ms(5000)
        .out("cleaned up\n");
    let ending = run(Setup::script(Work::says("hello\n")).after_script(after));
    ending.assert_success();
    ending.assert_says("cleaned up\n");
}

#[rstest]
#[case::abort(Wish::Abort, Cause::Aborted)]
#[case::interrupt(INTERRUPT, Cause::Interrupted { signal: "terminated".to_owned() })]
fn a_hard_stop_during_after_script_is_the_end_of_the_job(#[case] wish: Wish, #[case] cause: Cause) {
    let ending = run(Setup::script(Work::says("hello\n")).after_script(until(wish)));
    assert_eq!(*ending.cause(), cause);
    ending.assert_says("told to end\n");
}

#[test]
fn a_failure_of_the_script_stays_the_cause_when_after_script_is_stopped() {
    let ending = run(Setup::script(Work::nothing().exits(3)).after_script(until(Wish::Abort)));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 3 });
}

#[test]
fn a_script_that_hears_nothing_is_killed_within_its_grace() {
    let deaf = Work::says("working\n")
        .does(wishes(Wish::Cancel))
        .then_hangs()
        .on_term(OnTerm::Deaf);
    let (ending, took) = timed(Setup::script(deaf));
    assert_eq!(*ending.cause(), Cause::Canceled);
    let grace = Duration::from_secs(15)..Duration::from_secs(25);
    assert!(grace.contains(&took), "{took:?}");
}

#[test]
fn a_native_stop_signals_no_processes_of_the_script() {
    let setup = Setup::script(until(Wish::Cancel)).variable("FF_USE_NATIVE_CONTAINER_STOP", "true");
    let ending = run(setup);
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert!(!ending.calls.iter().any(|call| call.verb == Verb::Exec));
    let stops: Vec<_> = ending
        .calls
        .iter()
        .filter(|call| call.verb == Verb::ContainerStop)
        .map(|call| call.detail.as_str())
        .collect();
    assert_eq!(stops, ["10s"]);
}

// === Timeouts ===

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

// === What a process may do besides ===

#[test]
fn a_job_that_nobody_wants_any_more_is_stopped_and_removed() {
    case(async {
        let bench = Bench::new(Setup::script(Work::hangs()).git().services());
        let process = bench.start().await;
        let life = tokio::time::timeout(Duration::from_secs(5), process.live());
        life.await.unwrap_err();
        process.job.stop().await;
        let running = |bench: &Bench| {
            let mut all = bench.engine.containers().into_iter();
            all.any(|found| found.state.status == ContainerStatus::Running)
        };
        assert!(!running(&bench));
        assert!(process.job.remove().await);
        assert!(bench.left().is_empty(), "{:?}", bench.left());
    });
}

#[test]
fn containers_are_stopped_before_the_verdict_and_removed_after_it() {
    case(async {
        let bench = Bench::new(Setup::script(Work::says("hello\n")).git().services());
        let process = bench.start().await;
        // Up to the verdict alone.
        let (_wishes, wishes) = tokio::sync::watch::channel(Wish::Run);
        process.job.run(wishes.clone()).await.unwrap();
        let containers = bench.engine.containers();
        assert_eq!(containers.len(), 4);
        for container in containers {
            let state = container.state;
            assert_eq!(state.status, ContainerStatus::Exited, "{}", state.name);
        }
        // Asked again, it says the same and does nothing.
        bench.engine.clear_calls();
        let process = bench.start().await;
        let verdict = process.job.run(wishes).await.unwrap();
        assert_eq!(verdict.cause, None);
        assert!(bench.engine.calls().is_empty());
        assert!(process.job.remove().await);
        bench.ending(&process, verdict).await.unwrap();
    });
}

// === Attempts at sources ===

#[test]
fn sources_are_tried_again_after_a_pause_on_a_cleared_worktree() {
    let (ending, took) = timed(
        Setup::script(Work::says("hello\n"))
            .git()
            .helper("get_sources/1", Work::says("fatal: one\n").exits(128))
            .helper("get_sources/2", Work::says("fatal: two\n").exits(128))
            .helper("clear_worktree/1", Work::says("Deleting files...\n"))
            .variable("GET_SOURCES_ATTEMPTS", "3"),
    );
    ending.assert_success();
    assert_eq!(
        ending.helped,
        [
            "get_sources/1",
            "clear_worktree/1",
            "get_sources/2",
            "get_sources/3",
            "cleanup_file_variables/1",
        ]
    );
    ending.assert_order(&[
        "fatal: one\n",
        "WARNING: Retrying...\n",
        "Deleting all tracked and untracked files due to source fetch failure\n",
        "Deleting files...\n",
        "Getting source from Git repository\n",
        "fatal: two\n",
        "WARNING: Retrying...\n",
        "Getting source from Git repository\n",
        "Fetching changes",
        "hello\n",
    ]);
    ending.assert_sections_close();
    // 5 s and 10 s.
    let pauses = Duration::from_secs(15)..Duration::from_secs(20);
    assert!(pauses.contains(&took), "{took:?}");
}

#[test]
fn pauses_are_short_without_the_exponential_back_off() {
    let (ending, took) = timed(
        Setup::script(Work::nothing())
            .git()
            .helper("get_sources", Work::nothing().exits(128))
            .variable("GET_SOURCES_ATTEMPTS", "4")
            .variable("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false"),
    );
    assert!(matches!(
        ending.cause(),
        Cause::HelperStageExit { code: 128, .. }
    ));
    // 1 s, 2 s and 4 s.
    let pauses = Duration::from_secs(7)..Duration::from_secs(9);
    assert!(pauses.contains(&took), "{took:?}");
}

#[test]
fn a_worktree_that_cannot_be_cleared_costs_an_attempt() {
    let ending = run(Setup::script(Work::nothing())
        .git()
        .helper("get_sources/1", Work::nothing().exits(128))
        .helper("clear_worktree/1", Work::nothing().exits(1))
        .variable("GET_SOURCES_ATTEMPTS", "3"));
    ending.assert_success();
    assert_eq!(
        ending.helped,
        [
            "get_sources/1",
            "clear_worktree/1",
            "get_sources/3",
            "cleanup_file_variables/1",
        ]
    );
    ending.assert_sections_close();
}

#[test]
fn sources_that_cannot_be_had_skip_all_scripts() {
    let ending = run(Setup::script(Work::nothing())
        .git()
        .helper("get_sources", Work::says("fatal: denied\n").exits(128))
        .after_script(Work::nothing()));
    assert!(ending.ran.is_empty());
    assert_eq!(ending.cause().exit_code(), Some(128));
    ending.assert_says("ERROR: Job failed: exit code 128\n");
    assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    ending.assert_sections_close();
}

#[test]
fn a_cancel_interrupts_the_pause_before_the_next_attempt() {
    let (ending, took) = case(async {
        let bench = Bench::new(
            Setup::script(Work::nothing())
                .git()
                .helper("get_sources", Work::nothing().exits(128))
                .variable("GET_SOURCES_ATTEMPTS", "10"),
        );
        let server = bench.server.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(40)).await;
            server.wish(Wish::Cancel);
        });
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    assert_eq!(*ending.cause(), Cause::Canceled);
    let at_once = Duration::from_secs(40)..Duration::from_secs(43);
    assert!(at_once.contains(&took), "{took:?}");
}

// === Preparation ===

fn refuses(status: u16) -> Fault {
    Fault::Error(gantry_engine::EngineError::Failed {
        what: "create volume".to_owned(),
        status,
        message: "the engine is confused".to_owned(),
    })
}

#[test]
fn an_error_of_the_engine_in_prepare_is_tried_again_twice() {
    let (ending, took) = case(async {
        let bench = Bench::new(Setup::script(Work::says("hello\n")).services());
        bench
            .engine
            .fault_on(Verb::VolumeCreate, "", 1, 2, refuses(500));
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    ending.assert_success();
    assert_eq!(ending.count("ERROR: Preparation failed: "), 2);
    assert_eq!(ending.count("Will be retried in 3s ...\n"), 2);
    assert!(took >= Duration::from_secs(6), "{took:?}");
}

#[test]
fn the_third_failure_of_prepare_is_the_jobs() {
    let ending = case(async {
        let bench = Bench::new(Setup::script(Work::nothing()).after_script(Work::nothing()));
        bench
            .engine
            .fault_on(Verb::VolumeCreate, "", 1, u32::MAX, refuses(500));
        bench.run_to_end().await
    });
    assert!(matches!(ending.cause(), Cause::Engine { .. }));
    assert!(ending.ran.is_empty());
    assert_eq!(ending.count("Preparation failed: "), 2);
    ending.assert_says("ERROR: Job failed (system failure): creating docker volume: ");
    ending.assert_sections_close();
}

#[test]
fn a_mistake_of_the_configuration_fails_once() {
    let ending = case(async {
        let bench = Bench::new(Setup::script(Work::nothing()).services());
        let refused = Fault::Error(gantry_engine::EngineError::BadRequest {
            what: "create container".to_owned(),
            message: "invalid IP address in add-host".to_owned(),
        });
        bench
            .engine
            .fault_on(Verb::ContainerCreate, "postgres", 1, 1, refused);
        bench.run_to_end().await
    });
    assert!(matches!(ending.cause(), Cause::Configuration { .. }));
    ending.assert_never_says("Preparation failed");
    ending.assert_says("ERROR: Job failed: create container: invalid IP address in add-host\n");
}

#[test]
fn services_start_before_the_script_with_their_names() {
    let ending = run(Setup::script(Work::says("hello\n")).services());
    ending.assert_success();
    ending.assert_order(&[
        "Starting service postgres:16...\n",
        "Starting service redis:7...\n",
        "hello\n",
    ]);
}

#[test]
fn without_a_network_of_the_job_services_are_found_by_their_addresses() {
    case(async {
        let bench = Bench::new(
            Setup::script(Work::hangs())
                .services()
                .variable("FF_NETWORK_PER_BUILD", "false")
                .job_timeout(60),
        );
        let process = bench.start().await;
        let life = tokio::time::timeout(Duration::from_secs(5), process.live());
        life.await.unwrap_err();
        let containers = bench.engine.containers();
        let build = containers
            .iter()
            .find(|container| container.state.name.ends_with("-build"))
            .unwrap();
        let hosts = &build.spec.host.extra_hosts;
        for name in ["postgres", "db", "redis", "cache", "kv"] {
            let found = hosts
                .iter()
                .any(|line| line.starts_with(&format!("{name}:172.")));
            assert!(found, "{name} in {hosts:?}");
        }
    });
}
