//! Bytes from a helper are messages or an error. `~` in front: a header and, behind a zero, a body, which get the lengths that belong to them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(parts) = data.strip_prefix(b"~") else {
        gantry_agent::fuzz_decoder(data);
        return;
    };
    let end = parts
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(parts.len());
    let (header, body) = parts.split_at(end);
    let body = body.strip_prefix(b"\0").unwrap_or(body);
    // The first byte is the length of the pieces in which it comes.
    let mut frame = vec![7, 0xf6, b'G'];
    frame.extend((header.len() as u32).to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend([header, body].concat());
    gantry_agent::fuzz_decoder(&frame);
});
