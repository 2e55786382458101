//! Output and consumed place under any cutting of the raw bytes.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::testing::{joined_lines, raw_stream, repaired};
use crate::{Phrase, default_token_prefixes};

const MARK: &str = "start-mark-0af3\n";

fn masks() -> Arc<MaskSet> {
    let phrases = vec![
        Phrase::secret("secret"),
        Phrase::secret("secret_suffix"),
        Phrase::secret("two\nlines"),
        Phrase::start_mark(MARK),
    ];
    Arc::new(MaskSet::new(phrases, &default_token_prefixes(true)))
}

fn stamp() -> Stamp {
    Stamp::new("2026-01-02T03:04:05.123456Z".parse().unwrap())
}

fn run(timestamps: bool, pieces: &[&[u8]]) -> String {
    let mut processor = StreamProcessor::new(Stream::Stdout, timestamps, masks());
    let mut out = Vec::new();
    for piece in pieces {
        processor.push(piece, &stamp(), &mut out);
    }
    processor.close(&stamp(), &mut out);
    let all: usize = pieces.iter().map(|piece| piece.len()).sum();
    assert_eq!(
        processor.consumed().bytes,
        all as u64,
        "the end consumes all"
    );
    assert_eq!(
        processor.consumed().checksum,
        crc32fast::hash(&pieces.concat())
    );
    String::from_utf8(out).unwrap()
}

fn pieces<'a>(raw: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut all) = (raw, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).clamp(1, rest.len()));
        all.push(piece);
        rest = after;
    }
    all
}

#[test]
fn a_secret_in_a_token_in_a_parameter_is_masked_in_order() {
    let raw = b"secret ?rss_token=glpat-secret glpat-secret glrt-x\xff\n";
    assert_eq!(
        run(false, &[raw]),
        "[MASKED] ?rss_token=[MASKED] glpat-[MASKED] glrt-[MASKED]\u{fffd}\n"
    );
}

#[test]
fn what_may_become_a_secret_is_not_consumed_and_comes_out_at_the_end() {
    let mut processor = StreamProcessor::new(Stream::Stdout, false, masks());
    let mut out = Vec::new();
    assert_eq!(processor.push(b"a secr", &stamp(), &mut out).bytes, 2);
    assert_eq!(out, b"a ");
    assert_eq!(processor.push(b"et_s", &stamp(), &mut out).bytes, 2);
    assert_eq!(out, b"a ", "a longer secret may come");
    assert_eq!(processor.push(b"!", &stamp(), &mut out).bytes, 11);
    assert_eq!(out, b"a [MASKED]_s!");
    assert_eq!(processor.push(b"secre", &stamp(), &mut out).bytes, 11);
    assert_eq!(processor.close(&stamp(), &mut out).bytes, 16);
    assert_eq!(out, b"a [MASKED]_s!secre");
}

#[test]
fn with_timestamps_an_unfinished_line_is_not_consumed() {
    let mut processor = StreamProcessor::new(Stream::Stdout, true, masks());
    let mut out = Vec::new();
    let consumed = processor.push(b"one\ntwo", &stamp(), &mut out);
    assert_eq!(
        (consumed.bytes, consumed.checksum),
        (4, crc32fast::hash(b"one\n"))
    );
    assert_eq!(consumed.state, StreamState::default());
    assert_eq!(processor.push(b" secr", &stamp(), &mut out).bytes, 4);
    let consumed = processor.push(b"et\n", &stamp(), &mut out);
    assert_eq!(consumed.bytes, 15);
    assert_eq!(joined_lines(&out)["01O"], "one\ntwo [MASKED]\n");
}

#[test]
fn the_start_mark_is_reported_consumed_and_not_shown() {
    let mut processor = StreamProcessor::new(Stream::Stdout, true, masks());
    let mut out = Vec::new();
    let (first, second) = MARK.split_at(7);
    processor.push(first.as_bytes(), &stamp(), &mut out);
    assert_eq!(processor.start_marks(), 0);
    let consumed = processor
        .push(second.as_bytes(), &stamp(), &mut out)
        .clone();
    assert_eq!(processor.start_marks(), 1);
    assert_eq!(consumed.bytes, MARK.len() as u64);
    assert!(consumed.state.start_marks() == 1 && out.is_empty());
    let resumed = StreamProcessor::resume(Stream::Stdout, true, masks(), consumed);
    assert_eq!(resumed.start_marks(), 1);
}

#[test]
fn past_the_limit_all_is_consumed_and_a_start_mark_still_found() {
    let mut processor = StreamProcessor::new(Stream::Stdout, true, masks());
    let mut out = Vec::new();
    processor.push(b"open line ", &stamp(), &mut out);
    assert_eq!(processor.drain(b"and more\nstart-mark").bytes, 19);
    assert_eq!(processor.start_marks(), 0);
    assert_eq!(processor.drain(b"-0af3\nafter").bytes, 40);
    assert!(processor.start_marks() == 1 && out.is_empty());
    let raw = b"open line and more\nstart-mark-0af3\nafter";
    assert_eq!(processor.consumed().checksum, crc32fast::hash(raw));
    assert_eq!(
        processor.drain(b" start-").bytes,
        41,
        "a container may run several scripts, each with its mark"
    );
}

