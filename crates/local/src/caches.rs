//! Caches of local runs: a volume per project that stays on the engine, and what keys are made of.

use std::{
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path},
};

use gantry_container::{Labels, VolumeSpec};
use gantry_engine::{EngineError, ListFilter, SharedEngine};
use gantry_pipeline::{CacheKey, KeyBy, KeyHashes, Pipeline};
use sha2::{Digest as _, Sha256};

use crate::{Checkout, facts};

/// Where jobs see the volume: the default `cache_dir` of the Docker executor.
pub(crate) const CACHE_PATH: &str = "/cache";

/// The label by which volumes are found again; its value is the project.
const LABEL: &str = "gantry.exec.cache";

/// The volume of a project, by its name for folders. It is shared by all jobs and runs of the project: an archive is put into its
/// place whole.
pub(crate) fn volume(project: &str) -> VolumeSpec {
    VolumeSpec {
        name: format!("gantry-exec-{project}-cache"),
        labels: Labels::from([(LABEL.to_owned(), project.to_owned())]),
        ..VolumeSpec::default()
    }
}

/// Removes the caches of a project; says whether there were any.
///
/// # Errors
/// When the engine does not remove them, as while a job uses them.
pub(crate) async fn clear(engine: &SharedEngine, project: &str) -> Result<bool, EngineError> {
    let filter = ListFilter {
        labels: [(LABEL.to_owned(), project.to_owned())].into(),
        name: None,
    };
    let found = engine.volume_list(&filter).await?;
    for volume in &found {
        engine.volume_remove(&volume.name, true).await?;
    }
    Ok(!found.is_empty())
}

/// What keys are made of, for the files that keys of this pipeline name.
pub(crate) async fn key_hashes(pipeline: &Pipeline, checkout: &Checkout) -> KeyHashes {
    let mut hashes = KeyHashes::default();
    let keys = pipeline.jobs.iter().flat_map(|job| &job.cache);
    for cache in keys {
        let CacheKey::Files(key) = &cache.key else {
            continue;
        };
        for file in &key.files {
            let place = (key.by, file.clone());
            if hashes.0.contains_key(&place) || !is_inside(Path::new(file)) {
                continue;
            }
            let hash = match key.by {
                KeyBy::Content if facts::is_pattern(&checkout.root, file) => {
                    content_of_matching(&checkout.root, file).await
                }
                KeyBy::Content => content(&checkout.root.join(file)).await,
                KeyBy::Commit => facts::last_commit(&checkout.root, file).await,
            };
            if let Some(hash) = hash {
                hashes.0.insert(place, hash);
            }
        }
    }
    hashes
}

fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Hash of all files that a pattern matches: of their names and contents. None if it matches none that can be read.
async fn content_of_matching(root: &Path, pattern: &str) -> Option<String> {
    let mut hasher = Sha256::new();
    let mut any = false;
    for file in facts::matching_files(root, pattern).await {
        if let Some(hash) = content(&root.join(&file)).await {
            any = true;
            // Neither part of a line can hold the byte between them.
            hasher.update(file.as_os_str().as_bytes());
            hasher.update([0]);
            hasher.update(hash);
            hasher.update([0]);
        }
    }
    any.then(|| hex(hasher))
}

/// Hash of a file; none if there is none that can be read.
async fn content(path: &Path) -> Option<String> {
    let path = path.to_owned();
    let hash = move || {
        let mut file = std::fs::File::open(path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            match file.read(&mut piece).ok()? {
                0 => break,
                count => hasher.update(&piece[..count]),
            }
        }
        Some(hex(hasher))
    };
    tokio::task::spawn_blocking(hash).await.ok().flatten()
}

