//! Many paths in little memory.
//!
//! A cache may hold a million files, and every byte that is kept of each is a megabyte. So there is no list of paths but a tree of names,
//! in one piece of memory that grows where it is: a name with a directory costs its length and ten bytes, the table that finds it eight,
//! and what is known of it as much as whoever says it puts there. Sorted, the table becomes the order, of four bytes each.

#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    hash::{BuildHasher, RandomState},
    ops::Range,
};

/// A path of [`Paths`]: where its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node(u32);

/// The empty path, below which all others are.
pub(crate) const ROOT: Node = Node(0);

impl Node {
    /// A number of its own.
    pub(crate) fn number(self) -> u64 {
        self.0.into()
    }
}

/// There is no room for more: four gigabytes of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

// Each name has in front of it: its directory, where its details are (0: none), its marks, and its length.
const DIRECTORY: usize = 0;
const DETAILS: usize = 4;
const MARKS: usize = 8;
const LENGTH: usize = 9;

/// Mark of a name with others below it. The other bits are free for use.
const HAS_CHILDREN: u8 = 1 << 7;

/// Names in a row.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    bytes: Vec<u8>,
}

impl Names {
    fn new() -> Self {
        Self {
            // The root.
            bytes: vec![0; LENGTH + 1],
        }
    }

    fn word(&self, at: usize) -> u32 {
        self.bytes[at..]
            .first_chunk()
            .map_or(0, |word| u32::from_le_bytes(*word))
    }

    fn set_word(&mut self, at: usize, word: u32) {
        self.bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }

    /// Where the next thing goes.
    fn end(&self) -> Result<u32, Full> {
        u32::try_from(self.bytes.len()).map_err(|_| Full)
    }

    fn push(&mut self, directory: Node, name: &[u8]) -> Result<Node, Full> {
        let node = Node(self.end()?);
        self.bytes.extend(directory.0.to_le_bytes());
        self.bytes.extend([0; LENGTH - DETAILS]);
        super::number::put(&mut self.bytes, name.len() as u64);
        self.bytes.extend_from_slice(name);
        self.mark(directory, HAS_CHILDREN);
        Ok(node)
    }

    /// What a path is below; of [`ROOT`] it is itself.
    pub(crate) fn directory(&self, node: Node) -> Node {
        Node(self.word(node.0 as usize + DIRECTORY))
    }

    /// The last part of a path.
    pub(crate) fn name(&self, node: Node) -> &[u8] {
        let mut rest = &self.bytes[node.0 as usize + LENGTH..];
        let len = super::number::take(&mut rest);
        // It was put there in memory.
        &rest[..len as usize]
    }

    /// The whole path.
    pub(crate) fn path(&self, node: Node) -> Vec<u8> {
        let mut nodes = Vec::new();
        let mut at = node;
        while at != ROOT {
            nodes.push(at);
            at = self.directory(at);
        }
        let mut path = Vec::new();
        for &node in nodes.iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(self.name(node));
        }
        path
    }

    /// The marks that are set.
    pub(crate) fn marks(&self, node: Node) -> u8 {
        self.bytes[node.0 as usize + MARKS] & !HAS_CHILDREN
    }

    pub(crate) fn mark(&mut self, node: Node, marks: u8) {
        self.bytes[node.0 as usize + MARKS] |= marks;
    }

    pub(crate) fn unmark(&mut self, node: Node, marks: u8) {
        self.bytes[node.0 as usize + MARKS] &= !(marks & !HAS_CHILDREN);
    }

    fn has_children(&self, node: Node) -> bool {
        self.bytes[node.0 as usize + MARKS] & HAS_CHILDREN != 0
    }

    /// What was put down of a path, and whatever is behind it.
    pub(crate) fn details(&self, node: Node) -> Option<&[u8]> {
        match self.word(node.0 as usize + DETAILS) {
            0 => None,
            at => self.bytes.get(at as usize..),
        }
    }

    /// Puts something down of a path; what was there before is forgotten.
    pub(crate) fn put_details(&mut self, node: Node, details: &[u8]) -> Result<(), Full> {
        let at = self.end()?;
        self.bytes.extend_from_slice(details);
        self.set_word(node.0 as usize + DETAILS, at);
        Ok(())
    }

    /// By directory, then by name.
    fn compare(&self, one: u32, other: u32) -> Ordering {
        let (one, other) = (Node(one), Node(other));
        (self.directory(one).cmp(&self.directory(other)))
            .then_with(|| self.name(one).cmp(self.name(other)))
    }
}

/// Paths, each once, while more are coming.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) names: Names,
    /// A hash table of all but the root; 0: free.
    slots: Vec<u32>,
    count: usize,
    /// Names may come from elsewhere: nobody shall know which ones collide.
    hasher: RandomState,
}

impl Paths {
    pub(crate) fn new() -> Self {
        Self {
            names: Names::new(),
            slots: vec![0; 64],
            count: 0,
            hasher: RandomState::new(),
        }
    }

