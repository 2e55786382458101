//! How the server of a runner entry is reached and what it is told, for callers outside the service: the commands of an operator.

use std::path::Path;
use std::time::Duration;

use gantry_config::RunnerConfig;
use gantry_gitlab::{Connection, Product, RunnerInfo, TlsFiles};

use crate::shared::host_of;

/// The connection of a runner entry. `certs`: folder of certificates by host name (coordinator-api §12).
#[must_use]
pub fn connection(
    runner: &RunnerConfig,
    certs: Option<&Path>,
    max_age: Option<Duration>,
) -> Connection {
    let tls = TlsFiles {
        ca_file: runner.tls_ca_file.clone(),
        cert_file: runner.tls_cert_file.clone(),
        key_file: runner.tls_key_file.clone(),
    };
    let tls = match (certs, host_of(&runner.url)) {
        (Some(certs), Some(host)) => tls.discover(certs, host),
        _ => tls,
    };
    Connection {
        tls,
        max_age,
        runner: runner.short_token().into(),
        ..Connection::new(runner.url.clone(), runner.token.clone())
    }
}

/// The `info` block of a runner entry.
#[must_use]
pub fn runner_info(product: &Product, runner: &RunnerConfig) -> RunnerInfo {
    let mut info = RunnerInfo::docker(product);
    if let Some(shell) = &runner.shell {
        info.shell.clone_from(shell);
    }
    info.labels.clone_from(&runner.labels);
    info
}
