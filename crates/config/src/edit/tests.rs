use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::flags::runner_flags;

const OBTAINED: Duration = Duration::from_secs(1_767_323_045);

fn token(text: &str) -> NewToken {
    NewToken {
        token: text.into(),
        obtained_at: UNIX_EPOCH + OBTAINED,
        expires_at: None,
    }
}

fn entry(name: &str) -> RunnerEntry {
    let mut entry = RunnerEntry::new();
    entry.set_text(&["name"], name);
    entry.set_text(&["url"], "https://gitlab.example.com");
    entry.set_text(&["executor"], "docker");
    entry.set_text(&["docker", "image"], "ruby:3.3");
    entry.add_cache_volume();
    entry.set_identity(12, &token(&format!("glrt-{name}")));
    entry
}

fn variables() -> Placeholders {
    Placeholders::from([
        ("TOKEN".to_owned(), "glrt-of-the-environment".to_owned()),
        ("HOST".to_owned(), "gitlab.example.com".to_owned()),
    ])
}

fn change(path: &Path, change: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>) -> String {
    edit(path, &variables(), change).unwrap();
    fs::read_to_string(path).unwrap()
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn a_first_runner_is_written_as_the_peer_writes_it_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etc/config.toml");
    let text = change(&path, |edit| edit.add_runner(entry("one")));
    assert_eq!(
        text,
        r#"concurrent = 1
check_interval = 0
shutdown_timeout = 0

[session_server]
  session_timeout = 1800

[[runners]]
  name = "one"
  url = "https://gitlab.example.com"
  id = 12
  token = "glrt-one"
  token_obtained_at = 2026-01-02T03:04:05Z
  token_expires_at = 0001-01-01T00:00:00Z
  executor = "docker"
  [runners.cache]
    MaxUploadedArchiveSize = 0
    [runners.cache.s3]
    [runners.cache.gcs]
    [runners.cache.azure]
  [runners.docker]
    tls_verify = false
    image = "ruby:3.3"
    disable_entrypoint_overwrite = false
    privileged = false
    shm_size = 0
    oom_kill_disable = false
    network_mtu = 0
    volumes = ["/cache"]
    disable_cache = false
"#
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let folder = fs::metadata(folder.path().join("etc")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

const FULL: &str = r#"# top
concurrent = 4 # slots
made_up = "kept" # unknown

# the first runner
[[runners]] # header
  # inside
  name = "one"
  url = "https://$HOST" # placeholder
  token = "$TOKEN" # from the environment
  executor = "docker"
  [runners.docker] # docker
    image = "ruby:3.3" # default
    # last of one

# the second runner
[[runners]]
  name = "two"
  url = "https://gitlab.example.com"
  token = "glrt-two" # secret
  token_expires_at = 2026-02-01T00:00:00Z # soon
  executor = "docker"

[session_server] # terminals
  session_timeout = 900
# end
"#;

#[test]
fn a_new_runner_changes_no_line_that_was_there() {
    let (_folder, path) = written(FULL);
    let text = change(&path, |edit| edit.add_runner(entry("three")));
    let added = text.strip_prefix(FULL).expect("all lines as they were");
    assert!(
        added.starts_with("\n[[runners]]\n  name = \"three\"\n"),
        "{added}"
    );
}

#[test]
fn a_new_token_changes_its_own_lines_and_keeps_what_is_behind_them() {
    let (_folder, path) = written(FULL);
    let text = change(&path, |edit| {
        let runner = edit.config().runners[1].clone();
        assert!(!edit.replace_token(&runner, &token("glrt-new"))?);
        Ok(())
    });
    let expected = FULL
        .replace(
            "token = \"glrt-two\" # secret",
            "token = \"glrt-new\" # secret",
        )
        .replace(
            "token_expires_at = 2026-02-01T00:00:00Z # soon\n  executor = \"docker\"\n",
            "token_expires_at = 0001-01-01T00:00:00Z # soon\n  executor = \"docker\"\n  token_obtained_at = 2026-01-02T03:04:05Z\n",
        );
    assert_eq!(text, expected);
}

#[test]
fn a_runner_is_found_by_what_its_placeholders_stand_for() {
    let (_folder, path) = written(FULL);
    let text = change(&path, |edit| {
        let runner = edit.config().runners[0].clone();
        assert!(edit.replace_token(&runner, &token("glrt-new"))?);
        Ok(())
    });
    assert!(
        text.contains("url = \"https://$HOST\" # placeholder"),
        "{text}"
    );
    assert!(
        text.contains("token = \"glrt-new\" # from the environment"),
        "{text}"
    );
}

#[test]
fn a_removed_runner_takes_its_lines_and_leaves_the_comments_around() {
    let (_folder, path) = written(FULL);
    let text = change(&path, |edit| {
        assert_eq!(edit.remove_runners(|runner| runner.name == "one")?, 1);
        Ok(())
    });
    for kept in [
        "# top",
        "# slots",
        "# unknown",
        "# the first runner",
        "# last of one",
        "# the second runner",
        "# end",
    ] {
        assert!(text.contains(kept), "no {kept:?} in\n{text}");
    }
    assert!(!text.contains("ruby"), "{text}");
    let text = change(&path, |edit| {
        edit.remove_runners(|_| true)?;
        Ok(())
    });
    assert!(
        !text.contains("runners]") && text.contains("# the second runner"),
        "{text}"
    );
    assert!(
        text.contains("[session_server] # terminals\n  session_timeout = 900\n"),
        "{text}"
    );
}

#[rstest]
#[case::inline(
    "runners = [{name = \"a\", url = \"http://h\", token = \"t\", executor = \"docker\"}] # in a row\n"
)]
#[case::empty("# none yet\nrunners = []\n")]
#[case::other_case("[[Runners]] # c\nname = \"a\"\nurl = \"http://h\"\ntoken = \"t\"\n")]
#[case::windows("# c\r\nconcurrent = 2 # d\r\n")]
#[case::byte_order_mark("\u{feff}concurrent = 2 # d\n")]
#[case::no_newline_at_the_end("concurrent = 2 # d")]
#[case::comments_alone("# c\n\n# d\n")]
#[case::dotted("session_server.session_timeout = 3 # d\n")]
#[case::tables_apart(
    "[[runners]]\nname = \"a\"\nurl = \"http://h\"\ntoken = \"t\"\n[session_server] # s\n[runners.docker] # d\nimage = \"x\"\n"
)]
fn other_forms_of_the_file_are_changed_too(#[case] text: &str) {
    let (_folder, path) = written(text);
    let before = crate::load(&path, &variables()).unwrap();
    let new = change(&path, |edit| edit.add_runner(entry("new")));
    let loaded = crate::load(&path, &variables()).unwrap();
    assert_eq!(
        loaded.config.runners.len(),
        before.config.runners.len() + 1,
        "{new}"
    );
    let last = loaded.config.runners.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.docker.image.as_deref()),
        ("new", Some("ruby:3.3"))
    );
    for comment in text.split('#').skip(1) {
        let comment = comment.split(['\r', '\n']).next().unwrap();
        assert!(new.contains(&format!("#{comment}")), "{new}");
    }
    assert_eq!(text.contains("\r\n"), new.contains("\r\n"));
    assert_eq!(text.starts_with('\u{feff}'), new.starts_with('\u{feff}'));
    let new = change(&path, |edit| {
        edit.replace_token(&last.clone(), &token("glrt-other"))?;
        Ok(())
    });
    assert!(new.contains("glrt-other"), "{new}");
    change(&path, |edit| {
        assert_eq!(edit.remove_runners(|runner| runner.name == "new")?, 1);
        Ok(())
    });
    let loaded = crate::load(&path, &variables()).unwrap();
    assert_eq!(loaded.config.runners.len(), before.config.runners.len());
}

