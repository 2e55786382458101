//! Artifacts of a job without a server. The helper packs and unpacks them in a directory of its container, as for a server; the engine
//! carries the archives, so that this works wherever the engine is.

use std::io::Cursor;

use futures_util::future::BoxFuture;
use gantry_agent::{ArtifactEntry, StageRequest};
use gantry_engine::{Archive, EngineError};
use gantry_job::{Cause, Stage};
use gantry_plan::{GIVEN_ARTIFACTS, KEPT_ARTIFACTS};
use gantry_trace::Level;

use crate::{ExecutorError, context::Context, record::StageEnd};

/// Keeps artifacts of a job and has those of earlier ones.
pub trait ArtifactStore: Send + Sync {
    /// The archives of earlier jobs as a tar of files `<id>.zip`.
    fn give(&self, jobs: &[u64]) -> Archive;

    /// Takes a tar of files `<folder>/<place in entries>.zip`; an entry that matched no file has none. An error fails the job and says
    /// why, for people.
    fn keep<'a>(
        &'a self,
        entries: &'a [ArtifactEntry],
        archive: Archive,
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Before a stage of the helper: brings what it will look for. Again for each helper, since it is in the container's own layer.
pub(crate) async fn bring(
    context: &Context,
    container: &str,
    request: &StageRequest,
) -> Result<(), ExecutorError> {
    let (Some(store), StageRequest::DownloadArtifacts(request)) = (&context.artifacts, request)
    else {
        return Ok(());
    };
    let failed = |error: EngineError| context.cause("handing over artifacts", &error);
    let engine = &context.engine;
    let folders = folders(GIVEN_ARTIFACTS);
    engine
        .archive_put(container, "/", folders)
        .await
        .map_err(failed)?;
    let jobs: Vec<u64> = request.dependencies.iter().map(|job| job.id).collect();
    engine
        .archive_put(container, GIVEN_ARTIFACTS, store.give(&jobs))
        .await
        .map_err(failed)?;
    Ok(())
}

/// After a stage of the helper: fetches what it left. Also where an entry failed: the others are kept.
pub(crate) async fn fetch(
    context: &Context,
    container: &str,
    stage: &Stage,
    request: &StageRequest,
    end: StageEnd,
) -> Result<StageEnd, ExecutorError> {
    let (Some(store), StageRequest::UploadArtifacts(request)) = (&context.artifacts, request)
    else {
        return Ok(end);
    };
    let got = context.engine.archive_get(container, KEPT_ARTIFACTS).await;
    let archive = got.map_err(|error| context.cause("fetching artifacts", &error))?;
    let Some(archive) = archive else {
        return Ok(end);
    };
    match store.keep(&request.entries, archive).await {
        Ok(()) => Ok(end),
        // The end of the job's log says it.
        Err(message) if end == StageEnd::Succeeded => {
            Ok(StageEnd::Failed(Cause::Configuration { message }))
        }
        // What went wrong first counts.
        Err(message) => {
            let key = format!("{}:kept", stage.section_name());
            context.trace.line_once(&key, Level::Error, &message);
            Ok(end)
        }
    }
}

/// A tar of a directory and its parents.
fn folders(path: &str) -> Archive {
    let mut builder = tar::Builder::new(Vec::new());
    let mut name = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        name.push_str(part);
        name.push('/');
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        // Writing to memory cannot fail.
        builder
            .append_data(&mut header, &name, std::io::empty())
            .ok();
    }
    Box::pin(Cursor::new(builder.into_inner().unwrap_or_default()))
}
