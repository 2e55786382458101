//! From a checked [`Tree`] to a [`Config`]: defaults, clamps, placeholders, and what only several keys together tell.

mod cache;
mod docker;
mod monitoring;
mod runner;
mod session_server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    Config, GantryConfig, IgnoreUnsupported, LogDriver, LogFormat, LogLevel, Naming, OnStop,
};
use crate::duration::GoDuration;
use crate::excerpt::{Lines, Shown};
use crate::findings::Findings;
use crate::load::Placeholders;
use crate::problem::ProblemKind;
use crate::tree::Tree;

/// Most labels a runner may have, the global ones included (config-toml §2).
const MOST_LABELS: usize = 32;

/// Reads a whole file.
pub(crate) fn config(
    tree: &Tree,
    text: &str,
    placeholders: &Placeholders,
    findings: &mut Findings,
) -> Config {
    let default = Config::default();
    let labels = labels(tree, "", &BTreeMap::new(), findings);
    let lines = Lines::new(text);
    let runners = tree.tables("runners").iter().enumerate();
    let runners = runners.map(|(index, entry)| {
        let mut runner = runner::entry(entry, index, &labels, placeholders, findings);
        runner.line = lines.line(entry.at);
        Arc::new(runner)
    });
    let runners: Vec<_> = runners.collect();
    let gantry = tree
        .table("gantry")
        .map_or_else(GantryConfig::default, gantry);
    if gantry.shared_local_cache {
        for ((index, entry), runner) in tree.tables("runners").iter().enumerate().zip(&runners) {
            docker::shared_cache(entry, index, runner, findings);
        }
    }
    Config {
        concurrent: concurrent(tree, findings),
        check_interval: tree
            .count("check_interval")
            .map_or(default.check_interval, Duration::from_secs),
        log_level: LogLevel::from_name(tree.string("log_level")).unwrap_or(default.log_level),
        log_format: LogFormat::from_name(tree.string("log_format")).unwrap_or(default.log_format),
        listen_address: tree.text("listen_address"),
        shutdown_timeout: tree
            .count("shutdown_timeout")
            .map_or(default.shutdown_timeout, Duration::from_secs),
        connection_max_age: tree
            .duration("connection_max_age")
            .map_or(default.connection_max_age, GoDuration::positive),
        session_server: tree
            .table("session_server")
            .map(|table| session_server::section(table, findings))
            .unwrap_or_default(),
        gantry,
        labels,
        runners,
    }
}

fn concurrent(tree: &Tree, findings: &mut Findings) -> usize {
    let Some(slots) = tree.int("concurrent") else {
        return 1;
    };
    if slots < 1 {
        let message = format!(
            "'concurrent = {slots}' means that no jobs will be processed: set it to at least 1"
        );
        findings.problem(
            ProblemKind::NoJobSlots,
            tree.at("concurrent"),
            "concurrent".to_owned(),
            Shown::Plain,
            message,
        );
    }
    usize::try_from(slots).unwrap_or(1)
}

fn gantry(tree: &Tree) -> GantryConfig {
    let default = GantryConfig::default();
    GantryConfig {
        state_dir: tree.text("state_dir").map(PathBuf::from),
        on_stop: OnStop::from_name(tree.string("on_stop")).unwrap_or_default(),
        ignore_unsupported: match (
            tree.bool("ignore_unsupported"),
            tree.list("ignore_unsupported"),
        ) {
            (Some(true), _) => IgnoreUnsupported::Everything,
            (_, []) => IgnoreUnsupported::Nothing,
            (_, keywords) => IgnoreUnsupported::Keywords(keywords.iter().cloned().collect()),
        },
        compatible_version: tree
            .text("compatible_version")
            .unwrap_or(default.compatible_version),
        compatible_revision: tree.text("compatible_revision"),
        log_driver: LogDriver::from_name(tree.string("log_driver")).unwrap_or_default(),
        link_variables: tree
            .bool("link_variables")
            .unwrap_or(default.link_variables),
        naming: Naming::from_name(tree.string("naming")).unwrap_or_default(),
        shared_local_cache: tree.bool("shared_local_cache").unwrap_or(false),
        nested_variables: tree.bool("nested_variables").unwrap_or(false),
        s3_multipart: tree.bool("s3_multipart").unwrap_or(true),
        mask_encoded: tree.bool("mask_encoded").unwrap_or(true),
        terminal_after_script: tree.bool("terminal_after_script").unwrap_or(false),
        helper_binary: tree
            .texts("helper_binary")
            .into_iter()
            .map(|(arch, path)| (arch, PathBuf::from(path)))
            .collect(),
    }
}

/// The labels of `tree` over `inherited`; `prefix` is the path of `tree` with a dot.
fn labels(
    tree: &Tree,
    prefix: &str,
    inherited: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    let mut labels = inherited.clone();
    labels.extend(tree.texts("labels"));
    let key = || format!("{prefix}labels");
    let at = tree.at("labels");
    for (label, value) in tree.texts("labels") {
        let key = || format!("{prefix}labels.{label}");
        if !is_label_name(&label) {
            let message = "a label name has 3 to 65 letters, digits, dots, dashes and underscores, and begins with none but letter, digit or underscore";
            findings.problem(ProblemKind::Value, at, key(), Shown::Plain, message);
        }
        if !is_label_value(&value) {
            let message =
                "a label value has 1 to 256 letters, digits, dots, dashes and underscores";
            findings.problem(ProblemKind::Value, at, key(), Shown::Plain, message);
        }
    }
    if labels.len() > MOST_LABELS {
        let message = format!(
            "{} labels, the global ones included: at most {MOST_LABELS} are allowed",
            labels.len()
        );
        findings.problem(ProblemKind::Value, at, key(), Shown::Plain, message);
    }
    labels
}

/// `^[a-zA-Z0-9_][a-zA-Z0-9._-]{2,64}$`
fn is_label_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric());
    begins && (3..=65).contains(&text.len()) && text.bytes().all(is_label_byte)
}

/// `^[a-zA-Z0-9._-]{1,256}$`
fn is_label_value(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(is_label_byte)
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}
