//! How the server of a runner entry is reached and what it is told: by the service and by the commands of an operator.

use std::path::PathBuf;
use std::time::Duration;

use gantry_config::RunnerConfig;
use gantry_gitlab::{Connection, Product, RunnerInfo, TlsFiles};

use gantry_job::{FeatureFlag, FeatureFlags};

use crate::shared::host_of;

/// The connection of a runner entry. `certs`: folders of certificates by host name, of which the first that has one counts
/// (coordinator-api §12).
#[must_use]
pub fn connection(
    runner: &RunnerConfig,
    certs: &[PathBuf],
    max_age: Option<Duration>,
) -> Connection {
    let tls = TlsFiles {
        ca_file: runner.tls_ca_file.clone(),
        cert_file: runner.tls_cert_file.clone(),
        key_file: runner.tls_key_file.clone(),
    };
    let tls = match host_of(&runner.url) {
        Some(host) => certs
            .iter()
            .fold(tls, |tls, certs| tls.discover(certs, host)),
        None => tls,
    };
    let flags = FeatureFlags::of_runner(&runner.feature_flags);
    Connection {
        tls,
        max_age,
        full_chain: flags.is_on(FeatureFlag::ResolveFullTlsChain),
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
