use super::{Key, Kind, ROOT, Reload, Section, Support, all};
use crate::{Placeholders, parse};
use std::collections::BTreeSet;
use std::path::Path;

/// Every section of the table.
fn sections() -> Vec<&'static Section> {
    let mut all = vec![&ROOT];
    let mut next = 0;
    while next < all.len() {
        for key in all[next].keys {
            if let Kind::Table(section) | Kind::Tables(section) = key.kind {
                all.push(section);
            }
        }
        next += 1;
    }
    all
}

#[test]
fn keys_of_a_section_differ_by_more_than_case() {
    for section in sections() {
        let names: BTreeSet<_> = section
            .keys
            .iter()
            .map(|key| key.name.to_ascii_lowercase())
            .collect();
        assert_eq!(names.len(), section.keys.len(), "[{}]", section.path);
    }
}

#[test]
fn paths_of_sections_are_where_they_hang() {
    for section in sections() {
        for key in section.keys {
            if let Kind::Table(child) | Kind::Tables(child) = key.kind {
                let path = [section.path, key.name]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join(".");
                assert_eq!(child.path, path);
            }
        }
    }
}

#[test]
fn every_key_says_what_it_does() {
    for (section, key) in sections()
        .into_iter()
        .flat_map(|section| section.keys.iter().map(move |key| (section, key)))
    {
        assert!(
            !key.what.is_empty() && !key.what.ends_with('.'),
            "[{}] {}",
            section.path,
            key.name
        );
    }
}

#[test]
fn a_key_that_acts_with_another_names_one_that_exists() {
    let names: BTreeSet<_> = sections()
        .iter()
        .flat_map(|section| section.keys)
        .map(|key| key.name)
        .collect();
    for key in sections().iter().flat_map(|section| section.keys) {
        if let Support::With(other) = key.support {
            assert!(names.contains(other), "{} acts with {other}", key.name);
        }
    }
}

/// `key = <default>` as TOML, where the key has a default.
fn default_line(key: &Key) -> Option<String> {
    if key.default.is_empty() {
        return None;
    }
    let bare = matches!(
        key.kind,
        Kind::Bool | Kind::Int | Kind::Count | Kind::Bytes | Kind::Keywords
    );
    Some(if bare {
        format!("{} = {}\n", key.name, key.default)
    } else {
        format!("{} = {:?}\n", key.name, key.default)
    })
}

#[test]
fn defaults_written_out_load_without_a_word() {
    let mut text = String::new();
    for section in sections() {
        let header = match section.path {
            "" => String::new(),
            "runners" => "[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"t\"\nexecutor = \"docker\"\n".to_owned(),
            "runners.docker.services" | "runners.monitoring.job_queuing_durations" => continue,
            path => format!("[{path}]\n"),
        };
        text.push_str(&header);
        text.extend(section.keys.iter().filter_map(default_line));
    }
    let loaded = parse(&text, Path::new("config.toml"), &Placeholders::new()).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.unknown_keys, []);
    let said = format!("{:?}", loaded.config.runners[0].docker);
    assert!(said.contains("pull_policy: [Always]"), "{said}");
}

#[test]
fn what_takes_effect_at_the_next_start_is_marked_and_noticed() {
    let text = "listen_address = ':9252'\n[session_server]\nlisten_address = 'a:1'\nadvertise_address = 'b:1'\n[gantry]\nstate_dir = 'a'\ncompatible_version = '18.0.0'\n\
                compatible_revision = 'b'\nlog_driver = 'local'\nlink_variables = false\nnaming = 'compatible'\nshared_local_cache = true\nnested_variables = true\nmask_encoded = false\ns3_multipart = false\nhelper_binary = { arm64 = 'c' }\n";
    let parse = |text: &str| parse(text, Path::new("config.toml"), &Placeholders::new()).unwrap();
    let (old, new) = (parse("").config, parse(text).config);
    let mut noticed = old.waits_for_restart(&new);
    assert_eq!(old.waits_for_restart(&old), Vec::<&str>::new());
    let mut marked: Vec<_> = all()
        .into_iter()
        .filter(|(_, key)| key.reload == Reload::Restart)
        .map(|(section, key)| section.path_of(key))
        .collect();
    noticed.sort_unstable();
    marked.sort();
    assert_eq!(noticed, marked);
}
