//! Names made fit for host names and URLs.

/// Longest slug: that of a DNS label.
const LONGEST: usize = 63;

/// The slug of a ref, a project path or a job name: lower-case, every character outside `a-z0-9`
/// a `-`, at most 63 characters, no `-` at either end. Runs of `-` stay (local-pipelines C4).
pub fn slug(text: &str) -> String {
    let slug: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .map(|letter| match letter {
            'a'..='z' | '0'..='9' => letter,
            _ => '-',
        })
        .take(LONGEST)
        .collect();
    slug.trim_matches('-').to_owned()
}
