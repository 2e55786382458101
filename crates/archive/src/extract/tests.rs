//! Archives that are not what they should be.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
};

use proptest::prelude::*;
use rawzip::{CompressionMethod, DataDescriptorOutput, ZipArchiveWriter, path::EntryPath};
use rstest::rstest;

use super::*;

mod foreign;

/// A project with some files beside which nothing may appear.
pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
    pub(super) root: PathBuf,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("project");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("kept"), "old").unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        Self { dir, root }
    }

    pub(super) fn extract(&self, archive: &[u8]) -> Result<Extracted, ExtractError> {
        extract(staging::scratch(archive).unwrap(), &self.root, 2)
    }

    /// While it arrives, in pieces of some length.
    pub(super) fn extract_arriving(
        &self,
        archive: &[u8],
        piece: usize,
    ) -> Result<Extracted, ExtractError> {
        let growing = Growing::new(staging::scratch(b"").unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (number, bytes) in archive.chunks(piece).enumerate() {
                    let at = (number * piece) as u64;
                    growing.file().write_all_at(bytes, at).unwrap();
                    growing.grow_to(at + bytes.len() as u64);
                }
                growing.finish();
            });
            extract_growing(&growing, &self.root, 2)
        })
    }

    /// The error, after a check that nothing has changed anywhere; of an archive that arrives as well.
    fn refused(&self, archive: &[u8]) -> String {
        let before = listing(self.dir.path());
        let error = self.extract(archive).unwrap_err();
        assert_eq!(listing(self.dir.path()), before, "{error}");
        let arriving = self.extract_arriving(archive, 50).unwrap_err();
        assert_eq!(listing(self.dir.path()), before, "{arriving}");
        assert_eq!(arriving.to_string(), error.to_string());
        error.to_string()
    }
}

pub(super) fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            let content = if found.is_file() {
                fs::read(entry.path()).unwrap()
            } else {
                Vec::new()
            };
            all.push(format!(
                "{} {:o} {content:?}",
                entry.path().display(),
                found.mode()
            ));
            if found.is_dir() {
                left.push(entry.path());
            }
        }
    }
    all.sort();
    all
}

/// Entries of a zip: name, mode, content, as it is.
pub(super) fn zip(entries: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (name, mode, content) in entries {
        let content = content.as_bytes();
        let (mut file, _) = archive
            .new_file(EntryPath::verbatim(name.as_bytes()))
            .unix_permissions(*mode)
            .start()
            .unwrap();
        file.write_all(content).unwrap();
        let crc = crc32fast::hash(content);
        file.finish(DataDescriptorOutput::new(crc, content.len() as u64))
            .unwrap();
    }
    archive.finish().unwrap()
}

