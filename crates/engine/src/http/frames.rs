//! The engine's multiplexed stream: an 8-byte header (stream, three zeros, length) before each piece of output.
//!
//! Docker writes one frame per line. [`Demux`] therefore works inside the read buffer: consecutive frames of the same stream
//! that are already there become one chunk, by moving their payloads together, with no allocation per frame. A frame that is
//! not complete yet is handed out as far as it goes.

use bytes::{Buf, BytesMut};

use crate::{LogChunk, StdStream};

/// Length of a frame's header.
pub(super) const HEADER: usize = 8;
/// Longest error text kept from an engine's error frame.
const LONGEST_ERROR: usize = 4096;

/// What a stream can have wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FrameError {
    /// Bytes that are no frame header.
    Header([u8; HEADER]),
    /// The engine's own error, sent in place of output.
    Engine(String),
    /// The stream ended inside a frame.
    Cut,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(bytes) => write!(f, "{bytes:02x?} is no frame header of an output stream"),
            Self::Engine(text) => f.write_str(text.trim_end()),
            Self::Cut => f.write_str("the stream ended inside a frame"),
        }
    }
}

/// Where in the frames a stream is.
#[derive(Debug)]
pub(super) struct Demux {
    stream: StdStream,
    /// Payload bytes of the current frame not handed out yet.
    left: usize,
    /// The current frame is the engine's error.
    error: bool,
}

impl Demux {
    pub(super) fn new() -> Self {
        Self {
            stream: StdStream::Stdout,
            left: 0,
            error: false,
        }
    }

    /// Takes the next chunk out of the buffer; `None` when more must be read first. Never returns an empty chunk.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<LogChunk>, FrameError> {
        let mut read = 0;
        let mut written = 0;
        loop {
            if self.left == 0 {
                let Some(header) = buffer.get(read..read + HEADER) else {
                    break;
                };
                let header: [u8; HEADER] = header.try_into().unwrap_or_default();
                let parsed = parse(header);
                // A chunk has one stream, and what is good goes out first; this header waits for the next call.
                let goes_on = matches!(parsed, Some((stream, false, _)) if stream == self.stream);
                if written > 0 && !goes_on {
                    break;
                }
                let (stream, error, length) = parsed.ok_or(FrameError::Header(header))?;
                (self.stream, self.error, self.left) = (stream, error, length);
                read += HEADER;
                if self.left == 0 {
                    continue;
                }
            }
            if self.error {
                return self.engine_error(buffer, read);
            }
            let here = self.left.min(buffer.len() - read);
            if here == 0 {
                break;
            }
            if read != written {
                buffer.copy_within(read..read + here, written);
            }
            read += here;
            written += here;
            self.left -= here;
        }
        if written == 0 {
            buffer.advance(read);
            return Ok(None);
        }
        let mut chunk = buffer.split_to(read);
        chunk.truncate(written);
        Ok(Some(LogChunk {
            stream: self.stream,
            bytes: chunk.freeze(),
        }))
    }

    /// Whether the stream may end here.
    pub(super) fn finish(&self, buffer: &BytesMut) -> Result<(), FrameError> {
        if self.error {
            return Err(FrameError::Engine(
                String::from_utf8_lossy(buffer).into_owned(),
            ));
        }
        if self.left == 0 && buffer.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Cut)
        }
    }

    /// Waits until the error text is complete (or long enough), then returns it.
    fn engine_error(
        &mut self,
        buffer: &mut BytesMut,
        read: usize,
    ) -> Result<Option<LogChunk>, FrameError> {
        buffer.advance(read);
        let wanted = self.left.min(LONGEST_ERROR);
        if buffer.len() < wanted {
            return Ok(None);
        }
        Err(FrameError::Engine(
            String::from_utf8_lossy(&buffer[..wanted]).into_owned(),
        ))
    }
}

fn parse(header: [u8; HEADER]) -> Option<(StdStream, bool, usize)> {
    let [kind, 0, 0, 0, length @ ..] = header else {
        return None;
    };
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    match kind {
        0 | 1 => Some((StdStream::Stdout, false, length)),
        2 => Some((StdStream::Stderr, false, length)),
        3 => Some((StdStream::Stderr, true, length)),
        _ => None,
    }
}

/// The whole frame at the front of the buffer, for streams whose frames mean something (log entries with timestamps);
/// `None` when it is not complete.
pub(super) fn next_entry(
    buffer: &[u8],
    longest: usize,
) -> Result<Option<(StdStream, &[u8])>, FrameError> {
    let Some(header) = buffer.get(..HEADER) else {
        return Ok(None);
    };
    let header: [u8; HEADER] = header.try_into().unwrap_or_default();
    let (stream, error, length) = parse(header).ok_or(FrameError::Header(header))?;
    if !error && length > longest {
        return Err(FrameError::Header(header));
    }
    let length = if error {
        length.min(LONGEST_ERROR)
    } else {
        length
    };
    let Some(payload) = buffer.get(HEADER..HEADER + length) else {
        return Ok(None);
    };
    if error {
        return Err(FrameError::Engine(
            String::from_utf8_lossy(payload).into_owned(),
        ));
    }
    Ok(Some((stream, payload)))
}

