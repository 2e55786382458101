//! Archives that other programs made.

use std::process::Command;

use rstest::rstest;

use super::*;
use crate::pack::tests::{have, restored, state, tree};

/// Writes an archive of the working directory to its first argument, in the way that the second one names.
const PYTHON: &str = r##"
import os, stat, sys, tarfile, zipfile
out, way = sys.argv[1:]

def everything():
    for base, dirs, files in os.walk("."):
        for name in sorted(dirs + files):
            yield os.path.relpath(os.path.join(base, name), ".")

class Pipe:
    def __init__(self, to): self.to = to
    def write(self, data): return self.to.write(data)
    def flush(self): self.to.flush()

if way.startswith("zip"):
    with open(out, "wb") as to:
        if way == "zip junk in front":
            to.write(b"#!/bin/sh\n" + b"PK\x03\x04 no header\n" * 50)
        target = Pipe(to) if way == "zip stream" else to
        method = zipfile.ZIP_STORED if way == "zip stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(target, "w", method) as archive:
            for name in everything():
                found = os.lstat(name)
                info = zipfile.ZipInfo(name + "/" * stat.S_ISDIR(found.st_mode))
                info.create_system, info.compress_type = 3, method
                info.external_attr = found.st_mode << 16
                if stat.S_ISLNK(found.st_mode):
                    data = os.readlink(name).encode()
                elif stat.S_ISDIR(found.st_mode):
                    data = b""
                else:
                    data = open(name, "rb").read()
                large = way == "zip large"
                with archive.open(info, "w", force_zip64=large) as entry:
                    entry.write(data)
            if way == "zip comment":
                archive.comment = b"c" * 65535
else:
    form = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}[way]
    with tarfile.open(out, "w", format=form) as archive:
        archive.add(".")
"##;

/// Of zips by Python there are no times to the second.
fn facts(state: Vec<String>, with_times: bool) -> Vec<String> {
    let timeless = |line: String| {
        let (front, content) = line.rsplit_once(' ').unwrap();
        let (front, _) = front.rsplit_once(' ').unwrap();
        format!("{front} {content}")
    };
    let lines = state.into_iter();
    if with_times {
        lines.collect()
    } else {
        lines.map(timeless).collect()
    }
}

fn run(command: &mut Command) {
    let done = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(done.status.success(), "{command:?}: {done:?}");
}

fn unpacked_is(source: &Path, archive: &Path, with_times: bool) {
    let bytes = fs::read(archive).unwrap();
    let whole = Place::new();
    fs::remove_file(whole.root.join("kept")).unwrap();
    whole.extract(&bytes).unwrap();
    let source = facts(restored(source), with_times);
    assert_eq!(facts(state(&whole.root), with_times), source);
    let arriving = Place::new();
    fs::remove_file(arriving.root.join("kept")).unwrap();
    arriving.extract_arriving(&bytes, 100_000).unwrap();
    assert_eq!(facts(state(&arriving.root), with_times), source);
}

#[rstest]
fn what_python_packs_is_unpacked(
    #[values(
        "zip",
        "zip stored",
        "zip stream",
        "zip large",
        "zip comment",
        "zip junk in front",
        "ustar",
        "gnu",
        "pax"
    )]
    way: &str,
) {
    if !have("python3") || !have("zstd") {
        return;
    }
    let (source, out) = (tree(), tempfile::tempdir().unwrap());
    let mut archive = out.path().join("archive");
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]).arg(&archive).arg(way);
    run(python.current_dir(source.path()));
    let is_zip = way.starts_with("zip");
    if !is_zip {
        run(Command::new("zstd").arg("-q").arg(&archive));
        archive.set_extension("zst");
    }
    unpacked_is(source.path(), &archive, !is_zip);
}

#[rstest]
#[case::file("zip -q -r -y \"$0\" .")]
#[case::large("zip -q -r -y -fz \"$0\" .")]
fn what_info_zip_packs_is_unpacked(#[case] script: &str) {
    if !have("zip") {
        return;
    }
    let (source, out) = (tree(), tempfile::tempdir().unwrap());
    let archive = out.path().join("archive.zip");
    let mut sh = Command::new("sh");
    run(sh
        .args(["-c", script])
        .arg(&archive)
        .current_dir(source.path()));
    unpacked_is(source.path(), &archive, true);
}

fn gnu_tar(source: &Path, archive: &Path, options: &[&str]) {
    let mut tar = Command::new("tar");
    tar.args(["-c", "--zstd"]).args(options).arg("-f");
    run(tar.arg(archive).arg(".").current_dir(source));
}

#[rstest]
fn what_gnu_tar_packs_is_unpacked(
    #[values(
        &["--format=gnu"],
        &["--format=oldgnu"],
        &["--format=pax"],
        &["--format=ustar"],
        &["--format=gnu", "--sparse"],
        &["--format=oldgnu", "--sparse"]
    )]
    options: &[&str],
) {
    if !have("tar") || !have("zstd") {
        return;
    }
    let (source, out) = (tree(), tempfile::tempdir().unwrap());
    let archive = out.path().join("archive");
    gnu_tar(source.path(), &archive, options);
    unpacked_is(source.path(), &archive, true);
}

#[test]
fn a_list_of_holes_that_is_not_understood_does_not_become_a_file() {
    if !have("tar") || !have("zstd") {
        return;
    }
    let (source, out) = (tree(), tempfile::tempdir().unwrap());
    let archive = out.path().join("archive");
    gnu_tar(source.path(), &archive, &["--format=pax", "--sparse"]);
    let error = Place::new().refused(&fs::read(&archive).unwrap());
    assert!(
        error.contains("holes: is a sparse file in the form of pax, which is not unpacked"),
        "{error}"
    );
}
