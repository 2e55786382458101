//! Job inputs: `${{ job.inputs.x }}` in the fields of a payload (job-lifecycle §1.6).

use crate::cause::Cause;
use crate::feature_flag::{FeatureFlag, FeatureFlags};
use crate::moa::{self, Value};
use crate::payload::{Image, JobPayload, SCRIPT_STEP};

#[cfg(test)]
mod tests;

/// Puts the inputs into the payload, if it has any and the flag is on; else `${{ … }}` stays as it is.
///
/// # Errors
/// If an expression is none or cannot be evaluated, or if it shows a sensitive input.
pub fn interpolate(payload: &mut JobPayload, flags: &FeatureFlags) -> Result<(), Cause> {
    if payload.inputs.is_empty() || !flags.is_on(FeatureFlag::EnableJobInputsInterpolation) {
        return Ok(());
    }
    let inputs = payload
        .inputs
        .iter()
        .map(|input| {
            let value = Value::from_json(&input.value.content.0);
            (input.key.clone(), value.sensitive(input.value.sensitive))
        })
        .collect();
    let job = Value::object(vec![("inputs".to_owned(), Value::object(inputs))]);
    let root = Value::object(vec![("job".to_owned(), job)]);
    for text in fields(payload) {
        if text.contains("${{") {
            *text = evaluate(text, &root)?;
        }
    }
    Ok(())
}

fn evaluate(text: &str, root: &Value) -> Result<String, Cause> {
    let failed = |message: String| Cause::Configuration { message };
    let value = moa::evaluate(text, root)
        .map_err(|error| failed(format!("failed to interpolate job inputs: {error}")))?;
    if value.is_sensitive() {
        return Err(failed(
            "sensitive inputs are unsupported in interpolations yet".to_owned(),
        ));
    }
    Ok(value.text())
}

/// The fields that may hold expressions.
fn fields(payload: &mut JobPayload) -> Vec<&mut String> {
    let mut fields: Vec<&mut String> = Vec::new();
    for step in &mut payload.steps {
        if step.name == SCRIPT_STEP || step.name == crate::payload::AFTER_SCRIPT_STEP {
            fields.extend(&mut step.script);
        }
    }
    for image in payload.image.iter_mut().chain(&mut payload.services) {
        image_fields(image, &mut fields);
    }
    for artifact in &mut payload.artifacts {
        fields.extend([
            &mut artifact.name,
            &mut artifact.when,
            &mut artifact.expire_in,
        ]);
        fields.extend(&mut artifact.paths);
        fields.extend(&mut artifact.exclude);
    }
    for cache in &mut payload.cache {
        fields.extend([&mut cache.key, &mut cache.policy, &mut cache.when]);
        fields.extend(&mut cache.paths);
        fields.extend(&mut cache.fallback_keys);
    }
    fields
}

fn image_fields<'a>(image: &'a mut Image, fields: &mut Vec<&'a mut String>) {
    fields.push(&mut image.name);
    fields.extend(&mut image.command);
    fields.extend(&mut image.entrypoint);
    fields.extend(&mut image.pull_policy);
    let docker = &mut image.executor_opts.docker;
    fields.extend([&mut docker.platform, &mut docker.user]);
}
