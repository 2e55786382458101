//! The runner dies, again and again, and the job ends as if it had not: same end, same log, every script run once, nothing left.

use std::time::Duration;

use gantry_executor::{Record, Wish};
use gantry_job::Cause;
use gantry_journal::Crash;
use rstest::rstest;

use crate::harness::{
    Bench, Ending, Entrypoint, Setup, Work, case,
    deaths::{Course, Death, survive, the_same},
    work::OnTerm,
};

fn without_helper() -> Setup {
    Setup::script(Work::talks())
}

fn with_sources() -> Setup {
    without_helper().git()
}

fn with_services() -> Setup {
    without_helper().services()
}

fn that_fails() -> Setup {
    Setup::script(Work::talks().exits(3)).step("release", Work::says("never said\n"))
}

/// Whoever finds its services stopped must not take them for the reason.
fn that_fails_with_services() -> Setup {
    Setup::script(Work::talks().exits(3)).services()
}

fn with_after_script() -> Setup {
    with_sources()
        .step("release", Work::says("released\n"))
        .after_script(Work::talks())
}

fn that_fails_with_after_script() -> Setup {
    Setup::script(Work::talks().exits(3)).after_script(Work::talks().exits(4))
}

fn whose_sources_fail_at_first() -> Setup {
    with_sources()
        .variable("GET_SOURCES_ATTEMPTS", "3")
        .helper("get_sources/1", Work::says("fatal: no route\n").exits(128))
        .helper("clear_worktree/1", Work::says("Deleting files...\n"))
}

fn whose_sources_fail() -> Setup {
    with_sources().helper("get_sources", Work::says("fatal: no access\n").exits(128))
}

fn on_podman() -> Setup {
    with_sources().after_script(Work::says("done\n")).podman()
}

fn without_a_shell() -> Setup {
    without_helper().with(|setup| setup.image.without_shell = true)
}

fn with_a_long_script() -> Setup {
    let mut setup = without_helper();
    // More than an attach takes at once.
    setup.payload.steps[0].script = vec![format!("echo {}", "x".repeat(100_000))];
    setup
}

/// Lines are in the log as they come, and not only once they are whole.
fn without_timestamps() -> Setup {
    with_sources()
        .after_script(Work::talks())
        .variable("FF_TIMESTAMPS", "false")
}

fn that_talks_a_lot() -> Setup {
    let mut work = Work::nothing();
    for n in 0..24 {
        let line = format!("{n:04} {}\n", "y".repeat(300));
        work = work.out(&line.repeat(40)).err("and on\n").pause_ms(20);
    }
    Setup::script(work.out(&"z".repeat(40_000)))
}

/// Its container is removed from outside, and it has a second attempt.
fn whose_container_vanishes() -> Setup {
    let vanishes = Work::says("first try\n").pause_ms(100).does(|world| {
        let engine = world.engine.clone();
        tokio::spawn(async move {
            let mut all = engine.containers().into_iter();
            let build = all.find(|found| found.state.name.ends_with("-build"));
            engine.vanish_container(&build.unwrap().state.name);
        });
    });
    Setup::new()
        .step_each_time(
            "script",
            vec![vanishes.then_hangs(), Work::says("second try\n")],
        )
        .after_script(Work::says("done\n"))
        .variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "2")
}

/// The server cancels while the script runs.
fn that_is_canceled() -> Setup {
    let work = Work::says("working\n")
        .does(|world| world.server.wish(Wish::Cancel))
        .then_hangs()
        .on_term(OnTerm::Ends {
            words: "told to end\n",
            code: 1,
        });
    Setup::script(work).after_script(Work::says("cleaned up\n"))
}

fn with_archives() -> Setup {
    Setup::script(Work::says("built\n"))
        .git()
        .cache()
        .dependency()
        .artifacts()
        .helper("restore_cache", Work::says("Checking cache for gems...\n"))
        .helper("download_artifacts", Work::talks())
        .helper("archive_cache", Work::says("Creating cache gems...\n"))
        .helper("upload_artifacts_on_success", Work::talks())
}

