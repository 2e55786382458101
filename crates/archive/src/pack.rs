//! Archives made of items (job-lifecycle §6.2). Streams; holds no more than some blocks of 1 MiB in memory.

mod blocks;
mod gzip;
mod tarball;
#[cfg(test)]
pub(crate) mod tests;
mod zip;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
};

use rustix::fs::OFlags;

use crate::{Fingerprint, Item, Items, Kind, PackError, glob::full};

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Zip with deflate.
    Zip,
    /// Zip with zstd (method 93).
    ZipZstd,
    /// Tar in zstd.
    TarZstd,
    /// One gzip member per file.
    Gzip,
    /// The bytes of one file.
    Raw,
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Level {
    /// Not at all, with deflate.
    Fastest,
    /// A little.
    Fast,
    /// As usual.
    #[default]
    Default,
    /// More.
    Slow,
    /// Most.
    Slowest,
}

impl Level {
    fn deflate(self) -> u32 {
        match self {
            Self::Fastest => 0,
            Self::Fast => 1,
            Self::Default => 5,
            Self::Slow => 7,
            Self::Slowest => 9,
        }
    }

    /// The peer's library has four levels of its own, which its authors compare to these.
    fn zstd(self) -> i32 {
        match self {
            Self::Fastest | Self::Fast => 1,
            Self::Default => 3,
            Self::Slow => 7,
            Self::Slowest => 11,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files that became shorter while they were read.
    pub shrunk: Vec<PathBuf>,
}

/// The number of threads that pays: one per processor this process may use, up to eight.
pub fn threads() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(8)
}

/// Writes an archive. Files are read below `root` up to the size noted in their item. The same items and files
/// give the same bytes.
///
/// # Errors
/// If a file cannot be read (it vanished, say), if the format cannot hold an item, or if `sink` fails.
pub fn pack(
    root: &Path,
    items: &Items,
    format: Format,
    level: Level,
    mark: Option<&Fingerprint>,
    threads: usize,
    sink: impl Write,
) -> Result<Packed, PackError> {
    let mut sink = BufWriter::with_capacity(256 << 10, sink);
    let packed = match format {
        Format::Zip => zip::write(
            root,
            items,
            blocks::Codec::Deflate(level.deflate()),
            mark,
            threads,
            &mut sink,
        ),
        Format::ZipZstd => zip::write(
            root,
            items,
            blocks::Codec::Zstd(level.zstd()),
            mark,
            threads,
            &mut sink,
        ),
        Format::TarZstd => tarball::write(root, items, level.zstd(), mark, threads, &mut sink),
        Format::Gzip => gzip::write(root, items, level.deflate(), threads, &mut sink),
        Format::Raw => raw(root, items, &mut sink),
    }?;
    sink.flush().map_err(PackError::Sink)?;
    Ok(packed)
}

fn raw(root: &Path, items: &Items, sink: &mut impl Write) -> Result<Packed, PackError> {
    let (1, Some(item)) = (items.len(), items.iter().next()) else {
        return Err(PackError::OneRaw);
    };
    if item.kind != Kind::File {
        return Err(PackError::NotRegular(item.path().to_owned()));
    }
    let mut file = open(root, &item)?;
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let read =
            io::Read::read(&mut file, &mut buffer).map_err(|error| failed("read", &item, error))?;
        if read == 0 {
            break;
        }
        sink.write_all(&buffer[..read]).map_err(PackError::Sink)?;
        bytes += read as u64;
    }
    Ok(Packed {
        entries: 1,
        bytes,
        shrunk: Vec::new(),
    })
}

/// Opens the file of an item; nothing else that may have taken its place.
fn open(root: &Path, item: &Item) -> Result<File, PackError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        // The bits fit.
        .custom_flags(flags.bits() as i32)
        .open(full(root, &item.path))
        .map_err(|error| failed("open", item, error))?;
    let found = file
        .metadata()
        .map_err(|error| failed("open", item, error))?;
    if !found.is_file() {
        return Err(failed(
            "open",
            item,
            io::Error::other("it is no file any more"),
        ));
    }
    Ok(file)
}

fn failed(action: &'static str, item: &Item, source: io::Error) -> PackError {
    PackError::File {
        action,
        path: item.path().to_owned(),
        source,
    }
}
