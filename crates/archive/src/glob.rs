//! Which files of a tree a pattern means.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use crate::pattern::{Component, Pattern};

/// Gives all matches, relative to `root`, in no order and some perhaps twice; the root itself is the empty path. Links are matched, not
/// entered: `**` and patterns stop at them, only names that are spelled out lead through (job-lifecycle §6.1).
pub(crate) fn glob(root: &Path, pattern: &Pattern, found: &mut dyn FnMut(&[u8])) {
    for components in &pattern.alternatives {
        let depths = components
            .iter()
            .filter(|component| **component == Component::AnyDepth);
        let mut walk = Walk {
            root,
            been: (depths.count() > 1).then(HashSet::new),
            found,
        };
        walk.walk(Vec::new(), components);
    }
}

struct Walk<'a> {
    root: &'a Path,
    /// Where a `**` was, by the components from it on. With several of them there are many ways to the same place, each of which finds
    /// the same.
    been: Option<HashSet<(usize, Vec<u8>)>>,
    found: &'a mut dyn FnMut(&[u8]),
}

impl Walk<'_> {
    fn walk(&mut self, base: Vec<u8>, components: &[Component]) {
        let Some((component, rest)) = components.split_first() else {
            (self.found)(&base);
            return;
        };
        match component {
            Component::Literal(name) if name.is_empty() => self.walk(base, rest),
            Component::Literal(name) => {
                let path = join(&base, name);
                let full = full(self.root, &path);
                if rest.is_empty() {
                    if fs::symlink_metadata(full).is_ok() {
                        (self.found)(&path);
                    }
                } else if full.is_dir() {
                    self.walk(path, rest);
                }
            }
            Component::AnyDepth => {
                if let Some(been) = &mut self.been
                    && !been.insert((components.len(), base.clone()))
                {
                    return;
                }
                self.walk(base.clone(), rest);
                for (name, is_dir) in entries(self.root, &base) {
                    let path = join(&base, &name);
                    if is_dir {
                        self.walk(path, components);
                    } else if rest.is_empty() {
                        (self.found)(&path);
                    }
                }
            }
            Component::Tokens(_) => {
                for (name, is_dir) in entries(self.root, &base) {
                    if !component.matches(&name) {
                        continue;
                    }
                    let path = join(&base, &name);
                    if rest.is_empty() {
                        (self.found)(&path);
                    } else if is_dir {
                        self.walk(path, rest);
                    }
                }
            }
        }
    }
}

/// Names below a directory, and whether each is a directory itself. What cannot be read is empty, as in the peer. One at a time: a
/// directory may hold a million.
fn entries(root: &Path, base: &[u8]) -> impl Iterator<Item = (Vec<u8>, bool)> {
    let read = fs::read_dir(full(root, base)).into_iter().flatten();
    read.flatten().map(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        (entry.file_name().into_vec(), is_dir)
    })
}

pub(crate) fn full(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() {
        root.to_owned()
    } else {
        root.join(OsStr::from_bytes(path))
    }
}

pub(crate) fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    if base.is_empty() {
        name.to_vec()
    } else {
        [base, b"/", name].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::symlink};

    use rstest::rstest;

    use super::*;

    fn matches(root: &Path, pattern: &[u8]) -> BTreeSet<Vec<u8>> {
        let mut found = BTreeSet::new();
        glob(root, &Pattern::new(pattern).unwrap(), &mut |path| {
            found.insert(path.to_vec());
        });
        found
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "a/b/c/f.txt",
            "a/b/g.txt",
            "a/h.log",
            "z.txt",
            ".hid/x.txt",
            "a/.dot",
            "q[1].txt",
            "st*r",
            "real/in.txt",
        ] {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        symlink("real", dir.path().join("link")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        dir
    }

    // Answers of doublestar 4.10.0, FilepathGlob with WithNoFollow, on the same tree; but that of `dangling`, which it does not find.
    #[rstest]
    #[case("*", ".hid a dangling empty link q[1].txt real st*r z.txt")]
    #[case("a", "a")]
    #[case("a/**", "a a/.dot a/b a/b/c a/b/c/f.txt a/b/g.txt a/h.log")]
    #[case("a/*", "a/.dot a/b a/h.log")]
    #[case(
        "**/*.txt",
        ".hid/x.txt a/b/c/f.txt a/b/g.txt q[1].txt real/in.txt z.txt"
    )]
    #[case("link", "link")]
    #[case("link/*", "link/in.txt")]
    #[case("link/**", "link link/in.txt")]
    #[case("*/in.txt", "real/in.txt")]
    #[case("**/in.txt", "real/in.txt")]
    #[case("dangling", "dangling")]
    #[case("d*", "dangling")]
    #[case("{a,z}*", "a z.txt")]
    #[case("{a/b,real}/*", "a/b/c a/b/g.txt real/in.txt")]
    #[case("a/**/f.txt", "a/b/c/f.txt")]
    #[case("empty/**", "empty")]
    #[case("nothing", "")]
    #[case("nothing/**", "")]
    #[case("q[1].txt", "")]
    #[case(r"q\[1\].txt", "q[1].txt")]
    #[case(r"st\*r", "st*r")]
    #[case("a/{b,b}", "a/b")]
    #[case("**/b/**", "a/b a/b/c a/b/c/f.txt a/b/g.txt")]
    #[case("*/.*", "a/.dot")]
    #[case("***", ".hid a dangling empty link q[1].txt real st*r z.txt")]
    #[case("a**", "a")]
    #[case("a/**/b/**", "a/b a/b/c a/b/c/f.txt a/b/g.txt")]
    fn files_are_found_as_by_the_peer_s_library(#[case] pattern: &str, #[case] expected: &str) {
        let dir = tree();
        let found = matches(dir.path(), pattern.as_bytes());
        let found: Vec<String> = found
            .into_iter()
            .map(|path| String::from_utf8(path).unwrap())
            .collect();
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn two_stars_mean_the_root_and_everything_in_it() {
        let dir = tree();
        let found = matches(dir.path(), b"**");
        assert_eq!(found.len(), 18);
        assert!(found.contains(&Vec::new()) && found.contains(b"real/in.txt".as_slice()));
        assert!(!found.contains(b"link/in.txt".as_slice()));
    }

    #[test]
    fn many_double_stars_in_a_deep_tree_take_no_exponential_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/".repeat(40))).unwrap();
        fs::write(dir.path().join("a/a/a/f"), "").unwrap();
        for pattern in [
            "**/".repeat(100_000) + "f",
            "**/a/".repeat(3) + "**/f",
            "**/a/".repeat(20) + "f",
        ] {
            let found = matches(dir.path(), pattern.as_bytes());
            let is_there = pattern.matches('a').count() < 20;
            let expected = is_there.then(|| b"a/a/a/f".to_vec());
            assert_eq!(found, BTreeSet::from_iter(expected), "{pattern:.50}");
        }
    }
}
