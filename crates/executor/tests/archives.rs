//! Cache and artifacts: which stages run after which end, their attempts, and what stops them.

use std::time::Duration;

use gantry_executor::Wish;
use gantry_job::Cause;
use rstest::rstest;

use crate::harness::{Setup, Work, run, timed, work::OnTerm};

/// A job with everything that moves archives.
fn everything(script: Work) -> Setup {
    Setup::script(script)
        .git()
        .cache()
        .dependency()
        .artifacts()
        .after_script(Work::says("after\n"))
}

/// What the helper did, without its first and last stage.
fn between(helped: &[String]) -> Vec<&str> {
    let ends = ["get_sources/1", "cleanup_file_variables/1"];
    let helped = helped.iter().map(String::as_str);
    helped.filter(|stage| !ends.contains(stage)).collect()
}

#[test]
fn archives_are_fetched_before_the_scripts_and_kept_after_them() {
    let ending = run(everything(Work::says("built\n"))
        .helper("restore_cache", Work::says("Checking cache\n"))
        .helper("download_artifacts", Work::says("Downloading\n"))
        .helper("archive_cache", Work::says("Creating cache\n"))
        .helper("upload_artifacts_on_success", Work::says("Uploading\n")));
    ending.assert_success();
    assert_eq!(
        between(&ending.helped),
        [
            "restore_cache/1",
            "download_artifacts/1",
            "archive_cache/1",
            "upload_artifacts_on_success/1"
        ]
    );
    ending.assert_order(&[
        "Getting source from Git repository\n",
        "Restoring cache\n",
        "Checking cache\n",
        "Downloading artifacts\n",
        "Downloading\n",
        "built\n",
        "after\n",
        "Saving cache for successful job\n",
        "Creating cache\n",
        "Uploading artifacts for successful job\n",
        "Uploading\n",
        "Cleaning up project directory and file based variables\n",
        "Job succeeded",
    ]);
    ending.assert_sections_close();
}

#[test]
fn a_failed_script_keeps_what_is_kept_of_failed_jobs() {
    let ending = run(everything(Work::says("built\n").exits(3)));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 3 });
    assert_eq!(
        between(&ending.helped),
        [
            "restore_cache/1",
            "download_artifacts/1",
            "archive_cache_on_failure/1",
            "upload_artifacts_on_failure/1"
        ]
    );
    ending.assert_order(&[
        "built\n",
        "Saving cache for failed job\n",
        "Uploading artifacts for failed job\n",
        "ERROR: Job failed: exit code 3\n",
    ]);
}

#[rstest]
#[case::sources("get_sources")]
#[case::cache("restore_cache")]
#[case::download("download_artifacts")]
fn a_failure_before_the_scripts_skips_them_and_still_keeps_things(#[case] stage: &str) {
    let failing = Work::says("fatal\n").exits(128);
    let ending = run(everything(Work::nothing()).helper(stage, failing));
    assert!(ending.stages_ran().is_empty());
    assert!(matches!(
        ending.cause(),
        Cause::HelperStageExit { code: 128, .. }
    ));
    let last = between(&ending.helped);
    assert_eq!(
        last[last.len() - 2..],
        [
            "archive_cache_on_failure/1",
            "upload_artifacts_on_failure/1"
        ]
    );
    ending.assert_says("ERROR: Job failed: exit code 128\n");
    assert_eq!(ending.helped.last().unwrap(), "cleanup_file_variables/1");
}

#[test]
fn a_cache_that_cannot_be_saved_fails_the_job_and_its_artifacts_are_those_of_a_successful_one() {
    let ending = run(everything(Work::nothing()).helper("archive_cache", Work::nothing().exits(1)));
    assert_eq!(
        between(&ending.helped)[2..],
        ["archive_cache/1", "upload_artifacts_on_success/1"]
    );
    assert_eq!(ending.cause().exit_code(), Some(1));
    ending.assert_says("ERROR: Job failed: exit code 1\n");
}

#[test]
fn an_upload_that_fails_fails_the_job_unless_it_had_failed_before() {
    let failing =
        |stage: &str, script: Work| run(everything(script).helper(stage, Work::nothing().exits(1)));
    let ending = failing("upload_artifacts_on_success", Work::nothing());
    assert_eq!(ending.cause().exit_code(), Some(1));
    let ending = failing("upload_artifacts_on_failure", Work::nothing().exits(7));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 7 });
}

#[test]
fn each_stage_has_its_own_attempts_and_pauses() {
    let (ending, took) = timed(
        everything(Work::nothing())
            .helper("restore_cache/1", Work::nothing().exits(1))
            .helper("download_artifacts/1", Work::nothing().exits(1))
            .helper("download_artifacts/2", Work::nothing().exits(1))
            .variable("RESTORE_CACHE_ATTEMPTS", "2")
            .variable("ARTIFACT_DOWNLOAD_ATTEMPTS", "3"),
    );
    ending.assert_success();
    assert_eq!(
        between(&ending.helped)[..5],
        [
            "restore_cache/1",
            "restore_cache/2",
            "download_artifacts/1",
            "download_artifacts/2",
            "download_artifacts/3"
        ]
    );
    assert_eq!(ending.count("WARNING: Retrying...\n"), 3);
    ending.assert_sections_close();
    // 5 s; 5 s and 10 s.
    let pauses = Duration::from_secs(20)..Duration::from_secs(25);
    assert!(pauses.contains(&took), "{took:?}");
}

