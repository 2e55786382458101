//! Zip: names, modes with all bits, owners, and times to the second.
//!
//! Written here and not by a library: what is kept of each file until the list at the end is a dozen bytes, so that a tree of hundreds of
//! thousands of files does not need more memory than its list of items does; and files of one block have their sizes in front of their
//! data, so that they can be read while they arrive.

use std::{io::Write, path::Path, sync::Arc};

use super::{
    Packed,
    blocks::{self, Codec},
};
use crate::{Fingerprint, Item, Items, Kind, PackError, number};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
/// The attribute that other systems know directories by.
const DOS_DIRECTORY: u32 = 0x10;

const STORE: u16 = 0;
const DEFLATE: u16 = 8;
const ZSTD: u16 = 93;

/// Checksum and sizes come behind the data.
const DESCRIBED: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
/// Made on Unix, by version 6.3 of the format.
const MADE_BY: u16 = 3 << 8 | 63;
/// The greatest number of a field, which says that the true one is elsewhere.
const LARGE: u64 = 0xffff_ffff;
const MANY: u64 = 0xffff;

/// What the list at the end says of an item besides what the item itself knows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    /// Of its header.
    offset: u64,
    packed: u64,
    size: u64,
    crc: u32,
    stored: bool,
    described: bool,
}

impl Record {
    fn method(&self, codec: Codec) -> u16 {
        match codec {
            _ if self.stored => STORE,
            Codec::Deflate(_) => DEFLATE,
            Codec::Zstd(_) => ZSTD,
        }
    }

    /// The version of the format that a reader must know.
    fn needs(&self, codec: Codec) -> u16 {
        if self.method(codec) == ZSTD {
            63
        } else if self.packed.max(self.size).max(self.offset) >= LARGE {
            45
        } else {
            20
        }
    }
}

/// Records in a row, each as short as its numbers are.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// Offset of the last one.
    last: u64,
}

impl Records {
    fn push(&mut self, record: &Record) {
        let flags = u8::from(record.stored) | u8::from(record.described) << 1;
        self.bytes.push(flags);
        self.bytes.u32(record.crc);
        for value in [record.offset - self.last, record.packed, record.size] {
            number::put(&mut self.bytes, value);
        }
        self.last = record.offset;
    }

    fn iter(&self) -> impl Iterator<Item = Record> {
        let mut rest = &self.bytes[..];
        let mut offset = 0;
        std::iter::from_fn(move || {
            let ([flags, crc @ ..], behind) = rest.split_first_chunk::<5>()?;
            rest = behind;
            offset += number::take(&mut rest);
            Some(Record {
                offset,
                packed: number::take(&mut rest),
                size: number::take(&mut rest),
                crc: u32::from_le_bytes(*crc),
                stored: flags & 1 != 0,
                described: flags & 2 != 0,
            })
        })
    }
}

pub(super) fn write(
    root: &Path,
    items: &Items,
    codec: Codec,
    mark: Option<&Fingerprint>,
    threads: usize,
    sink: &mut impl Write,
) -> Result<Packed, PackError> {
    let mut packed = Packed::default();
    let mut out = Out { sink, at: 0 };
    let mut records = Records::default();
    blocks::each(root, items, codec, true, threads, |blocks| {
        while let Some(block) = blocks.next() {
            let record = file(block?, codec, blocks, &mut out, &mut packed)?;
            records.push(&record);
        }
        Ok(())
    })?;
    if packed.entries != items.len() as u64 {
        return Err(PackError::Panicked);
    }
    let list = out.at;
    for (item, record) in items.iter().zip(records.iter()) {
        out.put(&list_entry(&item, &record, codec))?;
    }
    out.put(&end(items.len() as u64, list, out.at, mark))?;
    Ok(packed)
}

/// One item with its data, of which this is the first block.
fn file(
    mut block: blocks::Block,
    codec: Codec,
    blocks: &mut dyn Iterator<Item = Result<blocks::Block, PackError>>,
    out: &mut Out<impl Write>,
    packed: &mut Packed,
) -> Result<Record, PackError> {
    let source = Arc::clone(&block.source);
    let item = &source.item;
    let mut record = Record {
        offset: out.at,
        packed: block.data.bytes().len() as u64,
        size: block.raw,
        crc: 0,
        stored: block.stored || item.kind == Kind::Dir,
        described: !block.last,
    };
    let mut crc = block.crc.clone();
    let mut short = block.short;
    if block.last {
        record.crc = crc.clone().finalize();
    }
    out.put(&header(item, &record, codec)?)?;
    out.put(block.data.bytes())?;
    while !block.last {
        block = blocks.next().unwrap_or(Err(PackError::Panicked))?;
        out.put(block.data.bytes())?;
        crc.combine(&block.crc);
        record.packed += block.data.bytes().len() as u64;
        record.size += block.raw;
        short |= block.short;
    }
    if record.described {
        record.crc = crc.finalize();
        out.put(&descriptor(&record))?;
    }
    packed.entries += 1;
    if item.kind != Kind::Dir {
        packed.bytes += record.size;
    }
    if short {
        packed.shrunk.push(item.path().to_owned());
    }
    Ok(record)
}

