//! The promise: whatever byte the process died at, after a replay each log byte is there once.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::testing::raw_stream;

const MARK: &str = "start-mark-0af3\n";

/// The sources of these tests: each stream shows under a label of its own.
const STREAMS: [(&str, Stream); 3] = [
    ("c1", Stream::Stdout),
    ("c1", Stream::Stderr),
    ("svc", Stream::ServiceStdout),
];

fn options(timestamps: bool, limit_bytes: u64) -> TraceOptions {
    TraceOptions {
        phrases: vec![
            Phrase::secret("secret"),
            Phrase::secret("secret_suffix"),
            Phrase::secret("two\nlines"),
            Phrase::start_mark(MARK),
        ],
        timestamps,
        limit_bytes,
        clock: Clock::fixed(now()),
        ..TraceOptions::default()
    }
}

/// One step of a job: a line of the runner, then a piece of raw output.
#[derive(Debug, Clone)]
struct Step {
    stream: usize,
    len: usize,
}

fn steps(streams: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..streams, 1_usize..40).prop_map(|(stream, len)| Step { stream, len });
    prop::collection::vec(step, 0..30)
}

/// Does the steps, and the rest of each stream in one piece, with a line of the runner before
/// each. What was said before is not said again.
fn run(trace: &JobTrace, raw: &[Vec<u8>], steps: &[Step], lines: bool) {
    let mut rest: Vec<&[u8]> = raw.iter().map(Vec::as_slice).collect();
    let ends = (0..raw.len()).map(|stream| Step {
        stream,
        len: usize::MAX,
    });
    for (number, step) in steps.iter().cloned().chain(ends).enumerate() {
        if lines && number < 10 {
            trace.line_once(&number.to_string(), Level::Print, &format!("step {number}"));
        }
        let (piece, after) = rest[step.stream].split_at(step.len.min(rest[step.stream].len()));
        rest[step.stream] = after;
        let (source, stream) = STREAMS[step.stream];
        trace.write(source, stream, piece).unwrap();
    }
}

fn end(trace: &JobTrace) -> String {
    trace.close_source("c1").unwrap();
    trace.close_source("svc").unwrap();
    trace.finish().unwrap();
    text(trace)
}

/// The files of a log that died in the middle of a write: cut where `cut` says.
fn died(folder: &TempDir, file: &str, cut: prop::sample::Index) -> TempDir {
    let left = TempDir::new().unwrap();
    for name in ["trace", "cursor"] {
        let mut content = fs::read(folder.path().join(name)).unwrap();
        if name == file {
            content.truncate(cut.index(content.len() + 1));
        }
        fs::write(left.path().join(name), content).unwrap();
    }
    left
}

/// Runs a job that dies `deaths.len()` times, each time with a file cut, and replays its streams
/// with other pieces each time.
fn run_with_deaths(
    options: &TraceOptions,
    raw: &[Vec<u8>],
    lines: bool,
    lives: &[(Vec<Step>, bool, prop::sample::Index)],
    last: &[Step],
) -> String {
    let mut folder = TempDir::new().unwrap();
    for (steps, cut_trace, cut) in lives {
        let (trace, _) = JobTrace::open(folder.path(), options.clone()).unwrap();
        trace.begin_replay("c1");
        trace.begin_replay("svc");
        run(&trace, raw, steps, lines);
        drop(trace);
        let file = if *cut_trace { "trace" } else { "cursor" };
        folder = died(&folder, file, *cut);
    }
    let (trace, _) = JobTrace::open(folder.path(), options.clone()).unwrap();
    trace.begin_replay("c1");
    trace.begin_replay("svc");
    run(&trace, raw, last, lines);
    let mark = raw[0]
        .windows(MARK.len())
        .any(|part| part == MARK.as_bytes());
    assert_eq!(trace.position("c1", Stream::Stdout).start_marks > 0, mark);
    end(&trace)
}

fn lives(streams: usize) -> impl Strategy<Value = Vec<(Vec<Step>, bool, prop::sample::Index)>> {
    prop::collection::vec(
        (steps(streams), any::<bool>(), any::<prop::sample::Index>()),
        1..4,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_log_with_timestamps_is_whole_after_deaths_at_any_byte(
        raw in prop::collection::vec(raw_stream(), 3),
        lives in lives(3),
        last in steps(3),
    ) {
        let options = options(true, 1 << 20);
        let once = TempDir::new().unwrap();
        let trace = JobTrace::create(once.path(), options.clone()).unwrap();
        run(&trace, &raw, &[], true);
        let mut expected = joined_lines(end(&trace).as_bytes());
        let log = run_with_deaths(&options, &raw, true, &lives, &last);
        let mut texts = joined_lines(log.as_bytes());
        // Later steps say lines that the run without steps had no reason to.
        let said = texts.remove("00O").unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let numbers: Vec<String> = (0..lines.len()).map(|line| format!("\x1b[0Kstep {line}\x1b[0;m")).collect();
        prop_assert_eq!(lines, numbers, "each line of the runner is there once, in order");
        expected.remove("00O");
        prop_assert_eq!(texts, expected);
    }

    #[test]
    fn a_plain_log_is_the_same_to_the_byte_after_deaths_at_any_byte(
        raw in prop::collection::vec(raw_stream(), 1),
        limit in prop::option::of(0_u64..300),
        lives in lives(1),
        last in steps(1),
    ) {
        let options = options(false, limit.unwrap_or(1 << 20));
        let once = TempDir::new().unwrap();
        let trace = JobTrace::create(once.path(), options.clone()).unwrap();
        run(&trace, &raw, &[], false);
        let expected = end(&trace);
        prop_assert_eq!(run_with_deaths(&options, &raw, false, &lives, &last), expected);
    }
}

/// Not chosen at random: every byte of both files of one log.
#[test]
fn every_byte_is_a_good_place_to_die() {
    let raw = [
        b"one secr\xe2\x82\xac\ntwo \xe2\x82\rthree glpat-ab\nstart-mark-0af3\nend secret".to_vec(),
    ];
    let steps: Vec<Step> = [6, 4, 3, 9, 2, 5, 8, 30]
        .map(|len| Step { stream: 0, len })
        .to_vec();
    for timestamps in [true, false] {
        let options = options(timestamps, 1 << 20);
        let folder = TempDir::new().unwrap();
        let trace = JobTrace::create(folder.path(), options.clone()).unwrap();
        run(&trace, &raw, &steps, false);
        let read = |name| fs::read(folder.path().join(name)).unwrap();
        let files = [("trace", read("trace")), ("cursor", read("cursor"))];
        let expected = end(&trace);
        for (cut_name, content) in &files {
            for cut in 0..=content.len() {
                let left = TempDir::new().unwrap();
                for (name, content) in &files {
                    let len = if name == cut_name { cut } else { content.len() };
                    fs::write(left.path().join(name), &content[..len]).unwrap();
                }
                let (trace, _) = JobTrace::open(left.path(), options.clone()).unwrap();
                trace.begin_replay("c1");
                run(&trace, &raw, &[], false);
                assert_eq!(trace.position("c1", Stream::Stdout).start_marks, 1);
                let log = end(&trace);
                if timestamps {
                    let (log, expected) = (log.as_bytes(), expected.as_bytes());
                    assert_eq!(
                        joined_lines(log),
                        joined_lines(expected),
                        "{cut_name} cut at {cut}"
                    );
                } else {
                    assert_eq!(log, expected, "{cut_name} cut at {cut}");
                }
            }
        }
    }
}
