//! Artifacts (job-lifecycle §6, coordinator-api §10): the stages, and what they share with the commands `artifacts-uploader` and
//! `artifacts-downloader`.

pub(crate) mod download;
mod folder;
pub(crate) mod provenance;
pub(crate) mod upload;

use std::{fmt::Write as _, time::Duration};

use gantry_agent::Coordinator;

use crate::{
    http::{Answer, Client, Limits, Settings, retry::Problem},
    log,
};

/// An entry that failed, told or not.
#[derive(Debug)]
pub(crate) struct ArtifactError {
    pub(crate) text: String,
    /// Files are in the project already.
    pub(crate) partial: bool,
}

impl ArtifactError {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            partial: false,
        }
    }

    pub(crate) fn tell(&self) {
        log::line(log::Level::Fatal, &self.text, &[]);
    }
}

impl From<Problem> for ArtifactError {
    fn from(problem: Problem) -> Self {
        Self::new(problem.text)
    }
}

/// What an answer that is no success says, with the message in its body.
fn received(answer: Answer) -> String {
    let text = answer.status_text();
    let message = answer.message();
    if message.is_empty() {
        format!("received: {text}")
    } else {
        format!("received: {text} ({message})")
    }
}

fn client(coordinator: &Coordinator, timeout: u64, header_timeout: u64) -> Client {
    let tls = &coordinator.tls;
    let user_agent = match coordinator.user_agent.as_str() {
        "" => crate::USER_AGENT,
        given => given,
    };
    Client::new(Settings {
        ca: tls.ca.clone(),
        identity: tls
            .cert
            .clone()
            .zip(tls.key.as_ref().map(|key| key.expose().to_owned())),
        user_agent: user_agent.into(),
        limits: Limits {
            whole: limit(timeout),
            head: limit(header_timeout),
        },
    })
}

/// 0 seconds: none.
fn limit(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Address of the artifacts of a job.
fn address(coordinator: &Coordinator, job: u64) -> String {
    format!(
        "{}/api/v4/jobs/{job}/artifacts",
        coordinator.url.trim_end_matches('/')
    )
}

/// A token as it may be shown: nine characters, without what stands before its secret part.
fn short_token(token: &str) -> String {
    let rest = match token.split_once('-') {
        Some((prefix, rest)) if prefix.len() <= 6 && !rest.is_empty() => rest,
        _ => token,
    };
    rest.chars().take(9).collect()
}

/// Fields of the line about an answer.
fn fields(answer: &Answer, job: u64, token: &str) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("id", job.to_string()),
        ("responseStatus", answer.status_text()),
        ("token", short_token(token)),
    ];
    if let Some(id) = answer.header("x-request-id") {
        fields.push(("correlation_id", crate::http::shown(id)));
    }
    fields
}

/// Tries in total, where the server's answer is one that may be another soon.
const BUSY_TRIES: u32 = 6;

/// A value in a query.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a string does not fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shown_in_part() {
        assert_eq!(short_token("glcbt-64_exampleToken"), "64_exampl");
        assert_eq!(short_token("abcdefghijklm"), "abcdefghi");
        assert_eq!(short_token("x"), "x");
    }

    #[test]
    fn values_in_a_query_are_encoded() {
        assert_eq!(encoded("1 week & é"), "1%20week%20%26%20%C3%A9");
    }
}
