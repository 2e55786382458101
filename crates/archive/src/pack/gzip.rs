//! One gzip member per file, as reports are sent (job-lifecycle §6.2).

use std::{fmt::Write as _, io::Write, os::unix::ffi::OsStrExt, path::Path};

use super::{
    Packed,
    blocks::{self, Codec},
};
use crate::{Item, Items, Kind, PackError};

const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const UNKNOWN_SYSTEM: u8 = 255;

pub(super) fn write(
    root: &Path,
    items: &Items,
    level: u32,
    threads: usize,
    sink: &mut impl Write,
) -> Result<Packed, PackError> {
    if let Some(item) = items.iter().find(|item| item.kind != Kind::File) {
        return Err(PackError::NotRegular(item.path().to_owned()));
    }
    let mut packed = Packed::default();
    blocks::each(
        root,
        items,
        Codec::Deflate(level),
        false,
        threads,
        |blocks| {
            let mut begin = true;
            let mut crc = crc32fast::Hasher::new();
            let (mut size, mut short) = (0_u64, false);
            for block in blocks {
                let block = block?;
                let item = &block.source.item;
                if begin {
                    sink.write_all(&header(item)).map_err(PackError::Sink)?;
                    crc = crc32fast::Hasher::new();
                    (size, short) = (0, false);
                }
                sink.write_all(block.data.bytes())
                    .map_err(PackError::Sink)?;
                crc.combine(&block.crc);
                size += block.raw;
                short |= block.short;
                begin = block.last;
                if block.last {
                    let mut trailer = [0; 8];
                    trailer[..4].copy_from_slice(&crc.clone().finalize().to_le_bytes());
                    // Modulo 2³², says the format.
                    trailer[4..].copy_from_slice(&(size as u32).to_le_bytes());
                    sink.write_all(&trailer).map_err(PackError::Sink)?;
                    packed.entries += 1;
                    packed.bytes += size;
                    if short {
                        packed.shrunk.push(item.path().to_owned());
                    }
                }
            }
            Ok(packed)
        },
    )
}

fn header(item: &Item) -> Vec<u8> {
    let mut header = vec![0x1f, 0x8b, 8, NAME | COMMENT];
    let time = u32::try_from(item.mtime).unwrap_or(0);
    header.extend(time.to_le_bytes());
    header.extend([0, UNKNOWN_SYSTEM]);
    let path = item.path();
    let base = path.file_name().unwrap_or_default();
    for text in [base.as_bytes(), &item.path] {
        header.extend(latin(text).bytes());
        header.push(0);
    }
    header
}

/// The header holds Latin-1: anything else is percent-encoded and marked.
fn latin(text: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(text)
        && text.is_ascii()
        && !text.contains('%')
    {
        return text.to_owned();
    }
    let mut encoded = String::from("e:");
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a string does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_header_cannot_hold_are_encoded_and_marked() {
        assert_eq!(latin(b"junit report.xml"), "junit report.xml");
        assert_eq!(latin("é/100%".as_bytes()), "e:%C3%A9/100%25");
    }
}
