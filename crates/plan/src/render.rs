//! Prints a plan without its secrets.
//!
//! Hidden are: values of variables that are not public, files or masked, wherever they stand (lists, environments, requests to the
//! helper); tokens, credentials and keys; and, in every text, the phrases the job log masks. Names, images and script lines are shown.

mod redact;

use std::fmt::{self, Write as _};

use gantry_agent::{ArchiveCacheRequest, GitStrategy, RestoreCacheRequest};
use gantry_job::{Masks, duration};
use serde_json::Value;

use crate::{CacheObject, Plan, PlannedContainer, PlannedStage, StageWork};
use redact::{hide, redacted};

const MEBIBYTE: i64 = 1 << 20;
/// Parts of one CPU.
const NANO: i64 = 1_000_000_000;

/// The whole plan for scripts to read. Names of fields are those of the types of this crate.
pub fn json(plan: &Plan, masks: &Masks) -> Value {
    let mut value = serde_json::to_value(redacted(plan)).unwrap_or(Value::Null);
    hide_all(&mut value, masks);
    value
}

/// The plan for people: what is made, in order, and what each stage does. Ends with a newline.
pub fn text(plan: &Plan, masks: &Masks) -> String {
    let mut page = Page {
        out: String::new(),
        masks,
    };
    // Writing to a string cannot fail.
    page.plan(&redacted(plan)).ok();
    page.out
}

fn size(bytes: i64) -> String {
    match bytes % MEBIBYTE {
        0 => format!("{} MiB", bytes / MEBIBYTE),
        _ => format!("{bytes} bytes"),
    }
}