/// What was written so far is counted.
struct Out<'a, W> {
    sink: &'a mut W,
    at: u64,
}

impl<W: Write> Out<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.sink.write_all(bytes).map_err(PackError::Sink)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// Numbers as the format has them.
trait Put {
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
}

impl Put for Vec<u8> {
    fn u16(&mut self, value: u16) {
        self.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend(value.to_le_bytes());
    }
}

/// A number as its field holds it.
fn field(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// In front of the data.
fn header(item: &Item, record: &Record, codec: Codec) -> Result<Vec<u8>, PackError> {
    let name = name(item);
    let too_long = |_| PackError::NameTooLong(item.path().to_owned());
    let name_len = u16::try_from(name.len()).map_err(too_long)?;
    let extra = extra(item);
    let mut out = b"PK\x03\x04".to_vec();
    out.u16(record.needs(codec));
    common(&mut out, item, record, codec);
    if record.described {
        out.extend([0; 12]);
    } else {
        // One block: far from large.
        out.u32(record.crc);
        out.u32(field(record.packed));
        out.u32(field(record.size));
    }
    out.u16(name_len);
    out.u16(extra.len() as u16);
    out.extend(name);
    out.extend(extra);
    Ok(out)
}

/// Flags, method and time.
fn common(out: &mut Vec<u8>, item: &Item, record: &Record, codec: Codec) {
    let is_text = std::str::from_utf8(&item.path).is_ok() && !item.path.is_ascii();
    let flags = if record.described { DESCRIBED } else { 0 } | if is_text { UTF8 } else { 0 };
    out.u16(flags);
    out.u16(record.method(codec));
    let (time, date) = dos_time(item.mtime);
    out.u16(time);
    out.u16(date);
}

/// Behind the data of which nothing was known before.
fn descriptor(record: &Record) -> Vec<u8> {
    let mut out = b"PK\x07\x08".to_vec();
    out.u32(record.crc);
    if record.packed.max(record.size) >= LARGE {
        out.u64(record.packed);
        out.u64(record.size);
    } else {
        out.u32(field(record.packed));
        out.u32(field(record.size));
    }
    out
}

/// In the list at the end.
fn list_entry(item: &Item, record: &Record, codec: Codec) -> Vec<u8> {
    let name = name(item);
    let mut extra = extra(item);
    let large: Vec<u64> = [record.size, record.packed, record.offset]
        .into_iter()
        .filter(|&value| value >= LARGE)
        .collect();
    if !large.is_empty() {
        extra.u16(1);
        extra.u16(large.len() as u16 * 8);
        large.iter().for_each(|&value| extra.u64(value));
    }
    let (kind, dos) = match item.kind {
        Kind::File => (REGULAR, 0),
        Kind::Dir => (DIRECTORY, DOS_DIRECTORY),
        Kind::Symlink => (LINK, 0),
    };
    let mut out = b"PK\x01\x02".to_vec();
    out.u16(MADE_BY);
    out.u16(record.needs(codec));
    common(&mut out, item, record, codec);
    out.u32(record.crc);
    out.u32(field(record.packed));
    out.u32(field(record.size));
    // It was checked in front of the data.
    out.u16(name.len() as u16);
    out.u16(extra.len() as u16);
    // No comment, the one disk, nothing internal.
    out.extend([0; 6]);
    out.u32((kind | item.mode) << 16 | dos);
    out.u32(field(record.offset));
    out.extend(name);
    out.extend(extra);
    out
}

/// The end: how many files there are and where the list is; the mark as comment.
fn end(count: u64, list: u64, behind: u64, mark: Option<&Fingerprint>) -> Vec<u8> {
    let size = behind - list;
    let mut out = Vec::new();
    if count >= MANY || size >= LARGE || list >= LARGE {
        out.extend(b"PK\x06\x06");
        // Of the rest of this record.
        out.u64(44);
        out.u16(MADE_BY);
        out.u16(45);
        out.extend([0; 8]);
        out.u64(count);
        out.u64(count);
        out.u64(size);
        out.u64(list);
        out.extend(b"PK\x06\x07");
        out.u32(0);
        out.u64(behind);
        out.u32(1);
    }
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    out.u16(count);
    out.u16(count);
    out.u32(field(size));
    out.u32(field(list));
    let mark = mark.map_or(&[][..], Fingerprint::bytes);
    // A few dozen bytes.
    out.u16(mark.len() as u16);
    out.extend(mark);
    out
}

/// As it is on disk; of a directory with a slash behind it.
fn name(item: &Item) -> Vec<u8> {
    let mut name = item.path.to_vec();
    if item.kind == Kind::Dir {
        name.push(b'/');
    }
    name
}

/// Time of modification in seconds (extended timestamp), owner and group (Info-ZIP's, version 1).
fn extra(item: &Item) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    out.extend(*b"UT\x05\0\x01");
    // The field ends in 2106.
    out.u32(item.mtime.clamp(0, u32::MAX.into()) as u32);
    out.extend(*b"ux\x0b\0\x01\x04");
    out.u32(item.uid);
    out.push(4);
    out.u32(item.gid);
    out
}

