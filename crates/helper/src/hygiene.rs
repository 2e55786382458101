//! What a former job may have left in a project directory, and must not have an effect on the next one (job-lifecycle §4.3 step 6).
//!
//! Git runs here as another user, with another job's token: whatever a repository can make git execute or follow must go before
//! git is run. More than the peer removes: all locks and not only the usual ones, `commondir` and `config.worktree` (which name
//! configuration elsewhere), attributes and grafts, and a `.git` that is a link or a file.

mod format;
mod index;
mod refs;

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use gantry_agent::SourcesRequest;

pub(crate) use self::{
    format::{check_head, has_objects},
    index::Index,
};
use crate::{files, git_config};

/// Runs on checkout; removed even when the configuration is to be kept.
const CHECKOUT_HOOK: (&str, &str) = ("hooks", "post-checkout");
/// Directories of `.git` whose own locks go.
const LOCKED: [&str; 5] = ["", "objects", "objects/info", "objects/pack", "reftable"];
/// Directories of `.git` whose locks go at any depth.
const LOCKED_TREES: [&str; 2] = ["refs", "logs"];
/// Where git keeps the repositories of submodules.
const MODULES: &str = "modules";
/// Everything that could make git run or read something planted.
const PLANTED: [&str; 10] = [
    "config",
    "config.worktree",
    "hooks",
    "commondir",
    "gitdir",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "info/sparse-checkout",
    refs::REPLACEMENTS,
];
/// What git keeps of work that a job began and did not end: a script of the next job could not begin the like.
const UNFINISHED: [&str; 12] = [
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "BISECT_LOG",
    "BISECT_START",
    "BISECT_TERMS",
    "refs/bisect",
];

/// Cleans a project directory and what belongs to it, repositories of submodules included. With `clean_git_config` off only locks
/// go.
pub(crate) fn clean(project_dir: &Path, tmp_dir: &Path, clean_git_config: bool) -> io::Result<()> {
    let git = project_dir.join(".git");
    files::remove(&aside(tmp_dir))?;
    if clean_git_config {
        files::remove(&git_config::template_path(tmp_dir))?;
        if !files::is_real_dir(&git) {
            files::remove(&git)?;
        }
    }
    clean_git_dir(&git, clean_git_config)?;
    for git in submodule_git_dirs(project_dir)? {
        clean_git_dir(&git, clean_git_config)?;
    }
    Ok(())
}

fn clean_git_dir(git: &Path, clean_git_config: bool) -> io::Result<()> {
    if clean_git_config {
        for name in PLANTED.iter().chain(&UNFINISHED) {
            remove_below(git, name)?;
        }
    }
    if let Some(hooks) = real_below(git, CHECKOUT_HOOK.0) {
        files::remove(&hooks.join(CHECKOUT_HOOK.1))?;
    }
    for (names, deep) in [(&LOCKED[..], false), (&LOCKED_TREES[..], true)] {
        for dir in names.iter().filter_map(|name| real_below(git, name)) {
            remove_locks(&dir, deep)?;
        }
    }
    Ok(())
}

/// Where a repository lies while it is tried whether sources can be had without it.
pub(crate) fn aside(tmp_dir: &Path) -> PathBuf {
    tmp_dir.join("git-aside")
}

/// Makes way in a kept repository for what a job asks of it: for the references it fetches, and for every file of the tree. Says
/// what became of the project's own index.
pub(crate) fn repair(request: &SourcesRequest) -> io::Result<Index> {
    let git = request.project_dir.join(".git");
    if !files::is_real_dir(&git) {
        return Ok(Index::Fine);
    }
    refs::make_way(&git, &request.refspecs, request.clean_git_config)?;
    if !request.clean_git_config {
        // A sparse checkout may be part of what is to be kept.
        return Ok(Index::Fine);
    }
    for git in submodule_git_dirs(&request.project_dir)? {
        index::repair(&git, request.object_format)?;
    }
    index::repair(&git, request.object_format)
}

/// The repositories that git keeps for submodules, nested ones included: below `.git/modules`, at any depth, since names of
/// submodules may have slashes. Links among them, which git would follow, are removed.
pub(crate) fn submodule_git_dirs(project_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if let Some(modules) = real_below(&project_dir.join(".git"), MODULES) {
        collect_git_dirs(&modules, &mut found)?;
    }
    Ok(found)
}

/// Whether there may be any of them.
pub(crate) fn has_submodule_git_dirs(project_dir: &Path) -> bool {
    real_below(&project_dir.join(".git"), MODULES).is_some()
}

/// Removes the `.git` of what is no submodule any more.
pub(crate) fn detach(project_dir: &Path, path: &str) -> io::Result<()> {
    match real_below(project_dir, path) {
        Some(dir) if dir != project_dir => files::remove(&dir.join(".git")),
        _ => Ok(()),
    }
}

