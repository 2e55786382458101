//! A secret is nowhere in the output, however the input is cut. The output is the same for any cuts, and a process that goes on where
//! another one had come to gives the rest of it.
#![no_main]
use std::sync::Arc;

use gantry_trace::{
    Clock, Phrase, Stream, default_token_prefixes, lines::Stamp, mask::MaskSet,
    processor::StreamProcessor,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

#[derive(Debug, Arbitrary)]
struct Input {
    secrets: Vec<Vec<u8>>,
    /// Pieces of the input: bytes, or a secret by its number, or the beginning of one.
    pieces: Vec<Piece>,
    cuts: Vec<u8>,
    restart: u8,
    timestamps: bool,
}

#[derive(Debug, Arbitrary)]
enum Piece {
    Bytes(Vec<u8>),
    Secret(u8),
    Beginning(u8, u8),
    Token,
    Parameter,
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut secrets = input.secrets;
    secrets.truncate(6);
    secrets.retain(|secret| !secret.is_empty());
    let mut raw = Vec::new();
    let secret = |number: u8| match secrets.len() {
        0 => &[][..],
        len => &secrets[usize::from(number) % len],
    };
    for piece in &input.pieces {
        match piece {
            Piece::Bytes(bytes) => raw.extend_from_slice(bytes),
            Piece::Secret(number) => raw.extend_from_slice(secret(*number)),
            Piece::Beginning(number, len) => {
                let secret = secret(*number);
                raw.extend_from_slice(&secret[..usize::from(*len).min(secret.len())]);
            }
            Piece::Token => raw.extend_from_slice(b"glpat-"),
            Piece::Parameter => raw.extend_from_slice(b"?private_token="),
        }
    }
    let masks = Arc::new(MaskSet::new(
        secrets
            .iter()
            .map(|secret| Phrase::secret(&secret[..]))
            .collect(),
        &default_token_prefixes(true),
    ));
    let stamp = Stamp::new(Clock::system().now());
    let new = || StreamProcessor::new(Stream::Stdout, input.timestamps, Arc::clone(&masks));

    let mut whole = Vec::new();
    let mut processor = new();
    processor.push(&raw, &stamp, &mut whole);
    processor.close(&stamp, &mut whole);

    let mut cut = Vec::new();
    let mut processor = new();
    let (mut rest, mut cuts) = (&raw[..], input.cuts.iter().cycle());
    let mut halfway = None;
    let mut pieces = 0;
    while !rest.is_empty() {
        let len = cuts
            .next()
            .map_or(1, |&cut| usize::from(cut % 16) + 1)
            .min(rest.len());
        let consumed = processor.push(&rest[..len], &stamp, &mut cut).clone();
        rest = &rest[len..];
        if pieces == input.restart {
            halfway = Some((consumed, cut.len()));
        }
        pieces = pieces.saturating_add(1);
    }
    assert_eq!(processor.close(&stamp, &mut cut).bytes, raw.len() as u64);

    // Where the mask's own letters, or what stands for bytes that are no text, can be part of a secret, finding one says nothing. Nor
    // does the time in front of a line.
    if !input.timestamps {
        assert_eq!(cut, whole, "the same for any cuts");
        for secret in &secrets {
            let spelled = secret
                .iter()
                .any(|byte| b"[MASKED]\xef\xbf\xbd".contains(byte));
            assert!(spelled || !whole.windows(secret.len()).any(|window| window == secret));
        }
        if let Some((consumed, len)) = halfway {
            let mut again = cut[..len].to_vec();
            let from = consumed.bytes as usize;
            let mut processor =
                StreamProcessor::resume(Stream::Stdout, false, Arc::clone(&masks), consumed);
            processor.push(&raw[from..], &stamp, &mut again);
            processor.close(&stamp, &mut again);
            assert_eq!(again, whole, "after a restart");
        }
    }
});
