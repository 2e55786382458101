//! The HTTP client for servers that are not GitLab: credentials of object storages, secret providers.

use std::{path::Path, time::Duration};

use reqwest::redirect::Policy;

use crate::{
    ClientError,
    tls::{TlsFiles, TlsSetup, system_roots},
};

const DIAL: Duration = Duration::from_secs(30);
const WHOLE_CALL: Duration = Duration::from_secs(120);
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// A client that trusts the roots of the machine and follows no redirect, since its requests carry credentials.
///
/// # Errors
/// When TLS cannot be set up.
pub fn outside_client() -> Result<reqwest::Client, ClientError> {
    outside_client_trusting(None)
}

/// The same, which trusts the authorities in a PEM file, too. A missing file is no file.
///
/// # Errors
/// As [`outside_client`].
pub fn outside_client_trusting(ca_file: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    let files = TlsFiles {
        ca_file: ca_file.map(Path::to_owned),
        ..TlsFiles::default()
    };
    let tls = TlsSetup::new(&files, &system_roots())?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.config)
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(DIAL)
        .timeout(WHOLE_CALL)
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(2)
        .build()
        .map_err(|error| ClientError::Build {
            url: String::new(),
            reason: error.to_string(),
        })
}
