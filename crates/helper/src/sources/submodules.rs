//! Submodules (job-lifecycle §4.6).
//!
//! What the peer does, in its order, with these differences: repositories of submodules are fetched side by side; a `.git` below a
//! submodule that a former job may have planted is removed before git runs there; what lets scripts of the job use the credentials
//! is written to the configuration files by this program, because git would start three processes for each of them.

mod catch_up;
mod damage;

use std::{fs, io, path::Path};

use gantry_agent::{ObjectFormat, SourcesRequest, Submodules};

use super::server;
use crate::{
    files, git_config, hygiene,
    stage::{Show, Stage, StageError, text},
};

/// How many repositories are fetched at a time. The waiting is for the network and the server; more than this a server may take
/// for an attack.
const JOBS: &str = "--jobs=8";

/// Pulls LFS files where attributes of the commit name LFS.
const LFS_PULL: &str =
    "if git grep --quiet -e filter=lfs HEAD -- '*.gitattributes'; then git lfs pull; fi";

/// Updates the submodules of a project that is checked out. Where git fails with what is kept of them, and that is damaged, they are
/// fetched anew.
pub(super) fn update(
    stage: &mut Stage,
    request: &SourcesRequest,
    submodules: &Submodules,
    external: &Path,
    lfs: bool,
) -> Result<(), StageError> {
    let failure = match update_once(stage, request, submodules, external, lfs) {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    let dir = request.project_dir.as_path();
    if !failure.is_of_git() || !damage::is_found(stage, dir)? {
        return Err(failure);
    }
    stage.warning(&format!(
        "The submodules left by an earlier job are damaged ({failure}). Trying again without them..."
    ));
    damage::remove(stage, dir)?;
    update_once(stage, request, submodules, external, lfs)
}

fn update_once(
    stage: &mut Stage,
    request: &SourcesRequest,
    submodules: &Submodules,
    external: &Path,
    lfs: bool,
) -> Result<(), StageError> {
    stage.notice(&announcement(submodules));
    let dir = request.project_dir.as_path();
    distrust(stage, request)?;

    let words = Words::new(request, submodules, external);
    stage.git(Some(dir), ["submodule", "init"], "submodule")?;
    git(stage, dir, &words.sync())?;
    git(stage, dir, &words.clean())?;
    git(stage, dir, &words.reset())?;
    catch_up::run(stage, dir, submodules, external)?;
    if server::status(stage, Some(dir), words.update())? == 0 {
        stage.notice("Updated submodules");
        git(stage, dir, &words.sync())?;
    } else {
        stage.warning("Updating submodules failed. Retrying...");
        if submodules
            .update_flags
            .iter()
            .any(|flag| flag == "--remote")
        {
            // A branch of the remote may not have been fetched: the repository was cloned for one commit.
            git(stage, dir, &words.fetch_branches())?;
        }
        git(stage, dir, &words.sync())?;
        server::run(stage, Some(dir), words.update(), "submodule")?;
        git(stage, dir, &words.reset())?;
    }
    git(stage, dir, &words.clean())?;

    stage.notice("Configuring submodules to use parent git credentials...");
    for repository in hygiene::submodule_git_dirs(dir)? {
        include_credentials(&repository.join("config"), external)?;
    }
    if lfs {
        stage.notice("Pulling LFS files...");
        git(stage, dir, &words.lfs_pull())?;
    }
    Ok(())
}

/// Where the index has submodules, in a project that has cloned any.
pub(super) fn places(stage: &Stage, dir: &Path) -> Result<Vec<String>, StageError> {
    if !hygiene::has_submodule_git_dirs(dir) {
        return Ok(Vec::new());
    }
    let (_, listed) = stage.git_output(dir, ["ls-files", "--stage", "-z"], Show::All)?;
    let places = catch_up::gitlinks(&listed).into_iter();
    Ok(places.map(|(path, _)| path).collect())
}

/// Where a submodule was and is none in the commit that has been checked out, git leaves its `.git`, which no cleaning takes from a
/// folder that has files of the commit now: git in that folder would show the repository of the former submodule.
pub(super) fn detach_former(
    stage: &Stage,
    dir: &Path,
    before: &[String],
) -> Result<(), StageError> {
    if before.is_empty() {
        return Ok(());
    }
    let now = places(stage, dir)?;
    for path in before.iter().filter(|path| !now.contains(path)) {
        hygiene::detach(dir, path)?;
    }
    Ok(())
}

fn git(stage: &Stage, dir: &Path, words: &[String]) -> Result<(), StageError> {
    stage.git(Some(dir), words, "submodule")
}

fn announcement(submodules: &Submodules) -> String {
    let recursively = if submodules.recursive {
        " recursively"
    } else {
        ""
    };
    let depth = match submodules.depth {
        0 => String::new(),
        depth => format!(" with git depth set to {depth}"),
    };
    format!("Updating/initializing submodules{recursively}{depth}...")
}

/// Makes what a former job left of submodules harmless.
fn distrust(stage: &Stage, request: &SourcesRequest) -> Result<(), StageError> {
    let dir = request.project_dir.as_path();
    if !request.clean_git_config {
        return Ok(());
    }
    if request.object_format == ObjectFormat::Sha256 {
        // Their configuration has been removed, and with it the word for it.
        for repository in hygiene::submodule_git_dirs(dir)? {
            let config = repository.join("config");
            if !files::exists(&config) {
                files::write(&config, 0o666, git_config::minimal(true).as_bytes())?;
            }
        }
    }
    let modules = dir.join(".gitmodules");
    if !fs::symlink_metadata(&modules).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let query = [
        "config",
        "-z",
        "--file",
        ".gitmodules",
        "--get-regexp",
        r"^submodule\..*\.path$",
    ];
    // Without any it says 1; a file that cannot be read fails the next command with its own words.
    let (_, output) = stage.git_output(dir, query, Show::All)?;
    for path in paths(&output) {
        hygiene::distrust_submodule(dir, &path)?;
    }
    Ok(())
}

/// The values of `git config -z --get-regexp`: name, line break, value, zero byte.
fn paths(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    text.split('\0')
        .filter_map(|entry| entry.split_once('\n'))
        .map(|(_, path)| path.to_owned())
        .collect()
}

/// Lets git in a submodule read the file with the credential helper.
fn include_credentials(config: &Path, external: &Path) -> Result<(), StageError> {
    let include = git_config::include(external);
    let before = match fs::read_to_string(config) {
        Ok(before) => before,
        // Cleaned, and not among this job's submodules: gone from the project, excluded, or nested where these are not asked for.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(files::at("cannot read", config, &error).into()),
    };
    if before.contains(&include) {
        return Ok(());
    }
    let line = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let content = format!("{before}{line}{include}");
    fs::write(config, content).map_err(|error| files::at("cannot write", config, &error))?;
    Ok(())
}

/// The commands.
struct Words<'a> {
    request: &'a SourcesRequest,
    submodules: &'a Submodules,
    external: &'a Path,
}

