//! Files of a zip that are unpacked while it arrives.
//!
//! What a zip holds is said by the list at its end. Before that comes, the headers in front of the files are believed for one thing:
//! where data begins. It is unpacked beside the tree under a number. A file of the list whose data is at this very place, with this
//! length, method, size and checksum, needs no further work; all names, kinds and modes come from the list, and nothing gets into the
//! tree before the list has been judged. What the headers say wrongly, or what cannot be told from them, is unpacked when the list is
//! there.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};

use crate::{
    Growing,
    error::ExtractError,
    extract::{MOST_ENTRIES, plan::Data, staging::Staging},
    growing::Reader,
    number,
    root::Root,
};

const FILE_HEADER: &[u8; 4] = b"PK\x03\x04";
const DESCRIPTOR: &[u8; 4] = b"PK\x07\x08";
const ZSTD_FRAME: &[u8; 4] = &[0x28, 0xb5, 0x2f, 0xfd];
const ENCRYPTED: u16 = 1 | 1 << 6;
/// Checksum and sizes stand behind the data.
const DESCRIBED: u16 = 1 << 3;
const STORE: u16 = 0;
const DEFLATE: u16 = 8;
const ZSTD: u16 = 93;
/// Names of these files begin here; those of the others are below.
const FIRST_NUMBER: u64 = 1 << 32;

/// What was unpacked, in the order of its data in the archive.
#[derive(Default)]
pub(super) struct Early {
    pub(super) staging: Option<Staging>,
    /// Each as long as its numbers are, with the way from one to the next: there may be a million.
    files: Vec<u8>,
    count: usize,
    last: u64,
}

/// Data that was unpacked, and what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unpacked {
    pub(super) data: Data,
    /// Of the file.
    pub(super) size: u64,
}

impl Early {
    fn push(&mut self, unpacked: &Unpacked) {
        let Unpacked { data, size } = unpacked;
        number::put(&mut self.files, data.start - self.last);
        for value in [
            data.end - data.start,
            data.method.into(),
            data.crc.into(),
            *size,
        ] {
            number::put(&mut self.files, value);
        }
        self.last = data.start;
        self.count += 1;
    }

    /// What was unpacked, by the place of its data.
    pub(super) fn iter(&self) -> impl Iterator<Item = Unpacked> {
        let mut rest = &self.files[..];
        let mut start = 0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            start += number::take(&mut rest);
            let [len, method, crc, size] = [(); 4].map(|()| number::take(&mut rest));
            Some(Unpacked {
                data: Data {
                    start,
                    end: start + len,
                    // They were no longer than that.
                    method: method as u16,
                    crc: crc as u32,
                },
                size,
            })
        })
    }
}

/// The number of the staged file that holds the data that begins here.
pub(super) fn staged(start: u64) -> u64 {
    FIRST_NUMBER + start
}

/// Unpacks until the archive is whole: then several threads do better. Or until something is not understood.
///
/// # Errors
/// If there is no place to unpack to.
pub(super) fn unpack(archive: &Growing, root: &Root) -> Result<Early, ExtractError> {
    let mut early = Early::default();
    let mut stream = Stream {
        inner: BufReader::with_capacity(256 << 10, archive.reader()),
        at: 0,
    };
    let mut buffer = vec![0; 256 << 10];
    while !archive.is_whole() && early.count < MOST_ENTRIES {
        let Ok(Some(header)) = header(&mut stream) else {
            break;
        };
        if header.is_dir {
            continue;
        }
        let staging = match &early.staging {
            Some(staging) => staging,
            None => early.staging.insert(Staging::new(root)?),
        };
        match one(&mut stream, &header, staging, &mut buffer) {
            Ok(unpacked) => {
                early.push(&unpacked);
            }
            Err(_) => break,
        }
    }
    Ok(early)
}

struct Header {
    /// A directory: there is nothing to unpack.
    is_dir: bool,
    start: u64,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
}

/// The header of a file; `None`: something else comes here.
fn header(stream: &mut Stream<'_>) -> io::Result<Option<Header>> {
    let mut head = [0; 30];
    stream.read_exact(&mut head[..4])?;
    if &head[..4] != FILE_HEADER {
        return Ok(None);
    }
    stream.read_exact(&mut head[4..])?;
    let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let name = usize::from(short(26));
    let mut rest = vec![0; name + usize::from(short(28))];
    stream.read_exact(&mut rest)?;
    let mut header = Header {
        is_dir: rest[..name].ends_with(b"/") && short(6) & DESCRIBED == 0 && long(18) == 0,
        start: stream.at,
        flags: short(6),
        method: short(8),
        crc: long(14),
        packed: long(18).into(),
        size: long(22).into(),
    };
    if header.flags & DESCRIBED == 0
        && (header.packed == u64::from(u32::MAX) || header.size == u64::from(u32::MAX))
    {
        let Some((size, packed)) = large_sizes(&rest[name..]) else {
            return Ok(None);
        };
        (header.size, header.packed) = (size, packed);
    }
    let known = matches!(header.method, STORE | DEFLATE | ZSTD);
    Ok((known && header.flags & ENCRYPTED == 0).then_some(header))
}

/// Of the field for sizes that 32 bits do not hold; both are in a header of a file.
fn large_sizes(mut fields: &[u8]) -> Option<(u64, u64)> {
    loop {
        let (head, rest) = fields.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let field = rest.get(..len)?;
        if head[..2] == [1, 0] {
            let (size, field) = field.split_first_chunk()?;
            let (packed, _) = field.split_first_chunk()?;
            return Some((u64::from_le_bytes(*size), u64::from_le_bytes(*packed)));
        }
        fields = &rest[len..];
    }
}

