//! What the helper is asked for caches (job-lifecycle §5): keys, places, policies and fallbacks.

use std::path::PathBuf;

use gantry_agent::{
    ArchiveCacheEntry, ArchiveCacheRequest, Line, LineKind, RestoreCacheRequest, RestoreCandidate,
    RestoreEntry, Selection,
};
use gantry_config::CacheConfig;
use gantry_container::clean_path;
use gantry_job::{Cause, FeatureFlag, payload::Cache};
use sha2::{Digest as _, Sha256};

use crate::{
    CacheArchive, CacheObject, CacheRestore, Inputs, StageWork, directories,
    object::{hashed_key, object_name},
    resolve::{Resolved, configuration},
    volumes::hex,
};

/// Name of a local archive, whatever its format.
const ARCHIVE: &str = "cache.zip";
/// What is written beside it.
const METADATA: &str = "metadata.json";
/// Bytes of a file's name, on all usual file systems of Linux.
const LONGEST_NAME: usize = 255;
/// Bytes of a path that programs can name (4095), less those of names of files that are under way.
const LONGEST_PATH: usize = 4000;
/// Bytes of an object's name, in S3, Google Cloud Storage and Azure alike.
const LONGEST_OBJECT: usize = 1024;
/// A fallback key of the runner must not reach what only protected refs may write.
const PROTECTED: &str = "-protected";

/// Which of the two stages that save caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Badly,
}

impl Ended {
    /// Whether an entry with this `when` belongs to the stage.
    pub(crate) fn wants(self, when: &str) -> bool {
        match self {
            Self::Well => ["", "on_success", "always"].contains(&when),
            Self::Badly => ["on_failure", "always"].contains(&when),
        }
    }
}

/// `restore_cache`, if there is anything to restore.
pub(crate) fn restore(inputs: &Inputs<'_>, resolved: &Resolved) -> Option<StageWork> {
    let caches = Caches::new(inputs, resolved);
    let entries: Result<Vec<_>, _> = caches
        .entries()
        .map(|cache| caches.restore_entry(cache))
        .collect();
    let (entries, objects): (Vec<_>, Vec<_>) = match entries {
        Ok(entries) if entries.is_empty() => return None,
        Ok(entries) => entries.into_iter().unzip(),
        Err(cause) => return Some(StageWork::Fails(cause)),
    };
    let flags = &resolved.flags;
    Some(StageWork::RestoreCache(Box::new(CacheRestore {
        request: RestoreCacheRequest {
            project_dir: resolved.directories.project.clone().into(),
            entries,
            clean_up_failed: flags.is_on(FeatureFlag::CleanUpFailedCacheExtract),
            parallel_transfer: flags.is_on(FeatureFlag::UseParallelCacheTransfer),
            timeout_seconds: caches.timeout_seconds(),
            ca: inputs.tls.ca.clone(),
            variables: Vec::new(),
        },
        objects,
    })))
}

/// `archive_cache` or `archive_cache_on_failure`, if an entry's `when` fits.
pub(crate) fn archive(inputs: &Inputs<'_>, resolved: &Resolved, ended: Ended) -> Option<StageWork> {
    let caches = Caches::new(inputs, resolved);
    let entries: Result<Vec<_>, _> = caches
        .entries()
        .filter(|cache| ended.wants(&cache.when))
        .map(|cache| caches.archive_entry(cache))
        .collect();
    let (entries, objects): (Vec<_>, Vec<_>) = match entries {
        Ok(entries) if entries.is_empty() => return None,
        Ok(entries) => entries.into_iter().unzip(),
        Err(cause) => return Some(StageWork::Fails(cause)),
    };
    Some(StageWork::ArchiveCache(Box::new(CacheArchive {
        request: ArchiveCacheRequest {
            project_dir: resolved.directories.project.clone().into(),
            entries,
            timeout_seconds: caches.timeout_seconds(),
            ca: inputs.tls.ca.clone(),
            variables: Vec::new(),
        },
        objects,
        multipart: inputs.host.s3_multipart,
    })))
}

/// What may be done with a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    pull: bool,
    push: bool,
}

/// The caches of a job and where they are.
struct Caches<'a> {
    inputs: &'a Inputs<'a>,
    resolved: &'a Resolved,
    hashed: bool,
    /// `<cache_dir>/<project>`.
    folder: String,
}

/// A key that can be used, and what it names: by the scheme in force, and by the other one.
struct Key {
    /// As people know it.
    name: String,
    /// Folder of the local archive.
    folder: String,
    other_folder: Option<String>,
    /// End of the object's name.
    object: String,
    other_object: Option<String>,
}

