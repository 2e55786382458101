//! Any file is a journal, a journal with a torn end, or an error that names the line. What a crash leaves of a journal is its beginning.
//! `~` in front: lines without checksums, which get them.
#![no_main]
use std::path::Path;

use gantry_executor::{Progress, Record};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let summed;
    let data = match data.strip_prefix(b"~") {
        Some(lines) => {
            summed = journal_of(lines);
            &summed
        }
        None => data,
    };
    let read = |data: &[u8]| gantry_journal::read_records::<Record>(data, Path::new("journal"));
    match read(data) {
        Ok(records) => {
            let texts: Vec<String> = records.iter().map(text).collect();
            for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
                let beginning = read(&data[..cut]).expect("a beginning of a journal is a journal");
                let beginning: Vec<String> = beginning.iter().map(text).collect();
                assert!(texts.starts_with(&beginning));
            }
            drop(Progress::of(records));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn text(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

fn journal_of(lines: &[u8]) -> Vec<u8> {
    let mut journal = b"gantry-journal 1\n".to_vec();
    for line in lines.split(|&byte| byte == b'\n') {
        journal.extend(format!("{:08x} ", crc32fast::hash(line)).into_bytes());
        journal.extend([line, b"\n"].concat());
    }
    journal
}
