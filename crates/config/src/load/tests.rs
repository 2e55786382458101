//! Whole files in, configuration, warnings and problems out.

mod problems;
mod values;
mod warnings;

use super::{Loaded, Placeholders, load, parse};
use crate::config::Config;
use crate::problem::ConfigError;
use crate::stamp::FileStamp;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// What config-toml §10 asks to accept unchanged.
const MINIMAL: &str = r#"concurrent = 4
check_interval = 0
shutdown_timeout = 0
[session_server]
  session_timeout = 1800
[[runners]]
  name = "host1"
  url = "https://gitlab.example.com"
  id = 12
  token = "glrt-XXXXXXXXXXXXXXXXXXXX"
  token_obtained_at = 2026-01-02T03:04:05Z
  token_expires_at = 0001-01-01T00:00:00Z
  executor = "docker"
  [runners.cache]
    MaxUploadedArchiveSize = 0
    [runners.cache.s3]
      AssumeRoleMaxConcurrency = 0
    [runners.cache.gcs]
    [runners.cache.azure]
  [runners.feature_flags]
    FF_NETWORK_PER_BUILD = true
  [runners.docker]
    tls_verify = false
    image = "alpine:3.20"
    volumes = ["/cache"]
"#;

/// Lines every usable runner needs.
const RUNNER: &str = "[[runners]]\nname = \"host1\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-abcdefghijkl\"\nexecutor = \"docker\"\n";

fn try_parse(text: &str) -> Result<Loaded, ConfigError> {
    parse(
        text,
        Path::new("/etc/gitlab-runner/config.toml"),
        &Placeholders::new(),
    )
}

/// A file that must load.
fn loaded(text: &str) -> Loaded {
    try_parse(text).unwrap_or_else(|error| panic!("{error}\nin:\n{text}"))
}

/// A runner with these lines in its entry.
fn with_runner(lines: &str) -> String {
    format!("{RUNNER}{lines}\n")
}

/// A runner with these lines in its docker table.
fn with_docker(lines: &str) -> String {
    format!("{RUNNER}[runners.docker]\n{lines}\n")
}

#[test]
fn a_missing_file_is_an_empty_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(&folder.path().join("config.toml"), &Placeholders::new()).unwrap();
    assert_eq!(
        (
            loaded.config.concurrent,
            loaded.config.runners.len(),
            loaded.stamp
        ),
        (1, 0, None)
    );
}

#[test]
fn an_empty_file_is_an_empty_configuration() {
    let config = loaded("").config;
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn a_file_is_read_with_its_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, MINIMAL).unwrap();
    let loaded = load(&path, &Placeholders::new()).unwrap();
    assert_eq!(loaded.config.concurrent, 4);
    assert_eq!(loaded.stamp, FileStamp::of(&path).ok());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(folder.path(), &Placeholders::new()).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(
        error
            .to_string()
            .starts_with(&format!("read {}: ", folder.path().display())),
        "{error}"
    );
}

#[test]
fn a_byte_order_mark_is_no_problem() {
    assert_eq!(loaded("\u{feff}concurrent = 7\r\n").config.concurrent, 7);
}

#[test]
fn a_thousand_runners_load() {
    let text = (0..1000)
        .map(|n| with_docker("image = \"alpine\"").replace("host1", &format!("host{n}")))
        .collect::<String>();
    let loaded = loaded(&text);
    assert_eq!(
        (loaded.config.runners.len(), loaded.warnings.len()),
        (1000, 0)
    );
    assert_eq!(
        (
            loaded.config.runners[999].name.as_str(),
            loaded.config.runners[999].line
        ),
        ("host999", 999 * 7 + 1)
    );
}