    /// How many there are, with all directories, without the root.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// All of them but the root, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = Node> {
        self.slots
            .iter()
            .filter(|&&slot| slot != 0)
            .map(|&slot| Node(slot))
    }

    /// A path, which is put down if it is not there yet. Without dots, and without slashes at its ends.
    pub(crate) fn node(&mut self, path: &[u8]) -> Result<Node, Full> {
        let parts = path.split(|&byte| byte == b'/');
        parts
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |directory, name| self.child(directory, name))
    }

    /// The path of a name in a directory, which is put down if it is not there yet.
    pub(crate) fn child(&mut self, directory: Node, name: &[u8]) -> Result<Node, Full> {
        // A quarter stays free.
        if (self.count + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let slot = match self.look_up(directory, name) {
            Ok(node) => return Ok(node),
            Err(slot) => slot,
        };
        let node = self.names.push(directory, name)?;
        self.slots[slot] = node.0;
        self.count += 1;
        Ok(node)
    }

    /// A path, if it is there.
    pub(crate) fn find(&self, path: &[u8]) -> Option<Node> {
        let parts = path.split(|&byte| byte == b'/');
        parts
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |directory, name| self.look_up(directory, name).ok())
    }

    /// The path of a name in a directory, or the slot where it would be.
    fn look_up(&self, directory: Node, name: &[u8]) -> Result<Node, usize> {
        let mut slot = self.slot(directory, name);
        while self.slots[slot] != 0 {
            let node = Node(self.slots[slot]);
            if self.names.directory(node) == directory && self.names.name(node) == name {
                return Ok(node);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        Err(slot)
    }

    fn slot(&self, directory: Node, name: &[u8]) -> usize {
        // Their number is a power of two.
        self.hasher.hash_one((directory.0, name)) as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        let more = vec![0; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, more);
        for node in old.into_iter().filter(|&node| node != 0).map(Node) {
            let mut slot = self.slot(self.names.directory(node), self.names.name(node));
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = node.0;
        }
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.names.bytes.len() + self.slots.len() * size_of::<u32>()
    }

    /// No more are coming.
    pub(crate) fn sorted(self) -> Sorted {
        let Self {
            mut names,
            mut slots,
            ..
        } = self;
        slots.retain(|&node| node != 0);
        slots.shrink_to_fit();
        slots.sort_unstable_by(|&one, &other| names.compare(one, other));
        names.bytes.shrink_to_fit();
        Sorted {
            names,
            order: slots,
        }
    }
}

/// Paths that can be gone through in the order of their bytes.
#[derive(Debug, Clone)]
pub(crate) struct Sorted {
    pub(crate) names: Names,
    /// All but the root, by directory and name.
    order: Vec<u32>,
}

impl Default for Sorted {
    fn default() -> Self {
        Paths::new().sorted()
    }
}

impl Sorted {
    /// All in the order of the bytes of their paths, without the root.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk {
            sorted: self,
            levels: vec![Level {
                rest: self.children(ROOT),
                prefix: 0,
                first_waiting: 0,
            }],
            waiting: Vec::new(),
            path: Vec::new(),
        }
    }

    /// A path, which is put down if it is not there yet. It takes as long as there are paths.
    pub(crate) fn node(&mut self, path: &[u8]) -> Result<Node, Full> {
        let mut directory = ROOT;
        for name in path.split(|&byte| byte == b'/') {
            let children = self.children(directory);
            let found = self.order[children.clone()]
                .binary_search_by(|&child| self.names.name(Node(child)).cmp(name));
            directory = match found {
                Ok(at) => Node(self.order[children.start + at]),
                Err(at) => {
                    let node = self.names.push(directory, name)?;
                    self.order.insert(children.start + at, node.0);
                    node
                }
            };
        }
        Ok(directory)
    }

    /// Where those directly below a path are in the order.
    fn children(&self, node: Node) -> Range<usize> {
        let directory = |child: u32| self.names.directory(Node(child));
        let start = self.order.partition_point(|&child| directory(child) < node);
        let count = self.order[start..].partition_point(|&child| directory(child) == node);
        start..start + count
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.names.bytes.capacity() + self.order.capacity() * size_of::<u32>()
    }
}

/// Goes through [`Sorted`]. What is below a directory does not always follow it at once: `a-b` is before `a/b`.
pub(crate) struct Walk<'a> {
    sorted: &'a Sorted,
    levels: Vec<Level>,
    /// Directories that were named and not yet entered.
    waiting: Vec<Node>,
    path: Vec<u8>,
}

struct Level {
    rest: Range<usize>,
    /// Length of the path of the directory, with its slash.
    prefix: usize,
    /// Those before it in `waiting` are of the levels above.
    first_waiting: usize,
}

impl Walk<'_> {
    /// Of the last one.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }
}

impl Iterator for Walk<'_> {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        let names = &self.sorted.names;
        loop {
            let level = self.levels.last_mut()?;
            self.path.truncate(level.prefix);
            let next = self.sorted.order[level.rest.clone()].first();
            let next = next.map(|&node| Node(node));
            if self.waiting.len() > level.first_waiting
                && let Some(&directory) = self.waiting.last()
                && next.is_none_or(|next| is_behind(names.name(next), names.name(directory)))
            {
                self.waiting.pop();
                self.path.extend_from_slice(names.name(directory));
                self.path.push(b'/');
                self.levels.push(Level {
                    rest: self.sorted.children(directory),
                    prefix: self.path.len(),
                    first_waiting: self.waiting.len(),
                });
                continue;
            }
            let Some(node) = next else {
                self.levels.pop();
                continue;
            };
            level.rest.start += 1;
            if names.has_children(node) {
                self.waiting.push(node);
            }
            self.path.extend_from_slice(names.name(node));
            return Some(node);
        }
    }
}

/// Whether a name comes behind what is below a directory beside it, whose name comes before it.
fn is_behind(name: &[u8], directory: &[u8]) -> bool {
    match name.strip_prefix(directory) {
        Some(rest) => rest.first().is_some_and(|&byte| byte > b'/'),
        None => true,
    }
}
