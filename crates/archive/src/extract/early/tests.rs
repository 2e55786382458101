//! Archives that are unpacked while they arrive.

use std::{fs, os::unix::fs::FileExt, path::Path, thread, time::Duration};

use rstest::rstest;

use super::*;
use crate::{
    Format, Level,
    extract::{
        extract_growing,
        staging::{STAGING_PREFIX, scratch},
        tests::{DIR, FILE, LINK, Place, listing, tar_zst, zip},
    },
    pack,
    pack::tests::{items, restored, state, tree},
};

fn packed(root: &Path, format: Format, level: Level) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(root, &items(root), format, level, None, 2, &mut archive).unwrap();
    archive
}

fn empty() -> Growing {
    Growing::new(scratch(b"").unwrap())
}

fn add(growing: &Growing, bytes: &[u8]) {
    let held = growing.held();
    growing.file().write_all_at(bytes, held).unwrap();
    growing.grow_to(held + bytes.len() as u64);
}

/// Regular files that wait beside the tree, and their bytes. Entries that vanish while they are read are on their way into the tree.
fn staged(root: &Path) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(root).unwrap().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(STAGING_PREFIX)
        {
            for file in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                files += 1;
                bytes += file.metadata().map_or(0, |found| found.len());
            }
        }
    }
    (files, bytes)
}

/// Looks at the disk until it shows what another thread does: unpacking tells nobody how far it is. The limit ends a test that
/// would hang, and is no measure.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[rstest]
#[case::zip(Format::Zip, Level::Default)]
#[case::zip_without_compression(Format::Zip, Level::Fastest)]
#[case::zip_with_zstd(Format::ZipZstd, Level::Default)]
#[case::tar(Format::TarZstd, Level::Fast)]
fn all_files_are_unpacked_before_the_last_bytes_come_and_none_is_in_the_tree(
    #[case] format: Format,
    #[case] level: Level,
) {
    let tree = tree();
    let archive = packed(tree.path(), format, level);
    let files = items(tree.path())
        .iter()
        .filter(|item| item.kind == crate::Kind::File)
        .count();
    let bytes: u64 = items(tree.path()).iter().map(|item| item.size).sum();
    let place = tempfile::tempdir().unwrap();
    let growing = empty();
    thread::scope(|scope| {
        let extracting = scope.spawn(|| extract_growing(&growing, place.path(), 2));
        let held_back = archive.len() - 4;
        for piece in archive[..held_back].chunks(70_001) {
            add(&growing, piece);
        }
        // Links of a zip are files here; a tar knows better.
        until("everything is staged", || {
            let (found, size) = staged(place.path());
            found >= files && size >= bytes
        });
        let names: Vec<_> = fs::read_dir(place.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "the tree is as it was");
        add(&growing, &archive[held_back..]);
        growing.finish();
        let done = extracting.join().unwrap().unwrap();
        assert_eq!(done.bytes, bytes);
    });
    assert_eq!(state(place.path()), restored(tree.path()));
}

#[test]
fn an_archive_that_breaks_off_leaves_the_tree_and_one_that_begins_anew_is_unpacked_alone() {
    for make in [zip, tar_zst] {
        let old = make(&[("old", FILE, "old"), ("both", FILE, "old")]);
        let new = make(&[
            ("dir/", DIR, ""),
            ("both", FILE, "new"),
            ("l", LINK, "both"),
        ]);
        let place = Place::new();
        let before = listing(place.dir.path());
        let growing = empty();
        thread::scope(|scope| {
            let extracting = scope.spawn(|| extract_growing(&growing, &place.root, 2));
            add(&growing, &old[..old.len() - 1]);
            growing.fail();
            let error = extracting.join().unwrap().unwrap_err();
            assert_eq!(
                error.to_string(),
                "cannot read the archive: the rest of the archive did not come"
            );
        });
        assert_eq!(listing(place.dir.path()), before);

        let growing = empty();
        thread::scope(|scope| {
            let extracting = scope.spawn(|| extract_growing(&growing, &place.root, 2));
            add(&growing, &old[..old.len() - 1]);
            growing.restart();
            growing.file().set_len(0).unwrap();
            add(&growing, &new);
            growing.finish();
            extracting.join().unwrap().unwrap();
        });
        assert_eq!(fs::read(place.root.join("both")).unwrap(), b"new");
        assert!(!place.root.join("old").exists());
        assert_eq!(staged(&place.root), (0, 0));
    }
}