fn whose_download_fails_at_first() -> Setup {
    with_archives()
        .helper(
            "download_artifacts/1",
            Work::says("FATAL: invalid argument\n").exits(1),
        )
        .variable("ARTIFACT_DOWNLOAD_ATTEMPTS", "2")
}

/// The script takes longer than `RUNNER_SCRIPT_TIMEOUT`.
fn that_is_too_slow() -> Setup {
    Setup::script(Work::hangs())
        .after_script(Work::says("cleaned up\n"))
        .variable("RUNNER_SCRIPT_TIMEOUT", "10s")
}

fn whose_memory_runs_out() -> Setup {
    let work = Work::says("eating\n").oom().exits(137);
    let mut setup = Setup::script(work);
    setup.runner.docker.memory = Some(64 << 20);
    setup
}

fn with_an_entrypoint() -> Setup {
    without_helper()
        .after_script(Work::says("done\n"))
        .entrypoint(Entrypoint::Execs {
            words: "the entrypoint\n",
        })
}

/// As [`the_same`], or a script that was handed over and never read: a first process attached to a container that it did not come
/// to start, which ends its stdin, and a second one died before it saw that.
fn the_same_or_unread(undisturbed: &Ending, ending: &Ending) -> Result<(), String> {
    let unread = "ended without having read the script, so no line of it ran";
    if ending.count(unread) == 1 && ending.ran.len() < undisturbed.ran.len() {
        return Ok(());
    }
    the_same(undisturbed, ending)
}

/// As [`the_same`], but what a container says that gets no script is said again by the next one.
fn the_same_but_for_no_shell(undisturbed: &Ending, ending: &Ending) -> Result<(), String> {
    let mut once = ending.clone();
    once.log.clear();
    for line in ending.log.split_inclusive('\n') {
        if !line.ends_with("shell not found\n") || !once.log.ends_with(line) {
            once.log.push_str(line);
        }
    }
    the_same(undisturbed, &once)
}

fn check(setup: fn() -> Setup, deaths: impl Fn(&Course) -> Vec<Death>) {
    let course = Course::of(setup);
    let deaths = deaths(&course).into_iter().map(|death| [death]);
    survive(setup, &course, deaths, the_same);
}

#[rstest]
#[case::without_helper(without_helper)]
#[case::with_sources(with_sources)]
#[case::with_services(with_services)]
#[case::that_fails_with_services(that_fails_with_services)]
#[case::that_fails(that_fails)]
#[case::with_after_script(with_after_script)]
#[case::that_fails_with_after_script(that_fails_with_after_script)]
#[case::whose_sources_fail_at_first(whose_sources_fail_at_first)]
#[case::whose_sources_fail(whose_sources_fail)]
#[case::on_podman(on_podman)]
#[case::that_is_canceled(that_is_canceled)]
#[case::that_is_too_slow(that_is_too_slow)]
#[case::whose_memory_runs_out(whose_memory_runs_out)]
#[case::whose_container_vanishes(whose_container_vanishes)]
#[case::with_archives(with_archives)]
#[case::whose_download_fails_at_first(whose_download_fails_at_first)]
fn a_death_at_any_record_changes_nothing_for_a_job(#[case] setup: fn() -> Setup) {
    check(setup, Course::records);
}

#[test]
fn a_death_at_any_record_does_not_find_a_shell_where_there_is_none() {
    let course = Course::of(without_a_shell);
    let deaths = course.records().into_iter().map(|death| [death]);
    survive(without_a_shell, &course, deaths, the_same_but_for_no_shell);
}