impl<'a> Words<'a> {
    fn new(request: &'a SourcesRequest, submodules: &'a Submodules, external: &'a Path) -> Self {
        Self {
            request,
            submodules,
            external,
        }
    }

    fn recursive(&self) -> Option<&'static str> {
        self.submodules.recursive.then_some("--recursive")
    }

    fn paths(&self) -> impl Iterator<Item = String> {
        let given = !self.submodules.paths.is_empty();
        let paths = self.submodules.paths.iter().cloned();
        given.then(|| "--".to_owned()).into_iter().chain(paths)
    }

    fn sync(&self) -> Vec<String> {
        let mut words: Vec<_> = ["submodule", "sync"].map(String::from).to_vec();
        words.extend(self.recursive().map(String::from));
        words.extend(self.paths());
        words
    }

    fn foreach(&self, command: &[&str]) -> Vec<String> {
        ["submodule", "foreach"]
            .into_iter()
            .chain(self.recursive())
            .chain(command.iter().copied())
            .map(String::from)
            .collect()
    }

    /// Even where the project itself is not cleaned, as in the peer.
    fn clean(&self) -> Vec<String> {
        let mut words = self.foreach(&["git", "clean"]);
        match &self.request.clean_flags {
            Some(flags) => words.extend(flags.iter().cloned()),
            None => words.push("-ffdx".into()),
        }
        words
    }

    fn reset(&self) -> Vec<String> {
        self.foreach(&["git", "reset", "--hard"])
    }

    fn fetch_branches(&self) -> Vec<String> {
        self.foreach(&[
            "git",
            "fetch",
            "origin",
            "+refs/heads/*:refs/remotes/origin/*",
        ])
    }

    /// Where attributes name LFS at all.
    fn lfs_pull(&self) -> Vec<String> {
        self.foreach(&[LFS_PULL])
    }

    fn update(&self) -> Vec<String> {
        let mut words = vec![
            "-c".to_owned(),
            format!("include.path={}", text(self.external)),
        ];
        words.extend(["submodule", "update", "--init"].map(String::from));
        words.extend(self.recursive().map(String::from));
        if self.submodules.depth > 0 {
            words.extend(["--depth".into(), self.submodules.depth.to_string()]);
        }
        let flags = &self.submodules.update_flags;
        if !flags.iter().any(|flag| says_jobs(flag)) {
            words.push(JOBS.into());
        }
        words.extend(flags.iter().cloned());
        words.extend(self.paths());
        words
    }
}

