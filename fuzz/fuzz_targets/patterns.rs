//! Patterns of paths are read or refused, and match in bounded time what a simple model of the documented rules says. The search
//! in a tree finds the same files. A line of a pattern, a line of a path; `~` in front makes letters of the bytes that mean something.
#![no_main]
use std::{collections::BTreeSet, fs, path::PathBuf, sync::LazyLock};

use gantry_archive::{Pattern, Wanted, select};

/// Lets the fuzzer meet patterns, not only noise.
const LETTERS: &[u8] = b"aab**//?[]{},\\!^-.\n";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let lettered: Vec<u8>;
    let data = match data.strip_prefix(b"~") {
        Some(data) => {
            let letter = |&byte: &u8| LETTERS[usize::from(byte) % LETTERS.len()];
            lettered = data.iter().map(letter).collect();
            &lettered
        }
        None => data,
    };
    let end = data
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(data.len() / 2);
    let (text, path) = data.split_at(end);
    let path = path.strip_prefix(b"\n").unwrap_or(path);
    let pattern = Pattern::new(text);
    let matched = pattern.as_ref().map(|pattern| pattern.matches(path));
    // The model takes its time.
    if text.len() > 24 || path.len() > 24 {
        return;
    }
    let model = model::read(text);
    assert_eq!(pattern.is_ok(), model.is_some(), "{}", shown(text));
    let Some(model) = model else { return };
    assert_eq!(
        matched,
        Ok(model.matches(path)),
        "{} {}",
        shown(text),
        shown(path)
    );
    search(text, &model);
});

fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

const FILES: [&str; 9] = [
    "a/a/b", "a/b", "b/a", "b/b", "ab", "aa/ba", "a.b", ".a", "a-b/!/^",
];

static TREE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for file in FILES {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    let path = dir.path().to_owned();
    (dir, path)
});

/// A file is found if the pattern fits it or one of its directories.
fn search(text: &[u8], model: &model::Pattern) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    // Names are made regular before they are patterns.
    if text.is_empty()
        || text.contains(['\0', '\\'])
        || text.split('/').any(|part| matches!(part, "" | "." | ".."))
    {
        return;
    }
    // Braces may hold what makes a name irregular. And `a/**` fits `a` by itself, which the search takes only of a directory.
    if text.contains('{') || text.ends_with("/**") {
        return;
    }
    let found = select(&Wanted {
        root: &TREE.1,
        paths: &[text.to_owned()],
        exclude: &[],
        untracked: None,
    });
    let found: BTreeSet<String> = found
        .items
        .iter()
        .map(|item| item.path().display().to_string())
        .filter(|path| FILES.contains(&&path[..]))
        .collect();
    let expected = FILES.iter().filter(|file| {
        let whole = model.matches(b"");
        whole
            || (1..=file.len())
                .filter(|&end| end == file.len() || file.as_bytes()[end] == b'/')
                .any(|end| model.matches(&file.as_bytes()[..end]))
    });
    let expected: BTreeSet<String> = expected.map(|file| (*file).to_owned()).collect();
    assert_eq!(found, expected, "{text}");
}

/// The rules one after the other, without any thought of speed.
mod model {
    pub struct Pattern(Vec<Vec<Vec<u8>>>);

    pub fn read(text: &[u8]) -> Option<Pattern> {
        let texts = alternatives(text)?;
        texts
            .iter()
            .map(|text| components(text))
            .collect::<Option<_>>()
            .map(Pattern)
    }

    impl Pattern {
        pub fn matches(&self, path: &[u8]) -> bool {
            let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
            self.0.iter().any(|components| all(components, &names))
        }
    }

    fn all(components: &[Vec<u8>], names: &[&[u8]]) -> bool {
        match components.split_first() {
            None => names.is_empty(),
            Some((first, rest)) if first == b"**" => {
                all(rest, names) || !names.is_empty() && all(components, &names[1..])
            }
            Some((first, rest)) => {
                !names.is_empty() && one(first, names[0]) && all(rest, &names[1..])
            }
        }
    }

