//! Which images, and how to get them (docker-executor §3.1, §3.2).

use gantry_config::PullPolicy;
use gantry_container::{EngineFlavor, ImageReference, is_image_id};
use gantry_job::{Cause, payload::Image};

use crate::{
    Inputs, PlannedImage,
    resolve::{Resolved, configuration},
};

/// The image of the build container: the job's, else the configuration's.
pub(crate) fn build(inputs: &Inputs<'_>, resolved: &Resolved) -> Result<PlannedImage, Cause> {
    let job = resolved.payload.image.as_ref();
    let named = job
        .map(|image| image.name.clone())
        .filter(|name| !name.is_empty());
    let (place, reference) = match named {
        Some(name) => ("`image` of the job", name),
        None => {
            let default = inputs.runner.docker.image.as_deref().unwrap_or_default();
            (
                "`image` in [runners.docker]",
                resolved.variables.expand(default),
            )
        }
    };
    if reference.is_empty() {
        return Err(configuration(
            "no Docker image specified to run the build in",
        ));
    }
    check(inputs, place, &reference)?;
    Ok(PlannedImage {
        policies: pull_policies(inputs, &reference, asked(job))?,
        reference,
        platform: job.and_then(platform),
        packaged: false,
    })
}

/// The image of a service, whose `reference` has its tag.
pub(crate) fn service(
    inputs: &Inputs<'_>,
    place: &str,
    service: &Image,
    reference: String,
) -> Result<PlannedImage, Cause> {
    check(inputs, place, &reference)?;
    Ok(PlannedImage {
        policies: pull_policies(inputs, &reference, asked(Some(service)))?,
        reference,
        platform: platform(service),
        packaged: false,
    })
}

/// The image of the helper: `helper_image`, else the packaged one.
pub(crate) fn helper(inputs: &Inputs<'_>, resolved: &Resolved) -> Result<PlannedImage, Cause> {
    let own = helper_override(inputs, resolved);
    if let Some(reference) = &own {
        check(inputs, "`helper_image` in [runners.docker]", reference)?;
    }
    let packaged = own.is_none();
    let reference = own.unwrap_or_else(|| inputs.host.helper_image.clone());
    Ok(PlannedImage {
        policies: pull_policies(inputs, &reference, &[])?,
        reference,
        platform: None,
        packaged,
    })
}

/// `helper_image`, expanded: version and revision in it are the runner's.
pub(crate) fn helper_override(inputs: &Inputs<'_>, resolved: &Resolved) -> Option<String> {
    let image = inputs.runner.docker.helper_image.as_deref()?;
    Some(resolved.variables.expand(image)).filter(|image| !image.is_empty())
}

/// Platform asked for, already expanded.
pub(crate) fn platform(image: &Image) -> Option<String> {
    let platform = &image.executor_opts.docker.platform;
    (!platform.is_empty()).then(|| platform.clone())
}

fn asked(image: Option<&Image>) -> &[String] {
    image.map_or(&[], |image| image.pull_policy.as_slice())
}

/// Refuses text that Docker can neither look up nor pull, before anything is made for the job. Podman knows more forms.
fn check(inputs: &Inputs<'_>, place: &str, reference: &str) -> Result<(), Cause> {
    if inputs.engine.flavor == EngineFlavor::Podman || is_image_id(reference) {
        return Ok(());
    }
    ImageReference::parse(reference)
        .map(drop)
        .map_err(|error| configuration(format!("{place}: {error}")))
}

/// Policies to try, in order: what the job asks for, as far as the configuration allows it (docker-executor §3.2).
fn pull_policies(
    inputs: &Inputs<'_>,
    image: &str,
    asked: &[String],
) -> Result<Vec<PullPolicy>, Cause> {
    let allowed = inputs.runner.docker.pull_policies();
    let asked: Vec<&str> = asked
        .iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    if asked.is_empty() {
        return Ok(allowed.to_vec());
    }
    let effective: Vec<_> = asked
        .iter()
        .filter_map(|name| PullPolicy::from_name(name))
        .filter(|policy| allowed.contains(policy))
        .collect();
    if !effective.is_empty() {
        return Ok(effective);
    }
    let allowed: Vec<_> = allowed.iter().map(|policy| policy.name()).collect();
    Err(configuration(format!(
        "invalid pull policy for image {image:?}: pull_policy ([{}]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([{}])",
        asked.join(" "),
        allowed.join(" ")
    )))
}

#[cfg(test)]
mod tests;
