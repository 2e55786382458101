//! Requests of the stages that move archives, as they are when the stage begins: with the job's variables and status, with addresses
//! that were signed just now, and with the times of the provenance statement.

use std::time::Duration;

use gantry_agent::{
    ArchiveCacheEntry, ArchiveCacheRequest, Header, MultipartUpload, RemoteSource,
    RestoreCacheRequest, SignedUrl, StageRequest, UploadArtifactsRequest, UploadPart, Variable,
};
use gantry_job::{JobStatus, Variables};
use gantry_object_storage::{SignedRequest, Storage, StorageError};
use gantry_plan::{CacheArchive, CacheObject, CacheRestore, Plan, StageWork};

use crate::{Progress, unix_ms};

/// What a request is made from.
pub(crate) struct Now<'a> {
    pub(crate) plan: &'a Plan,
    /// The remote cache, if there is one.
    pub(crate) caches: Option<&'a Storage>,
    /// Index of the stage in the plan.
    pub(crate) stage: usize,
    /// Where the job stands.
    pub(crate) progress: &'a Progress,
    /// `CI_JOB_STATUS`.
    pub(crate) status: JobStatus,
    /// When the job was accepted, unix milliseconds.
    pub(crate) accepted_ms: u64,
}

impl Now<'_> {
    /// What the helper is asked for a stage of its own; `None` if the stage is not the helper's.
    pub(crate) async fn request(&self, work: &StageWork) -> Option<StageRequest> {
        Some(match work {
            StageWork::Sources(request) => StageRequest::Sources(request.clone()),
            StageWork::Cleanup(request) => StageRequest::Cleanup(Box::new(request.clone())),
            StageWork::RestoreCache(work) => {
                StageRequest::RestoreCache(Box::new(self.restore(work).await))
            }
            StageWork::ArchiveCache(work) => {
                StageRequest::ArchiveCache(Box::new(self.archive(work).await))
            }
            StageWork::DownloadArtifacts(request) => {
                let mut request = request.clone();
                request.variables = self.variables();
                StageRequest::DownloadArtifacts(request)
            }
            StageWork::UploadArtifacts(request) => {
                StageRequest::UploadArtifacts(Box::new(self.upload(request)))
            }
            StageWork::Lines(_) | StageWork::Script(_) | StageWork::Fails(_) => return None,
        })
    }

    async fn restore(&self, work: &CacheRestore) -> RestoreCacheRequest {
        let mut request = work.request.clone();
        request.variables = self.variables();
        for (entry, objects) in request.entries.iter_mut().zip(&work.objects) {
            for (candidate, names) in entry.candidates.iter_mut().zip(objects) {
                let CacheObject { object, alternate } = names;
                candidate.remote = self.source(&candidate.key, object.as_deref()).await;
                candidate.alternate = self.source(&candidate.key, alternate.as_deref()).await;
            }
        }
        request
    }

    async fn archive(&self, work: &CacheArchive) -> ArchiveCacheRequest {
        let mut request = work.request.clone();
        request.variables = self.variables();
        let entries = request.entries.iter_mut().zip(&work.objects);
        for (place, (entry, object)) in entries.enumerate() {
            if let (Some(caches), Some(object)) = (self.caches, object) {
                let signed = self.sign_upload(caches, object, place, entry).await;
                self.or_local(&entry.key, signed);
            }
        }
        request
    }

    async fn sign_upload(
        &self,
        caches: &Storage,
        object: &str,
        place: usize,
        entry: &mut ArchiveCacheEntry,
    ) -> Result<(), StorageError> {
        let valid = self.valid();
        let put = caches.upload(object, &entry.key, valid).await?;
        let check = caches.check(object, valid).await?;
        if let Some(upload) = self.progress.upload(self.stage, place) {
            let most = entry.max_archive_size;
            let signed = caches.upload_parts(object, &upload.id, most, valid);
            let signed = Box::pin(signed).await?;
            let part = |(put, size)| UploadPart {
                put: signed_url(put),
                size,
            };
            entry.multipart = Some(MultipartUpload {
                parts: signed.parts.into_iter().map(part).collect(),
                complete: signed_url(signed.complete),
            });
        }
        entry.put = Some(signed_url(put));
        entry.check = Some(signed_url(check));
        Ok(())
    }

    fn upload(&self, request: &UploadArtifactsRequest) -> UploadArtifactsRequest {
        let mut request = request.clone();
        request.variables = self.variables();
        if let Some(provenance) = &mut request.provenance {
            provenance.started_at = rfc3339(self.accepted_ms);
            provenance.ended_at = rfc3339(unix_ms());
        }
        request
    }

    async fn source(&self, key: &str, object: Option<&str>) -> Option<RemoteSource> {
        let (caches, object) = (self.caches?, object?);
        let valid = self.valid();
        let signed = async {
            Ok::<_, StorageError>(RemoteSource {
                get: signed_url(caches.download(object, valid).await?),
                head: Some(signed_url(caches.check(object, valid).await?)),
            })
        };
        self.or_local(key, signed.await)
    }

    /// A cache whose address cannot be signed is a local one, and the process log says why (job-lifecycle §5.3).
    fn or_local<T>(&self, key: &str, signed: Result<T, StorageError>) -> Option<T> {
        signed
            .inspect_err(|error| {
                tracing::error!(job = self.plan.job_id, key, %error, "the remote cache is not used");
            })
            .ok()
    }

    /// As long as the job may run.
    fn valid(&self) -> Duration {
        self.plan.limits.job
    }

    fn variables(&self) -> Vec<Variable> {
        let mut variables = self.plan.variables.clone();
        variables.set_job_status(self.status);
        program_variables(&variables)
    }
}

/// Variables as programs get them.
fn program_variables(variables: &Variables) -> Vec<Variable> {
    variables
        .iter()
        .map(|variable| Variable {
            key: variable.key.clone(),
            value: variables.program_value(variable).into_owned().into(),
        })
        .collect()
}

fn signed_url(request: SignedRequest) -> SignedUrl {
    let header = |(name, value): (String, String)| Header {
        name,
        value: value.into(),
    };
    SignedUrl {
        url: request.url.into(),
        headers: request.headers.into_iter().map(header).collect(),
    }
}

fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(ms / 1000)
        .map(|time| time.to_string())
        .unwrap_or_default()
}
