//! Artifacts and caches as a server puts them into a payload (coordinator-api §5).

use std::collections::BTreeMap;

use gantry_job::payload::{Artifact, Cache};
use sha2::{Digest as _, Sha256};

use crate::pipeline::{self, Artifacts, CacheKey, DEFAULT_KEY, KeyBy, KeyFiles, When};

/// Characters of a key that is made of files.
const HASH_CHARACTERS: usize = 40;

/// What keys of caches are made of: per way and path, something that changes when the file does.
/// Files that are not there are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyHashes(pub BTreeMap<(KeyBy, String), String>);

/// The archive, then the reports. All of them are zip archives: there is no server that would have
/// to read a report, and the names of its files are kept.
pub(super) fn artifacts(artifacts: &Artifacts) -> Vec<Artifact> {
    let archive = Artifact {
        name: artifacts.name.clone(),
        untracked: artifacts.untracked,
        paths: artifacts.paths.clone(),
        exclude: artifacts.exclude.clone(),
        when: artifacts.when.as_str().to_owned(),
        artifact_type: "archive".to_owned(),
        artifact_format: "zip".to_owned(),
        expire_in: artifacts.expire_in.clone(),
    };
    let reports = artifacts.reports.iter().map(|report| Artifact {
        name: report.kind.clone(),
        paths: report.paths.clone(),
        // GitLab keeps reports of failed jobs, too: they say why.
        when: When::Always.as_str().to_owned(),
        artifact_type: report.kind.clone(),
        artifact_format: "zip".to_owned(),
        ..Artifact::default()
    });
    Some(archive)
        .filter(|archive| archive.untracked || !archive.paths.is_empty())
        .into_iter()
        .chain(reports)
        .collect()
}

pub(super) fn caches(caches: &[pipeline::Cache], hashes: &KeyHashes) -> Vec<Cache> {
    caches
        .iter()
        .map(|cache| Cache {
            key: match &cache.key {
                CacheKey::Text(key) => key.clone(),
                CacheKey::Files(files) => key_of_files(files, hashes),
            },
            untracked: cache.untracked,
            policy: cache.policy.clone(),
            paths: cache.paths.clone(),
            when: cache.when.as_str().to_owned(),
            fallback_keys: cache.fallback_keys.clone(),
        })
        .collect()
}

/// `<prefix>-<hash>`, with `default` for the hash where no file is there (local-pipelines D4).
fn key_of_files(files: &KeyFiles, hashes: &KeyHashes) -> String {
    let found: Vec<&str> = files
        .files
        .iter()
        .filter_map(|file| hashes.0.get(&(files.by, file.clone())))
        .map(String::as_str)
        .collect();
    let hash = if found.is_empty() {
        DEFAULT_KEY.to_owned()
    } else {
        let digest = Sha256::digest(found.join("\n").as_bytes());
        let mut hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        hash.truncate(HASH_CHARACTERS);
        hash
    };
    match files.prefix.as_str() {
        "" => hash,
        prefix => format!("{prefix}-{hash}"),
    }
}
