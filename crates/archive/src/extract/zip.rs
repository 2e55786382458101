//! Zip: the list at its end is read and judged first, then files are unpacked by several threads.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rawzip::{
    CompressionMethod, ErrorKind, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, RangeReader,
    ZipArchive, ZipFileHeaderRecord, extra_fields::ExtraFieldId,
};

use crate::{
    Kind,
    error::ExtractError,
    extract::{
        Extracted, LONGEST_LINK, PERMISSIONS, check_target, clean_name,
        early::{Early, Unpacked},
        place,
        plan::{Data, Entry, Growing, Plan},
        staging::Staging,
    },
    paths::Node,
    root::Root,
};

const UNIX: u8 = 3;
const MACOS: u8 = 19;
/// Deflate cannot do better than 1032 : 1.
const MOST_DEFLATE: u64 = 1040;
const FORMAT: u32 = 0o170_000;

/// From here on a file is large: it is unpacked before the others, so that no thread is left alone with it. Those are unpacked in the
/// order of the archive.
const LARGE: u64 = 1 << 20;

pub(super) fn extract(
    archive: File,
    root: &mut Root,
    threads: usize,
) -> Result<Extracted, ExtractError> {
    extract_rest(archive, root, threads, Early::default())
}

/// Without doing again what has been done already.
pub(super) fn extract_rest(
    archive: File,
    root: &mut Root,
    threads: usize,
    mut early: Early,
) -> Result<Extracted, ExtractError> {
    let size = archive.metadata().map_err(ExtractError::Read)?.len();
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive =
        ZipArchive::from_file(archive, &mut buffer).map_err(|error| match error.into_kind() {
            ErrorKind::MissingEndOfCentralDirectory => ExtractError::NotAnArchive(
                "the list of files at its end is missing; it was cut short, or is something else"
                    .into(),
            ),
            kind => structure(kind),
        })?;
    let (mut plan, mut nodes) = read_list(&archive, root, size, &mut buffer)?;
    drop(buffer);
    place::check(root, &plan)?;

    let staging = match early.staging.take() {
        Some(staging) => staging,
        None => Staging::new(root)?,
    };
    finish_early(&early, &staging, &mut plan, &mut nodes)?;
    drop(early);
    nodes.sort_by_key(|&node| {
        let size = plan.nameless(node).map_or(0, |entry| entry.size);
        std::cmp::Reverse(if size < LARGE { 0 } else { size })
    });
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failure = Mutex::new(None);
    let work = || {
        let mut buffer = vec![0; 256 << 10];
        while !stop.load(Ordering::Relaxed) {
            let Some(&node) = nodes.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let done = plan.entry(node).map_or(Ok(()), |entry| {
                unpack(&archive, &staging, &entry, &mut buffer)
            });
            if let Err(error) = done {
                stop.store(true, Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
            }
        }
    };
    let panicked = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.clamp(1, nodes.len().max(1)))
            .map(|_| scope.spawn(work))
            .collect();
        threads
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .filter(Result::is_err)
            .count()
            > 0
    });
    if panicked {
        return Err(ExtractError::Panicked);
    }
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    drop(nodes);
    place::commit(root, &staging, &plan)?;
    Ok(Extracted {
        entries: plan.len() as u64,
        bytes: plan.bytes(),
    })
}

/// Finds files of which everything is there already, and leaves the others. `nodes`: files, by the place of their data.
fn finish_early(
    early: &Early,
    staging: &Staging,
    plan: &mut Plan,
    nodes: &mut Vec<Node>,
) -> Result<(), ExtractError> {
    let mut unpacked = early.iter().peekable();
    let mut failure = None;
    nodes.retain(|&node| {
        let (size, data) = match plan.nameless(node) {
            Some(Entry {
                size,
                data: Some(data),
                ..
            }) if failure.is_none() => (size, data),
            _ => return false,
        };
        while unpacked
            .next_if(|unpacked| unpacked.data.start < data.start)
            .is_some()
        {}
        // Each serves one entry.
        if unpacked.next_if_eq(&Unpacked { data, size }).is_none() {
            return true;
        }
        plan.set_early(node);
        if let Some(entry) = plan.entry(node) {
            let reopened = staging.reopen(&entry);
            failure = reopened.and_then(|staged| staged.finish(&entry)).err();
        }
        false
    });
    failure.map_or(Ok(()), Err)
}

/// Whether the list of files can be found.
pub(super) fn has_end(archive: File) -> bool {
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    ZipArchive::from_file(archive, &mut buffer).is_ok()
}

