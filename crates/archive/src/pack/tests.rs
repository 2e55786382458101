//! What is packed, and that other programs read it.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::Command,
};

use rstest::rstest;

use super::*;
use crate::{Wanted, extract, select};

pub(crate) fn items(root: &Path) -> Items {
    let wanted = Wanted {
        root,
        paths: &["**".into()],
        exclude: &[],
        untracked: None,
    };
    select(&wanted).items
}

/// Text that compresses, bytes that do not, holes, odd names, all modes, links, empty things.
pub(crate) fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let text: String = (0..60_000)
        .map(|n| format!("line {n} of some text\n"))
        .collect();
    fs::write(root.join("text"), &text).unwrap();
    let mut noise = 1_u64;
    let noise: Vec<u8> = (0..1_200_000)
        .map(|_| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 56) as u8
        })
        .collect();
    fs::write(root.join("noise"), &noise).unwrap();
    fs::write(root.join("noise.small"), &noise[..200_000]).unwrap();
    let mixed = [&text.as_bytes()[..700_000], &noise[..], text.as_bytes()].concat();
    fs::write(root.join("mixed"), mixed).unwrap();
    let holes = File::create(root.join("holes")).unwrap();
    holes.set_len(3 << 20).unwrap();
    (&holes).write_all(b"begin").unwrap();
    fs::create_dir_all(root.join("dir/empty dir")).unwrap();
    fs::write(root.join("dir/naïve файл.txt"), "x").unwrap();
    fs::write(root.join("dir/back\\slash"), "y").unwrap();
    fs::write(root.join("dir/new\nline"), "z").unwrap();
    fs::write(root.join("dir/empty"), "").unwrap();
    fs::write(root.join("dir/-rf"), "0").unwrap();
    fs::hard_link(root.join("text"), root.join("dir/second name")).unwrap();
    fs::write(root.join("suid"), "#!").unwrap();
    fs::set_permissions(root.join("suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(root.join("private"), "p").unwrap();
    fs::set_permissions(root.join("private"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(
        root.join("dir/empty dir"),
        fs::Permissions::from_mode(0o1777),
    )
    .unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("dir", root.join("to dir")).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_891);
    File::open(root.join("text"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    File::open(root.join("dir"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    dir
}

/// Everything that an archive keeps: path, kind with mode, size, time, content or target.
pub(crate) fn state(root: &Path) -> Vec<String> {
    state_with(root, 0o7777)
}

/// The same as it is unpacked: of modes there are the permissions alone.
pub(crate) fn restored(root: &Path) -> Vec<String> {
    state_with(root, 0o777)
}

fn state_with(root: &Path, bits: u32) -> Vec<String> {
    items(root)
        .iter()
        .map(|item| {
            let path = root.join(item.path());
            let content = match item.kind {
                Kind::File => {
                    let content = fs::read(&path).unwrap();
                    format!("{:08x}", crc32fast::hash(&content))
                }
                Kind::Dir => String::new(),
                Kind::Symlink => fs::read_link(&path).unwrap().display().to_string(),
            };
            format!(
                "{:?} {:?} {:o} {} {} {content}",
                item.path(),
                item.kind,
                item.mode & bits,
                item.size,
                item.mtime
            )
        })
        .collect()
}

fn packed(root: &Path, format: Format, level: Level, threads: usize) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(
        root,
        &items(root),
        format,
        level,
        None,
        threads,
        &mut archive,
    )
    .unwrap();
    archive
}

fn file(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("archive");
    fs::write(&path, bytes).unwrap();
    path
}

#[rstest]
fn what_is_packed_and_unpacked_is_the_same(
    #[values(Format::Zip, Format::ZipZstd, Format::TarZstd)] format: Format,
    #[values(Level::Fastest, Level::Default, Level::Slowest)] level: Level,
) {
    let source = tree();
    let archive = packed(source.path(), format, level, 3);
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("target");
    fs::create_dir(&target).unwrap();
    let done = extract(File::open(file(out.path(), &archive)).unwrap(), &target, 3).unwrap();
    assert_eq!(state(&target), restored(source.path()));
    assert_eq!(done.entries as usize, items(source.path()).len());
    let holes = fs::metadata(target.join("holes")).unwrap();
    assert!(holes.blocks() * 512 < 1 << 20, "zeros became holes");
}

#[rstest]
fn the_bytes_do_not_depend_on_the_number_of_threads(
    #[values(Format::Zip, Format::ZipZstd, Format::TarZstd)] format: Format,
) {
    let source = tree();
    let one = packed(source.path(), format, Level::Default, 1);
    for threads in [2, 5] {
        assert!(packed(source.path(), format, Level::Default, threads) == one);
    }
}

/// Whether a program is there; says so if it is not.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        writeln!(std::io::stderr(), "skipped: there is no {program} here").unwrap();
    }
    found
}

#[test]
fn info_zip_reads_a_zip() {
    if !have("unzip") {
        return;
    }
    let source = tree();
    let out = tempfile::tempdir().unwrap();
    let archive = packed(source.path(), Format::Zip, Level::Default, 2);
    let archive = file(out.path(), &archive);
    let target = out.path().join("target");
    let unzip = Command::new("unzip")
        .args(["-q", "-K"])
        .arg(&archive)
        .arg("-d")
        .arg(&target)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(unzip.status.success(), "{unzip:?}");
    let plain = |lines: Vec<String>| -> Vec<String> {
        // Info-ZIP does not keep control characters in names, nor times of links.
        lines
            .into_iter()
            .filter(|line| !line.contains("new") && !line.contains("Symlink"))
            .collect()
    };
    assert_eq!(plain(state(&target)), plain(state(source.path())));
    assert_eq!(
        fs::read_link(target.join("absolute")).unwrap(),
        Path::new("/etc/passwd")
    );
}

const PYTHON: &str = "
import sys, zipfile, zlib
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
for i in z.infolist():
    print(repr(i.filename), oct(i.external_attr >> 16), i.file_size, format(zlib.crc32(z.read(i)), '08x'), i.compress_type)
";

#[test]
fn python_reads_a_zip() {
    if !have("python3") {
        return;
    }
    let source = tree();
    let out = tempfile::tempdir().unwrap();
    let archive = packed(source.path(), Format::Zip, Level::Default, 2);
    let python = Command::new("python3")
        .args(["-c", PYTHON])
        .arg(file(out.path(), &archive))
        .output()
        .unwrap();
    assert!(python.status.success(), "{python:?}");
    let text = String::from_utf8(python.stdout).unwrap();
    assert_eq!(text.lines().count(), items(source.path()).len());
    for line in [
        "'dir/naïve файл.txt' 0o100644",
        "'dir/empty dir/' 0o41777 0",
        "'suid' 0o104755 2",
        "'absolute' 0o120777 11",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let method = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("'{name}'")));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(method("text"), "8");
    assert_eq!(method("noise.small"), "0", "incompressible: stored");
    assert_eq!(method("dir/empty"), "0");
}

#[test]
fn tar_and_zstd_read_a_tar_zst() {
    if !have("tar") || !have("zstd") {
        return;
    }
    let source = tree();
    let out = tempfile::tempdir().unwrap();
    let archive = packed(source.path(), Format::TarZstd, Level::Default, 2);
    let target = out.path().join("target");
    fs::create_dir(&target).unwrap();
    let tar = Command::new("tar")
        .args(["-x", "-p", "--zstd", "-f"])
        .arg(file(out.path(), &archive))
        .arg("-C")
        .arg(&target)
        .output()
        .unwrap();
    assert!(tar.status.success(), "{tar:?}");
    assert_eq!(state(&target), state(source.path()));
}

#[test]
fn gzip_reads_several_members() {
    if !have("gzip") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = "report ".repeat(400_000);
    fs::write(dir.path().join("a.xml"), &text).unwrap();
    fs::write(dir.path().join("b%.xml"), "").unwrap();
    fs::write(dir.path().join("é.xml"), "last").unwrap();
    for level in [Level::Fastest, Level::Default] {
        let archive = packed(dir.path(), Format::Gzip, level, 2);
        let out = tempfile::tempdir().unwrap();
        let gzip = Command::new("gzip")
            .args(["-d", "-c"])
            .stdin(File::open(file(out.path(), &archive)).unwrap())
            .output()
            .unwrap();
        assert!(gzip.status.success());
        assert!(gzip.stdout == format!("{text}last").into_bytes());
    }
}

#[test]
fn gzip_takes_files_only_and_raw_takes_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let go = |format| {
        let mut archive = Vec::new();
        pack(
            dir.path(),
            &items(dir.path()),
            format,
            Level::Default,
            None,
            1,
            &mut archive,
        )
        .map(|_| archive)
        .map_err(|error| error.to_string())
    };
    assert_eq!(
        go(Format::Gzip).unwrap_err(),
        "the \"d\" is not a regular file"
    );
    assert_eq!(
        go(Format::Raw).unwrap_err(),
        "the \"d\" is not a regular file"
    );
    fs::remove_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("a"), "content").unwrap();
    assert_eq!(go(Format::Raw).unwrap(), b"content");
    fs::write(dir.path().join("b"), "").unwrap();
    assert_eq!(
        go(Format::Raw).unwrap_err(),
        "only one file can be sent as raw"
    );
}

