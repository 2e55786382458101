//! The index of a kept repository (git's `gitformat-index`): what it says of the tree must be true, or git leaves files as they are.
//!
//! A job may have told git not to look at files (`git update-index --assume-unchanged`, `--skip-worktree`, a sparse checkout): then no
//! checkout would write them again. These marks are taken off. An index that was cut short or written over goes.

use std::{
    fs::{self, File, FileTimes},
    io,
    path::Path,
};

use gantry_agent::ObjectFormat;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use crate::files;

/// Times, device, inode, mode, owner, group, size: what stands before the hash of an entry.
const STAT: usize = 40;
const HEADER: usize = 12;
/// In the flags of an entry.
const ASSUME_UNCHANGED: u16 = 0x8000;
const EXTENDED: u16 = 0x4000;
const NAME_LENGTH: u16 = 0x0fff;
/// In the extended flags of an entry.
const SKIP_WORKTREE: u16 = 0x4000;

/// What became of an index.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Index {
    /// There is none, or it can be believed.
    Fine,
    /// It was damaged, or partly elsewhere, and is gone.
    Removed,
}

/// Makes the index in a git directory one that can be believed, or removes it.
pub(super) fn repair(git: &Path, format: ObjectFormat) -> io::Result<Index> {
    let hash = match format {
        ObjectFormat::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
        ObjectFormat::Sha256 => &SHA256,
    };
    let path = git.join("index");
    let Ok(found) = fs::symlink_metadata(&path) else {
        return Ok(Index::Fine);
    };
    if !found.is_file() {
        files::remove(&path)?;
        return Ok(Index::Removed);
    }
    let content = fs::read(&path).map_err(|error| files::at("cannot read", &path, &error))?;
    match marks(&content, hash) {
        None => {
            files::remove(&path)?;
            Ok(Index::Removed)
        }
        Some(marks) if marks.is_empty() => Ok(Index::Fine),
        Some(marks) => {
            files::write(&path, 0o666, &without(content, &marks, hash))?;
            // Git compares the time of the index with those of files, to find what changed while it was written.
            let times = FileTimes::new().set_modified(found.modified()?);
            let set = File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_times(times));
            set.map_err(|error| files::at("cannot set the time of", &path, &error))?;
            Ok(Index::Fine)
        }
    }
}

/// A mark to take off: where its flags are, and which bit.
type Mark = (usize, u16);

/// The marks in an index; `None` if it cannot be believed.
fn marks(content: &[u8], algorithm: &'static Algorithm) -> Option<Vec<Mark>> {
    let hash = algorithm.output_len();
    let end = content.len().checked_sub(hash)?;
    let (body, sum) = content.split_at(end);
    // With `index.skipHash` git writes zeros.
    if sum.iter().any(|&byte| byte != 0) && digest(algorithm, body).as_ref() != sum {
        return None;
    }
    let version = number(content, 4)?;
    if content.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let mut marks = Vec::new();
    let mut at = HEADER;
    for _ in 0..number(content, 8)? {
        let flags_at = at + STAT + hash;
        let flags = short(content, flags_at)?;
        if flags & ASSUME_UNCHANGED != 0 {
            marks.push((flags_at, ASSUME_UNCHANGED));
        }
        let mut name = flags_at + 2;
        if flags & EXTENDED != 0 {
            if short(content, name)? & SKIP_WORKTREE != 0 {
                marks.push((name, SKIP_WORKTREE));
            }
            name += 2;
        }
        at = if version == 4 {
            let suffix = after_prefix_length(content, name)?;
            suffix + length_to_zero(content, suffix)? + 1
        } else {
            let length = match flags & NAME_LENGTH {
                NAME_LENGTH => length_to_zero(content, name)?,
                length => length.into(),
            };
            // One to eight zero bytes, so that the next entry begins at a multiple of eight from the first.
            at + ((name - at + length) / 8 + 1) * 8
        };
        if at > end {
            return None;
        }
    }
    extensions_are_here(content.get(at..end)?).then_some(marks)
}