/// The list of files, each looked at; and those that have data to be unpacked, by its place.
fn read_list(
    archive: &ZipArchive<FileReader>,
    root: &Root,
    size: u64,
    buffer: &mut [u8],
) -> Result<(Plan, Vec<Node>), ExtractError> {
    let (mut plan, mut nodes) = (Growing::new(), Vec::new());
    let mut list = archive.entries(buffer);
    let mut listed = 0_u64;
    while let Some(record) = list
        .next_entry()
        .map_err(|error| structure(error.into_kind()))?
    {
        listed += 1;
        let Some(mut entry) = entry(&record, root)? else {
            continue;
        };
        let found =
            archive
                .get_entry(record.wayfinder())
                .map_err(|error| match error.into_kind() {
                    ErrorKind::IO(error) => ExtractError::Read(error),
                    _ => ExtractError::entry(
                        &entry.path,
                        "the archive has no data for it: it was cut short or changed",
                    ),
                })?;
        let (start, end) = found.compressed_data_range();
        if end > size {
            return Err(ExtractError::entry(
                &entry.path,
                "its data lies behind the end of the archive, which was cut short",
            ));
        }
        check_data(&record, &entry)?;
        let data = Data {
            start,
            end,
            method: record.compression_method().as_u16(),
            crc: record.crc32(),
        };
        if entry.kind == Kind::Symlink {
            entry.target = link_target(archive, &entry, &data)?;
            check_target(&entry.path, &entry.target)?;
        }
        entry.data = Some(data);
        if let Some(node) = plan.add(&entry)? {
            nodes.push(node);
        }
    }
    if listed != archive.entries_hint() {
        return Err(ExtractError::Damaged(format!(
            "it lists {listed} files, but says it has {}",
            archive.entries_hint()
        )));
    }
    let plan = plan.whole();
    // Most archives have their list in this order.
    nodes.sort_by_key(|&node| plan.data_start(node));
    // Data that serves several entries is how a small archive becomes a huge tree.
    let mut taken = 0;
    for &node in &nodes {
        let data = plan.nameless(node).and_then(|entry| entry.data);
        let Some(data) = data.filter(|data| data.end > data.start) else {
            continue;
        };
        if data.start < taken {
            let path = plan.entry(node).map(|entry| entry.path);
            return Err(ExtractError::entry(
                &path.unwrap_or_default(),
                "shares its data with another file of the archive",
            ));
        }
        taken = data.end;
    }
    nodes.retain(|&node| plan.kind(node) == Some(Kind::File));
    Ok((plan, nodes))
}

/// One entry; `None`: nothing that is unpacked.
fn entry(record: &ZipFileHeaderRecord<'_>, root: &Root) -> Result<Option<Entry>, ExtractError> {
    let name = record.file_path();
    let path = clean_name(name.as_bytes(), root)?;
    if path.is_empty() {
        return Ok(None);
    }
    let raw = record.external_attributes() >> 16;
    let is_unix = matches!(
        record.version_made_by().creator_system().as_u8(),
        UNIX | MACOS
    );
    let kind = match (is_unix, raw & FORMAT) {
        (true, 0o120_000) => Kind::Symlink,
        (true, 0o040_000) => Kind::Dir,
        _ if record.is_dir() => Kind::Dir,
        (true, 0 | 0o100_000) | (false, _) => Kind::File,
        // Pipes, sockets, devices.
        (true, _) => return Ok(None),
    };
    let mode = (is_unix && raw & 0o7777 != 0).then_some(raw & PERMISSIONS);
    let mut mtime = None;
    let mut owner = None;
    for (id, field) in record.extra_fields() {
        if id == ExtraFieldId::EXTENDED_TIMESTAMP
            && let [flags, a, b, c, d, ..] = field
            && flags & 1 != 0
        {
            mtime = Some(i64::from(u32::from_le_bytes([*a, *b, *c, *d])));
        } else if id == ExtraFieldId::INFO_ZIP_UNIX_UID_GID
            && let [1, 4, uid @ .., 4, _, _, _, _] = field
            && let (Ok(uid), Some(gid)) = (uid.try_into(), field.last_chunk())
        {
            owner = Some((u32::from_le_bytes(uid), u32::from_le_bytes(*gid)));
        }
    }
    Ok(Some(Entry {
        path,
        kind,
        mode,
        mtime: mtime.or_else(|| dos_time(record)),
        owner,
        size: if kind == Kind::Dir {
            0
        } else {
            record.uncompressed_size_hint()
        },
        target: Vec::new(),
        data: None,
        staged: 0,
    }))
}

