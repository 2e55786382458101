use std::{collections::BTreeMap, io::Read};

use bytes::Bytes;

use crate::EngineError;

/// Where a path of a container really lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Volume(String),
    Host(String),
    Layer(String),
}

/// One entry of an uploaded archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedEntry {
    /// Path as in the archive, without a trailing slash.
    pub path: String,
    /// A directory; else a file.
    pub directory: bool,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Content of a file.
    pub content: Bytes,
}

/// One archive upload that had its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Container name.
    pub container: String,
    /// The `path` of the call.
    pub path: String,
    /// Entries in order.
    pub entries: Vec<UploadedEntry>,
}

/// Files that uploads made, per volume, host directory and container layer.
#[derive(Default)]
pub(super) struct Files {
    entries: BTreeMap<(Place, String), UploadedEntry>,
}

/// Mode of a mount's root that nothing was uploaded to.
const FRESH: u32 = 0o755;

impl Files {
    /// Places a path: the longest mount that covers it, and what is left of the path, without slashes at its ends.
    pub(super) fn resolve(container: &str, binds: &[String], path: &str) -> (Place, String) {
        let path = clean(path);
        let mut found = (Place::Layer(container.to_owned()), path.clone());
        let mut longest = 0;
        for bind in binds {
            let mut parts = bind.split(':');
            let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
                continue;
            };
            let destination = clean(destination);
            let Some(rest) = below(&path, &destination) else {
                continue;
            };
            if destination.len() >= longest {
                longest = destination.len();
                let place = if source.starts_with('/') {
                    Place::Host(source.to_owned())
                } else {
                    Place::Volume(source.to_owned())
                };
                found = (place, rest.to_owned());
            }
        }
        found
    }

    pub(super) fn mode(&self, place: &Place, path: &str) -> Option<u32> {
        match self.entries.get(&(place.clone(), path.to_owned())) {
            Some(entry) => Some(entry.mode),
            None if path.is_empty() => Some(FRESH),
            None => {
                // A directory that exists because something lies below it.
                let below = format!("{path}/");
                let mut after = self.entries.range((place.clone(), below.clone())..);
                after
                    .next()
                    .is_some_and(|((p, q), _)| p == place && q.starts_with(&below))
                    .then_some(FRESH)
            }
        }
    }

    /// What lies at a path and below it, as a tar whose names begin with the path's last part.
    pub(super) fn archive(&self, place: &Place, path: &str) -> Option<Vec<u8>> {
        let last = path.rsplit('/').next().unwrap_or(path);
        let mut builder = tar::Builder::new(Vec::new());
        let mut any = false;
        for ((at, name), entry) in &self.entries {
            let Some(rest) = below(name, path).filter(|_| at == place) else {
                continue;
            };
            any = true;
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(if entry.directory {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Regular
            });
            header.set_mode(entry.mode);
            header.set_uid(entry.uid);
            header.set_gid(entry.gid);
            header.set_size(entry.content.len() as u64);
            let name = format!("{last}/{rest}");
            // Writing to memory cannot fail.
            builder
                .append_data(&mut header, name.trim_end_matches('/'), &entry.content[..])
                .ok();
        }
        any.then(|| builder.into_inner().unwrap_or_default())
    }

    pub(super) fn entry(&self, place: &Place, path: &str) -> Option<&UploadedEntry> {
        self.entries.get(&(place.clone(), clean(path)))
    }

    /// Stores an entry; a file never replaces a directory (`noOverwriteDirNonDir`).
    pub(super) fn put(
        &mut self,
        place: Place,
        path: String,
        entry: UploadedEntry,
    ) -> Result<(), String> {
        let key = (place, path);
        match self.entries.get(&key) {
            Some(old) if old.directory && !entry.directory => Err(format!(
                "cannot overwrite directory \"{}\" with non-directory",
                entry.path
            )),
            _ => {
                self.entries.insert(key, entry);
                Ok(())
            }
        }
    }

    /// Podman sets the root of a new volume back at the first start of a container that mounts it.
    pub(super) fn reset_root(&mut self, place: Place) {
        self.entries.remove(&(place, String::new()));
    }

    pub(super) fn forget(&mut self, place: &Place) {
        self.entries.retain(|(p, _), _| p != place);
    }
}

/// The entries of a tar archive; a cut one is an error.
pub(super) fn read_archive(what: &str, archive: &[u8]) -> Result<Vec<UploadedEntry>, EngineError> {
    let bad = |error: std::io::Error| EngineError::BadRequest {
        what: what.to_owned(),
        message: error.to_string(),
    };
    let mut entries = Vec::new();
    for entry in tar::Archive::new(archive).entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(bad)?;
        let header = entry.header();
        entries.push(UploadedEntry {
            path: clean(&entry.path().map_err(bad)?.to_string_lossy()),
            directory: header.entry_type().is_dir(),
            mode: header.mode().map_err(bad)? & 0o7777,
            uid: header.uid().map_err(bad)?,
            gid: header.gid().map_err(bad)?,
            content: content.into(),
        });
    }
    Ok(entries)
}

pub(super) fn join(base: &str, path: &str) -> String {
    format!("{}/{}", base.trim_end_matches('/'), path)
}

/// Without empty and `.` parts and without slashes at the ends.
fn clean(path: &str) -> String {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect::<Vec<_>>()
        .join("/")
}

fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(base)?;
    if rest.is_empty() || base.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}
