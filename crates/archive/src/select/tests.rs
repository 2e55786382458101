use std::os::unix::fs::symlink;

use rstest::rstest;

use super::*;

fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        if let Some(dir) = file.strip_suffix('/') {
            fs::create_dir_all(path.with_file_name(dir.rsplit('/').next().unwrap())).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, *file).unwrap();
    }
    dir
}

fn run(root: &Path, paths: &[&str], exclude: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |texts: &[&str]| -> Vec<String> { texts.iter().map(|&text| text.into()).collect() };
    let (paths, exclude) = (owned(paths), owned(exclude));
    let selected = select(&Wanted {
        root,
        paths: &paths,
        exclude: &exclude,
        untracked: None,
    });
    let items = selected
        .items
        .iter()
        .map(|item| item.path().display().to_string())
        .collect();
    let messages = selected
        .messages
        .into_iter()
        .map(|message| match message.kind {
            MessageKind::Info => message.text,
            MessageKind::Warning => format!("W {}", message.text),
        })
        .collect();
    (items, messages)
}

#[rstest]
#[case::directory("dist", &["dist", "dist/a.js", "dist/v", "dist/v/b.js"], 4)]
#[case::directory_with_slash("dist/", &["dist", "dist/a.js", "dist/v", "dist/v/b.js"], 4)]
// Each match is counted with all below it: dist 4, a.js 1, v 2, b.js 1.
#[case::everything_below("dist/**", &["dist", "dist/a.js", "dist/v", "dist/v/b.js"], 8)]
#[case::files_of_a_kind("dist/**/*.js", &["dist/a.js", "dist/v/b.js"], 2)]
#[case::dot("./dist/../dist/v", &["dist/v", "dist/v/b.js"], 2)]
#[case::hidden(".hidden", &[".hidden"], 1)]
#[case::braces("dist/{a,x}.js", &["dist/a.js"], 1)]
fn what_a_path_means(#[case] path: &str, #[case] items: &[&str], #[case] count: u64) {
    let dir = tree(&["dist/a.js", "dist/v/b.js", ".hidden", "other"]);
    let (found, messages) = run(dir.path(), &[path], &[]);
    assert_eq!(found, items);
    assert_eq!(
        messages,
        [format!(
            "{path}: found {count} matching artifact files and directories"
        )]
    );
}

#[test]
fn an_absolute_path_below_the_project_is_as_good_as_a_relative_one() {
    let dir = tree(&["a/b"]);
    let path = dir.path().join("a").display().to_string();
    assert_eq!(run(dir.path(), &[&path], &[]).0, ["a", "a/b"]);
    let all = dir.path().display().to_string();
    assert_eq!(run(dir.path(), &[&all], &[]).0, ["a", "a/b"]);
    assert_eq!(run(dir.path(), &["."], &[]).0, ["a", "a/b"]);
}

#[test]
fn each_way_to_mean_nothing_has_its_own_warning() {
    let dir = tree(&["a"]);
    let root = dir.path().display();
    let (items, messages) = run(
        dir.path(),
        &["../x", "/etc", "", "nothing", "a/[", "*.none"],
        &[],
    );
    assert!(items.is_empty());
    let no = |path: &str| {
        format!(
            "W {path}: no matching files. Ensure that the artifact path is relative to the working directory ({root})"
        )
    };
    assert_eq!(
        messages,
        [
            "W processPath: artifact path is not a subpath of project directory: ../x".to_owned(),
            "W processPath: artifact path is not a subpath of project directory: /etc".to_owned(),
            "W No matching files. Path is empty.".to_owned(),
            no("nothing"),
            "W a/[: syntax error in pattern".to_owned(),
            no("*.none"),
        ]
    );
}

#[test]
fn a_sibling_whose_name_begins_like_the_project_s_is_outside() {
    let dir = tree(&["p/a", "project/b"]);
    let (items, messages) = run(&dir.path().join("p"), &["../project/b"], &[]);
    assert!(items.is_empty() && messages[0].contains("not a subpath"));
}

#[test]
fn excluded_files_are_left_out_and_counted() {
    let dir = tree(&["dist/a.js", "dist/vendor/b.js", "dist/vendor/c/d.js"]);
    let (items, messages) = run(dir.path(), &["dist/**/*.js"], &["dist/vendor/**"]);
    assert_eq!(items, ["dist/a.js"]);
    assert_eq!(
        messages,
        [
            "dist/**/*.js: found 1 matching artifact files and directories",
            "dist/vendor/**: excluded 2 files"
        ]
    );
    // A directory alone: its files stay.
    let (items, messages) = run(dir.path(), &["dist"], &["dist/vendor/"]);
    assert_eq!(
        items,
        [
            "dist",
            "dist/a.js",
            "dist/vendor/b.js",
            "dist/vendor/c",
            "dist/vendor/c/d.js"
        ]
    );
    assert_eq!(messages[1], "dist/vendor/: excluded 1 files");
}