/// What can be told of the data without reading it.
fn check_data(record: &ZipFileHeaderRecord<'_>, entry: &Entry) -> Result<(), ExtractError> {
    let problem = |text: String| Err(ExtractError::entry(&entry.path, text));
    if record.flags().is_encrypted() || record.flags().has_strong_encryption() {
        return problem("is encrypted".into());
    }
    if entry.kind == Kind::Dir {
        return match record.uncompressed_size_hint() {
            0 => Ok(()),
            size => problem(format!("is a directory, but has {size} bytes of data")),
        };
    }
    let (packed, size) = (record.compressed_size_hint(), entry.size);
    match record.compression_method() {
        CompressionMethod::STORE if packed != size => {
            return problem(format!("claims {size} bytes, but has {packed}"));
        }
        CompressionMethod::DEFLATE if size > packed.saturating_mul(MOST_DEFLATE) => {
            return problem(format!(
                "claims to unpack from {packed} to {size} bytes, which is impossible"
            ));
        }
        CompressionMethod::STORE | CompressionMethod::DEFLATE | CompressionMethod::ZSTD => {}
        method => {
            let name = method
                .name()
                .map_or_else(|| method.as_u16().to_string(), str::to_owned);
            return problem(format!(
                "is compressed by a method that is not supported ({name})"
            ));
        }
    }
    if entry.kind == Kind::Symlink && size >= LONGEST_LINK {
        return problem("the target of the link is too long".into());
    }
    Ok(())
}

fn unpack(
    archive: &ZipArchive<FileReader>,
    staging: &Staging,
    entry: &Entry,
    buffer: &mut [u8],
) -> Result<(), ExtractError> {
    let Some(data) = &entry.data else {
        return Ok(());
    };
    let mut staged = staging.create(entry.staged, &entry.path)?;
    read_data(archive, entry, data, buffer, |bytes| {
        staged.write(bytes, &entry.path)
    })?;
    staged.finish(entry)
}

fn link_target(
    archive: &ZipArchive<FileReader>,
    entry: &Entry,
    data: &Data,
) -> Result<Vec<u8>, ExtractError> {
    let mut target = Vec::new();
    let mut buffer = [0; LONGEST_LINK as usize];
    read_data(archive, entry, data, &mut buffer, |bytes| {
        target.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(target)
}

/// Gives the data of an entry in pieces, and checks its length and checksum.
fn read_data(
    archive: &ZipArchive<FileReader>,
    entry: &Entry,
    data: &Data,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), ExtractError>,
) -> Result<(), ExtractError> {
    let packed = RangeReader::new(archive.get_ref(), data.start..data.end);
    let packed = BufReader::with_capacity(64 << 10, packed);
    let mut reader: Box<dyn Read + '_> = match CompressionMethod::from(data.method) {
        CompressionMethod::DEFLATE => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
        CompressionMethod::ZSTD => {
            Box::new(zstd::Decoder::with_buffer(packed).map_err(ExtractError::Read)?)
        }
        _ => Box::new(packed),
    };
    let problem = |text: String| ExtractError::entry(&entry.path, text);
    let mut crc = crc32fast::Hasher::new();
    let mut size = 0_u64;
    loop {
        let read = match reader.read(buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(problem(format!("its data is damaged: {error}"))),
        };
        size += read as u64;
        if size > entry.size {
            return Err(problem(format!(
                "unpacks to more than the {} bytes it claims",
                entry.size
            )));
        }
        crc.update(&buffer[..read]);
        take(&buffer[..read])?;
    }
    if size < entry.size {
        return Err(problem(format!(
            "has {size} of the {} bytes it claims",
            entry.size
        )));
    }
    if crc.finalize() != data.crc {
        return Err(problem("its checksum is wrong: its data is damaged".into()));
    }
    Ok(())
}

/// As if written in UTC.
fn dos_time(record: &ZipFileHeaderRecord<'_>) -> Option<i64> {
    let time = record.last_modified_dos();
    let (year, month, day) = (
        i64::from(time.year()),
        i64::from(time.month()),
        i64::from(time.day()),
    );
    if month == 0 || day == 0 {
        return None;
    }
    // Days from civil, Howard Hinnant.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(
        days * 86_400
            + i64::from(time.hour()) * 3600
            + i64::from(time.minute()) * 60
            + i64::from(time.second()),
    )
}

fn structure(kind: ErrorKind) -> ExtractError {
    match kind {
        ErrorKind::IO(error) => ExtractError::Read(error),
        kind => ExtractError::Damaged(kind.to_string()),
    }
}