#[test]
fn a_cancel_ends_the_pause_between_two_attempts_at_once() {
    let cancels = Work::nothing()
        .does(|world| world.server.wish(Wish::Cancel))
        .exits(1);
    let (ending, took) = timed(
        everything(Work::nothing())
            .helper("download_artifacts", cancels)
            .variable("ARTIFACT_DOWNLOAD_ATTEMPTS", "10"),
    );
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!between(&ending.helped).contains(&"upload_artifacts_on_failure/1"));
}

#[test]
fn a_cancel_while_archives_are_fetched_ends_the_job() {
    let canceled = Work::says("on it\n")
        .does(|world| world.server.wish(Wish::Cancel))
        .then_hangs()
        .on_term(OnTerm::Ends {
            words: "canceled\n",
            code: 143,
        });
    let ending = run(everything(Work::nothing()).helper("download_artifacts", canceled));
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert!(ending.stages_ran().is_empty());
    assert_eq!(
        between(&ending.helped),
        ["restore_cache/1", "download_artifacts/1"]
    );
    assert_eq!(ending.helped.last().unwrap(), "cleanup_file_variables/1");
}

#[test]
fn a_cancel_in_the_script_keeps_what_is_kept_of_failed_jobs() {
    let canceled = Work::says("working\n")
        .does(|world| world.server.wish(Wish::Cancel))
        .then_hangs();
    let ending = run(everything(canceled));
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert_eq!(
        between(&ending.helped)[2..],
        [
            "archive_cache_on_failure/1",
            "upload_artifacts_on_failure/1"
        ]
    );
}

#[test]
fn a_cancel_in_mid_upload_interrupts_nothing() {
    let slow = Work::says("Uploading\n")
        .does(|world| world.server.wish(Wish::Cancel))
        .pause_ms(5000)
        .out("201 Created\n");
    let ending = run(everything(Work::nothing()).helper("upload_artifacts_on_success", slow));
    ending.assert_success();
    ending.assert_says("201 Created\n");
}

#[rstest]
#[case::abort(Wish::Abort)]
#[case::interrupt(Wish::Interrupt { signal: 15 })]
fn what_ends_a_job_by_force_ends_an_upload(#[case] wish: Wish) {
    let stopped = Work::says("Uploading\n")
        .does(move |world| world.server.wish(wish))
        .then_hangs();
    let ending = run(everything(Work::nothing()).helper("upload_artifacts_on_success", stopped));
    assert!(matches!(
        ending.cause(),
        Cause::Aborted | Cause::Interrupted { .. }
    ));
    assert_eq!(ending.helped.last().unwrap(), "cleanup_file_variables/1");
}

#[test]
fn a_job_out_of_time_keeps_nothing_and_leaves_no_file_variables() {
    let ending = run(everything(Work::nothing())
        .helper("archive_cache", Work::hangs())
        .job_timeout(60));
    assert!(matches!(ending.cause(), Cause::JobTimeout { .. }));
    assert_eq!(between(&ending.helped)[2..], ["archive_cache/1"]);
    ending.assert_says(
        "WARNING: archive_cache could not run to completion because the timeout was exceeded.",
    );
    assert_eq!(ending.helped.last().unwrap(), "cleanup_file_variables/1");
}

#[test]
fn a_policy_that_is_none_fails_the_job_by_name() {
    let ending = run(everything(Work::nothing()).with(|setup| {
        setup.payload.cache[0].policy = "bogus".to_owned();
    }));
    ending.assert_says("ERROR: Job failed: unknown cache policy bogus for gems\n");
    assert!(ending.stages_ran().is_empty());
    ending.assert_sections_close();
}

/// The helper's container is removed from outside while it works.
fn vanishes() -> Work {
    Work::says("half of it\n").pause_ms(100).does(|world| {
        let engine = world.engine.clone();
        tokio::spawn(async move {
            let mut all = engine.containers().into_iter();
            let helper = all.find(|found| found.state.name.ends_with("-predefined"));
            engine.vanish_container(&helper.unwrap().state.name);
        });
    })
}

#[test]
fn a_helper_that_gets_lost_is_replaced_as_often_as_the_job_says() {
    let setup = || {
        everything(Work::nothing())
            .helper("upload_artifacts_on_success/1", vanishes().then_hangs())
            .helper("upload_artifacts_on_success/1.2", Work::says("all of it\n"))
    };
    let ending = run(setup().variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "2"));
    ending.assert_success();
    ending.assert_order(&[
        "half of it\n",
        "not found or removed. Will retry...\n",
        "Retrying upload_artifacts_on_success\n",
        "all of it\n",
    ]);
    let ending = run(setup());
    assert!(matches!(ending.cause(), Cause::HelperLost { .. }));
    ending.assert_never_says("Will retry");
}
