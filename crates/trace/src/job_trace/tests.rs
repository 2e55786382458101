//! A job's log through its door.

use jiff::Timestamp;
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::RUNNER_SOURCE;
use crate::testing::joined_lines;

mod exactly_once;

/// 2026-01-02T03:04:05.123456Z.
fn now() -> Timestamp {
    "2026-01-02T03:04:05.123456Z".parse().unwrap()
}

fn options() -> TraceOptions {
    TraceOptions {
        clock: Clock::fixed(now()),
        ..TraceOptions::default()
    }
}

fn plain() -> TraceOptions {
    TraceOptions {
        timestamps: false,
        ..options()
    }
}

fn text(trace: &JobTrace) -> String {
    let progress = trace.progress();
    let (mut all, mut offset) = (Vec::new(), 0);
    while offset < progress.len {
        let read = trace.read_at(offset, 1000).unwrap();
        assert!(!read.is_empty());
        offset += read.len() as u64;
        all.extend(read);
    }
    assert_eq!(progress.checksum, crc32fast::hash(&all));
    String::from_utf8(all).unwrap()
}

fn written(options: TraceOptions, write: impl FnOnce(&JobTrace)) -> String {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), options).unwrap();
    write(&trace);
    trace.finish().unwrap();
    text(&trace)
}

#[rstest]
#[case(Level::Print, "\x1b[0Ktext\x1b[0;m\n")]
#[case(Level::Info, "\x1b[32;1mtext\x1b[0;m\n")]
#[case(Level::Warning, "\x1b[0;33mWARNING: text\x1b[0;m\n")]
#[case(Level::Error, "\x1b[31;1mERROR: text\x1b[0;m\n")]
fn a_line_of_the_runner_has_the_colours_of_its_level(#[case] level: Level, #[case] line: &str) {
    assert_eq!(written(plain(), |trace| trace.line(level, "text")), line);
}

/// The first and last lines of the sample trace of job-lifecycle §8, with the streams.
#[test]
fn the_sample_trace_comes_out_byte_for_byte() {
    let log = written(options(), |trace| {
        trace.println("Running with gitlab-runner 19.4.0 (abcdef12)");
        trace.println("  on host1 aBcDeFgHi, system ID: s_0123456789ab");
        trace.section_start("prepare_executor", "Preparing the \"docker\" executor");
        trace.println("Using Docker executor with image ruby:3.3 ...");
        trace.section_end("prepare_executor");
        trace.section_start("prepare_script", "Preparing environment");
        let host = b"Running on runner-abcdefghi-project-4-concurrent-0 via host1...\n";
        trace.write("helper", Stream::Stdout, host).unwrap();
        trace.section_end("prepare_script");
        trace.section_start("restore_cache", "Restoring cache");
        let note = b"No URL provided, cache will not be downloaded.\x1b[0;m \n";
        trace.write("helper", Stream::Stderr, note).unwrap();
        trace.section_end("restore_cache");
        trace.infoln("Job succeeded");
    });
    let expected = [
        "00O \x1b[0KRunning with gitlab-runner 19.4.0 (abcdef12)\x1b[0;m",
        "00O \x1b[0K  on host1 aBcDeFgHi, system ID: s_0123456789ab\x1b[0;m",
        "00O section_start:1767323045:prepare_executor\r\x1b[0K",
        "00O+\x1b[0K\x1b[36;1mPreparing the \"docker\" executor\x1b[0;m\x1b[0;m",
        "00O \x1b[0KUsing Docker executor with image ruby:3.3 ...\x1b[0;m",
        "00O section_end:1767323045:prepare_executor\r\x1b[0K",
        "00O+section_start:1767323045:prepare_script\r\x1b[0K",
        "00O+\x1b[0K\x1b[36;1mPreparing environment\x1b[0;m\x1b[0;m",
        "01O Running on runner-abcdefghi-project-4-concurrent-0 via host1...",
        "00O section_end:1767323045:prepare_script\r\x1b[0K",
        "00O+section_start:1767323045:restore_cache\r\x1b[0K",
        "00O+\x1b[0K\x1b[36;1mRestoring cache\x1b[0;m\x1b[0;m",
        "01E No URL provided, cache will not be downloaded.\x1b[0;m ",
        "00O section_end:1767323045:restore_cache\r\x1b[0K",
        "00O+\x1b[32;1mJob succeeded\x1b[0;m",
    ];
    let expected: String = expected
        .iter()
        .map(|line| format!("2026-01-02T03:04:05.123456Z {line}\n"))
        .collect();
    assert_eq!(log, expected);
}