#[test]
fn a_configuration_does_not_show_its_secrets() {
    let text = format!(
        "sentry_dsn = \"https://hunter2@sentry\"\n{}",
        with_runner(
            "environment = [\"PASSWORD=hunter2\"]\n[runners.cache.s3]\nSecretKey = \"hunter2\""
        )
        .replace("glrt-abcdefghijkl", "glrt-hunter2")
    );
    let loaded = loaded(&text);
    let shown = format!(
        "{loaded:?} {}",
        serde_json::to_string(&*loaded.config.runners[0]).unwrap()
    );
    assert!(
        !shown.contains("hunter2") && shown.contains("PASSWORD"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn any_bytes_load_or_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes, Path::new("x"), &Placeholders::new()));
    }

    #[test]
    fn any_toml_like_text_loads_or_is_an_error(text in "(\\[{0,2}[a-z.]{0,8}\\]{0,2}|[ -~é\n]{0,20}|[a-z_]{1,10} = [ -~é]{0,12}|\n){0,12}") {
        if let Err(error) = try_parse(&text) {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// Every key with every sort of value: wrong types are found, none of them panics, none is passed over.
    #[test]
    fn any_value_for_any_known_key_loads_or_is_an_error_with_its_line(
        section in 0..6_usize,
        key in 0..80_usize,
        value in prop_oneof![
            Just("true".to_owned()), Just("-1".to_owned()), Just("0".to_owned()), Just("9223372036854775808".to_owned()),
            Just("1.5".to_owned()), Just("inf".to_owned()), Just("\"\"".to_owned()), Just("'x'".to_owned()), Just("\"1h\"".to_owned()),
            Just("[]".to_owned()), Just("[1]".to_owned()), Just("['', 'a']".to_owned()), Just("[[]]".to_owned()), Just("[{}]".to_owned()),
            Just("{}".to_owned()), Just("{ a = 1 }".to_owned()), Just("{ a = 'b' }".to_owned()), Just("{ a = [] }".to_owned()),
            Just("1979-05-27".to_owned()), Just("07:32:00".to_owned()), "[ -~]{0,10}".prop_map(|text| format!("{text:?}")),
        ],
    ) {
        let path = ["", "session_server", "runners", "runners.cache.s3", "runners.docker", "gantry"][section];
        let section = section_at(path);
        let key = &section.keys[key % section.keys.len()];
        let header = match path {
            "" => String::new(),
            "runners" => "[[runners]]\nexecutor = \"docker\"\n".to_owned(),
            path if path.starts_with("runners") => format!("[[runners]]\nexecutor = \"docker\"\n[{path}]\n"),
            path => format!("[{path}]\n"),
        };
        prop_assume!(key.name != "executor");
        let line = header.lines().count() + 1;
        if let Err(error) = try_parse(&format!("{header}{} = {value}\n", key.name)) {
            for problem in error.problems() {
                prop_assert_eq!(problem.line, line, "{}", error);
                prop_assert!(problem.key.is_empty() || problem.key.contains(key.name), "{}", error);
            }
        }
    }
}

fn section_at(path: &str) -> &'static crate::keys::Section {
    use crate::keys::{Kind, ROOT};
    path.split('.')
        .filter(|part| !part.is_empty())
        .fold(&ROOT, |section, name| {
            match section.find(name).unwrap().kind {
                Kind::Table(inner) | Kind::Tables(inner) => inner,
                _ => panic!("{name} is no table"),
            }
        })
}

/// A device that never ends is no configuration.
#[cfg(target_os = "linux")]
#[test]
fn a_file_without_an_end_is_refused() {
    let error = load(Path::new("/dev/zero"), &Placeholders::new()).unwrap_err();
    assert!(error.to_string().contains("more than 16 MB"), "{error}");
}

#[test]
fn a_seccomp_profile_is_read_from_its_file_and_other_security_options_stay() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile.json");
    std::fs::write(&profile, "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n").unwrap();
    let options = format!(
        "services_security_opt = ['seccomp={}', 'seccomp=unconfined', 'seccomp={{}}', 'label:disable']",
        profile.display()
    );
    let docker = &loaded(&with_docker(&options)).config.runners[0].docker;
    assert_eq!(
        docker.services_security_opt,
        [
            "seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}",
            "seccomp=unconfined",
            "seccomp={}",
            "label:disable"
        ]
    );
    std::fs::write(&profile, "[").unwrap();
    let error = try_parse(&with_docker(&options)).unwrap_err();
    let name = profile.display();
    assert!(
        error
            .to_string()
            .contains(&format!("seccomp profile {name} is not valid JSON: ")),
        "{error}"
    );
}

#[test]
fn a_folder_for_cache_volumes_is_absolute() {
    let folder = |text: &str| {
        let loaded = loaded(&with_docker(&format!("cache_dir = '{text}'")));
        loaded.config.runners[0].docker.cache_dir.clone()
    };
    assert_eq!(folder("/srv/cache").as_deref(), Some("/srv/cache"));
    let here = std::env::current_dir().unwrap();
    let below = here.join("caches").display().to_string();
    assert_eq!(folder("caches"), Some(below));
    assert_eq!(folder(""), None);
}