/// The same as tar in zstd. Names go into the header as they are.
pub(super) fn tar_zst(entries: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, content) in entries {
        let content = content.as_bytes();
        let mut header = tar::Header::new_old();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(mode & 0o7777);
        header.set_mtime(1_000_000_000);
        if mode & FORMAT == LINK & FORMAT {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(content).unwrap();
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
        } else {
            if mode & FORMAT == 0o040_000 {
                header.set_entry_type(tar::EntryType::Directory);
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
    }
    zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap()
}

const FORMAT: u32 = 0o170_000;
pub(super) const FILE: u32 = 0o100_644;
pub(super) const LINK: u32 = 0o120_777;
pub(super) const DIR: u32 = 0o040_755;

type Entries = &'static [(&'static str, u32, &'static str)];

#[rstest]
#[case::slip(&[("ok", FILE, "x"), ("../outside/evil", FILE, "x")], "../outside/evil cannot be extracted outside of chroot (")]
#[case::slip_in_the_middle(&[("a/../../outside/evil", FILE, "x")], "a/../../outside/evil cannot be extracted outside")]
#[case::absolute(&[("/tmp/evil", FILE, "x")], "/tmp/evil cannot be extracted outside")]
#[case::twice(&[("a", FILE, "x"), ("./a", FILE, "y")], "a: is in the archive twice")]
#[case::file_and_directory(&[("a", FILE, "x"), ("a/b", FILE, "y")], "a/b: lies below a, which is a file in the archive")]
#[case::through_its_own_link(&[("a", LINK, "../outside"), ("a/evil", FILE, "y")], "a/evil: lies below a, which is a link in the archive")]
#[case::through_its_own_link_deep(&[("a", LINK, "/"), ("a/b/c/evil", FILE, "y")], "a/b/c/evil: lies below a, which is a link in the archive")]
#[case::directory_in_the_way(&[("full", FILE, "x")], "full: there is a directory in the place of this file")]
#[case::link_over_a_full_directory(&[("full", LINK, "x")], "full: there is a directory in the place of this link")]
#[case::file_in_the_way(&[("kept/b", FILE, "x")], "kept/b: there is a file or link in the place of one of its directories")]
#[case::directory_over_a_file(&[("kept/", DIR, "")], "kept: there is a file in the place of this directory")]
#[case::through_a_link_of_the_tree(&[("out/evil", FILE, "x")], "out/evil cannot be extracted outside")]
#[case::through_a_link_of_the_tree_deep(&[("out/new/evil", FILE, "x")], "out/new/evil cannot be extracted outside")]
#[case::directory_over_a_link_out(&[("out/", DIR, "")], "out cannot be extracted outside")]
#[case::link_to_nowhere(&[("l", LINK, "")], "l: the link leads nowhere")]
fn hostile_archives_are_refused_by_name_and_nothing_changes(
    #[case] entries: Entries,
    #[case] expected: &str,
) {
    let place = Place::new();
    symlink("../outside", place.root.join("out")).unwrap();
    fs::create_dir(place.root.join("full")).unwrap();
    fs::write(place.root.join("full/inner"), "i").unwrap();
    for archive in [zip(entries), tar_zst(entries)] {
        let error = place.refused(&archive);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let place = Place::new();
    let long = "x".repeat(256);
    let error = place.refused(&zip(&[(&long, FILE, "")]));
    assert!(
        error.ends_with("the name is too long (256 bytes)"),
        "{error}"
    );
    let deep = "d/".repeat(2100) + "f";
    assert!(
        place
            .refused(&zip(&[(&deep, FILE, "")]))
            .contains("the path is too long")
    );
    assert!(
        place
            .refused(&zip(&[("a\0b", FILE, "")]))
            .contains("a\\u{0}b: the name holds a zero byte")
    );
    assert!(
        place
            .refused(&zip(&[("", FILE, "")]))
            .contains("archive is damaged: an entry has no name")
    );
}

#[test]
fn links_may_lead_anywhere_but_nothing_is_written_through_them() {
    let place = Place::new();
    symlink("/etc/hostname", place.root.join("replaced")).unwrap();
    fs::create_dir(place.root.join("empty")).unwrap();
    let entries: Entries = &[
        ("to passwd", LINK, "/etc/passwd"),
        ("up", LINK, "../../.."),
        ("replaced", FILE, "new"),
        ("empty", LINK, "x"),
        ("kept", LINK, "elsewhere"),
    ];
    for archive in [zip(entries), tar_zst(entries)] {
        place.extract(&archive).unwrap();
        assert_eq!(
            fs::read_link(place.root.join("to passwd")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert!(
            fs::symlink_metadata(place.root.join("replaced"))
                .unwrap()
                .is_file()
        );
        assert_eq!(
            fs::read_link(place.root.join("kept")).unwrap(),
            Path::new("elsewhere")
        );
        // Again over itself.
        place.extract(&archive).unwrap();
    }
}

#[test]
fn a_link_of_the_tree_that_stays_inside_is_followed_as_a_directory() {
    let place = Place::new();
    fs::create_dir(place.root.join("real")).unwrap();
    symlink("real", place.root.join("link")).unwrap();
    place
        .extract(&zip(&[("link/", DIR, ""), ("link/f", FILE, "x")]))
        .unwrap();
    assert_eq!(fs::read(place.root.join("real/f")).unwrap(), b"x");
    assert!(
        fs::symlink_metadata(place.root.join("link"))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn files_are_replaced_read_only_ones_too_and_what_is_not_in_the_archive_stays() {
    let place = Place::new();
    fs::write(place.root.join("other"), "stays").unwrap();
    fs::set_permissions(place.root.join("kept"), fs::Permissions::from_mode(0o444)).unwrap();
    let hard = place.root.join("hard");
    fs::hard_link(place.root.join("kept"), &hard).unwrap();
    place
        .extract(&zip(&[("kept", 0o100_755, "new"), ("a/b/c", FILE, "deep")]))
        .unwrap();
    assert_eq!(fs::read(place.root.join("kept")).unwrap(), b"new");
    assert_eq!(
        fs::metadata(place.root.join("kept")).unwrap().mode() & 0o7777,
        0o755
    );
    assert_eq!(
        fs::read(&hard).unwrap(),
        b"old",
        "the other name of a file is another file"
    );
    assert_eq!(fs::read(place.root.join("other")).unwrap(), b"stays");
    let implied = fs::metadata(place.root.join("a/b")).unwrap().mode();
    let usual = fs::metadata(&place.root).unwrap().mode();
    assert_eq!(implied, usual, "parents are made as mkdir makes them");
    let left: Vec<_> = fs::read_dir(&place.root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with(STAGING_PREFIX))
    );
}

#[rstest]
#[case::cut_in_the_list(0.95, "")]
#[case::cut_in_the_data(0.5, "")]
#[case::cut_to_nothing(0.0, "")]
fn a_zip_that_was_cut_short_is_refused(#[case] part: f64, #[case] expected: &str) {
    let place = Place::new();
    let archive = zip(&[
        ("a", FILE, &"x".repeat(5000)),
        ("b", FILE, &"y".repeat(5000)),
    ]);
    let cut = (archive.len() as f64 * part) as usize;
    let error = place.refused(&archive[..cut]);
    assert!(
        error.contains("archive") && error.contains(expected),
        "{error}"
    );
}

#[test]
fn a_tar_zst_that_was_cut_short_or_damaged_is_refused() {
    let place = Place::new();
    let noise: String = (0..20_000_u32)
        .map(|n| char::from(32 + (n.wrapping_mul(2_654_435_761) >> 13) as u8 % 64))
        .collect();
    let mut archive = tar_zst(&[("a", FILE, &noise), ("b", FILE, "x")]);
    for cut in [archive.len() - 1, archive.len() / 2, 10] {
        place.refused(&archive[..cut]);
    }
    place.refused(&zstd::encode_all(&b"this is no tar at all"[..], 1).unwrap());
    let middle = archive.len() / 2;
    archive[middle] ^= 0x55;
    // Without a checksum of the whole a changed byte may go unnoticed by the format; with ours it does not.
    drop(place.extract(&archive));
}

#[test]
fn damaged_data_is_refused_and_the_file_named_although_others_were_good() {
    let place = Place::new();
    let mut archive = zip(&[("good", FILE, "good content"), ("bad", FILE, "bad content")]);
    let at = archive
        .windows(11)
        .position(|bytes| bytes == b"bad content")
        .unwrap();
    archive[at] = b'X';
    assert_eq!(
        place.refused(&archive),
        "bad: its checksum is wrong: its data is damaged"
    );
}

/// One deflated entry with sizes and flags of one's choice.
fn deflated(name: &str, content: &[u8], claimed: u64, encrypted: bool) -> Vec<u8> {
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(content).unwrap();
    let mut archive = ZipArchiveWriter::new(Vec::new());
    let (mut file, _) = archive
        .new_file(name)
        .compression_method(CompressionMethod::DEFLATE)
        .encrypted(encrypted)
        .start()
        .unwrap();
    file.write_all(&packed.finish().unwrap()).unwrap();
    file.finish(DataDescriptorOutput::new(crc32fast::hash(content), claimed))
        .unwrap();
    archive.finish().unwrap()
}

#[test]
fn sizes_that_lie_are_refused() {
    let place = Place::new();
    let zeros = vec![0; 1_000_000];
    assert_eq!(
        place.refused(&deflated("bomb", &zeros, 10_000, false)),
        "bomb: unpacks to more than the 10000 bytes it claims"
    );
    assert_eq!(
        place.refused(&deflated("short", &zeros, 1_000_001, false)),
        "short: has 1000000 of the 1000001 bytes it claims"
    );
    assert!(
        place
            .refused(&deflated("huge", b"x", 1 << 50, false))
            .contains("which is impossible")
    );
    place
        .extract(&deflated("fine", &zeros, 1_000_000, false))
        .unwrap();
}

#[test]
fn what_is_more_than_the_disk_holds_is_refused_and_nothing_of_it_stays() {
    let place = Place::new();
    let large = "a".repeat(300_000);
    staging::FREE.set(Some(500_000));
    for make in [zip, tar_zst] {
        let bomb = make(&[("a", FILE, &large), ("b", FILE, &large)]);
        assert_eq!(
            place.refused(&bomb),
            "the archive unpacks to more than the 500000 bytes that are free"
        );
        let fits = make(&[("a", FILE, &large), ("b", FILE, "b")]);
        place.extract(&fits).unwrap();
        place.extract_arriving(&fits, 50_000).unwrap();
        // Zeros take no room.
        let holes = "\0".repeat(2_000_000);
        place.extract(&make(&[("holes", FILE, &holes)])).unwrap();
        fs::remove_file(place.root.join("holes")).unwrap();
    }
    staging::FREE.set(None);
}

#[test]
fn an_encrypted_file_and_an_unknown_method_are_named() {
    let place = Place::new();
    assert_eq!(
        place.refused(&deflated("secret", b"x", 1, true)),
        "secret: is encrypted"
    );
    let mut archive = ZipArchiveWriter::new(Vec::new());
    let (file, _) = archive
        .new_file("x")
        .compression_method(CompressionMethod::LZMA)
        .start()
        .unwrap();
    file.finish(DataDescriptorOutput::new(0, 0)).unwrap();
    let error = place.refused(&archive.finish().unwrap());
    assert!(
        error.starts_with("x: is compressed by a method that is not supported"),
        "{error}"
    );
}

#[test]
fn a_directory_with_data_is_refused() {
    let place = Place::new();
    for mode in [FILE, DIR] {
        assert_eq!(
            place.refused(&zip(&[("ok", FILE, "x"), ("f/", mode, "data")])),
            "f: is a directory, but has 4 bytes of data"
        );
    }
}

#[test]
fn data_that_serves_two_files_is_refused() {
    let place = Place::new();
    let mut archive = zip(&[("a", FILE, "data"), ("b", FILE, "data")]);
    // The second record of the list shall point to the first file.
    let signature = [b'P', b'K', 1, 2];
    let records: Vec<usize> = (0..archive.len() - 4)
        .filter(|&at| archive[at..at + 4] == signature)
        .collect();
    let offset = records[1] + 42;
    archive[offset..offset + 4].copy_from_slice(&[0; 4]);
    assert_eq!(
        place.refused(&archive),
        "b: shares its data with another file of the archive"
    );
}

#[test]
fn a_list_that_is_shorter_than_it_says_is_refused() {
    let place = Place::new();
    let mut archive = zip(&[("a", FILE, "x")]);
    let end = archive.len() - 22;
    archive[end + 8] = 2;
    archive[end + 10] = 2;
    assert!(
        place
            .refused(&archive)
            .contains("it lists 1 files, but says it has 2")
    );
}

#[test]
fn what_is_no_archive_says_so() {
    let place = Place::new();
    assert!(place.refused(b"").starts_with("not an archive"));
    assert!(
        place
            .refused(b"<html>Sign in</html>")
            .starts_with("not an archive")
    );
    assert_eq!(
        place.refused(b"\x1f\x8b\x08\x00rest"),
        "\"gzip\" format: unsupported archive format"
    );
    assert_eq!(place.extract(&zip(&[])).unwrap(), Extracted::default());
}

/// An entry of some kind with data.
fn raw_entry(kind: u8, name: &str, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut entry = header.as_bytes().to_vec();
    entry.extend_from_slice(data);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

#[rstest]
#[case::name(b'L')]
#[case::target_of_a_link(b'K')]
#[case::attributes(b'x')]
#[case::attributes_of_all(b'g')]
fn names_and_attributes_without_end_are_refused_before_they_fill_the_memory(#[case] kind: u8) {
    let place = Place::new();
    let mut tar = raw_entry(b'0', "first", b"x");
    tar.extend(raw_entry(kind, "long", &vec![b'a'; 5 << 20]));
    tar.extend(raw_entry(b'0', "second", b"x"));
    assert_eq!(
        place.refused(&zstd::encode_all(&tar[..], 1).unwrap()),
        "the archive is damaged: the names and attributes of one entry take more than 4194304 bytes (behind first)"
    );
}

#[test]
fn data_of_what_is_not_unpacked_is_skipped_whatever_its_length() {
    let place = Place::new();
    let long = vec![0; 5 << 20];
    let mut tar = raw_entry(b'6', "pipe", &long);
    tar.extend(raw_entry(b'5', "kept-dir", &long));
    tar.extend(raw_entry(b'5', "kept-dir", &long));
    tar.extend(raw_entry(b'0', "file", b"x"));
    let done = place
        .extract(&zstd::encode_all(&tar[..], 1).unwrap())
        .unwrap();
    assert_eq!((done.entries, done.bytes), (2, 1));
    assert!(!place.root.join("pipe").exists() && place.root.join("file").exists());
}

#[test]
fn a_hundred_thousand_entries_are_unpacked() {
    let place = Place::new();
    let names: Vec<String> = (0..100_000).map(|n| format!("d{}/f{n}", n % 100)).collect();
    let entries: Vec<(&str, u32, &str)> = names.iter().map(|name| (&name[..], FILE, "")).collect();
    let done = place.extract(&zip(&entries)).unwrap();
    assert_eq!(done.entries, 100_000);
    assert_eq!(fs::read_dir(place.root.join("d42")).unwrap().count(), 1000);
}

#[test]
fn pipes_and_devices_of_an_archive_are_left_out() {
    let place = Place::new();
    let done = place
        .extract(&zip(&[
            ("pipe", 0o010_644, ""),
            ("dev", 0o060_644, ""),
            ("f", FILE, ""),
        ]))
        .unwrap();
    assert_eq!(done.entries, 1);
    assert!(!place.root.join("pipe").exists() && place.root.join("f").exists());
}

/// Files and hard links (name, content or target) as tar in zstd.
fn with_hard_links(entries: &[(&str, Result<&str, &str>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, entry) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_mode(0o640);
        header.set_mtime(1_000_000_000);
        let content = entry.unwrap_or_default();
        header.set_size(content.len() as u64);
        if let Err(target) = entry {
            header.set_entry_type(tar::EntryType::Link);
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap()
}

#[test]
fn hard_links_become_files_of_their_own() {
    let place = Place::new();
    let archive = with_hard_links(&[
        ("a", Ok("content")),
        ("dir/b", Err("./a")),
        ("c", Err("dir/b")),
    ]);
    place.extract(&archive).unwrap();
    for name in ["a", "dir/b", "c"] {
        let path = place.root.join(name);
        assert_eq!(fs::read(&path).unwrap(), b"content");
        let found = fs::metadata(&path).unwrap();
        let facts = (found.mode() & 0o7777, found.mtime(), found.nlink());
        assert_eq!(facts, (0o640, 1_000_000_000, 1), "{name}");
    }
}

#[rstest]
#[case::later("b", "is no file before it in the archive")]
#[case::itself("link", "is no file before it in the archive")]
#[case::in_the_tree_only("kept", "is no file before it in the archive")]
#[case::outside("../outside/x", "outside")]
#[case::absolute("/etc/passwd", "outside")]
#[case::nothing("", "no name")]
fn hard_links_to_what_the_archive_has_not_are_refused(
    #[case] target: &str,
    #[case] expected: &str,
) {
    let place = Place::new();
    let entries = [("a", Ok("x")), ("link", Err(target)), ("b", Ok("y"))];
    let error = place.refused(&with_hard_links(&entries));
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_zip_of_a_system_without_modes_gives_usual_ones() {
    let place = Place::new();
    let mut archive = ZipArchiveWriter::new(Vec::new());
    archive.new_dir("d/").create().unwrap();
    let (file, _) = archive.new_file("d/f").start().unwrap();
    file.finish(DataDescriptorOutput::new(0, 0)).unwrap();
    place.extract(&archive.finish().unwrap()).unwrap();
    let usual = fs::metadata(place.root.join("kept")).unwrap().mode();
    assert_eq!(fs::metadata(place.root.join("d/f")).unwrap().mode(), usual);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn garbage_never_panics_and_changes_nothing(data: Vec<u8>) {
        let place = Place::new();
        let before = listing(place.dir.path());
        if place.extract(&data).is_err() {
            prop_assert_eq!(listing(place.dir.path()), before);
        }
    }

    #[test]
    fn a_damaged_archive_is_unpacked_whole_or_not_at_all(at: prop::sample::Index, byte: u8, is_tar: bool) {
        let entries: Entries = &[("dir/", DIR, ""), ("dir/a", FILE, "some text, some text"), ("l", LINK, "dir"), ("b", FILE, "")];
        let mut archive = if is_tar { tar_zst(entries) } else { zip(entries) };
        let at = at.index(archive.len());
        archive[at] = byte;
        let place = Place::new();
        let before = listing(place.dir.path());
        let done = place.extract(&archive);
        if done.is_err() {
            prop_assert_eq!(listing(place.dir.path()), before);
        }
        prop_assert_eq!(fs::read_dir(place.dir.path().join("outside")).unwrap().count(), 0);

        // As one that arrives, it is the same.
        let other = Place::new();
        let arrived = other.extract_arriving(&archive, 40);
        prop_assert_eq!(done.map_err(|error| error.to_string().replace(&place.dir.path().display().to_string(), "")),
            arrived.map_err(|error| error.to_string().replace(&other.dir.path().display().to_string(), "")));
        let below = |place: &Place| -> Vec<String> {
            listing(&place.root).into_iter().map(|line| line.replace(&place.dir.path().display().to_string(), "")).collect()
        };
        prop_assert_eq!(below(&other), below(&place));
    }
}