#[test]
fn a_file_that_vanished_is_named_and_one_that_became_shorter_still_makes_a_good_archive() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gone"), "x").unwrap();
    fs::write(dir.path().join("short"), vec![b'x'; 3 << 20]).unwrap();
    let short = select(&Wanted {
        root: dir.path(),
        paths: &["short".into()],
        exclude: &[],
        untracked: None,
    });
    let found = items(dir.path());
    fs::write(dir.path().join("short"), vec![b'x'; 1_500_000]).unwrap();
    for format in [Format::Zip, Format::TarZstd] {
        let mut archive = Vec::new();
        let done = pack(
            dir.path(),
            &short.items,
            format,
            Level::Default,
            None,
            2,
            &mut archive,
        )
        .unwrap();
        assert_eq!(done.shrunk, [Path::new("short")]);
        let out = tempfile::tempdir().unwrap();
        let archive = file(dir.path(), &archive);
        extract(File::open(&archive).unwrap(), out.path(), 2).unwrap();
        fs::remove_file(archive).unwrap();
    }
    fs::remove_file(dir.path().join("gone")).unwrap();
    for format in [Format::Zip, Format::TarZstd, Format::Gzip] {
        let error = pack(
            dir.path(),
            &found,
            format,
            Level::Default,
            None,
            2,
            std::io::sink(),
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("cannot open gone: ")
        );
    }
}

