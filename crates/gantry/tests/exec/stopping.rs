//! Ctrl-C and worse.

use rustix::process::Signal;

use crate::harness::{Repository, engine};

/// Two jobs side by side that would go on for long, one with a service.
const FILE: &str = "
stages: [now, later]
default:
  image: gantry.test/busybox:1
  after_script: ['echo after with $CI_JOB_STATUS']
one:
  stage: now
  services: [{name: 'gantry.test/busybox:1', alias: web, command: [sleep, '600']}]
  script: [echo begun, sleep 600]
two: {stage: now, script: [echo begun, sleep 600]}
three: {stage: later, script: [echo never]}
";

#[test]
fn ctrl_c_cancels_all_jobs_runs_after_script_and_leaves_nothing() {
    let Some(engine) = engine() else { return };
    let repository = Repository::new(FILE, Some(&engine));
    let running = repository.start(&["-j", "2"]);
    // Both at one time: they run side by side.
    running.until("one   | begun\n");
    running.until("two   | begun\n");
    running.signal(Signal::INT);
    let done = running.end();
    done.assert(
        1,
        &[
            "Canceling: ",
            "one   | after with canceled\n",
            "two   | after with canceled\n",
            "canceled: not started\n",
            "Pipeline canceled in",
            "are removed. Exit code 1\n",
        ],
    );
    assert!(!done.stdout.contains("| never"), "{done:#?}");
    repository.assert_nothing_left();
}

#[test]
fn a_terminate_runs_no_after_script_and_leaves_nothing() {
    let Some(engine) = engine() else { return };
    let repository = Repository::new(FILE, Some(&engine));
    let running = repository.start(&["two"]);
    running.until("two | begun\n");
    running.signal(Signal::TERM);
    let done = running.end();
    done.assert(1, &["Stopping: ", "Pipeline canceled in"]);
    assert!(!done.stdout.contains("after with"), "{done:#?}");
    repository.assert_nothing_left();
}

#[test]
fn a_second_ctrl_c_leaves_at_once_and_the_next_run_removes_what_is_left() {
    let Some(engine) = engine() else { return };
    // After the first one there is something that takes long.
    let file = FILE.replace("'echo after", "'sleep 600; echo after");
    let repository = Repository::new(&file, Some(&engine));
    let running = repository.start(&["one"]);
    running.until("one | begun\n");
    running.signal(Signal::INT);
    running.until("one | Running after script...\n");
    running.signal(Signal::INT);
    let done = running.end();
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(done.stderr.contains("left at once"), "{done:#?}");
    assert_ne!(repository.on_engine(), Vec::<String>::new());
    removes_leftovers(&repository);
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let Some(engine) = engine() else { return };
    let repository = Repository::new(FILE, Some(&engine));
    let running = repository.start(&["one"]);
    running.until("one | begun\n");
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, None);
    assert_ne!(repository.on_engine(), Vec::<String>::new());
    removes_leftovers(&repository);
}

#[track_caller]
fn removes_leftovers(repository: &Repository) {
    repository.write(
        "other.yml",
        "quick: {image: 'gantry.test/busybox:1', script: ['true']}",
    );
    let done = repository.exec(&["-f", "other.yml"]);
    done.assert(0, &["that an earlier run left\n"]);
    repository.assert_nothing_left();
}