#[test]
fn without_timestamps_markers_and_lines_stand_as_written() {
    let log = written(plain(), |trace| {
        trace.section_start(
            "step_script",
            "Executing \"step_script\" stage of the job script",
        );
        trace.write("c1", Stream::Stdout, b"hello\n").unwrap();
        trace.section_end("step_script");
        trace.infoln("Job succeeded");
    });
    assert_eq!(
        log,
        "section_start:1767323045:step_script\r\x1b[0K\x1b[0K\x1b[36;1mExecuting \"step_script\" \
         stage of the job script\x1b[0;m\x1b[0;m\nhello\nsection_end:1767323045:step_script\r\
         \x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n"
    );
}

#[test]
fn without_sections_only_the_title_is_written() {
    let options = TraceOptions {
        sections: false,
        ..plain()
    };
    let log = written(options, |trace| {
        trace.section_start("get_sources", "Getting source from Git repository");
        trace.section_end("get_sources");
        assert!(!trace.is_empty());
    });
    assert_eq!(
        log,
        "\x1b[0K\x1b[36;1mGetting source from Git repository\x1b[0;m\x1b[0;m\n"
    );
}

#[test]
fn secrets_are_masked_in_lines_of_the_runner_and_over_frames_of_a_container() {
    let options = TraceOptions {
        phrases: vec![Phrase::secret("hunter2")],
        token_prefixes: vec!["company-".to_owned()],
        ..plain()
    };
    let log = written(options, |trace| {
        trace.errorln("login as hunter2 failed");
        let frames: &[(Stream, &[u8])] = &[
            (Stream::Stdout, b"a hunt"),
            (Stream::Stderr, b"company-x"),
            (Stream::Stdout, b"er2 b"),
            (Stream::Stderr, b"yz\n"),
        ];
        trace.write_frames("c1", frames).unwrap();
        trace.add_phrases([Phrase::secret("late")]);
        trace.write("c1", Stream::Stdout, b"late").unwrap();
        trace.println("late");
    });
    assert_eq!(
        log,
        "\x1b[31;1mERROR: login as [MASKED] failed\x1b[0;m\n\
         a company-[MASKED][MASKED] b\n[MASKED]\x1b[0K[MASKED]\x1b[0;m\n"
    );
}

#[test]
fn an_output_limit_of_1_kib_cuts_the_log_says_so_and_consumes_the_rest() {
    let folder = TempDir::new().unwrap();
    let options = TraceOptions {
        limit_bytes: 1024,
        phrases: vec![Phrase::secret("hunter2"), Phrase::start_mark("mark\n")],
        ..plain()
    };
    let trace = JobTrace::create(folder.path(), options.clone()).unwrap();
    // The secret is split by the limit: its mask is cut, it itself is nowhere.
    let raw = format!("{}hunter2{}", "x".repeat(1020), "y".repeat(3000));
    trace.write("c1", Stream::Stdout, raw.as_bytes()).unwrap();
    let len = trace.len();
    let more = trace.write("c1", Stream::Stdout, b"more\nmark\n").unwrap();
    assert_eq!(
        (more.consumed, more.start_marks),
        (raw.len() as u64 + 10, 1)
    );
    assert_eq!(
        trace.position("c1", Stream::Stdout).start_marks,
        1,
        "recorded at once"
    );
    trace.infoln("Job succeeded");
    trace.close_source("c1").unwrap();
    trace.finish().unwrap();
    assert_eq!(trace.len(), len);
    assert_eq!(
        text(&trace),
        format!(
            "{}[MAS\n\x1b[33;1mJob's log exceeded limit of 1024 bytes.\nJob execution will \
             continue but no more output will be collected.\x1b[0;m\n",
            "x".repeat(1020)
        )
    );
    drop(trace);
    let (trace, opened) = JobTrace::open(folder.path(), options).unwrap();
    assert!(opened.finished && opened.len == len);
    assert_eq!(
        trace.position("c1", Stream::Stdout).consumed,
        raw.len() as u64 + 10
    );
}

