//! The files a cache or artifact is made of: expands what the job says, asks git for untracked files, and tells what was found.

use std::{collections::BTreeMap, path::Path, process::Command, sync::OnceLock};

use gantry_agent::Selection;
use gantry_archive::{Item, MessageKind, Wanted, select};

use crate::{expansion::expand, http::shown, log};

/// Looks for files, telling of each path.
pub(crate) fn find(root: &Path, selection: &Selection) -> Vec<Item> {
    let paths = expand_all("path", &selection.paths);
    let exclude = expand_all("exclude pattern", &selection.exclude);
    let untracked = selection.untracked.then(|| untracked(root));
    let selected = select(&Wanted {
        root,
        paths: &paths,
        exclude: &exclude,
        untracked: untracked.as_ref().map(|found| match found {
            Ok(names) => Ok(&names[..]),
            Err(why) => Err(&why[..]),
        }),
    });
    for message in selected.messages {
        match message.kind {
            MessageKind::Info => log::info(&message.text),
            MessageKind::Warning => log::warning(&message.text),
        }
    }
    selected.items
}

/// Values of variables that were given by flags of a command.
static GIVEN: OnceLock<BTreeMap<&'static str, String>> = OnceLock::new();

/// Flags of a command count for more than the variables that stand in for them. Once, before anybody asks for a variable.
pub(crate) fn stand_in(given: BTreeMap<&'static str, String>) {
    // A process does one command; a second one would have the flags of the first.
    GIVEN.set(given).ok();
}

/// The value of a variable of the job.
pub(crate) fn variable(name: &str) -> Option<String> {
    let given = GIVEN.get().and_then(|given| given.get(name));
    given.cloned().or_else(|| std::env::var(name).ok())
}

fn expand_all(what: &str, texts: &[String]) -> Vec<String> {
    texts
        .iter()
        .map(|text| {
            expand(text, &variable).unwrap_or_else(|error| {
                log::warning(&format!("invalid {what} {:?}: {error}", shown(text)));
                text.clone()
            })
        })
        .collect()
}

/// `git ls-files -o -z`: names with a zero byte behind each.
fn untracked(root: &Path) -> Result<Vec<u8>, String> {
    let git = Command::new("git")
        // Nothing of the job's repository may run here.
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(["ls-files", "-o", "-z"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if git.status.success() {
        return Ok(git.stdout);
    }
    let text = String::from_utf8_lossy(&git.stderr);
    Err(shown(
        text.trim().lines().last().unwrap_or("git ls-files failed"),
    ))
}
