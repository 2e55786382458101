//! "Did you mean": the nearest of some known names.

/// The candidate nearest to `given`, if it is near enough to be meant: at most a third of the
/// letters differ. Case, `-` and `_` do not count.
pub(crate) fn nearest<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Longer names are no typos of ours, and the distance is quadratic.
    const LONGEST: usize = 64;
    let given = fold(given);
    if given.is_empty() || given.len() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(&given, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| {
            distance * 3 <= given.len().max(candidate.chars().count()) && *distance < given.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or nothing.
pub(crate) fn did_you_mean<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(given, candidates).map(|name| format!("did you mean `{name}`?"))
}

fn fold(name: &str) -> Vec<char> {
    name.chars()
        .flat_map(char::to_lowercase)
        .map(|letter| {
            if matches!(letter, '-' | ' ') {
                '_'
            } else {
                letter
            }
        })
        .collect()
}

/// Optimal string alignment: insert, delete, replace, or swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(from != to))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("scirpt", Some("script"))]
    #[case("before-script", Some("before_script"))]
    #[case("Script", Some("script"))]
    #[case("afterscript", Some("after_script"))]
    #[case("sript", Some("script"))]
    #[case("deploy", None)]
    #[case("x", None)]
    #[case("", None)]
    fn near_names_are_suggested_and_far_ones_are_not(
        #[case] given: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(
            nearest(given, ["script", "before_script", "after_script"]),
            expected
        );
    }

    #[test]
    fn a_huge_name_costs_nothing() {
        assert_eq!(nearest(&"x".repeat(1_000_000), ["script"]), None);
    }
}