#[test]
fn an_exclude_pattern_outside_the_project_ends_the_look_at_further_ones() {
    let dir = tree(&["a", "b"]);
    let (items, messages) = run(dir.path(), &["*"], &["../x", "b"]);
    assert_eq!(items, ["a", "b"]);
    assert_eq!(
        messages[0],
        "W isExcluded: artifact path is not a subpath of project directory: ../x"
    );
    assert_eq!(messages.len(), 2, "said once: {messages:?}");
}

#[test]
fn links_are_items_and_are_not_entered_and_pipes_are_dropped() {
    let dir = tree(&["real/in"]);
    symlink("real", dir.path().join("link")).unwrap();
    symlink("/nowhere", dir.path().join("dangling")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let (items, messages) = run(dir.path(), &["**"], &[]);
    assert_eq!(items, ["dangling", "link", "real", "real/in"]);
    assert!(messages[0].contains("found"));
}

#[test]
fn overlapping_paths_give_each_file_once() {
    let dir = tree(&["a/b/c"]);
    let (items, messages) = run(dir.path(), &["a/b", "a", "a/b/c"], &[]);
    assert_eq!(items, ["a", "a/b", "a/b/c"]);
    let counts: Vec<&str> = messages
        .iter()
        .map(|text| text.split(' ').nth(2).unwrap())
        .collect();
    assert_eq!(counts, ["2", "3", "1"]);
}

#[test]
fn odd_names_are_found_and_shown_without_their_control_characters() {
    let dir = tree(&["naïve файл.txt", "new\nline", "tab\tand'\"$"]);
    let (items, messages) = run(dir.path(), &["new\nline", "na*", "tab*"], &[]);
    assert_eq!(items.len(), 3);
    assert!(messages[0].starts_with("new\\nline: found 1"));
}

#[test]
fn a_name_that_is_no_good_pattern_is_found_as_it_is_spelled() {
    let dir = tree(&["a}b", "back\\slash"]);
    let (items, _) = run(dir.path(), &["a}b", "back\\slash"], &[]);
    assert_eq!(items, ["a}b", "back\\slash"]);
}

#[test]
fn what_git_does_not_know_is_taken_but_not_what_is_excluded() {
    let dir = tree(&["a", "d/b", "d/c", "sub/x"]);
    let exclude = ["d/c".to_owned()];
    let selected = select(&Wanted {
        root: dir.path(),
        paths: &[],
        exclude: &exclude,
        untracked: Some(&|take| {
            for name in ["a", "d/b", "d/c", "sub/", "../escape", "gone"] {
                take(name.as_bytes());
            }
            Ok(())
        }),
    });
    let items: Vec<_> = selected
        .items
        .iter()
        .map(|item| item.path().to_owned())
        .collect();
    assert_eq!(items, ["a", "d/b", "sub"].map(PathBuf::from));
    let texts: Vec<_> = selected
        .messages
        .iter()
        .map(|message| &message.text[..])
        .collect();
    assert_eq!(texts, ["untracked: found 3 files", "d/c: excluded 1 files"]);

    let selected = select(&Wanted {
        root: dir.path(),
        paths: &[],
        exclude: &[],
        untracked: Some(&|_| Ok(())),
    });
    assert_eq!(selected.messages[0].text, "untracked: no files");
    let selected = select(&Wanted {
        root: dir.path(),
        paths: &["a".into(), "d".into()],
        exclude: &exclude,
        untracked: Some(&|take| {
            take(b"a");
            take(b"d/c");
            take(b"sub/x");
            Err("not a git repository".into())
        }),
    });
    let items: Vec<_> = (selected.items.iter())
        .map(|item| item.path().to_owned())
        .collect();
    assert_eq!(items, ["a", "d", "d/b"].map(PathBuf::from));
    assert_eq!(selected.items.len(), 3);
    assert_eq!(selected.messages[2].text, "untracked: not a git repository");
    assert_eq!(selected.messages[3].text, "d/c: excluded 1 files");
}

#[test]
fn what_many_patterns_mean_is_there_once_and_what_they_leave_out_is_counted_for_each() {
    let dir = tree(&["a/b/c", "a/b/x", "a-b", "a.c/d", "a0"]);
    let (items, messages) = run(dir.path(), &["**", "**/b/**", "a*", "{a,a}/b"], &["**/x"]);
    assert_eq!(items, ["a", "a-b", "a.c", "a.c/d", "a/b", "a/b/c", "a0"]);
    let patterns = ["**", "**/b/**", "a*", "{a,a}/b"];
    let counts: Vec<u64> = patterns
        .iter()
        .zip(&messages)
        .map(|(pattern, text)| {
            let count = text.strip_prefix(&format!("{pattern}: found "));
            count.unwrap().split(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    // The root 8, a 3, a-b 1, a.c 2, a.c/d 1, a/b 2, a/b/c 1, a0 1; a/b 2, a/b/c 1; a 3, a-b 1, a.c 2, a0 1; a/b 2.
    assert_eq!(counts, [19, 3, 7, 2]);
    // Below the root, a, a/b and for itself; below a/b and for itself; below a; below a/b.
    assert_eq!(messages[4], "**/x: excluded 8 files");
}
