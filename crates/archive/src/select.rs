//! Which files of a project are meant by the paths of a job (job-lifecycle §6.1), and what to tell of it, in the peer's words.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Bound,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component as Part, Path, PathBuf},
};

use crate::{
    Item, Pattern,
    error::shown,
    glob::{full, glob, join},
};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The project directory, absolute.
    pub root: &'a Path,
    /// Patterns, expanded.
    pub paths: &'a [String],
    /// Patterns of what is left out, expanded.
    pub exclude: &'a [String],
    /// What `git ls-files -o -z` says, or why it says nothing. `None`: not asked for.
    pub untracked: Option<Result<&'a [u8], &'a str>>,
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
    /// Sorted by the bytes of their paths; each once.
    pub items: Vec<Item>,
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
        seen: BTreeMap::new(),
        items: Vec::new(),
        walked: BTreeSet::new(),
        dropped: BTreeMap::new(),
        messages: Vec::new(),
    };
    for path in wanted.paths {
        search.path(path);
    }
    match wanted.untracked {
        None => {}
        Some(Err(why)) => search.warn(format!("untracked: {}", shown(why.as_bytes()))),
        Some(Ok(names)) => search.untracked(names),
    }
    search.finish()
}

const NO_ITEM: u32 = u32::MAX;

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
    /// Everything found, and where its item is; [`NO_ITEM`]: not a thing that archives hold. Of a million files each byte is a megabyte,
    /// and a map has a third of its places free: so it holds little.
    seen: BTreeMap<Box<[u8]>, u32>,
    /// As they were found, still without their paths.
    items: Vec<Item>,
    /// Trees that have been gone through.
    walked: BTreeSet<Vec<u8>>,
    /// What is left out, and by which pattern.
    dropped: BTreeMap<Vec<u8>, usize>,
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
        let matches = match Pattern::new(&path) {
            Ok(pattern) => {
                let mut matches = glob(self.root, &pattern);
                // A name with a stray backslash or the like, spelled as it is on disk.
                if matches.is_empty() && is_plain(&path) && self.exists(&path) {
                    matches.insert(path);
                }
                matches
            }
            Err(_) if is_plain(&path) && self.exists(&path) => BTreeSet::from([path]),
            Err(error) => {
                self.warn(format!("{name}: {error}"));
                return;
            }
        };
        let mut found = 0;
        for path in matches {
            found += self.tree(&path);
        }
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

    fn untracked(&mut self, names: &[u8]) {
        let mut found = 0;
        for name in names.split(|&byte| byte == 0) {
            // A repository inside the project is listed as a directory.
            let name = name.strip_suffix(b"/").unwrap_or(name);
            if !name.is_empty() && !name.split(|&byte| byte == b'/').any(|part| part == b"..") {
                found += self.one(name);
            }
        }
        if found == 0 {
            self.warn("untracked: no files".into());
        } else {
            self.info(format!("untracked: found {found} files"));
        }
    }

    fn exists(&self, path: &[u8]) -> bool {
        fs::symlink_metadata(full(self.root, path)).is_ok()
    }

    /// A match with everything below it; gives their number. What was counted for an earlier match is counted again, as in the peer.
    fn tree(&mut self, path: &[u8]) -> u64 {
        if self.is_walked(path) {
            return self.recount(path);
        }
        self.walked.insert(path.to_vec());
        self.descend(path)
    }

    fn descend(&mut self, path: &[u8]) -> u64 {
        let mut found = self.one(path);
        let full = full(self.root, path);
        if fs::symlink_metadata(&full).is_ok_and(|found| found.is_dir()) {
            for entry in fs::read_dir(&full).into_iter().flatten().flatten() {
                let path = join(path, &entry.file_name().into_vec());
                found += match entry.file_type() {
                    Ok(kind) if kind.is_dir() => self.descend(&path),
                    _ => self.one(&path),
                };
            }
        }
        found
    }

    fn is_walked(&self, path: &[u8]) -> bool {
        let mut parent = Some(path);
        while let Some(path) = parent {
            if self.walked.contains(path) {
                return true;
            }
            parent = match path.iter().rposition(|&byte| byte == b'/') {
                Some(end) => Some(&path[..end]),
                None if path.is_empty() => None,
                None => Some(&[]),
            };
        }
        false
    }

    /// The number of what is below a tree that has been gone through.
    fn recount(&mut self, path: &[u8]) -> u64 {
        if path.is_empty() {
            return self.seen.len() as u64;
        }
        let start = [path, b"/"].concat();
        // '0' follows '/'.
        let end = [path, b"0"].concat();
        let below = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
        let mut found = self.seen.range::<[u8], _>(below).count() as u64;
        found += u64::from(self.seen.contains_key(path));
        let again: Vec<usize> = self
            .dropped
            .range(start..end)
            .map(|(_, index)| *index)
            .chain(self.dropped.get(path).copied())
            .collect();
        for index in again {
            self.exclude[index].count += 1;
        }
        found
    }

    /// One file or directory: 1 if it is wanted.
    fn one(&mut self, path: &[u8]) -> u64 {
        if let Some(index) = self.excluded_by(path) {
            self.exclude[index].count += 1;
            self.dropped.insert(path.to_vec(), index);
            return 0;
        }
        if self.seen.contains_key(path) {
            return 1;
        }
        let Ok(found) = fs::symlink_metadata(full(self.root, path)) else {
            return 0;
        };
        let item = if path.is_empty() {
            None
        } else {
            Item::new(&found)
        };
        let place = match item {
            Some(item) => {
                self.items.push(item);
                // There is no room for more.
                (self.items.len() - 1) as u32
            }
            None => NO_ITEM,
        };
        self.seen.insert(path.into(), place);
        1
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
        // Where each item goes, by the order of the paths.
        let mut places = vec![0; self.items.len()];
        let mut items = self.items;
        let sorted = self.seen.into_iter().filter(|(_, item)| *item != NO_ITEM);
        for (place, (path, item)) in sorted.enumerate() {
            items[item as usize].path = path;
            places[item as usize] = place as u32;
        }
        in_order(&mut items, &mut places);
        Selected {
            items,
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

/// Moves each to its place: `places` are all different. Needs no room.
fn in_order<T>(items: &mut [T], places: &mut [u32]) {
    for index in 0..items.len() {
        while places[index] as usize != index {
            let place = places[index] as usize;
            items.swap(index, place);
            places.swap(index, place);
        }
    }
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