#[test]
fn a_wrong_file_is_named_and_left_alone() {
    let (_folder, path) = written("concurrent = \"many\"\n");
    let error = edit(&path, &variables(), |edit| edit.add_runner(entry("x"))).unwrap_err();
    assert!(error.to_string().contains("config.toml:1:14"), "{error}");
    assert!(matches!(
        prove_writable(&path, &variables()).unwrap_err(),
        EditError::Config(_)
    ));
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "concurrent = \"many\"\n"
    );
}

#[test]
fn a_change_that_would_not_load_is_not_written() {
    let (_folder, path) = written(FULL);
    let mut bad = entry("bad");
    bad.set_text(&["docker", "memory"], "plenty");
    let error = edit(&path, &variables(), |edit| edit.add_runner(bad)).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), FULL);
}

#[test]
fn a_link_stays_a_link_also_one_that_leads_to_nothing_yet() {
    let (folder, path) = written(FULL);
    let link = folder.path().join("link.toml");
    symlink("config.toml", &link).unwrap();
    change(&link, |edit| edit.add_runner(entry("three")));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().contains("three"));

    let dangling = folder.path().join("dangling.toml");
    symlink("later/config.toml", &dangling).unwrap();
    change(&dangling, |edit| edit.add_runner(entry("four")));
    assert!(
        fs::read_to_string(folder.path().join("later/config.toml"))
            .unwrap()
            .contains("four")
    );
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn editors_at_once_lose_nothing() {
    let (_folder, path) = written(FULL);
    std::thread::scope(|scope| {
        for index in 0..8 {
            let path = &path;
            scope.spawn(move || {
                for turn in 0..5 {
                    let name = format!("r{index}-{turn}");
                    edit(path, &variables(), |edit| edit.add_runner(entry(&name))).unwrap();
                }
            });
        }
    });
    let loaded = crate::load(&path, &variables()).unwrap();
    assert_eq!(loaded.config.runners.len(), 2 + 40);
}