#[test]
fn a_secret_added_while_its_beginning_is_held_back_is_masked() {
    let mut processor = StreamProcessor::new(Stream::Stdout, false, masks());
    let mut out = Vec::new();
    processor.push(b"say two\nl", &stamp(), &mut out);
    let more = masks().with([Phrase::secret("two\nlegs"), Phrase::secret("late")]);
    processor.set_masks(Arc::new(more));
    processor.push(b"egs late", &stamp(), &mut out);
    processor.close(&stamp(), &mut out);
    assert_eq!(out, b"say [MASKED] [MASKED]");
}

#[rstest]
#[case::token_without_end("glpat-", b'a')]
#[case::value_without_end("?rss_token=", b'a')]
fn a_masked_run_without_end_is_consumed_without_filling_memory(
    #[case] start: &str,
    #[case] byte: u8,
) {
    let mut processor = StreamProcessor::new(Stream::Stdout, true, masks());
    let mut out = Vec::new();
    processor.push(start.as_bytes(), &stamp(), &mut out);
    let mut pushed = start.len() as u64;
    for _ in 0..64 {
        processor.push(&[byte; 8192], &stamp(), &mut out);
        pushed += 8192;
        assert!(pushed - processor.consumed().bytes <= LONGEST_UNCONSUMED + 8192);
    }
    let mut resumed =
        StreamProcessor::resume(Stream::Stdout, true, masks(), processor.consumed().clone());
    resumed.push(b"aaa end\n", &stamp(), &mut out);
    assert_eq!(joined_lines(&out)["01O"], format!("{start}[MASKED] end\n"));
}

#[test]
fn a_secret_split_at_8_kib_is_masked_and_a_character_there_is_whole() {
    for before in 8170..8200 {
        let raw = format!("{}secret\u{20ac}\u{20ac} end\n", "x".repeat(before));
        for at in before..before + 12 {
            let (first, second) = raw.as_bytes().split_at(at);
            let text = run(true, &[first, second]);
            let expected = format!("{}[MASKED]\u{20ac}\u{20ac} end\n", "x".repeat(before));
            assert_eq!(joined_lines(text.as_bytes())["01O"], expected);
        }
    }
}

proptest! {
    #[test]
    fn output_without_timestamps_does_not_depend_on_the_pushes(
        raw in raw_stream(),
        sizes in prop::collection::vec(1_usize..20, 1..6),
    ) {
        let whole = run(false, &[&raw]);
        prop_assert_eq!(run(false, &pieces(&raw, &sizes)), whole.clone());
        // A mark that vanishes may bring two halves together.
        let marked = raw.windows(MARK.len()).any(|part| part == MARK.as_bytes());
        prop_assert!(marked || !whole.contains("secret"));
    }

    #[test]
    fn text_of_timestamped_output_does_not_depend_on_the_pushes(
        raw in raw_stream(),
        sizes in prop::collection::vec(1_usize..20, 1..6),
    ) {
        let lines = run(true, &pieces(&raw, &sizes));
        let mut text = joined_lines(lines.as_bytes()).remove("01O").unwrap_or_default();
        let mut plain = run(false, &[&raw]);
        if !plain.is_empty() && !plain.ends_with('\n') {
            plain.push('\n');
        }
        // A stream that ends in `\r` at a flush has no more line break than one that does not.
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        prop_assert_eq!(text, plain);
    }

    #[test]
    fn a_processor_goes_on_at_any_consumed_place_as_if_never_stopped(
        timestamps in any::<bool>(),
        raw in raw_stream(),
        sizes in prop::collection::vec(1_usize..20, 1..6),
        stop in any::<prop::sample::Index>(),
        again in prop::collection::vec(1_usize..20, 1..6),
    ) {
        let all = pieces(&raw, &sizes);
        let stop = stop.index(all.len() + 1);
        let (mut first, mut out) = (StreamProcessor::new(Stream::Stdout, timestamps, masks()), Vec::new());
        for piece in &all[..stop] {
            first.push(piece, &stamp(), &mut out);
        }
        let consumed = first.consumed().clone();
        let place = usize::try_from(consumed.bytes).unwrap();
        prop_assert_eq!(consumed.checksum, crc32fast::hash(&raw[..place]));
        prop_assert_eq!(
            consumed.state.at_line_start(),
            place == 0 || raw[place - 1] == b'\n'
        );
        let json = serde_json::to_string(&consumed.state).unwrap();
        prop_assert!(!json.contains("secret"), "{}", json);
        let state = serde_json::from_str(&json).unwrap();
        let consumed = Consumed { state, ..consumed };

        let mut second = StreamProcessor::resume(Stream::Stdout, timestamps, masks(), consumed);
        for piece in pieces(&raw[place..], &again) {
            second.push(piece, &stamp(), &mut out);
        }
        second.close(&stamp(), &mut out);
        prop_assert_eq!(second.consumed().checksum, crc32fast::hash(&raw));
        let whole = run(timestamps, &[&raw]);
        if timestamps {
            prop_assert_eq!(joined_lines(&out), joined_lines(whole.as_bytes()));
        } else {
            prop_assert_eq!(String::from_utf8(out).unwrap(), whole);
        }
    }

    #[test]
    fn bytes_without_secrets_are_only_repaired(raw in prop::collection::vec(any::<u8>(), 0..60)) {
        let masks = Arc::new(MaskSet::new(Vec::new(), &[]));
        let mut processor = StreamProcessor::new(Stream::Stdout, false, masks);
        let mut out = Vec::new();
        processor.push(&raw, &stamp(), &mut out);
        processor.close(&stamp(), &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), repaired(&raw));
    }
}