/// Unpacks one file to the end of its data and of what describes it.
fn one(
    stream: &mut Stream<'_>,
    header: &Header,
    staging: &Staging,
    buffer: &mut [u8],
) -> io::Result<Unpacked> {
    let file = staging
        .create(staged(header.start), b"")
        .map_err(io::Error::other)?;
    let mut sink = Sink {
        staged: file,
        crc: crc32fast::Hasher::new(),
        size: 0,
    };
    let end = match unpack_one(stream, header, &mut sink, buffer) {
        Ok(end) => end,
        Err(error) => {
            sink.staged.discard(staged(header.start));
            return Err(error);
        }
    };
    sink.staged.close()?;
    Ok(Unpacked {
        data: Data {
            start: header.start,
            end,
            method: header.method,
            crc: sink.crc.finalize(),
        },
        size: sink.size,
    })
}

/// Gives the place behind the data.
fn unpack_one(
    stream: &mut Stream<'_>,
    header: &Header,
    sink: &mut Sink<'_>,
    buffer: &mut [u8],
) -> io::Result<u64> {
    if header.flags & DESCRIBED == 0 {
        let mut data = stream.take(header.packed);
        match header.method {
            DEFLATE => sink.all(flate2::bufread::DeflateDecoder::new(&mut data), buffer)?,
            ZSTD => sink.all(zstd::Decoder::with_buffer(&mut data)?, buffer)?,
            _ => sink.all(&mut data, buffer)?,
        }
        io::copy(&mut data, &mut io::sink())?;
        let end = header.start + header.packed;
        let same = stream.at == end
            && sink.size == header.size
            && sink.crc.clone().finalize() == header.crc;
        return if same { Ok(end) } else { Err(not_told()) };
    }
    let end = match header.method {
        DEFLATE => {
            sink.all(flate2::bufread::DeflateDecoder::new(&mut *stream), buffer)?;
            stream.at
        }
        ZSTD => loop {
            let end = stream.at;
            let mut magic = [0; 4];
            stream.read_exact(&mut magic)?;
            if &magic != ZSTD_FRAME {
                stream.back(magic.len())?;
                break end;
            }
            let frame = Cursor::new(magic).chain(&mut *stream);
            sink.all(zstd::Decoder::with_buffer(frame)?.single_frame(), buffer)?;
        },
        _ => return stored(stream, header.start, sink, buffer),
    };
    let mut next = [0; 24];
    stream.read_exact(&mut next[..16])?;
    if sink.is_described(&next[..16], end - header.start) {
        return Ok(end);
    }
    stream.read_exact(&mut next[16..])?;
    if sink.is_described(&next, end - header.start) {
        return Ok(end);
    }
    Err(not_told())
}

/// Data as it is ends where a descriptor fits all that was before it.
fn stored(
    stream: &mut Stream<'_>,
    start: u64,
    sink: &mut Sink<'_>,
    buffer: &mut [u8],
) -> io::Result<u64> {
    let mut held = 0;
    loop {
        // Whatever may be the beginning of a descriptor has the rest of it behind it, but at the end of the archive, where the
        // list is.
        while held < 24 {
            match stream.read(&mut buffer[held..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => held += read,
            }
        }
        let mut at = 0;
        while at + 24 <= held {
            let rest = &buffer[at..held];
            let Some(found) = rest.iter().position(|&byte| byte == DESCRIPTOR[0]) else {
                sink.take(rest)?;
                at = held;
                break;
            };
            sink.take(&rest[..found])?;
            at += found;
            let rest = &buffer[at..held];
            if rest.len() < 24 {
                break;
            }
            for len in [16, 24] {
                if sink.is_described(&rest[..len], sink.size) {
                    stream.back(rest.len() - len)?;
                    return Ok(start + sink.size);
                }
            }
            sink.take(&rest[..1])?;
            at += 1;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
    }
}

fn not_told() -> io::Error {
    io::Error::other("the headers do not tell")
}

/// Where data goes.
struct Sink<'a> {
    staged: super::staging::Staged<'a>,
    crc: crc32fast::Hasher,
    size: u64,
}

impl Sink<'_> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.size += bytes.len() as u64;
        self.staged.write(bytes, b"").map_err(io::Error::other)
    }

    fn all(&mut self, mut data: impl Read, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match data.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.take(&buffer[..read])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether these 16 or 24 bytes are the descriptor of what was taken, `packed` bytes long in the archive.
    fn is_described(&self, bytes: &[u8], packed: u64) -> bool {
        if &bytes[..4] != DESCRIPTOR {
            return false;
        }
        let mut wanted = self.crc.clone().finalize().to_le_bytes().to_vec();
        if bytes.len() == 24 {
            wanted.extend(packed.to_le_bytes());
            wanted.extend(self.size.to_le_bytes());
        } else if let (Ok(packed), Ok(size)) = (u32::try_from(packed), u32::try_from(self.size)) {
            wanted.extend(packed.to_le_bytes());
            wanted.extend(size.to_le_bytes());
        }
        bytes[4..] == wanted
    }
}

/// The archive, and the place in it.
struct Stream<'a> {
    inner: BufReader<Reader<'a>>,
    at: u64,
}

impl Stream<'_> {
    /// Unreads.
    fn back(&mut self, bytes: usize) -> io::Result<()> {
        // A few hundred KiB at most.
        self.inner.seek_relative(-(bytes as i64))?;
        self.at -= bytes as u64;
        Ok(())
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        self.at += bytes as u64;
    }
}