/// Removes the files of a submodule.
pub(crate) fn empty(project_dir: &Path, path: &str) -> io::Result<()> {
    match real_below(project_dir, path) {
        Some(dir) if dir != project_dir => {
            files::remove(&dir)?;
            files::real_dir(&dir)
        }
        _ => Ok(()),
    }
}

fn collect_git_dirs(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut below = Vec::new();
    let mut has_head = false;
    for entry in files::entries(dir)? {
        let path = entry.path();
        let kind = entry
            .file_type()
            .map_err(|error| files::at("cannot look at", &path, &error))?;
        if kind.is_symlink() {
            files::remove(&path)?;
        } else if kind.is_dir() {
            below.push(path);
        } else {
            has_head |= entry.file_name() == "HEAD";
        }
    }
    if has_head {
        found.push(dir.to_owned());
    }
    for path in below {
        let large = path
            .file_name()
            .is_some_and(|name| name == "objects" || name == "refs" || name == "logs");
        if !(has_head && large) {
            collect_git_dirs(&path, found)?;
        }
    }
    Ok(())
}

/// Removes every `.git` in and below the directory of a submodule that does not lead into the project's own `.git/modules`: git
/// would run with whatever configuration is planted there.
pub(crate) fn distrust_submodule(project_dir: &Path, path: &str) -> io::Result<()> {
    match real_below(project_dir, path) {
        Some(dir) => distrust(&dir, &project_dir.join(".git").join(MODULES)),
        None => Ok(()),
    }
}

fn distrust(dir: &Path, modules: &Path) -> io::Result<()> {
    for entry in files::entries(dir)? {
        let path = entry.path();
        if entry.file_name() == ".git" {
            if !leads_into(&path, modules) {
                files::remove(&path)?;
            }
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            distrust(&path, modules)?;
        }
    }
    Ok(())
}

/// Whether a `.git` is a file that names a directory below `modules`.
fn leads_into(file: &Path, modules: &Path) -> bool {
    let small = fs::symlink_metadata(file).is_ok_and(|found| found.is_file() && found.len() < 8192);
    let Some(content) = small.then(|| fs::read_to_string(file).ok()).flatten() else {
        return false;
    };
    let Some(target) = content.trim_end().strip_prefix("gitdir: ") else {
        return false;
    };
    let mut resolved = PathBuf::new();
    for part in file.with_file_name(target).components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            part => resolved.push(part),
        }
    }
    resolved.starts_with(modules) && resolved != modules && files::is_real_dir(&resolved)
}

/// Removes `name` below `dir`, unless a directory on the way is a link: then that goes.
fn remove_below(dir: &Path, name: &str) -> io::Result<()> {
    if let Some((parent, _)) = name.rsplit_once('/') {
        let parent = dir.join(parent);
        if files::exists(&parent) && !files::is_real_dir(&parent) {
            return files::remove(&parent);
        }
    }
    files::remove(&dir.join(name))
}

/// A directory below another one, if no part of the way is a link.
fn real_below(dir: &Path, name: &str) -> Option<PathBuf> {
    let mut path = dir.to_owned();
    for part in name.split('/').filter(|part| !part.is_empty()) {
        if part == ".." || !files::is_real_dir(&path) {
            return None;
        }
        path.push(part);
    }
    files::is_real_dir(&path).then_some(path)
}

