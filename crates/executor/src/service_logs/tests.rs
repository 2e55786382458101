use gantry_engine::LogChunk;

use super::*;

fn entry(stream: StdStream, text: &[u8]) -> LogChunk {
    LogChunk {
        stream,
        bytes: text.to_vec().into(),
    }
}

fn lines_of(entries: &[&[u8]]) -> String {
    let mut lines = Lines::new("[service:db] ");
    let mut out = Vec::new();
    for entry in entries {
        lines.entry(entry, &mut out);
    }
    out.extend_from_slice(lines.end());
    String::from_utf8(out).unwrap()
}

#[test]
fn each_entry_is_a_line_with_its_time_in_its_colour() {
    assert_eq!(
        lines_of(&[
            b"t1 ready to accept connections\n",
            b"t2 \n",
            b"t3 no break"
        ]),
        "[service:db] t1 ready to accept connections\x1b[0;m\n\
         [service:db] t2 \x1b[0;m\n\
         [service:db] t3 no break\x1b[0;m\n"
    );
}

#[test]
fn a_line_that_the_engine_cut_is_one_line() {
    let piece = "x".repeat(LOG_PIECE);
    let first = format!("t1 {piece}");
    let expected = format!("[service:db] t1 {piece}yy\x1b[0;m\n");
    assert_eq!(lines_of(&[first.as_bytes(), b"t1 yy\n"]), expected);
    let expected = format!("[service:db] t1 {piece}\x1b[0;m\n");
    assert_eq!(lines_of(&[first.as_bytes()]), expected);
}

#[test]
fn the_text_of_a_log_has_whole_lines_of_both_streams() {
    let piece = format!("t1 {}", "x".repeat(LOG_PIECE));
    let (mut plain, mut out) = (Plain::default(), Vec::new());
    for (stream, text) in [
        (StdStream::Stdout, "t0 a\n"),
        (StdStream::Stdout, piece.as_str()),
        (StdStream::Stdout, "t1 rest\n"),
        (StdStream::Stdout, piece.as_str()),
        (StdStream::Stderr, "t2 other\n"),
        (StdStream::Stderr, "t3 end"),
    ] {
        plain.entry(&entry(stream, text.as_bytes()), &mut out);
    }
    let expected = format!("t0 a\n{piece}rest\n{piece}\nt2 other\nt3 end\n");
    assert!(String::from_utf8(out).unwrap() == expected);
}
