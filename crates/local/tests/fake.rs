//! Whole runs on a scripted engine: order, failures, cancel, and that nothing is left.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod fake {
    pub(crate) mod harness;
}

use std::{fs, num::NonZeroUsize, time::Duration};

use fake::harness::{Harness, states};
use gantry_engine::{
    EngineError,
    fake::{Down, Fault, Verb},
};
use gantry_local::{JobState, PipelineStatus, RunError, Stop};

const FILE: &str = "
stages: [one, two]
default: {image: img}
first: {stage: one, script: ['@print hello', '@print world']}
second: {stage: one, script: ['@partial no end']}
third: {stage: two, script: ['@print done']}
";

#[tokio::test]
async fn all_jobs_run_by_stage_with_their_names_in_front_and_a_table_at_the_end() {
    let harness = Harness::new(FILE);
    let report = harness.run().await.unwrap();
    assert!(report.is_success());
    assert_eq!(states(&report), "first S, second S, third S");
    let text = harness.screen.text();
    let at = |part: &str| {
        text.find(part)
            .unwrap_or_else(|| panic!("no {part:?} in {text}"))
    };
    assert!(at("first  | hello\n") < at("first  | world\n"));
    assert!(at("first  | world\n") < at("third  | done\n"));
    assert!(at("second | no end") < at("second | Job succeeded"));
    assert!(at("second | Job succeeded\n") < at("third  | done\n"));
    assert!(at("Pipeline passed in") > at("third   two"));
    assert!(
        !text.contains('\x1b') && !text.contains("section_"),
        "{text}"
    );
    assert!(!text.contains("Preparing"), "{text}");
    harness.assert_nothing_left();
}

#[tokio::test]
async fn a_failure_skips_later_stages_and_says_so() {
    let harness = Harness::new(
        "
stages: [one, two]
default: {image: img}
good: {stage: one, script: ['@print x']}
bad: {stage: one, script: ['@exit 3']}
late: {stage: two, script: ['@print never']}
",
    );
    let report = harness.run().await.unwrap();
    assert!(!report.is_success());
    assert_eq!(states(&report), "good S, bad F, late -");
    assert_eq!(report.jobs[1].why.as_deref(), Some("exit code 3"));
    let text = harness.screen.text();
    assert!(
        text.contains("bad  | ERROR: Job failed: exit code 3\n"),
        "{text}"
    );
    assert!(text.contains("skipped: `bad` failed\n"), "{text}");
    assert!(!text.contains("never"), "{text}");
    harness.assert_nothing_left();
}

#[tokio::test]
async fn allowed_failures_are_a_success_with_warnings() {
    let harness = Harness::new(
        "
stages: [one, two]
default: {image: img}
any: {stage: one, script: ['@exit 3'], allow_failure: true}
code: {stage: one, script: ['@exit 42'], allow_failure: {exit_codes: [42]}}
late: {stage: two, script: ['@print x']}
",
    );
    let report = harness.run().await.unwrap();
    assert!(report.is_success());
    assert_eq!(report.status, PipelineStatus::SuccessWithWarnings);
    assert_eq!(states(&report), "any W, code W, late S");
    let other =
        Harness::new("code: {image: img, script: ['@exit 41'], allow_failure: {exit_codes: [42]}}");
    assert!(!other.run().await.unwrap().is_success());
}

#[tokio::test]
async fn jobs_of_a_stage_run_side_by_side_as_far_as_allowed() {
    // Each waits until the other one has begun.
    let file = "
default: {image: img}
a: {script: ['@meet 2']}
b: {script: ['@meet 2']}
";
    let harness = Harness::new(file);
    assert!(harness.run().await.unwrap().is_success());
    let one = Harness::new("default: {image: img}\na: {script: ['@peak']}\nb: {script: ['@peak']}");
    let report = one
        .run_with(|setup| setup.options.at_once = NonZeroUsize::MIN)
        .await
        .unwrap();
    assert!(report.is_success());
    assert_eq!(one.peak(), 1);
}