#[test]
fn a_file_whose_folder_takes_no_new_files_is_written_in_place() {
    let (folder, path) = written(FULL);
    let inode = fs::metadata(&path).unwrap().ino();
    let locked = Locked::take(&path).unwrap();
    let longer = FULL.to_owned() + "# more\n";
    locked
        .write_in_place(FULL.as_bytes(), longer.as_bytes())
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), longer);
    locked
        .write_in_place(longer.as_bytes(), b"# less\n")
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# less\n");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    drop(folder);
}

#[test]
fn a_token_that_could_not_be_saved_is_kept_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let runner = RunnerConfig {
        name: "one".to_owned(),
        ..RunnerConfig::default()
    };
    let state = folder.path().join("state");
    let path = keep_unsaved_token(&state, &runner, &token("glrt-\"new")).unwrap();
    assert!(path.starts_with(&state));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&path).unwrap();
    let table: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(table["token"].as_str(), Some("glrt-\"new"));
    assert!(text.contains("\"one\""), "{text}");
}

fn flag(long: &str, given: &[&str]) -> Result<RunnerEntry, EntryError> {
    let flag = runner_flags()
        .iter()
        .find(|flag| flag.long == long)
        .unwrap();
    let given: Vec<String> = given.iter().map(ToString::to_string).collect();
    let mut entry = RunnerEntry::new();
    entry.set_flag(flag, &given)?;
    entry.check()?;
    Ok(entry)
}

