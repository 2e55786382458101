//! The usual check of a server's certificate, which also remembers the chain for jobs.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Chains remembered: the server, and where it redirects to.
const REMEMBERED: usize = 4;

/// Verifies against the roots, and keeps the last accepted chain per server name.
///
/// A certificate of the CA file that the server presents itself is accepted, too, if name and time fit. Self-signed servers
/// are commonly set up like that (`certs/<host>.crt` is the server's own certificate, often marked as CA), and the peer takes
/// them.
#[derive(Debug)]
pub(crate) struct RecordingVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    accepted: Mutex<Vec<(ServerName<'static>, Arc<[CertificateDer<'static>]>)>>,
}

impl RecordingVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        pinned: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            webpki,
            pinned,
            accepted: Mutex::default(),
        })
    }

    /// The chain that `host` presented last, leaf first. `None` before the first handshake.
    pub(crate) fn chain_of(&self, host: &str) -> Option<Arc<[CertificateDer<'static>]>> {
        let name = ServerName::try_from(host.to_owned()).ok()?;
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted
            .iter()
            .find(|(of, _)| *of == name)
            .map(|(_, chain)| Arc::clone(chain))
    }

    fn remember(
        &self,
        name: &ServerName<'_>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let presented = || std::iter::once(leaf).chain(intermediates);
        let known = accepted
            .iter()
            .any(|(of, chain)| of == name && chain.iter().eq(presented()));
        if known {
            return;
        }
        accepted.retain(|(of, _)| of != name);
        if accepted.len() == REMEMBERED {
            accepted.remove(0);
        }
        let chain = presented().map(|certificate| certificate.clone().into_owned());
        accepted.push((name.to_owned(), chain.collect()));
    }

    /// Time was found good before either of these errors arises.
    fn is_only_untrusted(error: &Error) -> bool {
        match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
            Error::InvalidCertificate(CertificateError::Other(other)) => matches!(
                other.0.downcast_ref::<webpki::Error>(),
                Some(webpki::Error::CaUsedAsEndEntity)
            ),
            _ => false,
        }
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = match self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Err(error) if self.pinned.contains(end_entity) && Self::is_only_untrusted(&error) => {
                let leaf = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&leaf, server_name)?;
                ServerCertVerified::assertion()
            }
            other => other?,
        };
        self.remember(server_name, end_entity, intermediates);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