fn hide_all(value: &mut Value, masks: &Masks) {
    match value {
        Value::String(text) => *text = hide(text, masks),
        Value::Array(items) => items.iter_mut().for_each(|item| hide_all(item, masks)),
        Value::Object(fields) => fields.values_mut().for_each(|field| hide_all(field, masks)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

struct Page<'a> {
    out: String,
    masks: &'a Masks,
}

impl Page<'_> {
    /// One line: foreign text in it is masked, and what would move the cursor or begin a line is escaped.
    fn line(&mut self, indent: usize, label: &str, text: &str) -> fmt::Result {
        let text = hide(text, self.masks);
        let width = if label.is_empty() {
            0
        } else {
            20_usize.saturating_sub(indent)
        };
        write!(self.out, "{:indent$}{label:<width$}", "")?;
        for char in text.chars() {
            if char.is_control() {
                write!(self.out, "{}", char.escape_default())?;
            } else {
                self.out.push(char);
            }
        }
        self.out.push('\n');
        Ok(())
    }

    fn plan(&mut self, plan: &Plan) -> fmt::Result {
        self.line(0, "", &format!("job {} \"{}\"", plan.job_id, plan.job_name))?;
        self.line(2, "project directory", &plan.directories.project)?;
        self.line(2, "time limit", &duration::format(plan.limits.job))?;
        for warning in plan.warnings.iter().chain(&plan.script_warnings) {
            self.line(2, "warning", warning)?;
        }
        if !plan.volumes.is_empty() {
            self.line(0, "", "volumes")?;
        }
        for volume in &plan.volumes {
            let life = if volume.temporary {
                "removed after the job"
            } else {
                "kept"
            };
            let text = format!("{} at {} ({life})", volume.spec.name, volume.destination);
            self.line(2, "", &text)?;
        }
        if let Some(network) = &plan.network {
            self.line(0, "", "network")?;
            self.line(2, "", &format!("{} (removed after the job)", network.name))?;
        }
        self.line(0, "", "containers")?;
        for service in &plan.services {
            self.container("service", &service.container)?;
            self.line(4, "answers to", &service.aliases.join(", "))?;
            for warning in &service.warnings {
                self.line(4, "warning", warning)?;
            }
        }
        if let Some(helper) = &plan.helper {
            self.container("helper", helper)?;
        }
        self.container("build", &plan.build)?;
        self.line(0, "", "stages")?;
        plan.stages.iter().try_for_each(|stage| self.stage(stage))
    }

    fn container(&mut self, kind: &str, container: &PlannedContainer) -> fmt::Result {
        let image = &container.image;
        let policies: Vec<_> = image.policies.iter().map(|policy| policy.name()).collect();
        let pull = if image.packaged {
            "packaged; pulled only when absent".to_owned()
        } else {
            format!("pull: {}", policies.join(", "))
        };
        self.line(2, kind, &container.name)?;
        self.line(4, "image", &format!("{} ({pull})", image.reference))?;
        if let Some(platform) = &image.platform {
            self.line(4, "platform", platform)?;
        }
        let spec = &container.spec;
        if let Some(entrypoint) = &spec.entrypoint {
            self.line(4, "entrypoint", &format!("{entrypoint:?}"))?;
        }
        if let Some(user) = &spec.user {
            self.line(4, "user", user)?;
        }
        let host = &spec.host;
        if !host.network_mode.is_empty() {
            self.line(4, "network", &host.network_mode)?;
        }
        for bind in &host.binds {
            self.line(4, "mount", bind)?;
        }
        for line in &host.extra_hosts {
            self.line(4, "extra host", line)?;
        }
        if host.privileged {
            self.line(4, "privileged", "yes")?;
        }
        if host.memory > 0 {
            self.line(4, "memory", &size(host.memory))?;
        }
        if host.nano_cpus > 0 {
            let cpus = format!("{}.{:09}", host.nano_cpus / NANO, host.nano_cpus % NANO);
            self.line(4, "cpus", cpus.trim_end_matches('0').trim_end_matches('.'))?;
        }
        Ok(())
    }

    fn stage(&mut self, stage: &PlannedStage) -> fmt::Result {
        let what = match &stage.work {
            StageWork::Lines(lines) if lines.is_empty() => "nothing to do".to_owned(),
            StageWork::Lines(_) => "a note in the log, no container".to_owned(),
            StageWork::Sources(request) => match request.strategy {
                GitStrategy::Fetch => format!("git fetch of {} in the helper", request.repo_url),
                GitStrategy::Clone => format!("git clone of {} in the helper", request.repo_url),
                GitStrategy::None => "no git; file variables, in the helper".to_owned(),
                GitStrategy::Empty => "no git; an empty directory, in the helper".to_owned(),
            },
            StageWork::Script(work) => match work.lines.len() {
                1 => "1 command in the build container".to_owned(),
                count => format!("{count} commands in the build container"),
            },
            StageWork::Cleanup(_) => "removes file variables, in the helper".to_owned(),
            StageWork::RestoreCache(work) => restored(&work.request, &work.objects),
            StageWork::DownloadArtifacts(request) => {
                let names = request.dependencies.iter().map(|job| job.name.as_str());
                format!("artifacts of {}, in the helper", list(names))
            }
            StageWork::ArchiveCache(work) => saved(&work.request, &work.objects),
            StageWork::UploadArtifacts(request) => {
                let types = request
                    .entries
                    .iter()
                    .map(|entry| kind(&entry.artifact_type));
                format!("uploads {}, in the helper", list(types))
            }
            StageWork::Fails(cause) => format!("fails: {}", cause.message()),
        };
        let attempts = match stage.attempts {
            1 => String::new(),
            attempts => format!(", up to {attempts} times"),
        };
        let name = stage.stage.section_name();
        self.line(2, "", &format!("{name:<24} {what}{attempts}"))
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn kind(artifact_type: &str) -> &str {
    if artifact_type.is_empty() {
        "archive"
    } else {
        artifact_type
    }
}

fn place(remote: bool) -> &'static str {
    if remote { "local and remote" } else { "local" }
}

fn restored(request: &RestoreCacheRequest, objects: &[Vec<CacheObject>]) -> String {
    let keys = request
        .entries
        .iter()
        .flat_map(|entry| entry.candidates.iter().map(|one| one.key.as_str()));
    let remote = objects
        .iter()
        .flatten()
        .any(|object| object.object.is_some());
    format!(
        "looks for {} ({}), in the helper",
        list(keys),
        place(remote)
    )
}

fn saved(request: &ArchiveCacheRequest, objects: &[Option<String>]) -> String {
    let keys = request
        .entries
        .iter()
        .filter(|entry| !entry.skip)
        .map(|entry| entry.key.as_str());
    let remote = objects.iter().any(Option::is_some);
    format!("saves {} ({}), in the helper", list(keys), place(remote))
}

#[cfg(test)]
mod tests;
