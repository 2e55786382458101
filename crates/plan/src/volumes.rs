//! Volumes and binds (docker-executor §4).

use std::fmt::Write as _;

use gantry_config::Naming;
use gantry_container::{
    Destinations, Labels, VolumeDefinition, VolumeError, VolumeSpec, clean_path, is_below, rfc1123,
};
use gantry_job::{Cause, GitStrategy};
use md5::{Digest as _, Md5};
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use crate::{
    Inputs, PlannedVolume, STATE_LABEL, Sources,
    directories::shown_token,
    labels,
    resolve::{Resolved, configuration},
};

/// Volumes to create, and the binds of every container.
pub(crate) struct Volumes {
    pub(crate) created: Vec<PlannedVolume>,
    /// Destinations of folders of the host that stand in for volumes.
    pub(crate) folders: Vec<String>,
    /// Entries of the configuration in order, then the builds directory.
    pub(crate) binds: Vec<String>,
    /// Something the job writes below its project or temporary directory outlives it.
    pub(crate) project_is_kept: bool,
}

pub(crate) fn plan(
    inputs: &Inputs<'_>,
    resolved: &Resolved,
    run: &str,
    labels: &Labels,
) -> Result<Volumes, Cause> {
    let docker = &inputs.runner.docker;
    let directories = &resolved.directories;
    let builds = &directories.builds;
    let mut mounts = Mounts {
        inputs,
        resolved,
        run,
        labels,
        created: Vec::new(),
        folders: Vec::new(),
        binds: Vec::new(),
        lives: Vec::new(),
    };
    let mut taken = Destinations::default();
    let mut entries = Vec::new();
    let failed = |error: VolumeError| configuration(error.to_string());
    for text in &docker.volumes {
        let definition = VolumeDefinition::parse(text).map_err(failed)?;
        let expanded = resolved.variables.expand(&definition.destination);
        let destination = definition
            .absolute_destination(&expanded, &directories.project)
            .map_err(failed)?;
        taken.claim(&clean_path(&destination)).map_err(failed)?;
        entries.push((definition, destination));
    }
    let shared = if inputs.host.shared_local_cache {
        cache_mount(&entries, &directories.cache, builds)
    } else {
        None
    };
    for (definition, destination) in &entries {
        match definition.bind(destination) {
            Some(bind) => mounts.bind(bind, destination),
            None => {
                let life = if docker.disable_cache {
                    Life::Job
                } else if shared.as_deref() == Some(destination) {
                    Life::Project
                } else {
                    Life::Slot
                };
                mounts.volume(destination, life)?;
            }
        }
    }
    // The peer's volume would hide a host directory that holds the builds directory (docker-executor §13 row 23).
    if !resolved.shared_builds && !taken.contains(builds) {
        let kept = inputs.sources == Sources::Git
            && resolved.settings.git_strategy == GitStrategy::Fetch
            && !docker.disable_cache;
        mounts.volume(builds, if kept { Life::Slot } else { Life::Job })?;
    }
    let project_is_kept =
        mounts.keeps(&directories.project) || mounts.keeps(&directories.temporary);
    Ok(Volumes {
        created: mounts.created,
        folders: mounts.folders,
        binds: mounts.binds,
        project_is_kept,
    })
}

/// The mount on which local caches lie, unless the builds lie there as well: those are never shared by jobs that run at once.
fn cache_mount(
    entries: &[(VolumeDefinition, String)],
    cache: &str,
    builds: &str,
) -> Option<String> {
    let innermost = |path: &str| {
        let path = clean_path(path);
        let destinations = entries.iter().map(|(_, destination)| destination);
        destinations
            .filter(|destination| is_below(&path, &clean_path(destination)))
            .max_by_key(|destination| clean_path(destination).len())
    };
    let found = innermost(cache)?;
    (innermost(builds) != Some(found)).then(|| found.clone())
}

/// How long a volume lives, and so what it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// As long as the job.
    Job,
    /// For later jobs of the project with the same number among those that run at once.
    Slot,
    /// For all jobs of the project, also for those that run at once.
    Project,
}

