//! What is packed is unpacked the same, in every format, whole or while it arrives.
#![no_main]
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{Seek, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use gantry_archive::{Format, Growing, Level, Wanted, extract, extract_growing, pack, select};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

#[derive(Debug, Arbitrary)]
struct Input {
    entries: Vec<Entry>,
    level: u8,
    piece: u16,
}

#[derive(Debug, Arbitrary)]
struct Entry {
    parents: Vec<u8>,
    name: Vec<u8>,
    mode: u16,
    mtime: u32,
    what: What,
}

#[derive(Debug, Arbitrary)]
enum What {
    Dir,
    Link(Vec<u8>),
    Bytes(Vec<u8>),
    Repeated(Vec<u8>, u16),
    /// Bytes with zeros between them, in KiB.
    Holes(u8, Vec<u8>, u8),
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    for entry in input.entries.iter().take(8) {
        make(&source, entry);
    }
    let found = select(&Wanted {
        root: &source,
        paths: &[".".to_owned()],
        exclude: &[],
        untracked: None,
    });
    let expected = state(&source);
    assert_eq!(found.items.len(), expected.len());
    let level = [
        Level::Fastest,
        Level::Fast,
        Level::Default,
        Level::Slow,
        Level::Slowest,
    ][usize::from(input.level) % 5];
    for format in [Format::Zip, Format::ZipZstd, Format::TarZstd] {
        let mut archive = Vec::new();
        let packed = pack(&source, &found.items, format, level, None, 2, &mut archive).unwrap();
        assert_eq!(packed.entries, expected.len() as u64);
        assert!(packed.shrunk.is_empty());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive).unwrap();
        file.rewind().unwrap();
        let whole = fresh(dir.path(), "whole");
        assert_eq!(extract(file, &whole, 2).unwrap().entries, packed.entries);
        assert_eq!(state(&whole), expected);
        let arriving = fresh(dir.path(), "arriving");
        assert_eq!(
            arrive(&archive, &arriving, usize::from(input.piece) + 1),
            packed.entries
        );
        assert_eq!(state(&arriving), expected);
    }
});

fn fresh(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::remove_dir_all(&path).ok();
    fs::create_dir(&path).unwrap();
    path
}

fn arrive(archive: &[u8], root: &Path, piece: usize) -> u64 {
    use std::os::unix::fs::FileExt;
    let growing = Growing::new(tempfile::tempfile().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            for bytes in archive.chunks(piece.max(archive.len() / 50)) {
                growing.file().write_all_at(bytes, at).unwrap();
                at += bytes.len() as u64;
                growing.grow_to(at);
            }
            growing.finish();
        });
        extract_growing(&growing, root, 2).unwrap().entries
    })
}

fn make(root: &Path, entry: &Entry) {
    let mut path = root.to_owned();
    for parent in entry.parents.iter().take(3) {
        path.push(format!("d{}", parent % 4));
    }
    fs::create_dir_all(&path).ok();
    let name: Vec<u8> = entry
        .name
        .iter()
        .copied()
        .filter(|byte| !b"/\0".contains(byte))
        .take(100)
        .collect();
    if matches!(&name[..], b"" | b"." | b"..") {
        return;
    }
    path.push(OsStr::from_bytes(&name));
    if fs::symlink_metadata(&path).is_ok() {
        return;
    }
    let content = match &entry.what {
        What::Dir => {
            fs::create_dir(&path).ok();
            return;
        }
        What::Link(target) => {
            symlink(OsStr::from_bytes(target), &path).ok();
            return;
        }
        What::Bytes(bytes) => bytes.clone(),
        What::Repeated(bytes, count) => bytes.repeat(usize::from(*count) % 1000),
        What::Holes(before, bytes, after) => {
            let mut content = vec![0; usize::from(*before) << 10];
            content.extend_from_slice(bytes);
            content.resize(content.len() + (usize::from(*after) << 10), 0);
            content
        }
    };
    let Ok(mut file) = File::create(&path) else {
        return;
    };
    file.write_all(&content).unwrap();
    file.set_permissions(fs::Permissions::from_mode(
        u32::from(entry.mode) & 0o777 | 0o400,
    ))
    .unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(entry.mtime.into()))
        .unwrap();
}

/// Names with kinds, modes, times to the second and content; of links only where they lead.
fn state(dir: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut left) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let text = if found.is_symlink() {
                format!("{:?}", fs::read_link(&path).unwrap())
            } else if found.is_dir() {
                left.push(path.clone());
                format!("{:o}", found.mode())
            } else {
                let content = fs::read(&path).unwrap();
                format!(
                    "{:o} {} {} {:08x}",
                    found.mode(),
                    found.mtime(),
                    found.len(),
                    crc32fast::hash(&content)
                )
            };
            all.insert(path.strip_prefix(dir).unwrap().to_owned(), text);
        }
    }
    all
}
