//! Reports whose lines become variables of later jobs, as GitLab reads them (local-pipelines D3): no quotes, no comments, and a line that
//! is none makes the file invalid.

use std::{fs, path::Path};

/// What GitLab takes: its `dotenv_size`, unless it is told otherwise.
const LARGEST: u64 = 5120;
/// Most variables of a report. GitLab's `dotenv_variables` is 20 unless it is told otherwise, and up to this on GitLab.com.
const MOST: usize = 150;
/// Longest name that GitLab keeps.
const LONGEST_NAME: usize = 255;

/// Variables of all files below a folder, in the order of their paths: later ones win.
///
/// # Errors
/// When a file is no list of variables; for people.
pub(super) fn read_all(folder: &Path) -> Result<Vec<(String, String)>, String> {
    super::harmless(folder).map_err(|error| format!("dotenv report: {error}"))?;
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let entries = path
            .read_dir()
            .map_err(|error| format!("dotenv report: {error}"))?;
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    let mut variables = Vec::new();
    for file in files {
        let name = file.strip_prefix(folder).unwrap_or(&file).display();
        let size = file.metadata().map_or(0, |file| file.len());
        if size > LARGEST {
            return Err(format!(
                "dotenv report {name}: {size} bytes are too many: GitLab takes {LARGEST} unless it is told otherwise"
            ));
        }
        let bytes = fs::read(&file).map_err(|error| format!("dotenv report {name}: {error}"))?;
        let found = parse(&bytes).map_err(|error| format!("dotenv report {name}: {error}"))?;
        variables.extend(found);
    }
    Ok(variables)
}

/// One file.
fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = decode(bytes);
    // The end of the last line is no line.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let variables: Vec<_> = text
        .split('\n')
        .enumerate()
        .map(|(index, line)| {
            let number = index + 1;
            let Some((key, value)) = line.split_once('=') else {
                let what = if line.trim().is_empty() {
                    "is empty"
                } else {
                    "is no KEY=VALUE"
                };
                return Err(format!("line {number} {what}, so none of it can be used"));
            };
            let (key, value) = (key.trim(), value.trim());
            let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            if key.is_empty() || !key.chars().all(good) {
                return Err(format!(
                    "line {number} has the name {key:?}; letters, digits and _ may be in one"
                ));
            }
            if key.len() > LONGEST_NAME {
                return Err(format!(
                    "line {number} has a name of {} letters; {LONGEST_NAME} may be in one",
                    key.len()
                ));
            }
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect::<Result<_, _>>()?;
    if variables.len() > MOST {
        return Err(format!(
            "{} variables are too many: GitLab takes 20 unless it is told otherwise, and at most {MOST} on GitLab.com",
            variables.len()
        ));
    }
    Ok(variables)
}

/// UTF-8, or UTF-16 by its mark.
fn decode(bytes: &[u8]) -> String {
    let wide = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| read([pair[0], pair[1]]))
            .collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        bytes => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(b"A=1\nB=two words\n", &[("A", "1"), ("B", "two words")])]
    #[case::no_line_break_at_the_end(b"A=1", &[("A", "1")])]
    #[case::windows(b"A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")])]
    #[case::blanks_around(b"  A = 1 \n", &[("A", "1")])]
    #[case::quotes_are_kept(b"A=\"x\"\nB='y'\n", &[("A", "\"x\""), ("B", "'y'")])]
    #[case::first_equals_sign(b"A=b=c\n", &[("A", "b=c")])]
    #[case::no_value(b"A=\n", &[("A", "")])]
    #[case::again(b"A=1\nA=2\n", &[("A", "1"), ("A", "2")])]
    #[case::empty(b"", &[])]
    #[case::byte_order_mark(b"\xef\xbb\xbfA=1\n", &[("A", "1")])]
    #[case::utf16(b"\xff\xfeA\0=\x001\0\n\0", &[("A", "1")])]
    #[case::utf16_the_other_way(b"\xfe\xff\0A\0=\x001", &[("A", "1")])]
    fn lines_are_variables(#[case] file: &[u8], #[case] expected: &[(&str, &str)]) {
        let found = parse(file).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(b"A=1\n\nB=2\n", "line 2 is empty, so none of it can be used")]
    #[case(b"A=1\n\n", "line 2 is empty, so none of it can be used")]
    #[case(b"# comment\n", "line 1 is no KEY=VALUE, so none of it can be used")]
    #[case(
        b"export A=1\n",
        "line 1 has the name \"export A\"; letters, digits and _ may be in one"
    )]
    #[case(
        b"=1\n",
        "line 1 has the name \"\"; letters, digits and _ may be in one"
    )]
    fn a_line_that_is_none_makes_the_file_invalid(#[case] file: &[u8], #[case] message: &str) {
        assert_eq!(parse(file).unwrap_err(), message);
    }

    #[rstest]
    #[case::bytes(b"A=".to_vec(), 5118, None)]
    #[case::too_many_bytes(b"A=".to_vec(), 5119, Some("dotenv report e: 5121 bytes are too many: GitLab takes 5120 unless it is told otherwise"))]
    #[case::name(Vec::new(), 255, None)]
    #[case::long_name(
        Vec::new(),
        256,
        Some("dotenv report e: line 1 has a name of 256 letters; 255 may be in one")
    )]
    fn files_are_limited_as_gitlab_limits_them(
        #[case] mut file: Vec<u8>,
        #[case] letters: usize,
        #[case] message: Option<&str>,
    ) {
        let is_name = file.is_empty();
        file.extend(std::iter::repeat_n(b'x', letters));
        if is_name {
            file.extend(b"=1");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("e"), file).unwrap();
        assert_eq!(read_all(folder.path()).err().as_deref(), message);
    }

    #[test]
    fn so_many_variables_and_no_more() {
        let file = |count: usize| {
            let lines: Vec<String> = (0..count).map(|number| format!("V{number}=x")).collect();
            lines.join("\n").into_bytes()
        };
        assert_eq!(parse(&file(150)).unwrap().len(), 150);
        let message = "151 variables are too many: GitLab takes 20 unless it is told otherwise, and at most 150 on GitLab.com";
        assert_eq!(parse(&file(151)).unwrap_err(), message);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes).ok();
        }
    }
}