#[cfg(test)]
pub(super) fn frame(stream: StdStream, payload: &[u8]) -> Vec<u8> {
    let kind = if stream == StdStream::Stdout { 1 } else { 2 };
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 0, 0], &length[..], payload].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds bytes in pieces; per stream what came out, and the number of chunks.
    fn run(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, usize), FrameError> {
        let (mut demux, mut buffer) = (Demux::new(), BytesMut::new());
        let (mut out, mut err, mut chunks) = (Vec::new(), Vec::new(), 0);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(chunk) = demux.next(&mut buffer)? {
                assert!(!chunk.bytes.is_empty());
                chunks += 1;
                match chunk.stream {
                    StdStream::Stdout => out.extend_from_slice(&chunk.bytes),
                    StdStream::Stderr => err.extend_from_slice(&chunk.bytes),
                }
            }
        }
        demux.finish(&buffer)?;
        Ok((out, err, chunks))
    }

    #[test]
    fn frames_of_one_stream_in_the_buffer_become_one_chunk() {
        let mut bytes = Vec::new();
        for line in 0..1000 {
            bytes.extend(frame(
                StdStream::Stdout,
                format!("line {line}\n").as_bytes(),
            ));
        }
        bytes.extend(frame(StdStream::Stderr, b"oops"));
        bytes.extend(frame(StdStream::Stdout, b"end"));
        let (out, err, chunks) = run(&[&bytes]).unwrap();
        assert!(out.ends_with(b"line 998\nline 999\nend"));
        assert_eq!((err.as_slice(), chunks), (b"oops".as_slice(), 3));
    }

    #[test]
    fn a_partial_frame_is_handed_out_at_once() {
        let (mut demux, mut buffer) = (Demux::new(), BytesMut::new());
        buffer.extend_from_slice(&frame(StdStream::Stderr, b"progress: 10%")[..12]);
        let chunk = demux.next(&mut buffer).unwrap().unwrap();
        assert_eq!(
            (chunk.stream, chunk.bytes.as_ref()),
            (StdStream::Stderr, b"prog".as_slice())
        );
        assert_eq!(demux.next(&mut buffer).unwrap(), None);
        assert_eq!(demux.finish(&buffer), Err(FrameError::Cut));
    }

    #[test]
    fn an_end_inside_a_header_is_a_cut() {
        assert_eq!(run(&[&[1, 0, 0]]), Err(FrameError::Cut));
    }

    #[test]
    fn garbage_is_refused_after_what_was_good() {
        let mut bytes = frame(StdStream::Stdout, b"good");
        bytes.extend(b"HTTP/1.1 500");
        let (mut demux, mut buffer) = (Demux::new(), BytesMut::new());
        buffer.extend_from_slice(&bytes);
        assert_eq!(
            demux.next(&mut buffer).unwrap().unwrap().bytes.as_ref(),
            b"good"
        );
        assert_eq!(
            demux.next(&mut buffer),
            Err(FrameError::Header(*b"HTTP/1.1"))
        );
    }

    #[test]
    fn an_error_frame_is_the_engines_own_text() {
        let mut bytes = frame(StdStream::Stdout, b"good");
        let mut error = frame(StdStream::Stdout, b"log driver broke\n");
        error[0] = 3;
        bytes.extend(&error);
        let (mut demux, mut buffer) = (Demux::new(), BytesMut::new());
        buffer.extend_from_slice(&bytes);
        assert_eq!(
            demux.next(&mut buffer).unwrap().unwrap().bytes.as_ref(),
            b"good"
        );
        let error = demux.next(&mut buffer).unwrap_err();
        assert_eq!(error.to_string(), "log driver broke");
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_bytes(
            frames in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(1_usize..50, 1..40),
        ) {
            let (mut bytes, mut out, mut err) = (Vec::new(), Vec::<u8>::new(), Vec::<u8>::new());
            for (first, payload) in &frames {
                let stream = if *first { StdStream::Stdout } else { StdStream::Stderr };
                bytes.extend(frame(stream, payload));
                if *first { out.extend(payload) } else { err.extend(payload) }
            }
            let (mut rest, mut pieces, mut cut) = (bytes.as_slice(), Vec::new(), 0);
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts[cut % cuts.len()].min(rest.len()));
                pieces.push(piece);
                rest = after;
                cut += 1;
            }
            let (seen_out, seen_err, _) = run(&pieces).unwrap();
            prop_assert_eq!(seen_out, out);
            prop_assert_eq!(seen_err, err);
        }

        #[test]
        fn any_bytes_are_frames_or_refused_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(run(&[&bytes]));
        }
    }
}
