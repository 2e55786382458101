//! Which files of a project are meant by the paths of a job (job-lifecycle §6.1), and what to tell of it, in the peer's words.

#[cfg(test)]
mod tests;

use std::{
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component as Part, Path, PathBuf},
};

use crate::{
    Item, Items, Pattern,
    collect::{IS_ITEM, time},
    error::shown,
    glob::{full, glob, join},
    number,
    paths::{Full, Node, Paths, ROOT},
};

/// Gives the names that `git ls-files -o` says, one after another, or says why there are none: then those given do not count.
pub type Untracked<'a> = dyn Fn(&mut dyn FnMut(&[u8])) -> Result<(), String> + 'a;

/// What is asked for.
#[derive(Clone)]
pub struct Wanted<'a> {
    /// The project directory, absolute.
    pub root: &'a Path,
    /// Patterns, expanded.
    pub paths: &'a [String],
    /// Patterns of what is left out, expanded.
    pub exclude: &'a [String],
    /// What git does not know. `None`: not asked for.
    pub untracked: Option<&'a Untracked<'a>>,
}

/// How a [`Message`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// For information.
    Info,
    /// The selection is not what was asked for.
    Warning,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Kind.
    pub kind: MessageKind,
    /// Text, without control characters.
    pub text: String,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// The files, directories and links.
    pub items: Items,
    /// In the order in which they are to be shown.
    pub messages: Vec<Message>,
}

/// Looks for the files. What is not there, or not to be read, gives a message, never an error.
pub fn select(wanted: &Wanted<'_>) -> Selected {
    let mut search = Search {
        root: wanted.root,
        exclude: wanted
            .exclude
            .iter()
            .map(|text| exclude(wanted.root, text))
            .collect(),
        paths: Paths::new(),
        items: 0,
        newest: None,
        matches: Vec::new(),
        is_full: false,
        messages: Vec::new(),
    };
    for path in wanted.paths {
        search.path(path);
    }
    if let Some(untracked) = wanted.untracked {
        search.untracked(untracked);
    }
    search.finish()
}

// Marks of paths, beside the one of items.
/// Wanted, but nothing that archives hold.
const IS_OTHER: u8 = 1 << 1;
/// Left out; its details say by which pattern.
const IS_DROPPED: u8 = 1 << 2;
/// Everything below it has been gone through.
const IS_WALKED: u8 = 1 << 3;
/// It matches the pattern at hand.
const IS_MATCH: u8 = 1 << 4;
/// It does so below something that has been gone through: it is to be counted once more.
const IS_AGAIN: u8 = 1 << 5;

/// An exclude pattern as it was written, and what it means.
struct Exclude {
    text: String,
    pattern: Result<Pattern, String>,
    /// Files it left out.
    count: u64,
    warned: bool,
}

fn exclude(root: &Path, text: &str) -> Exclude {
    let pattern = match below(root, text) {
        None => Err(format!(
            "isExcluded: artifact path is not a subpath of project directory: {}",
            shown(text.as_bytes())
        )),
        Some(path) => Pattern::new(&path)
            .map_err(|error| format!("isExcluded: {}: {error}", shown(text.as_bytes()))),
    };
    Exclude {
        text: text.to_owned(),
        pattern,
        count: 0,
        warned: false,
    }
}

struct Search<'a> {
    root: &'a Path,
    exclude: Vec<Exclude>,
    /// Everything found or left out.
    paths: Paths,
    items: usize,
    newest: Option<(i64, i64)>,
    /// Of the pattern at hand.
    matches: Vec<Node>,
    /// There was no room for more.
    is_full: bool,
    messages: Vec<Message>,
}