impl<'a> Caches<'a> {
    fn new(inputs: &'a Inputs<'a>, resolved: &'a Resolved) -> Self {
        let base = resolved.directories.cache.as_str();
        let slug = directories::project_slug(&resolved.payload);
        Self {
            inputs,
            resolved,
            hashed: resolved.flags.is_on(FeatureFlag::HashCacheKeys),
            folder: clean_path(&format!("{base}/{slug}")),
        }
    }

    /// Those that hold anything; the others are ignored in silence.
    fn entries(&self) -> impl Iterator<Item = &'a Cache> {
        self.resolved
            .payload
            .cache
            .iter()
            .filter(|cache| cache.untracked || !cache.paths.is_empty())
    }

    fn timeout_seconds(&self) -> u64 {
        let minutes = self.resolved.settings.cache_request_timeout_minutes;
        u64::try_from(minutes).unwrap_or(0).saturating_mul(60)
    }

    fn remote(&self) -> Option<&'a CacheConfig> {
        let cache = &self.inputs.runner.cache;
        (!cache.kind.is_empty()).then_some(cache)
    }

    fn restore_entry(&self, cache: &Cache) -> Result<(RestoreEntry, Vec<CacheObject>), Cause> {
        let mut entry = RestoreEntry {
            selection: selection(cache),
            ..RestoreEntry::default()
        };
        let mut objects = Vec::new();
        let raw = self.raw_key(&cache.key);
        let (key, warning) = self.key(&raw);
        let Some(key) = key else {
            entry.lines.extend(warning);
            entry
                .lines
                .push(notice("Skipping cache extraction due to empty cache key"));
            return Ok((entry, objects));
        };
        if !self.policy(cache, &key)?.pull {
            entry.lines.extend(warning);
            entry.lines.push(notice(&format!(
                "Not downloading cache {} due to policy",
                key.name
            )));
            return Ok((entry, objects));
        }
        let mut add = |key: &Key, lines: Vec<Line>| {
            entry.candidates.push(RestoreCandidate {
                lines,
                key: key.name.clone(),
                file: self.file(&key.folder).into(),
                alternate_file: self.other_file(key),
                remote: None,
                alternate: None,
            });
            objects.push(self.object(key));
        };
        add(&key, warning.into_iter().collect());
        let variables = &self.resolved.variables;
        // What was found out about keys that cannot be used stands before the next one.
        let mut lines = Vec::new();
        let fallbacks = cache.fallback_keys.iter().map(|key| variables.expand(key));
        for raw in fallbacks.filter(|key| !key.is_empty()) {
            let (key, warning) = self.key(&raw);
            lines.extend(warning);
            if let Some(key) = key {
                add(&key, std::mem::take(&mut lines));
            }
        }
        let raw = variables.expand(variables.value("CACHE_FALLBACK_KEY"));
        if !raw.is_empty() {
            let (key, warning) = self.key(&raw);
            let plain = sanitized(&raw).unwrap_or_default();
            if is_protected(&raw) || is_protected(&plain) {
                lines.push(self::warning(&format!(
                    "CACHE_FALLBACK_KEY {raw:?} not allowed to end in {PROTECTED:?}"
                )));
            } else {
                lines.extend(warning);
                if let Some(key) = key {
                    add(&key, std::mem::take(&mut lines));
                }
            }
        }
        entry.lines.extend(lines);
        Ok((entry, objects))
    }

    fn archive_entry(&self, cache: &Cache) -> Result<(ArchiveCacheEntry, Option<String>), Cause> {
        let raw = self.raw_key(&cache.key);
        let (key, warning) = self.key(&raw);
        let mut entry = ArchiveCacheEntry {
            lines: warning.into_iter().collect(),
            selection: selection(cache),
            ..ArchiveCacheEntry::default()
        };
        let Some(key) = key else {
            entry.skip = true;
            entry
                .lines
                .push(notice("Skipping cache archiving due to empty cache key"));
            return Ok((entry, None));
        };
        entry.key.clone_from(&key.name);
        if !self.policy(cache, &key)?.push {
            entry.skip = true;
            entry.lines.push(notice(&format!(
                "Not uploading cache {} due to policy",
                key.name
            )));
            return Ok((entry, None));
        }
        entry.file = self.file(&key.folder).into();
        entry.alternate_file = self.other_file(&key);
        entry.metadata = [("cachekey".to_owned(), key.name.clone())].into();
        let remote = self.remote();
        entry.max_archive_size = remote.map_or(0, |remote| remote.max_uploaded_archive_size);
        Ok((entry, self.object(&key).object))
    }

    /// `policy`, expanded.
    fn policy(&self, cache: &Cache, key: &Key) -> Result<Policy, Cause> {
        let policy = self.resolved.variables.expand(&cache.policy);
        let (pull, push) = match policy.as_str() {
            "" | "pull-push" => (true, true),
            "pull" => (true, false),
            "push" => (false, true),
            _ => {
                return Err(configuration(format!(
                    "unknown cache policy {policy} for {}",
                    key.name
                )));
            }
        };
        Ok(Policy { pull, push })
    }

    /// The key before anything is made of it: expanded, or made of job and ref.
    fn raw_key(&self, key: &str) -> String {
        if !key.is_empty() {
            return self.resolved.variables.expand(key);
        }
        let payload = &self.resolved.payload;
        let path = format!("{}/{}", payload.job_info.name, payload.git_info.ref_name);
        clean_path(&format!("/{path}"))
            .trim_start_matches('/')
            .to_owned()
    }

    /// What can be made of a key, and what is to be said of it.
    fn key(&self, raw: &str) -> (Option<Key>, Option<Line>) {
        let hash = hex(&Sha256::digest(raw.as_bytes()));
        let plain = sanitized(raw);
        // Where the key cannot name a folder, the local archive has the name of the other scheme; objects have longer names.
        let folder = plain.clone().filter(|plain| self.can_be_a_folder(plain));
        if self.hashed {
            let key = (!raw.is_empty()).then(|| Key {
                name: raw.to_owned(),
                object: hashed_key(&hash),
                other_object: plain,
                folder: hash,
                other_folder: folder,
            });
            return (key, None);
        }
        match plain {
            None => {
                let text = format!("cache key {raw:?} could not be sanitized");
                (None, Some(warning(&text)))
            }
            Some(plain) => {
                let line = (plain != raw)
                    .then(|| warning(&format!("cache key {raw:?} sanitized to {plain:?}")));
                let (folder, other_folder) = match folder {
                    Some(folder) => (folder, Some(hash.clone())),
                    None => (hash.clone(), None),
                };
                let key = Key {
                    name: plain.clone(),
                    folder,
                    other_folder,
                    object: plain,
                    other_object: Some(hashed_key(&hash)),
                };
                (Some(key), line)
            }
        }
    }

    fn file(&self, folder: &str) -> String {
        format!("{}/{folder}/{ARCHIVE}", self.folder)
    }

    fn other_file(&self, key: &Key) -> Option<PathBuf> {
        key.other_folder
            .as_ref()
            .map(|folder| self.file(folder).into())
    }

    /// Whether a file system takes a key as it is, and no other key has its archive there: that of `a` is a file, which `a/cache.zip`
    /// would want to be a folder.
    fn can_be_a_folder(&self, key: &str) -> bool {
        let fits = |part: &str| part.len() <= LONGEST_NAME && part != ARCHIVE && part != METADATA;
        key.split('/').all(fits) && self.file(key).len() <= LONGEST_PATH
    }

    fn object(&self, key: &Key) -> CacheObject {
        let Some(remote) = self.remote() else {
            return CacheObject::default();
        };
        let name = |key: &str| {
            object_name(
                &remote.path,
                remote.shared,
                &self.resolved.short_token,
                self.inputs.payload.job_info.project_id,
                key,
            )
        };
        let other = key.other_object.as_deref().and_then(name);
        let names = [name(&key.object), other];
        let [object, alternate] =
            names.map(|name| name.filter(|name| name.len() <= LONGEST_OBJECT));
        match object {
            None => CacheObject {
                object: alternate,
                alternate: None,
            },
            object => CacheObject { object, alternate },
        }
    }
}

