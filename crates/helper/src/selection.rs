//! The files a cache or artifact is made of: expands what the job says, asks git for untracked files, and tells what was found.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

use gantry_agent::Selection;
use gantry_archive::{Items, MessageKind, Wanted, select};

use crate::{expansion::expand, http::shown, log};

/// Looks for files, telling of each path.
pub(crate) fn find(root: &Path, selection: &Selection) -> Items {
    let paths = expand_all("path", &selection.paths);
    let exclude = expand_all("exclude pattern", &selection.exclude);
    let untracked = |take: &mut dyn FnMut(&[u8])| untracked(root, take);
    let selected = select(&Wanted {
        root,
        paths: &paths,
        exclude: &exclude,
        untracked: selection.untracked.then_some(&untracked),
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

/// Gives what `git ls-files -o` says: never all at once, as it may be a million names.
fn untracked(root: &Path, take: &mut dyn FnMut(&[u8])) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot run git: {error}");
    let mut git = Command::new("git")
        // Nothing of the job's repository may run here.
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(["ls-files", "-o", "-z"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let (names, mut complaints) = (git.stdout.take(), git.stderr.take());
    let (read, text) = thread::scope(|scope| {
        let text = scope.spawn(move || {
            let mut text = Vec::new();
            complaints
                .as_mut()
                .map(|complaints| complaints.read_to_end(&mut text));
            text
        });
        let read = names.map_or(Ok(()), |names| each_name(names, take));
        (read, text.join().unwrap_or_default())
    });
    let status = git.wait().map_err(cannot)?;
    read.map_err(cannot)?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text);
    Err(shown(
        text.trim().lines().last().unwrap_or("git ls-files failed"),
    ))
}

/// Names with a zero byte behind each.
fn each_name(names: impl Read, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut names = BufReader::new(names);
    let mut name = Vec::new();
    while names.read_until(0, &mut name)? > 0 {
        take(name.strip_suffix(&[0]).unwrap_or(&name));
        name.clear();
    }
    Ok(())
}
