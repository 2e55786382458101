//! Names of the objects that hold caches.

/// `<Path>/[runner/<short token>/]project/<id>/<key>` (config-toml §5), or `None` if the key is empty or leads out of the project.
pub(crate) fn object_name(
    path: &str,
    shared: bool,
    short_token: &str,
    project_id: i64,
    key: &str,
) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    if !shared {
        parts.extend(["runner", short_token]);
    }
    let project = project_id.to_string();
    parts.extend(["project", &project]);
    let prefix = clean(parts)?;
    let within = clean(key.split('/').collect())?;
    if within.is_empty() {
        return None;
    }
    Some(format!("{}/{}", prefix.join("/"), within.join("/")))
}

/// The storage form of a hashed key: its first two digits are a folder of their own (config-toml §5).
pub(crate) fn hashed_key(hash: &str) -> String {
    match hash.get(..2) {
        Some(first) => format!("{first}/{hash}"),
        None => hash.to_owned(),
    }
}

/// Parts without empty and `.` ones, `..` resolved; `None` if they lead out.
fn clean(parts: Vec<&str>) -> Option<Vec<&str>> {
    let mut kept = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop()?;
            }
            part => kept.push(part),
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", false, "gems", Some("runner/abc/project/7/gems"))]
    #[case("", true, "gems", Some("project/7/gems"))]
    #[case("a/b/", true, "x/y", Some("a/b/project/7/x/y"))]
    #[case("/a", false, "x/../y", Some("a/runner/abc/project/7/y"))]
    #[case("", true, "../8/x", None)]
    #[case("", true, "a/../../8", None)]
    #[case("", true, "", None)]
    #[case("", true, "/.", None)]
    fn an_object_lies_below_its_project(
        #[case] path: &str,
        #[case] shared: bool,
        #[case] key: &str,
        #[case] name: Option<&str>,
    ) {
        assert_eq!(
            object_name(path, shared, "abc", 7, key).as_deref(),
            name,
            "{key}"
        );
    }

    #[test]
    fn hashed_keys_are_spread_over_folders() {
        assert_eq!(hashed_key("abcd"), "ab/abcd");
    }
}
