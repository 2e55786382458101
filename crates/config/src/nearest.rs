//! "Did you mean": the known name an unknown one most looks like.

/// Longer names are not looked at: nobody mistypes them, and the work grows with the square.
const LONGEST: usize = 48;

/// Keys that GitLab Runner once had, and what they are called now. Their old names look like others.
const RENAMED: [(&str, &str); 2] = [
    ("pre_clone_script", "pre_get_sources_script"),
    ("post_clone_script", "post_get_sources_script"),
];

/// The candidate with the fewest edits from `name`, if those are few for its length. Case does not count.
pub(crate) fn nearest<'a>(
    name: &str,
    mut candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_ascii_lowercase();
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return candidates.find(|candidate| candidate == new);
    }
    let allowed = 1.max(name.chars().count() / 3);
    candidates
        .map(|candidate| (edits(&name, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (i, a) in from.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != *b))
                .min(row[j + 1] + 1)
                .min(next[j] + 1);
            if j > 0 && last == Some(*b) && a == to[j - 1] {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(a);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;
    use rstest::rstest;

    #[rstest]
    #[case("statedir", Some("state_dir"))]
    #[case("State_Dri", Some("state_dir"))]
    #[case("onstop", Some("on_stop"))]
    #[case("log-driver", Some("log_driver"))]
    #[case("colour", None)]
    #[case("", None)]
    #[case("x", None)]
    fn nearest_name_needs_few_edits(#[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(
            nearest(name, ["state_dir", "on_stop", "log_driver"].into_iter()),
            expected
        );
    }

    #[rstest]
    #[case("pre_clone_script", Some("pre_get_sources_script"))]
    #[case("POST_CLONE_SCRIPT", None)]
    fn a_key_that_was_renamed_leads_to_its_new_name(
        #[case] name: &str,
        #[case] expected: Option<&str>,
    ) {
        let known = [
            "pre_build_script",
            "post_build_script",
            "pre_get_sources_script",
        ];
        assert_eq!(nearest(name, known.into_iter()), expected);
    }

    #[test]
    fn very_long_names_look_like_nothing() {
        assert_eq!(
            nearest(&"state_dir".repeat(1000), ["state_dir"].into_iter()),
            None
        );
    }
}
