//! Volumes and binds (docker-executor §4).

use std::fmt::Write as _;

use gantry_container::{
    Destinations, Labels, VolumeDefinition, VolumeError, VolumeSpec, clean_path, is_below,
};
use gantry_job::{Cause, GitStrategy};
use md5::{Digest as _, Md5};
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use crate::{
    Inputs, PlannedVolume, Sources,
    resolve::{Resolved, configuration},
};

/// Volumes to create, and the binds of every container.
pub(crate) struct Volumes {
    pub(crate) created: Vec<PlannedVolume>,
    pub(crate) binds: Vec<String>,
    /// The project directory is on storage that outlives the job.
    pub(crate) project_is_kept: bool,
}

pub(crate) fn plan(
    inputs: &Inputs<'_>,
    resolved: &Resolved,
    run: &str,
    labels: &Labels,
) -> Result<Volumes, Cause> {
    let mut volumes = Volumes {
        created: Vec::new(),
        binds: Vec::new(),
        project_is_kept: false,
    };
    let mut taken = Destinations::default();
    let failed = |error: VolumeError| configuration(&error.to_string());
    let builds = &resolved.directories.builds;
    for text in &inputs.runner.docker.volumes {
        let definition = VolumeDefinition::parse(text).map_err(failed)?;
        let expanded = resolved.variables.expand(&definition.destination);
        let destination = definition
            .absolute_destination(&expanded, &resolved.directories.project)
            .map_err(failed)?;
        taken.claim(&destination).map_err(failed)?;
        match definition.bind(&destination) {
            Some(bind) => volumes.binds.push(bind),
            None => {
                let temporary = inputs.runner.docker.disable_cache;
                volumes.add(inputs, resolved, run, labels, &destination, temporary);
            }
        }
        let covered = is_below(&clean_path(builds), &clean_path(&destination));
        volumes.project_is_kept |=
            covered && (definition.source.is_some() || !inputs.runner.docker.disable_cache);
    }
    // A host directory that holds the builds directory must not be hidden by a volume of ours.
    if !resolved.shared_builds && !taken.contains(builds) {
        let kept = inputs.sources == Sources::Git
            && resolved.settings.git_strategy == GitStrategy::Fetch
            && !inputs.runner.docker.disable_cache;
        volumes.add(inputs, resolved, run, labels, builds, !kept);
        volumes.project_is_kept |= kept;
    }
    Ok(volumes)
}

impl Volumes {
    fn add(
        &mut self,
        inputs: &Inputs<'_>,
        resolved: &Resolved,
        run: &str,
        labels: &Labels,
        destination: &str,
        temporary: bool,
    ) {
        let protected = is_protected(resolved);
        let base = if temporary {
            run.to_owned()
        } else {
            reusable_name(inputs)
        };
        let suffix = if protected { "-protected" } else { "" };
        let name = format!(
            "{base}-cache-{}{suffix}",
            hex(&Md5::digest(destination.as_bytes()))
        );
        let mut own = labels.clone();
        for (key, value) in [
            ("type", "cache".to_owned()),
            ("destination", destination.to_owned()),
            ("reusable", (!temporary).to_string()),
            ("protected", protected.to_string()),
        ] {
            own.insert(format!("{}{key}", crate::LABEL_PREFIX), value);
        }
        if !temporary {
            // Kept for later jobs: the sweep must not take it for a leftover of this one.
            own.remove(crate::STATE_LABEL);
        }
        self.binds.push(format!("{name}:{destination}"));
        self.created.push(PlannedVolume {
            spec: VolumeSpec {
                name,
                labels: own,
                ..VolumeSpec::default()
            },
            destination: destination.to_owned(),
            temporary,
        });
    }
}

/// `Q`: stable per runner, machine, project and slot (docker-executor §2.1).
fn reusable_name(inputs: &Inputs<'_>) -> String {
    let text = format!(
        "{}-{}-{}-{}",
        inputs.runner.token.expose_secret(),
        inputs.host.system_id,
        inputs.payload.job_info.project_id,
        inputs.numbers.concurrent_project
    );
    format!("runner-{}", hex(&Sha256::digest(text.as_bytes())[..16]))
}

/// Protected ref, or a cache key that says so (docker-executor §4.3).
fn is_protected(resolved: &Resolved) -> bool {
    resolved.payload.ref_is_protected()
        || resolved.payload.cache.iter().any(|cache| {
            cache.key.ends_with("-protected") && !cache.key.ends_with("-non_protected")
        })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}