#[test]
fn a_sink_that_fails_ends_the_work() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let source = tree();
    for format in [Format::Zip, Format::ZipZstd, Format::TarZstd] {
        let done = pack(
            source.path(),
            &items(source.path()),
            format,
            Level::Default,
            None,
            2,
            Full,
        );
        assert!(matches!(done, Err(PackError::Sink(_))), "{format:?}");
    }
}

#[rstest]
fn an_archive_tells_what_it_was_made_of(#[values(Format::Zip, Format::TarZstd)] format: Format) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let mark = Fingerprint::of(&items(dir.path()), "zip");
    let mut archive = Vec::new();
    pack(
        dir.path(),
        &items(dir.path()),
        format,
        Level::Default,
        Some(&mark),
        1,
        &mut archive,
    )
    .unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = file(out.path(), &archive);
    assert_eq!(
        Fingerprint::read(&File::open(&path).unwrap()).unwrap(),
        Some(mark.clone())
    );
    let target = out.path().join("t");
    fs::create_dir(&target).unwrap();
    extract(File::open(&path).unwrap(), &target, 1).unwrap();
    assert_eq!(
        Fingerprint::of(&items(&target), "zip"),
        mark,
        "unpacked it is the same"
    );

    assert_ne!(Fingerprint::of(&items(dir.path()), "tarzstd"), mark);
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(Fingerprint::of(&items(dir.path()), "zip"), mark);
    fs::remove_file(dir.path().join("a")).unwrap();
    assert_ne!(Fingerprint::of(&items(dir.path()), "zip"), mark);

    fs::write(&path, &archive[..archive.len() - 1]).unwrap();
    assert_eq!(
        Fingerprint::read(&File::open(&path).unwrap()).unwrap(),
        None
    );
    fs::write(&path, "short").unwrap();
    assert_eq!(
        Fingerprint::read(&File::open(&path).unwrap()).unwrap(),
        None
    );
}