#[rstest]
#[case("limit", &["3"], "limit = 3")]
#[case("docker-privileged", &["true"], "privileged = true")]
#[case("docker-privileged", &["0"], "privileged = false")]
#[case("docker-volumes", &["/a", "/b:/c"], "volumes = [\"/a\", \"/b:/c\"]")]
#[case("docker-pull-policy", &["never"], "pull_policy = \"never\"")]
#[case("docker-pull-policy", &["always", "never"], "pull_policy = [\"always\", \"never\"]")]
#[case("docker-sysctls", &["{\"net.core.somaxconn\": \"1024\"}"], "sysctls = { \"net.core.somaxconn\" = \"1024\" }")]
#[case("docker-sysctls", &["{a = \"b\"}"], "sysctls = { a = \"b\" }")]
#[case("feature-flags", &["FF_NETWORK_PER_BUILD=true,FF_X=0"], "feature_flags = { FF_NETWORK_PER_BUILD = true, FF_X = false }")]
#[case("docker-services_devices", &["{\"redis:*\": [\"/dev/a\"]}"], "services_devices = { \"redis:*\" = [\"/dev/a\"] }")]
#[case("prepare-timeout", &["90s"], "prepare_timeout = \"90s\"")]
#[case("docker-memory", &["512m"], "memory = \"512m\"")]
#[case("env", &["A=1", "B=2,3"], "environment = [\"A=1\", \"B=2,3\"]")]
#[case("cache-s3-bucket-name", &["b"], "BucketName = \"b\"")]
fn flags_become_keys(#[case] long: &str, #[case] given: &[&str], #[case] line: &str) {
    let entry = flag(long, given).unwrap();
    let mut document = Document::parse("").unwrap();
    document.push_runner(entry.into_table()).unwrap();
    let text = document.to_text();
    assert!(
        text.lines().any(|found| found.trim() == line),
        "no {line:?} in\n{text}"
    );
}

#[rstest]
#[case("limit", &["many"], "--limit: \"many\" is no whole number")]
#[case("docker-privileged", &["maybe"], "--docker-privileged: \"maybe\" is neither true nor false")]
#[case("docker-memory", &["plenty"], "--docker-memory: ")]
#[case("docker-pull-policy", &["sometimes"], "--docker-pull-policy: ")]
#[case("docker-sysctls", &["{\"a\": null}"], "--docker-sysctls: ")]
#[case("docker-sysctls", &["a"], "--docker-sysctls: \"a\" is no name=value")]
#[case("prepare-timeout", &["soon"], "--prepare-timeout: ")]
fn values_that_are_none_are_named_by_their_flag(
    #[case] long: &str,
    #[case] given: &[&str],
    #[case] message: &str,
) {
    let error = flag(long, given).unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[test]
fn a_template_fills_what_the_flags_leave_open() {
    let template = br#"
concurrent = 7
[[runners]]
  token = "not-this-one"
  limit = 5
  request_concurrency = 2
  made_up = 1 # unknown
  [runners.docker]
    image = "template:1"
    privileged = true # needed
    volumes = ["/data"]
  [[runners.docker.services]]
    name = "redis"
  [runners.kubernetes]
    namespace = "x"
"#;
    let mut entry = RunnerEntry::new();
    entry.set_text(&["executor"], "docker");
    entry.set_text(&["docker", "image"], "flag:1");
    entry.put(&["limit"], 1.into());
    entry
        .merge_template(template, Path::new("template.toml"), &Placeholders::new())
        .unwrap();
    entry.add_cache_volume();
    let mut document = Document::parse("").unwrap();
    document.push_runner(entry.into_table()).unwrap();
    let text = document.to_text();
    for line in [
        "limit = 1",
        "request_concurrency = 2",
        "made_up = 1 # unknown",
        "image = \"flag:1\"",
        "privileged = true # needed",
        "volumes = [\"/data\", \"/cache\"]",
        "name = \"redis\"",
        "namespace = \"x\"",
    ] {
        assert!(
            text.lines().any(|found| found.trim() == line),
            "no {line:?} in\n{text}"
        );
    }
    assert!(
        !text.contains("not-this-one") && !text.contains("concurrent = 7"),
        "{text}"
    );
}

#[rstest]
#[case("concurrent = 1\n", "has 0")]
#[case("[[runners]]\n[[runners]]\n", "has 2")]
#[case("[[runners]\n", "couldn't load configuration template file")]
fn a_template_has_one_entry(#[case] template: &str, #[case] message: &str) {
    let error = RunnerEntry::new()
        .merge_template(
            template.as_bytes(),
            Path::new("t.toml"),
            &Placeholders::new(),
        )
        .unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
}

/// An entry of a made-up file, with comments wherever there may be some. Those inside begin with `in-<name>-`.
fn made_up_entry(name: usize, shape: u16) -> String {
    let has = |bit: u16| shape & (1 << bit) != 0;
    let mut parts: Vec<String> = Vec::new();
    let mut add = |part: &dyn std::fmt::Display| parts.push(part.to_string());
    if has(0) {
        add(&format_args!("# above-{name}\n"));
    }
    if has(1) {
        add(&format_args!("\n# above-{name}-close\n"));
    }
    add(&"[[runners]]");
    if has(2) {
        add(&format_args!(" # in-{name}-header"));
    }
    add(&format_args!("\n  name = \"r{name}\"\n"));
    if has(3) {
        add(&format_args!("  # in-{name}-before\n"));
    }
    add(&format_args!(
        "  url = \"http://$HOST\"\ntoken = 'glrt-{name}'"
    ));
    if has(4) {
        add(&format_args!(" # in-{name}-token"));
    }
    add(&"\n  executor = \"docker\"\n");
    if has(5) {
        add(&format_args!(
            "  unknown.key = [ # in-{name}-array\n    1, # in-{name}-item\n  ]\n"
        ));
    }
    if has(6) {
        add(&"  token_expires_at = 2026-02-01T00:00:00Z\n");
    }
    if has(7) {
        add(&format_args!(
            "\n  # in-{name}-docker\n  [runners.docker]\n    image = \"x\" # in-{name}-image\n"
        ));
    }
    if has(8) {
        add(&format_args!("\n\n# after-{name}\n"));
    }
    parts.concat()
}

/// The text under change, without a file.
fn opened<'a>(text: &str, path: &'a Path) -> Edit<'a> {
    Edit {
        path,
        document: Document::parse(text).unwrap(),
        config: parse(text, path, &variables()).unwrap().config,
    }
}

