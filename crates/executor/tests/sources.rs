//! Attempts at sources, their pauses, and the worktree between them.

use std::time::Duration;

use gantry_executor::Wish;
use gantry_job::Cause;
use tokio::time::Instant;

use crate::harness::{Bench, Setup, Work, case, run, timed};

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
