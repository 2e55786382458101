//! Tar in zstd.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{Packed, failed, open};
use crate::{Fingerprint, Items, Kind, PackError, glob::full};

/// Begins a frame that decoders skip.
const SKIPPABLE: u32 = 0x184d_2a5d;

pub(super) fn write(
    root: &Path,
    items: &Items,
    level: i32,
    mark: Option<&Fingerprint>,
    threads: usize,
    sink: &mut impl Write,
) -> Result<Packed, PackError> {
    let mut packed = Packed::default();
    let mut encoder = zstd::Encoder::new(sink, level).map_err(PackError::Sink)?;
    encoder.include_checksum(true).map_err(PackError::Sink)?;
    // Always at least one worker: then the bytes do not depend on their number. Each holds a piece of the input.
    let workers = u32::try_from(threads.clamp(1, 4)).unwrap_or(1);
    encoder.multithread(workers).map_err(PackError::Sink)?;
    let mut tar = tar::Builder::new(encoder);
    for item in items.iter() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(item.mode);
        header.set_uid(item.uid.into());
        header.set_gid(item.gid.into());
        // Before 1970 is 1970.
        header.set_mtime(u64::try_from(item.mtime).unwrap_or(0));
        header.set_size(0);
        packed.entries += 1;
        match item.kind {
            Kind::Dir => {
                header.set_entry_type(tar::EntryType::Directory);
                let mut path = item.path().as_os_str().to_owned();
                path.push("/");
                tar.append_data(&mut header, PathBuf::from(path), io::empty())
                    .map_err(PackError::Sink)?;
            }
            Kind::Symlink => {
                let target = std::fs::read_link(full(root, &item.path))
                    .map_err(|error| failed("read link", &item, error))?;
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, item.path(), target)
                    .map_err(PackError::Sink)?;
            }
            Kind::File => {
                let file = open(root, &item)?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(item.size);
                let mut reader = Exact {
                    file,
                    left: item.size,
                    short: false,
                    failure: None,
                };
                let appended = tar.append_data(&mut header, item.path(), &mut reader);
                if let Some(error) = reader.failure {
                    return Err(failed("read", &item, error));
                }
                appended.map_err(PackError::Sink)?;
                packed.bytes += item.size;
                if reader.short {
                    packed.shrunk.push(item.path().to_owned());
                }
            }
        }
    }
    let encoder = tar.into_inner().map_err(PackError::Sink)?;
    let sink = encoder.finish().map_err(PackError::Sink)?;
    if let Some(mark) = mark {
        let mut frame = SKIPPABLE.to_le_bytes().to_vec();
        // A few dozen bytes.
        frame.extend((mark.bytes().len() as u32).to_le_bytes());
        frame.extend(mark.bytes());
        sink.write_all(&frame).map_err(PackError::Sink)?;
    }
    Ok(packed)
}

/// As many bytes as the header promised: zeros behind the end of a file that became shorter.
struct Exact<R> {
    file: R,
    left: u64,
    short: bool,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let read = if self.short {
            0
        } else {
            match self.file.read(&mut buffer[..want]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    self.failure = Some(io::Error::new(error.kind(), error.to_string()));
                    return Err(error);
                }
            }
        };
        let read = if read == 0 {
            self.short = true;
            buffer[..want].fill(0);
            want
        } else {
            read
        };
        self.left -= read as u64;
        Ok(read)
    }
}
