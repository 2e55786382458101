//! Tar in zstd: unpacked as it is read.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, Read, Seek},
};

use tar::EntryType;

use crate::{
    Kind,
    error::{ExtractError, shown},
    extract::{
        Extracted, PERMISSIONS, check_target, clean_name, place,
        plan::{Entry, Growing},
        staging::Staging,
    },
    root::Root,
};

/// Most that may stand in front of an entry's data: its header, a long name, attributes, a list of holes. The library keeps all of it in
/// memory, whatever its length.
const LONGEST_HEADERS: u64 = 4 << 20;

pub(super) fn extract(archive: impl BufRead, root: &mut Root) -> Result<Extracted, ExtractError> {
    let decoder = zstd::Decoder::with_buffer(archive).map_err(ExtractError::Read)?;
    let left = Cell::new(LONGEST_HEADERS);
    let mut tar = tar::Archive::new(Limited {
        inner: decoder,
        left: &left,
    });
    let staging = Staging::new(root)?;
    let mut plan = Growing::new();
    let mut last = None;
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    let mut list = tar.entries().map_err(|error| damaged(&error))?;
    loop {
        left.set(LONGEST_HEADERS);
        let Some(found) = list.next() else {
            break;
        };
        let mut found = found.map_err(|error| damaged_behind(last.as_ref(), &error))?;
        let extended =
            extended(&mut found).map_err(|error| damaged_behind(last.as_ref(), &error))?;
        left.set(u64::MAX);
        if extended.is_sparse {
            return Err(ExtractError::entry(
                &found.path_bytes(),
                "is a sparse file in the form of pax, which is not unpacked",
            ));
        }
        if let Some(mut entry) = entry(&found, &extended, root)? {
            let first = if found.header().entry_type() == EntryType::Link {
                let first = first_name(&entry, &plan, root)?;
                entry.size = first.size;
                Some(first)
            } else {
                None
            };
            if let Some(node) = plan.add(&entry)? {
                entry.staged = node.number();
                if entry.kind == Kind::File {
                    let mut staged = staging.create(entry.staged, &entry.path)?;
                    let mut take = |bytes: &[u8]| staged.write(bytes, &entry.path);
                    bytes += if let Some(first) = first {
                        let mut data = staging.read(&first)?;
                        read_data(&mut data, &mut buffer, &entry.path, &mut take)?
                    } else {
                        read_data(&mut found, &mut buffer, &entry.path, &mut take)?
                    };
                    staged.finish(&entry)?;
                }
                last = Some(entry);
            }
        }
        // Of what is not unpacked.
        let name = found.path_bytes().into_owned();
        read_data(&mut found, &mut buffer, &name, |_| Ok(()))?;
    }
    // To the end, where the checksum is.
    left.set(u64::MAX);
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(|error| damaged(&error))?;
    let plan = plan.whole();
    place::check(root, &plan)?;
    place::commit(root, &staging, &plan)?;
    Ok(Extracted {
        entries: plan.len() as u64,
        bytes,
    })
}

/// The file that a hard link is another name of. It becomes a file of its own with the same content: whoever packed the tree wants that,
/// and a link would make one file of two that a job may change. (GitLab Runner makes an empty file of it.)
fn first_name(link: &Entry, plan: &Growing, root: &Root) -> Result<Entry, ExtractError> {
    let target = clean_name(&link.target, root)?;
    plan.find(&target)
        .filter(|first| first.kind == Kind::File)
        .ok_or_else(|| {
            let target = shown(&link.target);
            ExtractError::entry(
                &link.path,
                format!("is a hard link to {target}, which is no file before it in the archive"),
            )
        })
}

/// What a header says; `None`: nothing that is unpacked.
fn entry(
    found: &tar::Entry<'_, impl Read>,
    extended: &Extended,
    root: &Root,
) -> Result<Option<Entry>, ExtractError> {
    let header = found.header();
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Link => {
            Kind::File
        }
        EntryType::Directory => Kind::Dir,
        EntryType::Symlink => Kind::Symlink,
        _ => return Ok(None),
    };
    let number = |value: io::Result<u64>| value.ok().and_then(|value| u32::try_from(value).ok());
    let (uid, gid) = (number(header.uid()), number(header.gid()));
    let entry = Entry {
        path: clean_name(&found.path_bytes(), root)?,
        kind,
        mode: header.mode().ok().map(|mode| mode & PERMISSIONS),
        mtime: extended.mtime.or_else(|| {
            let time = header.mtime().ok()?;
            i64::try_from(time).ok()
        }),
        owner: uid.zip(gid),
        size: found.size(),
        target: found
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default(),
        data: None,
        staged: 0,
    };
    if entry.path.is_empty() {
        return Ok(None);
    }
    if kind == Kind::Symlink {
        check_target(&entry.path, &entry.target)?;
    }
    Ok(Some(entry))
}

/// Gives the data of an entry in pieces; their length.
fn read_data(
    found: &mut impl Read,
    buffer: &mut [u8],
    name: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<(), ExtractError>,
) -> Result<u64, ExtractError> {
    let mut bytes = 0;
    loop {
        match found.read(buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                take(&buffer[..read])?;
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(ExtractError::entry(
                    name,
                    format!("its data is damaged: {error}"),
                ));
            }
        }
    }
}

/// Ends with an error when more was read than is left.
struct Limited<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        let left = left.ok_or_else(|| {
            io::Error::other(format!(
                "the names and attributes of one entry take more than {LONGEST_HEADERS} bytes"
            ))
        })?;
        self.left.set(left);
        Ok(read)
    }
}

/// What stands in front of an entry's header and is not looked after by the library.
#[derive(Default)]
struct Extended {
    /// To the second, as in headers. There it may have been rounded, or have had no room.
    mtime: Option<i64>,
    /// Its data begins with a list of holes.
    is_sparse: bool,
}

fn extended(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Extended> {
    let mut extended = Extended::default();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let key = record.key_bytes();
        if key == b"mtime" {
            extended.mtime = record.value().ok().and_then(seconds);
        } else if key.starts_with(b"GNU.sparse.") {
            extended.is_sparse = true;
        }
    }
    Ok(extended)
}

/// Whole seconds of a decimal number, rounded down.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let is_below = text.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
    seconds.checked_sub(is_below.into())
}

/// Whether the stream can be read to its end.
pub(super) fn is_whole(mut archive: &File) -> bool {
    archive.rewind().is_ok()
        && zstd::Decoder::new(archive)
            .is_ok_and(|mut decoder| io::copy(&mut decoder, &mut io::sink()).is_ok())
}

fn damaged(error: &io::Error) -> ExtractError {
    ExtractError::Damaged(shown(error.to_string().as_bytes()))
}

/// `last`: the entry before the damage.
fn damaged_behind(last: Option<&Entry>, error: &io::Error) -> ExtractError {
    let error = shown(error.to_string().as_bytes());
    ExtractError::Damaged(match last {
        Some(last) => format!("{error} (behind {})", shown(&last.path)),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1234567891", Some(1_234_567_891))]
    #[case("1234567890.999999999", Some(1_234_567_890))]
    #[case("-1.5", Some(-2))]
    #[case("-1.0", Some(-1))]
    #[case("-0.5", Some(-1))]
    #[case("5000000000.1", Some(5_000_000_000))]
    #[case("-9223372036854775808.5", None)]
    #[case("soon", None)]
    fn times_are_rounded_down_to_the_second(#[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(seconds(text), expected);
    }
}
