//! Names of folders.

use std::{fmt::Write as _, path::Path};

use sha2::{Digest as _, Sha256};

/// Longest name of a folder that is made of a job's, in bytes; file systems allow 255.
const LONGEST: usize = 180;

/// The folder of a job: its name, with `%` and two digits for what no file name can hold. No two jobs have the same.
pub(crate) fn folder_name(job: &str) -> String {
    let mut name = String::with_capacity(job.len());
    for (place, letter) in job.char_indices() {
        match letter {
            '/' | '%' => escape(letter, &mut name),
            // Neither hidden nor `..`.
            '.' if place == 0 => escape(letter, &mut name),
            letter if letter.is_control() => escape(letter, &mut name),
            letter => name.push(letter),
        }
    }
    if name.len() > LONGEST {
        let mut end = LONGEST;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push('-');
        name.push_str(&hash(job, 8));
    }
    name
}

fn escape(letter: char, name: &mut String) {
    let mut bytes = [0; 4];
    for byte in letter.encode_utf8(&mut bytes).bytes() {
        // Writing to a string does not fail.
        write!(name, "%{byte:02X}").ok();
    }
}

/// Name of a project for what is kept of it: that of its folder, and a part that tells folders of one name apart.
pub(crate) fn project_name(root: &Path) -> String {
    let folder = root.file_name().unwrap_or_default().to_string_lossy();
    let plain: String = folder
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => letter,
            _ => '-',
        })
        .take(40)
        .collect();
    let plain = plain.trim_matches(['.', '-']);
    let id = hash(&root.to_string_lossy(), 6);
    if plain.is_empty() {
        format!("project-{id}")
    } else {
        format!("{plain}-{id}")
    }
}

/// The first bytes of a hash, as digits.
fn hash(text: &str, bytes: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest[..bytes]
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("build", "build")]
    #[case("a: [lin, 1]", "a: [lin, 1]")]
    #[case("a 1/2", "a 1%2F2")]
    #[case("..", "%2E.")]
    #[case("100%", "100%25")]
    #[case("line\nbreak", "line%0Abreak")]
    fn jobs_have_folders_that_can_be_read(#[case] job: &str, #[case] folder: &str) {
        assert_eq!(folder_name(job), folder);
    }

    #[test]
    fn folders_of_one_name_are_two_projects() {
        let names: HashSet<_> = ["/a/shop", "/b/shop", "/", "/…"]
            .map(|path| project_name(Path::new(path)))
            .into();
        assert_eq!(names.len(), 4);
        assert!(project_name(Path::new("/a/shop")).starts_with("shop-"));
    }

    proptest! {
        #[test]
        fn any_job_has_a_folder_of_its_own(a in ".{1,255}", b in ".{1,255}") {
            let (one, other) = (folder_name(&a), folder_name(&b));
            prop_assert_eq!(a == b, one == other);
            prop_assert!(one.len() <= 255 && !one.contains(['/', '\0']) && !one.starts_with('.'));
        }
    }
}