/// Time and date in UTC, between 1980 and 2107, to two seconds.
fn dos_time(mtime: i64) -> (u16, u16) {
    const BEGIN: i64 = 315_532_800;
    const END: i64 = 4_354_819_198;
    let time = mtime.clamp(BEGIN, END);
    let (days, second) = (time / 86_400, time % 86_400);
    // Civil from days, Howard Hinnant; from 0000-03-01 on.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let time = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    let date = (year - 1980) << 9 | month << 5 | day;
    // Both fit by the range above.
    (time as u16, date as u16)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::before_the_first(0, (1980, 1, 1), (0, 0, 0))]
    #[case::the_first(315_532_800, (1980, 1, 1), (0, 0, 0))]
    #[case::leap_day(951_868_799, (2000, 2, 29), (23, 59, 58))]
    #[case::march(951_868_800, (2000, 3, 1), (0, 0, 0))]
    #[case::usual(1_234_567_891, (2009, 2, 13), (23, 31, 30))]
    #[case::after_the_last(i64::MAX, (2107, 12, 31), (23, 59, 58))]
    fn times_are_those_of_the_calendar(
        #[case] mtime: i64,
        #[case] (year, month, day): (u16, u16, u16),
        #[case] (hour, minute, second): (u16, u16, u16),
    ) {
        let time = hour << 11 | minute << 5 | (second / 2);
        let date = (year - 1980) << 9 | month << 5 | day;
        assert_eq!(dos_time(mtime), (time, date));
    }

    fn large() -> (Item, Record) {
        let item = Item {
            path: b"f".to_vec().into(),
            kind: Kind::File,
            mode: 0o644,
            uid: 1,
            gid: 2,
            size: 5 << 30,
            mtime: 1_234_567_891,
        };
        let record = Record {
            offset: 6 << 30,
            packed: 100,
            size: 5 << 30,
            crc: 7,
            stored: false,
            described: true,
        };
        (item, record)
    }

    #[test]
    fn records_are_kept_as_they_are() {
        let (_, large) = large();
        let small = Record {
            offset: 0,
            packed: 127,
            size: 128,
            crc: u32::MAX,
            stored: true,
            described: false,
        };
        let largest = Record {
            offset: u64::MAX,
            packed: u64::MAX,
            size: 0,
            ..small.clone()
        };
        let all = [small, large, largest];
        let mut records = Records::default();
        all.iter().for_each(|record| records.push(record));
        assert_eq!(records.iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn what_is_too_large_for_a_field_is_in_the_one_for_it() {
        let (item, record) = large();
        let codec = Codec::Deflate(1);
        let entry = list_entry(&item, &record, codec);
        assert_eq!(entry[6..8], 45_u16.to_le_bytes());
        assert_eq!(entry[20..24], 100_u32.to_le_bytes());
        assert_eq!(
            (&entry[24..28], &entry[42..46]),
            (&[0xff; 4][..], &[0xff; 4][..])
        );
        let extra = &entry[entry.len() - 20..];
        assert_eq!(extra[..4], [1, 0, 16, 0]);
        assert_eq!(extra[4..12], (5_u64 << 30).to_le_bytes());
        assert_eq!(extra[12..], (6_u64 << 30).to_le_bytes());
        let behind = descriptor(&record);
        assert_eq!(behind.len(), 24);
        assert_eq!(behind[8..16], 100_u64.to_le_bytes());

        // 65 535 files, or a list far behind, need the large end.
        assert_eq!(end(65_534, 10, 20, None).len(), 22);
        for end in [
            end(65_535, 10, 20, None),
            end(1, 5 << 30, (5 << 30) + 9, None),
        ] {
            assert_eq!((end.len(), &end[..4]), (98, &b"PK\x06\x06"[..]));
        }
    }
}
