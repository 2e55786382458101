use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::{Explained, Origin, explain, toml_text};
use crate::config::{Config, PullPolicy};
use crate::keys::{Kind, all};
use crate::load::{Placeholders, parse};

const FILE: &str = r#"# a comment
concurrent = 4
check_interval = 0
Log_Level = "debug"
connection_max_age = "0s"
[labels]
zone = "eu"
[[runners]]
  name = "host1"
  url = "https://me:hunter2@${HOST}/"
  token = "$TOKEN"
  executor = "docker"
  environment = ["PASSWORD=hunter2", "odd"]
  pre_build_script = "login hunter2"
  clean_git_config = false
  limit = -1
  labels = { kind = "big" }
  [runners.docker]
    image = "alpine"
    memory = "512m"
    volumes = ["/cache", "/a:/b"]
    services = [{ name = "redis", alias = "r" }]
  [runners.machine]
    MachineOptions = ["password=hunter2"]
[[runners]]
  executor = "shell"
"#;

fn rows(text: &str, environment: &[(&str, &str)]) -> Vec<Explained> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    explain(text, Path::new("config.toml"), &environment).unwrap()
}

fn row<'a>(rows: &'a [Explained], path: &str) -> &'a Explained {
    rows.iter()
        .find(|row| row.path == path)
        .unwrap_or_else(|| panic!("no row {path}"))
}