impl Search<'_> {
    fn path(&mut self, text: &str) {
        let name = shown(text.as_bytes());
        if text.is_empty() {
            self.warn("No matching files. Path is empty.".into());
            return;
        }
        let Some(path) = below(self.root, text) else {
            self.warn(format!(
                "processPath: artifact path is not a subpath of project directory: {name}"
            ));
            return;
        };
        let root = self.root;
        let mut found = 0;
        match Pattern::new(&path) {
            Ok(pattern) => {
                glob(root, &pattern, &mut |path| found += self.matched(path));
                // A name with a stray backslash or the like, spelled as it is on disk.
                if self.matches.is_empty() && is_plain(&path) && self.exists(&path) {
                    found += self.matched(&path);
                }
            }
            Err(_) if is_plain(&path) && self.exists(&path) => found += self.matched(&path),
            Err(error) => {
                self.warn(format!("{name}: {error}"));
                return;
            }
        }
        found += self.recount();
        if found == 0 {
            self.warn(format!(
                "{name}: no matching files. Ensure that the artifact path is relative to the working directory ({})",
                self.root.display()
            ));
        } else {
            self.info(format!(
                "{name}: found {found} matching artifact files and directories"
            ));
        }
    }

    fn untracked(&mut self, untracked: &Untracked<'_>) {
        let (mut found, mut new) = (0, Vec::new());
        let (items, newest) = (self.items, self.newest);
        let counts: Vec<u64> = self.exclude.iter().map(|exclude| exclude.count).collect();
        let given = untracked(&mut |name| {
            // A repository inside the project is listed as a directory.
            let name = name.strip_suffix(b"/").unwrap_or(name);
            if name.is_empty() || name.split(|&byte| byte == b'/').any(|part| part == b"..") {
                return;
            }
            let node = self.paths.node(name);
            let Some(node) = self.room(node) else {
                return;
            };
            let before = self.paths.names.marks(node);
            found += self.one(node, name);
            if self.paths.names.marks(node) != before {
                new.push(node);
            }
        });
        match given {
            Ok(()) if found == 0 => self.warn("untracked: no files".into()),
            Ok(()) => self.info(format!("untracked: found {found} files")),
            Err(why) => {
                for node in new {
                    self.paths
                        .names
                        .unmark(node, IS_ITEM | IS_OTHER | IS_DROPPED);
                }
                (self.items, self.newest) = (items, newest);
                for (exclude, count) in self.exclude.iter_mut().zip(counts) {
                    exclude.count = count;
                }
                self.warn(format!("untracked: {}", shown(why.as_bytes())));
            }
        }
    }

    fn exists(&self, path: &[u8]) -> bool {
        fs::symlink_metadata(full(self.root, path)).is_ok()
    }

    /// A match with everything below it, unless it is one already; gives their number, but of those that [`Search::recount`] will tell.
    fn matched(&mut self, path: &[u8]) -> u64 {
        let node = self.paths.node(path);
        let Some(node) = self.room(node) else {
            return 0;
        };
        if self.paths.names.marks(node) & IS_MATCH != 0 {
            return 0;
        }
        self.paths.names.mark(node, IS_MATCH);
        self.matches.push(node);
        if self.is_below(node, IS_WALKED) {
            self.paths.names.mark(node, IS_AGAIN);
            return 0;
        }
        self.paths.names.mark(node, IS_WALKED);
        self.descend(node, path)
    }

    fn descend(&mut self, node: Node, path: &[u8]) -> u64 {
        let mut found = self.one(node, path);
        let full = full(self.root, path);
        if fs::symlink_metadata(&full).is_ok_and(|found| found.is_dir()) {
            for entry in fs::read_dir(&full).into_iter().flatten().flatten() {
                let name = entry.file_name().into_vec();
                let path = join(path, &name);
                let child = self.paths.child(node, &name);
                let Some(child) = self.room(child) else {
                    break;
                };
                found += match entry.file_type() {
                    Ok(kind) if kind.is_dir() => self.descend(child, &path),
                    _ => self.one(child, &path),
                };
            }
        }
        found
    }

    /// Whether a path or one that it is below has a mark.
    fn is_below(&self, mut node: Node, mark: u8) -> bool {
        while self.paths.names.marks(node) & mark == 0 {
            if node == ROOT {
                return false;
            }
            node = self.paths.names.directory(node);
        }
        true
    }

    /// Ends the matches of a pattern; gives the number of what is at and below those that had been gone through before. What was counted
    /// for an earlier match is counted again, as in the peer.
    fn recount(&mut self) -> u64 {
        let mut found = 0;
        let names = &mut self.paths.names;
        if self
            .matches
            .iter()
            .any(|&node| names.marks(node) & IS_AGAIN != 0)
        {
            for node in self.paths.all().chain([ROOT]) {
                found += recounted(&self.paths, node, &mut self.exclude);
            }
        }
        for node in self.matches.drain(..) {
            self.paths.names.unmark(node, IS_MATCH | IS_AGAIN);
        }
        found
    }

    /// One file or directory: 1 if it is wanted.
    fn one(&mut self, node: Node, path: &[u8]) -> u64 {
        if let Some(index) = self.excluded_by(path) {
            self.exclude[index].count += 1;
            if self.paths.names.marks(node) & (IS_ITEM | IS_OTHER | IS_DROPPED) == 0 {
                let mut details = Vec::new();
                number::put(&mut details, index as u64);
                let put = self.paths.names.put_details(node, &details);
                if self.room(put).is_some() {
                    self.paths.names.mark(node, IS_DROPPED);
                }
            }
            return 0;
        }
        if self.paths.names.marks(node) & (IS_ITEM | IS_OTHER) != 0 {
            return 1;
        }
        let Ok(found) = fs::symlink_metadata(full(self.root, path)) else {
            return 0;
        };
        let item = if node == ROOT {
            None
        } else {
            Item::new(&found)
        };
        let Some(item) = item else {
            self.paths.names.mark(node, IS_OTHER);
            return 1;
        };
        let mut details = Vec::with_capacity(32);
        item.put(&mut details);
        let put = self.paths.names.put_details(node, &details);
        if self.room(put).is_none() {
            return 0;
        }
        self.paths.names.mark(node, IS_ITEM);
        self.items += 1;
        self.newest = self.newest.max(Some(time(&found)));
        1
    }

    /// What found room. Said once if there is none.
    fn room<T>(&mut self, found: Result<T, Full>) -> Option<T> {
        if found.is_err() && !self.is_full {
            self.is_full = true;
            self.warn("there are more files than an archive holds: the rest is left out".into());
        }
        found.ok()
    }

    fn excluded_by(&mut self, path: &[u8]) -> Option<usize> {
        for index in 0..self.exclude.len() {
            match &self.exclude[index].pattern {
                Ok(pattern) if pattern.matches(path) => return Some(index),
                Ok(_) => {}
                // The peer stops looking here, for every file.
                Err(why) => {
                    if !self.exclude[index].warned {
                        let why = why.clone();
                        self.exclude[index].warned = true;
                        self.warn(why);
                    }
                    return None;
                }
            }
        }
        None
    }

    fn finish(mut self) -> Selected {
        for index in 0..self.exclude.len() {
            let Exclude { text, count, .. } = &self.exclude[index];
            if *count > 0 {
                let text = format!("{}: excluded {count} files", shown(text.as_bytes()));
                self.info(text);
            }
        }
        Selected {
            items: Items {
                paths: self.paths.sorted(),
                count: self.items,
                newest: self.newest,
            },
            messages: self.messages,
        }
    }

    fn info(&mut self, text: String) {
        self.messages.push(Message {
            kind: MessageKind::Info,
            text,
        });
    }

    fn warn(&mut self, text: String) {
        self.messages.push(Message {
            kind: MessageKind::Warning,
            text,
        });
    }
}

