//! A secret is nowhere in the output, however the input is split: the first byte says how long the secret is, the second where the
//! rest is cut.
#![no_main]
use gantry_trace::{Clock, JobTrace, Phrase, Stream, TraceOptions};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [length, cut, rest @ ..] = data else { return };
    let length = usize::from(*length % 32) + 4;
    if rest.len() < length {
        return;
    }
    let (secret, text) = rest.split_at(length);
    let folder = std::env::temp_dir().join(format!("gantry-fuzz-{}", std::process::id()));
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    let options = TraceOptions {
        phrases: vec![Phrase::secret(secret)],
        timestamps: false,
        clock: Clock::system(),
        ..TraceOptions::default()
    };
    let trace = JobTrace::create(&folder, options).unwrap();
    let text = [text, secret, text].concat();
    let (first, second) = text.split_at(usize::from(*cut).min(text.len()));
    trace.write("c", Stream::Stdout, first).unwrap();
    trace.write("c", Stream::Stdout, second).unwrap();
    trace.finish().unwrap();
    let out = trace.read_at(0, 1 << 20).unwrap();
    // Where the mask's own letters can spell the secret, finding it says nothing.
    let spelled = secret.iter().all(|byte| b"[MASKED]\xef\xbf\xbd".contains(byte));
    assert!(spelled || !out.windows(secret.len()).any(|window| window == secret));
});