#[tokio::test]
async fn the_tree_reaches_the_job_as_it_is_but_for_what_git_ignores() {
    let harness = Harness::new("a: {image: img, script: ['@print x']}");
    harness.write("tracked", "changed since");
    harness.write("untracked", "new");
    harness.write(".gitignore", "ignored\n");
    harness.write("ignored", "x");
    harness.run().await.unwrap();
    let uploads = harness.engine.uploads();
    let tree = uploads
        .iter()
        .find(|upload| upload.path.starts_with("/builds/"))
        .expect("an upload of the tree");
    let content = |name: &str| {
        let entry = tree.entries.iter().find(|entry| entry.path == name)?;
        Some(String::from_utf8_lossy(&entry.content).into_owned())
    };
    assert_eq!(content("tracked").as_deref(), Some("changed since"));
    assert_eq!(content("untracked").as_deref(), Some("new"));
    assert_eq!(content("ignored"), None);
    assert!(content(".git/HEAD").is_some());
}

#[tokio::test]
async fn a_cancel_stops_scripts_runs_after_script_and_leaves_nothing() {
    let harness = Harness::new(
        "
stages: [one, two]
default: {image: img}
slow: {stage: one, script: ['@print waits', '@wait'], after_script: ['@print after']}
queued: {stage: one, script: ['@print never']}
late: {stage: two, script: ['@print never']}
",
    );
    let run = harness.run_with(|setup| setup.options.at_once = NonZeroUsize::MIN);
    let cancel = async {
        harness.screen.until("slow   | waits\n").await;
        harness.stop.send(Stop::Cancel).unwrap();
    };
    let (report, ()) = tokio::join!(run, cancel);
    let report = report.unwrap();
    assert_eq!(report.status, PipelineStatus::Canceled);
    assert_eq!(states(&report), "slow C, queued C, late C");
    let text = harness.screen.text();
    assert!(text.contains("Canceling: "), "{text}");
    assert!(text.contains("slow   | after\n"), "{text}");
    assert!(!text.contains("never"), "{text}");
    assert!(text.contains("canceled: not started"), "{text}");
    assert!(text.ends_with("are removed. Exit code 1\n"), "{text}");
    harness.assert_nothing_left();
}

#[tokio::test]
async fn an_interrupt_runs_no_after_script_and_leaves_nothing() {
    let harness = Harness::new(
        "slow: {image: img, script: ['@print waits', '@wait'], after_script: ['@print after']}",
    );
    let interrupt = async {
        harness.screen.until("slow | waits\n").await;
        harness.stop.send(Stop::Interrupt { signal: 15 }).unwrap();
    };
    let (report, ()) = tokio::join!(harness.run(), interrupt);
    assert_eq!(report.unwrap().status, PipelineStatus::Canceled);
    let text = harness.screen.text();
    assert!(!text.contains("slow | after\n"), "{text}");
    harness.assert_nothing_left();
}

