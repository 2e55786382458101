//! Lists of images that the configuration allows (docker-executor §3.4).

use gantry_archive::Pattern;

/// Whether a name, as it is written, matches one of the patterns. One that cannot be read matches nothing.
pub(crate) fn has(patterns: &[String], name: &str) -> bool {
    let mut patterns = patterns.iter();
    patterns.any(|pattern| {
        Pattern::new(pattern.as_bytes()).is_ok_and(|pattern| pattern.matches(name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // docker-executor §3.4
    #[rstest]
    #[case("*", &["ruby", "ruby:3.3"], &["library/ruby", "my.registry.tld/ruby"])]
    #[case("*/*:*", &["library/ruby:3.3"], &["library/ruby"])]
    #[case("**/*", &["ruby", "my.registry.tld:5000/a/b:1"], &[])]
    #[case("**/*:*", &["ruby:3", "my.registry.tld/a/b:1"], &["library/ruby"])]
    #[case("my.registry.tld:5000/*:*", &["my.registry.tld:5000/alpine:latest"], &["my.registry.tld:5000/a/b:1", "my.registry.tld:5000/alpine"])]
    #[case("my.registry.tld/**/*", &["my.registry.tld/a", "my.registry.tld/a/b:1"], &["other.tld/a"])]
    #[case("ruby:*", &["ruby:3"], &["ruby", "ruby@sha256:0", "library/ruby:3"])]
    #[case("docker:{dind,*-rootless}", &["docker:dind", "docker:27-rootless"], &["docker:27"])]
    #[case("[", &[], &["[", "ruby"])]
    fn a_pattern_matches_the_whole_name_as_written(
        #[case] pattern: &str,
        #[case] matched: &[&str],
        #[case] others: &[&str],
    ) {
        let patterns = ["nothing/like/it".to_owned(), pattern.to_owned()];
        for name in matched {
            assert!(has(&patterns, name), "{name}");
        }
        for name in others {
            assert!(!has(&patterns, name), "{name}");
        }
    }
}
