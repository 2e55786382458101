//! Job inputs: `${{ job.inputs.x }}` in the fields of a payload (job-lifecycle §1.6).

use crate::cause::Cause;
use crate::feature_flag::{FeatureFlag, FeatureFlags};
use crate::moa::{self, Value};
use crate::payload::{Image, JobPayload, SCRIPT_STEP};

#[cfg(test)]
mod tests;

/// Why inputs cannot be put into a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpolationError {
    /// An expression is none, or cannot be evaluated.
    #[error("failed to interpolate job inputs: {0}")]
    Expression(#[from] moa::MoaError),
    /// An expression shows a sensitive input.
    #[error("sensitive inputs are unsupported in interpolations yet")]
    Sensitive,
}

impl InterpolationError {
    /// The kind of error in one word, as a label of metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Expression(_) => "expression",
            Self::Sensitive => "sensitive",
        }
    }
}

impl From<InterpolationError> for Cause {
    fn from(error: InterpolationError) -> Self {
        Self::Configuration {
            message: error.to_string(),
        }
    }
}

/// Puts the inputs into the payload, if it has any and the flag is on; else `${{ … }}` stays as it is. Says into how many texts.
///
/// # Errors
/// If an expression is none or cannot be evaluated, or if it shows a sensitive input.
pub fn interpolate(
    payload: &mut JobPayload,
    flags: &FeatureFlags,
) -> Result<usize, InterpolationError> {
    if payload.inputs.is_empty() || !flags.is_on(FeatureFlag::EnableJobInputsInterpolation) {
        return Ok(0);
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
    let mut done = 0;
    for text in fields(payload) {
        if text.contains("${{") {
            *text = evaluate(text, &root)?;
            done += 1;
        }
    }
    Ok(done)
}

fn evaluate(text: &str, root: &Value) -> Result<String, InterpolationError> {
    let value = moa::evaluate(text, root)?;
    if value.is_sensitive() {
        return Err(InterpolationError::Sensitive);
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
