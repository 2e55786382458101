//! Zip: names, modes with all bits, owners, and times to the second.

use std::{io::Write, path::Path};

use rawzip::{
    CompressionMethod, DataDescriptorOutput, ErrorKind, Header, ZipArchiveWriter,
    extra_fields::ExtraFieldId,
    path::{EntryPath, ZipFilePath},
    time::UtcDateTime,
};

use super::{
    Packed,
    blocks::{self, Codec},
};
use crate::{Fingerprint, Item, Kind, PackError};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

pub(super) fn write(
    root: &Path,
    items: &[Item],
    codec: Codec,
    mark: Option<&Fingerprint>,
    threads: usize,
    sink: &mut impl Write,
) -> Result<Packed, PackError> {
    let mut packed = Packed::default();
    let mut archive = ZipArchiveWriter::builder()
        .with_capacity(items.len())
        .build(sink);
    blocks::each(root, items, codec, true, threads, |blocks| {
        while let Some(block) = blocks.next() {
            let mut block = block?;
            let item = &items[block.index];
            let fail = |error: rawzip::Error| match error.into_kind() {
                ErrorKind::IO(error) => PackError::Sink(error),
                _ => PackError::NameTooLong(item.path().to_owned()),
            };
            packed.entries += 1;
            let modified = UtcDateTime::from_unix(item.mtime.max(0));
            let times = times(item);
            let owner = owner(item);
            if item.kind == Kind::Dir {
                let name = [&item.path[..], b"/"].concat();
                archive
                    .new_dir(entry_path(&name))
                    .last_modified(modified)
                    .unix_permissions(DIRECTORY | item.mode)
                    .extra_field(ExtraFieldId::EXTENDED_TIMESTAMP, &times, Header::LOCAL)
                    .and_then(|dir| {
                        dir.extra_field(
                            ExtraFieldId::INFO_ZIP_UNIX_UID_GID,
                            &owner,
                            Header::default(),
                        )
                    })
                    .and_then(rawzip::ZipDirBuilder::create)
                    .map_err(fail)?;
                continue;
            }
            let kind = if item.kind == Kind::Symlink {
                LINK
            } else {
                REGULAR
            };
            let method = match codec {
                _ if block.stored => CompressionMethod::STORE,
                Codec::Deflate(_) => CompressionMethod::DEFLATE,
                Codec::Zstd(_) => CompressionMethod::ZSTD,
            };
            let (mut entry, _) = archive
                .new_file(entry_path(&item.path))
                .compression_method(method)
                .last_modified(modified)
                .unix_permissions(kind | item.mode)
                .extra_field(ExtraFieldId::EXTENDED_TIMESTAMP, &times, Header::LOCAL)
                .and_then(|file| {
                    file.extra_field(
                        ExtraFieldId::INFO_ZIP_UNIX_UID_GID,
                        &owner,
                        Header::default(),
                    )
                })
                .and_then(rawzip::ZipFileBuilder::start)
                .map_err(fail)?;
            let mut crc = crc32fast::Hasher::new();
            let (mut size, mut short) = (0, false);
            loop {
                entry
                    .write_all(block.data.bytes())
                    .map_err(PackError::Sink)?;
                crc.combine(&block.crc);
                size += block.raw;
                short |= block.short;
                if block.last {
                    break;
                }
                block = blocks.next().unwrap_or(Err(PackError::Panicked))?;
            }
            entry
                .finish(DataDescriptorOutput::new(crc.finalize(), size))
                .map_err(fail)?;
            packed.bytes += size;
            if short {
                packed.shrunk.push(item.path().to_owned());
            }
        }
        if let Some(mark) = mark {
            archive.set_comment(mark.bytes());
        }
        match archive.finish().map_err(rawzip::Error::into_kind) {
            Ok(_) => Ok(packed),
            Err(ErrorKind::IO(error)) => Err(PackError::Sink(error)),
            Err(error) => Err(PackError::Sink(std::io::Error::other(error.to_string()))),
        }
    })
}

/// A name with the UTF-8 flag if it is UTF-8, and as it is: the library would take a backslash for a separator.
fn entry_path(name: &[u8]) -> EntryPath<'_> {
    match std::str::from_utf8(name) {
        Ok(text) if ZipFilePath::from_str(text).as_str() == text => EntryPath::conformant(text),
        _ => EntryPath::verbatim(name),
    }
}

/// Extended timestamp: modification only. (Info-ZIP reads it from the local header, the library writes the central one.)
fn times(item: &Item) -> [u8; 5] {
    let seconds = item.mtime.clamp(0, u32::MAX.into()) as u32;
    let mut field = [1; 5];
    field[1..].copy_from_slice(&seconds.to_le_bytes());
    field
}

/// Info-ZIP's owner and group, version 1.
fn owner(item: &Item) -> [u8; 11] {
    let mut field = [0; 11];
    field[0] = 1;
    field[1] = 4;
    field[2..6].copy_from_slice(&item.uid.to_le_bytes());
    field[6] = 4;
    field[7..].copy_from_slice(&item.gid.to_le_bytes());
    field
}
