//! Unpacking of archives that are not trusted, whole or while they arrive.
//!
//! All files are unpacked into a directory of their own inside the tree, and moved to their places when the whole archive is known to
//! be good. Until then the tree is as it was, and it stays so if anything is wrong: a name that leads out, a checksum, a full disk.

mod early;
mod place;
mod plan;
mod staging;
mod tarball;
#[cfg(test)]
mod tests;
mod zip;

use std::{
    fs::File,
    io::{self, BufReader},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{
    Growing,
    error::{ExtractError, shown},
    root::Root,
};

pub use staging::STAGING_PREFIX;

/// More than any tree has: the list of entries is kept in memory.
const MOST_ENTRIES: usize = 4_000_000;
/// Longest name of one file.
const LONGEST_NAME: usize = 255;
/// Longest target of a link.
const LONGEST_LINK: u64 = 4096;

/// Kind of an archive, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// Zip, or anything else: a zip may have other bytes before it.
    Zip,
    /// Zstd, which holds a tar.
    Zstd,
    /// Gzip.
    Gzip,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extracted {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Says what an archive seems to be.
///
/// # Errors
/// If it cannot be read.
pub fn sniff(archive: &File) -> io::Result<Sniffed> {
    let mut magic = [0; 4];
    let mut read = 0;
    while read < magic.len() {
        match archive.read_at(&mut magic[read..], read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(match magic {
        [0x28, 0xb5, 0x2f, 0xfd] => Sniffed::Zstd,
        [0x1f, 0x8b, ..] => Sniffed::Gzip,
        _ => Sniffed::Zip,
    })
}

/// Whether an archive has its end: a zip its list of files, a stream its last frame. Cheap for a zip; a stream is read whole.
pub fn is_whole(archive: &File) -> bool {
    match sniff(archive) {
        Ok(Sniffed::Zip) => archive.try_clone().is_ok_and(zip::has_end),
        Ok(Sniffed::Zstd) => tarball::is_whole(archive),
        Ok(Sniffed::Gzip) | Err(_) => false,
    }
}

/// Unpacks an archive below `root`, with `threads` threads where its kind allows. Files and links replace what is in their place,
/// directories are kept; permissions and times are restored, owners if this process may; pipes, sockets and devices are left out. Not
/// restored are the bits that give somebody else's rights or share a directory (set-user-id, set-group-id, sticky): nor does GitLab
/// Runner restore them (job-lifecycle §6.4), and an archive may come from anyone. Not restored, either, are parents that the archive does
/// not list: they are made as `mkdir` makes them.
///
/// # Errors
/// See [`ExtractError`].
pub fn extract(archive: File, root: &Path, threads: usize) -> Result<Extracted, ExtractError> {
    let mut root = open_root(root)?;
    match sniff(&archive).map_err(ExtractError::Read)? {
        Sniffed::Zip => zip::extract(archive, &mut root, threads),
        Sniffed::Zstd => {
            io::Seek::rewind(&mut &archive).map_err(ExtractError::Read)?;
            tarball::extract(BufReader::with_capacity(256 << 10, archive), &mut root)
        }
        Sniffed::Gzip => Err(ExtractError::Unsupported("gzip")),
    }
}

/// As [`extract`], of an archive that is still arriving: what is there is unpacked beside the tree while the rest comes. The tree is
/// touched when the archive is whole and known to be good. Returns when the archive has come to its end, whatever it is.
///
/// # Errors
/// See [`ExtractError`]; [`ExtractError::Read`] if the archive does not become whole.
pub fn extract_growing(
    archive: &Growing,
    root: &Path,
    threads: usize,
) -> Result<Extracted, ExtractError> {
    loop {
        let generation = archive.generation();
        let done = extract_once(archive, generation, root, threads);
        // An error may be the end of this beginning only.
        if done.is_ok()
            || archive
                .wait_for_end(generation)
                .map_err(ExtractError::Read)?
        {
            return done;
        }
    }
}

fn extract_once(
    archive: &Growing,
    generation: u64,
    root: &Path,
    threads: usize,
) -> Result<Extracted, ExtractError> {
    let mut root = open_root(root)?;
    archive.wait_for(4).map_err(ExtractError::Read)?;
    match sniff(archive.file()).map_err(ExtractError::Read)? {
        Sniffed::Zip => {
            let early = early::unpack(archive, &root)?;
            if !archive
                .wait_for_end(generation)
                .map_err(ExtractError::Read)?
            {
                return Err(ExtractError::Damaged("it began anew".into()));
            }
            let file = archive.file().try_clone().map_err(ExtractError::Read)?;
            zip::extract_rest(file, &mut root, threads, early)
        }
        Sniffed::Zstd => tarball::extract(
            BufReader::with_capacity(256 << 10, archive.reader()),
            &mut root,
        ),
        Sniffed::Gzip => Err(ExtractError::Unsupported("gzip")),
    }
}

fn open_root(root: &Path) -> Result<Root, ExtractError> {
    Root::open(root).map_err(|source| ExtractError::Write {
        name: root.display().to_string(),
        source,
    })
}

/// Bits of a mode that are restored.
const PERMISSIONS: u32 = 0o777;

/// A name as a path below the root; empty: the root itself.
fn clean_name(name: &[u8], root: &Root) -> Result<Box<[u8]>, ExtractError> {
    if name.is_empty() {
        return Err(ExtractError::Damaged("an entry has no name".into()));
    }
    if name.contains(&0) {
        return Err(ExtractError::entry(name, "the name holds a zero byte"));
    }
    let outside = || ExtractError::Outside {
        name: shown(name),
        root: root.path.display().to_string(),
    };
    if name[0] == b'/' {
        return Err(outside());
    }
    let mut clean = Vec::with_capacity(name.len());
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(outside()),
            part if part.len() > LONGEST_NAME => {
                return Err(ExtractError::entry(
                    name,
                    format!("the name is too long ({} bytes)", part.len()),
                ));
            }
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    if clean.len() > 4000 {
        return Err(ExtractError::entry(
            name,
            format!("the path is too long ({} bytes)", clean.len()),
        ));
    }
    Ok(clean.into())
}

/// A target of a link that can be one.
fn check_target(name: &[u8], target: &[u8]) -> Result<(), ExtractError> {
    if target.is_empty() || target.contains(&0) {
        return Err(ExtractError::entry(name, "the link leads nowhere"));
    }
    if target.len() as u64 >= LONGEST_LINK {
        return Err(ExtractError::entry(
            name,
            "the target of the link is too long",
        ));
    }
    Ok(())
}
