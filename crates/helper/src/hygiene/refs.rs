//! References of a kept repository that would stand in the way of those that are fetched.
//!
//! Where a branch `a` is gone and the server has `a/b` now, git cannot write the second beside the first, and fails: what is not among
//! the refspecs of the job is not pruned, either. References below `refs/replace` put other objects in the place of those asked for.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::real_below;
use crate::files;

/// Where a reference is kept, and its log.
const KEPT_IN: [&str; 2] = ["", "logs"];
pub(super) const REPLACEMENTS: &str = "refs/replace";

/// Removes references that conflict with those that the refspecs of a job write; `clean`: replacements, too.
pub(super) fn make_way(git: &Path, refspecs: &[String], clean: bool) -> io::Result<()> {
    let wanted: HashSet<&str> = refspecs.iter().filter_map(|it| written(it)).collect();
    let above: HashSet<&str> = wanted.iter().flat_map(|name| parents(name)).collect();
    for root in KEPT_IN.iter().filter_map(|name| real_below(git, name)) {
        for name in &above {
            remove_unless_dir(&root, name)?;
        }
        for name in &wanted {
            if let Some(dir) = real_below(&root, name) {
                files::remove(&dir)?;
            }
        }
    }
    let goes = |name: &str| {
        above.contains(name)
            || parents(name)
                .any(|parent| wanted.contains(parent) || (clean && parent == REPLACEMENTS))
    };
    pack_without(&git.join("packed-refs"), goes)
}

/// The one reference that a refspec writes. Patterns write many, and git makes way for them itself.
fn written(refspec: &str) -> Option<&str> {
    let (_, name) = refspec.split_once(':')?;
    let good = name.starts_with("refs/")
        && !name.contains('*')
        && name
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'));
    good.then_some(name)
}

/// `refs/a/b` has `refs/a`. What stands directly below `refs` is none.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').skip(1).map(|(at, _)| &name[..at])
}

fn remove_unless_dir(root: &Path, name: &str) -> io::Result<()> {
    let Some((parent, last)) = name.rsplit_once('/') else {
        return Ok(());
    };
    let path: Option<PathBuf> = real_below(root, parent).map(|dir| dir.join(last));
    match path {
        Some(path) if !files::is_real_dir(&path) => files::remove(&path),
        _ => Ok(()),
    }
}

/// Takes lines from the file of packed references, each with the line that says what its tag points to.
fn pack_without(path: &Path, goes: impl Fn(&str) -> bool) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        // A link or a directory is none of git's.
        return files::remove(path);
    }
    let content = fs::read(path).map_err(|error| files::at("cannot read", path, &error))?;
    let mut kept = Vec::with_capacity(content.len());
    let mut going = false;
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        if !line.starts_with(b"^") {
            let text = String::from_utf8_lossy(line);
            going = !line.starts_with(b"#")
                && text
                    .split_once(' ')
                    .is_some_and(|(_, name)| goes(name.trim_end()));
        }
        if !going {
            kept.extend_from_slice(line);
        }
    }
    if kept.len() < content.len() {
        files::write(path, 0o666, &kept)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(git: &Path, names: &[&str]) {
        for name in names {
            let path = git.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "planted").unwrap();
        }
    }

    #[test]
    fn references_that_git_could_not_write_beside_the_wanted_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let git = dir.path();
        let gone = [
            "refs/remotes/origin/a",
            "logs/refs/remotes/origin/a",
            "refs/remotes/origin/c/d/e",
            "logs/refs/remotes/origin/c/d/e",
        ];
        let kept = [
            "refs/remotes/origin/ab",
            "refs/remotes/origin/b",
            "refs/heads/a",
            "logs/refs/heads/a",
            "refs/pipelines/120",
        ];
        plant(git, &gone);
        plant(git, &kept);
        let refspecs = [
            "+1234:refs/pipelines/120",
            "+refs/heads/a/b:refs/remotes/origin/a/b",
            "refs/heads/c:refs/remotes/origin/c",
            "+refs/heads/*:refs/remotes/origin/*",
            "refs/heads/none",
            "x:refs/../../b",
        ]
        .map(String::from);
        make_way(git, &refspecs, true).unwrap();
        for name in gone {
            assert!(!files::exists(&git.join(name)), "{name}");
        }
        for name in kept {
            assert!(git.join(name).exists(), "{name}");
        }
    }

    #[test]
    fn the_same_goes_for_packed_references_and_replacements_go_if_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("packed-refs");
        let head = "# pack-refs with: peeled fully-peeled sorted \n";
        let lines = [
            ("1 refs/heads/a\n", true),
            ("1 refs/remotes/origin/a\n", false),
            ("1 refs/remotes/origin/c/d\n", false),
            ("1 refs/replace/2\n", false),
            ("1 refs/tags/t\n^2\n", true),
            ("1 refs/tags/v/1\n^3\n", false),
            ("garbage", true),
        ];
        let text: String = lines.iter().map(|(line, _)| *line).collect();
        let refspecs = [
            "a:refs/remotes/origin/a/b",
            "a:refs/remotes/origin/c",
            "a:refs/tags/v",
        ]
        .map(String::from);
        fs::write(&path, format!("{head}{text}")).unwrap();
        make_way(dir.path(), &refspecs, true).unwrap();
        let kept = lines
            .iter()
            .filter(|(_, kept)| *kept)
            .map(|(line, _)| *line);
        let expected = format!("{head}{}", kept.collect::<String>());
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);

        fs::write(&path, &text).unwrap();
        make_way(dir.path(), &[], false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
