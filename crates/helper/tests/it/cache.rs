//! Caches through the agent.

mod local;
mod multipart;
mod remote;
mod transfer;

use std::path::PathBuf;

use gantry_agent::{
    ArchiveCacheEntry, ArchiveCacheRequest, RestoreCacheRequest, RestoreCandidate, RestoreEntry,
    Selection, StageRequest, Variable,
};

use crate::support::{Finished, Job};

impl Job {
    fn file(&self) -> PathBuf {
        self.agent.path("cache/key/cache.zip")
    }

    fn entry(&self) -> ArchiveCacheEntry {
        ArchiveCacheEntry {
            key: "key".into(),
            file: self.file(),
            selection: Selection {
                paths: vec!["vendor".into()],
                ..Selection::default()
            },
            metadata: [("CacheKey".to_owned(), "key".to_owned())].into(),
            ..ArchiveCacheEntry::default()
        }
    }

    fn save(&mut self, entry: ArchiveCacheEntry) -> Finished {
        self.save_with(entry, Vec::new())
    }

    fn save_with(&mut self, entry: ArchiveCacheEntry, variables: Vec<Variable>) -> Finished {
        let request = ArchiveCacheRequest {
            project_dir: self.project(),
            entries: vec![entry],
            variables,
            ..ArchiveCacheRequest::default()
        };
        self.run(StageRequest::ArchiveCache(Box::new(request))).ok()
    }

    fn restore(&mut self, candidates: Vec<RestoreCandidate>) -> Finished {
        self.restore_with(candidates, false)
    }

    fn restore_with(
        &mut self,
        candidates: Vec<RestoreCandidate>,
        clean_up_failed: bool,
    ) -> Finished {
        let request = RestoreCacheRequest {
            project_dir: self.project(),
            entries: vec![RestoreEntry {
                candidates,
                selection: self.entry().selection,
                ..RestoreEntry::default()
            }],
            clean_up_failed,
            ..RestoreCacheRequest::default()
        };
        self.run(StageRequest::RestoreCache(Box::new(request))).ok()
    }

    fn candidate(&self) -> RestoreCandidate {
        RestoreCandidate {
            key: "key".into(),
            file: self.file(),
            ..RestoreCandidate::default()
        }
    }
}
