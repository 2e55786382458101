//! Whole answers, and the errors that bad ones stand for.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::models;
use crate::EngineError;

/// Longest text of an error answer that is shown.
const LONGEST_MESSAGE: usize = 2048;

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body of a good answer; the error of a bad one.
    pub(super) fn good(self, what: &str) -> Result<Bytes, EngineError> {
        if self.status.is_success() {
            Ok(self.body)
        } else {
            Err(failure(what, self.status, &self.body))
        }
    }

    /// As [`Self::good`] where statuses like 304 and 404 are fine.
    pub(super) fn good_or(self, fine: &[u16], what: &str) -> Result<(), EngineError> {
        if fine.contains(&self.status.as_u16()) {
            return Ok(());
        }
        self.good(what).map(drop)
    }

    /// `None` for 404, else the body of a good answer as a model.
    pub(super) fn found<T: serde::de::DeserializeOwned>(
        self,
        what: &str,
    ) -> Result<Option<T>, EngineError> {
        if self.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.model(what).map(Some)
    }

    /// The body of a good answer as a model.
    pub(super) fn model<T: serde::de::DeserializeOwned>(
        self,
        what: &str,
    ) -> Result<T, EngineError> {
        let body = self.good(what)?;
        serde_json::from_slice(&body).map_err(|error| EngineError::Garbled {
            what: what.to_owned(),
            message: error.to_string(),
        })
    }
}

/// Maps a bad status and the engine's `{"message": …}` to an error.
pub(super) fn failure(what: &str, status: StatusCode, body: &[u8]) -> EngineError {
    let what = what.to_owned();
    if status.is_redirection() {
        let message = "redirects disallowed".to_owned();
        return EngineError::Failed {
            what,
            status: status.as_u16(),
            message,
        };
    }
    let message = match serde_json::from_slice::<models::ErrorMessage>(body) {
        Ok(error) if !error.message.is_empty() => error.message,
        _ => {
            let text = String::from_utf8_lossy(body);
            match text.trim() {
                "" => status.canonical_reason().unwrap_or("no message").to_owned(),
                text => text.to_owned(),
            }
        }
    };
    let message = shortened(message);
    match status.as_u16() {
        400 => EngineError::BadRequest { what, message },
        404 => EngineError::NotFound { what, message },
        409 => EngineError::Conflict { what, message },
        // Podman says these with 500 (engine-mechanics §b, docker-executor §7.6).
        500 if message.contains("name is already in use")
            || message.contains("can only create exec sessions on running containers")
            || message.contains("can only kill running containers") =>
        {
            EngineError::Conflict { what, message }
        }
        status => EngineError::Failed {
            what,
            status,
            message,
        },
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let cut = (0..=LONGEST_MESSAGE)
            .rev()
            .find(|at| message.is_char_boundary(*at));
        message.truncate(cut.unwrap_or(0));
        message.push('…');
    }
    message
}

/// An error with its causes: hyper's own texts say little.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            let _ = write!(text, ": {inner_text}");
        }
        cause = inner.source();
    }
    text
}
