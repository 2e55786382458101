//! Tar in zstd: unpacked as it is read.

use std::{
    fs::File,
    io::{self, BufRead, Read, Seek},
};

use tar::EntryType;

use crate::{
    Kind,
    error::{ExtractError, shown},
    extract::{Entry, Extracted, Plan, check_target, clean_name, place, staging::Staging},
    root::Root,
};

pub(super) fn extract(archive: impl BufRead, root: &mut Root) -> Result<Extracted, ExtractError> {
    let decoder = zstd::Decoder::with_buffer(archive).map_err(ExtractError::Read)?;
    let mut tar = tar::Archive::new(decoder);
    let staging = Staging::new(root)?;
    let (mut entries, mut plan) = (Vec::new(), Plan::new());
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    for found in tar.entries().map_err(|error| damaged(&error))? {
        let mut found = found.map_err(|error| damaged(&error))?;
        let header = found.header();
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => {
                return Err(ExtractError::entry(
                    &found.path_bytes(),
                    "is a hard link, which is not unpacked",
                ));
            }
            _ => continue,
        };
        let number =
            |value: io::Result<u64>| value.ok().and_then(|value| u32::try_from(value).ok());
        let (uid, gid) = (number(header.uid()), number(header.gid()));
        let entry = Entry {
            path: clean_name(&found.path_bytes(), root)?,
            kind,
            mode: header.mode().ok().map(|mode| mode & 0o7777),
            mtime: header
                .mtime()
                .ok()
                .and_then(|time| i64::try_from(time).ok()),
            owner: uid.zip(gid),
            size: found.size(),
            target: found
                .link_name_bytes()
                .map(std::borrow::Cow::into_owned)
                .unwrap_or_default(),
            staged: entries.len() as u64,
        };
        if entry.path.is_empty() {
            continue;
        }
        if kind == Kind::Symlink {
            check_target(&entry.path, &entry.target)?;
        }
        let index = entries.len();
        if !plan.add(&entries, &entry, index)? {
            continue;
        }
        if kind == Kind::File {
            let mut staged = staging.create(entry.staged, &entry.path)?;
            loop {
                match found.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => {
                        staged.write(&buffer[..read], &entry.path)?;
                        bytes += read as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        return Err(ExtractError::entry(
                            &entry.path,
                            format!("its data is damaged: {error}"),
                        ));
                    }
                }
            }
            staged.finish(&entry)?;
        }
        entries.push(entry);
    }
    // To the end, where the checksum is.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(|error| damaged(&error))?;
    place::check(root, &plan, &entries)?;
    place::commit(root, &staging, &plan, &entries)?;
    Ok(Extracted {
        entries: entries.len() as u64,
        bytes,
    })
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