#[test]
fn the_end_writes_what_was_held_back_and_refuses_more() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), options()).unwrap();
    trace.write("c1", Stream::Stdout, b"no line break").unwrap();
    assert_eq!(trace.len(), 0);
    trace.finish().unwrap();
    trace.finish().unwrap();
    assert!(trace.progress().finished);
    let log = text(&trace);
    trace.println("late");
    let late = trace.write("c1", Stream::Stdout, b"late\n");
    assert!(matches!(late, Err(TraceError::Finished)), "{late:?}");
    assert!(matches!(
        trace.close_source("c1"),
        Err(TraceError::Finished)
    ));
    assert_eq!(text(&trace), log);
    assert_eq!(log, "2026-01-02T03:04:05.123456Z 01O no line break\n");
}

#[test]
fn an_entry_with_a_key_is_written_once_over_restarts() {
    let folder = TempDir::new().unwrap();
    let write = |trace: &JobTrace| {
        [
            trace.section_start_once("prepare/start", "prepare_script", "Preparing"),
            trace.line_once("prepare/image", Level::Print, "Using image"),
            trace.raw_once("prepare/block", b"two\nlines\n"),
            trace.section_end_once("prepare/end", "prepare_script"),
        ]
    };
    let trace = JobTrace::create(folder.path(), plain()).unwrap();
    assert_eq!(write(&trace), [true; 4]);
    assert_eq!(write(&trace), [false; 4]);
    let log = text(&trace);
    drop(trace);
    let (trace, _) = JobTrace::open(folder.path(), plain()).unwrap();
    assert_eq!(write(&trace), [false; 4]);
    assert_eq!(text(&trace), log);
    assert!(trace.line_once("new", Level::Print, "new"));
}

#[test]
fn positions_count_raw_bytes_per_container_and_stream() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), plain()).unwrap();
    let written = trace.write("c1", Stream::Stdout, b"caf\xc3").unwrap();
    assert_eq!(
        written,
        Written {
            consumed: 4,
            start_marks: 0
        }
    );
    trace.write("c1", Stream::Stderr, b"no").unwrap();
    trace.write("c2", Stream::Stdout, b"other").unwrap();
    let position = trace.position("c1", Stream::Stdout);
    assert_eq!(position.consumed, 4);
    assert_eq!(position.raw_checksum, crc32fast::hash(b"caf\xc3"));
    assert_eq!(trace.position("c1", Stream::Stderr).consumed, 2);
    assert_eq!(trace.position("c3", Stream::Stdout), Position::default());
    trace.close_source("c1").unwrap();
    trace.close_source("c1").unwrap();
    assert!(trace.position("c1", Stream::Stdout).closed);
    assert!(!trace.position("c2", Stream::Stdout).closed);
    assert_eq!(text(&trace), "cafnoother\u{fffd}");
    assert!(trace.position(RUNNER_SOURCE, Stream::Executor) == Position::default());
}

