//! Which stages follow which end, what the log says of it, and how long everything may take.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_container::ContainerStatus;
use gantry_engine::fake::{Fault, Verb};
use gantry_executor::{JobEvent, JobObserver, StageEnd, Step, Wish};
use gantry_job::{Cause, JobStatus};
use rstest::rstest;
use tokio::time::Instant;

use crate::harness::{
    Bench, Setup, Work, case, run, timed,
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
fn whoever_watches_is_told_of_preparation_and_stages_in_order() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&told);
    case(async {
        let bench = Bench::new(Setup::script(Work::says("hello\n")).after_script(Work::nothing()));
        let mut process = bench.start().await;
        process.job.observer = JobObserver::new(move |event| {
            let text = match event {
                JobEvent::Doing(activity) => format!("{activity:?}"),
                JobEvent::Prepared => "prepared".to_owned(),
                JobEvent::Stage { stage, step, .. } => match step {
                    Step::Began => format!("+{stage}"),
                    Step::Ended(StageEnd::Succeeded) => format!("-{stage}"),
                    _ => return,
                },
            };
            taken.lock().unwrap().push(text);
        });
        process.live().await.unwrap();
    });
    assert_eq!(
        *told.lock().unwrap(),
        [
            "CreatingVolumes",
            "prepared",
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
}

#[test]
fn a_job_of_a_policy_says_so_once_before_its_first_script() {
    let setup = with_sources_of_a_policy();
    let ending = run(setup);
    ending.assert_success();
    ending.assert_order(&[
        "Getting source from Git repository",
        "Job triggered by policy \"Scan\".",
        "Executing \"step_script\" stage",
        "Executing \"step_release\" stage",
    ]);
    assert_eq!(ending.count("Job triggered by policy"), 1);
}

fn with_sources_of_a_policy() -> Setup {
    Setup::script(Work::says("hello\n"))
        .step("release", Work::says("released\n"))
        .git()
        .policy("Scan")
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

/// As with the peer: what ends a job by force is what the job ended of.
#[test]
fn a_hard_stop_during_after_script_counts_more_than_a_failure_of_the_script() {
    let ending = run(Setup::script(Work::nothing().exits(3)).after_script(until(Wish::Abort)));
    assert_eq!(*ending.cause(), Cause::Aborted);
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
        let verdict = process.job.run(wishes.clone()).await.unwrap();
        assert!(verdict.stopped);
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
