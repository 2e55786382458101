use gantry_pipeline::parse;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Jobs `a b` in the first stage, `c` in the second, `d e` in the third; `b` and `d` may fail.
const FILE: &str = "
stages: [one, two, three]
a: {stage: one, script: x}
b: {stage: one, script: x, allow_failure: true}
c: {stage: two, script: x}
d: {stage: three, script: x, allow_failure: {exit_codes: 42}}
e: {stage: three, script: x}
";

fn schedule(at_once: usize) -> Schedule {
    Schedule::new(
        &parse("f", FILE).unwrap(),
        NonZeroUsize::new(at_once).unwrap(),
    )
}

fn failed(exit_code: i64) -> JobEnd {
    JobEnd::Failed {
        exit_code: Some(exit_code),
    }
}

/// One letter per job.
fn states(schedule: &Schedule) -> String {
    (0..5)
        .map(|job| match schedule.state(job) {
            JobState::Created => '.',
            JobState::Running => 'R',
            JobState::Success => 'S',
            JobState::Warning => 'W',
            JobState::Failed => 'F',
            JobState::Canceled => 'C',
            JobState::Skipped => '-',
        })
        .collect()
}

/// Runs to the end; each job ends as `ends` says.
fn run(at_once: usize, ends: [JobEnd; 5]) -> (String, PipelineStatus) {
    let mut schedule = schedule(at_once);
    let mut open = schedule.start();
    while let Some(job) = open.pop() {
        schedule.finish(job, ends[job]);
        open.extend(schedule.start());
    }
    assert!(schedule.is_done());
    (states(&schedule), schedule.status())
}

const OK: JobEnd = JobEnd::Success;
const BAD: JobEnd = JobEnd::Failed { exit_code: Some(1) };
const BROKEN: JobEnd = JobEnd::Failed { exit_code: None };
const GONE: JobEnd = JobEnd::Canceled;

#[rstest]
#[case::all_pass([OK, OK, OK, OK, OK], "SSSSS", PipelineStatus::Success)]
#[case::allowed([OK, BAD, OK, OK, OK], "SWSSS", PipelineStatus::SuccessWithWarnings)]
#[case::failure_skips_later_stages([BAD, OK, OK, OK, OK], "FS---", PipelineStatus::Failed)]
#[case::both_in_one_stage([BAD, BAD, OK, OK, OK], "FW---", PipelineStatus::Failed)]
#[case::middle([OK, OK, BAD, OK, OK], "SSF--", PipelineStatus::Failed)]
#[case::last([OK, OK, OK, OK, BAD], "SSSSF", PipelineStatus::Failed)]
#[case::exit_code_allowed([OK, OK, OK, JobEnd::Failed { exit_code: Some(42) }, OK],
    "SSSWS", PipelineStatus::SuccessWithWarnings)]
#[case::exit_code_not_allowed([OK, OK, OK, BAD, OK], "SSSFS", PipelineStatus::Failed)]
#[case::timeout_is_no_exit_code([OK, OK, OK, BROKEN, OK], "SSSFS", PipelineStatus::Failed)]
#[case::timeout_may_be_allowed([OK, BROKEN, OK, OK, OK], "SWSSS", PipelineStatus::SuccessWithWarnings)]
#[case::canceled_job_skips_later_stages([OK, GONE, OK, OK, OK], "SC---", PipelineStatus::Canceled)]
#[case::failed_wins_over_canceled([BAD, GONE, OK, OK, OK], "FC---", PipelineStatus::Failed)]
fn a_pipeline_ends_as_its_jobs_do(
    #[case] ends: [JobEnd; 5],
    #[case] states: &str,
    #[case] status: PipelineStatus,
) {
    for at_once in [1, 2, 10] {
        assert_eq!(run(at_once, ends), (states.to_owned(), status));
    }
}

#[test]
fn a_stage_waits_for_the_whole_stage_before_it() {
    let mut schedule = schedule(10);
    assert_eq!(schedule.start(), [0, 1]);
    assert_eq!(schedule.start(), Vec::<usize>::new());
    schedule.finish(1, OK);
    assert_eq!(schedule.start(), Vec::<usize>::new());
    schedule.finish(0, OK);
    assert_eq!(schedule.start(), [2]);
    schedule.finish(2, OK);
    assert_eq!(schedule.start(), [3, 4]);
}

