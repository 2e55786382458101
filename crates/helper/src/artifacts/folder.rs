//! Artifacts of a job without a server: archives that are left in a directory and found there. Whoever runs the job carries them.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use gantry_agent::{ArtifactEntry, Dependency};
use gantry_archive::{Extracted, extract, pack, threads};

use super::{
    ArtifactError,
    upload::{Job, Sent, tell_shrunk},
};
use crate::{http::shown, log};

/// Packs one entry into `<place>.zip`.
pub(super) fn keep(
    folder: &Path,
    job_id: u64,
    place: usize,
    entry: &ArtifactEntry,
    job: &Job<'_>,
) -> Result<Sent, ArtifactError> {
    let path = folder.join(format!("{place}.zip"));
    let cannot =
        |error: io::Error| ArtifactError::new(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(cannot)?;
    let mut file = BufWriter::with_capacity(256 << 10, File::create(&path).map_err(cannot)?);
    let packed = pack(
        job.root,
        job.items,
        job.format,
        job.level,
        None,
        threads(),
        &mut file,
    )
    .map_err(|error| ArtifactError::new(error.to_string()))?;
    file.flush().map_err(cannot)?;
    let bytes = file.get_ref().metadata().map_err(cannot)?.len();
    tell_shrunk(&packed);
    let what = match entry.artifact_type.as_str() {
        "" => "archive",
        other => other,
    };
    log::line(
        log::Level::Info,
        &format!("Keeping artifacts as {:?}... ok", shown(what)),
        &[("id", job_id.to_string()), ("bytes", bytes.to_string())],
    );
    Ok(Sent {
        entries: packed.entries,
        bytes,
    })
}

/// Unpacks `<id>.zip` into the project.
pub(super) fn take(
    folder: &Path,
    dependency: &Dependency,
    project_dir: &Path,
) -> Result<(Extracted, u64), ArtifactError> {
    let path = folder.join(format!("{}.zip", dependency.id));
    let file = File::open(&path)
        .map_err(|error| ArtifactError::new(format!("cannot read {}: {error}", path.display())))?;
    let size = file.metadata().map_or(0, |file| file.len());
    let extracted = extract(file, project_dir, threads()).map_err(|error| ArtifactError {
        partial: error.is_partial(),
        text: error.to_string(),
    })?;
    log::line(
        log::Level::Info,
        "Unpacking artifacts... ok",
        &[
            ("id", dependency.id.to_string()),
            ("bytes", size.to_string()),
        ],
    );
    Ok((extracted, size))
}
