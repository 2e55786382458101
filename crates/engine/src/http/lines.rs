//! Answers that are a stream of JSON lines.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{answer::causes, client::Client};
use crate::EngineError;

/// Longest line taken.
const LONGEST: usize = 4 * 1024 * 1024;

/// Reads one JSON object per line.
pub(super) struct JsonLines {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
    ended: bool,
}

impl JsonLines {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            ended: false,
        }
    }

    /// The next object; `None` at the end. A stream that is cut is an error.
    pub(super) async fn next<T: DeserializeOwned>(
        &mut self,
        client: &Client,
        what: &str,
    ) -> Result<Option<T>, EngineError> {
        loop {
            if let Some(line) = self.line() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return match serde_json::from_slice(&line) {
                    Ok(object) => Ok(Some(object)),
                    Err(error) => Err(EngineError::Garbled {
                        what: what.to_owned(),
                        message: error.to_string(),
                    }),
                };
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(error)) => return Err(client.unreachable(what, &causes(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                    if self.buffer.len() > LONGEST {
                        return Err(EngineError::Garbled {
                            what: what.to_owned(),
                            message: format!("a line is longer than {LONGEST} bytes"),
                        });
                    }
                }
            }
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        let newline = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        match newline {
            Some(at) => {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                let last = self.ended && !self.buffer.is_empty();
                last.then(|| {
                    self.searched = 0;
                    self.buffer.split()
                })
            }
        }
    }
}