fn hex(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Folder;

    #[tokio::test]
    async fn keys_are_made_of_files_of_the_working_tree_or_of_their_commits() {
        let folder = Folder::repository("shop");
        folder.write("a.lock", "one");
        folder.commit("first");
        folder.write("a.lock", "two");
        folder.write("new.lock", "new");
        std::fs::write(folder.beside("outside"), "x").unwrap();
        let file = "
a: {script: x, cache: [{key: {files: [a.lock, new.lock]}}, {key: {files: [gone, ../outside]}}]}
b: {script: x, cache: {key: {files_commits: [a.lock, new.lock]}}}
";
        let pipeline = gantry_pipeline::parse("f", file).unwrap();
        let checkout = facts::collect(folder.path(), "f").await.unwrap();
        let hashes = key_hashes(&pipeline, &checkout).await;
        let found: Vec<_> = hashes
            .0
            .keys()
            .map(|(by, file)| (*by, file.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (KeyBy::Content, "a.lock"),
                (KeyBy::Content, "new.lock"),
                (KeyBy::Commit, "a.lock"),
            ]
        );
        let commit = &hashes.0[&(KeyBy::Commit, "a.lock".to_owned())];
        assert_eq!(*commit, folder.git(&["rev-parse", "HEAD"]));
        let before = hashes.0[&(KeyBy::Content, "a.lock".to_owned())].clone();
        folder.write("a.lock", "three");
        let after = key_hashes(&pipeline, &checkout).await;
        assert_ne!(before, after.0[&(KeyBy::Content, "a.lock".to_owned())]);
    }

    /// The key's hash of one pattern, if anything matches it.
    async fn hash_of(folder: &Folder, by: KeyBy, pattern: &str) -> Option<String> {
        let word = match by {
            KeyBy::Content => "files",
            KeyBy::Commit => "files_commits",
        };
        let file = format!("a: {{script: x, cache: {{key: {{{word}: ['{pattern}']}}}}}}");
        let pipeline = gantry_pipeline::parse("f", &file).unwrap();
        let checkout = facts::collect(folder.path(), "f").await.unwrap();
        let hashes = key_hashes(&pipeline, &checkout).await;
        hashes.0.get(&(by, pattern.to_owned())).cloned()
    }

    #[tokio::test]
    async fn a_pattern_stands_for_all_files_it_matches() {
        let folder = Folder::repository("shop");
        for name in ["Gemfile.lock", "a/b/Gemfile.lock", "a/other", "[x].lock"] {
            folder.write(name, "one");
        }
        folder.write(".gitignore", "ignored.lock");
        folder.write("ignored.lock", "one");
        folder.commit("first");
        let first = folder.git(&["rev-parse", "HEAD"]);
        let by = KeyBy::Content;
        let deep = hash_of(&folder, by, "**/Gemfile.lock").await;
        let flat = hash_of(&folder, by, "*.lock").await;
        assert!(deep.is_some() && flat.is_some() && deep != flat);
        assert_eq!(hash_of(&folder, by, "*.gone").await, None);
        // `*` stays within a folder, and what git ignores does not count.
        folder.write("a/b/Gemfile.lock", "two");
        folder.write("ignored.lock", "two");
        assert_ne!(hash_of(&folder, by, "**/Gemfile.lock").await, deep);
        assert_eq!(hash_of(&folder, by, "*.lock").await, flat);
        // A new file counts before it is committed, a removed one no more, and so does its name.
        folder.write("new.lock", "one");
        assert_ne!(hash_of(&folder, by, "*.lock").await, flat);
        std::fs::remove_file(folder.path().join("new.lock")).unwrap();
        assert_eq!(hash_of(&folder, by, "*.lock").await, flat);

        let by = KeyBy::Commit;
        folder.commit("second");
        assert_eq!(hash_of(&folder, by, "*.lock").await, Some(first));
        let second = folder.git(&["rev-parse", "HEAD"]);
        assert_eq!(hash_of(&folder, by, "**/*.lock").await, Some(second));
        assert_eq!(hash_of(&folder, by, "*.gone").await, None);
        assert!(hash_of(&folder, by, "[x].lock").await.is_some());
    }
}