#[rstest]
#[case::without_helper(without_helper)]
#[case::with_sources(with_sources)]
#[case::with_services(with_services)]
#[case::that_fails_with_services(that_fails_with_services)]
#[case::with_after_script(with_after_script)]
#[case::whose_sources_fail_at_first(whose_sources_fail_at_first)]
#[case::on_podman(on_podman)]
#[case::that_is_canceled(that_is_canceled)]
#[case::that_is_too_slow(that_is_too_slow)]
#[case::with_archives(with_archives)]
#[case::whose_download_fails_at_first(whose_download_fails_at_first)]
fn a_death_at_any_call_of_the_engine_changes_nothing_for_a_job(#[case] setup: fn() -> Setup) {
    check(setup, Course::calls);
}

#[rstest]
#[case::without_helper(without_helper, 1)]
#[case::with_sources(with_sources, 2)]
#[case::with_services(with_services, 3)]
#[case::that_fails_with_services(that_fails_with_services, 2)]
#[case::that_fails_with_after_script(that_fails_with_after_script, 2)]
#[case::whose_sources_fail_at_first(whose_sources_fail_at_first, 3)]
#[case::with_a_long_script(with_a_long_script, 2)]
#[case::that_is_canceled(that_is_canceled, 1)]
#[case::without_timestamps(without_timestamps, 2)]
#[case::that_talks_a_lot(that_talks_a_lot, 3)]
#[case::whose_container_vanishes(whose_container_vanishes, 1)]
#[case::with_archives(with_archives, 3)]
fn a_death_at_any_instant_changes_nothing_for_a_job(
    #[case] setup: fn() -> Setup,
    #[case] step: usize,
) {
    check(setup, |course| course.instants(step));
}

#[rstest]
#[case::without_helper(without_helper, 1)]
#[case::with_sources(with_sources, 2)]
#[case::with_services(with_services, 3)]
#[case::that_fails_with_after_script(that_fails_with_after_script, 4)]
#[case::with_after_script(with_after_script, 5)]
#[case::whose_sources_fail_at_first(whose_sources_fail_at_first, 6)]
#[case::that_is_canceled(that_is_canceled, 7)]
#[case::without_timestamps(without_timestamps, 8)]
#[case::on_podman(on_podman, 9)]
#[case::with_archives(with_archives, 10)]
fn two_deaths_change_nothing_for_a_job(#[case] setup: fn() -> Setup, #[case] seed: u64) {
    let course = Course::of(setup);
    survive(setup, &course, course.pairs(seed, 40), the_same_or_unread);
}

/// With an entrypoint, which may be code of the user, a container that was started without its script is not replaced.
#[test]
fn a_job_whose_entrypoint_may_have_run_fails_rather_than_run_it_twice() {
    let course = Course::of(with_an_entrypoint);
    let deaths: Vec<_> = [course.records(), course.calls(), course.instants(1)]
        .concat()
        .into_iter()
        .map(|death| [death])
        .collect();
    let endings = survive(
        with_an_entrypoint,
        &course,
        deaths,
        |undisturbed, ending| {
            // A failure of after_script does not count.
            let ignored = "but job will continue unaffected: the runner was restarted at a moment";
            let stage = match &ending.verdict.cause {
                Some(Cause::UnsafeRerun { stage }) => stage.to_string(),
                None if ending.count(ignored) == 1 => "after_script".to_owned(),
                _ => return the_same(undisturbed, ending),
            };
            if ending.ran.iter().any(|ran| ran.stage == stage) {
                return Err(format!("{stage} did run"));
            }
            let starts = ending
                .calls
                .iter()
                .filter(|call| call.verb == gantry_engine::fake::Verb::ContainerStart)
                .count();
            if starts == 0 {
                return Err("the container was never started".to_owned());
            }
            let twice = |line: &str| ending.count(line) > 1;
            if twice("first line") || twice("done") {
                return Err(format!("output twice:\n{}", ending.text()));
            }
            Ok(())
        },
    );
    let unsafe_ones = endings
        .iter()
        .filter(|ending| ending.count("it is not run twice") == 1)
        .count();
    assert!(
        (1..endings.len() / 2).contains(&unsafe_ones),
        "{unsafe_ones} of {}",
        endings.len()
    );
}

