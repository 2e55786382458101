//! Artifacts (job-lifecycle §6, coordinator-api §10): the stages, and what they share with the commands `artifacts-uploader` and
//! `artifacts-downloader`.

pub(crate) mod download;
mod folder;
pub(crate) mod provenance;
pub(crate) mod upload;

use std::{fmt::Write as _, time::Duration};

use gantry_agent::Coordinator;

use crate::{
    http::{Answer, Client, Settings},
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
        timeout: Some(Duration::from_secs(timeout)),
        header_timeout: Some(Duration::from_secs(header_timeout)),
    })
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

/// Whether a server that answers this is likely to be well again in seconds: busy, restarting, or behind a proxy that finds it not
/// (coordinator-api §13).
fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// The longest pause that a server may ask for: a job waits, and a try too early costs one answer.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(120);

/// How long a busy server asks to be left alone: `Retry-After` in seconds (coordinator-api §13; a date is left out of account there,
/// too).
fn asked_pause(answer: &Answer) -> Option<Duration> {
    pause_of(answer.header("retry-after")?)
}

fn pause_of(retry_after: &str) -> Option<Duration> {
    let seconds = retry_after.trim().parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST_ASKED_PAUSE))
}

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
    fn a_server_is_left_alone_as_long_as_it_asks_but_not_for_a_day() {
        let seconds = |text| pause_of(text).map(|pause| pause.as_secs());
        assert_eq!(seconds(" 3 "), Some(3));
        assert_eq!(seconds("86400"), Some(120));
        for text in ["0", "-1", "Sun, 29 Nov 2026 00:00:00 GMT", ""] {
            assert_eq!(seconds(text), None);
        }
    }

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
