//! Uploads of caches in parts: begun before the stage whose helper sends them, written down before anyone can send, and aborted when
//! the job's work is over. One that was completed knows nothing of that, so nobody has to ask which were.
//!
//! A process that takes the job up signs addresses of the uploads that are written down; the helper may be at work on them.

use futures_util::future::join_all;
use gantry_object_storage::Storage;
use gantry_plan::CacheArchive;

use crate::{ExecutorError, Record, context::Context, durable, record::Upload, walk::Walk};

impl Walk {
    /// Begins those uploads of a stage that are not begun.
    pub(crate) async fn begin_uploads(
        &mut self,
        stage: usize,
        work: &CacheArchive,
    ) -> Result<(), ExecutorError> {
        let Some(caches) = self.context.caches.as_ref().filter(|_| work.multipart) else {
            return Ok(());
        };
        let entries = work.request.entries.iter().zip(&work.objects).enumerate();
        let missing = entries.filter_map(|(entry, (asked, object))| {
            let object = object.as_ref().filter(|_| !asked.skip)?;
            let known = self.progress.upload(stage, entry).is_some();
            (!known).then_some((entry, &asked.key, object))
        });
        let begun = missing.map(|(entry, key, object)| async move {
            let begun = caches.begin_upload(object, key).await;
            // A storage that signs nothing is told of when addresses are signed.
            let id = begun.ok().flatten()?;
            Some(Upload {
                stage,
                entry,
                object: object.clone(),
                id,
            })
        });
        let begun: Vec<Upload> = join_all(begun).await.into_iter().flatten().collect();
        if begun.is_empty() {
            return Ok(());
        }
        self.progress.uploads.extend(begun);
        self.note_uploads().await
    }

    /// Aborts all uploads. What cannot be aborted stays written down, and is tried again at the removal of the job by a later process.
    pub(crate) async fn end_uploads(&mut self) -> Result<(), ExecutorError> {
        if self.progress.uploads.is_empty() {
            return Ok(());
        }
        self.progress.uploads = abort(&self.context, &self.progress.uploads).await;
        self.note_uploads().await
    }

    async fn note_uploads(&self) -> Result<(), ExecutorError> {
        let record = Record::Uploads(self.progress.uploads.clone());
        durable::note(&self.context.journal, &record, true).await
    }
}

/// Aborts uploads; gives those that may still be there.
pub(crate) async fn abort(context: &Context, uploads: &[Upload]) -> Vec<Upload> {
    let aborted = uploads.iter().map(async |upload| {
        let caches: &Storage = context.caches.as_ref()?;
        let aborted = caches.abort_upload(&upload.object, &upload.id).await;
        let error = aborted.err()?;
        tracing::warn!(
            job = context.plan.job_id,
            object = upload.object,
            %error,
            "a multipart upload may be left in the storage of caches; a rule of its bucket can expire such"
        );
        Some(upload.clone())
    });
    join_all(aborted).await.into_iter().flatten().collect()
}
