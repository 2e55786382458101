//! `[runners.docker]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Device, DockerConfig, GpuRequest, RunnerConfig, ServiceConfig, ServiceLimits};
use crate::excerpt::Shown;
use crate::findings::Findings;
use crate::load::read_bounded;
use crate::problem::{ProblemKind, WarningKind};
use crate::tree::Tree;

use super::runner::environment;

pub(super) fn docker(tree: &Tree, path: &str, findings: &mut Findings) -> DockerConfig {
    let services = services(tree, path, findings);
    let mut reader = Reader {
        tree,
        path,
        findings,
    };
    DockerConfig {
        host: tree.text("host"),
        tls_verify: tree.flag("tls_verify"),
        tls_cert_path: tree.text("tls_cert_path").map(PathBuf::from),
        image: tree.text("image"),
        pull_policy: tree.policies("pull_policy"),
        helper_image: tree.text("helper_image"),
        volumes: tree.list("volumes").to_vec(),
        disable_cache: tree.flag("disable_cache"),
        cache_dir: tree.text("cache_dir").map(absolute),
        disable_entrypoint_overwrite: tree.flag("disable_entrypoint_overwrite"),
        network_mode: tree.text("network_mode"),
        privileged: tree.flag("privileged"),
        user: tree.text("user"),
        memory: tree.amount("memory"),
        nano_cpus: tree.amount("cpus"),
        extra_hosts: tree.list("extra_hosts").to_vec(),
        shm_size: tree.amount("shm_size"),
        services_privileged: tree.bool("services_privileged"),
        allowed_privileged_services: tree.list("allowed_privileged_services").to_vec(),
        allowed_services: tree.list("allowed_services").to_vec(),
        services,
        services_limit: tree
            .int("services_limit")
            .and_then(|limit| u64::try_from(limit).ok()),
        service_limits: ServiceLimits {
            memory: tree.amount("service_memory"),
            memory_swap: tree.amount("service_memory_swap"),
            memory_reservation: tree.amount("service_memory_reservation"),
            nano_cpus: tree.amount("service_cpus"),
            cpu_shares: tree.int("service_cpu_shares").unwrap_or_default(),
            cpuset_cpus: tree.string("service_cpuset_cpus").to_owned(),
            cgroup_parent: tree.string("service_cgroup_parent").to_owned(),
        },
        services_tmpfs: tree.texts("services_tmpfs"),
        services_security_opt: reader.security_options("services_security_opt"),
        services_devices: reader.devices("services_devices"),
        service_gpus: reader.gpus("service_gpus"),
        wait_for_services_timeout: match tree.int("wait_for_services_timeout") {
            None | Some(0) => DockerConfig::default().wait_for_services_timeout,
            Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
        },
    }
}

fn services(tree: &Tree, path: &str, findings: &mut Findings) -> Vec<ServiceConfig> {
    let tables = tree.tables("services").iter().enumerate();
    let service = |(index, table): (usize, &Tree)| ServiceConfig {
        name: table.string("name").to_owned(),
        alias: table.string("alias").to_owned(),
        command: table.list("command").to_vec(),
        entrypoint: table.list("entrypoint").to_vec(),
        environment: environment(table, &format!("{path}.services[{index}]"), findings),
    };
    tables.map(service).collect()
}

/// `shared_local_cache` without a volume to share is a mistake that only shows in slow jobs.
pub(super) fn shared_cache(
    entry: &Tree,
    index: usize,
    runner: &RunnerConfig,
    findings: &mut Findings,
) {
    let Some(tree) = entry.table("docker").filter(|_| runner.skip.is_none()) else {
        return;
    };
    let docker = &runner.docker;
    let (key, message) = if docker.disable_cache {
        (
            "disable_cache",
            "volumes go with their job: shared_local_cache has no effect".to_owned(),
        )
    } else if docker
        .volumes
        .iter()
        .any(|entry| may_hold(entry, &runner.cache_dir))
    {
        return;
    } else {
        let folder = &runner.cache_dir;
        let message = format!(
            "none of them holds cache_dir ({folder}): local caches go with their job, and shared_local_cache has no effect; add {folder:?}"
        );
        ("volumes", message)
    };
    findings.runner = Some(runner.name.clone());
    findings.warn(
        WarningKind::NoEffect,
        tree.at(key),
        format!("runners[{index}].docker.{key}"),
        message,
    );
    findings.runner = None;
}

/// Whether a folder lies on the mount of an entry of `volumes`. What variables stand for is known per job only.
fn may_hold(entry: &str, folder: &str) -> bool {
    let mut parts = entry.split(':');
    let first = parts.next().unwrap_or_default();
    let second = parts.next().filter(|part| part.starts_with('/'));
    let destination = second.unwrap_or(first);
    destination.contains('$') || Path::new(folder).starts_with(destination)
}

/// As the documentation of GitLab Runner has it: below the working directory of the process.
fn absolute(path: String) -> String {
    match std::path::absolute(&path) {
        Ok(absolute) => absolute.to_string_lossy().into_owned(),
        Err(_) => path,
    }
}

/// Values that are checked further than their type.
struct Reader<'a> {
    tree: &'a Tree,
    path: &'a str,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn problem(&mut self, key: &str, message: String) {
        self.findings.problem(
            ProblemKind::Value,
            self.tree.at(key),
            format!("{}.{key}", self.path),
            Shown::Plain,
            message,
        );
    }

    fn devices(&mut self, key: &str) -> BTreeMap<String, Vec<Device>> {
        let mut read = BTreeMap::new();
        for (pattern, texts) in self.tree.lists(key) {
            let devices: Result<_, _> = texts.iter().map(|text| Device::parse(text)).collect();
            match devices {
                Ok(devices) => drop(read.insert(pattern, devices)),
                Err(message) => self.problem(key, message),
            }
        }
        read
    }

    fn gpus(&mut self, key: &str) -> Option<GpuRequest> {
        match GpuRequest::parse(self.tree.string(key)) {
            Ok(request) => request,
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    /// The engine wants the text of a seccomp profile, not the name of its file, which is on this host (docker-executor §1.3).
    fn security_options(&mut self, key: &str) -> Vec<String> {
        let mut read = Vec::new();
        for option in self.tree.list(key) {
            match security_option(option) {
                Ok(option) => read.push(option),
                Err(message) => self.problem(key, message),
            }
        }
        read
    }
}

fn security_option(option: &str) -> Result<String, String> {
    let Some(profile) = option.strip_prefix("seccomp=") else {
        return Ok(option.to_owned());
    };
    if profile.starts_with('{') || ["unconfined", "builtin"].contains(&profile) {
        return Ok(option.to_owned());
    }
    let bytes = read_bounded(Path::new(profile))
        .map_err(|error| format!("failed to read seccomp profile from {profile}: {error}"))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("seccomp profile {profile} is not valid JSON: {error}"))?;
    Ok(format!("seccomp={value}"))
}