/// As writers that can seek make it: sizes in front of the data.
fn sized_zip(name: &str, raw: &[u8], method: u16, packed: &[u8], large: bool) -> Vec<u8> {
    let crc = crc32fast::hash(raw);
    let mut archive = b"PK\x03\x04\x2d\0\0\0".to_vec();
    archive.extend(method.to_le_bytes());
    archive.extend([0; 4]);
    archive.extend(crc.to_le_bytes());
    let sizes = |archive: &mut Vec<u8>| {
        archive.extend((packed.len() as u32).to_le_bytes());
        archive.extend((raw.len() as u32).to_le_bytes());
    };
    if large {
        archive.extend([0xff; 8]);
    } else {
        sizes(&mut archive);
    }
    archive.extend((name.len() as u16).to_le_bytes());
    archive.extend(if large { 29_u16 } else { 0 }.to_le_bytes());
    archive.extend(name.bytes());
    if large {
        archive.extend(b"UT\x05\0\x01abcd\x01\0\x10\0");
        archive.extend((raw.len() as u64).to_le_bytes());
        archive.extend((packed.len() as u64).to_le_bytes());
    }
    archive.extend(packed);
    let list = archive.len() as u32;
    archive.extend(b"PK\x01\x02\x2d\x03\x2d\0\0\0");
    archive.extend(method.to_le_bytes());
    archive.extend([0; 4]);
    archive.extend(crc.to_le_bytes());
    sizes(&mut archive);
    archive.extend((name.len() as u16).to_le_bytes());
    archive.extend([0; 12]);
    archive.extend([0; 4]);
    archive.extend(name.bytes());
    let len = archive.len() as u32 - list;
    archive.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    archive.extend(len.to_le_bytes());
    archive.extend(list.to_le_bytes());
    archive.extend([0; 2]);
    archive
}

#[rstest]
#[case::stored(STORE, false)]
#[case::deflated(DEFLATE, false)]
#[case::zstd(ZSTD, false)]
#[case::large_form(DEFLATE, true)]
fn files_with_sizes_in_front_are_unpacked_early(#[case] method: u16, #[case] large: bool) {
    let raw = b"text and PK\x07\x08 text, text and text".repeat(3000);
    let packed = match method {
        DEFLATE => {
            let mut encoder =
                flate2::read::DeflateEncoder::new(&raw[..], flate2::Compression::fast());
            let mut packed = Vec::new();
            encoder.read_to_end(&mut packed).unwrap();
            packed
        }
        ZSTD => zstd::encode_all(&raw[..], 1).unwrap(),
        _ => raw.clone(),
    };
    let archive = sized_zip("file", &raw, method, &packed, large);
    let place = Place::new();
    let growing = empty();
    thread::scope(|scope| {
        let extracting = scope.spawn(|| extract_growing(&growing, &place.root, 2));
        add(&growing, &archive[..archive.len() - 3]);
        until("it is staged", || {
            staged(&place.root) == (1, raw.len() as u64)
        });
        add(&growing, &archive[archive.len() - 3..]);
        growing.finish();
        extracting.join().unwrap().unwrap();
    });
    assert_eq!(fs::read(place.root.join("file")).unwrap(), raw);
}