#[test]
fn a_value_of_the_file_has_its_line() {
    let rows = rows(FILE, &[]);
    let found = |path: &str| {
        let row = row(&rows, path);
        (toml_text(&row.value), row.from)
    };
    let line = |line| Origin::File { line };
    assert_eq!(found("concurrent"), ("4".to_owned(), line(2)));
    assert_eq!(found("log_level"), ("\"debug\"".to_owned(), line(4)));
    assert_eq!(found("connection_max_age"), ("\"0s\"".to_owned(), line(5)));
    assert_eq!(
        found("runners[0].clean_git_config"),
        ("false".to_owned(), line(15))
    );
    assert_eq!(
        found("runners[0].docker.memory"),
        ("\"512m\"".to_owned(), line(20))
    );
    assert_eq!(
        found("runners[0].docker.volumes"),
        (r#"["/cache", "/a:/b"]"#.to_owned(), line(21))
    );
    assert_eq!(
        found("runners[0].docker.services[0].alias"),
        ("\"r\"".to_owned(), line(22))
    );
    assert_eq!(
        row(&rows, "runners[0].docker.image")
            .runner
            .as_ref()
            .unwrap()
            .name,
        "host1"
    );
    assert_eq!(
        row(&rows, "runners[1].docker.image")
            .runner
            .as_ref()
            .unwrap()
            .index,
        1
    );
}

#[test]
fn what_the_file_does_not_say_is_the_default() {
    let rows = rows(FILE, &[]);
    let interval = row(&rows, "check_interval");
    assert_eq!(
        (&interval.value, interval.from, interval.unset_at),
        (&json!(3), Origin::Default, Some(3))
    );
    let limit = row(&rows, "runners[0].limit");
    assert_eq!(
        (&limit.value, limit.from, limit.unset_at),
        (&json!(0), Origin::Default, Some(16))
    );
    assert_eq!(
        row(&rows, "runners[0].docker.pull_policy").value,
        json!("always")
    );
    assert_eq!(row(&rows, "runners[0].docker.host").value, json!(null));
    assert_eq!(row(&rows, "gantry.on_stop").value, json!("stop"));
    assert_eq!(row(&rows, "gantry.ignore_unsupported").value, json!(false));
}

#[test]
fn variables_have_their_say_over_and_under_the_file() {
    let environment = [
        ("LOG_LEVEL", "error"),
        ("STATE_DIRECTORY", "/var/lib/gantry"),
        ("DOCKER_HOST", "tcp://engine:2375"),
        ("LISTEN_ADDRESS", ""),
    ];
    let of_file = rows(FILE, &environment);
    let found = |path: &str| {
        let row = row(&of_file, path);
        (row.value.clone(), row.from)
    };
    assert_eq!(
        found("log_level"),
        (json!("error"), Origin::Variable("LOG_LEVEL"))
    );
    assert_eq!(
        found("gantry.state_dir"),
        (
            json!("/var/lib/gantry"),
            Origin::Variable("STATE_DIRECTORY")
        )
    );
    assert_eq!(
        found("runners[0].docker.host"),
        (json!("tcp://engine:2375"), Origin::Variable("DOCKER_HOST"))
    );
    assert_eq!(found("listen_address"), (json!(null), Origin::Default));
    let own = rows("[gantry]\nstate_dir = 'own'\n", &environment);
    assert_eq!(row(&own, "gantry.state_dir").from, Origin::File { line: 2 });
}

#[test]
fn placeholders_are_expanded_and_named() {
    let rows = rows(
        FILE,
        &[("HOST", "gitlab.example.com"), ("TOKEN", "glrt-hunter2")],
    );
    let url = row(&rows, "runners[0].url");
    assert_eq!(url.value, json!("https://[MASKED]@gitlab.example.com/"));
    assert_eq!(url.placeholders, ["HOST"]);
    assert_eq!(row(&rows, "runners[0].token").placeholders, ["TOKEN"]);
}

#[test]
fn secrets_are_not_shown() {
    let environment = [
        ("HOST", "h"),
        ("TOKEN", "glrt-hunter2"),
        ("SENTRY_DSN", "https://hunter2@sentry"),
        ("DOCKER_HOST", "tcp://me:hunter2@engine:2375"),
    ];
    let rows = rows(FILE, &environment);
    let shown = format!("{rows:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(
        row(&rows, "runners[0].environment").value,
        json!(["PASSWORD=[MASKED]", "[MASKED]"])
    );
    assert_eq!(row(&rows, "runners[0].token").value, json!("[MASKED]"));
}

#[test]
fn labels_of_a_runner_are_the_global_ones_too() {
    let rows = rows(FILE, &[]);
    assert_eq!(
        row(&rows, "runners[0].labels").value,
        json!({"zone": "eu", "kind": "big"})
    );
    let other = row(&rows, "runners[1].labels");
    assert_eq!(
        (&other.value, other.from),
        (&json!({"zone": "eu"}), Origin::Default)
    );
}

#[test]
fn without_a_file_all_keys_are_there_once() {
    let rows = rows("", &[]);
    let mut paths: Vec<_> = rows.iter().map(|row| row.path.clone()).collect();
    let expected: Vec<_> = all()
        .into_iter()
        .filter(|(_, key)| !matches!(key.kind, Kind::Table(_) | Kind::Tables(_)))
        .map(|(section, key)| section.path_of(key))
        .collect();
    assert_eq!(paths.len(), expected.len());
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), expected.len());
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_with_its_line() {
    let error = explain(
        "\nconcurrent = 'x'",
        Path::new("config.toml"),
        &Placeholders::new(),
    );
    assert!(error.unwrap_err().to_string().starts_with("config.toml:2:"));
}

/// All values in effect, written out. What is masked stands in `text` and is taken over by `secret`.
fn effective_text(rows: &[Explained], secret: impl Fn(&Explained) -> String) -> String {
    let mut text = String::new();
    let mut entry = None;
    for row in rows {
        let index = row.runner.as_ref().map(|runner| runner.index);
        if index != entry {
            text.push_str("[[runners]]\n");
            entry = index;
        }
        let free = matches!(row.key.kind, Kind::AnyTable | Kind::AnyTables);
        let table_in_array = row.section.path == "runners.docker.services";
        // An entry's own labels hold the global ones already.
        if free || table_in_array || row.value.is_null() || row.path == "labels" {
            continue;
        }
        let name = match row.path.split_once("].") {
            Some((_, name)) => name,
            None => &row.path,
        };
        let value = if row.key.secret {
            secret(row)
        } else {
            toml_text(&row.value)
        };
        writeln!(text, "{name} = {value}").unwrap();
    }
    text
}