/// How often a path is at or below a match that is to be counted again, if it is wanted. If it is left out, that is counted.
fn recounted(paths: &Paths, node: Node, exclude: &mut [Exclude]) -> u64 {
    let names = &paths.names;
    let marks = names.marks(node);
    if marks & (IS_ITEM | IS_OTHER | IS_DROPPED) == 0 {
        return 0;
    }
    let (mut times, mut at) = (0, node);
    loop {
        times += u64::from(names.marks(at) & IS_AGAIN != 0);
        if at == ROOT {
            break;
        }
        at = names.directory(at);
    }
    if marks & IS_DROPPED == 0 {
        return times;
    }
    if let Some(mut details) = names.details(node) {
        // There are as many patterns as before.
        exclude[number::take(&mut details) as usize].count += times;
    }
    0
}

/// Whether nothing in a path makes it a pattern.
fn is_plain(path: &[u8]) -> bool {
    !path.iter().any(|byte| b"*?[{".contains(byte))
}

/// A path relative to the root, without `.` and `..`; empty: the root itself. `None`: it leads out.
fn below(root: &Path, text: &str) -> Option<Vec<u8>> {
    let path = clean(&root.join(text));
    let path = path.strip_prefix(clean(root)).ok()?;
    Some(path.as_os_str().as_bytes().to_vec())
}

/// Without `.` and `..`, by its words alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Part::ParentDir => {
                clean.pop();
            }
            Part::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}