#[test]
fn frames_of_one_read_are_one_piece_and_all_are_counted() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), options()).unwrap();
    let long = vec![b'x'; 20_000];
    let frames: &[(Stream, &[u8])] = &[
        (Stream::Stdout, b"10%\r"),
        (Stream::Stdout, b"done\n"),
        (Stream::Stderr, b"note\n"),
        (Stream::Stdout, &long),
        (Stream::Stdout, b"\n"),
        (Stream::Stdout, b"end\n"),
    ];
    trace.write_frames("c1", frames).unwrap();
    trace.write_frames("c1", &[]).unwrap();
    let log = text(&trace);
    assert!(
        log.starts_with("2026-01-02T03:04:05.123456Z 01O 10%\rdone\n"),
        "{log:.200}"
    );
    let texts = joined_lines(log.as_bytes());
    let long = String::from_utf8_lossy(&long);
    assert_eq!(texts["01O"], format!("10%\rdone\n{long}\nend\n"));
    assert_eq!(texts["01E"], "note\n");
    let raw: Vec<u8> = frames
        .iter()
        .filter(|frame| frame.0 == Stream::Stdout)
        .flat_map(|frame| frame.1.to_vec())
        .collect();
    let position = trace.position("c1", Stream::Stdout);
    assert_eq!(
        (position.consumed, position.raw_checksum),
        (raw.len() as u64, crc32fast::hash(&raw))
    );
}

#[test]
fn a_source_that_keeps_its_output_goes_on_at_the_consumed_place() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), options()).unwrap();
    let raw = b"one\ntwo three\n";
    trace.write("agent", Stream::Stdout, &raw[..8]).unwrap();
    for _ in 0..2 {
        trace.begin_at_position("agent");
        let place = usize::try_from(trace.position("agent", Stream::Stdout).consumed).unwrap();
        assert_eq!(place, 4);
        trace
            .write("agent", Stream::Stdout, &raw[place..10])
            .unwrap();
    }
    drop(trace);
    let (trace, _) = JobTrace::open(folder.path(), options()).unwrap();
    trace.write("agent", Stream::Stdout, &raw[4..]).unwrap();
    assert_eq!(
        joined_lines(text(&trace).as_bytes())["01O"],
        "one\ntwo three\n"
    );
}

#[test]
fn a_replay_that_differs_goes_on_at_a_common_line_and_says_so() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), options()).unwrap();
    let lines = |range: std::ops::Range<u32>| -> String {
        range.map(|line| format!("line {line:05}\n")).collect()
    };
    for start in (0..5000).step_by(500) {
        let some = lines(start..start + 500);
        trace.write("c1", Stream::Stdout, some.as_bytes()).unwrap();
    }
    drop(trace);
    let (trace, _) = JobTrace::open(folder.path(), options()).unwrap();
    // The engine's log lost a byte in a line of the last but one push.
    let mut log = lines(0..6000);
    log.remove(4200 * 11 + 3);
    trace.begin_replay("c1");
    for piece in log.as_bytes().chunks(700) {
        trace.write("c1", Stream::Stdout, piece).unwrap();
    }
    let texts = joined_lines(text(&trace).as_bytes());
    let (first, second) = texts["01O"].split_at(5000 * 11);
    assert_eq!(first, lines(0..5000));
    assert_eq!(
        second,
        &log[4000 * 11..],
        "the last two pushes are repeated"
    );
    assert_eq!(
        texts["00O"],
        "\x1b[0;33mWARNING: The container's log differs from what was read before the runner \
         restarted. It goes on at the last line that both have in common; lines may be \
         repeated.\x1b[0;m\n"
    );
    // The next recovery compares with the log as it was replayed.
    trace.begin_replay("c1");
    trace.write("c1", Stream::Stdout, log.as_bytes()).unwrap();
    trace.write("c1", Stream::Stdout, b"end\n").unwrap();
    let again = joined_lines(text(&trace).as_bytes());
    assert_eq!(again["00O"], texts["00O"], "said once");
    assert_eq!(again["01O"], format!("{}end\n", texts["01O"]));
}

#[test]
fn a_warning_about_a_replay_does_not_stick_to_an_open_line() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), plain()).unwrap();
    trace.write("c1", Stream::Stdout, b"one\ntwo").unwrap();
    trace.begin_replay("c1");
    trace
        .write("c1", Stream::Stdout, b"One\ntwo and more\n")
        .unwrap();
    let log = text(&trace);
    assert!(log.starts_with("one\ntwo\n\x1b[0;33mWARNING: "), "{log}");
    assert!(log.ends_with("\x1b[0;m\nOne\ntwo and more\n"), "{log}");
}