#[test]
fn no_more_jobs_run_at_once_than_allowed_and_a_free_place_is_used() {
    let mut schedule = schedule(1);
    assert_eq!(schedule.start(), [0]);
    assert_eq!(schedule.start(), Vec::<usize>::new());
    schedule.finish(0, OK);
    assert_eq!(schedule.start(), [1]);
}

#[test]
fn the_rest_of_a_stage_runs_after_a_failure_in_it() {
    let mut schedule = schedule(1);
    schedule.start();
    assert_eq!(schedule.finish(0, failed(1)), JobState::Failed);
    assert_eq!(schedule.status(), PipelineStatus::Running);
    assert_eq!(schedule.start(), [1]);
    schedule.finish(1, OK);
    assert_eq!(states(&schedule), "FS---");
    assert!(schedule.start().is_empty());
}

#[test]
fn a_cancel_names_the_running_jobs_and_starts_no_other() {
    let mut schedule = schedule(1);
    schedule.start();
    assert_eq!(schedule.cancel(), [0]);
    assert_eq!(states(&schedule), "RCCCC");
    assert!(schedule.start().is_empty());
    // It was quicker than the cancel.
    schedule.finish(0, OK);
    assert_eq!(states(&schedule), "SCCCC");
    assert_eq!(schedule.status(), PipelineStatus::Canceled);
}

#[test]
fn an_end_of_a_job_that_does_not_run_changes_nothing() {
    let mut schedule = schedule(2);
    schedule.start();
    schedule.finish(0, OK);
    assert_eq!(schedule.finish(0, failed(1)), JobState::Success);
    assert_eq!(schedule.finish(2, failed(1)), JobState::Created);
    assert_eq!(schedule.finish(99, OK), JobState::Skipped);
    assert_eq!(schedule.running(), 1);
}

proptest! {
    #[test]
    fn every_job_is_complete_in_the_end_and_the_limit_holds(
        at_once in 1usize..4,
        picks in proptest::collection::vec((any::<usize>(), 0usize..4), 0..20),
    ) {
        let mut schedule = schedule(at_once);
        let mut open = schedule.start();
        for (pick, end) in picks.into_iter().chain(std::iter::repeat((0, 0))) {
            prop_assert!(open.len() <= at_once && schedule.running() == open.len());
            if open.is_empty() {
                break;
            }
            let job = open.remove(pick % open.len());
            schedule.finish(job, [OK, BAD, BROKEN, GONE][end]);
            open.extend(schedule.start());
        }
        prop_assert!(schedule.is_done());
        prop_assert_ne!(schedule.status(), PipelineStatus::Running);
    }
}

/// Ends by name; all others pass. Gives one letter per job, and the status.
fn course(file: &str, ends: &[(&str, JobEnd)], keep_going: bool) -> (String, PipelineStatus) {
    let pipeline = parse("f", file).unwrap();
    let mut schedule =
        Schedule::new(&pipeline, NonZeroUsize::new(9).unwrap()).keep_going(keep_going);
    let mut open = schedule.start();
    while !open.is_empty() {
        let job = open.remove(0);
        let name = &pipeline.jobs[job].name;
        let end = ends.iter().find(|(other, _)| other == name);
        schedule.finish(job, end.map_or(OK, |(_, end)| *end));
        open.extend(schedule.start());
    }
    assert!(schedule.is_done());
    let letters = pipeline.jobs.iter().enumerate().map(|(index, job)| {
        let state = match schedule.state(index) {
            JobState::Success => 'S',
            JobState::Warning => 'W',
            JobState::Failed => 'F',
            JobState::Canceled => 'C',
            JobState::Skipped => '-',
            other => panic!("{}: {other:?}", job.name),
        };
        format!("{}{state}", job.name)
    });
    (letters.collect::<Vec<_>>().join(" "), schedule.status())
}

// local-pipelines G 53 to 55, D1, D5.
#[rstest]
#[case::on_failure_and_always(
    "a: {stage: build, script: x}
b: {script: x}
f: {stage: deploy, script: x, when: on_failure}
z: {stage: .post, script: x, when: always}",
    &[("a", BAD)], "aF b- fS zS", PipelineStatus::Failed
)]
#[case::nothing_failed(
    "a: {stage: build, script: x}
f: {script: x, when: on_failure}
z: {stage: deploy, script: x}",
    &[], "aS f- zS", PipelineStatus::Success
)]
#[case::an_allowed_failure_is_none(
    "a: {stage: build, script: x, allow_failure: true}
