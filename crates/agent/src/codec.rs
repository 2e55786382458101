//! Frames: two magic bytes, the length of the header, the length of the body (both big-endian `u32`), the header as JSON, the body
//! as it is. The frame itself never changes with the protocol version.

#[cfg(test)]
mod tests;

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::message::{ToAgent, ToRunner};

/// The first byte occurs in no text, so anything printed by accident is told apart at once.
const MAGIC: [u8; 2] = [0xf6, b'G'];
const PREFIX: usize = 10;
const EXCERPT: usize = 120;
/// A buffer larger than this is given back when it is empty.
const KEEP: usize = 64 * 1024;

/// A message with its limits. Implemented by [`ToAgent`] and [`ToRunner`] only.
pub trait Message: Serialize + DeserializeOwned + Debug {
    /// Longest header, in bytes.
    const MAX_HEADER: usize;
    /// Longest body, in bytes. 0: messages have none.
    const MAX_BODY: usize;
    /// Whether errors may quote what came instead of a frame. Not where secrets travel.
    const QUOTE: bool;

    /// The raw part.
    fn body(&self) -> &[u8];

    /// Takes the raw part. `false`: this message has none.
    fn set_body(&mut self, body: Vec<u8>) -> bool;
}

impl Message for ToAgent {
    const MAX_HEADER: usize = 32 << 20;
    const MAX_BODY: usize = 0;
    const QUOTE: bool = false;

    fn body(&self) -> &[u8] {
        &[]
    }

    fn set_body(&mut self, _body: Vec<u8>) -> bool {
        false
    }
}

impl Message for ToRunner {
    const MAX_HEADER: usize = 64 << 10;
    const MAX_BODY: usize = 256 << 10;
    const QUOTE: bool = true;

    fn body(&self) -> &[u8] {
        match self {
            Self::Output { bytes, .. } => bytes,
            _ => &[],
        }
    }

    fn set_body(&mut self, body: Vec<u8>) -> bool {
        match self {
            Self::Output { bytes, .. } => {
                *bytes = body;
                true
            }
            _ => false,
        }
    }
}

/// Bytes that are no messages. A stream that gave one is beyond repair: close it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Something else writes to the stream: an entrypoint, a shell's error text.
    #[error("expected a message of the helper protocol, got {0}")]
    NotAFrame(String),
    /// Header beyond the limit.
    #[error("header of a message has {len} bytes, more than {max}")]
    HeaderTooLong {
        /// Claimed length.
        len: usize,
        /// Limit.
        max: usize,
    },
    /// Body beyond the limit.
    #[error("body of a message has {len} bytes, more than {max}")]
    BodyTooLong {
        /// Claimed length.
        len: usize,
        /// Limit.
        max: usize,
    },
    /// Header that is no known message. The text itself is left out: it may hold secrets.
    #[error("header of a message is not understood ({kind} at line {line}, column {column})")]
    BadHeader {
        /// Kind of mistake.
        kind: &'static str,
        /// Line of the JSON text.
        line: usize,
        /// Column.
        column: usize,
    },
    /// A body where none belongs.
    #[error("a message has {0} bytes of body, but its kind has none")]
    StrayBody(usize),
    /// The stream ended in the middle of a message.
    #[error("the connection ended in the middle of a message ({0} bytes of it came)")]
    Truncated(usize),
}

/// One message as a frame.
///
/// # Errors
/// If it is beyond the limits of its kind: the other side would refuse it.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    encode_into(message, &mut out)?;
    Ok(out)
}

/// As [`encode`], appended to `out`; on an error `out` is as it was.
///
/// # Errors
/// As [`encode`].
pub fn encode_into<M: Message>(message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    let body = message.body();
    if body.len() > M::MAX_BODY {
        return Err(CodecError::BodyTooLong {
            len: body.len(),
            max: M::MAX_BODY,
        });
    }
    out.extend_from_slice(&[0; PREFIX]);
    if let Err(error) = serde_json::to_writer(&mut *out, message) {
        out.truncate(start);
        return Err(bad_header(&error));
    }
    let header = out.len() - start - PREFIX;
    if header > M::MAX_HEADER {
        out.truncate(start);
        return Err(CodecError::HeaderTooLong {
            len: header,
            max: M::MAX_HEADER,
        });
    }
    let prefix = &mut out[start..start + PREFIX];
    prefix[..2].copy_from_slice(&MAGIC);
    // Both are below the limits, which fit.
    prefix[2..6].copy_from_slice(&(header as u32).to_be_bytes());
    prefix[6..10].copy_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Turns a byte stream, cut anywhere, into messages. Holds at most one frame beyond what was pushed.
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: Vec<u8>,
    start: usize,
    failed: Option<CodecError>,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            failed: None,
            message: std::marker::PhantomData,
        }
    }
}

