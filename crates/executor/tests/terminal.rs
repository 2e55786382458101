//! What a job tells the interactive terminal, and how long it waits for one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_executor::{TerminalPlace, TerminalPort, TerminalSettings, Wish};
use gantry_job::{Cause, JobState};
use rstest::rstest;
use tokio::time::Instant;

use crate::harness::{Bench, Ending, Entrypoint, Setup, Work, case};

const KEEPS: bool = true;

fn port(after_script: bool) -> Arc<TerminalPort> {
    TerminalPort::new(move || TerminalSettings {
        timeout: Duration::from_secs(1800),
        after_script,
    })
}

fn bench(setup: Setup, port: &Arc<TerminalPort>) -> Bench {
    let mut bench = Bench::new(setup);
    bench.terminal = Some(Arc::clone(port));
    bench
}

/// Words for the places as they change.
fn watch_places(port: &TerminalPort) -> Arc<Mutex<Vec<&'static str>>> {
    let places = Arc::new(Mutex::new(Vec::new()));
    let (mut receiver, seen) = (port.place(), Arc::clone(&places));
    tokio::spawn(async move {
        while receiver.changed().await.is_ok() {
            let word = match &*receiver.borrow_and_update() {
                TerminalPlace::NotYet => "not yet",
                TerminalPlace::Running(_) => "running",
                TerminalPlace::Between => "between",
                TerminalPlace::Over => "over",
            };
            let mut seen = seen.lock().unwrap();
            if seen.last() != Some(&word) {
                seen.push(word);
            }
        }
    });
    places
}

/// Connects as soon as the build container runs, and stays for so long.
fn connect(port: &Arc<TerminalPort>, stay: Duration) {
    let port = Arc::clone(port);
    tokio::spawn(async move {
        let mut place = port.place();
        let running = |place: &TerminalPlace| matches!(place, TerminalPlace::Running(_));
        drop(place.wait_for(running).await.unwrap());
        let connection = port.connect().unwrap();
        tokio::select! {
            () = tokio::time::sleep(stay) => {}
            _ = connection.dismissed() => {}
        }
        drop(connection);
    });
}

#[rstest]
#[case::one_script(Setup::script(Work::talks()), vec!["running", "over"])]
#[case::a_failing_script(Setup::script(Work::talks().exits(3)).step("release", Work::talks()), vec!["running", "over"])]
#[case::two_steps(Setup::script(Work::talks()).step("release", Work::talks()), vec!["running", "between", "running", "over"])]
#[case::after_script(Setup::script(Work::talks().exits(3)).after_script(Work::talks()), vec!["running", "between", "running", "over"])]
#[case::sources_fail(Setup::script(Work::talks()).git().helper("get_sources", Work::nothing().exits(1)), vec!["over"])]
fn a_terminal_finds_the_container_while_scripts_run(
    #[case] setup: Setup,
    #[case] expected: Vec<&str>,
) {
    let mut seen = case(async {
        let port = port(false);
        let places = watch_places(&port);
        bench(setup, &port).run_to_end().await;
        places.lock().unwrap().clone()
    });
    // The last end of the container, and word that it is the last, come one after the other.
    if let [.., "between", "over"] = seen[..] {
        seen.remove(seen.len() - 2);
    }
    assert_eq!(seen, expected);
}

/// How long the job takes, and how it ends, with a terminal that is connected from the script on.
fn with_terminal(setup: Setup, keeps: bool, stay: Duration) -> (Ending, Duration) {
    case(async {
        let port = port(keeps);
        connect(&port, stay);
        let bench = bench(setup, &port);
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    })
}

const TERMINAL: &str = "erminal ";

#[test]
fn a_job_does_not_wait_for_a_terminal_whose_container_ended() {
    let (ending, took) = with_terminal(Setup::script(Work::talks()), false, Duration::MAX);
    ending.assert_success();
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(ending.count(TERMINAL), 0);
}

#[test]
fn where_it_is_asked_for_a_job_waits_until_the_terminal_is_left() {
    let stay = Duration::from_secs(600);
    let (ending, took) = with_terminal(Setup::script(Work::talks().exits(3)), KEEPS, stay);
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 3 });
    assert!(
        took >= stay && took < stay + Duration::from_secs(60),
        "{took:?}"
    );
    assert_eq!(ending.stages_ran(), ["step_script"]);
    ending.assert_order(&[
        "Terminal is connected, will time out in 30m0s...",
        "Terminal disconnected",
        "ERROR: Job failed: exit code 3\n",
    ]);
}

#[test]
fn a_terminal_keeps_a_job_no_longer_than_session_timeout() {
    let (ending, took) = with_terminal(Setup::script(Work::talks()), KEEPS, Duration::MAX);
    ending.assert_success();
    let timeout = Duration::from_secs(1800);
    assert!(
        took >= timeout && took < timeout + Duration::from_secs(60),
        "{took:?}"
    );
    ending.assert_order(&[
        "Terminal is connected, will time out in 30m0s...",
        "terminal session timed out (maximum time allowed - 30m0s)",
        "Job succeeded",
    ]);
}

#[test]
fn a_terminal_keeps_a_job_no_longer_than_the_jobs_time() {
    let setup = Setup::script(Work::nothing()).job_timeout(100);
    let (ending, took) = with_terminal(setup, KEEPS, Duration::MAX);
    // The scripts were done in time.
    ending.assert_success();
    assert!(took < Duration::from_secs(160), "{took:?}");
    ending.assert_says("Terminal is connected, will time out in 1m40s...");
    ending.assert_says("terminal session timed out (maximum time allowed - 1m40s)");
}

#[rstest]
#[case::canceled(Wish::Cancel, false)]
#[case::aborted(Wish::Abort, false)]
#[case::shut_down(Wish::Interrupt { signal: 15 }, true)]
fn who_stops_the_job_ends_the_wait_for_its_terminal(#[case] wish: Wish, #[case] says: bool) {
    let (ending, took) = case(async {
        let port = port(KEEPS);
        connect(&port, Duration::MAX);
        let bench = bench(Setup::script(Work::nothing()), &port);
        let server = bench.server.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(300)).await;
            server.wish(wish);
        });
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    // It was done before.
    assert_eq!(ending.verdict.state, JobState::Success);
    assert!(took < Duration::from_secs(360), "{took:?}");
    assert_eq!(ending.count("Terminal disconnected"), usize::from(says));
}

#[test]
fn a_container_whose_entrypoint_may_be_user_code_is_not_started_for_a_terminal() {
    let setup = Setup::script(Work::talks()).entrypoint(Entrypoint::Execs { words: "hello\n" });
    let (ending, took) = with_terminal(setup, KEEPS, Duration::MAX);
    ending.assert_success();
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(ending.count(TERMINAL), 0);
    assert_eq!(ending.count("hello\n"), 1);
}
