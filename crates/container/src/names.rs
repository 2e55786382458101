//! Names that engines, DNS and the peer's tools accept.

/// Longest label of a host name (RFC 1123).
const LONGEST: usize = 63;

/// Makes a name of any text as the peer does (docker-executor §2.1): lower case, every character outside `[-a-z0-9]`
/// deleted (underscores vanish), leading hyphens stripped, cut at 63 characters. May return an empty string.
///
/// ```
/// assert_eq!(gantry_container::rfc1123("Runner_t5-Project"), "runnert5-project");
/// ```
pub fn rfc1123(text: &str) -> String {
    text.chars()
        .flat_map(char::to_lowercase)
        .filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
        .skip_while(|c| *c == '-')
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::rfc1123;

    #[rstest]
    #[case(
        "runner-abc-project-7-concurrent-0",
        "runner-abc-project-7-concurrent-0"
    )]
    #[case("runner-A_b.C-project", "runner-abc-project")]
    #[case("--_-x", "x")]
    #[case("9lives", "9lives")]
    #[case("ÄÖ-ü-ok", "ok")]
    #[case("", "")]
    #[case("___", "")]
    fn characters_outside_the_set_vanish(#[case] text: &str, #[case] name: &str) {
        assert_eq!(rfc1123(text), name);
    }

    #[test]
    fn a_long_name_is_cut_at_63_characters() {
        assert_eq!(rfc1123(&"_a".repeat(100)), "a".repeat(63));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_valid_name_that_stays_the_same(text in any::<String>()) {
            let name = rfc1123(&text);
            prop_assert!(name.len() <= 63);
            prop_assert!(!name.starts_with('-'));
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert_eq!(rfc1123(&name), name);
        }
    }
}
