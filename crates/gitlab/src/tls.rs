//! Trust: whose certificates are accepted, which one is shown, and which chain jobs are told (coordinator-api §12).
//!
//! The set of roots is computed here and never left to the HTTP stack, whose default refuses to start in a container without a
//! CA bundle. A configured CA file is added to the system's roots, it does not replace them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use gantry_job::Secret;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tracing::error;

use crate::ClientError;

mod chain;
mod issuers;
mod verifier;

pub(crate) use chain::{chain, pem};
pub(crate) use issuers::complete;
pub(crate) use verifier::RecordingVerifier;

/// `tls-ca-file`, `tls-cert-file` and `tls-key-file` of a `[[runners]]` entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// PEM, added to the system's roots. A missing file is silently no file.
    pub ca_file: Option<PathBuf>,
    /// PEM, client certificate. Needs the key.
    pub cert_file: Option<PathBuf>,
    /// PEM, its key.
    pub key_file: Option<PathBuf>,
}

impl TlsFiles {
    /// Fills what is not set from `<host>.crt`, `<host>.auth.crt` and `<host>.auth.key` in `certs` (the folder of that name in
    /// the default config folder, or beside the config), as far as they exist. `host` has no port.
    #[must_use]
    pub fn discover(self, certs: &Path, host: &str) -> Self {
        let found = |suffix: &str| {
            let path = certs.join(format!("{host}{suffix}"));
            path.is_file().then_some(path)
        };
        let unset =
            |path: &Option<PathBuf>| path.as_ref().is_none_or(|path| path.as_os_str().is_empty());
        Self {
            ca_file: if unset(&self.ca_file) {
                found(".crt")
            } else {
                self.ca_file
            },
            cert_file: if unset(&self.cert_file) {
                found(".auth.crt")
            } else {
                self.cert_file
            },
            key_file: if unset(&self.key_file) {
                found(".auth.key")
            } else {
                self.key_file
            },
        }
    }

    /// When the files last changed; another stamp means another client.
    pub(crate) fn stamp(&self) -> [Option<SystemTime>; 3] {
        [&self.ca_file, &self.cert_file, &self.key_file].map(|path| {
            let path = path.as_ref()?;
            fs::metadata(path).ok()?.modified().ok()
        })
    }
}

/// The roots of the machine, read once and shared by all clients; the web's where the machine has none.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(roots)
}

/// One TLS set-up: what the HTTP client gets, and what jobs get of it.
pub(crate) struct TlsSetup {
    pub(crate) config: ClientConfig,
    pub(crate) verifier: Arc<RecordingVerifier>,
    /// CA file, verbatim.
    pub(crate) ca: Option<Arc<str>>,
    /// Client certificate and key, verbatim.
    pub(crate) identity: Option<(Arc<str>, Secret)>,
}

impl TlsSetup {
    /// Reads the files. One that cannot be used is reported and left out, as the peer does: the server says what it misses.
    pub(crate) fn new(files: &TlsFiles, system: &Arc<RootCertStore>) -> Result<Self, ClientError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (roots, pinned, ca) = match files.ca_file.as_deref().map(read_ca) {
            Some(Ok(Some((certificates, text)))) => {
                let mut roots = RootCertStore::clone(system);
                roots.add_parsable_certificates(certificates.iter().cloned());
                (Arc::new(roots), certificates, Some(text))
            }
            Some(Err(reason)) => {
                let file = files.ca_file.as_deref().unwrap_or(Path::new("")).display();
                error!(%file, reason, "tls-ca-file cannot be used, only the system's certificates are trusted");
                (Arc::clone(system), Vec::new(), None)
            }
            Some(Ok(None)) | None => (Arc::clone(system), Vec::new(), None),
        };
        let build = |error: rustls::Error| ClientError::Build {
            url: String::new(),
            reason: error.to_string(),
        };
        let verifier = Arc::new(
            RecordingVerifier::new(roots, pinned, Arc::clone(&provider)).map_err(|error| {
                ClientError::Build {
                    url: String::new(),
                    reason: error,
                }
            })?,
        );
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(build)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<_>);
        let (mut config, identity) = match read_identity(files) {
            Some(Identity { chain, key, texts }) => {
                match builder.clone().with_client_auth_cert(chain, key) {
                    Ok(config) => (config, Some(texts)),
                    Err(reason) => {
                        error!(%reason, "tls-cert-file and tls-key-file do not fit together, no client certificate is shown");
                        (builder.with_no_client_auth(), None)
                    }
                }
            }
            None => (builder.with_no_client_auth(), None),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // One server, a handful of connections: the default of 256 sessions is memory for nothing.
        config.resumption = Resumption::in_memory_sessions(8);
        Ok(Self {
            config,
            verifier,
            ca,
            identity,
        })
    }
}

type CaFile = (Vec<CertificateDer<'static>>, Arc<str>);

/// `None` for a missing file.
fn read_ca(path: &Path) -> Result<Option<CaFile>, String> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("no certificate in PEM form in it".to_owned());
    }
    Ok(Some((certificates, text.into())))
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    texts: (Arc<str>, Secret),
}

fn read_identity(files: &TlsFiles) -> Option<Identity> {
    let set = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let (cert_file, key_file) = (set(&files.cert_file)?, set(&files.key_file)?);
    let read = || -> Result<Identity, String> {
        let cert = fs::read_to_string(&cert_file)
            .map_err(|error| format!("{}: {error}", cert_file.display()))?;
        let key = fs::read_to_string(&key_file)
            .map_err(|error| format!("{}: {error}", key_file.display()))?;
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("{}: {error}", cert_file.display()))?;
        if chain.is_empty() {
            return Err(format!(
                "{}: no certificate in PEM form in it",
                cert_file.display()
            ));
        }
        Ok(Identity {
            chain,
            key: PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| format!("{}: {error}", key_file.display()))?,
            texts: (cert.into(), key.into()),
        })
    };
    match read() {
        Ok(identity) => Some(identity),
        Err(reason) => {
            error!(reason, "client certificate cannot be used, none is shown");
            None
        }
    }
}
