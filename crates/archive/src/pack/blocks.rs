//! Files cut into blocks, compressed by several threads, in order.
//!
//! Each block of a large file is a piece of one deflate stream: it ends at a byte boundary, and the end of the block before serves as
//! dictionary, so that the stream is hardly longer than one made in one go. Where the cuts are depends on sizes alone.

use std::{
    fs::File,
    io,
    iter::Peekable,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
    sync::{Arc, OnceLock},
};

use flate2::{Compress, Compression, FlushCompress, Status};

use super::{failed, open};
use crate::{
    Item, Items, Kind, PackError,
    glob::full,
    ordered::{Panicked, ordered},
};

/// Bytes of a file in a block.
pub(super) const BLOCK: usize = 1 << 20;
/// The reach of deflate.
const DICTIONARY: usize = 32 << 10;
/// Most small files, and most bytes of them, that are handed to a thread at a time.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;
/// Files from here on are looked at before they are compressed.
const SAMPLED: usize = 64 << 10;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// How data is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// Level 0: not at all.
    Deflate(u32),
    Zstd(i32),
}

/// A part of an item.
pub(super) struct Block {
    pub(super) source: Arc<Source>,
    /// Its last part.
    pub(super) last: bool,
    /// As it is in the file; of the first part this holds for the whole item.
    pub(super) stored: bool,
    /// Of the raw bytes.
    pub(super) crc: crc32fast::Hasher,
    /// Number of raw bytes.
    pub(super) raw: u64,
    pub(super) data: Data,
    /// There were fewer bytes than the item promised.
    pub(super) short: bool,
}

pub(super) enum Data {
    Own(Vec<u8>),
    /// A block of zeros, compressed once.
    Zeros(Arc<Vec<u8>>),
}

impl Data {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Zeros(bytes) => bytes,
        }
    }
}

/// An item while its blocks are on their way.
pub(super) struct Source {
    pub(super) item: Item,
    file: OnceLock<Result<File, (io::ErrorKind, String)>>,
}

struct Task {
    source: Arc<Source>,
    offset: u64,
    len: usize,
    last: bool,
}

/// Gives the blocks of all items to `consume`. `may_store`: the format can hold items as they are; else everything is compressed.
pub(super) fn each<Out>(
    root: &Path,
    items: &Items,
    codec: Codec,
    may_store: bool,
    threads: usize,
    consume: impl FnOnce(&mut dyn Iterator<Item = Result<Block, PackError>>) -> Out,
) -> Out {
    let tasks = items.iter().flat_map(|item| {
        let (block, size) = (BLOCK as u64, item.size);
        let count = size.div_ceil(block).max(1);
        let source = Arc::new(Source {
            item,
            file: OnceLock::new(),
        });
        (0..count).map(move |number| Task {
            source: Arc::clone(&source),
            offset: number * block,
            // At most a block.
            len: (size - (number * block).min(size)).min(block) as usize,
            last: number + 1 == count,
        })
    });
    let zeros = OnceLock::new();
    let worker = || Worker {
        input: Vec::new(),
        zstd: None,
    };
    ordered(
        threads,
        16 + 2 * threads as u64,
        Batches {
            tasks: tasks.peekable(),
        },
        worker,
        |worker, batch: Vec<Task>| -> Vec<Result<Block, PackError>> {
            let blocks = batch.iter();
            blocks
                .map(|task| worker.block(root, task, codec, may_store, &zeros))
                .collect()
        },
        |results| {
            consume(&mut results.flat_map(|result| match result {
                Ok(blocks) => blocks,
                Err(Panicked) => vec![Err(PackError::Panicked)],
            }))
        },
    )
}

/// Small tasks together: handing one over takes longer than compressing a small file.
struct Batches<I: Iterator> {
    tasks: Peekable<I>,
}

impl<I: Iterator<Item = Task>> Iterator for Batches<I> {
    type Item = Vec<Task>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.tasks.next()?;
        let mut bytes = first.len;
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Some(task) = self.tasks.next_if(|task| bytes + task.len <= BATCH_BYTES)
        {
            bytes += task.len;
            batch.push(task);
        }
        Some(batch)
    }
}