impl<M: Message> Decoder<M> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they come. Call [`Decoder::next_message`] until it gives `None` afterwards.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            if self.buffer.capacity() > KEEP {
                self.buffer.shrink_to(KEEP);
            }
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// When the stream is not made of messages; the same error again ever after.
    pub fn next_message(&mut self) -> Result<Option<M>, CodecError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.parse().inspect_err(|error| {
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
            self.start = 0;
        })
    }

    /// To be asked when the stream has ended.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] if a message was cut, or the error of before.
    pub fn finish(&self) -> Result<(), CodecError> {
        match (&self.failed, self.buffer.len() - self.start) {
            (Some(error), _) => Err(error.clone()),
            (None, 0) => Ok(()),
            (None, left) => Err(CodecError::Truncated(left)),
        }
    }

    fn parse(&mut self) -> Result<Option<M>, CodecError> {
        let input = &self.buffer[self.start..];
        let seen = input.len().min(MAGIC.len());
        if input[..seen] != MAGIC[..seen] {
            return Err(CodecError::NotAFrame(quote(input, M::QUOTE)));
        }
        let Some(prefix) = input.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let header = length(&prefix[2..6]);
        let body = length(&prefix[6..10]);
        if header > M::MAX_HEADER {
            return Err(CodecError::HeaderTooLong {
                len: header,
                max: M::MAX_HEADER,
            });
        }
        if body > M::MAX_BODY {
            return Err(CodecError::BodyTooLong {
                len: body,
                max: M::MAX_BODY,
            });
        }
        let Some(frame) = input.get(PREFIX..PREFIX + header + body) else {
            return Ok(None);
        };
        let (head, raw) = frame.split_at(header);
        let mut message: M = serde_json::from_slice(head).map_err(|error| bad_header(&error))?;
        if !message.set_body(raw.to_vec()) && !raw.is_empty() {
            return Err(CodecError::StrayBody(raw.len()));
        }
        self.start += PREFIX + header + body;
        Ok(Some(message))
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

fn bad_header(error: &serde_json::Error) -> CodecError {
    use serde_json::error::Category;
    let kind = match error.classify() {
        Category::Io => "i/o",
        Category::Syntax => "bad JSON",
        Category::Data => "unknown message or wrong type",
        Category::Eof => "JSON cut short",
    };
    CodecError::BadHeader {
        kind,
        line: error.line(),
        column: error.column(),
    }
}

fn quote(input: &[u8], allowed: bool) -> String {
    if allowed {
        let cut = &input[..input.len().min(EXCERPT)];
        format!("{:?}", String::from_utf8_lossy(cut))
    } else {
        format!("{} other bytes", input.len())
    }
}

/// For fuzzing: feeds `data` to both decoders, cut into pieces of the size its first byte says. Never panics, and what decodes
/// also encodes and decodes to itself.
pub fn fuzz_decoder(data: &[u8]) {
    fn drive<M: Message + PartialEq>(size: usize, data: &[u8]) {
        let mut decoder = Decoder::<M>::new();
        for piece in data.chunks(size) {
            decoder.push(piece);
            while let Ok(Some(message)) = decoder.next_message() {
                let Ok(frame) = encode(&message) else {
                    continue;
                };
                let mut again = Decoder::<M>::new();
                again.push(&frame);
                assert_eq!(
                    again.next_message().as_ref().map(Option::as_ref),
                    Ok(Some(&message))
                );
            }
        }
        drop(decoder.finish());
    }
    let Some((&size, data)) = data.split_first() else {
        return;
    };
    drive::<ToAgent>(usize::from(size).max(1), data);
    drive::<ToRunner>(usize::from(size).max(1), data);
}