#[tokio::test]
async fn what_a_run_that_was_left_at_once_made_is_removed_by_the_next() {
    let file = "slow: {image: img, services: [img], script: ['@print waits', '@wait']}";
    let harness = Harness::new(file);
    let leave = async {
        harness.screen.until("slow | waits\n").await;
        harness.stop.send(Stop::Cancel).unwrap();
        harness.screen.until("Canceling").await;
        harness.stop.send(Stop::Now).unwrap();
    };
    // No container ends of itself, so that the cancel has no time to come to its end.
    harness
        .engine
        .fault_on(Verb::ContainerStop, "", 1, u32::MAX, Fault::Hang);
    let (report, ()) = tokio::join!(harness.run(), leave);
    let report = report.unwrap();
    assert_eq!(report.stop, Stop::Now);
    assert!(report.left_behind && !report.is_success());
    assert!(!harness.engine.left(&Default::default()).is_empty());

    harness.engine.clear_faults();
    let next = harness.again("quick: {image: img, script: ['@print x']}");
    assert!(next.run().await.unwrap().is_success());
    let text = next.screen.text();
    assert!(text.contains("that an earlier run left"), "{text}");
    next.assert_nothing_left();
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_named_and_nothing_is_begun() {
    let harness = Harness::new(FILE);
    harness.engine.go_down(Down::ContainersLive);
    let error = harness.run().await.unwrap_err();
    assert!(matches!(error, RunError::Engine { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("no container engine answers at fake:///engine: "),
        "{error}"
    );
    assert!(!harness.state().exists());
}

#[tokio::test]
async fn jobs_that_cannot_be_run_stop_the_run_before_it_begins() {
    let harness = Harness::new("a: {image: img, script: ['@print x']}\nb: {script: x}");
    let error = harness.run().await.unwrap_err();
    let RunError::Jobs(problems) = &error else {
        panic!("{error}")
    };
    assert_eq!(problems[0].place, ".gitlab-ci.yml:2");
    assert_eq!(harness.engine.calls_of(Verb::ContainerCreate), []);
    harness.assert_nothing_left();
}

#[tokio::test]
async fn an_image_that_cannot_be_had_fails_its_job() {
    let harness =
        Harness::new("a: {image: other, script: x}\nb: {image: img, script: ['@print x']}");
    let report = harness.run().await.unwrap();
    assert_eq!(states(&report), "a F, b S");
    let why = report.jobs[0].why.as_deref().unwrap();
    assert!(why.contains("other"), "{why}");
    harness.assert_nothing_left();
}

#[tokio::test]
async fn tokens_are_masked() {
    let harness = Harness::new("a: {image: img, script: ['@print glpat-abcdefghij0123456789']}");
    harness.run().await.unwrap();
    let text = harness.screen.text();
    assert!(text.contains("a | glpat-[MASKED]\n"), "{text}");
    assert!(!text.contains("abcdefghij"), "{text}");
}

#[tokio::test]
async fn an_output_that_nobody_reads_ends_the_run_and_leaves_nothing() {
    let harness = Harness::new("a: {image: img, script: ['@print waits', '@wait']}");
    let (reader, writer) = tokio::io::duplex(64);
    drop(reader);
    let report = harness
        .run_with(|setup| setup.output = Box::new(writer))
        .await
        .unwrap();
    assert_eq!(report.status, PipelineStatus::Canceled);
    assert_eq!(report.jobs[0].state, JobState::Canceled);
    harness.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_told_and_remembered() {
    let harness = Harness::new("a: {image: img, script: ['@print x']}");
    let in_use = EngineError::Conflict {
        what: "remove volume".to_owned(),
        message: "volume is in use".to_owned(),
    };
    harness
        .engine
        .fault_on(Verb::VolumeRemove, "", 1, u32::MAX, Fault::Error(in_use));
    let report = harness.run().await.unwrap();
    assert!(report.is_success() && report.left_behind);
    let text = harness.screen.text();
    assert!(
        text.contains("Removing containers, networks and volumes ...\n"),
        "{text}"
    );
    assert!(
        text.contains("the next `gantry exec` tries again\n"),
        "{text}"
    );
    let folders = fs::read_dir(harness.state()).unwrap();
    let folders = folders.filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 1);
}

#[tokio::test]
async fn a_job_that_takes_too_long_fails_and_is_stopped() {
    let harness = Harness::new("a: {image: img, script: ['@print waits', '@wait']}");
    let report = harness
        .run_with(|setup| setup.options.timeout = Some(Duration::from_secs(1)))
        .await
        .unwrap();
    assert_eq!(states(&report), "a F");
    let why = report.jobs[0].why.as_deref().unwrap();
    assert!(why.contains("took longer than 1s"), "{why}");
    harness.assert_nothing_left();
}