#[test]
fn a_full_disk_refuses_raw_output_keeps_lines_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), plain()).unwrap();
    trace.write("c1", Stream::Stdout, b"one ").unwrap();
    trace.lock().spool_for_tests().fill_disk(true);
    trace.write("c1", Stream::Stdout, b"two ").unwrap();
    for _ in 0..3 {
        let full = trace.write("c1", Stream::Stdout, b"three ");
        assert!(matches!(full, Err(TraceError::DiskFull { .. })), "{full:?}");
    }
    trace.println("of the runner");
    assert!(matches!(
        trace.close_source("c1"),
        Err(TraceError::DiskFull { .. })
    ));
    assert_eq!(text(&trace), "one ");
    trace.lock().spool_for_tests().fill_disk(false);
    trace.write("c1", Stream::Stdout, b"three").unwrap();
    assert_eq!(text(&trace), "one two \x1b[0Kof the runner\x1b[0;m\nthree");
    trace.lock().spool_for_tests().fill_disk(true);
    trace.println("last");
    assert!(matches!(trace.finish(), Err(TraceError::DiskFull { .. })));
    assert!(!trace.progress().finished);
    trace.lock().spool_for_tests().fill_disk(false);
    trace.finish().unwrap();
    assert!(trace.progress().finished && text(&trace).ends_with("three\x1b[0Klast\x1b[0;m\n"));
}

#[test]
fn lines_that_wait_for_a_full_disk_are_bounded() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), plain()).unwrap();
    trace.lock().spool_for_tests().fill_disk(true);
    let kept = (0..1000)
        .filter(|line| trace.line_once(&line.to_string(), Level::Print, &"x".repeat(1000)))
        .count();
    assert!((200..400).contains(&kept), "{kept}");
    trace.lock().spool_for_tests().fill_disk(false);
    trace.println("room again");
    assert_eq!(text(&trace).lines().count(), kept + 1);
}

#[tokio::test]
async fn readers_are_told_of_growth_and_of_the_end_in_order() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), plain()).unwrap();
    let mut follow = trace.subscribe();
    let reader = {
        let trace = trace.clone();
        tokio::spawn(async move {
            let (mut all, mut last) = (Vec::new(), TraceProgress::default());
            while !last.finished {
                follow.changed().await.unwrap();
                let now = *follow.borrow_and_update();
                assert!(now.len >= last.len);
                let rest = usize::try_from(now.len - last.len).unwrap();
                all.extend(trace.read_at(last.len, rest).unwrap());
                assert_eq!(crc32fast::hash(&all), now.checksum);
                last = now;
            }
            all
        })
    };
    let mut expected = Vec::new();
    for line in 0..500 {
        let text = format!("line {line}\n");
        trace.write("c1", Stream::Stdout, text.as_bytes()).unwrap();
        expected.extend(text.into_bytes());
        tokio::task::yield_now().await;
    }
    trace.finish().unwrap();
    assert_eq!(reader.await.unwrap(), expected);
}

#[test]
fn a_read_gives_at_most_1_mib() {
    let folder = TempDir::new().unwrap();
    let trace = JobTrace::create(folder.path(), plain()).unwrap();
    trace
        .write("c1", Stream::Stdout, &vec![b'x'; 1_500_000])
        .unwrap();
    assert_eq!(trace.read_at(0, usize::MAX).unwrap().len(), 1024 * 1024);
    assert_eq!(trace.read_at(1_400_000, usize::MAX).unwrap().len(), 100_000);
    assert_eq!(trace.read_at(2_000_000, 10).unwrap(), b"");
}

#[test]
fn debug_output_holds_no_secret() {
    let folder = TempDir::new().unwrap();
    let options = TraceOptions {
        phrases: vec![Phrase::secret("hunter2")],
        ..plain()
    };
    let shown = format!("{options:?}");
    let trace = JobTrace::create(folder.path(), options).unwrap();
    trace.write("c1", Stream::Stdout, b"hunt").unwrap();
    let shown = format!("{shown} {trace:?} {:?}", trace.lock().masks_for_tests());
    assert!(
        !shown.contains("hunt") && !shown.contains("104, 117"),
        "{shown}"
    );
}