/// The deadline is a time of day: it does not begin anew with a process.
#[test]
fn a_job_whose_time_ran_out_while_no_runner_lived_ends_with_its_timeout_and_its_whole_log() {
    let ending = case(async {
        let work = Work::says("before\n").pause_ms(20_000).out("meanwhile\n");
        let setup = Setup::script(work.then_hangs()).git();
        let bench = Bench::new(setup.after_script(Work::nothing()));
        let process = bench.start().await;
        let life = tokio::time::timeout(Duration::from_secs(5), process.live());
        life.await.unwrap_err();
        drop(process);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let mut process = bench.start().await;
        if let Some(accepted) = &mut process.job.progress.accepted {
            accepted.deadline_ms = accepted.accepted_ms;
        }
        bench.finish(process).await.unwrap()
    });
    assert!(matches!(ending.cause(), Cause::JobTimeout { .. }));
    assert_eq!(ending.stages_ran(), ["step_script"]);
    ending.assert_order(&[
        "before\n",
        "meanwhile\n",
        "ERROR: Job failed: execution took",
    ]);
    assert_eq!(ending.helped.last().unwrap(), "cleanup_file_variables/1");
}

async fn crashed(bench: &Bench, times: usize) -> Ending {
    for _ in 0..times {
        let process = bench.start().await;
        process.job.journal.crash(Crash::Before(0));
        let life = tokio::time::timeout(Duration::from_secs(5), process.live());
        life.await.unwrap_err();
    }
    bench.run_to_end().await
}

#[test]
fn a_job_that_its_runner_dies_of_twice_gets_a_last_chance() {
    let ending = case(async { crashed(&Bench::new(with_sources()), 2).await });
    ending.assert_success();
}

#[test]
fn a_job_that_its_runner_dies_of_three_times_is_given_up() {
    let ending = case(async { crashed(&Bench::new(with_sources()), 3).await });
    assert_eq!(*ending.cause(), Cause::CrashedThreeTimes);
    assert!(ending.ran.is_empty() && ending.helped.is_empty());
    ending.assert_says("ERROR: Job failed (system failure): the runner died three times");
}

#[test]
fn a_job_given_up_leaves_nothing_of_its_running_containers() {
    let ending = case(async {
        let bench = Bench::new(Setup::script(Work::hangs()).git());
        let process = bench.start().await;
        let life = tokio::time::timeout(Duration::from_secs(5), process.live());
        life.await.unwrap_err();
        drop(process);
        for _ in 0..2 {
            bench.journal(Record::Resumed).await;
        }
        bench.run_to_end().await
    });
    assert_eq!(*ending.cause(), Cause::CrashedThreeTimes);
    assert_eq!(ending.stages_ran(), ["step_script"]);
}

/// A cancel between two scripts is no more known to the next process than what the journal says of it.
#[test]
fn no_script_runs_after_after_script_whenever_the_runner_dies() {
    fn setup() -> Setup {
        // The wish and the end of the container come together: the stage ends by itself.
        Setup::script(Work::says("one\n").does(|world| world.server.wish(Wish::Cancel)))
            .step("release", Work::says("two\n"))
            .after_script(Work::says("three\n"))
    }
    let course = Course::of(setup);
    assert_eq!(*course.ending.cause(), Cause::Canceled);
    assert_eq!(course.ending.stages_ran(), ["step_script", "after_script"]);
    let deaths = course.records().into_iter().map(|death| [death]);
    survive(setup, &course, deaths, |_, ending| {
        // A process that does not know of the cancel yet may begin the second step.
        match ending.stages_ran()[..] {
            ["step_script", "after_script"] | ["step_script", "step_release", "after_script"] => {
                Ok(())
            }
            ref ran => Err(format!("ran {ran:?}")),
        }
    });
}