fn remove_locks(dir: &Path, deep: bool) -> io::Result<()> {
    for entry in files::entries(dir)? {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "lock")
        {
            files::remove(&entry.path())?;
        } else if deep && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_locks(&entry.path(), true)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn plant(&self, name: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "planted").unwrap();
        }

        fn clean(&self, clean_git_config: bool) {
            clean(&self.path("p"), &self.path("p.tmp"), clean_git_config).unwrap();
        }
    }

    const LOCKS: [&str; 9] = [
        "p/.git/index.lock",
        "p/.git/shallow.lock",
        "p/.git/HEAD.lock",
        "p/.git/config.lock",
        "p/.git/packed-refs.lock",
        "p/.git/refs/heads/a/b.lock",
        "p/.git/logs/refs/heads/b.lock",
        "p/.git/objects/info/commit-graph.lock",
        "p/.git/hooks/post-checkout",
    ];

    #[test]
    fn locks_go_in_any_case_and_configuration_only_if_wanted() {
        let place = Place::new();
        let kept = [
            "p/.git/refs/heads/main",
            "p/.git/HEAD",
            "p/file.lock",
            "p/.git/objects/ab/cd",
        ];
        let config = [
            "p/.git/config",
            "p/.git/hooks/pre-commit",
            "p/.git/commondir",
            "p.tmp/git-template/config",
        ];
        for name in LOCKS.iter().chain(&kept).chain(&config) {
            place.plant(name);
        }
        fs::create_dir(place.path("p/.git/refs/heads/dir.lock")).unwrap();
        place.clean(false);
        for name in LOCKS.iter().chain(&["p/.git/refs/heads/dir.lock"]) {
            assert!(!files::exists(&place.path(name)), "{name}");
        }
        for name in kept.iter().chain(&config) {
            assert!(files::exists(&place.path(name)), "{name}");
        }
        place.clean(true);
        for name in config {
            assert!(!files::exists(&place.path(name)), "{name}");
        }
        for name in kept {
            assert!(files::exists(&place.path(name)), "{name}");
        }
    }

    #[test]
    fn a_git_directory_that_is_a_link_or_a_file_goes_and_its_target_stays() {
        let place = Place::new();
        place.plant("other/config");
        place.plant("other/index.lock");
        fs::create_dir(place.path("p")).unwrap();
        symlink(place.path("other"), place.path("p/.git")).unwrap();
        place.clean(true);
        assert!(!files::exists(&place.path("p/.git")));
        place.plant("p/.git");
        place.clean(true);
        assert!(!files::exists(&place.path("p/.git")));
        assert!(place.path("other/config").exists() && place.path("other/index.lock").exists());
    }

    #[test]
    fn links_inside_the_git_directory_are_not_followed() {
        let place = Place::new();
        place.plant("other/attributes");
        place.plant("other/x.lock");
        fs::create_dir_all(place.path("p/.git")).unwrap();
        place.plant("other/info/x.lock");
        for name in ["info", "refs", "hooks", "config", "objects"] {
            symlink(place.path("other"), place.path("p/.git").join(name)).unwrap();
        }
        place.clean(true);
        for name in ["other/attributes", "other/x.lock", "other/info/x.lock"] {
            assert!(place.path(name).exists(), "{name}");
        }
        assert!(
            !files::exists(&place.path("p/.git/hooks"))
                && !files::exists(&place.path("p/.git/config"))
        );
    }

    #[test]
    fn repositories_of_submodules_are_cleaned_at_any_depth() {
        let place = Place::new();
        let modules = ["a", "group/b", "a/modules/nested"];
        for module in modules {
            for name in [
                "HEAD",
                "config",
                "hooks/post-checkout",
                "index.lock",
                "refs/heads/config",
                "objects/ab/HEAD",
                "refs/heads/x.lock",
            ] {
                place.plant(&format!("p/.git/modules/{module}/{name}"));
            }
        }
        place.plant("p/.git/modules/config");
        place.plant("other/HEAD");
        place.plant("other/config");
        symlink(place.path("other"), place.path("p/.git/modules/linked")).unwrap();
        let mut found = submodule_git_dirs(&place.path("p")).unwrap();
        found.sort();
        let mut expected = modules.map(|name| place.path(&format!("p/.git/modules/{name}")));
        expected.sort();
        assert_eq!(found, expected);
        place.clean(true);
        for module in modules {
            let at = |name: &str| place.path(&format!("p/.git/modules/{module}/{name}"));
            for gone in ["config", "hooks", "index.lock", "refs/heads/x.lock"] {
                assert!(!files::exists(&at(gone)), "{module} {gone}");
            }
            for kept in ["HEAD", "refs/heads/config", "objects/ab/HEAD"] {
                assert!(files::exists(&at(kept)), "{module} {kept}");
            }
        }
        assert!(!files::exists(&place.path("p/.git/modules/linked")));
        assert!(place.path("other/config").exists());
    }

    #[test]
    fn a_submodule_s_repository_is_only_believed_below_the_project_s_modules() {
        let place = Place::new();
        place.plant("p/.git/modules/a/HEAD");
        place.plant("p/elsewhere/HEAD");
        fs::create_dir_all(place.path("p/a")).unwrap();
        for (content, believed) in [
            (Some("gitdir: ../.git/modules/a\n"), true),
            (Some("gitdir: ../.git/modules/none\n"), false),
            (Some("gitdir: ../.git/modules\n"), false),
            (
                Some("gitdir: ../.git/modules/a/../../../elsewhere\n"),
                false,
            ),
            (Some("gitdir: ../elsewhere\n"), false),
            (Some("nonsense"), false),
            (None, false),
        ] {
            let git = place.path("p/a/.git");
            files::remove(&git).unwrap();
            match content {
                Some(content) => fs::write(&git, content).unwrap(),
                None => fs::create_dir(&git).unwrap(),
            }
            place.plant("p/a/nested/.git/config");
            distrust_submodule(&place.path("p"), "a").unwrap();
            assert_eq!(files::exists(&git), believed, "{content:?}");
            assert!(
                !files::exists(&place.path("p/a/nested/.git")),
                "{content:?}"
            );
        }
        let absolute = format!("gitdir: {}\n", place.path("p/.git/modules/a").display());
        fs::write(place.path("p/a/.git"), absolute).unwrap();
        distrust_submodule(&place.path("p"), "a").unwrap();
        assert!(files::exists(&place.path("p/a/.git")));
        distrust_submodule(&place.path("p"), "../p").unwrap();
        assert!(files::exists(&place.path("p/.git")));
    }
}
