//! What an archive holds. Of a million entries each byte is a megabyte: what is known of one is put down as short as its numbers are.

use crate::{
    Kind,
    error::{ExtractError, shown},
    extract::{MOST_ENTRIES, early},
    number,
    paths::{Full, Node, Paths, ROOT, Sorted, Walk},
};

/// One entry of any archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Below the root, without `.`, `..` and slashes at its ends. The root itself is no entry.
    pub(super) path: Box<[u8]>,
    pub(super) kind: Kind,
    /// `None`: as the system makes it.
    pub(super) mode: Option<u32>,
    pub(super) mtime: Option<i64>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) size: u64,
    /// Of a link.
    pub(super) target: Vec<u8>,
    /// In a zip.
    pub(super) data: Option<Data>,
    /// Number of its file in the staging directory. Not put down: it is told from the place of the entry or of its data.
    pub(super) staged: u64,
}

/// Where the data of an entry is, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) start: u64,
    /// Behind its last byte.
    pub(super) end: u64,
    pub(super) method: u16,
    pub(super) crc: u32,
}

// The first byte of what is put down: the kind, and what there is.
const KIND: u8 = 3;
const HAS_MODE: u8 = 1 << 2;
const HAS_MTIME: u8 = 1 << 3;
const HAS_OWNER: u8 = 1 << 4;
const HAS_DATA: u8 = 1 << 5;

/// Mark of a file that was unpacked before the list of the archive was there.
const IS_EARLY: u8 = 1;

impl Entry {
    /// All but the path.
    fn put(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            Kind::File => 0,
            Kind::Dir => 1,
            Kind::Symlink => 2,
        };
        let flag = |has: bool, flag: u8| if has { flag } else { 0 };
        out.push(
            kind | flag(self.mode.is_some(), HAS_MODE)
                | flag(self.mtime.is_some(), HAS_MTIME)
                | flag(self.owner.is_some(), HAS_OWNER)
                | flag(self.data.is_some(), HAS_DATA),
        );
        if let Some(data) = self.data {
            number::put(out, data.start);
            number::put(out, data.end - data.start);
            number::put(out, data.method.into());
            out.extend(data.crc.to_le_bytes());
        }
        if let Some(mode) = self.mode {
            number::put(out, mode.into());
        }
        if let Some(mtime) = self.mtime {
            number::put_signed(out, mtime);
        }
        if let Some((uid, gid)) = self.owner {
            number::put(out, uid.into());
            number::put(out, gid.into());
        }
        number::put(out, self.size);
        if self.kind == Kind::Symlink {
            number::put(out, self.target.len() as u64);
            out.extend_from_slice(&self.target);
        }
    }

    fn take(mut rest: &[u8]) -> Option<Self> {
        let rest = &mut rest;
        let (&flags, behind) = rest.split_first()?;
        *rest = behind;
        let kind = kind(flags);
        let has = |flag: u8| flags & flag != 0;
        let data = if has(HAS_DATA) {
            let start = number::take(rest);
            let end = start + number::take(rest);
            let method = number::take(rest) as u16;
            let (crc, behind) = rest.split_first_chunk()?;
            *rest = behind;
            Some(Data {
                start,
                end,
                method,
                crc: u32::from_le_bytes(*crc),
            })
        } else {
            None
        };
        // All of 32 bits, as they were put there.
        let mode = has(HAS_MODE).then(|| number::take(rest) as u32);
        let mtime = has(HAS_MTIME).then(|| number::take_signed(rest));
        let owner = has(HAS_OWNER).then(|| (number::take(rest) as u32, number::take(rest) as u32));
        let size = number::take(rest);
        let target = if kind == Kind::Symlink {
            let len = number::take(rest);
            rest.get(..len as usize)?.to_vec()
        } else {
            Vec::new()
        };
        Some(Self {
            path: Box::default(),
            kind,
            mode,
            mtime,
            owner,
            size,
            target,
            data,
            staged: 0,
        })
    }
}

fn kind(flags: u8) -> Kind {
    match flags & KIND {
        0 => Kind::File,
        1 => Kind::Dir,
        _ => Kind::Symlink,
    }
}

/// The entries so far.
pub(super) struct Growing {
    paths: Paths,
    count: usize,
    bytes: u64,
}

impl Growing {
    pub(super) fn new() -> Self {
        Self {
            paths: Paths::new(),
            count: 0,
            bytes: 0,
        }
    }

    /// Takes an entry into the plan. `None`: a directory that is listed again.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<Option<Node>, ExtractError> {
        // Directories that are not listed need room, too.
        if self.count >= MOST_ENTRIES || self.paths.len() >= 2 * MOST_ENTRIES {
            return Err(ExtractError::Damaged(format!(
                "it has more than {MOST_ENTRIES} entries"
            )));
        }
        let node = self.paths.node(&entry.path).map_err(full)?;
        if let Some([flags, ..]) = self.paths.names.details(node) {
            if entry.kind == Kind::Dir && kind(*flags) == Kind::Dir {
                return Ok(None);
            }
            return Err(ExtractError::entry(&entry.path, "is in the archive twice"));
        }
        let mut details = Vec::with_capacity(64);
        entry.put(&mut details);
        self.paths.names.put_details(node, &details).map_err(full)?;
        self.count += 1;
        if entry.kind == Kind::File {
            // No more than fits is unpacked.
            self.bytes = self.bytes.saturating_add(entry.size);
        }
        Ok(Some(node))
    }

    /// An entry that is in the plan already, of an archive that is unpacked as it is read.
    pub(super) fn find(&self, path: &[u8]) -> Option<Entry> {
        let node = self.paths.find(path)?;
        let entry = Entry::take(self.paths.names.details(node)?)?;
        Some(Entry {
            path: path.into(),
            staged: node.number(),
            ..entry
        })
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.paths.held()
    }

    /// No more are coming.
    pub(super) fn whole(self) -> Plan {
        Plan {
            paths: self.paths.sorted(),
            count: self.count,
            bytes: self.bytes,
        }
    }
}

