//! Forgets what runs of a project left for later ones.

use std::{io, path::Path};

use gantry_engine::{EngineError, SharedEngine};

use crate::{artifacts, caches};

/// What there was to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Caches, on the engine.
    pub caches: bool,
    /// Artifacts, on this machine.
    pub artifacts: bool,
}

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClearError {
    /// The engine keeps the caches.
    #[error("the caches of this project cannot be removed: {0}")]
    Caches(EngineError),
    /// Files are kept.
    #[error("the artifacts of this project cannot be removed: {0}")]
    Artifacts(io::Error),
}

/// Removes the caches of the project in `root` from the engine, and its artifacts from `store`, the folder of [`crate::Setup::store`].
///
/// # Errors
/// When one of them cannot be removed.
pub async fn clear(
    engine: &SharedEngine,
    root: &Path,
    store: &Path,
) -> Result<Cleared, ClearError> {
    let project = artifacts::project_name(root);
    let artifacts = artifacts::remove_all(&store.join(&project)).map_err(ClearError::Artifacts)?;
    let caches = caches::clear(engine, &project)
        .await
        .map_err(ClearError::Caches)?;
    Ok(Cleared { caches, artifacts })
}