/// Mounts in the making.
struct Mounts<'a> {
    inputs: &'a Inputs<'a>,
    resolved: &'a Resolved,
    run: &'a str,
    labels: &'a Labels,
    created: Vec<PlannedVolume>,
    folders: Vec<String>,
    binds: Vec<String>,
    /// Cleaned destination of each mount, and whether what is there outlives the job.
    lives: Vec<(String, bool)>,
}

impl Mounts<'_> {
    /// A host directory or named volume: never the job's own.
    fn bind(&mut self, bind: String, destination: &str) {
        self.binds.push(bind);
        self.lives.push((clean_path(destination), true));
    }

    /// A volume, or the folder of the host that stands in for it (docker-executor §4.3).
    fn volume(&mut self, destination: &str, life: Life) -> Result<(), Cause> {
        let protected = is_protected(self.resolved);
        let temporary = life == Life::Job;
        let slot = (life == Life::Slot).then_some(self.inputs.numbers.concurrent_project);
        let owner = if temporary {
            self.run.to_owned()
        } else {
            reusable_name(self.inputs, slot)
        };
        let path = hex(&Md5::digest(destination.as_bytes()));
        let end = if protected { "-protected" } else { "" };
        let host = self.inputs.runner.docker.cache_dir.as_deref();
        if let Some(host) = host.filter(|_| !temporary) {
            let bind = format!(
                "{}:{destination}",
                clean_path(&format!("{host}/{owner}/{path}{end}"))
            );
            VolumeDefinition::parse(&bind).map_err(|error| {
                configuration(format!("{error} (cache_dir in [runners.docker])"))
            })?;
            self.bind(bind, destination);
            self.folders.push(destination.to_owned());
            return Ok(());
        }
        let name = format!("{owner}-cache-{path}{end}");
        let mut own = labels::typed(self.labels, "cache");
        labels::set(&mut own, "destination", destination);
        labels::set(&mut own, "reusable", &(!temporary).to_string());
        labels::set(&mut own, "protected", &protected.to_string());
        if !temporary {
            // Kept for later jobs: the sweep must not take it for a leftover of this one.
            own.remove(STATE_LABEL);
        }
        self.binds.push(format!("{name}:{destination}"));
        self.lives.push((clean_path(destination), !temporary));
        self.created.push(PlannedVolume {
            spec: VolumeSpec {
                name,
                labels: own,
                ..VolumeSpec::default()
            },
            destination: destination.to_owned(),
            temporary,
        });
        Ok(())
    }

    /// Whether a path lies on a mount that outlives the job. The innermost mount counts.
    fn keeps(&self, path: &str) -> bool {
        let path = clean_path(path);
        self.lives
            .iter()
            .filter(|(destination, _)| is_below(&path, destination))
            .max_by_key(|(destination, _)| destination.len())
            .is_some_and(|(_, kept)| *kept)
    }
}

/// What volumes that are kept are named after: stable per runner, project and slot, if it is of one. As the page has it, or `Q`, which
/// also has the machine in it (docker-executor §2.1).
fn reusable_name(inputs: &Inputs<'_>, slot: Option<u32>) -> String {
    let project = inputs.payload.job_info.project_id;
    if inputs.host.naming == Naming::Documented {
        let slot = slot.map(|number| format!("-concurrent-{number}"));
        return rfc1123(&format!(
            "runner-{}-project-{project}{}",
            shown_token(inputs),
            slot.unwrap_or_default()
        ));
    }
    let text = format!(
        "{}-{}-{project}{}",
        inputs.runner.token.expose_secret(),
        inputs.host.system_id,
        slot.map(|number| format!("-{number}")).unwrap_or_default()
    );
    format!("runner-{}", hex(&Sha256::digest(text.as_bytes())[..16]))
}

/// Protected ref, or a cache key that says so (docker-executor §4.3).
fn is_protected(resolved: &Resolved) -> bool {
    resolved.payload.ref_is_protected()
        || resolved
            .payload
            .cache
            .iter()
            .any(|cache| cache.key.ends_with("-protected"))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}

#[cfg(test)]
mod tests;