/// `Debug` of a configuration without the lines entries stand on, and with defaults where their users would fill them in.
fn compared(config: &Config) -> String {
    let mut config = config.clone();
    config.labels.clear();
    for runner in &mut config.runners {
        let runner = std::sync::Arc::make_mut(runner);
        runner.line = 0;
        runner.clean_git_config.get_or_insert(true);
        runner.safe_directory_checkout.get_or_insert(true);
        runner.custom_build_dir.enabled.get_or_insert(true);
        for (domain, default) in [
            (&mut runner.cache.gcs.universe_domain, "googleapis.com"),
            (
                &mut runner.cache.azure.storage_domain,
                "blob.core.windows.net",
            ),
        ] {
            if domain.is_empty() {
                default.clone_into(domain);
            }
        }
        if runner.docker.pull_policy.is_empty() {
            runner.docker.pull_policy = vec![PullPolicy::Always];
        }
    }
    format!("{config:#?}")
}

/// Any value for a key that loads.
fn some_value(kind: Kind, number: i64) -> String {
    match kind {
        Kind::Bool => (number % 2 == 0).to_string(),
        Kind::Int | Kind::Count => number.to_string(),
        Kind::Bytes => number.unsigned_abs().to_string(),
        Kind::Time => "2026-01-02T03:04:05Z".to_owned(),
        Kind::Duration => format!("\"{number}m\""),
        Kind::List | Kind::FilledList => "[\"a=b\", \"/c\"]".to_owned(),
        Kind::Texts => "{ abc = \"d\" }".to_owned(),
        Kind::Flags => "{ FF_TIMESTAMPS = false }".to_owned(),
        Kind::Size => format!("\"{}m\"", number.unsigned_abs() + 1),
        Kind::Cpus => "\"1/3\"".to_owned(),
        Kind::Policies => "[\"never\", \"always\"]".to_owned(),
        Kind::PolicyList => "[\"never\"]".to_owned(),
        Kind::OneOf(names) | Kind::OneOfAnyCase(names) => format!("{:?}", names[1]),
        Kind::Keywords => "[\"cache\"]".to_owned(),
        Kind::Version => "\"18.1.0\"".to_owned(),
        Kind::Text => "\"text\"".to_owned(),
        Kind::Numbers | Kind::Lists => String::new(),
        Kind::Table(_) | Kind::Tables(_) | Kind::AnyTable | Kind::AnyTables => String::new(),
    }
}

proptest! {
    /// What is shown as in effect is in effect: written out it reads as the same configuration.
    #[test]
    fn values_in_effect_written_out_read_as_the_same_configuration(
        chosen in proptest::collection::vec((0..400_usize, -2..4_i64), 0..25),
    ) {
        let keys = all();
        let mut global = String::new();
        let mut runner = "[[runners]]\nexecutor = \"docker\"\nurl = \"https://gitlab.example.com\"\ntoken = \"t\"\n".to_owned();
        let mut seen = std::collections::BTreeSet::new();
        for (which, number) in chosen {
            let (section, key) = keys[which % keys.len()];
            let path = section.path_of(key);
            let value = some_value(key.kind, number);
            let fixed = ["concurrent", "runners.executor", "runners.url", "runners.token"];
            if value.is_empty() || section.path == "runners.docker.services" || fixed.contains(&path.as_str()) || !seen.insert(path.clone()) {
                continue;
            }
            match path.strip_prefix("runners.") {
                Some(name) => writeln!(runner, "{name} = {value}").unwrap(),
                None => writeln!(global, "{path} = {value}").unwrap(),
            }
        }
        let text = format!("{global}{runner}");
        let Ok(loaded) = parse(&text, Path::new("x"), &Placeholders::new()) else {
            return Ok(());
        };
        let rows = explain(&text, Path::new("x"), &Placeholders::new()).unwrap();
        let again = effective_text(&rows, |row| {
            let name = row.key.name;
            let lines = text.lines().filter_map(|line| line.split_once(" = "));
            lines.filter(|(key, _)| *key == row.path || row.path.ends_with(&format!("].{key}")))
                .map(|(_, value)| value.to_owned())
                .next()
                .unwrap_or_else(|| panic!("{name} is not in the text"))
        });
        let again = parse(&again, Path::new("x"), &Placeholders::new())
            .unwrap_or_else(|error| panic!("{error}\nin\n{again}\nof\n{text}"));
        prop_assert_eq!(compared(&loaded.config), compared(&again.config));
    }
}