fn full(Full: Full) -> ExtractError {
    ExtractError::Damaged("the names of its entries are longer than four gigabytes".into())
}

/// All entries by path, so that parents come first.
pub(super) struct Plan {
    paths: Sorted,
    count: usize,
    bytes: u64,
}

impl Plan {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All entries, and directories that are not listed but have entries below them.
    pub(super) fn walk(&self) -> Walk<'_> {
        self.paths.walk()
    }

    /// `None`: it is not listed.
    pub(super) fn kind(&self, node: Node) -> Option<Kind> {
        let [flags, ..] = self.paths.names.details(node)? else {
            return None;
        };
        Some(kind(*flags))
    }

    /// `None`: it is not listed.
    pub(super) fn entry(&self, node: Node) -> Option<Entry> {
        let names = &self.paths.names;
        let mut entry = self.nameless(node)?;
        entry.path = names.path(node).into();
        entry.staged = match entry.data {
            Some(data) if names.marks(node) & IS_EARLY != 0 => early::staged(data.start),
            _ => node.number(),
        };
        Some(entry)
    }

    /// An entry without its path and the number of its file, which take longer than the rest.
    pub(super) fn nameless(&self, node: Node) -> Option<Entry> {
        Entry::take(self.paths.names.details(node)?)
    }

    /// Where its data begins.
    pub(super) fn data_start(&self, node: Node) -> u64 {
        let data = self.nameless(node).and_then(|entry| entry.data);
        data.map_or(0, |data| data.start)
    }

    /// Its file is the one that was unpacked before the list was there.
    pub(super) fn set_early(&mut self, node: Node) {
        self.paths.names.mark(node, IS_EARLY);
    }

    /// Nothing may lie below a file or link of the archive.
    pub(super) fn check_parents(&self) -> Result<(), ExtractError> {
        let mut walk = self.walk();
        while let Some(node) = walk.next() {
            if self.kind(node).is_none() {
                continue;
            }
            let mut parent = self.paths.names.directory(node);
            while parent != ROOT {
                let what = match self.kind(parent) {
                    None => {
                        parent = self.paths.names.directory(parent);
                        continue;
                    }
                    // Checked for itself.
                    Some(Kind::Dir) => break,
                    Some(Kind::File) => "a file",
                    Some(Kind::Symlink) => "a link",
                };
                return Err(ExtractError::entry(
                    walk.path(),
                    format!(
                        "lies below {}, which is {what} in the archive",
                        shown(&self.paths.names.path(parent))
                    ),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.as_bytes().into(),
            kind,
            mode: Some(0o7755),
            mtime: Some(-1),
            owner: Some((u32::MAX, 0)),
            size: 5 << 30,
            target: Vec::new(),
            data: Some(Data {
                start: 6 << 30,
                end: 7 << 30,
                method: 93,
                crc: 0x1234_5678,
            }),
            staged: 0,
        }
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let large = entry("d/large", Kind::File);
        let link = Entry {
            target: b"../target".to_vec(),
            data: None,
            size: 0,
            ..entry("link", Kind::Symlink)
        };
        let plain = Entry {
            mode: None,
            mtime: None,
            owner: None,
            data: None,
            size: 0,
            ..entry("plain", Kind::Dir)
        };
        let mut growing = Growing::new();
        for entry in [&plain, &large, &link] {
            growing.add(entry).unwrap().unwrap();
        }
        assert_eq!(growing.add(&plain).unwrap(), None);
        let again = growing.add(&link).unwrap_err();
        assert_eq!(again.to_string(), "link: is in the archive twice");
        let mut plan = growing.whole();
        let nodes: Vec<_> = plan.walk().collect();
        let found: Vec<_> = nodes.iter().map(|&node| plan.entry(node)).collect();
        let all = [None, Some(large), Some(link), Some(plain)];
        for ((mut entry, found), node) in all.into_iter().zip(found).zip(&nodes) {
            if let Some(entry) = &mut entry {
                entry.staged = node.number();
            }
            assert_eq!(found, entry);
        }
        plan.set_early(nodes[1]);
        let staged = plan.entry(nodes[1]).map(|entry| entry.staged);
        assert_eq!(staged, Some(early::staged(6 << 30)));
        assert_eq!((plan.len(), plan.bytes()), (3, 5 << 30));
    }

    #[test]
    fn a_million_entries_need_less_than_seventy_megabytes() {
        let mut growing = Growing::new();
        // As many as make the table grow: then it is at its largest.
        let count = 50_000;
        for number in 0..count as u64 {
            let path = format!("node_modules/package-{}/module-{number:05}.js", number / 40);
            let start = (1 << 31) + number * 100;
            growing
                .add(&Entry {
                    mtime: Some(1_900_000_000),
                    owner: Some((100_000, 100_000)),
                    size: 100_000,
                    data: Some(Data {
                        start,
                        end: start + 50_000,
                        method: 8,
                        crc: u32::MAX,
                    }),
                    ..entry(&path, Kind::File)
                })
                .unwrap();
        }
        assert!(growing.held() / count < 70, "{}", growing.held() / count);
    }
}