fn comments(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_once('#'))
        .map(|(_, comment)| comment.trim().to_owned())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// 150 files, ten edits each: over a thousand random edits that keep every comment but those inside a removed entry, in order.
    #[test]
    fn edits_keep_every_comment(
        shapes in prop::collection::vec(any::<u16>(), 0..5),
        edits in prop::collection::vec((0_u8..3, any::<prop::sample::Index>()), 10),
        server_last: bool,
    ) {
        let mut text = "# top\nconcurrent = 3 # slots\n".to_owned();
        for (name, shape) in shapes.iter().enumerate() {
            text.push_str(&made_up_entry(name, *shape));
        }
        if server_last {
            text += "# server\n[session_server] # header\nunknown = 1 # key\n";
        }
        text += "# end";
        let path = Path::new("config.toml");
        let mut expected = comments(&text);
        let mut next = 100;
        for (kind, index) in edits {
            let mut edit = opened(&text, path);
            let runners = edit.config().runners.clone();
            if kind == 0 || runners.is_empty() {
                edit.add_runner(entry(&format!("r{next}"))).unwrap();
                next += 1;
            } else {
                let runner = index.get(&runners).clone();
                if kind == 1 {
                    let new = format!("glrt-{next}");
                    next += 1;
                    edit.replace_token(&runner, &token(&new)).unwrap();
                } else {
                    edit.remove_runners(|other| other.name == runner.name).unwrap();
                    let inside = format!("in-{}-", runner.name.trim_start_matches('r'));
                    expected.retain(|comment| !comment.starts_with(&inside));
                }
            }
            text = edit.document.to_text();
            prop_assert_eq!(comments(&text), expected.clone(), "{}", text);
        }
    }
}