#[test]
fn data_that_looks_like_the_end_of_itself_is_told_from_it() {
    // A descriptor of what is before it, but for its sizes; and one cut by the piece that was read.
    let mut content = b"PK\x07\x08\0\0\0\0\x01\0\0\0\x01\0\0\0PK\x07".to_vec();
    content.extend(vec![b'P'; 300_000]);
    content.extend(b"PK\x07\x08");
    let text = String::from_utf8(content).unwrap();
    let archive = zip(&[("a", FILE, &text), ("b", FILE, "PK")]);
    let place = Place::new();
    let growing = empty();
    thread::scope(|scope| {
        let extracting = scope.spawn(|| extract_growing(&growing, &place.root, 2));
        for piece in archive[..archive.len() - 1].chunks(999) {
            add(&growing, piece);
        }
        until("both are staged", || {
            staged(&place.root) == (2, text.len() as u64 + 2)
        });
        add(&growing, &archive[archive.len() - 1..]);
        growing.finish();
        extracting.join().unwrap().unwrap();
    });
    assert_eq!(fs::read(place.root.join("a")).unwrap(), text.as_bytes());
}

#[test]
fn the_list_is_believed_and_not_the_headers() {
    // The header in front of the file claims another checksum, another name and no size at all.
    let raw = b"content";
    let mut archive = sized_zip("file", raw, STORE, raw, false);
    archive[14..18].copy_from_slice(&[1; 4]);
    archive[22..26].copy_from_slice(&[0; 4]);
    archive[30..34].copy_from_slice(b"../x");
    let place = Place::new();
    let done = place.extract_arriving(&archive, 10).unwrap();
    assert_eq!((done.entries, done.bytes), (1, 7));
    assert_eq!(fs::read(place.root.join("file")).unwrap(), raw);
    assert!(!place.dir.path().join("x").exists());

    // And a file that only a header knows is no file.
    let mut hidden = zip(&[("hidden", FILE, "h")]);
    let list = hidden.windows(4).position(|bytes| bytes == b"PK\x01\x02");
    hidden.truncate(list.unwrap());
    let rest = zip(&[]);
    let archive = [&hidden[..], &rest[..]].concat();
    let place = Place::new();
    place.extract_arriving(&archive, 10).ok();
    assert!(!place.root.join("hidden").exists());
    assert_eq!(staged(&place.root), (0, 0));
}

#[test]
fn two_empty_files_whose_data_is_at_the_same_place_both_come() {
    let mut archive = zip(&[("a", FILE, ""), ("b", FILE, "")]);
    let records: Vec<usize> = (0..archive.len() - 4)
        .filter(|&at| &archive[at..at + 4] == b"PK\x01\x02")
        .collect();
    archive[records[1] + 42..][..4].copy_from_slice(&[0; 4]);
    let place = Place::new();
    let growing = empty();
    thread::scope(|scope| {
        let extracting = scope.spawn(|| extract_growing(&growing, &place.root, 2));
        add(&growing, &archive[..archive.len() - 1]);
        until("both are staged", || staged(&place.root) == (2, 0));
        add(&growing, &archive[archive.len() - 1..]);
        growing.finish();
        extracting.join().unwrap().unwrap();
    });
    assert!(place.root.join("a").exists() && place.root.join("b").exists());
    assert_eq!(staged(&place.root), (0, 0));
}

#[test]
fn a_million_files_unpacked_early_need_less_than_twenty_megabytes() {
    let mut early = Early::default();
    let of = |number: u64| Unpacked {
        data: Data {
            start: number * 50_000,
            end: number * 50_000 + 49_000,
            method: DEFLATE,
            crc: u32::MAX - number as u32,
        },
        size: 100_000,
    };
    let count = 10_000;
    (0..count)
        .map(of)
        .for_each(|unpacked| early.push(&unpacked));
    assert!(early.files.len() as u64 / count < 20);
    assert!(early.iter().eq((0..count).map(of)));
    assert_eq!(early.count as u64, count);
}
