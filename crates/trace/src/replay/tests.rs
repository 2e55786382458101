//! What is skipped, and where a log that differs goes on.

use proptest::prelude::*;

use super::*;
use crate::processor::StreamState;

/// What the spool remembers after it consumed `log` in pushes that end at `ends`.
fn remembered(log: &[u8], ends: &[usize]) -> (Consumed, Places) {
    let (mut consumed, mut places) = (Consumed::default(), Places::default());
    for end in ends {
        consumed = at(log, *end);
        places.note(&consumed);
    }
    (consumed, places)
}

fn at(log: &[u8], end: usize) -> Consumed {
    let in_line = end > 0 && log[end - 1] != b'\n';
    let state = if in_line { r#"{"l":true}"# } else { "{}" };
    let state: StreamState = serde_json::from_str(state).unwrap();
    assert_eq!(state.at_line_start(), !in_line);
    Consumed {
        bytes: end as u64,
        checksum: crc32fast::hash(&log[..end]),
        state,
    }
}

/// Replays `log` in pieces of `size`: seam, offset and all bytes that are passed on.
fn replayed(
    log: &[u8],
    size: usize,
    (consumed, places): (Consumed, Places),
) -> Option<(Seam, u64, Vec<u8>)> {
    let mut skipper = ReplaySkipper::new(&consumed, &places);
    let mut pieces = log.chunks(size);
    while let Some(piece) = pieces.next() {
        if let Some(resumed) = skipper.push(piece) {
            let place = usize::try_from(resumed.offset).unwrap();
            assert_eq!(resumed.checksum, crc32fast::hash(&log[..place]));
            let mut bytes = resumed.bytes.into_owned();
            bytes.extend(pieces.flatten());
            return Some((resumed.seam, resumed.offset, bytes));
        }
    }
    None
}

/// Numbered lines of 10 bytes.
fn numbered(lines: std::ops::Range<usize>) -> Vec<u8> {
    lines
        .flat_map(|line| format!("{line:09}\n").into_bytes())
        .collect()
}

#[test]
fn an_equal_log_goes_on_right_behind_what_was_consumed() {
    let log = numbered(0..1000);
    for size in [1, 7, 1000, 100_000] {
        let found = replayed(&log, size, remembered(&log, &[5000, 9993]));
        assert_eq!(found, Some((Seam::Exact, 9993, log[9993..].to_vec())));
    }
    let all = replayed(&log, 100, remembered(&log, &[]));
    assert_eq!(
        all,
        Some((Seam::Exact, 0, log.clone())),
        "nothing was consumed"
    );
}

#[test]
fn a_shorter_log_gives_nothing() {
    let log = numbered(0..1000);
    assert_eq!(replayed(&log[..9000], 64, remembered(&log, &[9990])), None);
}

#[test]
fn a_log_that_differs_goes_on_at_the_last_common_line_break() {
    let read = numbered(0..4000);
    let ends: Vec<usize> = (1..=30).map(|push| push * 1000).chain([30_005]).collect();
    let mut log = read.clone();
    log[26_001] = b'x';
    for size in [1, 64, 100_000] {
        let (seam, offset, bytes) = replayed(&log, size, remembered(&read, &ends)).unwrap();
        assert_eq!(seam, Seam::CommonLine);
        assert!(
            (20_000..=26_000).contains(&offset) && offset % 10 == 0,
            "{offset}"
        );
        let place = usize::try_from(offset).unwrap();
        assert_eq!(bytes, log[place..], "from there on all is passed on");
    }
}

#[test]
fn a_small_log_that_differs_from_its_start_is_repeated_whole() {
    let read = numbered(0..100);
    let mut log = read.clone();
    log[0] = b'x';
    let found = replayed(&log, 64, remembered(&read, &[500]));
    assert_eq!(found, Some((Seam::CommonLine, 0, log)));
}

#[test]
fn a_large_log_that_differs_from_its_start_goes_on_at_the_line_of_the_count() {
    let read = numbered(0..100_000);
    let mut log = read.clone();
    log[0] = b'x';
    for size in [4096, 10_000_000] {
        let found = replayed(&log, size, remembered(&read, &[400_000, 900_004])).unwrap();
        assert_eq!(found, (Seam::Unknown, 900_000, log[900_000..].to_vec()));
    }
}

#[test]
fn the_memory_of_a_skipper_is_bounded() {
    let (consumed, places) = remembered(&vec![b'x'; 4_000_000], &[4_000_000]);
    let mut skipper = ReplaySkipper::new(&consumed, &places);
    for _ in 0..100 {
        assert_eq!(skipper.push(&[b'y'; 30_000]), None);
        assert!(skipper.window.capacity() <= 2 * WINDOW);
    }
}

#[test]
fn places_are_few_apart_and_at_line_breaks() {
    let log = numbered(0..10_000);
    let ends: Vec<usize> = (1..10_000).map(|line| line * 10 - line % 2).collect();
    let (consumed, places) = remembered(&log, &ends);
    let places = places.to_vec();
    assert!(places.len() <= PLACES && places.len() > 2, "{places:?}");
    assert!(places.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(
        places
            .windows(3)
            .all(|three| three[2].0 - three[0].0 >= APART)
    );
    assert!(places.iter().all(|place| place.0 % 10 == 0));
    assert!(consumed.bytes - places[0].0 >= 2 * APART);
}

#[test]
fn places_past_a_lower_count_are_forgotten() {
    let log = numbered(0..2000);
    let (_, mut places) = remembered(&log, &[5000, 10_000, 15_000]);
    places.note(&at(&log, 7000));
    assert!(places.to_vec().iter().all(|place| place.0 <= 7000));
}

proptest! {
    #[test]
    fn any_log_is_passed_on_from_a_line_both_have_in_common(
        same in 0_usize..600,
        other in prop::collection::vec("[ab\n]", 0..300),
        ends in prop::collection::vec(1_usize..5000, 1..8),
        size in 1_usize..2000,
    ) {
        let read = numbered(0..500);
        let mut ends = ends;
        ends.sort_unstable();
        let mut log = read[..(same * 10).min(read.len())].to_vec();
        log.extend(other.concat().into_bytes());
        let known = remembered(&read, &ends);
        let consumed = usize::try_from(known.0.bytes).unwrap();
        match replayed(&log, size, known) {
            None => prop_assert!(log.len() < consumed),
            Some((Seam::Exact, offset, bytes)) => {
                prop_assert_eq!(offset, consumed as u64);
                prop_assert_eq!(&log[..consumed], &read[..consumed]);
                prop_assert_eq!(bytes, &log[consumed..]);
            }
            Some((_, offset, bytes)) => {
                let place = usize::try_from(offset).unwrap();
                prop_assert_eq!(&log[..place], &read[..place]);
                prop_assert!(place == 0 || log[place - 1] == b'\n');
                prop_assert_eq!(bytes, &log[place..]);
            }
        }
    }
}
