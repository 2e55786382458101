//! Archives from anywhere are unpacked below their root, or refused with the tree as it was: whole or while they arrive, to the same
//! end. The first byte says what the rest is: an archive; a tar, whose checksums are mended and which is packed; or choices that make
//! a zip or a tar of names that get in each other's way.
#![no_main]
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, symlink},
    path::{Path, PathBuf},
};

use gantry_archive::{ExtractError, Extracted, Growing, extract, extract_growing};
use libfuzzer_sys::arbitrary::{self, Unstructured};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let archive = match kind % 4 {
        0 => data.to_vec(),
        1 => tar_of(data),
        2 => made(data, zip).unwrap_or_default(),
        _ => made(data, tar).unwrap_or_default(),
    };
    let (whole, arriving) = (Place::new(), Place::new());
    let done = whole.check(|root| extract(file(&archive), root, 1));
    let arrived = arriving.check(|root| {
        let growing = Growing::new(file(&[]));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (number, piece) in archive.chunks(100).enumerate() {
                    let at = number as u64 * 100;
                    growing.file().write_all_at(piece, at).unwrap();
                    growing.grow_to(at + piece.len() as u64);
                }
                growing.finish();
            });
            extract_growing(&growing, root, 1)
        })
    });
    assert_eq!(done.is_ok(), arrived.is_ok(), "{done:?} {arrived:?}");
    assert_eq!(state(&whole.root), state(&arriving.root));
});

/// A tree with links in it, and something beside it.
struct Place {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for made in ["root/full", "outside"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        for file in ["root/kept", "root/full/inner", "outside/precious"] {
            fs::write(dir.path().join(file), "old").unwrap();
        }
        symlink("../outside", root.join("out")).unwrap();
        symlink("full", root.join("in")).unwrap();
        Self { dir, root }
    }

    fn check(
        &self,
        extract: impl FnOnce(&Path) -> Result<Extracted, ExtractError>,
    ) -> Result<Extracted, ExtractError> {
        let outside = self.dir.path().join("outside");
        let (before, beside) = (state(&self.root), state(&outside));
        let done = extract(&self.root);
        assert_eq!(state(&outside), beside, "what lies outside");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2);
        match &done {
            Ok(_) | Err(ExtractError::Place { .. }) => {}
            Err(error) => assert_eq!(state(&self.root), before, "{error}"),
        }
        if let Err(error) = &done {
            let text = error.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.len() < 4000);
        }
        done
    }
}

/// Everything below a directory: names, kinds, modes, times, content.
fn state(dir: &Path) -> Vec<String> {
    let (mut all, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for entry in entries.flatten() {
            let (path, found) = (entry.path(), entry.metadata().unwrap());
            let content = if found.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else if found.is_file() {
                fs::read(&path).unwrap()
            } else {
                left.push(path.clone());
                Vec::new()
            };
            let name = path.strip_prefix(dir).unwrap();
            all.push(format!("{name:?} {:o} {content:?}", found.mode()));
        }
    }
    all.sort();
    all
}

fn file(content: &[u8]) -> fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

/// Headers get the checksums that belong to them, so that more than the first is looked at.
fn tar_of(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).unwrap_or_default();
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at += 512 + size.min(tar.len()).next_multiple_of(512);
    }
    zstd::encode_all(&tar[..], 1).unwrap()
}

#[derive(Clone, Copy, PartialEq, arbitrary::Arbitrary)]
enum Kind {
    File,
    Dir,
    Link,
    Pipe,
}

struct Entry {
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    content: Vec<u8>,
}

fn made(data: &[u8], pack: fn(&[Entry]) -> io::Result<Vec<u8>>) -> Option<Vec<u8>> {
    let mut source = Unstructured::new(data);
    let mut entries = Vec::new();
    while !source.is_empty() && entries.len() < 12 {
        entries.push(entry(&mut source).ok()?);
    }
    pack(&entries).ok()
}

fn entry(source: &mut Unstructured<'_>) -> arbitrary::Result<Entry> {
    Ok(Entry {
        name: name(source)?,
        kind: source.arbitrary()?,
        mode: u32::from(source.arbitrary::<u16>()?) & 0o7777,
        content: if source.arbitrary()? {
            name(source)?
        } else {
            source.arbitrary::<Vec<u8>>()?
        },
    })
}

fn name(source: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    const PARTS: [&[u8]; 12] = [
        b"a", b"b", b"kept", b"full", b"inner", b"out", b"in", b"..", b".", b"", b"\xff\n", b"A",
    ];
    let mut name = Vec::new();
    for _ in 0..source.int_in_range(1..=4)? {
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(source.choose(&PARTS)?);
    }
    if source.ratio(1, 8)? {
        name.push(b'/');
    }
    Ok(name)
}

fn zip(entries: &[Entry]) -> io::Result<Vec<u8>> {
    use rawzip::{DataDescriptorOutput, ZipArchiveWriter, path::EntryPath};
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for entry in entries {
        let kind = match entry.kind {
            Kind::File => 0o100_000,
            Kind::Dir => 0o040_000,
            Kind::Link => 0o120_000,
            Kind::Pipe => 0o010_000,
        };
        let (mut file, _) = archive
            .new_file(EntryPath::verbatim(&entry.name[..]))
            .unix_permissions(kind | entry.mode)
            .start()
            .map_err(io::Error::other)?;
        file.write_all(&entry.content)?;
        let crc = crc32fast::hash(&entry.content);
        file.finish(DataDescriptorOutput::new(crc, entry.content.len() as u64))
            .map_err(io::Error::other)?;
    }
    archive.finish().map_err(io::Error::other)
}

fn tar(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..entry.name.len()].copy_from_slice(&entry.name);
        header.set_mode(entry.mode);
        header.set_mtime(1_000_000_000);
        header.set_entry_type(match entry.kind {
            Kind::File => tar::EntryType::Regular,
            Kind::Dir => tar::EntryType::Directory,
            Kind::Link => tar::EntryType::Symlink,
            Kind::Pipe if entry.mode & 1 == 0 => tar::EntryType::Link,
            Kind::Pipe => tar::EntryType::Fifo,
        });
        let content = if entry.kind == Kind::File {
            &entry.content[..]
        } else {
            header.set_link_name_literal(&entry.content[..])?;
            &[]
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content)?;
    }
    zstd::encode_all(&archive.into_inner()?[..], 1)
}
