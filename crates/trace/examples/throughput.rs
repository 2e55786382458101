//! How much CPU the log of a job takes: 64 MB in 100-byte lines, as one reader would bring them.
//!
//! `cargo run --release -p gantry-trace --example throughput`. Prints user and system time of each
//! way; there is nothing to pass or fail, as the machine decides.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark for people"
)]

use std::fs;

use gantry_trace::{JobTrace, Phrase, Stream, TraceOptions};

const BYTES: usize = 64 * 1000 * 1000;
const LINE: usize = 100;

fn main() {
    let line = format!(
        "{:>1$}\n",
        "some words of a log, not too even, at step 42",
        LINE - 1
    );
    let read: Vec<u8> = line.bytes().cycle().take(64 * 1024 / LINE * LINE).collect();
    let frames: Vec<(Stream, &[u8])> = read
        .chunks(LINE)
        .map(|line| (Stream::Stdout, line))
        .collect();

    let unlimited = TraceOptions {
        phrases: (0..20)
            .map(|n| Phrase::secret(format!("s3cr3t-value-{n:03}")))
            .collect(),
        limit_bytes: u64::MAX,
        ..TraceOptions::default()
    };
    let plain = TraceOptions {
        timestamps: false,
        ..unlimited.clone()
    };
    let limited = TraceOptions {
        limit_bytes: TraceOptions::DEFAULT_LIMIT_BYTES,
        ..unlimited.clone()
    };
    let cases = [
        ("timestamps, reads of 64 KB", &unlimited, false),
        ("timestamps, frames of one line", &unlimited, true),
        ("plain, reads of 64 KB", &plain, false),
        ("plain, frames of one line", &plain, true),
        ("default limit, reads of 64 KB", &limited, false),
        ("default limit, frames of one line", &limited, true),
    ];
    for (name, options, framed) in cases {
        let folder = tempfile::tempdir().unwrap();
        let trace = JobTrace::create(folder.path(), options.clone()).unwrap();
        let before = cpu_ticks();
        for _ in 0..BYTES / read.len() {
            if framed {
                trace.write_frames("container", &frames).unwrap();
            } else {
                trace.write("container", Stream::Stdout, &read).unwrap();
            }
        }
        trace.finish().unwrap();
        let after = cpu_ticks();
        println!(
            "{name:36} user {:.2} s, system {:.2} s, log {} bytes",
            after.0 - before.0,
            after.1 - before.1,
            trace.len()
        );
    }
}

/// User and system CPU seconds of this process, in steps of 10 ms.
fn cpu_ticks() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let seconds = |field: &str| field.parse::<f64>().unwrap() / 100.0;
    (seconds(fields[11]), seconds(fields[12]))
}
