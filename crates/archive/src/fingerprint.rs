//! What an archive was made of, written at its end.
//!
//! The peer takes a cache as unchanged if its archive is newer than all files: deleted files, files put back with old times and
//! changed permissions go unnoticed (job-lifecycle §9 number 15). An archive of ours ends with a mark: the comment of a zip, a
//! skippable frame of a zstd stream. Other readers ignore both. An archive that was cut short has no mark.

use std::{fs::File, io, os::unix::fs::FileExt};

use sha2::{Digest, Sha256};

use crate::{Items, Kind};

const PREFIX: &[u8] = b"gantry-1:";
pub(crate) const LEN: usize = PREFIX.len() + 64;

/// A checksum over names, kinds, sizes, modes and times (in whole seconds, as archives keep them) of a list of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<u8>);

impl Fingerprint {
    /// Of a list. `salt`: what else makes one archive differ from another, such as its format.
    pub fn of(items: &Items, salt: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((salt.len() as u64).to_le_bytes());
        hash.update(salt);
        for item in items.iter() {
            hash.update((item.path.len() as u64).to_le_bytes());
            hash.update(&item.path);
            let kind = match item.kind {
                Kind::File => 0_u8,
                Kind::Dir => 1,
                Kind::Symlink => 2,
            };
            hash.update([kind]);
            // The mode of a link says nothing.
            let mode = if item.kind == Kind::Symlink {
                0
            } else {
                item.mode
            };
            hash.update(mode.to_le_bytes());
            hash.update(item.size.to_le_bytes());
            hash.update(item.mtime.to_le_bytes());
        }
        let digest = hash.finalize();
        let mut mark = PREFIX.to_vec();
        for byte in digest {
            mark.extend(format!("{byte:02x}").bytes());
        }
        Self(mark)
    }

    /// The one at the end of an archive, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(archive: &File) -> io::Result<Option<Self>> {
        let size = archive.metadata()?.len();
        let Some(start) = size.checked_sub(LEN as u64) else {
            return Ok(None);
        };
        let mut mark = vec![0; LEN];
        archive.read_exact_at(&mut mark, start)?;
        Ok(mark.starts_with(PREFIX).then_some(Self(mark)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
