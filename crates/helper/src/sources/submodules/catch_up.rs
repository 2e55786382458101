//! Submodules that are there, but not at the commit that is wanted: `git submodule update` clones side by side, and fetches one after
//! the other. So they are fetched before it looks.

use std::{path::Path, process::Stdio};

use gantry_agent::Submodules;

use crate::{
    files,
    stage::{Show, Stage, StageError, text},
};

/// Fetches as `git submodule update` would, where the commit is not reachable yet; it judges what came of it. Arguments: the file with
/// the credentials, an option for the depth or nothing, and path and commit of each submodule.
const SCRIPT: &str = r#"
include=$1 depth=$2 running=0
shift 2
while [ $# -gt 1 ]; do
  (
    cd "./$1" || exit 0
    missing=$(git rev-list -n 1 "$2" --not --all 2>&1) && [ -z "$missing" ] && exit 0
    exec git -c "include.path=$include" fetch --quiet ${depth:+"$depth"}
  ) &
  shift 2
  running=$((running + 1))
  [ $((running % 8)) -ne 0 ] || wait
done
wait
"#;

/// Fetches into the submodules of a project that have been cloned before.
///
/// # Errors
/// If the stage is canceled. A fetch that fails is none: git will say why when it tries again.
pub(super) fn run(
    stage: &Stage,
    dir: &Path,
    submodules: &Submodules,
    external: &Path,
) -> Result<(), StageError> {
    let flags = &submodules.update_flags;
    if flags
        .iter()
        .any(|flag| flag == "--no-fetch" || flag == "-N")
    {
        return Ok(());
    }
    let mut query: Vec<&str> = vec!["ls-files", "--stage", "-z", "--"];
    query.extend(submodules.paths.iter().map(String::as_str));
    let (_, listed) = stage.git_output(dir, query, Show::All)?;
    let cloned: Vec<(String, String)> = gitlinks(&listed)
        .into_iter()
        .filter(|(path, _)| {
            let dir = dir.join(path);
            files::is_real_dir(&dir) && files::exists(&dir.join(".git"))
        })
        .collect();
    // One alone is fetched as fast by git.
    if cloned.len() < 2 {
        return Ok(());
    }
    let Some(shell) = stage.find("sh") else {
        return Ok(());
    };
    let mut command = std::process::Command::new(shell);
    command.args(["-c", SCRIPT, "sh"]).arg(text(external));
    command.arg(match submodules.depth {
        0 => String::new(),
        depth => format!("--depth={depth}"),
    });
    for (path, commit) in &cloned {
        command.args([path, commit]);
    }
    command.current_dir(dir);
    stage.run(&mut command, Stdio::null(), Show::Nothing)?;
    Ok(())
}

/// Path and commit of the submodules in what `git ls-files --stage -z` prints: mode, commit, number, tab, path, zero byte.
pub(super) fn gitlinks(listed: &[u8]) -> Vec<(String, String)> {
    listed
        .split(|&byte| byte == 0)
        .filter_map(|entry| {
            let entry = std::str::from_utf8(entry).ok()?;
            let (head, path) = entry.split_once('\t')?;
            let commit = head.strip_prefix("160000 ")?.split(' ').next()?;
            Some((path.to_owned(), commit.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodules_are_told_from_files_whatever_their_names_are() {
        let listed = [
            "100644 aa 0\tfile",
            "160000 bb 0\tlib a\tb",
            "120000 cc 0\tlink",
            "160000 dd 0\tx\n",
            "",
        ];
        let expected = [("lib a\tb", "bb"), ("x\n", "dd")];
        let expected = expected.map(|(path, commit)| (path.to_owned(), commit.to_owned()));
        assert_eq!(gitlinks(listed.join("\0").as_bytes()), expected);
    }
}