fn selection(cache: &Cache) -> Selection {
    Selection {
        paths: cache.paths.clone(),
        exclude: Vec::new(),
        untracked: cache.untracked,
    }
}

fn notice(text: &str) -> Line {
    Line {
        kind: LineKind::Notice,
        text: text.to_owned(),
    }
}

fn warning(text: &str) -> Line {
    Line {
        kind: LineKind::Warning,
        text: text.to_owned(),
    }
}

/// Whether a fallback key of the runner is refused: what one could write at its end to get around the rule does not count.
fn is_protected(key: &str) -> bool {
    key.trim_end_matches(|char: char| char == '.' || char.is_whitespace())
        .ends_with(PROTECTED)
}

/// A key as a path below a folder (job-lifecycle §5.1): escapes of `/`, `.` and `\` undone, `.` and `..` resolved within the folder, no
/// white space at the end. `None` if nothing is left.
fn sanitized(raw: &str) -> Option<String> {
    let plain = raw
        .replace("%2f", "/")
        .replace("%2F", "/")
        .replace("%2e", ".")
        .replace("%2E", ".")
        .replace('\\', "/");
    let mut parts: Vec<&str> = Vec::new();
    for part in plain.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    while let Some(last) = parts.pop() {
        let last = last.trim_end();
        if !last.is_empty() {
            parts.push(last);
            break;
        }
    }
    // A byte that no path can hold.
    (!parts.is_empty() && !plain.contains('\0')).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests;