    fn one(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.first() {
            None => name.is_empty(),
            Some(b'*') => one(&pattern[1..], name) || !name.is_empty() && one(pattern, rest(name)),
            Some(b'?') => !name.is_empty() && one(&pattern[1..], rest(name)),
            Some(b'[') => {
                let end = class_len(&pattern[1..]).expect("was read before");
                !name.is_empty()
                    && in_class(&pattern[1..end], char_of(name))
                    && one(&pattern[1 + end..], rest(name))
            }
            Some(first) => {
                let pattern = if *first == b'\\' {
                    &pattern[1..]
                } else {
                    pattern
                };
                !name.is_empty()
                    && char_of(pattern) == char_of(name)
                    && one(rest(pattern), rest(name))
            }
        }
    }

    /// A character, or a byte that is none.
    fn char_of(text: &[u8]) -> (bool, u32) {
        let most = text.len().min(4);
        for len in 1..=most {
            if let Ok(text) = std::str::from_utf8(&text[..len]) {
                return (false, text.chars().next().map_or(0, u32::from));
            }
        }
        (true, u32::from(text[0]))
    }

    fn rest(text: &[u8]) -> &[u8] {
        let (stray, char) = char_of(text);
        let len = if stray {
            1
        } else {
            char::from_u32(char).map_or(1, char::len_utf8)
        };
        &text[len..]
    }

    fn in_class(mut class: &[u8], char: (bool, u32)) -> bool {
        let negated = matches!(class.first(), Some(b'^' | b'!'));
        if negated {
            class = &class[1..];
        }
        let take = |class: &mut &[u8]| {
            if class[0] == b'\\' {
                *class = &class[1..];
            }
            let char = char_of(class);
            *class = rest(class);
            char
        };
        let mut found = false;
        while !class.is_empty() {
            let low = take(&mut class);
            let mut high = low;
            if class.len() > 1 && class[0] == b'-' {
                class = &class[1..];
                high = take(&mut class);
            }
            found |= low <= char && char <= high;
        }
        found != negated
    }

    /// Behind `[`, with its `]`.
    fn class_len(text: &[u8]) -> Option<usize> {
        let mut at = usize::from(matches!(text.first(), Some(b'^' | b'!')));
        let first = at;
        while *text.get(at)? != b']' {
            at += if text[at] == b'\\' { 2 } else { 1 };
        }
        (at > first).then_some(at + 1)
    }

    fn components(text: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut all, mut one, mut at) = (Vec::new(), Vec::new(), 0);
        while at < text.len() {
            let len = match text[at] {
                b'/' => {
                    all.push(std::mem::take(&mut one));
                    at += 1;
                    continue;
                }
                b'\\' => 2,
                b'[' => 1 + class_len(&text[at + 1..])?,
                _ => 1,
            };
            one.extend_from_slice(text.get(at..at + len)?);
            at += len;
        }
        all.push(one);
        Some(all)
    }

    fn alternatives(text: &[u8]) -> Option<Vec<Vec<u8>>> {
        let Some(&first) = text.first() else {
            return Some(vec![Vec::new()]);
        };
        let (heads, tail) = match first {
            b'}' => return None,
            b'\\' => (vec![text.get(..2)?.to_vec()], &text[2..]),
            b'[' => {
                let len = 1 + class_len(&text[1..])?;
                (vec![text[..len].to_vec()], &text[len..])
            }
            b'{' => {
                let (mut parts, mut depth, mut at, mut start) = (Vec::new(), 0, 1, 1);
                loop {
                    match text.get(at)? {
                        b'\\' => at += 1,
                        b'{' => depth += 1,
                        b'}' if depth > 0 => depth -= 1,
                        b'}' => break,
                        b',' if depth == 0 => {
                            parts.extend(alternatives(&text[start..at])?);
                            start = at + 1;
                        }
                        _ => {}
                    }
                    at += 1;
                }
                parts.extend(alternatives(&text[start..at])?);
                (parts, &text[at + 1..])
            }
            first => (vec![vec![first]], &text[1..]),
        };
        let tails = alternatives(tail)?;
        Some(
            heads
                .iter()
                .flat_map(|head| tails.iter().map(|tail| [&head[..], tail].concat()))
                .collect(),
        )
    }
}