f: {script: x, when: on_failure}",
    &[("a", BAD)], "aW f-", PipelineStatus::SuccessWithWarnings
)]
#[case::a_failure_travels_along_needs(
    "a: {stage: build, script: x}
b: {stage: build, script: x}
c: {script: x, needs: [a]}
d: {script: x, needs: [b]}
e: {stage: deploy, script: x, needs: [c]}",
    &[("a", BAD)], "aF bS c- dS e-", PipelineStatus::Failed
)]
#[case::needs_nothing_and_runs_whatever_happens(
    "a: {stage: build, script: x}
b: {stage: deploy, script: x, needs: []}",
    &[("a", BAD)], "aF bS", PipelineStatus::Failed
)]
#[case::on_failure_of_what_it_needs(
    "a: {stage: build, script: x}
b: {stage: build, script: x}
c: {script: x, needs: [b], when: on_failure}
d: {script: x, needs: [a], when: on_failure}",
    &[("a", BAD)], "aF bS c- dS", PipelineStatus::Failed
)]
#[case::a_stage_of_skipped_jobs_stops_nobody(
    "a: {stage: build, script: x}
f: {script: x, when: on_failure}
z: {stage: deploy, script: x, needs: [a]}",
    &[], "aS f- zS", PipelineStatus::Success
)]
#[case::needs_a_skipped_job(
    "a: {stage: build, script: x}
f: {script: x, when: on_failure}
z: {stage: deploy, script: x, needs: [f]}
y: {stage: deploy, script: x, needs: [f], when: always}",
    &[], "aS f- z- yS", PipelineStatus::Success
)]
#[case::all_cells(
    "a: {stage: build, script: x, parallel: 2}
z: {script: x, needs: [a]}",
    &[("a 2/2", BAD)], "a 1/2S a 2/2F z-", PipelineStatus::Failed
)]
fn what_came_before_decides(
    #[case] file: &str,
    #[case] ends: &[(&str, JobEnd)],
    #[case] states: &str,
    #[case] status: PipelineStatus,
) {
    assert_eq!(course(file, ends, false), (states.to_owned(), status));
}

#[test]
fn to_keep_going_runs_later_stages_after_a_failure_but_not_what_needs_it() {
    let file = "a: {stage: build, script: x}
b: {script: x}
c: {script: x, needs: [a]}
f: {stage: deploy, script: x, when: on_failure}
d: {stage: deploy, script: x}";
    let (states, status) = course(file, &[("a", BAD)], true);
    assert_eq!(states, "aF bS c- fS dS");
    assert_eq!(status, PipelineStatus::Failed);
}

#[test]
fn a_job_with_needs_waits_for_those_alone() {
    let file = "a: {stage: build, script: x}
b: {stage: build, script: x}
c: {script: x, needs: [a]}
d: {script: x}
e: {stage: deploy, script: x, needs: []}";
    let pipeline = parse("f", file).unwrap();
    let mut schedule = Schedule::new(&pipeline, NonZeroUsize::new(9).unwrap());
    assert_eq!(schedule.start(), [0, 1, 4]);
    schedule.finish(0, OK);
    assert_eq!(schedule.start(), [2]);
    schedule.finish(1, OK);
    assert_eq!(schedule.start(), [3]);
}

#[test]
fn a_need_that_was_not_chosen_to_run_is_not_waited_for() {
    let file = "a: {stage: build, script: x}\nb: {script: x, needs: [a]}";
    let pipeline = parse("f", file).unwrap().select(&["b"]).unwrap();
    let mut schedule = Schedule::new(&pipeline, NonZeroUsize::MIN);
    assert_eq!(schedule.start(), [0]);
}

#[test]
fn a_skipped_job_names_those_that_kept_it_from_running() {
    let file = "a: {stage: build, script: x}
b: {stage: build, script: x}
c: {script: x, needs: [a]}
d: {script: x}
e: {stage: deploy, script: x, needs: [c]}
f: {stage: deploy, script: x, needs: [b], when: on_failure}";
    let pipeline = parse("f", file).unwrap();
    let mut schedule = Schedule::new(&pipeline, NonZeroUsize::new(9).unwrap());
    schedule.start();
    schedule.finish(0, BAD);
    schedule.finish(1, OK);
    let why: Vec<_> = (2..6).map(|job| schedule.skipped_for(job)).collect();
    assert_eq!(why, [vec![0], vec![0], vec![2], vec![]]);
}