/// Extensions whose names begin with a small letter change what the entries mean: parts of them are in another file (`link`), or
/// stand for whole directories (`sdir`).
fn extensions_are_here(mut rest: &[u8]) -> bool {
    while let Some((head, tail)) = rest.split_at_checked(8) {
        let Some(length) = number(head, 4).and_then(|length| usize::try_from(length).ok()) else {
            return false;
        };
        match tail.get(length..) {
            Some(next) if head[0].is_ascii_uppercase() => rest = next,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Version 4 says first how many bytes of the name before are not taken over, in bytes whose highest bit says that more follow.
fn after_prefix_length(content: &[u8], at: usize) -> Option<usize> {
    let bytes = content.get(at..)?;
    let last = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    Some(at + last + 1)
}

fn length_to_zero(content: &[u8], at: usize) -> Option<usize> {
    content.get(at..)?.iter().position(|&byte| byte == 0)
}

fn number(content: &[u8], at: usize) -> Option<u32> {
    let bytes = content.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn short(content: &[u8], at: usize) -> Option<u16> {
    let bytes = content.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// The index without these marks.
fn without(mut content: Vec<u8>, marks: &[Mark], algorithm: &'static Algorithm) -> Vec<u8> {
    for &(at, mark) in marks {
        let [high, low] = mark.to_be_bytes();
        content[at] &= !high;
        content[at + 1] &= !low;
    }
    let end = content.len() - algorithm.output_len();
    let (body, sum) = content.split_at_mut(end);
    sum.copy_from_slice(digest(algorithm, body).as_ref());
    content
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rstest::rstest;

    use super::*;

    /// A repository of three files with names of many lengths.
    fn repository(format: &str, version: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(
            &dir,
            &["init", "-q", &format!("--object-format={format}"), "."],
        );
        for name in ["a", "folder/bc", &"long".repeat(60)] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        git(&dir, &["add", "."]);
        git(&dir, &["update-index", "--index-version", version]);
        dir
    }

    fn git(dir: &tempfile::TempDir, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn format_of(name: &str) -> ObjectFormat {
        match name {
            "sha256" => ObjectFormat::Sha256,
            _ => ObjectFormat::Sha1,
        }
    }

    #[rstest]
    fn marks_that_hide_files_are_taken_off_and_nothing_else_changes(
        #[values("sha1", "sha256")] format: &str,
        #[values("2", "3", "4")] version: &str,
    ) {
        let dir = repository(format, version);
        let (dot_git, path) = (dir.path().join(".git"), dir.path().join(".git/index"));
        let before = (
            fs::read(&path).unwrap(),
            git(&dir, &["ls-files", "-v", "-s"]),
        );
        assert_eq!(repair(&dot_git, format_of(format)).unwrap(), Index::Fine);
        assert_eq!(fs::read(&path).unwrap(), before.0, "nothing to do");

        git(
            &dir,
            &["update-index", "--assume-unchanged", "a", "folder/bc"],
        );
        git(
            &dir,
            &[
                "update-index",
                "--skip-worktree",
                "folder/bc",
                &"long".repeat(60),
            ],
        );
        assert_ne!(git(&dir, &["ls-files", "-v", "-s"]), before.1);
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let written = time(&path);
        assert_eq!(repair(&dot_git, format_of(format)).unwrap(), Index::Fine);
        assert_eq!(git(&dir, &["ls-files", "-v", "-s"]), before.1);
        assert_eq!(time(&path), written);
        // Git itself finds it whole.
        git(&dir, &["fsck", "--no-dangling"]);
    }

    #[test]
    fn an_index_that_is_damaged_or_partly_elsewhere_goes() {
        let dir = repository("sha1", "2");
        let (dot_git, path) = (dir.path().join(".git"), dir.path().join(".git/index"));
        let good = fs::read(&path).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
        damaged.extend((0..good.len()).map(|at| {
            let mut other = good.clone();
            other[at] ^= 0x10;
            other
        }));
        damaged.push([&good[..], b"more"].concat());
        damaged.push(vec![0; good.len()]);
        for content in damaged {
            fs::write(&path, &content).unwrap();
            let found = repair(&dot_git, ObjectFormat::Sha1).unwrap();
            assert_eq!(
                (found, path.exists()),
                (Index::Removed, false),
                "{content:?}"
            );
        }
        fs::write(&path, &good).unwrap();
        git(&dir, &["update-index", "--split-index"]);
        assert_eq!(
            repair(&dot_git, ObjectFormat::Sha1).unwrap(),
            Index::Removed
        );
        fs::create_dir(&path).unwrap();
        assert_eq!(
            repair(&dot_git, ObjectFormat::Sha1).unwrap(),
            Index::Removed
        );
        assert_eq!(repair(&dot_git, ObjectFormat::Sha1).unwrap(), Index::Fine);
    }

    #[test]
    fn an_index_without_a_hash_is_read_all_the_same() {
        let dir = repository("sha1", "2");
        let path = dir.path().join(".git/index");
        let mut content = fs::read(&path).unwrap();
        let end = content.len() - 20;
        content[end..].fill(0);
        fs::write(&path, content).unwrap();
        assert_eq!(
            repair(&dir.path().join(".git"), ObjectFormat::Sha1).unwrap(),
            Index::Fine
        );
        assert!(path.exists());
    }
}
