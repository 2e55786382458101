//! One `[[runners]]` entry.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::{
    CacheConfig, CustomBuildDir, DockerConfig, Environment, Executor, RunnerConfig, Skip,
};
use crate::duration::GoDuration;
use crate::expand::expand;
use crate::findings::Findings;
use crate::load::Placeholders;
use crate::problem::WarningKind;
use crate::tree::Tree;

/// Shells whose scripts this version writes.
const SHELLS: [&str; 2] = ["bash", "sh"];

/// Reads entry `index`; `labels` are the global ones.
pub(super) fn entry(
    tree: &Tree,
    index: usize,
    labels: &BTreeMap<String, String>,
    placeholders: &Placeholders,
    findings: &mut Findings,
) -> RunnerConfig {
    findings.runner = Some(tree.string("name").to_owned());
    let reader = Reader {
        tree,
        path: format!("runners[{index}]"),
        placeholders,
    };
    let runner = reader.runner(labels, findings);
    findings.runner = None;
    runner
}

struct Reader<'a> {
    tree: &'a Tree,
    path: String,
    placeholders: &'a Placeholders,
}

impl Reader<'_> {
    fn runner(&self, global: &BTreeMap<String, String>, findings: &mut Findings) -> RunnerConfig {
        let (tree, default) = (self.tree, RunnerConfig::default());
        let executor = Executor::from(tree.string("executor").to_owned());
        if executor != Executor::Docker {
            self.warn(
                findings,
                WarningKind::RunnerSkipped,
                "executor",
                other_executor(&executor),
            );
            let skip = Some(Skip::OtherExecutor);
            return RunnerConfig {
                executor,
                skip,
                ..self.identity().0
            };
        }
        let (identity, unset) = self.identity();
        let skip = self.usable(&identity, &unset, findings);
        if let Some(shell) = tree
            .text("shell")
            .filter(|shell| !SHELLS.contains(&shell.as_str()))
        {
            let message = format!(
                "{shell:?} is not supported yet, only {} are: jobs will fail",
                SHELLS.join(" and ")
            );
            self.warn(findings, WarningKind::NotSupportedYet, "shell", message);
        }
        let count = |key: &str, default: u32| {
            tree.count(key)
                .map_or(default, |count| u32::try_from(count).unwrap_or(u32::MAX))
        };
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let positive = |tree: Option<&Tree>, key: &str| {
            tree.and_then(|tree| tree.duration(key))
                .and_then(GoDuration::positive)
        };
        let artifact = tree.table("artifact");
        RunnerConfig {
            limit: tree.count("limit").map(size),
            request_concurrency: tree
                .count("request_concurrency")
                .map_or(default.request_concurrency, size),
            strict_check_interval: tree.flag("strict_check_interval"),
            output_limit: tree
                .count("output_limit")
                .map_or(default.output_limit, |kib| kib.saturating_mul(1024)),
            unhealthy_requests_limit: count(
                "unhealthy_requests_limit",
                default.unhealthy_requests_limit,
            ),
            unhealthy_interval: tree
                .duration("unhealthy_interval")
                .map_or(default.unhealthy_interval, |interval| {
                    interval.positive().unwrap_or(Duration::ZERO)
                }),
            job_status_final_update_retry_limit: count(
                "job_status_final_update_retry_limit",
                default.job_status_final_update_retry_limit,
            ),
            prepare_timeout: self.stage_limit("prepare_timeout", findings),
            get_sources_timeout: self.stage_limit("get_sources_timeout", findings),
            executor,
            builds_dir: tree.text("builds_dir").unwrap_or(default.builds_dir),
            cache_dir: tree.text("cache_dir").unwrap_or(default.cache_dir),
            environment: environment(self.tree, &self.path, findings),
            shell: tree.text("shell"),
            pre_get_sources_script: tree.string("pre_get_sources_script").to_owned(),
            post_get_sources_script: tree.string("post_get_sources_script").to_owned(),
            pre_build_script: tree.string("pre_build_script").to_owned(),
            post_build_script: tree.string("post_build_script").to_owned(),
            debug_trace_disabled: tree.flag("debug_trace_disabled"),
            safe_directory_checkout: tree.bool("safe_directory_checkout"),
            clean_git_config: tree.bool("clean_git_config"),
            labels: super::labels(tree, &format!("{}.", self.path), global, findings),
            feature_flags: tree.flags("feature_flags"),
            custom_build_dir: CustomBuildDir {
                enabled: tree
                    .table("custom_build_dir")
                    .and_then(|table| table.bool("enabled")),
            },
            artifact_upload_timeout: positive(artifact, "upload_timeout")
                .unwrap_or(default.artifact_upload_timeout),
            artifact_response_header_timeout: positive(artifact, "response_header_timeout")
                .unwrap_or(default.artifact_response_header_timeout),
            cache: tree
                .table("cache")
                .map_or_else(CacheConfig::default, super::cache::cache),
            job_queuing_durations: super::monitoring::job_queuing_durations(
                tree, &self.path, findings,
            ),
            docker: tree
                .table("docker")
                .map_or_else(DockerConfig::default, |table| {
                    super::docker::docker(table, &format!("{}.docker", self.path), findings)
                }),
            skip,
            ..identity
        }
    }

    /// Who the runner is and where its jobs come from, and the placeholders of token and url that are not set.
    fn identity(&self) -> (RunnerConfig, Unset) {
        let tree = self.tree;
        let token = expand(tree.string("token"), self.placeholders);
        let url = expand(tree.string("url"), self.placeholders);
        let path = |key: &str| tree.text(key).map(PathBuf::from);
        let runner = RunnerConfig {
            name: tree.string("name").to_owned(),
            url: url.text.trim().trim_end_matches('/').to_owned(),
            id: tree.int("id").unwrap_or(0),
            token: SecretString::from(token.text),
            token_obtained_at: tree.time("token_obtained_at"),
            token_expires_at: tree.time("token_expires_at"),
            tls_ca_file: path("tls-ca-file"),
            tls_cert_file: path("tls-cert-file"),
            tls_key_file: path("tls-key-file"),
            clone_url: tree.text("clone_url"),
            ..RunnerConfig::default()
        };
        let ci = runner.url.strip_suffix("/ci").map(ToOwned::to_owned);
        let unset = Unset {
            token: token.unset,
            url: url.unset,
            ci: ci.is_some(),
        };
        (
            RunnerConfig {
                url: ci.unwrap_or(runner.url),
                ..runner
            },
            unset,
        )
    }

    /// Whether jobs can be asked for at all.
    fn usable(
        &self,
        runner: &RunnerConfig,
        unset: &Unset,
        findings: &mut Findings,
    ) -> Option<Skip> {
        use secrecy::ExposeSecret;
        if unset.ci {
            self.warn(
                findings,
                WarningKind::Value,
                "url",
                "the /ci at its end is no longer needed: left out".to_owned(),
            );
        }
        if let Some(url) = &runner.clone_url
            && !url.contains("://")
        {
            self.warn(
                findings,
                WarningKind::Value,
                "clone_url",
                "expected a URL with a scheme, such as https://: ignored".to_owned(),
            );
        }
        let scheme = runner
            .url
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        let not_set = |names: &[String]| match names {
            [] => String::new(),
            names => format!(" (not set: ${})", names.join(", $")),
        };
        if runner.token.expose_secret().trim().is_empty() {
            let message = format!(
                "the token is blank{}: runner skipped",
                not_set(&unset.token)
            );
            self.warn(findings, WarningKind::RunnerSkipped, "token", message);
            return Some(Skip::BlankToken);
        }
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            let message = format!(
                "expected an http or https URL{}: runner skipped",
                not_set(&unset.url)
            );
            self.warn(findings, WarningKind::RunnerSkipped, "url", message);
            return Some(Skip::UnusableUrl);
        }
        for (key, names) in [("token", &unset.token), ("url", &unset.url)] {
            if !names.is_empty() {
                self.warn(
                    findings,
                    WarningKind::Value,
                    key,
                    format!("${} not set: replaced by nothing", names.join(", $")),
                );
            }
        }
        None
    }

    /// A limit of a stage; the job's own timeout where it makes no sense (config-toml §4).
    fn stage_limit(&self, key: &str, findings: &mut Findings) -> Option<Duration> {
        let limit = self.tree.duration(key)?;
        if limit.positive().is_none() {
            self.warn(
                findings,
                WarningKind::Value,
                key,
                format!("{limit} is not more than zero: the job's timeout applies"),
            );
        }
        limit.positive()
    }

    fn warn(&self, findings: &mut Findings, kind: WarningKind, key: &str, message: String) {
        findings.warn(
            kind,
            self.tree.at(key),
            format!("{}.{key}", self.path),
            message,
        );
    }
}

/// Entries without `=` are ignored, as in the peer, but not in silence. Values stay unsaid.
pub(super) fn environment(tree: &Tree, path: &str, findings: &mut Findings) -> Environment {
    let entries = tree.list("environment").iter().enumerate();
    let pairs = entries.filter_map(|(index, entry)| {
        let pair = entry
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        if pair.is_none() {
            findings.warn(
                WarningKind::Value,
                tree.at("environment"),
                format!("{path}.environment"),
                format!("item {index} has no '=': ignored"),
            );
        }
        pair
    });
    pairs.collect()
}

/// What placeholder expansion has to say.
struct Unset {
    token: Vec<String>,
    url: Vec<String>,
    ci: bool,
}

fn other_executor(executor: &Executor) -> String {
    match executor {
        Executor::Other(name) if !name.is_empty() => {
            format!("{name:?} is not supported, only \"docker\" is: runner skipped")
        }
        _ => "no executor is set: runner skipped (set executor = \"docker\")".to_owned(),
    }
}