struct Worker {
    input: Vec<u8>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Worker {
    fn block(
        &mut self,
        root: &Path,
        task: &Task,
        codec: Codec,
        may_store: bool,
        zeros: &OnceLock<Arc<Vec<u8>>>,
    ) -> Result<Block, PackError> {
        let dictionary = self.read(root, task)?;
        let input = std::mem::take(&mut self.input);
        let (before, raw) = input.split_at(dictionary);
        let short = task.source.item.kind == Kind::File && raw.len() < task.len;
        let mut crc = crc32fast::Hasher::new();
        crc.update(raw);
        let first = task.offset == 0;
        let alone = first && task.last;
        let plain = may_store
            && (codec == Codec::Deflate(0)
                || raw.is_empty() && alone
                || task.source.item.kind == Kind::Symlink);
        let is_zero = !task.last && raw.len() == BLOCK && raw == &ZEROS[..];
        let (stored, data) = if plain {
            (true, Data::Own(raw.to_vec()))
        } else if is_zero {
            let block = zeros.get_or_init(|| Arc::new(self.compress(codec, &[], raw, false)));
            (false, Data::Zeros(Arc::clone(block)))
        } else if raw.len() >= SAMPLED && Self::is_dense(raw) {
            if alone && may_store {
                (true, Data::Own(raw.to_vec()))
            } else {
                let codec = match codec {
                    Codec::Deflate(_) => Codec::Deflate(0),
                    Codec::Zstd(_) => Codec::Zstd(1),
                };
                (
                    false,
                    Data::Own(self.compress(codec, before, raw, task.last)),
                )
            }
        } else {
            let data = self.compress(codec, before, raw, task.last);
            if alone && may_store && data.len() >= raw.len() {
                (true, Data::Own(raw.to_vec()))
            } else {
                (false, Data::Own(data))
            }
        };
        let raw = raw.len() as u64;
        self.input = input;
        Ok(Block {
            source: Arc::clone(&task.source),
            last: task.last,
            stored,
            crc,
            raw,
            data,
            short,
        })
    }

    /// Fills the input with the dictionary and the raw bytes; gives the length of the dictionary.
    fn read(&mut self, root: &Path, task: &Task) -> Result<usize, PackError> {
        let item = &task.source.item;
        self.input.clear();
        match item.kind {
            Kind::Dir => return Ok(0),
            Kind::Symlink => {
                let target = std::fs::read_link(full(root, &item.path))
                    .map_err(|error| failed("read link", item, error))?;
                self.input.extend_from_slice(target.as_os_str().as_bytes());
                return Ok(0);
            }
            // A vanished empty file is as good as one that is there.
            Kind::File if task.len == 0 => return Ok(0),
            Kind::File => {}
        }
        let file = task.source.file.get_or_init(|| {
            open(root, item).map_err(|error| match error {
                PackError::File { source, .. } => (source.kind(), source.to_string()),
                error => (io::ErrorKind::Other, error.to_string()),
            })
        });
        let file = match file {
            Ok(file) => file,
            Err((kind, text)) => {
                return Err(failed("open", item, io::Error::new(*kind, text.clone())));
            }
        };
        let wanted = DICTIONARY.min(usize::try_from(task.offset).unwrap_or(DICTIONARY));
        self.input.resize(wanted + task.len, 0);
        let start = task.offset - wanted as u64;
        let mut filled = 0;
        while filled < self.input.len() {
            match file.read_at(&mut self.input[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", item, error)),
            }
        }
        self.input.truncate(filled.max(wanted));
        Ok(wanted)
    }

    /// Whether data does not get much shorter: compressed already, or random.
    fn is_dense(raw: &[u8]) -> bool {
        const PIECE: usize = 8 << 10;
        let mut out = Vec::with_capacity(2 * PIECE);
        let mut len = 0;
        for part in 0..3 {
            let start = (raw.len() - PIECE) / 2 * part;
            let mut sample = Compress::new(Compression::fast(), false);
            out.clear();
            deflate(&mut sample, &raw[start..start + PIECE], true, &mut out);
            len += out.len();
        }
        len * 100 > 3 * PIECE * 97
    }

    fn compress(&mut self, codec: Codec, before: &[u8], raw: &[u8], last: bool) -> Vec<u8> {
        match codec {
            Codec::Deflate(level) => {
                let mut out = Vec::with_capacity(raw.len() / 2 + 64);
                // A new one each time: one that is reset compresses differently, by what it did before.
                let mut compress = Compress::new(Compression::new(level), false);
                if level > 0 && !before.is_empty() {
                    // A dictionary that is refused makes the stream longer, nothing else.
                    compress.set_dictionary(before).ok();
                }
                deflate(&mut compress, raw, last, &mut out);
                out
            }
            Codec::Zstd(level) => {
                // A frame of its own; decoders take them one after another.
                let compressor = match &mut self.zstd {
                    Some(compressor) => {
                        compressor.set_compression_level(level).ok();
                        Some(compressor)
                    }
                    none => match zstd::bulk::Compressor::new(level) {
                        Ok(new) => Some(none.insert(new)),
                        Err(_) => None,
                    },
                };
                compressor
                    .and_then(|compressor| compressor.compress(raw).ok())
                    .unwrap_or_default()
            }
        }
    }
}

/// Appends what `raw` becomes: the end of a stream, or a piece that ends at a byte boundary.
fn deflate(compress: &mut Compress, raw: &[u8], last: bool, out: &mut Vec<u8>) {
    let flush = if last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let begin = compress.total_in();
    loop {
        // At most the length of the input.
        let done = (compress.total_in() - begin) as usize;
        if out.capacity() - out.len() < 64 {
            out.reserve((raw.len() - done).max(64 << 10));
        }
        let status = compress.compress_vec(&raw[done..], out, flush);
        let all = (compress.total_in() - begin) as usize == raw.len();
        match status {
            Ok(Status::StreamEnd) => return,
            // Room left means that nothing is held back.
            Ok(_) if !last && all && out.len() < out.capacity() => return,
            Ok(_) => {}
            // No progress is possible without room, which there is.
            Err(_) => return,
        }
    }
}
