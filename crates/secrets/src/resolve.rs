//! All secrets of a job, one after the other.

use std::time::Duration;

use gantry_job::{Cause, SecretRequest, SecretRequests, Stage, Variable};
use gantry_trace::{JobTrace, Level};

use crate::{error::SecretError, vault::Sessions};

/// Asks for the secrets of a job in a section of its log, and gives the variables in the order of the requests. Says nothing where
/// there is none to ask for.
///
/// Safe to do again after the death of a process: lines that the log has are not written a second time.
///
/// # Errors
/// The cause the job fails of: the first secret that cannot be had ends it (job-lifecycle §7).
pub async fn resolve(
    http: &reqwest::Client,
    requests: &SecretRequests,
    trace: &JobTrace,
) -> Result<Vec<Variable>, Cause> {
    if requests.secrets.is_empty() {
        return Ok(Vec::new());
    }
    let section = Section::begin(trace);
    let mut attempt = 0;
    let result = loop {
        attempt += 1;
        match all(http, requests, trace, attempt).await {
            Err(error) if attempt < requests.attempts => {
                tracing::warn!(%error, attempt, "secrets of a job could not be resolved");
                trace.line_once(
                    &format!("secrets-retry{attempt}"),
                    Level::Warning,
                    "Retrying...",
                );
                tokio::time::sleep(pause(&requests.waits, attempt)).await;
            }
            other => break other,
        }
    };
    drop(section);
    result.map_err(|error| error.cause())
}

/// Ends its section also when the job is stopped meanwhile.
struct Section<'a>(&'a JobTrace);

impl<'a> Section<'a> {
    fn begin(trace: &'a JobTrace) -> Self {
        let stage = Stage::ResolveSecrets;
        trace.section_start_once("secrets:start", &stage.section_name(), &stage.title());
        Self(trace)
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.0
            .section_end_once("secrets:end", &Stage::ResolveSecrets.section_name());
    }
}

fn pause(waits: &[Duration], attempt: u32) -> Duration {
    let index = usize::try_from(attempt).unwrap_or(usize::MAX) - 1;
    waits
        .get(index)
        .or(waits.last())
        .copied()
        .unwrap_or_default()
}

async fn all(
    http: &reqwest::Client,
    requests: &SecretRequests,
    trace: &JobTrace,
    attempt: u32,
) -> Result<Vec<Variable>, SecretError> {
    let mut sessions = Sessions::new(http);
    let mut variables = Vec::with_capacity(requests.secrets.len());
    for request in &requests.secrets {
        let line = |what: &str, level, text: &str| {
            trace.line_once(
                &format!("secret{attempt}:{}:{what}", request.name),
                level,
                text,
            );
        };
        line(
            "name",
            Level::Print,
            &format!("Resolving secret {:?}...", request.name),
        );
        let Some(secret) = &request.vault else {
            let text = "Not resolved: no resolver that can handle the secret";
            line("nobody", Level::Warning, text);
            continue;
        };
        line(
            "resolver",
            Level::Print,
            "Using \"vault\" secret resolver...",
        );
        let value = sessions.value(request, secret).await;
        variables.push(variable(request, value, requests.fails_if_missing)?);
    }
    Ok(variables)
}

fn variable(
    request: &SecretRequest,
    value: Result<String, SecretError>,
    fails_if_missing: bool,
) -> Result<Variable, SecretError> {
    match value {
        Ok(value) => Ok(request.variable(&value)),
        Err(SecretError::NotFound { .. }) if !fails_if_missing => Ok(request.variable("")),
        Err(error) => Err(error),
    }
}