fn says_jobs(flag: &str) -> bool {
    flag.starts_with("--jobs") || flag.starts_with("-j")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(change: fn(&mut SourcesRequest, &mut Submodules)) -> Vec<String> {
        let (mut request, mut submodules) = (SourcesRequest::default(), Submodules::default());
        change(&mut request, &mut submodules);
        let words = Words::new(&request, &submodules, Path::new("/t/x.conf"));
        [
            words.sync(),
            words.clean(),
            words.reset(),
            words.update(),
            words.lfs_pull(),
        ]
        .map(|words| words.join(" "))
        .to_vec()
    }

    // job-lifecycle §4.6, scenario 57
    #[test]
    fn commands_say_what_the_settings_say() {
        assert_eq!(
            words(|_, _| {}),
            [
                "submodule sync",
                "submodule foreach git clean -ffdx",
                "submodule foreach git reset --hard",
                "-c include.path=/t/x.conf submodule update --init --jobs=8",
                &format!("submodule foreach {LFS_PULL}"),
            ]
        );
        assert_eq!(
            words(|request, submodules| {
                request.clean_flags = Some(["-ffdx", "-e", "keep/"].map(String::from).to_vec());
                *submodules = Submodules {
                    recursive: true,
                    paths: ["a", ":(exclude)b"].map(String::from).to_vec(),
                    depth: 3,
                    update_flags: ["--remote", "--jobs", "2"].map(String::from).to_vec(),
                };
            }),
            [
                "submodule sync --recursive -- a :(exclude)b",
                "submodule foreach --recursive git clean -ffdx -e keep/",
                "submodule foreach --recursive git reset --hard",
                "-c include.path=/t/x.conf submodule update --init --recursive --depth 3 --remote --jobs 2 -- a :(exclude)b",
                &format!("submodule foreach --recursive {LFS_PULL}"),
            ]
        );
        assert!(words(|request, _| request.clean_flags = None)[1].ends_with("git clean -ffdx"));
    }

    #[test]
    fn the_announcement_names_recursion_and_depth() {
        let said = |recursive, depth| {
            announcement(&Submodules {
                recursive,
                depth,
                ..Submodules::default()
            })
        };
        assert_eq!(said(false, 0), "Updating/initializing submodules...");
        assert_eq!(
            said(true, 2),
            "Updating/initializing submodules recursively with git depth set to 2..."
        );
    }

    #[test]
    fn paths_are_read_whatever_their_names_are() {
        let output = b"submodule.a.b.path\na/b\0submodule.x\ny.path\nz\0";
        assert_eq!(paths(output), ["a/b", "y.path\nz"]);
    }
}
